"""Choosing weights by what they reply: the replies, the score, and that being scored changes no step."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from sessions import session_in

from fieldwise.errors import DatasetError
from fieldwise.evaluate.selection import comparable, fingerprint, of_replies, scores, told
from fieldwise.evaluate.settings import COMBINED, EvaluateSettings
from fieldwise.prompts import closed_prompt
from fieldwise.recipe import Recipe
from fieldwise.records import NOT_STATED, Answer, Example, Message, Question
from fieldwise.steps import STEPS
from fieldwise.tracking import JsonlTracker
from fieldwise.train.rows import Course
from fieldwise.train.scoring import TaskScore, replies
from fieldwise.train.settings import LoraSettings, SftSettings
from fieldwise.train.sft import train_sft
from fieldwise.train_step import task_score

SETTINGS = SftSettings(
    max_steps=5,
    learning_rate=2e-2,
    batch_size=2,
    max_length=256,
    evaluate_every_steps=1,
    best_by="score",
    lora=LoraSettings(rank=8, alpha=16, dropout=0.1),
)
TASK = TaskScore(lambda texts, examples: of_replies(texts, examples, None), comparable, 6)


def sft(base: Path, examples, device, folder: Path, settings=SETTINGS, task=TASK, tracker=None):
    return train_sft(
        base, examples, examples[:3], settings, device, session=session_in(folder, tracker), course=Course(task=task)
    )


def falling(found: list[float]) -> TaskScore:
    """Scores that rise and then fall, whatever is said."""
    return TaskScore(lambda texts, examples: [found.pop(0)] * len(texts), comparable, 2)


def test_replies_are_those_of_greedy_generation_one_by_one(base) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    prompts = [tokenizer(text)["input_ids"] for text in ("The fund", "Wash the wound with clean water", "A")]
    expected = []
    for prompt in prompts:
        said = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=7, eos_token_id=2, pad_token_id=0)
        expected.append(tokenizer.decode(said[0, len(prompt) :], skip_special_tokens=True).strip())
    model.train()
    model.config.use_cache = False
    assert replies(model, tokenizer, prompts, 7, bfloat16=False) == expected and any(expected)
    assert replies(model, tokenizer, [[5] * 1020], 7, bfloat16=False) == [""] and model.training


def test_being_scored_changes_no_step_and_the_weights_of_the_best_are_taken(base, examples, device, tmp_path) -> None:
    plain = sft(base, examples, device, tmp_path / "plain", SETTINGS.model_copy(update={"best_by": None}))
    outcome = sft(base, examples, device, tmp_path, task=falling([0.1, 0.2, 0.9, 0.4, 0.3]))
    losses = [[row["loss"] for row in o.curve if "loss" in row] for o in (plain, outcome)]
    assert losses[0] == losses[1] and len(losses[0]) == 5
    assert outcome.about["weights_of_step"] == 3 and outcome.figures["eval_score"] == 0.9
    held = {row["step"]: row["eval_loss"] for row in outcome.curve if "eval_loss" in row}
    assert outcome.figures["eval_loss"] == held[3]
    kept = load_file(tmp_path / "work/checkpoint-3/adapter_model.safetensors")
    taken = load_file(outcome.adapter / "adapter_model.safetensors")
    assert all(torch.equal(taken[name], weight) for name, weight in kept.items())
    assert sorted(p.name for p in (tmp_path / "work").glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-5"]
    rows = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [row["eval_score"] for row in rows if "eval_score" in row] == pytest.approx([0.1, 0.2, 0.9, 0.4, 0.3])


def test_it_stops_early_by_the_score_also_after_a_kill(base, examples, device, tmp_path) -> None:
    class Interrupting(JsonlTracker):
        def log(self, stage, step, figures):
            if step >= 3 and "loss" in figures:
                raise KeyboardInterrupt
            super().log(stage, step, figures)

    settings = SETTINGS.model_copy(update={"early_stopping": 2})
    whole = sft(base, examples, device, tmp_path / "whole", settings, falling([0.5, 0.4, 0.3]))
    assert whole.steps == 3 and whole.about["weights_of_step"] == 1
    with pytest.raises(KeyboardInterrupt):
        sft(base, examples, device, tmp_path, settings, falling([0.5, 0.4]), Interrupting(tmp_path / "c"))
    again = sft(base, examples, device, tmp_path, settings, falling([0.3]))
    assert again.steps == 3 and again.figures == whole.figures
    assert (again.merged / "model.safetensors").read_bytes() == (whole.merged / "model.safetensors").read_bytes()


def test_without_a_held_out_question_it_says_what_is_missing(base, examples, device, tmp_path) -> None:
    tasks = [e.model_copy(update={"style": "task"}) for e in examples]
    with pytest.raises(DatasetError, match=r"train\.sft\.best_by.*held-out examples are needed"):
        sft(base, tasks, device, tmp_path)


def reply(text: str, *, declined: bool = False) -> Answer:
    return Answer(text=text, answer=text, model="x", is_declined=declined)


def test_the_combined_score_is_the_weighted_mean_of_its_measures(monkeypatch) -> None:
    from fieldwise.evaluate import selection

    asked = Question(id="q", question="How long?", answer="14 days")
    monkeypatch.setattr(selection, "semantic_scores", lambda a, q: {"bert_score": (0.9,)})
    # said "within 14 days": token F1 0.8, ROUGE-1 and ROUGE-L F 2*(2/3*1)/(2/3+1) = 0.8
    found = scores([reply("within 14 days")], [asked], {str(k): v for k, v in COMBINED.items()})
    assert found == [pytest.approx(0.4 * 0.9 + 0.3 * 0.8 + 0.2 * 0.8 + 0.1 * 0.8)]
    assert scores([reply("within 14 days")], [asked], {"token_f1": 2.0, "exact_match": 2.0}) == [pytest.approx(0.4)]
    assert sum(COMBINED.values()) == pytest.approx(1)


def test_declines_count_as_right_or_wrong_whatever_the_weights() -> None:
    open_, known = Question(id="a", question="?", answer=None), Question(id="b", question="?", answer="x")
    said = [reply(NOT_STATED, declined=True), reply("x")]
    for weights in (None, {"rouge_l": 1.0}):
        assert scores(said, [open_, open_], weights) == [1.0, 0.0]
        assert scores(said, [known, known], weights) == [0.0, 1.0]
    unanswerable = Example.make(
        question="?",
        answer=NOT_STATED,
        kind="unanswerable",
        conversation=(*closed_prompt("?"), Message(role="assistant", content=NOT_STATED)),
    )
    assert of_replies([NOT_STATED, "x"], [unanswerable] * 2, {"rouge_l": 1.0}) == [1.0, 0.0]
    assert of_replies([NOT_STATED, "x"], [unanswerable] * 2, None) == [1.0, 0.0]


def test_the_recipe_names_the_score_and_only_then_it_is_part_of_the_key() -> None:
    steps = {s.number: s for s in STEPS}
    plain = Recipe()
    asked = Recipe.model_validate({"evaluate": {"selection": "combined"}, "train": {"sft": {"best_by": "score"}}})
    own = EvaluateSettings.model_validate({"selection": {"rouge_l": 2, "token_f1": 1}})
    assert "selection" not in steps["4c"].settings(plain) and "selection" not in plain.evaluate.keyed()
    assert steps["4c"].settings(asked)["selection"]["bert_score"] == 0.4
    assert (
        steps["4b"].outside(plain).keys() == {"base"} and "best_by" not in steps["4b"].settings(plain)["train"]["sft"]
    )
    assert steps["4b"].outside(asked)["score"] == fingerprint(asked.evaluate.selection_weights)
    assert task_score(plain) is None and task_score(asked).max_new_tokens == plain.evaluate.max_new_tokens
    assert own.selection_weights == {"rouge_l": 2.0, "token_f1": 1.0}
    assert told(own.selection_weights) == "mean of 2 rouge_l + 1 token_f1 and right declines"
    with pytest.raises(ValidationError, match="rouge_9"):
        EvaluateSettings.model_validate({"selection": {"rouge_9": 1}})
