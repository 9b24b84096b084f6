"""Prove that a GGUF file says what the weights say: the same tokens, and how far its logits lie from theirs.

A converted file in 32 bits must give the same token ids and nearly the same logits as transformers; a quantised one
is measured against the 32-bit file. Divergence and perplexity are in nats and as ratios over all positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from fieldwise.engine.llama_cpp import LlamaCppEngine
from fieldwise.engine.transformers_engine import TransformersEngine
from fieldwise.errors import InputError
from fieldwise.files import read_json
from fieldwise.release.quantise import tensor_types

NASTY_TEXT = (
    "It's 1,234.50 € on 2024-02-29; don't, DON'T, we'll!\r\n\tTab\tand  two   blanks \n\n\n  indented\n"
    "naïve café Straße Ελληνικά русский עברית العربية हिन्दी 中文字符 日本語テキスト 한국어 ไทย\n"
    "👍🏽 👩‍👩‍👧‍👦 🇪🇺 ½ ² ™ ﬁ … “quoted” \u2018single\u2019 — dash\u00a0hard\u3000wide\u200bzero 0123456789 x1y22z333\n"
    '[1] [2][3] see [9], [10] and [ 1 ] <|im_start|>user\nhi<|im_end|> <s></s> <tool_call>{"a": [1, null]}</tool_call>\n'
    "def f(x):\n    return x**2  # `code` ~/path/to/file.txt https://example.org/?q=a+b&c=%20 a_b-c\\d |x| $5 ^^ @@ ##"
)
_MOST_POSITIONS = 512
_ROWS = 64
_EXCERPT = 24


@dataclass(frozen=True)
class TokenMismatch:
    """A text the two tokenizers split differently, from the first difference on."""

    text: str
    position: int
    expected: tuple[int, ...]
    found: tuple[int, ...]


@dataclass(frozen=True)
class ParityReport:
    """How a GGUF file compares with its reference."""

    file: str
    reference: str
    tensor_types: dict[str, int]
    token_texts: int
    token_mismatches: tuple[TokenMismatch, ...]
    positions: int
    max_logit_difference: float
    mean_logit_difference: float
    top1_agreement: float
    kl_divergence: float
    perplexity: float
    reference_perplexity: float

    @property
    def perplexity_ratio(self) -> float:
        """Perplexity of the file over that of its reference; 1.0 is no loss."""
        return self.perplexity / self.reference_perplexity

    def problems(self, max_logit_difference: float | None = None) -> list[str]:
        """Return why the file must not be released; without a limit only the tokens count."""
        found = [
            f"the tokenizers split {m.text!r} differently from token {m.position} on: {list(m.expected)} became {list(m.found)}"
            for m in self.token_mismatches
        ]
        if max_logit_difference is not None and not self.max_logit_difference <= max_logit_difference:
            found.append(
                f"the logits differ by up to {self.max_logit_difference:.3g} from {self.reference}, and {max_logit_difference:g} is allowed"
            )
        return found

    def to_json(self) -> dict[str, JsonValue]:
        """Return the report for files and model cards."""
        return {
            **asdict(self),
            "token_mismatches": [
                {**asdict(m), "expected": list(m.expected), "found": list(m.found)} for m in self.token_mismatches
            ],
            "perplexity_ratio": self.perplexity_ratio,
        }


def check(
    weights_folder: Path, gguf: Path, prompts: Sequence[str], *, reference: Path | None = None, threads: int = 0
) -> ParityReport:
    """Compare a GGUF file with the weights it was made from, or with `reference`, the 32-bit GGUF file.

    Tokens are always compared with transformers, on the prompts, a text of rare cases and every added token.
    Logits are compared over all positions of the prompts, at most 512 of each.
    """
    if not prompts:
        raise InputError("parity needs at least one prompt", fix="Give a few texts of the kind the model will see.")
    with (
        TransformersEngine(weights_folder, attention="eager", threads=threads) as weights,
        LlamaCppEngine(gguf, threads=threads, exact=True) as file,
    ):
        texts = [*prompts, NASTY_TEXT, *_added_tokens(weights_folder)]
        mismatches = tuple(
            mismatch
            for text in texts
            if (mismatch := _compare_tokens(text, weights.tokenize(text), file.tokenize(text)))
        )
        tokens = [weights.tokenize(text) for text in prompts]
        if reference is None:
            differences = list(_differences(weights, file, tokens))
        else:
            with LlamaCppEngine(reference, threads=threads, exact=True) as whole:
                differences = list(_differences(whole, file, tokens))
    return _report(
        gguf, "transformers in float32" if reference is None else reference.name, len(texts), mismatches, differences
    )


class _Measured(Protocol):
    context_tokens: int
    vocabulary_size: int

    def logits(self, token_ids: Sequence[int]) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class _Difference:
    """Sums over some positions, so that any number of them can be put together."""

    positions: int
    largest: float
    absolute: float
    numbers: int
    same_best: int
    divergence: float
    predicted: int
    surprise: float
    expected_surprise: float


def _added_tokens(folder: Path) -> list[str]:
    """Every added token between words: whether both tokenizers find it in running text."""
    added = read_json(folder / "tokenizer.json").get("added_tokens")
    contents = [str(token["content"]) for token in added if isinstance(token, dict)] if isinstance(added, list) else []
    return [f"a{content}b {content} c" for content in contents]


def _compare_tokens(text: str, expected: list[int], found: list[int]) -> TokenMismatch | None:
    if expected == found:
        return None
    position = next(
        (n for n, (a, b) in enumerate(zip(expected, found, strict=False)) if a != b), min(len(expected), len(found))
    )
    return TokenMismatch(
        text[:80],
        position,
        tuple(expected[position : position + _EXCERPT]),
        tuple(found[position : position + _EXCERPT]),
    )


def _differences(expected: _Measured, found: _Measured, prompts: Sequence[list[int]]) -> Iterator[_Difference]:
    size = min(expected.vocabulary_size, found.vocabulary_size)
    for prompt in prompts:
        tokens = prompt[: min(_MOST_POSITIONS, expected.context_tokens, found.context_tokens)]
        if not tokens:
            continue
        theirs, ours = expected.logits(tokens)[:, :size], found.logits(tokens)[:, :size]
        following = np.asarray([*tokens[1:], -1])
        for start in range(0, len(tokens), _ROWS):
            rows = slice(start, start + _ROWS)
            yield _difference(theirs[rows], ours[rows], following[rows])


def _difference(expected: NDArray[np.float32], found: NDArray[np.float32], following: NDArray[np.int64]) -> _Difference:
    gap = np.abs(expected.astype(np.float64) - found)
    theirs, ours = _log_softmax(expected), _log_softmax(found)
    known = np.flatnonzero(following >= 0)
    return _Difference(
        positions=len(expected),
        largest=float(gap.max()),
        absolute=float(gap.sum()),
        numbers=gap.size,
        same_best=int((expected.argmax(axis=1) == found.argmax(axis=1)).sum()),
        divergence=float((np.exp(theirs) * (theirs - ours)).sum()),
        predicted=len(known),
        surprise=float(-ours[known, following[known]].sum()),
        expected_surprise=float(-theirs[known, following[known]].sum()),
    )


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    rows = logits.astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    rows -= np.log(np.exp(rows).sum(axis=1, keepdims=True))
    return rows


def _report(
    file: Path, reference: str, texts: int, mismatches: tuple[TokenMismatch, ...], parts: list[_Difference]
) -> ParityReport:
    positions = sum(part.positions for part in parts)
    predicted = sum(part.predicted for part in parts)
    if predicted == 0:
        raise InputError(
            "the prompts for parity are too short",
            found=f"{positions} tokens",
            fix="Give texts of at least two tokens.",
        )
    return ParityReport(
        file=file.name,
        reference=reference,
        tensor_types=tensor_types(file),
        token_texts=texts,
        token_mismatches=mismatches,
        positions=positions,
        max_logit_difference=float(np.max([part.largest for part in parts])),  # max() would pass over a nan
        mean_logit_difference=sum(part.absolute for part in parts) / sum(part.numbers for part in parts),
        top1_agreement=sum(part.same_best for part in parts) / positions,
        kl_divergence=sum(part.divergence for part in parts) / positions,
        perplexity=float(np.exp(sum(part.surprise for part in parts) / predicted)),
        reference_perplexity=float(np.exp(sum(part.expected_surprise for part in parts) / predicted)),
    )
