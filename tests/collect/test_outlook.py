"""Outlook messages, written here as the compound files they are."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from collect_files import collect

from fieldwise.collect.outlook import read_outlook
from fieldwise.errors import DocumentError
from fieldwise.records import Document, Source

SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
NONE, END = 0xFFFFFFFF, 0xFFFFFFFE
SECTOR, MINI, CUTOFF = 512, 64, 4096
Tree = dict[str, "bytes | Tree"]


def sectors(content: bytes, size: int) -> list[bytes]:
    return [content[n : n + size].ljust(size, b"\0") for n in range(0, len(content), size)]


def chained(table: list[int], count: int) -> int:
    """Add a chain of so many sectors to a table; returns the first."""
    first = len(table)
    table += [*range(first + 1, first + count), END]
    return first


def compound(tree: Tree) -> bytes:
    """A compound file of these storages and streams; what is small lies in the stream of small ones."""
    fat: list[int] = [NONE]  # sector 0 is the table itself
    body, small, mini_fat = list[bytes](), list[bytes](), list[int]()
    entries: list[list[object]] = [["Root Entry", 5, NONE, NONE, END, 0]]

    def add(inside: Tree, parent: int) -> None:
        numbers = []
        for name, held in inside.items():
            entries.append([name, 1 if isinstance(held, dict) else 2, NONE, NONE, END, 0])
            numbers.append(len(entries) - 1)
            if isinstance(held, dict):
                add(held, len(entries) - 1)
                continue
            entries[numbers[-1]][5] = len(held)
            if held and len(held) < CUTOFF:
                small.extend(parts := sectors(held, MINI))
                entries[numbers[-1]][4] = chained(mini_fat, len(parts))
            elif held:
                body.extend(parts := sectors(held, SECTOR))
                entries[numbers[-1]][4] = chained(fat, len(parts))
        for number, following in pairwise(numbers):
            entries[number][2] = following
        entries[parent][3] = numbers[0] if numbers else NONE

    add(tree, 0)
    places = {}
    entries[0][5] = len(small) * MINI
    for name in ("small", "mini_fat", "directory"):
        if name == "small":
            content = b"".join(small)
        elif name == "mini_fat":
            content = struct.pack(f"<{len(mini_fat)}I", *mini_fat)
        else:
            entries[0][4] = places["small"]
            content = b"".join(entry_bytes(*entry) for entry in entries)  # type: ignore[arg-type]
        parts = sectors(content, SECTOR)
        places[name] = chained(fat, len(parts)) if parts else END
        body.extend(parts)
    fat[0] = 0xFFFFFFFD
    assert len(fat) <= SECTOR // 4
    table = struct.pack(f"<{SECTOR // 4}I", *fat, *[NONE] * (SECTOR // 4 - len(fat)))
    numbers = (0, 1, places["directory"], 0, CUTOFF, places["mini_fat"], 1, END, 0, 0, *[NONE] * 108)
    header = SIGNATURE + bytes(16) + struct.pack("<HHHHH6x", 62, 3, 0xFFFE, 9, 6) + struct.pack("<118I", *numbers)
    return header + table + b"".join(body)


def entry_bytes(name: str, kind: int, right: int, child: int, start: int, size: int) -> bytes:
    wide = name.encode("utf-16-le")
    return struct.pack("<64sHBBIII36xIQ", wide, len(wide) + 2, kind, 1, NONE, right, child, start, size)


def message(texts: dict[str, str | bytes], fixed: dict[int, bytes] | None = None, **storages: Tree) -> bytes:
    """A message of these properties, by their numbers."""
    streams: Tree = {"__nameid_version1.0": {}}
    for number, value in texts.items():
        kind = "001F" if isinstance(value, str) else "0102" if number in ("1013", "1009") else "001E"
        streams[f"__substg1.0_{number}{kind}"] = value.encode("utf-16-le") if isinstance(value, str) else value
    rows = b"".join(struct.pack("<HHI", 3, number, 6) + value for number, value in (fixed or {}).items())
    streams["__properties_version1.0"] = bytes(32) + rows
    return compound({**streams, **storages})


def read(folder: Path, content: bytes) -> Document:
    (folder / "a.msg").write_bytes(content)
    return read_outlook(folder / "a.msg", Source(uri="a.msg"))


SENT = struct.pack("<Q", int((datetime(2026, 5, 20, 10, 30, tzinfo=UTC) - datetime(1601, 1, 1, tzinfo=UTC)).total_seconds()) * 10_000_000)  # fmt: skip
FIELDS: dict[str, str | bytes] = {"0037": "Parking", "0C1A": "Jo Finch", "0C1F": "jo@example.org", "0E04": "All wards", "1000": "The car park is closed.\r\n\r\nUse the lane."}  # fmt: skip


def test_a_message_has_its_fields_text_and_attachments_named(tmp_path: Path) -> None:
    plan: Tree = {
        "__substg1.0_3707001F": "plan of the site.pdf".encode("utf-16-le"),
        "__properties_version1.0": bytes(8),
    }
    short: Tree = {"__substg1.0_3704001E": b"ROTA.XLS"}
    document = read(tmp_path, message(FIELDS, {0x39: SENT}, **{"__attach_version1.0_#00000000": plan, "__attach_version1.0_#00000001": short}))  # fmt: skip
    assert document.title == "Parking"
    assert document.text == (
        "Parking\n\nFrom: Jo Finch <jo@example.org>\nTo: All wards\nDate: Wed, 20 May 2026 10:30:00 +0000\n\n"
        "The car park is closed.\n\nUse the lane."
    )
    assert document.notes == ("attachment left out: plan of the site.pdf", "attachment left out: ROTA.XLS")


def test_a_long_text_and_one_of_a_code_page_are_read_whole(tmp_path: Path) -> None:
    long = "\n\n".join(f"Rule {n}: the gate is locked at nine." for n in range(150))
    assert len(long) * 2 > CUTOFF
    assert read(tmp_path, message({**FIELDS, "1000": long})).text.endswith(long)
    old = {"0037": "Größe".encode("cp1252"), "1000": "Тихий час".encode("cp1251")}
    assert read(tmp_path, message(old, {0x3FFD: struct.pack("<II", 1251, 0)})).text.endswith("Тихий час")


def test_a_message_of_a_page_alone_is_read_as_one_and_one_of_rtf_alone_is_noted(tmp_path: Path) -> None:
    page = b"<html><body><p>Ring twice at the door.</p><ul><li>Wait</li></ul></body></html>"
    assert read(tmp_path, message({"0037": "Doors", "1013": page})).text == "Doors\n\nRing twice at the door.\n\n- Wait"
    document = read(tmp_path, message({"0037": "Doors", "1009": b"packed"}))
    assert (document.text, document.notes) == ("Doors", ("its text is in RTF alone and is left out",))


def test_messages_are_told_by_their_content_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    whole = message(FIELDS, {0x39: SENT})
    (folder / "a.msg").write_bytes(whole)
    (folder / "b").write_bytes(bytes(whole))
    (folder / "cut.msg").write_bytes(whole[: len(whole) - 700])
    (folder / "other.msg").write_bytes(compound({"WordDocument": b"x"}))
    result = collect(tmp_path / "run", folder)
    assert set(result.documents) == {"a.msg", "b"}
    assert {d.source.media_type for d in result.documents.values()} == {"application/vnd.ms-outlook"}
    assert set(result.reasons) == {"cut.msg", "other.msg"}
    assert result.reasons["other.msg"] == "mislabelled"


@pytest.mark.timeout(60)
def test_no_damage_ends_in_anything_but_a_document_or_a_refusal(tmp_path: Path) -> None:
    whole = message(FIELDS, {0x39: SENT})
    for at in [*range(0x1C, 0x60), *range(SECTOR, SECTOR + 60), *range(len(whole) - SECTOR * 3, len(whole), 5)]:
        for value in (b"\0", b"\1", b"\xff"):
            try:
                read(tmp_path, whole[:at] + value + whole[at + 1 :])
            except DocumentError as error:
                assert error.reason == "broken"


def test_a_chain_in_a_circle_ends_with_the_length_of_the_stream(tmp_path: Path) -> None:
    words = "words " * 2000
    whole = bytearray(message({**FIELDS, "1000": words}))
    table = list(struct.unpack_from(f"<{SECTOR // 4}I", whole, SECTOR))
    table[2] = 1
    struct.pack_into(f"<{SECTOR // 4}I", whole, SECTOR, *table)
    assert 0 < len(read(tmp_path, bytes(whole)).text) < len(words) + 200
