"""Readers that do what broken files make libraries do; the worker is told of them on its command line."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from fieldwise.collect.builder import TextBuilder
from fieldwise.collect.heartbeat import beat
from fieldwise.collect.readers import Reader
from fieldwise.extras import require
from fieldwise.records import Document, Source


def hang(path: Path, source: Source) -> Document:
    time.sleep(600)
    raise AssertionError


def eat_memory(path: Path, source: Source) -> Document:
    raise AssertionError(len(bytearray(64 << 30)))


def fall(path: Path, source: Source) -> Document:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def leave(path: Path, source: Source) -> Document:
    sys.stderr.write("the library gave up\n")
    sys.stderr.flush()
    os._exit(7)


def chatter(path: Path, source: Source) -> Document:
    sys.stdout.write('{"document": "no"}\n')
    sys.stdout.flush()
    os.write(1, b"noise from a C library\n")
    builder = TextBuilder()
    builder.paragraph("Read in spite of the noise.")
    return builder.document(source)


def sink(path: Path, source: Source) -> Document:
    return sink(path, source)


def miss(path: Path, source: Source) -> Document:
    require("a_library_that_is_not_there", extra="documents", to="read such files")
    raise AssertionError


def toil(path: Path, source: Source) -> Document:
    """Many pages: together they take longer than one may."""
    builder = TextBuilder()
    for page in range(1, 5):
        beat()
        time.sleep(0.6)
        builder.page(page)
        builder.paragraph(f"Page {page}.")
    return builder.document(source)


def environment(path: Path, source: Source) -> Document:
    builder = TextBuilder()
    builder.paragraph(" ".join(sorted(os.environ)))
    return builder.document(source)


READERS = {
    f"test/{f.__name__}": Reader(f.__name__, __name__, f.__name__)
    for f in (hang, eat_memory, fall, leave, chatter, sink, miss, toil, environment)
}
