"""Files that are zip archives inside: checked before anything is unpacked, then read member by member."""

from __future__ import annotations

import lzma
import posixpath
import re
import struct
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from fieldwise.errors import DocumentError
from fieldwise.extras import require

_MAX_MEMBERS = 20_000
MAX_RATIO = 200
"""Times its size that a file may unpack to."""
_RATIO_FROM_BYTES = 8_000_000  # a small file that packs well is no bomb
_BLOCK_BYTES = 1 << 18
_XML_ENDINGS = (".xml", ".rels", ".vml", ".opf", ".ncx", ".xhtml")
_DECLARATIONS = ("<!DOCTYPE", "<!ENTITY")
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
)
"""What reading a damaged archive may raise."""
_DRIVE = re.compile(r"[A-Za-z]:")


def check_archive(path: Path, max_unpacked_mb: float, *, allow_doctype: bool = False) -> None:
    """Refuse archives that would harm whoever unpacks them.

    Raises DocumentError with reason `zip_bomb`, `path_traversal`, `xml_entities`, `encrypted` or `broken`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_sizes(members, path.stat().st_size, max_unpacked_mb)
            for member in members:
                _check_name(member.filename)
                if member.flag_bits & 1:
                    raise DocumentError(
                        "a part of the file is protected by a password",
                        reason="encrypted",
                        found=member.filename,
                        fix="Save a copy without a password.",
                    )
            for member in members:
                if member.filename.lower().endswith(_XML_ENDINGS):
                    _check_declarations(archive, member, _DECLARATIONS[1:] if allow_doctype else _DECLARATIONS)
    except ZIP_ERRORS as error:
        raise damaged(error) from error


def damaged(error: BaseException) -> DocumentError:
    """Return what is told of an archive that cannot be opened or read to its end."""
    return DocumentError(
        "the file is damaged",
        reason="broken",
        found=str(error)[:120],
        fix="Save it again from the program that made it.",
    )


def _check_sizes(members: list[zipfile.ZipInfo], packed_bytes: int, max_unpacked_mb: float) -> None:
    unpacked = sum(member.file_size for member in members)
    if len(members) > _MAX_MEMBERS:
        raise DocumentError(
            "the file has too many parts",
            reason="zip_bomb",
            found=f"{len(members)} parts, at most {_MAX_MEMBERS} are read",
            fix="Save it again from the program that made it.",
        )
    if unpacked > max_unpacked_mb * 1e6:
        raise DocumentError(
            "the file unpacks to too much",
            reason="zip_bomb",
            found=f"{unpacked / 1e6:.0f} MB, at most {max_unpacked_mb:.0f} MB are read",
            fix="If you trust it, raise collect.max_unpacked_mb.",
        )
    if unpacked > _RATIO_FROM_BYTES and unpacked > MAX_RATIO * packed_bytes:
        raise DocumentError(
            "the file is packed like a zip bomb",
            reason="zip_bomb",
            found=f"{unpacked / 1e6:.0f} MB from {packed_bytes / 1e3:.0f} KB",
            fix="Save it again from the program that made it.",
        )


def _check_name(name: str) -> None:
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name.startswith(("/", "\\")) or _DRIVE.match(name):
        raise DocumentError(
            "a part of the file would be unpacked outside of it",
            reason="path_traversal",
            found=repr(name[:80]),
            fix="Do not trust this file; save it again from the program that made it.",
        )


def _check_declarations(archive: zipfile.ZipFile, member: zipfile.ZipInfo, forbidden: tuple[str, ...]) -> None:
    """In well-formed XML `<!` cannot stand in text, so a plain search over the bytes is enough."""
    needles = [word.encode(encoding) for word in forbidden for encoding in ("ascii", "utf-16-le", "utf-16-be")]
    longest = max(map(len, needles))
    tail = b""
    with archive.open(member) as stream:
        while block := stream.read(_BLOCK_BYTES):
            window = tail + block
            if b"<" in window and any(needle in window for needle in needles):
                raise DocumentError(
                    "a part of the file declares XML entities",
                    reason="xml_entities",
                    found=member.filename[:80],
                    fix="Do not trust this file; save it again from the program that made it.",
                )
            tail = window[-longest:]


def local_name(element: Any) -> str:
    """Return the name of an element without its namespace: Office files come in two sets of namespaces."""
    return str(element.tag).rpartition("}")[2]


def attribute(element: Any, name: str = "val") -> str | None:
    """Return an attribute whatever its namespace; None if it, or the element, is missing."""
    if element is None:
        return None
    return next((str(value) for key, value in element.attrib.items() if key.rpartition("}")[2] == name), None)


class Relation(NamedTuple):
    """A link from one part of an Office file to another."""

    kind: str
    target: str


class Package:
    """The parts of an Office file or book, parsed without entities and without network."""

    def __init__(self, path: Path) -> None:
        self._etree: Any = require("lxml.etree", extra="documents", to="read Office files")
        self._archive = zipfile.ZipFile(path)
        self._names = {name.lower(): name for name in self._archive.namelist()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._archive.close()

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a part, or None; names differ in case between programs."""
        known = self._names.get(name.lower())
        return None if known is None else self._archive.read(known)

    def has_part(self, beginning: str) -> bool:
        """Tell whether the name of any part begins with these letters."""
        return any(name.startswith(beginning.lower()) for name in self._names)

    def xml(self, name: str) -> Any:
        """Return the root element of a part, or None if it is missing."""
        content = self.read(name)
        if content is None:
            return None
        parser = self._etree.XMLParser(
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=True,
            remove_comments=True,
            remove_pis=True,
        )
        try:
            return self._etree.fromstring(content, parser)
        except self._etree.XMLSyntaxError as error:
            raise DocumentError(
                "a part of the file is not valid XML",
                reason="broken",
                found=f"{name}: {str(error)[:100]}",
                fix="Save it again from the program that made it.",
            ) from error

    def relations(self, part: str) -> dict[str, Relation]:
        """Return the links of a part by their id, targets as names in the archive; outside links are left out."""
        folder, _, name = part.rpartition("/")
        root = self.xml(f"{folder}/_rels/{name}.rels" if folder else f"_rels/{name}.rels")
        links: dict[str, Relation] = {}
        for link in root if root is not None else ():
            if link.get("TargetMode") != "External" and link.get("Id") and link.get("Target"):
                target = posixpath.normpath(posixpath.join("/" + folder, link.get("Target"))).lstrip("/")
                links[link.get("Id")] = Relation((link.get("Type") or "").rpartition("/")[2], target)
        return links

    def main_part(self, fallback: str) -> str:
        """Return the name of the part a program would open first."""
        return next((link.target for link in self.relations("").values() if link.kind == "officeDocument"), fallback)

    def title(self) -> str:
        """Return the title in the file's properties, or an empty text."""
        root = self.xml("docProps/core.xml")
        found = next((e.text for e in root.iter("{*}title") if e.text), "") if root is not None else ""
        return str(found).strip()
