"""Closeness in meaning: worked numbers, the encoder beside transformers, and when it is scored."""

from pathlib import Path

import numpy as np
import pytest

from fieldwise.errors import RecipeError
from fieldwise.evaluate.report import score_system
from fieldwise.evaluate.semantic import SEMANTIC, bert_score_f1, cosine, semantic_scores
from fieldwise.recipe import load_recipe
from fieldwise.records import Answer, Question
from fieldwise.retrieve.embed import MiniLmEmbedder

TEXTS = ("within 14 days", "Visitors sign the log at the desk.", "", "The kitchen closes at 19:00, Züri time.")


def states(*rows: tuple[float, float]) -> np.ndarray:
    """Token rows between a [CLS] and a [SEP] that must not count."""
    return np.array([(9, 9), *rows, (7, -7)], dtype=np.float32)


def test_bert_score_on_worked_numbers() -> None:
    one = states((1, 0))
    assert bert_score_f1(one, one) == pytest.approx(1.0)
    assert bert_score_f1(states((2, 0), (0, 3)), one) == pytest.approx(2 / 3)  # precision 1/2, recall 1
    assert bert_score_f1(one, states((3, 4))) == pytest.approx(0.6)
    assert bert_score_f1(states(), one) == 0.0


def test_the_cosine_is_that_of_the_mean_over_all_tokens() -> None:
    a, b = np.array([(1, 0), (1, 0), (1, 3)], np.float32), np.array([(1, 1), (1, 1), (1, 1)], np.float32)
    assert cosine(a, b) == pytest.approx(1.0)
    assert cosine(a, -b) == 0.0


def test_token_states_are_those_of_transformers() -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModel, AutoTokenizer

    embedder = MiniLmEmbedder()
    tokenizer = AutoTokenizer.from_pretrained(embedder.folder)
    model = AutoModel.from_pretrained(embedder.folder, dtype=torch.float32).eval()
    found = embedder.encode_tokens(TEXTS)
    for text, states in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            wanted = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
        assert states.shape == wanted.shape
        same = (states * wanted).sum(1) / np.linalg.norm(states, axis=1) / np.linalg.norm(wanted, axis=1)
        assert same.min() > 0.995  # bfloat16 arithmetic where the processor has it
    whole = embedder.encode(TEXTS)
    for vector, states in zip(whole, found, strict=True):
        assert states.mean(0) @ vector / np.linalg.norm(states.mean(0)) == pytest.approx(1.0, abs=1e-2)


def test_scores_follow_meaning_and_take_the_best_known_answer() -> None:
    def said(text: str) -> Answer:
        return Answer(text=text, answer=text, model="m")

    one = Question(id="q", question="When?", answer="before noon", aliases=("within two weeks",))
    none = Question(id="r", question="Who?", answer=None)
    answers = [said("within two weeks"), said("in the next fourteen days"), said("blue paint"), said(""), said("no")]
    scores = semantic_scores(answers, [one, one, one, one, none])
    for name in SEMANTIC:
        exact, near, far, empty, without = scores[name]
        assert exact == pytest.approx(1.0, abs=1e-3) and without is None and empty == 0.0
        assert near is not None and far is not None and exact > near > far


def test_it_is_scored_only_where_it_is_asked_for(tmp_path: Path) -> None:
    answer, question = Answer(text="a", answer="a", model="m"), Question(id="q", question="?", answer="a")
    assert score_system("base", [answer], [question])["bert_score"].values == (None,)
    assert score_system("base", [answer], [question], semantic=True)["bert_score"].values[0] == pytest.approx(
        1, abs=1e-3
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: x\ncollect: {sources: [docs]}\nevaluate: {gates: [{metric: bert_score}]}\n")
    with pytest.raises(RecipeError, match=r"evaluate\.semantic"):
        load_recipe(recipe)
    assert load_recipe(recipe, ["evaluate.semantic=true"]).evaluate.semantic
