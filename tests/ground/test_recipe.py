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
        "serve.prot: unknown key. Did you mean serve.port?",
        ":4: prepare.chunk.max_tokens: input should be a valid integer",
        ":6: generate.split: shares must add up to 1",
        "seed: input should be greater than or equal to 0, found -1",
        "an override is written key=value",
    ):
        assert expected in text
    assert len(caught.value.problems) == 7


def test_a_key_in_the_wrong_section_is_shown_its_place(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"Did you mean train\.sft\.epochs\?"):
        load_recipe(write(tmp_path, "epochs: 3\n"))


def test_a_contradiction_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="min_tokens 300 < target_tokens 150"):
        load_recipe(write(tmp_path, "prepare: {chunk: {min_tokens: 300}}\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not valid YAML"),
        ("- 1\n", "expected a mapping"),
        ("name: [x]\n", "name: input should be a valid string"),
        ("name: ''\n", "at least 1 character"),
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


def test_a_text_with_a_colon_is_text() -> None:
    assert load_recipe(None, ["release.override=Dr. Osei: pilot only"]).release.override == "Dr. Osei: pilot only"


def test_places_count_from_where_the_recipe_stands(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path, "collect: {sources: [docs]}\nevaluate: {questions: q.jsonl}\nbase: {model: ./weights}\n")
    )
    assert recipe.collect.sources == (str(tmp_path / "docs"),)
    assert recipe.evaluate.questions == str(tmp_path / "q.jsonl")
    assert recipe.base.model == str((tmp_path / "weights").resolve())


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
