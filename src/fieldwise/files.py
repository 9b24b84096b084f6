"""Writing files so that a reader never sees half of one: temporary name, sync, rename."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from fieldwise.errors import DatasetError, RunError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
    except OSError as error:
        raise_if_full(error, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Force a file's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# What writers of weights, tables and arrays say in place of "no space left on device".
_FULL_WORDS = re.compile(
    r"no space left|os error 28|quota exceeded|\d+ requested and \d+ written|file write failed", re.IGNORECASE
)


def raise_if_full(error: BaseException, path: Path) -> None:
    """Turn "no space left" and "quota exceeded", however a library puts it, into a message with the place and what is free."""
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _FULL_WORDS.search(str(cause)):
            raise disk_is_full(path) from error
        cause = cause.__cause__ or cause.__context__


def disk_is_full(path: Path) -> RunError:
    """Return the error that says so, with what is free."""
    free = shutil.disk_usage(path.parent if path.parent.exists() else Path("/")).free
    return RunError(
        "the disk is full",
        where=path,
        found=f"{free / 1e6:.0f} MB free",
        fix="Free some space and run the same command again: finished work is kept.",
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a binary file atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: object) -> None:
    """Write readable JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, JsonValue]:
    """Read a JSON object; a file that is not one is an error with its place."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError("not valid JSON", where=path, found=str(error), fix="Repair or delete the file.") from error
    if not isinstance(value, dict):
        raise DatasetError("expected a JSON object", where=path, found=type(value).__name__)
    return value


def write_jsonl(path: Path, rows: Iterable[dict[str, JsonValue]]) -> int:
    """Write one JSON object a line atomically; returns the number of lines."""
    count = 0
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def read_jsonl(path: Path) -> Iterator[dict[str, JsonValue]]:
    """Yield the objects of a JSON Lines file; a broken line is an error with its number."""
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise DatasetError(
                    "not valid JSON",
                    where=f"{path}:{number}",
                    found=line.strip()[:80],
                    fix="Repair or remove the line.",
                ) from error
            if not isinstance(value, dict):
                raise DatasetError("expected a JSON object", where=f"{path}:{number}", found=line.strip()[:80])
            yield value


def append_jsonl(path: Path, row: dict[str, JsonValue]) -> None:
    """Add one line to a ledger and force it to the disk, so that a kill loses at most the line in flight."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("ab+") as stream:
            torn = stream.tell() > 0 and (stream.seek(-1, os.SEEK_END), stream.read(1))[1] != b"\n"
            line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
            stream.write((("\n" if torn else "") + line).encode("utf-8"))  # a torn line must not swallow this one
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise_if_full(error, path)
        raise


def read_ledger(path: Path) -> list[dict[str, JsonValue]]:
    """Return the whole lines of a ledger; a torn last line, left by a kill, is dropped."""
    if not path.exists():
        return []
    rows: list[dict[str, JsonValue]] = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(value, dict):
            rows.append(value)
    return rows


def link_or_copy(source: Path, target: Path) -> None:
    """Give `target` the content of `source`: a hard link where the file system allows it, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        temporary.replace(target)
    except OSError as error:
        raise_if_full(error, target)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def stamp_of(path: Path) -> tuple[int, ...]:
    """Return what tells a file from the one that takes its place, for looking whether it has changed; () without one."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return (stat.st_mtime_ns, stat.st_ino, stat.st_size)
