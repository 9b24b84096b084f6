"""Finding the files of the sources, naming each by its path below the source, whatever machine it lies on."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from pydantic import JsonValue

from fieldwise.collect.media import BY_EXTENSION, detect
from fieldwise.collect.settings import CollectSettings, RowsSource, WebSource, is_other_scheme, is_url, without_password
from fieldwise.errors import DatasetError, DocumentError
from fieldwise.records import Rejection

MAGIC = re.compile(r"[*?\[]")
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHOWN_EXTENSIONS = 8
READABLE = "pdf, docx, pptx, xlsx, odt, odp, ods, html, md, adoc, txt, csv, eml, msg and epub"


@dataclass(frozen=True)
class Origin:
    """Where in the web a file came from; `name` is a file name that fits its kind."""

    name: str
    final_url: str
    query: str | None = None
    rank: int | None = None
    licence: str | None = None


@dataclass(frozen=True)
class FoundFile:
    """A file to read: `uri` is its path below the source, with `/`, unreadable characters escaped, or its address."""

    uri: str
    path: Path
    bytes: int
    origin: Origin | None = None

    @property
    def name(self) -> str:
        """The name that tells, besides the content, what it is."""
        return self.origin.name if self.origin else self.uri


@dataclass
class Found:
    """What the sources hold, by uri."""

    files: list[FoundFile] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


@dataclass(frozen=True)
class Entry:
    """What a source names: a file by its path below the source, or what cannot be one, with the reason."""

    source: int
    folder: str
    relative: str
    path: Path
    bytes: int = 0
    reason: str = ""
    detail: str = ""

    def rejection(self) -> Rejection:
        """Return the row of rejected.jsonl for what cannot be a file."""
        return Rejection(stage="collect", item=shown(self.relative), reason=self.reason, detail=self.detail)


def find_files(settings: CollectSettings, leave_out: Collection[Path] = ()) -> Found:
    """Return the files of all sources on this machine, ordered by uri, and what cannot be one; nothing is fetched.

    Files to leave out are read in another way: those of row sources. Raises DatasetError for a source that is not there, matches nothing, or holds no file of a kind that can be read.
    """
    if not settings.sources:
        raise DatasetError(
            "no sources are named",
            where="collect.sources",
            fix="Name folders, files or patterns, such as: sources: [documents]",
        )
    _require_usable(settings)
    entries: list[Entry] = []
    seen: set[str] = {str(path) for path in leave_out}
    for number, source in enumerate(settings.places):
        found = _Source(number, source, settings).entries()
        entries += [e for e in found if str(e.path) not in seen]
        seen.update(str(e.path) for e in found)
    result = Found()
    for entry in with_unique_names(entries):
        if entry.reason:
            result.rejected.append(entry.rejection())
        else:
            result.files.append(FoundFile(shown(entry.relative), entry.path, entry.bytes))
    result.files.sort(key=lambda f: f.uri)
    result.rejected.sort(key=lambda r: r.item)
    return result


def _require_usable(settings: CollectSettings) -> None:
    """Before anything is written: the resolved recipe in the run folder must not hold a password."""
    for source in settings.sources:
        if isinstance(source, WebSource) and source.urls is not None:
            listed_urls(source.urls)
    named = [
        (s.sitemap or "") if isinstance(s, WebSource) else s for s in settings.sources if not isinstance(s, RowsSource)
    ]
    for key, address in (*(("sources", name) for name in named), ("web.search_url", settings.web.search_url)):
        if is_url(address) and without_password(address) != address:
            raise DatasetError(
                "the address holds a user name or password",
                where=f"collect.{key}: {without_password(address)}",
                fix="Save the file and name that: pages behind a login are not fetched.",
            )


def web_sources(settings: CollectSettings) -> list[WebSource | str]:
    """Return the sources that name addresses."""
    return [s for s in settings.sources if isinstance(s, WebSource) or (isinstance(s, str) and is_url(s))]


def web_fingerprint(settings: CollectSettings) -> list[JsonValue]:
    """Return what would be asked of the web, without asking: the addresses of lists, not where the lists lie."""
    asked: list[JsonValue] = []
    for source in web_sources(settings):
        if isinstance(source, str):
            asked.append(source)
        else:
            urls = listed_urls(source.urls) if source.urls is not None else None
            asked.append({**source.keyed(), "urls": [*urls] if urls is not None else None})
    return asked


def listed_urls(path: str) -> list[str]:
    """Return the lines of a list of addresses, without blanks and lines that begin with #; raises DatasetError."""
    where = f"collect.sources: urls: {path}"
    try:
        lines = [line.strip() for line in Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, ValueError, RuntimeError) as error:
        raise DatasetError(
            "the list of addresses cannot be read",
            where=where,
            found=getattr(error, "strerror", None) or type(error).__name__,
            fix="Name a text file in UTF-8; places are relative to the recipe file.",
        ) from error
    urls = [line for line in lines if line and not line.startswith("#")]
    if not urls:
        raise DatasetError("the list holds no address", where=where, fix="Write one address a line.")
    return urls


