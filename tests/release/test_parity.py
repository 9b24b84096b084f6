from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_models import SENTENCES, make_tiny_llama, make_tokenizer

from fieldwise.errors import InputError
from fieldwise.release.gguf import convert
from fieldwise.release.parity import ParityReport, _difference, _report, check
from fieldwise.release.quantise import quantise

PROMPTS = [" ".join(SENTENCES), SENTENCES[0]]


@pytest.fixture(scope="module")
def report(weights: Path, gguf_file: Path) -> ParityReport:
    return check(weights, gguf_file, PROMPTS, threads=1)


def test_a_converted_file_has_the_same_tokens_and_logits(report: ParityReport) -> None:
    assert report.problems(max_logit_difference=1e-3) == []
    assert report.top1_agreement == 1.0
    assert 0 < report.max_logit_difference < 2e-4
    assert report.mean_logit_difference < report.max_logit_difference / 5
    assert abs(report.kl_divergence) < 1e-8
    assert report.perplexity_ratio == pytest.approx(1.0, abs=1e-6)
    assert report.token_texts == len(PROMPTS) + 1 + 15  # the rare cases and every added token
    assert report.tensor_types == {"F32": 20}


def test_the_report_can_be_written_as_json(report: ParityReport) -> None:
    written = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert written["reference"] == "transformers in float32"
    assert written["positions"] == report.positions > 100
    assert written["perplexity_ratio"] == report.perplexity_ratio


def test_coarser_files_lose_more(weights: Path, gguf_file: Path, tmp_path: Path) -> None:
    kinds = ("q8_0", "q4_k_m", "q2_k")
    fine, middle, coarse = (
        check(
            weights,
            quantise(gguf_file, tmp_path / f"{kind}.gguf", kind, threads=1).path,
            PROMPTS,
            reference=gguf_file,
            threads=1,
        )
        for kind in kinds
    )
    assert 0 < fine.kl_divergence < middle.kl_divergence < coarse.kl_divergence
    assert fine.top1_agreement > coarse.top1_agreement
    assert fine.reference == "tiny-f32.gguf"
    assert fine.problems() == []
    assert "are allowed" not in fine.problems(1e-3)[0]
    assert "0.001 is allowed" in fine.problems(1e-3)[0]


def test_another_tokenizer_is_found_out(weights: Path, gguf_file: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(weights, tmp_path / "model")
    make_tokenizer(folder, split=None)  # splits words as GPT-2 does
    report = check(folder, gguf_file, PROMPTS, threads=1)
    assert report.token_mismatches
    mismatch = report.token_mismatches[0]
    assert mismatch.expected != mismatch.found
    assert "differently from token" in report.problems()[0]
    json.dumps(report.to_json())


def test_other_weights_are_found_out(gguf_file: Path, tmp_path: Path) -> None:
    other = make_tiny_llama(tmp_path / "other", seed=5)
    report = check(other, gguf_file, PROMPTS[1:], threads=1)
    assert report.token_mismatches == ()
    assert report.max_logit_difference > 1
    assert report.kl_divergence > 0.1


def test_weights_whose_queries_were_not_reordered_are_found_out(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldwise.release import gguf_metadata

    monkeypatch.setattr(gguf_metadata, "_interleaved", lambda numbers, heads: numbers)
    report = check(weights, convert(weights, tmp_path / "a.gguf").path, PROMPTS[1:], threads=1)
    assert report.max_logit_difference > 0.1


def test_a_difference_that_is_no_number_is_a_problem(report: ParityReport) -> None:
    assert replace(report, max_logit_difference=float("nan")).problems(1e-3)


def test_one_logit_that_is_no_number_is_not_passed_over(gguf_file: Path) -> None:
    rows = np.zeros((2, 4), dtype=np.float32)
    broken = rows.copy()
    broken[1, 2] = np.nan
    parts = [_difference(rows, found, np.asarray([1, -1])) for found in (rows, broken)]
    assert _report(gguf_file, "weights", 1, (), parts).problems(max_logit_difference=1e-3)


def test_divergence_and_surprise_of_known_distributions() -> None:
    # p = (1/2, 1/2), q = (1/4, 3/4): KL = 1/2 ln 2 + 1/2 ln(2/3) = 0.1438 nats; q gives token 1 the surprise ln(4/3)
    expected, found = (
        np.log(np.array([[0.5, 0.5]], dtype=np.float32)),
        np.log(np.array([[0.25, 0.75]], dtype=np.float32)),
    )
    result = _difference(expected, found, np.array([1]))
    assert result.divergence == pytest.approx(0.1438, abs=1e-4)
    assert result.surprise == pytest.approx(np.log(4 / 3), abs=1e-6)
    assert result.expected_surprise == pytest.approx(np.log(2), abs=1e-6)
    assert result.same_best == 0


@pytest.mark.parametrize("prompts", [[], ["[1]"], [""]])
def test_prompts_that_predict_nothing_are_refused(weights: Path, gguf_file: Path, prompts: list[str]) -> None:
    with pytest.raises(InputError, match="prompt"):
        check(weights, gguf_file, prompts, threads=1)
