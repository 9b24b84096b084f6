"""Groundedness by a model of natural language inference (NLI): whether a cited passage entails a claim.

Premise is a passage, hypothesis a claim, as in SummaC (Laban et al. 2022): a claim counts as entailed if one of the passages
it cites entails it with a probability of at least one half. It stands beside the rules of `fieldwise.claims`, which need
no model; models for NLI are fooled by numbers and by long passages, so read it with its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from fieldwise.claims import cited_claims
from fieldwise.errors import ModelError
from fieldwise.extras import require
from fieldwise.records import Answer
from fieldwise.retrieve.cross_encoder import silent

LEAST_PROBABILITY = 0.5
_BATCH, _MAX_TOKENS = 16, 512
_FIX = "Name a folder with config.json, model.safetensors and tokenizer of a model trained for NLI."


def entailed_shares(answers: Sequence[Answer], folder: str) -> tuple[float | None, ...]:
    """Return for every answer the share of its claims that a passage it cites entails; declined: None, no claim: 0.

    A claim that cites nothing is not entailed. Raises ModelError for a folder that holds no NLI model.
    """
    found = [None if a.is_declined else list(cited_claims(a)) for a in answers]
    pairs = list(dict.fromkeys((p, c.text) for claims in found for c in claims or () for p in c.passages))
    known = dict(zip(pairs, opened(folder).probabilities(pairs), strict=True)) if pairs else {}

    def is_entailed(text: str, passages: Sequence[str]) -> bool:
        return any(known[passage, text] >= LEAST_PROBABILITY for passage in passages)

    return tuple(
        None if claims is None else sum(is_entailed(*c) for c in claims) / len(claims) if claims else 0.0
        for claims in found
    )


@lru_cache(maxsize=1)
def opened(folder: str) -> EntailmentModel:
    """Return the model of a folder, read once for all systems."""
    return EntailmentModel(Path(folder))


class EntailmentModel:
    """A sequence classifier with a label `entailment`. Raises ModelError for any other."""

    def __init__(self, folder: Path) -> None:
        self._torch = require("torch", extra="train", to="ask an NLI model")
        transformers = require("transformers", extra="train", to="ask an NLI model")
        try:
            with silent(transformers):
                self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
                model, told = transformers.AutoModelForSequenceClassification.from_pretrained(
                    folder,
                    dtype=self._torch.float32,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                "the NLI model cannot be read",
                where="evaluate.nli",
                found=f"{folder}: {str(error).splitlines()[0][:160]}",
                fix=_FIX,
            ) from error
        labels = {str(name).lower(): int(n) for n, name in model.config.id2label.items()}
        if told["missing_keys"] or "entailment" not in labels:
            missing = ", ".join(sorted(told["missing_keys"])[:3])
            raise ModelError(
                "the model was not trained for NLI",
                where="evaluate.nli",
                found=f"without {missing}" if missing else f"labels {', '.join(labels)}, none of them entailment",
                fix=_FIX,
            )
        self._model, self._label = model.eval(), labels["entailment"]
        longest = getattr(model.config, "max_position_embeddings", None) or _MAX_TOKENS
        self._max_tokens = min(_MAX_TOKENS, longest, self._tokenizer.model_max_length)

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the probability of entailment of each (premise, hypothesis); the longer side is cut where both are too long."""
        found = [0.0] * len(pairs)
        order = sorted(range(len(pairs)), key=lambda n: (len(pairs[n][0]) + len(pairs[n][1]), n))
        for begin in range(0, len(order), _BATCH):
            group = order[begin : begin + _BATCH]
            for place, probability in zip(group, self._of([pairs[n] for n in group]), strict=True):
                found[place] = probability
        return found

    def _of(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        batch: Any = self._tokenizer(
            [premise for premise, _ in pairs],
            [hypothesis for _, hypothesis in pairs],
            padding=True,
            truncation="longest_first",
            max_length=self._max_tokens,
            return_tensors="pt",
        )
        with self._torch.inference_mode():
            probabilities = self._model(**batch).logits.softmax(dim=-1)[:, self._label]
        return [float(p) for p in probabilities]
