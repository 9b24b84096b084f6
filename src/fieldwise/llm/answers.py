"""What OpenAI-compatible endpoints answer, and what they may know: shared by all that ask one."""

from __future__ import annotations

import ipaddress
import json
import os
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from fieldwise.errors import ServiceError

SHOWN_CHARS = 300


def key_from(variable: str | None, where: str) -> str | None:
    """Return the key that an environment variable holds, None without a variable.

    Raises ServiceError, naming variable and setting, when no key is there.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ServiceError(
            "the endpoint needs a key",
            where=where,
            found=f"{'something that is no key in' if key else 'no'} environment variable {variable}",
            fix=f"Set it: export {variable}=... It is sent to the endpoint and written nowhere.",
        )
    return key


def is_loopback(url: str) -> bool:
    """Whether what is sent to an address stays on this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown(text: str, key: str | None) -> str:
    """A few words of what came from outside, in one line, never the key: endpoints repeat it."""
    hidden = text.replace(key, "***") if key else text
    return " ".join(hidden.split())[:SHOWN_CHARS]


def read_object(content: bytes) -> dict[str, Any] | None:
    """The JSON object of an answer; None for anything else."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and len(value) == 1:  # Gemini wraps its errors in a list
        value = value[0]
    return value if isinstance(value, dict) else None


def error_message(raw: dict[str, Any] | None, content: bytes) -> str:
    """What an endpoint says about an error: `error.message` with its code, else the beginning of the answer."""
    error = (raw or {}).get("error", (raw or {}).get("detail"))
    if isinstance(error, dict):
        parts = [error.get("message"), error.get("code"), error.get("param")]
        return " ".join(str(part) for part in parts if isinstance(part, str) and part)
    return str(error) if error else content[:SHOWN_CHARS].decode("utf-8", "replace")


def first_choice(raw: dict[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The first choice of a chat completion and its message; None if the answer holds none."""
    choices = (raw or {}).get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    return (choice, message) if isinstance(choice, dict) and isinstance(message, dict) else None


def message_text(message: dict[str, Any]) -> str:
    """The text of a reply, also where it comes as a list of parts or as a refusal."""
    text = "".join(_texts(message.get("content"))) or str(message.get("refusal") or "")
    return text.encode("utf-8", "replace").decode("utf-8")  # half of a character, escaped, would fit no file


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
