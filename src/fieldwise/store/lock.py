"""One writer at a time: a lock on a file of the store's folder."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO

from fieldwise.errors import RunError
from fieldwise.files import raise_if_full
from fieldwise.store.catalogue import FILE


def locked(folder: Path) -> IO[str]:
    """Return the lock of the one writer, which goes with the process; raises RunError if another process has it."""
    path = folder / "writer.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise_if_full(error, path)
        raise RunError(
            "the store cannot be written",
            where=folder,
            found=error.strerror,
            fix="Check the rights of the folder and whether its disk is mounted read-only.",
        ) from error
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        stream.close()
        raise RunError(
            "another process writes to this store",
            where=folder / FILE,
            fix="Wait until it is done; to search meanwhile, open the store for reading.",
        ) from error
    return stream
