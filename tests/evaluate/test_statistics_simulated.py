"""Intervals and gates on simulated test sets whose truth is known; benchmarks/bench_statistics.py does 2,000 of each."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXPERIMENTS = 300
SLACK = 0.02  # of 300 experiments: 1.6 standard errors


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks/bench_statistics.py"
    spec = importlib.util.spec_from_file_location("bench_statistics", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("p", "agreement"), [(0.02, 0.1), (0.3, 0.05), (0.9, 0.1)])
def test_the_interval_of_a_share_covers_the_truth_where_that_over_questions_does_not(
    bench: ModuleType, p: float, agreement: float
) -> None:
    row = bench.share_interval(bench.TYPICAL, p, agreement, EXPERIMENTS)
    assert row.share >= 0.93 - SLACK and row.share > row.beside["Wilson over questions"] + 0.02
    if p > 0.1:
        assert row.share <= 0.97 + SLACK


def test_the_interval_of_a_mean_covers_the_truth(bench: ModuleType) -> None:
    row = bench.mean_interval(bench.Plan(13, 16), 0.3, 0.15, EXPERIMENTS)
    assert 0.93 - SLACK <= row.share <= 0.97 + SLACK
    assert row.beside["mean and 1.96 standard errors"] < 0.85


@pytest.mark.parametrize("documents", [13, 30])
def test_the_interval_of_a_paired_difference_covers_the_truth(bench: ModuleType, documents: int) -> None:
    row = bench.difference_interval(bench.Plan(documents, 8, "geometric"), 0.3, 0.1, 0.1, EXPERIMENTS)
    assert 0.93 - SLACK <= row.share <= 0.97 + SLACK
    assert row.share >= row.beside["plain cluster bootstrap"]


def test_a_difference_that_hardly_any_question_shows_is_covered_too(bench: ModuleType) -> None:
    row = bench.difference_interval(bench.Plan(60, 1), 0.02, 0.0, 0.0, EXPERIMENTS)
    assert row.share >= 0.93 - SLACK and row.beside["plain cluster bootstrap"] < 0.75  # often no question differs


def test_gates_raise_no_more_false_alarms_than_they_may_and_have_the_power_they_print(bench: ModuleType) -> None:
    for row in bench.gates(bench.Plan(30, 6), 0.08, 0.2, 0.05, 200):
        low, high = row.wanted
        assert (low - 0.05 if low else 0.0) <= row.share <= high + (0.05 if low else 0.0), row


def test_many_gates_raise_a_false_alarm_together_as_seldom_as_one(bench: ModuleType) -> None:
    row = bench.family(bench.TYPICAL, 6, 200)
    assert row.share <= 0.05 + SLACK and row.beside["without Holm"] > 0.08


def test_mcnemar_calls_no_difference_one_in_five_percent_at_most(bench: ModuleType) -> None:
    assert bench.mcnemar_false_alarms(260, 0.2, EXPERIMENTS).share <= 0.05
