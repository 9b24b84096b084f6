"""The methods of the preference step: the rows each takes, its TRL trainer with its options, and what it did to the weights.

| method | loss, and where it is from | reference | TRL |
|---|---|---|---|
| dpo | Rafailov et al. 2023 (arXiv:2305.18290), or another of TRL's loss types | yes | `trl.DPOTrainer` |
| kto | Ethayarajh et al. 2024 (arXiv:2402.01306, equation 8): single replies, wanted or not | yes | `trl.KTOTrainer` |
| orpo | Hong et al. 2024 (arXiv:2403.07691, equations 6 and 7) | no | `trl.experimental.orpo` |
| simpo | Meng et al. 2024 (arXiv:2405.14734, equation 6) | no | `trl.experimental.cpo` |
| cpo | Xu et al. 2024 (arXiv:2401.08417, equation 5) | no | `trl.experimental.cpo` |

TRL's trainers of the last three score every position over the whole vocabulary, and ORPO's likelihood counts the prompt as
well. Here only the reply is scored, in tiles, as DPO does: less memory, and passages are not learnt by heart.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Sequence
from statistics import StatisticsError, correlation, fmean
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.extras import require
from fieldwise.progress import say
from fieldwise.records import Conversation, PreferencePair, RatedReply
from fieldwise.train.labels import IGNORED, messages, reply_ids, token_count
from fieldwise.train.memory import MemoryPlan
from fieldwise.train.settings import PreferenceSettings
from fieldwise.train.workload import Extent

_MOST_PROBES = 32  # pairs that are measured behind the training
_FEWEST_HELD = 8  # held-out pairs; fewer say too little, and trained ones are taken
_LARGE_GAP = 0.25  # between the shares of longer and shorter chosen replies that lead
_LARGE_CORRELATION = 0.5


class Rows(NamedTuple):
    """What is trained on, how much was too long, and the lengths of wanted and unwanted replies in tokens."""

    rows: list[dict[str, Any]]
    dropped: int
    extent: Extent
    lengths: dict[str, JsonValue]


class Probe(NamedTuple):
    """A pair as token ids, to be looked at behind the training."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


# ---------------------------------------------------------------- rows


def pair_rows(pairs: Sequence[PreferencePair], settings: PreferenceSettings, tokenizer: Any, max_length: int) -> Rows:
    """Return the pairs that fit whole: as messages for DPO, which renders them itself, as token ids for the others."""
    rows, dropped = [], 0
    wholes: list[list[int]] = []
    answers: list[list[int]] = []
    for pair in pairs:
        prompt = messages(pair.prompt, tokenizer)
        sides = [[{"role": "assistant", "content": text}] for text in (pair.chosen, pair.rejected)]
        lengths = [token_count(tokenizer, prompt + side) for side in sides]
        if max(lengths) > max_length:
            dropped += 1
            continue
        if settings.method == "dpo":
            rows.append({"prompt": prompt, "chosen": sides[0], "rejected": sides[1]})
        else:
            rows.append(probe(pair, tokenizer)._asdict())
        wholes.append(lengths)
        said = token_count(tokenizer, prompt)
        answers.append([n - said for n in lengths])
    if dropped:
        say(f"  {dropped} of {len(pairs)} preference pairs are longer than {max_length} tokens and were left out")
    if not rows:
        return Rows(rows, dropped, Extent(0, 0, 0.0), {})
    extent = Extent(max(map(max, wholes)), max(map(max, answers)), sum(map(sum, wholes)) / len(wholes))
    lengths_told: dict[str, JsonValue] = {
        "chosen_tokens": round(fmean(a for a, _ in answers), 1),
        "rejected_tokens": round(fmean(b for _, b in answers), 1),
        "chosen_longer": round(sum(a > b for a, b in answers) / len(answers), 3),
        "rejected_longer": round(sum(a < b for a, b in answers) / len(answers), 3),
    }
    return Rows(rows, dropped, extent, lengths_told)


