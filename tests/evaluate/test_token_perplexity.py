"""Perplexity of a token of the known answers: by hand, against PyTorch's cross-entropy, and where it is shown."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tiny_models import SENTENCES, make_tiny_llama

from fieldwise.engine.transformers_engine import TransformersEngine
from fieldwise.evaluate.metrics import METRICS
from fieldwise.evaluate.page import Measured, page
from fieldwise.evaluate.perplexity import token_perplexity
from fieldwise.evaluate.report import score_system, with_whole_sets
from fieldwise.evaluate.settings import EvaluateSettings
from fieldwise.evaluate.stage import build_report
from fieldwise.evaluate.statistics import ratio_mean
from fieldwise.evaluate.table import PERPLEXITY, markdown, plain
from fieldwise.interfaces import Sampling
from fieldwise.prompts import closed_prompt
from fieldwise.records import Answer, Message, Question
from fieldwise.retrieve.grounded import ClosedAnswerer


def rated(probability: float, tokens: int, known: str) -> Answer:
    """An answer to a question whose known answer had this probability."""
    bits = -math.log2(probability) / len(known.encode())
    return Answer(text="x", answer="x", model="m", known_bits=bits, known_tokens=tokens)


def asked(*known: str | None) -> list[Question]:
    return [Question(id=f"q{n}", question="?", answer=k, document=f"d{n}") for n, k in enumerate(known)]


def test_by_hand_every_token_counts_alike() -> None:
    questions = asked("ward", "Café", None)
    answers = [rated(1 / 2, 1, "ward"), rated(1 / 16, 2, "Café"), Answer(text="x", answer="x", model="m")]
    found = token_perplexity(answers, questions, [q.id for q in questions], 200, 0)
    assert found is not None and found.value == pytest.approx(32 ** (1 / 3)) and (found.n, found.unscored) == (2, 1)
    assert found.low is not None and found.high is not None and 1 <= found.low <= found.value <= found.high


def test_without_a_rated_answer_there_is_none() -> None:
    assert token_perplexity([Answer(text="x", answer="x", model="m")], asked("ward"), ["d"], 200, 0) is None


def test_the_mean_of_a_ratio_by_hand() -> None:
    assert ratio_mean([3.0, 5.0], [1.0, 3.0], ["a", "b"], 200, 0).value == 2.0


def test_of_real_weights_it_is_exp_of_the_cross_entropy_of_pytorch(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    weights = make_tiny_llama(tmp_path / "weights")
    known = [s for s in SENTENCES[:3] if s]
    questions = [Question(id=f"q{n}", question="Who?", answer=k) for n, k in enumerate(known)]
    with TransformersEngine(weights, attention="eager") as engine:
        answerer = ClosedAnswerer("base", engine, Sampling(max_tokens=2))
        answers = list(answerer.answer_all([(Message(role="user", content="Who?"),)] * len(known), known))
        prompt = engine.render(closed_prompt("Who?"))
        replies = [engine.reply_tokens(k) for k in known]
    model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)
    total, hits = 0.0, []
    for reply in replies:
        labels = torch.tensor([[-100] * len(prompt) + reply])
        with torch.no_grad():
            found = model(torch.tensor([prompt + reply]), labels=labels)
        total += float(found.loss) * len(reply)
        hits.append(int((found.logits[0, len(prompt) - 1 : -1].argmax(-1) == torch.tensor(reply)).sum()))
    assert [a.known_hits for a in answers] == hits
    perplexity = token_perplexity(answers, questions, [q.id for q in questions], 200, 0)
    assert perplexity is not None
    assert perplexity.value == pytest.approx(math.exp(total / sum(map(len, replies))), rel=1e-4)


def test_it_stands_beside_the_bits_per_byte_and_is_no_metric_of_a_gate() -> None:
    questions = asked(*["ward"] * 30)
    answers = {"base": [rated(1 / 16, 2, "ward")] * 30, "sft": [rated(1 / 4, 2, "ward")] * 30}
    scores = {s: score_system(s, a, questions) for s, a in answers.items()}
    report = build_report(scores, questions, EvaluateSettings(bootstrap_samples=100, gates=()), 0)
    report = with_whole_sets(report, answers, questions, 100)  # type: ignore[arg-type]
    row = f"| {PERPLEXITY} (n=30) | 4.00 [4.00, 4.00] | 2.00 [2.00, 2.00] |"
    lines = markdown(report).splitlines()
    assert lines[lines.index(row) - 1].startswith("| Bits per byte") and PERPLEXITY in plain(report)
    assert PERPLEXITY in page(Measured("m", report, questions, answers, scores, 100))  # type: ignore[arg-type]
    assert "token_perplexity" not in METRICS and "perplexity" not in METRICS


@pytest.mark.parametrize(("documents", "questions"), [(13, 10), (40, 4)])
def test_its_interval_covers_the_truth(documents: int, questions: int) -> None:
    """Answers of 1 to 12 tokens that cost 2 nats each on average, some documents less and some more."""
    rng, experiments, covered = np.random.default_rng(7), 1000, 0
    names = [f"d{n}" for n in range(documents) for _ in range(questions)]
    for _ in range(experiments):
        tokens = rng.integers(1, 13, documents * questions).astype(float)
        each = np.repeat(rng.gamma(8.0, 0.25, documents), questions)
        nats = tokens * each * rng.gamma(4.0, 0.25, len(tokens))
        found = ratio_mean(nats.tolist(), tokens.tolist(), names, 300, 0)
        covered += found.low <= 2.0 <= found.high
    assert 0.91 <= covered / experiments <= 0.97
