"""The parent's side of the reading process: one job at a time, with a time limit, restarted when it dies."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from fieldwise.collect.docling_setup import Docling
from fieldwise.errors import DocumentError, MissingExtra, RunError
from fieldwise.records import Document, Source

_START_SECONDS = 120.0
_MAX_LOG_BYTES = 1_000_000
_KEPT_VARIABLES = (
    "PATH",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "SYSTEMROOT",
    "VIRTUAL_ENV",
)
_MEMORY_WORDS = (
    b"MemoryError",
    b"bad_alloc",
    b"Cannot allocate memory",
    b"out of memory",
    b"Out of memory",
    b"failed to map segment",
)


@dataclass(frozen=True)
class Limits:
    """What reading one file may take."""

    timeout_seconds: float = 60.0
    memory_mb: int = 2048
    max_unpacked_mb: float = 400.0


class ExtractionWorker:
    """Reads files in a child process; started with the first file, to be closed at the end.

    With `ocr` pictures and pages without a text layer are recognised; the limit of time then counts for each page.
    With `docling` PDF files are read by its models, in the environment that holds it. XML files need `xml_elements`: what
    their elements are.
    """

    def __init__(
        self,
        limits: Limits,
        reader_modules: Sequence[str] = (),
        *,
        ocr: bool = False,
        docling: Docling | None = None,
        xml_elements: Mapping[str, str] | None = None,
    ) -> None:
        self._limits = limits
        self._ocr = ocr
        self._docling = docling
        self._xml_elements = dict(xml_elements or {})
        self._modules = tuple(reader_modules)
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._rest = b""
        self.starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def extract(self, path: Path, source: Source) -> Document:
        """Return the document in a file; its source must name the media type.

        Raises DocumentError, among others with reason `timeout`, `out_of_memory` or `crashed`, and MissingExtra.
        """
        job = {
            "path": str(path),
            "media_type": source.media_type,
            "uri": source.uri,
            "max_unpacked_mb": self._limits.max_unpacked_mb,
            "timeout_seconds": self._limits.timeout_seconds,
            "ocr": self._ocr,
            "layout_models": self._docling.models if self._docling else None,
            "xml_elements": self._xml_elements,
        }
        process = self._started()
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
            answer = self._answer()
        except TimeoutError as error:
            self.close()
            raise DocumentError(
                "reading the file took too long",
                reason="timeout",
                found=f"more than {self._limits.timeout_seconds:g} s",
                fix="Raise collect.timeout_seconds and run the stage again with --force.",
            ) from error
        except (BrokenPipeError, EOFError) as error:
            raise self._died() from error
        self._trim_log()
        if "missing" in answer:
            raise MissingExtra(answer["missing"], fix=answer["fix"])
        if answer.get("reason") == "out_of_memory":
            self.close()  # the heap of a process that ran out is of no further use
            raise self._out_of_memory()
        if "reason" in answer:
            raise ReaderError(answer["detail"], reason=answer["reason"])
        return Document.model_validate(answer["document"])

    def close(self) -> None:
        """End the process."""
        process, self._process, self._rest = self._process, None, b""
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close_quietly(pipe)
        if self._log is not None:
            self._log.close()
            self._log = None

    # ------------------------------------------------------------ process

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        # appending, so that the log can be emptied under the process that writes it
        descriptor, name = tempfile.mkstemp(prefix="fieldwise-worker-")
        os.close(descriptor)
        self._log = Path(name).open("ab+")  # noqa: SIM115  closed in close()
        Path(name).unlink()
        environment = {name: value for name in _KEPT_VARIABLES if (value := os.environ.get(name)) is not None}
        environment |= {
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONIOENCODING": "utf-8",
        }
        if self._docling is not None:
            environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        python = self._docling.python if self._docling is not None else sys.executable
        command = [python, "-m", "fieldwise.collect.worker", str(self._limits.memory_mb), *self._modules]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            start_new_session=True,
        )
        self.starts += 1
        try:
            self._read_line(_START_SECONDS)
        except (TimeoutError, EOFError) as error:
            log = self._log_tail()
            self.close()
            raise RunError(
                "the process that reads files does not start",
                found=log[-300:] or None,
                fix=f"Check collect.memory_mb ({self._limits.memory_mb}) and the installation: fieldwise doctor",
            ) from error
        return self._process

    def _answer(self) -> dict[str, Any]:
        """Return the answer to a job; each sign of life before it gives the reader its time anew."""
        while True:
            answer: dict[str, Any] = json.loads(self._read_line(self._limits.timeout_seconds))
            if "alive" not in answer:
                return answer

    def _read_line(self, seconds: float) -> bytes:
        """Return the next line; raises TimeoutError or, when the process has ended, EOFError."""
        assert self._process is not None and self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLIN | select.POLLHUP)
        deadline = time.monotonic() + seconds
        parts = [self._rest]
        while b"\n" not in parts[-1]:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeoutError
            block = os.read(pipe, 1 << 20)
            if not block:
                raise EOFError
            parts.append(block)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return line

    def _died(self) -> DocumentError:
        """Say how the process ended, and clear up after it."""
        assert self._process is not None
        code = self._process.wait()
        log = self._log_tail()
        self.close()
        if any(word in log.encode() for word in _MEMORY_WORDS):
            return self._out_of_memory()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return DocumentError(
            "the process that read the file died",
            reason="crashed",
            found=f"{how} {log[-160:]}".strip(),
            fix="Save the file again from the program that made it, or leave it out with collect.exclude.",
        )

    def _out_of_memory(self) -> DocumentError:
        return DocumentError(
            "reading the file took too much memory",
            reason="out_of_memory",
            found=f"more than {self._limits.memory_mb} MB",
            fix="Raise collect.memory_mb and run the stage again with --force.",
        )

    def _log_tail(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - 4000))
        return " ".join(self._log.read().decode("utf-8", "replace").split())

    def _trim_log(self) -> None:
        if self._log is not None and os.fstat(self._log.fileno()).st_size > _MAX_LOG_BYTES:
            os.ftruncate(self._log.fileno(), 0)


class ReaderError(DocumentError):
    """What the reader itself said about a file: holds as long as file and reader stay the same."""


def _close_quietly(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except OSError:
        return
