from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from fieldwise.engine import llama_library
from fieldwise.engine.llama_library import Batch, ContextParams, ModelParams, load, take_log, written_bytes
from fieldwise.engine.llama_model import LlamaModel
from fieldwise.errors import MissingExtra, ModelError


def test_the_library_answers_with_the_versions_it_is_bound_for() -> None:
    library = load()
    assert library.llama_version() == b"0.6.0-dev"
    assert library.ggml_version() == b"0.26.0"


def test_the_structures_have_the_sizes_of_this_version() -> None:
    assert [ctypes.sizeof(kind) for kind in (ModelParams, ContextParams, Batch)] == [80, 168, 56]


def test_every_byte_the_library_writes_belongs_to_a_field() -> None:
    written = written_bytes(load().llama_context_default_params)
    assert max(written) == ctypes.sizeof(ContextParams) - 1
    assert len(written) == ctypes.sizeof(ContextParams) - 2  # two bytes fill up the six flags


def test_a_missing_field_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Older(ctypes.Structure):
        _fields_ = tuple(field for field in ContextParams._fields_ if field[0] != "moe_cache")

    monkeypatch.setattr(llama_library, "ContextParams", Older)
    with pytest.raises(ModelError, match="another layout"):
        llama_library._check_layout(load())


def test_other_defaults_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(llama_library._DEFAULTS, "llama_context_default_params", {"n_ctx": 513})
    with pytest.raises(ModelError, match=r"n_ctx.*512"):
        llama_library._check_defaults(load())


def test_another_version_of_the_package_is_refused_with_the_command_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_library, "installed_version", lambda _: "2027.1.1")
    with pytest.raises(ModelError, match=r"found 2027.1.1.*pip install xllamacpp==2026.10.11549"):
        llama_library._find()


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_library, "installed_version", lambda _: None)
    with pytest.raises(MissingExtra, match=r"fieldwise\[gguf\]"):
        llama_library._find()


def test_a_library_without_the_functions_is_refused() -> None:
    with pytest.raises(ModelError, match="does not export"):
        llama_library._bind(ctypes.CDLL(None))


def test_a_damaged_quantiser_is_found_out() -> None:
    library = load()

    class Damaged:
        def __getattr__(self, name: str) -> object:
            return (lambda *_: 33) if name == "ggml_quantize_chunk" else getattr(library, name)

    with pytest.raises(ModelError, match="quantiser"):
        llama_library.self_test(Damaged())  # type: ignore[arg-type]


def test_llama_cpp_writes_nothing_to_the_terminal(gguf_file: Path, tmp_path: Path) -> None:
    program = f"from pathlib import Path; from fieldwise.engine.llama_cpp import LlamaCppEngine; LlamaCppEngine(Path({str(gguf_file)!r}), threads=1).close()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_the_last_error_lines_are_kept_for_messages(tmp_path: Path, gguf_file: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf_file.read_bytes()[:-5000])
    with pytest.raises(ModelError, match=r"not within the file bounds|corrupted or incomplete"):
        LlamaModel(cut)
    assert take_log() == ""


@pytest.mark.parametrize("keep", [8, 100, 3000, 20000])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, gguf_file: Path, keep: int) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(gguf_file.read_bytes()[:keep])
    with pytest.raises(ModelError, match="cannot be loaded"):
        LlamaModel(cut)


def test_what_is_no_gguf_file_is_refused_before_llama_cpp_sees_it(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"PK\x03\x04 a zip")
    with pytest.raises(ModelError, match="not a GGUF file"):
        LlamaModel(tmp_path / "a.gguf")
    with pytest.raises(ModelError, match="not there"):
        LlamaModel(tmp_path / "none.gguf")