def shown(name: str) -> str:
    r"""Return a name with control characters and undecodable bytes written out.

    >>> shown("a" + chr(10) + "b.txt")
    'a\\\\nb.txt'
    """
    return _UNSHOWN.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), name)


class _Source:
    """One line of collect.sources."""

    def __init__(self, number: int, name: str, settings: CollectSettings) -> None:
        self._number, self._name, self._settings = number, name, settings
        self._seen: Counter[str] = Counter()

    def entries(self) -> list[Entry]:
        if is_other_scheme(self._name):
            raise DatasetError(
                "addresses of this kind are not fetched",
                where="collect.sources",
                found=self._name.partition("://")[0] + "://",
                fix="Name an address that begins with http:// or https://, or save the file and name that.",
            )
        path, is_pattern = place(self._name), False
        if path is not None and path.is_dir():
            root = path.resolve()
            found = list(self._walk(root))
        elif path is not None and (path.exists() or path.is_symlink()):
            root = path.parent.resolve()
            found = [self._entry(root, root / path.name, named=True)]
        elif path is not None and MAGIC.search(self._name):
            is_pattern = True
            root, pattern = split_pattern(path)
            found = [self._entry(root, p) for p in glob_files(root, pattern) if self._is_wanted(root, p)]
        else:
            raise DatasetError(
                "the source is not there",
                where=f"collect.sources: {self._name}",
                fix="Check the spelling; places are relative to the recipe file.",
            )
        self._check(found, is_pattern)
        return found

    def _check(self, found: list[Entry], is_pattern: bool) -> None:
        """A source that gives nothing is a mistake in the recipe, not an empty success."""
        where = f"collect.sources: {self._name}"
        counts = (
            ", ".join(f"{count} {ending}" for ending, count in self._seen.most_common(_SHOWN_EXTENSIONS)) or "no files"
        )
        if not found:
            patterns = (
                "the pattern"
                if is_pattern
                else f"{', '.join(self._settings.include)} without {', '.join(self._settings.exclude) or 'exceptions'}"
            )
            raise DatasetError(
                "the source holds no files that match",
                where=where,
                found=counts,
                fix=f"Looked for {patterns}. Check the folder, collect.include and collect.exclude.",
            )
        if not any(e.reason or _is_known(e) for e in found):
            raise DatasetError(
                "the source holds no document of a kind that can be read",
                where=where,
                found=counts,
                fix=f"Supply {READABLE} files.",
            )

    # ------------------------------------------------------------ walking

    def _walk(self, root: Path) -> Iterator[Entry]:
        problems: list[OSError] = []
        for folder, folders, names in os.walk(root, onerror=problems.append):
            here = Path(folder)
            folders.sort()
            for name in list(folders):
                if not self._passes_exclude(root, here / name) or _is_run_folder(here / name):
                    folders.remove(name)
                elif (here / name).is_symlink():
                    folders.remove(name)
                    yield self._folder_link(root, here / name)
            for name in sorted(names):
                path = here / name
                self._seen[_ending(name)] += 1
                if self._is_wanted(root, path):
                    yield self._entry(root, path)
        for error in problems:
            path = Path(str(error.filename))
            yield self._rejected(
                root,
                path,
                "unreadable",
                f"The folder cannot be opened: {error.strerror}. Give read permission and run again.",
            )

    def _is_wanted(self, root: Path, path: Path) -> bool:
        relative = path.relative_to(root).as_posix()
        return any(
            fnmatchcase(path.name, p) or fnmatchcase(relative, p) for p in self._settings.include
        ) and self._passes_exclude(root, path)

    def _passes_exclude(self, root: Path, path: Path) -> bool:
        relative = path.relative_to(root).as_posix()
        return not any(fnmatchcase(path.name, p) or fnmatchcase(relative, p) for p in self._settings.exclude)

    def _folder_link(self, root: Path, path: Path) -> Entry:
        target = path.resolve()
        if target.is_relative_to(root):
            return self._rejected(
                root,
                path,
                "symlink_folder",
                "The link leads to a folder of the same source, whose files are read under their own names.",
            )
        return self._rejected(
            root,
            path,
            "symlink_outside",
            f"The link leads out of the source, to {shown(str(path.readlink()))}. Name that folder as a source of its own, or copy it.",
        )

    def _entry(self, root: Path, path: Path, *, named: bool = False) -> Entry:
        """Judge a path by what the file system says of it, without opening it."""
        if named:
            self._seen[_ending(path.name)] += 1
        try:
            status = require_fit(root, path, named=named)
        except DocumentError as error:
            return self._rejected(root, path, error.reason, str(error))
        if status.st_size > self._settings.max_file_mb * 1e6:
            return self._rejected(
                root,
                path,
                "too_large",
                f"The file has {status.st_size / 1e6:.1f} MB, at most {self._settings.max_file_mb:g} MB are read. Split it, or raise collect.max_file_mb.",
            )
        return Entry(self._number, root.name, path.relative_to(root).as_posix(), path, status.st_size)

    def _rejected(self, root: Path, path: Path, reason: str, detail: str) -> Entry:
        return Entry(self._number, root.name, path.relative_to(root).as_posix(), path, reason=reason, detail=detail)


