"""Log lines as JSON on stderr: metadata of requests, never what was asked or answered."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

from fieldwise.errors import FieldwiseError


class JsonLines(logging.Formatter):
    """One JSON object a line. Messages of exceptions are left out, since they may quote a request; type and place stay."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record; figures come in `extra={"fields": {...}}`."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line |= fields
        if record.exc_info and record.exc_info[1] is not None:
            line |= describe(record.exc_info[1])
        return json.dumps(line, default=str)


def describe(error: BaseException) -> dict[str, object]:
    """Return type and place of an exception; of our own errors also what they say, which never quotes a request."""
    frames = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
    described: dict[str, object] = {"error": type(error).__name__, "frames": frames}
    if isinstance(error, FieldwiseError):
        described["what"] = error.what
    elif isinstance(error, OSError) and error.strerror:
        described["what"] = error.strerror
    return described


def configure() -> None:
    """Send this package's log lines and uvicorn's to stderr. Called by the command that serves, never on import."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in (("fieldwise", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