def reply_rows(
    pairs: Sequence[PreferencePair], ratings: Sequence[RatedReply], tokenizer: Any, max_length: int, seed: int
) -> Rows:
    """Return single replies with their labels for KTO: both sides of each pair, and the rated ones, mixed.

    A reply to the same prompt that is wanted here and unwanted there says nothing and is left out.
    """
    said: dict[tuple[Conversation, str], set[bool]] = {}
    for asked, reply, label in (
        *((p.prompt, p.chosen, True) for p in pairs),
        *((p.prompt, p.rejected, False) for p in pairs),
        *((r.prompt, r.reply, r.is_wanted) for r in ratings),
    ):
        said.setdefault((asked, reply), set()).add(label)
    rows: list[dict[str, Any]] = []
    wholes: list[int] = []
    answers: dict[bool, list[int]] = {True: [], False: []}
    too_long = disputed = 0
    for (conversation, reply), labels in said.items():
        prompt = messages(conversation, tokenizer)
        completion = [{"role": "assistant", "content": reply}]
        length = token_count(tokenizer, prompt + completion)
        if len(labels) == 2:
            disputed += 1
        elif length > max_length:
            too_long += 1
        else:
            (label,) = labels
            rows.append({"prompt": prompt, "completion": completion, "label": label})
            wholes.append(length)
            answers[label].append(length - token_count(tokenizer, prompt))
    if disputed:
        say(f"  {disputed} of {len(said)} replies are wanted here and unwanted there, and were left out")
    if too_long:
        say(f"  {too_long} of {len(said)} replies are longer than {max_length} tokens and were left out")
    if not rows:
        return Rows(rows, too_long + disputed, Extent(0, 0, 0.0), {})
    if not answers[True] or not answers[False]:
        raise DatasetError(
            "KTO needs replies of both labels",
            where="train.preference.method",
            found=f"{len(answers[True])} wanted, {len(answers[False])} unwanted",
            fix="Add rows of the other label, or pairs (generate.preference_pairs), of which each gives one of both.",
        )
    random.Random(f"{seed}/kto").shuffle(rows)  # the trainer reads them in order, and compares neighbours
    extent = Extent(max(wholes), max(max(found) for found in answers.values()), fmean(wholes))
    lengths: dict[str, JsonValue] = {
        "wanted": len(answers[True]),
        "unwanted": len(answers[False]),
        "wanted_tokens": round(fmean(answers[True]), 1),
        "unwanted_tokens": round(fmean(answers[False]), 1),
    }
    return Rows(rows, too_long + disputed, extent, lengths)


def probe(pair: PreferencePair, tokenizer: Any) -> Probe:
    """Return a pair as token ids: prompt as an engine asks it, replies up to and with their end token."""
    prompt = messages(pair.prompt, tokenizer)
    ids, chosen = reply_ids(tokenizer, prompt, pair.chosen)
    return Probe(ids, chosen, reply_ids(tokenizer, prompt, pair.rejected)[1])


def probes_of(
    held: Sequence[PreferencePair], trained: Sequence[PreferencePair], tokenizer: Any, max_length: int
) -> tuple[list[Probe], str]:
    """Return the pairs to look at behind the training and the split they are of: held-out ones where there are enough."""
    for pairs, split in ((held, "validation"), (trained, "train")):
        found = []
        for pair in sorted(pairs, key=lambda p: p.id):
            made = probe(pair, tokenizer)
            if len(made.prompt) + max(len(made.chosen), len(made.rejected)) <= max_length:
                found.append(made)
            if len(found) == _MOST_PROBES:
                break
        if len(found) >= _FEWEST_HELD or split == "train":
            break
    return found, split


# ---------------------------------------------------------------- trainers


def trainer_of(settings: PreferenceSettings) -> tuple[Any, Any]:
    """Return TRL's trainer of a method and the class of its options."""
    place = {"orpo": "trl.experimental.orpo", "cpo": "trl.experimental.cpo", "simpo": "trl.experimental.cpo"}
    trl = require(place.get(settings.method, "trl"), extra="train", to="learn from preferences")
    if settings.method == "dpo":
        return trl.DPOTrainer, trl.DPOConfig
    if settings.method == "kto":
        return trl.KTOTrainer, trl.KTOConfig
    if settings.method == "orpo":
        return _replies_only(trl.ORPOTrainer), trl.ORPOConfig
    return _replies_only(trl.CPOTrainer), trl.CPOConfig


def options_of(settings: PreferenceSettings, plan: MemoryPlan, rows: Rows) -> dict[str, Any]:
    """Return what a trainer is told of the method."""
    # TRL switches every dropout off unless told otherwise, that of the adapter too
    common = {"beta": settings.strength, "disable_dropout": settings.lora.dropout == 0}
    if settings.has_reference:
        common["precompute_ref_log_probs"] = plan.reference == "precomputed"
    if settings.method == "dpo":
        return {
            **common,
            "loss_type": list(settings.loss),
            "loss_weights": list(settings.loss_weights) if settings.loss_weights else None,
            "label_smoothing": settings.label_smoothing,
            "ld_alpha": settings.ld_alpha,
        }
    if settings.method == "kto":
        wanted, unwanted = label_weights(settings, rows)
        return {**common, "desirable_weight": wanted, "undesirable_weight": unwanted}
    if settings.method == "simpo":
        return {**common, "loss_type": "simpo", "simpo_gamma": settings.margin, "cpo_alpha": 0.0}
    if settings.method == "cpo":
        return {**common, "cpo_alpha": settings.nll_weight, "label_smoothing": settings.label_smoothing}
    return common


