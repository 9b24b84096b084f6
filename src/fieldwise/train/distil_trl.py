"""GKD and GOLD, which TRL holds to be experimental: all that is known of them stands here.

Both draw replies of the student for a share of the batches and take the known ones for the others. GKD (Agarwal et al.
2024, arXiv:2306.13649) compares the probabilities of the whole vocabulary at each token. GOLD aligns the two
tokenizations by bytes and compares the probabilities sorted by size (ULD, Boizard et al. 2024, arXiv:2402.12030).

Changed against TRL 1.16: the loss is the mean over the tokens of its own micro-batch (TRL divides that of drawn replies by
the number of tokens of the known ones, and adds that of GOLD up over the accumulation), probabilities are those that
predict each token (merge strategy bayesian), and GOLD's teacher reads a prompt in its own chat template.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fieldwise.extras import require
from fieldwise.progress import say
from fieldwise.records import BaseWeights, Example
from fieldwise.train.distil_settings import DistillationSettings
from fieldwise.train.distil_teacher import Teaching
from fieldwise.train.hardware import Device
from fieldwise.train.labels import IGNORED, messages, reply_ids
from fieldwise.train.loading import load_model, load_tokenizer
from fieldwise.train.memory import MemoryPlan
from fieldwise.train.outcome import Outcome
from fieldwise.train.rows import Course, Extent, Rows, Way, train_rows
from fieldwise.train.session import Session
from fieldwise.train.settings import SftSettings, TrainSettings
from fieldwise.train.sft import require_held, require_rows

_BETA = {"forward_kl": 0.0, "reverse_kl": 1.0}  # TRL's name of the two ends of the divergence


class Asked(NamedTuple):
    """A question as token ids, the known reply up to its end token, and both as the teacher is given them in text."""

    prompt: list[int]
    reply: list[int]
    teacher_prompt: str
    teacher_reply: str


def train_by_trl(
    base: Path,
    train: Sequence[Example],
    validation: Sequence[Example],
    settings: SftSettings,
    device: Device,
    session: Session,
    *,
    teaching: Teaching,
) -> Outcome:
    """Learn on-policy from a teacher that stays in memory; resumes from the last checkpoint of the session."""
    distillation, teacher = teaching.settings, teaching.teacher
    is_gold = distillation.method == "cross_tokenizer"
    tokenizer = load_tokenizer(base)
    taught = load_tokenizer(Path(teacher.path)) if is_gold else tokenizer
    session = session.with_fitter("sft", TrainSettings(sft=settings), device)
    max_length = session.max_length
    room = max_length - distillation.max_new_tokens
    rows, dropped = _rows(train, tokenizer, taught, room, max_length)
    held, _ = _rows(validation, tokenizer, taught, room, max_length)
    require_rows(train, rows, max_length)
    require_held(settings, held, validation, max_length)
    if dropped:
        say(f"  {dropped} of {len(train)} examples leave no room for a drawn reply in {max_length} tokens, or have tools, and were left out")  # fmt: skip
    return train_rows(
        base,
        Rows(tokenizer, rows, held, dropped, max_length),
        settings.model_copy(update={"packing": False}),  # each reply is drawn for its own prompt
        device,
        "sft",
        session,
        course=Course(
            best_by="loss" if settings.best_by else None,
            way=_way(settings, teaching, tokenizer),
        ),
    )


def _way(settings: SftSettings, teaching: Teaching, tokenizer: Any) -> Way:
    """GKD or GOLD as a way to train on rows of questions with their known replies."""
    distillation, teacher = teaching.settings, teaching.teacher
    is_gold = distillation.method == "cross_tokenizer"
    kind, config, more = _gold(distillation, teacher) if is_gold else _gkd(distillation)
    options = {
        "temperature": distillation.softening,
        "lmbda": distillation.on_policy_share,
        "disable_dropout": settings.lora.dropout == 0,
        "remove_unused_columns": False,
        "dataset_kwargs": {"skip_prepare_dataset": True},
        **more,
    }

    def extent(row: dict[str, Any]) -> Extent:
        reply = max(len(row["reply"]), distillation.max_new_tokens)
        return Extent(len(row["prompt"]) + reply, reply)

    def beside(plan: MemoryPlan) -> dict[str, Any]:
        collate = _collator(tokenizer, with_text=is_gold)
        return {"teacher_model": _teacher(Path(teacher.path), plan), "data_collator": collate}

    return Way(kind, config, extent, options, beside)


# ---------------------------------------------------------------- rows


def _rows(
    examples: Sequence[Example], tokenizer: Any, taught: Any, room: int, max_length: int
) -> tuple[list[dict[str, Any]], int]:
    """Questions whose prompt leaves room for a drawn reply, as rows; and how many do not. Tools are left out."""
    rows = []
    for example in examples:
        if example.tools or any(m.tool_calls or m.role == "tool" for m in example.conversation):
            continue
        found = _asked(example, tokenizer, taught)
        if len(found.prompt) <= room and len(found.prompt) + len(found.reply) <= max_length:
            rows.append(found._asdict())
    return rows, len(examples) - len(rows)


def _asked(example: Example, tokenizer: Any, taught: Any) -> Asked:
    known = example.conversation[-1].content
    prompt, reply = reply_ids(tokenizer, messages(example.conversation[:-1], tokenizer), known)
    said = taught.apply_chat_template(
        messages(example.conversation[:-1], taught), tokenize=False, add_generation_prompt=True
    )
    bos = taught.bos_token  # GOLD's reading adds it again
    said = said.removeprefix(bos) if bos else said
    ends = reply[:-1] if reply and reply[-1] == tokenizer.eos_token_id else reply
    return Asked(prompt, reply, said, tokenizer.decode(ends, skip_special_tokens=False, clean_up_tokenization_spaces=False))  # fmt: skip


def _collator(tokenizer: Any, *, with_text: bool) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return what makes a batch: prompts padded on the left for drawing, whole rows of them with their replies beside."""
    torch = require("torch", extra="train", to="distil")
    pad = tokenizer.pad_token_id

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        wide, long = max(len(r["prompt"]) for r in rows), max(len(r["reply"]) for r in rows)
        before = [wide - len(r["prompt"]) for r in rows]
        behind = [long - len(r["reply"]) for r in rows]
        prompts = [[pad] * n + r["prompt"] for n, r in zip(before, rows, strict=True)]
        masks = [[0] * n + [1] * len(r["prompt"]) for n, r in zip(before, rows, strict=True)]
        batch: dict[str, Any] = {
            "prompts": torch.tensor(prompts),
            "prompt_attention_mask": torch.tensor(masks),
            "input_ids": torch.tensor(
                [p + r["reply"] + [pad] * n for p, r, n in zip(prompts, rows, behind, strict=True)]
            ),
            "attention_mask": torch.tensor(
                [m + [1] * len(r["reply"]) + [0] * n for m, r, n in zip(masks, rows, behind, strict=True)]
            ),
            "labels": torch.tensor(
                [[IGNORED] * wide + r["reply"] + [IGNORED] * n for r, n in zip(rows, behind, strict=True)]
            ),
        }
        if with_text:
            batch["original_prompt_text"] = [r["teacher_prompt"] for r in rows]
            batch["original_completion_text"] = [r["teacher_reply"] for r in rows]
            batch["byte_offsets"] = torch.tensor(
                [[[0, 0]] * wide + _offsets(tokenizer, r["reply"], n) for r, n in zip(rows, behind, strict=True)]
            )
        return batch

    return collate


