import subprocess
import sys
from pathlib import Path

import pytest

from fieldwise.errors import FieldwiseError, RecipeError
from fieldwise.recipe import Recipe, load_recipe, save_recipe


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_all_problems_are_told_together_with_line_and_key(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "name: x\ntrian: {a: 1}\nprepare:\n  chunk: {min_token: 5, max_tokens: big}\ngenerate:\n  split: {train: 0.9, validation: 0.2, test: 0.1}\n",
    )
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, ["serve.prot=3", "seed=-1", "nonsense"])
    text = str(caught.value)
    for expected in (
        ":2: trian: unknown key. Did you mean train?",
        ":4: prepare.chunk.min_token: unknown key. Did you mean prepare.chunk.min_tokens?",
        "command line: serve.prot: unknown key. Did you mean serve.port?",
        ":4: prepare.chunk.max_tokens: expected a whole number, found 'big'. The default is 220.",
        ":6: generate.split: shares must add up to 1",
        "command line: seed: must be greater than or equal to 0, found -1",
        "an override is written key=value",
    ):
        assert expected in text
    assert len(caught.value.problems) == 7


def test_a_key_in_the_wrong_section_is_shown_its_place(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"Did you mean train\.pretrain\.epochs, train\.sft\.epochs(, [\w.]+)? or [\w.]+\?"
    ):
        load_recipe(write(tmp_path, "epochs: 3\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prepare: {chunk: {min_tokens: 300}}", "prepare.chunk: sizes must rise: min_tokens 300 < target_tokens 150"),
        ("release: {serve: q2_k}", "release.serve: the file to serve is not among release.quantisations, found q2_k"),
        (
            "evaluate: {gates: [{metric: f1}]}",
            "evaluate.gates.0.metric: unknown metric, found f1. There are: exact_match",
        ),
        ("evaluate: {systems: [base]}", "evaluate.gates.0.system: the gate needs a system that is not measured"),
        ("evaluate: {gates: [{metric: token_f1, baseline: null}]}", "evaluate.gates.0: the gate requires nothing"),
        ("evaluate: {gates: [{metric: token_f1, system: base}]}", "a system cannot be its own baseline, found base"),
        ("generate: {split: {validation: 0.2, test: 0}}", "generate.split.test: nothing is left to measure on"),
        ("retrieve: {candidates: 2}", "retrieve.candidates: fewer candidates than the 3 passages of retrieve.top_k"),
        ("base: {revision: main}", "base.revision: only a Hugging Face id has revisions, found fieldwise-nano"),
    ],
)
def test_a_contradiction_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=r"recipe\.yaml:1: ") as caught:
        load_recipe(write(tmp_path, text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not valid YAML"),
        ("- 1\n", "expected a mapping"),
        ("name: [x]\n", "name: expected text"),
        ("name: 2026-01-01\n", "name: expected text, found datetime.* Put it in quotes"),
        ("name: ''\n", "must have at least 1 character"),
        ("seed: yes\n", "seed: expected a number, found true. The default is 42"),
        ("train: {sft: {epochs: .inf}}\n", "train.sft.epochs: must be a finite number"),
        ("seed: 4294967296\n", "seed: must be less than 4294967296"),
        ("serve:\n", "serve: expected a section of keys, found nothing"),
        ("release: {quantisations: [q8]}\n", "release.quantisations.0: must be .* Did you mean q8_0"),
        ("collect: {sources: docs}\n", r"collect.sources: expected a list, found 'docs'. Write it as \[a, b\]"),
        ("seed: 1\nseed: 2\n", "recipe.yaml:2: seed: the key stands twice, found it first at .*recipe.yaml:1"),
        ("name: 2026-13-45\n", "a value cannot be read, found month must be in 1..12"),
        ("name: &a [*a]\n", "brackets or anchors without end"),
        ("a: " + "[" * 3000, "brackets or anchors without end"),
        ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}]\n" for n in range(1, 12)), "too large"),
    ],
)
def test_a_file_that_is_no_recipe_is_told_so(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FieldwiseError, match=message):
        load_recipe(write(tmp_path, text))


