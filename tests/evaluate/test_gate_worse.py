"""Models made worse on purpose fail the gate, an unchanged one passes, too few questions decide nothing.

On scores recorded by `benchmarks/bench_worse.py --record` over a run of the demo: 260 questions over 52 documents, the
reference with retrieval over the tuned weights. No word of a question stands in the file.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fieldwise.evaluate.report import Scored, as_family, judge_pair, overall
from fieldwise.evaluate.settings import EvaluateSettings, GateSettings
from fieldwise.records import GateResult

RECORDED = json.loads((Path(__file__).parent / "worse_scores.json").read_text())
WANTED = (
    *(GateSettings(metric=r.metric, requires=r.requires, margin=r.margin) for r in EvaluateSettings().regressions),
    GateSettings(metric="citation_recall", requires="not_worse", margin=0.05),
)


def judged(name: str, count: int | None = None, wanted: tuple[GateSettings, ...] = WANTED) -> tuple[GateResult, ...]:
    scores, names = RECORDED["scores"], RECORDED["clusters"][:count]

    def scored(system: str, metric: str) -> Scored:
        return Scored(system, metric, tuple(scores[system][metric][: len(names)]))

    return as_family(
        [judge_pair(g, scored(name, g.metric), scored("reference", g.metric), names, 2000, 0) for g in wanted]
    )


def failed(gates: tuple[GateResult, ...]) -> set[str]:
    return {g.metric for g in gates if g.verdict == "FAIL"}


def test_the_recorded_run_is_whole() -> None:
    assert len(RECORDED["clusters"]) == 260 and len(set(RECORDED["clusters"])) > 50
    assert all(len(v) in (12, 260) for s in RECORDED["scores"].values() for v in s.values())


def test_the_same_answers_pass() -> None:
    assert overall(judged("reference")) == "PASS"


def test_an_unchanged_model_in_its_q8_file_does_not_fail() -> None:
    assert overall(judged("unchanged")) == "PASS"


@pytest.mark.parametrize(
    ("worse", "by"),
    [
        ("SFT on shuffled answers", {"token_f1", "overall_f1"}),
        ("q2_k", {"token_f1"}),
        ("citations dropped", {"groundedness", "citation_recall"}),
    ],
)
def test_a_model_made_worse_on_purpose_fails(worse: str, by: set[str]) -> None:
    gates = judged(worse)
    assert overall(gates) == "FAIL" and by <= failed(gates)


def test_dropped_citations_alone_are_found_where_the_words_are_the_same() -> None:
    assert not failed(judged("citations dropped")) & {"token_f1", "overall_f1"}


def test_too_small_a_test_set_decides_nothing() -> None:
    gates = judged("q2_k", 12)
    assert overall(gates) == "INCONCLUSIVE" and all(g.need_n for g in gates if g.verdict == "INCONCLUSIVE")
