"""What goes wrong with a request, and how it is told: our shape on our routes, OpenAI's shape below /v1/."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, JsonValue

from fieldwise.errors import FieldwiseError

OPENAI_PREFIX = "/v1/"
_SHOWN_CHARS = 80
_UNION_BRANCH = re.compile(r"str|list\[.*|function-.*")
_OPENAI_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class OwnErrorParts(BaseModel):
    """What is wrong, where, what was found there, what to do."""

    code: str
    what: str
    where: str | None
    found: str | None
    fix: str | None
    request_id: str


class OwnError(BaseModel):
    """How our routes tell an error."""

    error: OwnErrorParts


class OpenAiErrorParts(BaseModel):
    """The same in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAiError(BaseModel):
    """How the routes below /v1 tell an error."""

    error: OpenAiErrorParts


class RequestError(FieldwiseError):
    """A request that is answered with an HTTP error; `code` is a short name for programs."""

    def __init__(
        self,
        status: int,
        code: str,
        what: str,
        *,
        where: object = None,
        found: object = None,
        fix: str | None = None,
        headers: Mapping[str, str] | None = None,
        more: Sequence[Mapping[str, JsonValue]] = (),
    ) -> None:
        self.status, self.code, self.headers, self.more = status, code, dict(headers or {}), list(more)
        super().__init__(what, where=where, found=found, fix=fix)


def too_busy(waiting: int, seconds: int) -> RequestError:
    """More requests wait than may wait."""
    return RequestError(
        429,
        "queue_full",
        "too many requests are waiting",
        found=f"{waiting} in the queue",
        fix=f"Try again in {seconds} s.",
        headers={"Retry-After": str(seconds)},
    )


def took_too_long(seconds: float) -> RequestError:
    """The time for a request is over."""
    return RequestError(
        504,
        "timeout",
        "the answer took too long",
        found=f"more than {seconds:g} s, waiting included",
        fix="Ask for fewer tokens, or raise serve.timeout_seconds.",
    )


def too_long(prompt_tokens: int, context_tokens: int, where: str) -> RequestError:
    """The prompt leaves no room for a reply; it is never cut."""
    found = f"{prompt_tokens} tokens, the context holds {context_tokens}"
    counts: dict[str, JsonValue] = {"prompt_tokens": prompt_tokens, "context_tokens": context_tokens}
    return RequestError(
        400,
        "context_length_exceeded",
        "the prompt is longer than the model's context",
        where=where,
        found=found,
        fix="Shorten it; at least one token must be left for the reply.",
        more=(counts,),
    )


def not_readable(*, openai: bool = False) -> RequestError:
    """A body that no parser takes: bytes that are no text, lists in lists without end, a number of thousands of digits."""
    return RequestError(
        400,
        "invalid_value" if openai else "invalid_request",
        "the body cannot be read as JSON",
        where="body",
        fix="Send a JSON object in UTF-8.",
    )


def not_valid(errors: Sequence[Mapping[str, Any]], *, openai: bool = False) -> RequestError:
    """A body or parameter that does not fit the schema; the first problem leads, all are listed. OpenAI's routes answer 400."""
    parts = _deepest([_of_pydantic(e) for e in errors])
    first, kind = parts[0], str(errors[0].get("type"))
    status, code = (
        (400, kind if kind == "unsupported_parameter" else "invalid_value") if openai else (422, "invalid_request")
    )
    return RequestError(
        status,
        code,
        str(first["what"]),
        where=first["where"],
        found=first["found"],
        fix="The page /docs lists every field.",
        more=parts,
    )


def _deepest(parts: list[dict[str, JsonValue]]) -> list[dict[str, JsonValue]]:
    """Leave out what is said of a field as a whole when more is known of a part of it, as of a text that may also be a list."""
    places = [str(part["where"]) for part in parts]
    return [
        part for part, place in zip(parts, places, strict=True) if not any(p.startswith(f"{place}.") for p in places)
    ]


def _of_pydantic(error: Mapping[str, Any]) -> dict[str, JsonValue]:
    context = error.get("ctx") or {}
    # the first part says only whether it stands in the body, the path or the query
    place = [str(part) for part in error.get("loc", ())[1:] if not _UNION_BRANCH.fullmatch(str(part))]
    if error.get("type") == "json_invalid":
        return {
            "what": "the body is not valid JSON",
            "where": f"character {place[0]}" if place else "body",
            "found": str(context.get("error", "")),
        }
    if not place and error.get("type") in ("model_attributes_type", "missing"):
        return {
            "what": "expected a JSON object sent as Content-Type: application/json",
            "where": "body",
            "found": _shown(repr(error.get("input"))),
        }
    what = str(error.get("msg", "not valid")).removeprefix("Value error, ")
    found = (
        None
        if error.get("type") == "missing"
        else _shown(context["input"] if "param" in context else repr(error.get("input")))
    )
    return {
        "what": what[:1].lower() + what[1:],
        "where": context.get("param") or ".".join(place) or "body",
        "found": found,
    }


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."


def problem_bytes(problem: RequestError, path: str, request_id: str) -> bytes:
    """Return the body of an error answer in the shape its route speaks."""
    shape = openai_error(problem, request_id) if path.startswith(OPENAI_PREFIX) else own_error(problem, request_id)
    # plain ASCII: what was found may hold characters that cannot be written as UTF-8
    return json.dumps(shape).encode("ascii")


def own_error(problem: RequestError, request_id: str) -> dict[str, JsonValue]:
    """Return {"error": {what, where, found, fix, ...}}."""
    parts = problem.to_json()
    shape: dict[str, JsonValue] = {
        "code": problem.code,
        "what": parts["what"],
        "where": parts["where"],
        "found": parts["found"],
        "fix": parts["fix"],
        "request_id": request_id,
    }
    if problem.code == "context_length_exceeded":
        shape |= dict(problem.more[0])
    elif len(problem.more) > 1:
        shape["problems"] = [dict(m) for m in problem.more]
    return {"error": shape}


def openai_error(problem: RequestError, request_id: str) -> dict[str, JsonValue]:
    """Return {"error": {message, type, param, code}} as OpenAI's clients expect."""
    kind = _OPENAI_TYPES.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    param = None if problem.where is None else str(problem.where)
    return {
        "error": {"message": str(problem), "type": kind, "param": param, "code": problem.code, "request_id": request_id}
    }
