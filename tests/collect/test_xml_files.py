"""XML files by a declared mapping of their elements."""

from __future__ import annotations

from pathlib import Path

import pytest
from collect_files import Collected, collect
from pydantic import ValidationError

from fieldwise.collect.settings import CollectSettings, XmlSettings
from fieldwise.collect.xml_text import read_xml
from fieldwise.errors import DocumentError
from fieldwise.records import Document, Source

ROLES = {
    "book": "title", "part": "section", "num": "label", "heading": "heading", "text": "paragraph", "li": "item",
    "grid": "table", "line": "row", "field": "cell", "note": "skip",
}  # fmt: skip
STATUTE = """<?xml version="1.0"?>
<law xmlns="http://house.example/ns">
  <book>Wards</book>
  <part><num>7</num><heading>Visits</heading>
    <part><num>7-1</num><heading>Hours</heading>
      <text>Doors open at <b>nine</b>
        and close<note>as amended</note> at ten.</text>
      <li>Ring twice.</li><li>Wait.</li>
      <grid><line><field>Day</field><field>Hour</field></line><line><field>Mon</field><field>9 <note>x</note></field></line></grid>
    </part>
    <part><num>7-2</num><text>Children come with a parent.</text></part>
  </part>
  Loose words stand too.
  <note><text>Nothing of this.</text></note><!-- nor this -->
</law>"""


def read(tmp_path: Path, text: str | bytes, roles: dict[str, str] = ROLES) -> Document:
    path = tmp_path / "a.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_xml(path, Source(uri="a.xml"), roles)


def test_elements_become_what_the_recipe_says_they_are(tmp_path: Path) -> None:
    document = read(tmp_path, STATUTE)
    assert document.title == "Wards"
    assert [(h.level, h.text) for h in document.headings] == [(1, "Wards"), (2, "7 Visits"), (3, "7-1 Hours")]
    assert [document.text[h.start : h.end] for h in document.headings] == [h.text for h in document.headings]
    (table,) = document.tables
    assert document.text[table.start : table.end].split() == "| Day | Hour | | --- | --- | | Mon | 9 |".split()
    without_table = document.text[: table.start] + document.text[table.end :]
    assert without_table.split("\n\n") == [
        "Wards", "7 Visits", "7-1 Hours", "Doors open at nine and close at ten.", "- Ring twice.\n- Wait.", "",
        "7-2 Children come with a parent.", "Loose words stand too.",
    ]  # fmt: skip


def test_elements_without_a_role_are_looked_through_and_lose_no_word(tmp_path: Path) -> None:
    assert read(tmp_path, "<a>one <b>two</b> three<c/> four</a>", {}).text == "one two three four"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_declared_entities_are_refused_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    laughs = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, laughs.encode(encoding))
    assert caught.value.reason == "xml_entities"


def test_a_damaged_file_is_broken(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, "<a><b></a>")
    assert caught.value.reason == "broken"


def test_a_role_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValidationError, match=r"elements\.num"):
        XmlSettings(elements={"num": "number"})


def test_files_are_read_in_the_process_that_reads_files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/law.xml").write_text(STATUTE)
    (tmp_path / "in/bad.xml").write_text("<?xml version='1.0'?><a><b></a>")
    (tmp_path / "in/memo.txt").write_text("Wards close at ten in the evening.")
    found: Collected = collect(tmp_path / "run", tmp_path / "in", xml=XmlSettings(elements=ROLES))
    assert [h.text for h in found.documents["law.xml"].headings] == ["Wards", "7 Visits", "7-1 Hours"]
    assert found.provenance["law.xml"]["reader"] == "xml"
    assert found.reasons == {"bad.xml": "broken"}


def test_without_a_mapping_the_file_is_refused_and_the_cure_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/law.xml").write_text(STATUTE)
    (tmp_path / "in/memo.txt").write_text("Wards close at ten in the evening.")
    found = collect(tmp_path / "run", tmp_path / "in")
    assert found.reasons == {"law.xml": "unknown_type"}
    assert "collect.xml.elements" in found.rejected["law.xml"]["detail"]


def test_a_recipe_without_a_mapping_keeps_its_key() -> None:
    assert "xml" not in CollectSettings().keyed()
    assert CollectSettings(xml=XmlSettings(elements=ROLES)).keyed()["xml"] == {"elements": ROLES}