def require_fit(root: Path, path: Path, *, named: bool) -> os.stat_result:
    """Return what the file system says of a path, which is not opened; one that the recipe names itself may be a link.

    Raises DocumentError: `symlink_outside` where a link on the way leads out of the source, also one of a folder;
    `unreadable`, `not_a_file`, `empty`.
    """
    try:
        real = path.resolve(strict=True)
        status = real.stat()
    except (OSError, RuntimeError) as error:
        raise DocumentError(
            "the file cannot be opened",
            reason="unreadable",
            found=getattr(error, "strerror", None) or "the link leads nowhere",
            fix="Repair the link or the permission.",
        ) from error
    if not named and not real.is_relative_to(root):
        raise DocumentError(
            "the link leads out of the source",
            reason="symlink_outside",
            found=shown(str(real)),
            fix="Copy the file, or name it as a source of its own.",
        )
    if not stat.S_ISREG(status.st_mode):
        raise DocumentError(
            "not a file", reason="not_a_file", found="a pipe, a socket or a device", fix="Only files are read."
        )
    if status.st_size == 0:
        raise DocumentError(
            "the file is empty",
            reason="empty",
            fix="Remove it, or save it again from the program that made it.",
        )
    if not os.access(path, os.R_OK):
        raise DocumentError(
            "there is no permission to read the file", reason="unreadable", fix="Give it and run again."
        )
    return status


def place(name: str) -> Path | None:
    """Return the path of a source; None where there can be none: too long, of an unknown user, with a NUL."""
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError):
        return None
    return path


def _is_run_folder(folder: Path) -> bool:
    """A run folder below a source would be collected into itself: what it holds came from the source."""
    return all(os.path.isfile(folder / name) for name in ("lock", "recipe.yaml"))  # noqa: PTH113  False where a folder is closed


def split_pattern(path: Path) -> tuple[Path, str]:
    """Return the longest leading part without wildcards, and the pattern below it."""
    parts = path.parts
    first = next(n for n, part in enumerate(parts) if MAGIC.search(part))
    return Path(*parts[:first]).resolve() if first else Path.cwd(), str(PurePosixPath(*parts[first:]))


def glob_files(root: Path, pattern: str) -> list[Path]:
    """Return the files below a folder that fit a pattern, by name; run folders are passed over."""
    try:
        found = sorted(p for p in root.glob(pattern) if not p.is_dir())
    except (ValueError, NotImplementedError) as error:
        raise DatasetError(
            "not a valid pattern",
            where=f"collect.sources: {pattern}",
            found=str(error),
            fix="Example: documents/**/*.pdf",
        ) from error
    folders = {folder for path in found for folder in path.relative_to(root).parents}
    runs = {folder for folder in folders if folder != Path() and _is_run_folder(root / folder)}
    return [path for path in found if runs.isdisjoint(path.relative_to(root).parents)]


def _ending(name: str) -> str:
    ending = PurePosixPath(name).suffix.lower()
    return f"*{shown(ending)}" if ending else "without ending"


def _is_known(entry: Entry) -> bool:
    """Files with a readable ending count as known without being opened: what they really are is found when they are read."""
    if PurePosixPath(entry.relative).suffix.lower() in BY_EXTENSION:
        return True
    try:
        return detect(entry.path, entry.relative).media_type is not None
    except (DocumentError, OSError):
        return False


# ---------------------------------------------------------------- names


def with_unique_names(entries: list[Entry]) -> list[Entry]:
    """Return the entries; names that collide get that of their folder in front, and if that is not enough a number."""
    owners: dict[str, set[int]] = {}
    for entry in entries:
        owners.setdefault(entry.relative, set()).add(entry.source)
    colliding = {source for sources in owners.values() if len(sources) > 1 for source in sources}
    renamed = [replace(e, relative=f"{e.folder}/{e.relative}") if e.source in colliding else e for e in entries]
    return list(_numbered(renamed))


def _numbered(entries: Iterable[Entry]) -> Iterator[Entry]:
    taken: Counter[str] = Counter()
    for entry in entries:
        name = shown(entry.relative)
        taken[name] += 1
        if taken[name] > 1:
            path = PurePosixPath(entry.relative)
            entry = replace(entry, relative=str(path.with_name(f"{path.stem} ({taken[name]}){path.suffix}")))
        yield entry