def test_a_missing_recipe_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FieldwiseError, match="fieldwise init"):
        load_recipe(tmp_path / "none.yaml")


def test_yaml_that_would_run_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FieldwiseError, match="not valid YAML"):
        load_recipe(write(tmp_path, "name: !!python/object/apply:os.system ['true']\n"))


def test_overrides_replace_values_and_are_typed(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path, "train: {sft: {epochs: 5}}\n"),
        ["train.sft.epochs=2", "release.quantisations=[q8_0]", "evaluate.gates=[]"],
    )
    assert (recipe.train.sft.epochs, recipe.release.quantisations, recipe.evaluate.gates) == (2.0, ("q8_0",), ())


@pytest.mark.parametrize("text", ["", "evaluate: {gates: [{metric: token_f1}, {metric: token_f1}]}\n"])
def test_one_entry_of_a_list_can_be_overridden(tmp_path: Path, text: str) -> None:
    gates = load_recipe(write(tmp_path, text), ["evaluate.gates.1.metric=rouge_l"]).evaluate.gates
    assert (gates[0].metric, gates[1].metric) == ("token_f1", "rouge_l")
    with pytest.raises(RecipeError, match=r"evaluate\.gates has no such entry, found a list of \d\. Count from 0"):
        load_recipe(write(tmp_path, text), ["evaluate.gates.9.metric=rouge_l"])


def test_an_override_of_what_an_anchor_shares_leaves_the_other_place_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {sft: {lora: &l {rank: 4}}, preference: {lora: *l}}\n")
    train = load_recipe(path, ["train.sft.lora.rank=8"]).train
    assert (train.sft.lora.rank, train.preference.lora.rank) == (8, 4)


def test_an_override_below_a_value_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"command line: seed\.x: seed has no such entry, found 3"):
        load_recipe(write(tmp_path, "seed: 3\n"), ["seed.x=1"])


def test_a_text_with_a_colon_is_text() -> None:
    assert load_recipe(None, ["release.override=Dr. Osei: pilot only"]).release.override == "Dr. Osei: pilot only"


def test_places_count_from_where_the_recipe_stands(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path, "collect: {sources: [docs]}\nevaluate: {questions: q.jsonl}\nbase: {model: ./weights}\n")
    )
    assert recipe.collect.sources == (str(tmp_path / "docs"),)
    assert recipe.evaluate.questions == str(tmp_path / "q.jsonl")
    assert recipe.base.model == str((tmp_path / "weights").resolve())


def test_a_folder_of_weights_beside_the_recipe_needs_no_dot(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "fieldwise-nano").mkdir()
    assert load_recipe(write(tmp_path, "base: {model: weights}")).base.model == str((tmp_path / "weights").resolve())
    assert load_recipe(write(tmp_path, "base: {model: fieldwise-nano}")).base.model == "fieldwise-nano"
    assert load_recipe(write(tmp_path, "base: {model: org/name}")).base.model == "org/name"


def test_places_of_overrides_count_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    path = write(tmp_path / "run", "collect: {sources: [docs]}\n")
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(path, ["evaluate.questions=q.jsonl", "base.model=./weights"])
    assert recipe.evaluate.questions == str(tmp_path / "q.jsonl")
    assert recipe.base.model == str((tmp_path / "weights").resolve())
    assert recipe.collect.sources == (str(tmp_path / "run/docs"),)


def test_the_resolved_recipe_can_be_read_again(tmp_path: Path) -> None:
    recipe = load_recipe(None, ["name=again"])
    save_recipe(recipe, tmp_path / "r.yaml")
    assert load_recipe(tmp_path / "r.yaml") == recipe
    assert load_recipe(tmp_path / "r.yaml").hash() == recipe.hash()


def test_the_recipe_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().seed = 1


@pytest.mark.parametrize("path", sorted(Path("recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_recipe_is_valid(path: Path) -> None:
    assert load_recipe(path).name


def test_the_generated_pages_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, "docs/build.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