def label_weights(settings: PreferenceSettings, rows: Rows) -> tuple[float, float]:
    """Return the weights of wanted and unwanted replies; left open, the rarer label counts as much as the other in all.

    The paper keeps the ratio of the two between 1 and 4/3 (arXiv:2402.01306, equation 9); here it is 1.
    """
    if settings.desirable_weight is not None or settings.undesirable_weight is not None:
        return settings.desirable_weight or 1.0, settings.undesirable_weight or 1.0
    wanted = sum(bool(row["label"]) for row in rows.rows)
    unwanted = len(rows.rows) - wanted
    return max(1.0, unwanted / wanted), max(1.0, wanted / unwanted)


def prepare(model: Any, settings: PreferenceSettings) -> None:
    """Make a model fit for its trainer: those that TRL gives whole logits get a scoring of the reply alone."""
    if settings.method in ("orpo", "cpo", "simpo"):
        utilities: Any = require("trl.trainer.utils", extra="train", to="learn from preferences")
        utilities.add_fused_lm_head(model, outputs=("log_probs", "mean_logits"))


def _replies_only(trainer: Any) -> Any:
    """Return a trainer of CPO's family that takes token ids and scores nothing but the replies."""
    torch = require("torch", extra="train", to="learn from preferences")

    class RepliesOnly(trainer):  # type: ignore[misc]
        """The losses are TRL's, the log-probabilities they are computed from are not."""

        def tokenize_row(self, feature: dict[str, list[int]], model: Any = None) -> dict[str, list[int]]:
            made = {}
            for side in ("chosen", "rejected"):
                ids = feature["prompt"] + feature[side]
                made[f"{side}_input_ids"] = ids
                made[f"{side}_attention_mask"] = [1] * len(ids)
                made[f"{side}_labels"] = [IGNORED] * len(feature["prompt"]) + feature[side]
            return made

        def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
            inputs = self.concatenated_inputs(
                batch, padding_value=self.processing_class.pad_token_id, device=self.accelerator.device
            )
            labels = inputs["concatenated_labels"]
            scored = model(
                inputs["concatenated_input_ids"],
                attention_mask=inputs["concatenated_attention_mask"],
                labels=labels,
                use_cache=False,
                fused_lm_head=True,
            )
            is_reply = labels[:, 1:] != IGNORED
            by_token, count = scored.log_probs * is_reply, len(batch["chosen_labels"])
            logps = by_token.sum(-1)
            # ORPO's equation 2 and SimPO's equation 3: the mean over the tokens, CPO: their sum
            if getattr(self, "loss_type", "orpo") in ("orpo", "simpo"):
                logps = logps / is_reply.sum(-1)
            likelihood = -by_token[:count].sum() / is_reply[:count].sum()
            if getattr(self, "cpo_alpha", 1.0) == 0:
                likelihood = torch.zeros_like(likelihood)
            logits = scored.mean_logits
            return logps[:count], logps[count:], logits[:count], logits[count:], likelihood

    return RepliesOnly


# ---------------------------------------------------------------- effect


def effect(model: Any, probes: Sequence[Probe], split: str, *, bfloat16: bool) -> dict[str, JsonValue]:
    """Return what the training did to the probabilities of replies, against the weights it began with.

    `margin` is the mean of log pi(chosen)/start(chosen) - log pi(rejected)/start(rejected) in nats, `accuracy` the share
    of pairs where it is above 0, `kl_per_token` the mean KL(pi || start) of the next token at the replies' positions,
    whole vocabulary. The same by which reply is longer, and the rank correlation of margin and difference in length,
    say whether length was learnt.
    """
    if not probes:
        return {}
    margins, kls, further = [], [], []
    for pair in probes:
        chosen, rejected = _moved(model, pair, bfloat16=bfloat16)
        kls += [*chosen.kls, *rejected.kls]
        margins.append(chosen.ratio - rejected.ratio)
        further.append(len(pair.chosen) - len(pair.rejected))
    told: dict[str, JsonValue] = {
        "pairs": len(probes),
        "split": split,
        "margin": round(fmean(margins), 4),
        "accuracy": round(sum(m > 0 for m in margins) / len(margins), 3),
        "kl_per_token": round(fmean(kls), 6),
    }
    for name, sign in (("chosen_longer", 1), ("chosen_shorter", -1)):
        found = [m for m, d in zip(margins, further, strict=True) if d * sign > 0]
        share = round(sum(m > 0 for m in found) / len(found), 3) if found else None
        told[name] = {"pairs": len(found), "accuracy": share}
    told["margin_by_length"] = rank_correlation(margins, further)
    told["length_learnt"] = follows_length(told)
    return told


