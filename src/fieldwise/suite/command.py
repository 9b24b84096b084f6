"""`fieldwise suite`: open the suite, ask every model, keep replies and figures, return them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fieldwise.engine.opening import open_weights
from fieldwise.errors import FieldwiseError, ModelError
from fieldwise.files import write_json, write_jsonl, write_text
from fieldwise.hashing import sha256_file, sha256_text
from fieldwise.interfaces import Engine
from fieldwise.llm.budget import cost
from fieldwise.llm.settings import PriceSettings
from fieldwise.progress import say
from fieldwise.run import RunFolder
from fieldwise.serve.release_file import BASE, TUNED, named_builds, read_release
from fieldwise.suite.endpoint import EndpointRespondent, EndpointSettings
from fieldwise.suite.items import Suite
from fieldwise.suite.report import markdown
from fieldwise.suite.respondents import EngineRespondent, Respondent
from fieldwise.suite.run import SuiteResult, ask, sum_up

_PARALLEL, _CONTEXT_TOKENS = 4, 4096


class Source(NamedTuple):
    """Whom to ask: an endpoint, weights, or the release of a run; and for what."""

    run: Path
    models: tuple[str, ...] = ()
    weights: str | None = None
    endpoint: str | None = None
    key_env: str | None = None
    max_tokens: int = 256
    price: PriceSettings | None = None


def run_suite(
    suite: Suite, source: Source, out: Path | None = None, *, at_least: float | None = None, forget: bool = False
) -> tuple[list[SuiteResult], Path]:
    """Put every model of a source through a suite; returns the figures and the folder that holds them.

    `forget` asks also what is known. Raises ModelError, RunError or ServiceError when a model cannot be asked at all.
    """
    folder = (out or default_folder(source)) / slug(suite.name)
    results = []
    for make in respondents(source):
        with closing(make()) as respondent:
            place = folder / f"{slug(respondent.name)}-{sha256_text(respondent.identity)[:8]}"
            ledger = place / "replies.jsonl"
            if forget:
                ledger.unlink(missing_ok=True)
            say(f"{suite.name}: {len(suite.items)} items for {respondent.name}")
            replies = ask(suite, respondent, ledger, max_tokens=source.max_tokens)
            result = sum_up(suite, replies, respondent, max_tokens=source.max_tokens, at_least=at_least)
            result = _priced(result, source.price)
        _keep(place, result, suite.about)
        results.append(result)
    write_text(folder / "report.md", markdown(results, suite.about))
    return results, folder


def _priced(result: SuiteResult, price: PriceSettings | None) -> SuiteResult:
    if price is None or result.spent is None:
        return result
    money = cost(result.spent.prompt_tokens, result.spent.completion_tokens, price).money
    return result.model_copy(update={"spent": result.spent.model_copy(update={"price": money})})


def _keep(place: Path, result: SuiteResult, about: str) -> None:
    write_jsonl(place / "items.jsonl", (i.model_dump(mode="json", exclude={"cluster"}) for i in result.items))
    write_json(place / "figures.json", figures(result))
    write_text(place / "report.md", markdown([result], about))


def figures(result: SuiteResult) -> dict[str, object]:
    """The result without its items, and with the ids of those that failed critically."""
    value: dict[str, object] = result.model_dump(mode="json", exclude={"items"})
    return {**value, "items": len(result.items), "critical": [i.id for i in result.critical]}


def default_folder(source: Source) -> Path:
    """Where replies are kept: in the run folder if its release is asked."""
    is_run = source.endpoint is None and source.weights is None
    return source.run / "suites" if is_run else Path("suites")


def slug(name: str) -> str:
    """Return a name as part of a path."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "suite"


# ---------------------------------------------------------------- who replies


def respondents(source: Source) -> Iterator[Callable[[], Respondent]]:
    """Yield what opens each model of a source; one at a time is open."""
    if source.endpoint is not None and source.weights is not None:
        raise FieldwiseError(
            "two sources at once", where="--endpoint", found="--endpoint and --weights", fix="Name one of them."
        )
    if source.endpoint is not None:
        return _at_endpoint(source)
    if source.weights is not None:
        if source.models:
            raise FieldwiseError(
                "--model names a model of a run or an endpoint",
                where="--weights",
                found=source.models[0],
                fix="Leave --model out.",
            )
        return iter([partial(_weights, source.weights, source.max_tokens)])
    return _of_run(source)


def _at_endpoint(source: Source) -> Iterator[Callable[[], Respondent]]:
    if not source.models:
        raise FieldwiseError(
            "which model of the endpoint?", where="--endpoint", fix="Name it with --model; GET /v1/models lists them."
        )
    assert source.endpoint is not None
    settings = [EndpointSettings(source.endpoint, m, source.key_env, source.max_tokens) for m in source.models]
    return (partial(EndpointRespondent, one) for one in settings)


def _of_run(source: Source) -> Iterator[Callable[[], Respondent]]:
    run = RunFolder(source.run)
    release = read_release(run)

    def opened(model: str) -> Respondent:
        named = named_builds(release, "" if model in (BASE, TUNED) else model)
        if model == BASE and BASE not in named:
            raise ModelError(
                "the release holds no base",
                where="--model",
                found=BASE,
                fix="Set release.include_base and run: fieldwise release",
            )
        build = named[BASE if model == BASE else TUNED]
        path = (run.path / build.path).resolve()
        again = f"Make the release again: fieldwise release --run {run.path} --force"
        if not path.is_relative_to(run.path.resolve()) or not path.is_file():
            raise ModelError("the model file is not there", where=run.path / build.path, fix=again)
        if (digest := sha256_file(path)) != build.sha256:
            raise ModelError(
                "the model file is not the one that was released",
                where=path,
                found=f"SHA-256 {digest[:16]}... instead of {build.sha256[:16]}...",
                fix=again,
            )
        return EngineRespondent(model, _llama(path), f"sha256:{digest}", source.max_tokens)

    return (partial(opened, model) for model in source.models or (TUNED,))


def _weights(named: str, max_tokens: int) -> Respondent:
    engine, digest = open_weights(named, context_tokens=_CONTEXT_TOKENS, parallel=_PARALLEL)
    path = Path(named)
    name = path.stem if path.suffix == ".gguf" else path.name
    return EngineRespondent(name, engine, f"sha256:{digest}", max_tokens)


def _llama(path: Path) -> Engine:
    from fieldwise.engine.llama_cpp import LlamaCppEngine

    return LlamaCppEngine(path, context_tokens=_CONTEXT_TOKENS, parallel=_PARALLEL)
