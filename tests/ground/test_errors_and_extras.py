import pytest

from fieldwise.errors import FieldwiseError, GateFailed, MissingExtra, RecipeError
from fieldwise.extras import require


def test_a_message_has_its_four_parts_in_order() -> None:
    error = FieldwiseError("expected a positive whole number", where="train.sft.lora.rank", found=0, fix="Try 8 or 16.")
    assert str(error) == "train.sft.lora.rank: expected a positive whole number, found 0. Try 8 or 16."


def test_a_recipe_error_lists_every_problem() -> None:
    text = str(RecipeError([FieldwiseError("one"), FieldwiseError("two")], where="recipe.yaml"))
    assert text.splitlines() == ["recipe.yaml: 2 problems in the recipe.", "  one.", "  two."]


@pytest.mark.parametrize(("error", "code"), [(FieldwiseError("x"), 2), (GateFailed("x"), 3)])
def test_exit_codes(error: FieldwiseError, code: int) -> None:
    assert error.exit_code == code


def test_a_missing_library_names_the_extra_to_install() -> None:
    with pytest.raises(
        MissingExtra, match=r"needed to read tea leaves\. Install it with: pip install 'fieldwise\[tea\]'"
    ):
        require("no_such_library_anywhere", extra="tea", to="read tea leaves")


def test_a_fault_inside_an_installed_library_is_not_hidden(tmp_path, monkeypatch) -> None:
    (tmp_path / "broken_library.py").write_text("import something_it_needs")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="something_it_needs"):
        require("broken_library", extra="x", to="test")
