import shutil
from pathlib import Path

import pytest
from tiny_models import edit_json

from fieldwise.engine.base_weights import check_k_quants, resolve
from fieldwise.errors import ModelError


@pytest.fixture
def copied(weights: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    shutil.copytree(weights, folder)
    return folder


def test_a_folder_is_known_by_its_content_and_not_by_its_place(copied: Path, weights: Path) -> None:
    assert resolve(str(copied)).sha256 == resolve(str(weights)).sha256
    edit_json(copied / "config.json", rope_theta=12345.0)
    assert resolve(str(copied)).sha256 != resolve(str(weights)).sha256


def test_a_missing_folder_is_named_with_what_could_stand_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not there") as caught:
        resolve(str(tmp_path / "nowhere"))
    assert "fieldwise-nano" in str(caught.value) and "nowhere" in str(caught.value)


def test_a_hub_id_without_a_network_says_what_to_do() -> None:
    with pytest.raises(ModelError, match="could not be fetched") as caught:
        resolve("someone/some-model")
    assert "someone/some-model" in str(caught.value) and "name its folder" in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(ModelError, match=f"lacks {name}"):
        resolve(str(copied))


def test_pickled_weights_are_refused(copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no safetensors") as caught:
        resolve(str(copied))
    assert "pytorch_model.bin" in str(caught.value) and "Convert" in str(caught.value)


def test_weights_without_a_chat_template_are_refused(copied: Path) -> None:
    (copied / "chat_template.jinja").unlink(missing_ok=True)
    edit_json(copied / "tokenizer_config.json", chat_template=None)
    with pytest.raises(ModelError, match="no chat template") as caught:
        resolve(str(copied))
    assert "chat_template.jinja" in str(caught.value)


@pytest.mark.parametrize(
    ("template", "named", "said"),
    [
        (b"\xff\xfe{{", None, "not UTF-8"),
        (b"", None, "no chat template"),
        (None, ["{{ messages }}"], "no chat template"),
        (None, "", "no chat template"),
    ],
)
def test_a_chat_template_that_is_none_is_refused(
    copied: Path, template: bytes | None, named: object, said: str
) -> None:
    (copied / "chat_template.jinja").unlink(missing_ok=True)
    if template is not None:
        (copied / "chat_template.jinja").write_bytes(template)
    edit_json(copied / "tokenizer_config.json", chat_template=named)
    with pytest.raises(ModelError, match=said):
        resolve(str(copied))


def test_a_config_that_is_cut_off_is_refused(copied: Path) -> None:
    path = copied / "config.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(ModelError, match="not valid JSON"):
        resolve(str(copied))


def test_a_size_that_is_not_installed_is_refused_with_those_that_are() -> None:
    with pytest.raises(ModelError, match=r"nano-900b.*not installed") as caught:
        resolve("fieldwise-nano/nano-900b")
    assert "Installed: nano-" in str(caught.value)


def test_dimensions_that_do_not_allow_k_quants_are_named(copied: Path, weights: Path) -> None:
    assert check_k_quants(weights) is None
    edit_json(copied / "config.json", hidden_size=288, intermediate_size=700)
    assert "hidden_size 288" in str(check_k_quants(copied)) and "intermediate_size 700" in str(check_k_quants(copied))