def told_effect(found: dict[str, JsonValue]) -> str:
    """Return an effect in one line for people."""
    longer, shorter = found["chosen_longer"], found["chosen_shorter"]
    assert isinstance(longer, dict) and isinstance(shorter, dict)
    whose = "held-out pairs" if found["split"] == "validation" else "of its own pairs"
    text = (
        f"over {found['pairs']} {whose} the chosen reply gains in {float(str(found['accuracy'])):.0%} "
        f"(margin {found['margin']} nats), KL to the start {found['kl_per_token']} nats a token"
    )
    parts = [
        f"{float(str(side['accuracy'])):.0%} where it is {word} (n={side['pairs']})"
        for side, word in ((longer, "longer"), (shorter, "shorter"))
        if side["accuracy"] is not None
    ]
    text += f"; {', '.join(parts)}" if parts else ""
    return text + ("; length was learnt along" if found["length_learnt"] else "")


def follows_length(found: dict[str, JsonValue]) -> bool:
    """Tell whether the margins go with length: by a large gap between longer and shorter, or in rank."""
    longer, shorter, rank = found["chosen_longer"], found["chosen_shorter"], found["margin_by_length"]
    assert isinstance(longer, dict) and isinstance(shorter, dict)
    enough = all(int(str(side["pairs"])) >= _FEWEST_HELD for side in (longer, shorter))
    gap = abs(float(str(longer["accuracy"])) - float(str(shorter["accuracy"]))) if enough else 0.0
    is_ranked = isinstance(rank, float) and int(str(found["pairs"])) >= _FEWEST_HELD
    return gap >= _LARGE_GAP or (is_ranked and abs(float(str(rank))) >= _LARGE_CORRELATION)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, ties by their mean rank; None where one of the two does not vary.

    >>> rank_correlation([1.0, 2.0, 9.0], [3, 5, 6])
    1.0
    """
    try:
        return round(correlation(_ranks(first), _ranks(second)), 3)
    except StatisticsError:
        return None


def _ranks(values: Sequence[float]) -> list[float]:
    return [sum(v < value for v in values) + (sum(v == value for v in values) + 1) / 2 for value in values]


class _Moved(NamedTuple):
    """The log-ratio of a reply to what it was without the adapter, and the KL of the next token at each position."""

    ratio: float
    kls: list[float]


def _moved(model: Any, pair: Probe, *, bfloat16: bool) -> list[_Moved]:
    """What the adapter changed for the chosen and the rejected reply; their prompt is read once."""
    torch = require("torch", extra="train", to="learn from preferences")
    device = next(model.parameters()).device
    prompt = torch.tensor([pair.prompt], device=device)
    replies = [torch.tensor([reply], device=device) for reply in (pair.chosen, pair.rejected)]
    was_training = model.training
    model.eval()
    found: list[list[Any]] = []
    for context in (contextlib.nullcontext, model.disable_adapter):
        with torch.no_grad(), context(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            read = model(prompt[:, :-1], use_cache=True, logits_to_keep=1).past_key_values
            said = [torch.cat((prompt[:, -1:], reply[:, :-1]), 1) for reply in replies]
            logits = [model(ids, past_key_values=copy.deepcopy(read), use_cache=True).logits[0] for ids in said]
        found.append([torch.log_softmax(scores.float(), -1) for scores in logits])
    model.train(was_training)
    return [
        _Moved(float((now - start).gather(1, reply.T).sum()), (now.exp() * (now - start)).sum(-1).tolist())
        for now, start, reply in zip(*found, replies, strict=True)
    ]


def no_pair_fits(max_length: int) -> DatasetError:
    """The error for data of which nothing is left to train on."""
    return DatasetError(
        "no preference pair fits",
        where="train.preference.max_length",
        found=f"{max_length} tokens",
        fix="Raise train.preference.max_length, or switch the step off with train.preference.enabled=false.",
    )
