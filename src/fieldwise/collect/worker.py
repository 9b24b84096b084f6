"""The process that opens files: a broken or hostile one can harm nothing but this process.

Reads one job a line on standard input and answers one line on standard output:

    {"path": ..., "media_type": ..., "uri": ..., "max_unpacked_mb": 400, "timeout_seconds": 60, "ocr": false,
     "layout_models": null, "xml_elements": {}}
    {"document": {...}}  or  {"reason": "encrypted", "detail": "..."}  or  {"missing": "...", "fix": "..."}

Before its answer a reader may say `{"alive": true}`, whereupon its time counts from the beginning.
Started as `python -m fieldwise.collect.worker MEMORY_MB [MODULE ...]`; the READERS of further modules are added.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import math
import os
import resource
import signal
import sys
import warnings
from pathlib import Path
from typing import IO

from pydantic import JsonValue

from fieldwise.collect.archive import check_archive
from fieldwise.collect.heartbeat import on_beat
from fieldwise.collect.media import PDF, XML
from fieldwise.collect.readers import OCR_READERS, READERS, Reader, xml_reader
from fieldwise.errors import DocumentError, MissingExtra
from fieldwise.records import Document, Source

_GRACE_SECONDS = 10
_MAX_DEPTH = 20_000  # pages nested a few thousand deep exist; frames of Python take no room on the C stack


def serve(jobs: IO[str], answers: IO[str], readers: dict[str, Reader]) -> None:
    """Answer jobs until the input ends."""
    answers.write(json.dumps({"ready": True}) + "\n")
    answers.flush()
    for line in jobs:
        job = json.loads(line)
        # the parent kills what takes too long; the alarm ends this process if the parent itself is gone
        seconds = math.ceil(float(job["timeout_seconds"])) + _GRACE_SECONDS
        signal.alarm(seconds)
        on_beat(functools.partial(_say_alive, answers, seconds))
        try:
            answer = read(job, readers)
        except MemoryError:
            answer = {"reason": "out_of_memory", "detail": ""}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        signal.alarm(0)


def _say_alive(answers: IO[str], seconds: int) -> None:
    answers.write(json.dumps({"alive": True}) + "\n")
    answers.flush()
    signal.alarm(seconds)


def read(job: dict[str, JsonValue], readers: dict[str, Reader]) -> dict[str, JsonValue]:
    """Return the answer to one job; whatever goes wrong with a file is an answer, too."""
    path, media_type = Path(str(job["path"])), str(job["media_type"])
    if media_type == XML:
        readers = {XML: xml_reader(_elements(job))}
    reader = (OCR_READERS.get(media_type) if job["ocr"] else None) or readers[media_type]
    try:
        if reader.is_zip:
            check_archive(path, float(str(job["max_unpacked_mb"])), allow_doctype=reader.allows_doctype)
        document = _document(reader, job, path)
        if not document.text.strip():
            raise DocumentError(
                "there is no text in it", reason="no_text", fix="If its content is pictures, supply the text."
            )
        return {"document": document.model_dump(mode="json")}
    except DocumentError as error:
        return {"reason": error.reason, "detail": str(error)}
    except MissingExtra as error:
        return {"missing": error.what, "fix": error.fix}
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  the border of one document: libraries raise whatever they like
        return {
            "reason": "broken",
            "detail": f"The file cannot be read, found {type(error).__name__}: {str(error)[:200]}. Save it again from the program that made it.",
        }


def _document(reader: Reader, job: dict[str, JsonValue], path: Path) -> Document:
    source = Source(uri=str(job["uri"]))
    if job["media_type"] == XML:
        from fieldwise.collect.xml_text import read_xml

        return read_xml(path, source, _elements(job))
    models = job.get("layout_models")
    if models is None or job["media_type"] != PDF:
        return reader.load()(path, source)
    from fieldwise.collect.pdf_docling import read_pdf_by_layout

    return read_pdf_by_layout(path, source, str(models))


def _elements(job: dict[str, JsonValue]) -> dict[str, str]:
    elements = job.get("xml_elements")
    return {name: str(role) for name, role in elements.items()} if isinstance(elements, dict) else {}


def main(arguments: list[str]) -> None:
    """Set the limits, keep the pipes for the protocol alone, and serve."""
    memory_bytes = int(arguments[0]) << 20
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(_MAX_DEPTH)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    jobs, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what libraries print goes to the log, not among the answers
    readers = dict(READERS)
    for module in arguments[1:]:
        readers |= importlib.import_module(module).READERS
    serve(jobs, answers, readers)


if __name__ == "__main__":
    main(sys.argv[1:])