def _offsets(tokenizer: Any, reply: list[int], behind: int) -> list[list[int]]:
    gold = require("trl.experimental.gold.gold_trainer", extra="train", to="distil across tokenizers")
    places, end = [], 0
    for token in tokenizer.convert_ids_to_tokens(reply):
        begin, end = end, end + gold.piece_byte_len(token)
        places.append([begin, end])
    return places + [[0, 0]] * behind


# ---------------------------------------------------------------- trainers


def _teacher(folder: Path, plan: MemoryPlan) -> Any:
    torch = require("torch", extra="train", to="distil")
    model = load_model(folder).eval()
    for weight in model.parameters():
        weight.requires_grad_(False)
    return model.to("cuda", dtype=torch.bfloat16) if plan.device == "cuda" and plan.bfloat16 else model


def _draw_only_tokens(trainer: Any) -> None:
    """Keep the rows of the output layer that pad it to a round number out of what is drawn: they stand for no text."""
    rows = trainer.model.config.get_text_config().vocab_size
    if padding := list(range(len(trainer.processing_class), rows)):
        trainer.generation_config.suppress_tokens = padding


def _gkd(settings: DistillationSettings) -> tuple[Any, Any, dict[str, Any]]:
    trl = require("trl.experimental.gkd", extra="train", to="distil on-policy")

    class Gkd(trl.GKDTrainer):  # type: ignore[name-defined,misc]
        """GKD whose batches count alike, drawn or not."""

        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            _draw_only_tokens(self)

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            if num_items_in_batch is not None:
                own = (inputs["labels"][:, 1:] != IGNORED).sum().clamp(min=1)
                num_items_in_batch = own * self.current_gradient_accumulation_steps
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    beta = _BETA.get(settings.divergence, settings.beta)
    return Gkd, trl.GKDConfig, {"beta": beta, "max_new_tokens": settings.max_new_tokens}


def _gold(settings: DistillationSettings, teacher: BaseWeights) -> tuple[Any, Any, dict[str, Any]]:
    trl = require("trl.experimental.gold", extra="train", to="distil across tokenizers")

    class Gold(trl.GOLDTrainer):  # type: ignore[name-defined,misc]
        """GOLD whose teacher reads each prompt as it knows prompts, and whose loss is a mean."""

        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            _draw_only_tokens(self)

        def generate_on_policy_outputs(self, model: Any, inputs: dict[str, Any], generation_config: Any) -> Any:
            ids, mask, labels, _, said = super().generate_on_policy_outputs(model, inputs, generation_config)
            end = self.processing_class.eos_token
            return ids, mask, labels, inputs["original_prompt_text"], [text.removesuffix(end) for text in said]

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            if num_items_in_batch is None:
                return found
            steps = self.current_gradient_accumulation_steps
            return (found[0] / steps, found[1]) if return_outputs else found / steps

    options = {
        "max_completion_length": settings.max_new_tokens,
        "use_uld_loss": True,
        "uld_token_merge_strategy": "bayesian",
        "teacher_tokenizer_name_or_path": teacher.path,
        "top_p": 1.0,
    }
    return Gold, trl.GOLDConfig, options
