import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from fieldwise.errors import DatasetError, RecipeError
from fieldwise.generate.settings import GenerateSettings
from fieldwise.generate.tools import read_tools
from fieldwise.recipe import load_recipe, missing_places


def recipe(folder: Path, kinds: str):
    path = folder / "recipe.yaml"
    path.write_text(f"generate:\n{kinds}")
    return path


def test_questions_and_answers_are_all_that_is_made_by_default() -> None:
    settings = GenerateSettings()
    assert settings.further_kinds == () and not settings.asks_for_kinds
    assert settings.for_questions is settings


def test_kinds_are_a_list_or_a_mapping_to_limits(tmp_path: Path) -> None:
    listed = load_recipe(recipe(tmp_path, "  kinds: [question_answer, multi_turn]\n")).generate
    assert listed.kinds == {"question_answer": None, "multi_turn": None}
    assert listed.for_questions.unanswerable_share == 0 and listed.for_questions.invented_share == 0
    mapped = load_recipe(recipe(tmp_path, "  kinds: {question_answer: null, summary: 0.2, multi_turn: 40}\n")).generate
    assert mapped.kinds == {"question_answer": None, "summary": 0.2, "multi_turn": 40}
    again = GenerateSettings.model_validate(mapped.model_dump(mode="json"))
    assert again == mapped and isinstance(again.kinds["multi_turn"], int)


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        ("[multiturn]", "Did you mean multi_turn?"),
        ("[summaries, question_answer]", "Did you mean summary?"),
        ("{summary: 1.5}", "expected a share such as 0.2"),
        ("{summary: 0}", "expected a share such as 0.2"),
        ("{summary: yes}", "expected a share"),
        ("[]", "names no kind"),
        ("[tool_call]", "needs generate.tools"),
        ("{summary: 0.7, extraction: 0.6}", "add up to more than 1"),
    ],
)
def test_a_mistake_is_told_with_what_to_write(tmp_path: Path, kinds: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        load_recipe(recipe(tmp_path, f"  kinds: {kinds}\n"))


def test_a_file_of_tools_counts_from_the_recipe_and_is_missed_before_any_work(tmp_path: Path) -> None:
    found = load_recipe(recipe(tmp_path, "  kinds: [question_answer, tool_call]\n  tools: tools.yaml\n"))
    assert found.generate.tools == str(tmp_path / "tools.yaml")
    assert any("generate.tools" in str(p) for p in missing_places(found))
    assert "tools" not in found.generate.keyed()


def test_tools_are_read_with_or_without_function_around_them(tmp_path: Path) -> None:
    path = tmp_path / "tools.yaml"
    path.write_text("- {name: find_case, description: Finds judgments of a party.}\n- {type: function, function: {name: wait}}\n")  # fmt: skip
    first, second = read_tools(path)
    assert (first.name, first.task, second.task) == ("find_case", "Find judgments of a party", "Wait")
    assert first.declaration["type"] == "function"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "neither JSON nor YAML"),
        ("[]", "declares no tools"),
        ("- {description: x}", "needs a name"),
        ("- {name: a b}", "letters, digits"),
        ("- {name: a}\n- {name: a}", "one name"),
        ("- {name: a, parameters: {type: 5}}", "no JSON schema"),
        ("- {name: a, parameters: {type: array}}", "no object"),
        (json.dumps([{"name": "a", "parameters": {"type": "object", "properties": {"x": {"$ref": "#/y"}}}}]), "point elsewhere"),
    ],
)  # fmt: skip
def test_tools_whose_calls_could_not_be_checked_are_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "tools.yaml"
    path.write_text(text)
    with pytest.raises(DatasetError, match=told):
        read_tools(path)


def test_a_limit_is_no_truth() -> None:
    with pytest.raises(ValidationError):
        GenerateSettings.model_validate({"kinds": {"summary": True}})
