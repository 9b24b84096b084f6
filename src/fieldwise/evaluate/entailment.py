"""Groundedness by a model of natural language inference (NLI): whether a cited passage entails a claim.

Premise is a passage, hypothesis a claim, as in SummaC (Laban et al. 2022): a claim counts as entailed if one of the passages
it cites entails it with a probability of at least one half. It stands beside the rules of `fieldwise.claims`, which need
no model; models for NLI are fooled by numbers and by long passages, so read it with its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from fieldwise.claims import cited_claims
from fieldwise.errors import ModelError
from fieldwise.records import Answer
from fieldwise.retrieve.cross_encoder import PairClassifier

LEAST_PROBABILITY = 0.5


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
        self._model = PairClassifier(folder, "model of natural language inference", "evaluate.nli")
        labels = [name.lower() for name in self._model.labels]
        if "entailment" not in labels:
            raise ModelError(
                "the model was not trained for natural language inference",
                where="evaluate.nli",
                found=f"labels {', '.join(labels)}, none of them entailment",
                fix="Name the folder of one that was.",
            )
        self._label = labels.index("entailment")

    def probabilities(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the probability of entailment of each (premise, hypothesis)."""
        logits = self._model.logits(pairs).astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return [float(p) for p in shares[:, self._label] / shares.sum(axis=1)]
