import json
from pathlib import Path

import pytest
from tiny_models import make_tiny_pair_classifier, pickled

from fieldwise.errors import ModelError
from fieldwise.retrieve.cross_encoder import CrossEncoderReranker
from fieldwise.retrieve.rerank import open_reranker
from fieldwise.retrieve.settings import RetrieveSettings

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
WORDS = "grey tag pump wall order paint what does mean a"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with one logit, saved as sentence-transformers saves its cross-encoders."""
    return make_tiny_pair_classifier(tmp_path_factory.mktemp("cross-encoder"), WORDS, ("score",))


PAIRS = [("grey tag", "a pump"), ("grey tag", "what does a grey tag mean"), ("pump", "wall " * 60)]


def test_scores_are_the_logits_of_the_model(folder: Path) -> None:
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    expected = []
    for query, text in PAIRS:
        with torch.no_grad():
            batch = tokenizer(query, text, truncation="longest_first", max_length=32, return_tensors="pt")
            expected.append(float(model(**batch).logits[0, 0]))
    assert CrossEncoderReranker(folder).predict(PAIRS) == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 4) for score in expected}) == 3


def test_scores_equal_those_of_sentence_transformers(folder: Path) -> None:
    package = pytest.importorskip("sentence_transformers")
    raw = package.CrossEncoder(str(folder), activation_fn=torch.nn.Identity(), max_length=32).predict(PAIRS)
    assert CrossEncoderReranker(folder).predict(PAIRS) == pytest.approx([float(s) for s in raw], abs=1e-4)


def test_a_score_does_not_depend_on_its_company(folder: Path) -> None:
    reranker = CrossEncoderReranker(folder)
    together = reranker.predict(PAIRS * 7)
    assert together == pytest.approx([reranker.predict([pair])[0] for pair in PAIRS] * 7, abs=1e-5)
    assert reranker.predict([]) == []


def test_a_recipe_names_its_folder(folder: Path) -> None:
    settings = RetrieveSettings(embedding="none", rerank="cross-encoder", rerank_model=str(folder))
    reranker = open_reranker(settings, None)
    assert reranker is not None and reranker.rerank("grey", ["a tag", "a pump"], 1)[0].document in ("a tag", "a pump")
    assert "config.json" in json.dumps(settings.keyed())


def test_a_model_without_a_head_is_refused(folder: Path, tmp_path: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(folder)
    transformers.BertModel(config).save_pretrained(tmp_path)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        if (folder / name).exists():
            (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ModelError, match=r"no trained head.*classifier"):
        CrossEncoderReranker(tmp_path)


def test_a_place_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no cross-encoder here"):
        CrossEncoderReranker(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be read"):
        CrossEncoderReranker(tmp_path)


def test_weights_that_are_pickles_are_never_opened(tmp_path: Path) -> None:
    folder = pickled(make_tiny_pair_classifier(tmp_path, WORDS, ("score",)))
    with pytest.raises(ModelError, match=r"cannot be read.*safetensors"):
        CrossEncoderReranker(folder)
