"""Run a folder of weights, with or without a LoRA adapter, on PyTorch through transformers, on CPU or GPU."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from fieldwise.engine.base_weights import chat_template
from fieldwise.engine.reply import Reply, check_prompt, likeliest_at, log_softmax_at
from fieldwise.engine.shaping import Shaper, can_shape
from fieldwise.engine.template import render, reply_text, without_control
from fieldwise.engine.text_stream import DecodedCharacters
from fieldwise.engine.threads import sleeping_threads
from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.files import read_json
from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.interfaces import Generation, Piece, Sampling
from fieldwise.machine import usable_cores
from fieldwise.records import Conversation

_BATCH_ROWS = 16
_CONTEXT_IF_UNKNOWN = 2048
# llama.cpp ends a reply at these whatever the header says; the same here, so that both engines answer alike
_END_NAMES = frozenset(
    {
        "<|im_end|>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end|>",
        "<|return|>",
        "<|call|>",
        "<end_of_turn>",
        "<end_of_utterance>",
        "</s>",
        "<eos>",
        "<EOT>",
        "[EOS]",
        "[EOT]",
    }
)


class TransformersEngine:
    """Weights that answer, in the precision they were trained in.

    `dtype` "auto" takes bfloat16 on a GPU and float32 on a CPU. `threads` 0 leaves PyTorch's own choice within what
    the machine allows; any number holds for the whole process. Prompts are generated together, padded on the left.
    """

    def __init__(
        self,
        folder: Path,
        adapter: Path | None = None,
        *,
        dtype: Literal["float32", "bfloat16", "auto"] = "float32",
        threads: int = 0,
        attention: str | None = None,
        model_id: str | None = None,
    ) -> None:
        with sleeping_threads():
            self._torch: Any = require("torch", extra="train", to="run weights with transformers")
        # what PyTorch takes, or OMP_NUM_THREADS says, may be more than the container's quota feeds
        self._torch.set_num_threads(threads if threads > 0 else min(self._torch.get_num_threads(), usable_cores()))
        self._device = "cuda" if self._torch.cuda.is_available() else "cpu"
        self._tokenizer = _load_tokenizer(folder)
        self._model = _load_model(
            folder, adapter, dtype=_dtype(self._torch, dtype, self._device), attention=attention
        ).to(self._device)
        self._template = chat_template(folder)
        self._folder = folder
        self._lock = threading.RLock()
        self._ends = _end_tokens(folder, self._tokenizer)
        self._control = frozenset(
            str(token) for token in self._tokenizer.added_tokens_decoder.values() if token.special
        )
        self._padding = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else min(self._ends)
        self.model_id = model_id or (f"{folder.name}:{adapter.name}" if adapter else folder.name)
        self.context_tokens = int(getattr(self._model.config, "max_position_embeddings", None) or _CONTEXT_IF_UNKNOWN)
        self.vocabulary_size = int(self._model.config.vocab_size)
        self.holds_shapes = can_shape() and bool(getattr(self._tokenizer, "is_fast", False))
        self._shaper = Shaper(self._vocabulary)

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of a text, special tokens recognised, none added."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def detokenize(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens; special tokens have none."""
        return str(
            self._tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )

    def render(self, conversation: Conversation, *, tools: Sequence[dict[str, object]] = ()) -> list[int]:
        """Return the prompt of a conversation, ending where the assistant begins to speak."""
        if self._template is None:
            raise ModelError(
                "the weights have no chat template",
                where=self._folder,
                fix="Put a chat_template.jinja into the folder.",
            )
        safe = without_control(conversation, self._control)
        return self.tokenize(
            render(self._template, safe, tools=tools, special_tokens=self._tokenizer.special_tokens_map)
        )

    def reply_tokens(self, text: str) -> list[int]:
        """Return the tokens of a reply as the template puts it behind a prompt, without what ends it."""
        if self._template is None:
            return self.tokenize(text)
        return self.tokenize(
            reply_text(
                self._template,
                text,
                special_tokens=self._tokenizer.special_tokens_map,
                control_tokens=self._control,
            )
        )

    def generate(
        self, prompts: Sequence[list[int]], sampling: Sampling, *, rated: Sequence[Sequence[list[int]]] = ()
    ) -> list[Generation]:
        """Continue every prompt, in batches of prompts of like length; each uses the same seed."""
        replies = [self._reply(prompt, sampling, rated[n] if rated else ()) for n, prompt in enumerate(prompts)]
        by_length = sorted(replies, key=lambda reply: len(reply.prompt))
        for start in range(0, len(by_length), _BATCH_ROWS):
            for _ in self._steps(by_length[start : start + _BATCH_ROWS]):
                pass
        return [reply.generation() for reply in replies]

    def stream(
        self,
        prompt: list[int],
        sampling: Sampling,
        is_cancelled: Callable[[], bool] = lambda: False,
        *,
        rated: Sequence[list[int]] = (),
    ) -> Iterator[Piece]:
        """Continue one prompt piece by piece; wrong arguments raise here, before the first piece."""
        return self._pieces(self._reply(prompt, sampling, rated), is_cancelled)

    def logits(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits after each token: one row per position, one column per token of the vocabulary."""
        check_prompt(token_ids, context_tokens=self.context_tokens, vocabulary_size=self.vocabulary_size)
        rows = self._forward(input_ids=self._torch.tensor([list(token_ids)], device=self._device), use_cache=False)
        logits: NDArray[np.float32] = rows[0]
        return logits

    def logprobs(self, token_ids: Sequence[int]) -> NDArray[np.float64]:
        """Return the log-probability of each token but the first, given those before it."""
        return log_softmax_at(self.logits(token_ids)[:-1], np.asarray(token_ids[1:], dtype=np.int64))

    @cached_property
    def prompt_identity(self) -> str:
        """Hash of template and tokenizer: equal for weights trained from one base. Empty for a tokenizer without rules."""
        if not getattr(self._tokenizer, "is_fast", False):
            return ""
        rules = self._rules().to_str()
        return sha256_text(canonical_json([rules, self._template, self._tokenizer.special_tokens_map]))

    @contextmanager
    def without_adapter(self) -> Iterator[None]:
        """Answer as the base weights do while the block runs; other threads wait until it ends."""
        with self._lock:
            if not hasattr(self._model, "disable_adapter"):
                yield
                return
            with self._model.disable_adapter():
                yield

    @property
    def is_closed(self) -> bool:
        """True after `close`."""
        return self._model is None

    def close(self) -> None:
        """Free the weights."""
        with self._lock:
            self._model = None
            if self._device == "cuda":
                self._torch.cuda.empty_cache()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _vocabulary(self, llguidance: Any) -> Any:
        """The vocabulary as llguidance reads it."""
        return llguidance.LLTokenizer(
            self._rules().to_str(), n_vocab=self.vocabulary_size, eos_token=sorted(self._ends)
        )

    def _rules(self) -> Any:
        """The rules of the tokenizer, without padding and truncation, which training leaves behind."""
        backend = copy.deepcopy(self._tokenizer.backend_tokenizer)
        backend.no_padding()
        backend.no_truncation()
        return backend

    def _reply(self, prompt: Sequence[int], sampling: Sampling, rated: Sequence[list[int]]) -> Reply:
        check_prompt(prompt, context_tokens=self.context_tokens, vocabulary_size=self.vocabulary_size)
        return Reply(
            prompt,
            sampling,
            context_tokens=self.context_tokens,
            is_end=self._ends.__contains__,
            characters=DecodedCharacters(self.detokenize),
            rated=rated,
            guide=self._shaper.guide(sampling.shape) if sampling.shape and self.holds_shapes else None,
        )

    def _pieces(self, reply: Reply, is_cancelled: Callable[[], bool]) -> Iterator[Piece]:
        for pieces in self._steps([reply]):
            yield pieces[0]
            if pieces[0].finish_reason is None and is_cancelled():
                yield reply.end("cancelled")
                return

    def _steps(self, replies: list[Reply]) -> Iterator[list[Piece]]:
        """Yield the pieces of the replies still running after each step, and leave those that ended out of the next."""
        torch = self._torch
        for reply in replies:
            reply.begin()
        ids, mask = self._padded([reply.prompt for reply in replies])
        cache = require("transformers", extra="train", to="run weights").DynamicCache(config=self._config())
        has_rated = any(reply.rated for reply in replies)
        if has_rated and cache.is_croppable:
            cache.activate_past_recording()
        while True:
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            rows = self._forward(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            for reply in replies:
                reply.is_read()
            if has_rated:
                self._rate(replies, rows[:, -1], mask, cache)
            pieces = [
                replace(reply.take(row), ratings=reply.ratings if has_rated else ())
                for reply, row in zip(replies, rows[:, -1], strict=True)
            ]
            has_rated = False
            yield pieces
            going = [n for n, piece in enumerate(pieces) if piece.finish_reason is None]
            if not going:
                return
            if len(going) < len(replies):
                replies = [replies[n] for n in going]
                kept = torch.tensor(going, dtype=torch.long, device=self._device)
                mask = mask[kept]
                cache.batch_select_indices(kept)
            ids = torch.tensor([[reply.tokens[-1]] for reply in replies], dtype=torch.long, device=self._device)
            mask = torch.cat([mask, mask.new_ones(len(replies), 1)], dim=1)

    def _rate(self, replies: list[Reply], first: NDArray[np.float32], mask: Any, cache: Any) -> None:
        """Compute the n-th reply to be rated of all rows together behind their prompts, then drop it from the cache."""
        torch = self._torch
        for n in range(max(len(reply.rated) for reply in replies)):
            rated = [reply.rated[n] if n < len(reply.rated) else [] for reply in replies]
            width = max(len(tokens) for tokens in rated) - 1
            rows = np.zeros((len(replies), 0, first.shape[-1]), dtype=np.float32)
            if width > 0:
                ids = torch.full((len(replies), width), self._padding, dtype=torch.long, device=self._device)
                shown = mask.new_zeros(len(replies), width)
                for row, tokens in enumerate(rated):
                    before = tokens[:-1]
                    ids[row, : len(before)] = torch.tensor(before, dtype=torch.long, device=self._device)
                    shown[row, : len(before)] = 1
                whole = torch.cat([mask, shown], dim=1)
                rows = self._forward(
                    input_ids=ids,
                    attention_mask=whole,
                    position_ids=(whole.cumsum(dim=1) - 1).clamp(min=0)[:, -width:],
                    past_key_values=cache if cache.is_croppable else copy.deepcopy(cache),
                    use_cache=True,
                )
                if cache.is_croppable:
                    cache.crop(-width)
            for row, (reply, tokens) in enumerate(zip(replies, rated, strict=True)):
                if tokens:
                    logits = np.concatenate([first[row][None], rows[row, : len(tokens) - 1]])
                    columns = np.asarray(tokens, dtype=np.int64)
                    reply.ratings += (float(log_softmax_at(logits, columns).sum()),)
                    reply.rated_hits += (likeliest_at(logits, columns),)

    def _padded(self, prompts: list[list[int]]) -> tuple[Any, Any]:
        width = max(len(prompt) for prompt in prompts)
        ids = np.full((len(prompts), width), self._padding, dtype=np.int64)
        mask = np.zeros((len(prompts), width), dtype=np.int64)
        for n, prompt in enumerate(prompts):
            ids[n, width - len(prompt) :], mask[n, width - len(prompt) :] = prompt, 1
        return self._torch.from_numpy(ids).to(self._device), self._torch.from_numpy(mask).to(self._device)

    def _forward(self, **inputs: Any) -> Any:
        with self._lock, self._torch.inference_mode():
            if self._model is None:
                raise ModelError("the engine is closed", where=self._folder)
            return self._model(**inputs).logits.float().cpu().numpy()

    def _config(self) -> Any:
        if self._model is None:
            raise ModelError("the engine is closed", where=self._folder)
        return self._model.config


def _dtype(torch: Any, wanted: str, device: str) -> Any:
    if wanted == "auto":
        wanted = "bfloat16" if device == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    return getattr(torch, wanted)


def _load_tokenizer(folder: Path) -> Any:
    transformers = require("transformers", extra="train", to="run weights")
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # border: the loader raises many kinds; each means that the folder cannot be used
        raise ModelError(
            "the tokenizer cannot be loaded",
            where=folder,
            found=f"{type(error).__name__}: {str(error)[:200]}",
            fix="Name a folder saved with save_pretrained, tokenizer included.",
        ) from error


def _load_model(folder: Path, adapter: Path | None, *, dtype: Any, attention: str | None) -> Any:
    transformers = require("transformers", extra="train", to="run weights")
    _require_safetensors(folder, "model weights")
    bars = transformers.utils.logging
    had_bars = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        model, report = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        _require_complete(folder, report)
        if adapter is not None:
            _require_safetensors(adapter, "adapter")
            model = require("peft", extra="train", to="load an adapter").PeftModel.from_pretrained(model, str(adapter))
    except (ModelError, ImportError):
        raise
    except Exception as error:  # border: as above
        raise ModelError(
            "the weights cannot be loaded",
            where=adapter or folder,
            found=f"{type(error).__name__}: {str(error)[:200]}",
            fix="The folder may be incomplete, or the adapter made for other weights.",
        ) from error
    finally:
        if had_bars:
            bars.enable_progress_bar()
    return model.eval()


def _require_complete(folder: Path, report: dict[str, Any]) -> None:
    # transformers fills what is missing with random numbers and goes on
    wrong = sorted(report.get("missing_keys") or []) + sorted(str(key) for key in report.get("mismatched_keys") or [])
    if wrong:
        raise ModelError(
            "tensors are missing from the weights or have another shape",
            where=folder,
            found=", ".join(wrong[:3]),
            fix="Fetch or merge the weights again.",
        )


def _require_safetensors(folder: Path, what: str) -> None:
    if not folder.is_dir() or not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"the folder holds no {what} in safetensors",
            where=folder,
            fix="Other formats can run code when they are loaded: convert them to safetensors first.",
        )


def _end_tokens(folder: Path, tokenizer: Any) -> frozenset[int]:
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        value = read_json(path).get("eos_token_id") if path.is_file() else None
        found.update(int(token) for token in (value if isinstance(value, list) else [value]) if isinstance(token, int))
    if tokenizer.eos_token_id is not None:
        found.add(int(tokenizer.eos_token_id))
    found.update(int(number) for name, number in tokenizer.get_added_vocab().items() if name in _END_NAMES)
    if not found:
        raise ModelError(
            "the weights name no token that ends a reply", where=folder, fix="Set eos_token in tokenizer_config.json."
        )
    return frozenset(found)
