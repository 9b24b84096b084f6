"""Claims held against the passages they cite by a model of natural language inference."""

from pathlib import Path

import pytest
from tiny_models import make_tiny_pair_classifier, pickled

from fieldwise.errors import ModelError
from fieldwise.evaluate import entailment
from fieldwise.evaluate.entailment import EntailmentModel, entailed_shares
from fieldwise.evaluate.report import score_system
from fieldwise.evaluate.settings import EvaluateSettings
from fieldwise.recipe import load_recipe, missing_places
from fieldwise.records import NOT_STATED, Answer, Chunk, Question, RetrievedPassage

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
WORDS = "ward pump wall order paint closes at nine grey a the ."
PAIRS = [("the ward closes at nine .", "the ward closes"), ("grey paint", "a pump"), ("wall " * 60, "a wall")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_pair_classifier(tmp_path_factory.mktemp("nli"), WORDS, ("contradiction", "ENTAILMENT", "neutral"))


def test_probabilities_are_those_of_the_label_whatever_its_place_and_case(folder: Path) -> None:
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    expected = []
    for premise, hypothesis in PAIRS:
        with torch.no_grad():
            batch = tokenizer(premise, hypothesis, truncation="longest_first", max_length=32, return_tensors="pt")
            expected.append(float(model(**batch).logits[0].softmax(0)[1]))
    assert EntailmentModel(folder).probabilities(PAIRS) == pytest.approx(expected, abs=1e-5)
    assert len({round(p, 4) for p in expected}) == 3
    assert EntailmentModel(folder).probabilities([]) == []


def passages(*texts: str) -> tuple[RetrievedPassage, ...]:
    return tuple(
        RetrievedPassage(
            chunk=Chunk(id=str(n), document_id="d", uri="d", title="d", start=0, end=len(t), text=t), score=1.0
        )
        for n, t in enumerate(texts)
    )


def said(text: str, *, is_declined: bool = False) -> Answer:
    return Answer(text=text, answer=text, model="m", passages=passages("w", "k"), is_declined=is_declined)


class Told:
    """Says 0.9 of the pairs it was given, 0.4 of others."""

    def __init__(self, *entailed: tuple[str, str]) -> None:
        self.entailed, self.asked = entailed, list[tuple[str, str]]()

    def probabilities(self, pairs: list[tuple[str, str]]) -> list[float]:
        self.asked += pairs
        return [0.9 if pair in self.entailed else 0.4 for pair in pairs]


def test_the_score_is_the_share_of_claims_that_one_of_their_passages_entails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Told(("k", "It closes at nine."), ("w", "It is grey."))
    monkeypatch.setattr(entailment, "opened", lambda folder: model)
    answers = [
        said("It closes at nine. [1][2] It is grey. [2]"),  # the second stands in the passage it does not cite
        said("It is grey. [1]"),
        said("It is grey."),  # cites nothing
        said(NOT_STATED, is_declined=True),
        said(""),
    ]
    assert entailed_shares(answers, "folder") == (0.5, 1.0, 0.0, None, 0.0)
    assert len(model.asked) == len(set(model.asked))


def test_it_is_measured_where_a_model_is_named(folder: Path) -> None:
    question = Question(id="q", question="When?", answer="at nine")
    answer = said("The ward closes at nine. [1]")
    assert score_system("base", [answer], [question])["claims_entailed"].values == (None,)
    assert score_system("base", [answer], [question], nli=str(folder))["claims_entailed"].values[0] in (0.0, 1.0)


def test_other_models_and_pickles_are_refused(tmp_path: Path) -> None:
    mood = make_tiny_pair_classifier(tmp_path / "mood", WORDS, ("positive", "negative"))
    with pytest.raises(ModelError, match=r"not trained for.*labels positive, negative, none of them entailment"):
        EntailmentModel(mood)
    pickles = pickled(make_tiny_pair_classifier(tmp_path / "pickles", WORDS, ("entailment", "not_entailment")))
    with pytest.raises(ModelError, match=r"evaluate\.nli.*cannot be read.*safetensors"):
        EntailmentModel(pickles)
    with pytest.raises(ModelError, match="there is no model of natural language inference here"):
        EntailmentModel(tmp_path / "none")


def test_its_content_is_part_of_the_key_and_its_place_is_not(folder: Path, tmp_path: Path) -> None:
    assert "nli" not in EvaluateSettings().keyed()
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in folder.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    one, two = (EvaluateSettings(nli=str(place)).keyed() for place in (folder, moved))
    assert one == two and "model.safetensors" in str(one["nli"])


def test_a_recipe_names_the_folder_and_a_gate_on_it_needs_one(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    gate = "gates: [{metric: claims_entailed, baseline: null, at_least: 0.5}]"
    path.write_text(f"collect: {{sources: [{tmp_path}]}}\nevaluate: {{nli: models/nli, {gate}}}\n")
    recipe = load_recipe(path)
    assert recipe.evaluate.nli == str(tmp_path / "models/nli")
    assert [p.where for p in missing_places(recipe)] == ["evaluate.nli"]
    path.write_text(f"collect: {{sources: [{tmp_path}]}}\nevaluate: {{{gate}}}\n")
    with pytest.raises(Exception, match=r"not measured.*evaluate\.nli"):
        load_recipe(path)
