"""Step 5s: the suites of a release, asked of the base, of the weights of every training, and of the file to serve.

So safety stands in the report after every stage, and what is gated is both the selected weights and the quantised file.
Every system is asked alike: the prompt of the item, no retrieval, the best token each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError, ModelError
from fieldwise.evaluate.asking import tuned
from fieldwise.evaluate.quarantine import Quarantine
from fieldwise.evaluate.report import as_family, overall
from fieldwise.evaluate.settings import EvaluateSettings, SuiteSettings
from fieldwise.files import read_json, write_json, write_jsonl
from fieldwise.hashing import sha256_file, sha256_of_files
from fieldwise.progress import say
from fieldwise.records import BaseWeights
from fieldwise.run import RunFolder, StepRun
from fieldwise.suite.command import figures, slug
from fieldwise.suite.gates import Paired, judge_suite
from fieldwise.suite.items import Suite
from fieldwise.suite.lm_eval import is_task
from fieldwise.suite.reading import open_suite
from fieldwise.suite.respondents import EngineRespondent, Respondent
from fieldwise.suite.run import SuiteResult, ask, sum_up
from fieldwise.suite.tasks import Task, ask_task, open_task, require_harness

REPORT = "5_reports/suites.json"
BASE, SERVED = "base", "served"
_PARALLEL, _CONTEXT_TOKENS = 4, 4096


class Weights(NamedTuple):
    """Weights to ask: the name of the stage that left them, a folder or GGUF file, and the hash of both."""

    system: str
    path: Path
    sha256: str


def opened_suites(settings: EvaluateSettings) -> list[Suite | Task]:
    """Open every suite that is wanted; raises DatasetError for one that is not there, or stands twice."""
    suites = [_opened(wanted) for wanted in settings.wanted_suites]
    names = [s.name for s in suites]
    if twice := next((n for n in names if names.count(n) > 1), None):
        raise DatasetError("the suite stands twice", where="evaluate.suites", found=twice, fix="Name it once.")
    return suites


def _opened(wanted: SuiteSettings) -> Suite | Task:
    if is_task(wanted.suite):
        return open_task(wanted.suite, wanted.metric)
    if wanted.metric is not None:
        raise DatasetError(
            "only a task of lm-evaluation-harness has metrics to choose from",
            where="evaluate.suites",
            found=f"{wanted.suite}: {wanted.metric}",
            fix="Take metric out: an item of a suite is passed if its checks hold.",
        )
    return open_suite(wanted.suite)


def require_harness_for(settings: EvaluateSettings) -> None:
    """Raise MissingExtra if a suite is a task of lm-evaluation-harness, and that is not installed."""
    if any(is_task(wanted.suite) for wanted in settings.wanted_suites):
        require_harness()


def run_suites(
    settings: EvaluateSettings, base: BaseWeights, step: StepRun, *, serve: str, quarantine: Quarantine
) -> dict[str, JsonValue]:
    """Put all systems through all suites, judge the selected weights and the file to serve; returns the main figures."""
    suites = opened_suites(settings)
    selected = str(read_json(step.run.require("4_adapters/selected.json", "train"))["selected"])
    results: dict[str, dict[str, SuiteResult]] = {s.name: {} for s in suites}
    for weights in systems(step.run, base, serve):
        with closing(_respondent(weights, settings.suite_tokens)) as respondent:
            for suite in suites:
                results[suite.name][weights.system] = _asked(suite, respondent, settings.suite_tokens, step)
    pairs = [
        (wanted, Paired(system, by[system], by[BASE], quarantine.left_out(suite.name)))
        for wanted, suite in zip(settings.wanted_suites, suites, strict=True)
        for by in [results[suite.name]]
        for system in (selected, SERVED)
    ]
    gates = as_family([gate for wanted, pair in pairs for gate in judge_suite(wanted, pair)])
    verdict = overall(gates)
    write_json(
        step.out(REPORT),
        {
            "selected": selected,
            "verdict": verdict,
            "gates": [g.model_dump(mode="json") for g in gates],
            "suites": [_told(suite, results[suite.name], quarantine.of(suite.name)) for suite in suites],
        },
    )
    for gate in gates:
        say(f"  {gate.verdict:12} {gate.requirement}: {gate.found}")
    passed: dict[str, JsonValue] = {
        name: {system: r.passed.value for system, r in by.items()} for name, by in results.items()
    }
    return {"verdict": verdict, "passed": passed}


def _asked(suite: Suite | Task, respondent: Respondent, max_tokens: int, step: StepRun) -> SuiteResult:
    ledger = step.work / f"{slug(suite.name)}-{slug(respondent.name)}.jsonl"
    if isinstance(suite, Task):
        say(f"  lm-eval {suite.name} for {respondent.name}")
        result = ask_task(suite, respondent, ledger, max_tokens=max_tokens)
    else:
        replies = ask(suite, respondent, ledger, max_tokens=max_tokens)
        result = sum_up(suite, replies, respondent, max_tokens=max_tokens)
    place = step.out(f"5_reports/suites/{slug(suite.name)}/{slug(respondent.name)}.jsonl")
    write_jsonl(place, (i.model_dump(mode="json", exclude={"cluster"}) for i in result.items))
    return result


def _told(suite: Suite | Task, by: dict[str, SuiteResult], quarantine: Quarantine) -> dict[str, JsonValue]:
    """What the report keeps of a suite: figures by system, in the order of the stages, and what is in quarantine."""
    shown: dict[str, JsonValue] = {system: figures(result) for system, result in by.items()}  # type: ignore[misc]
    return {
        "suite": suite.name,
        "version": by[BASE].version,
        "sha256": suite.sha256,
        "about": suite.about,
        "items": len(by[BASE].items),
        "systems": shown,
        "quarantined": [f.model_dump(mode="json") for f in quarantine.standing],
        "expired": [f.model_dump(mode="json") for f in quarantine.expired],
    }


# ---------------------------------------------------------------- who is asked


def systems(run: RunFolder, base: BaseWeights, serve: str) -> Iterator[Weights]:
    """Yield the base, what every training left, and the file to serve, in this order."""
    yield Weights(BASE, Path(base.path), base.sha256)
    for name in tuned(run):
        folder = run.path / f"4_adapters/{name}/merged"
        yield Weights(name, folder, sha256_of_files(sorted(folder.glob("*.safetensors")), folder))
    path = file_to_serve(run, serve)
    yield Weights(SERVED, path, sha256_file(path))


def file_to_serve(run: RunFolder, serve: str) -> Path:
    """Return the tuned file of a type; raises ModelError if it was not built."""
    records: Sequence[dict[str, JsonValue]] = [
        read_json(p) for p in sorted((run.path / "6_builds").glob(f"*-{serve}.build.json"))
    ]
    found = next((run.path / str(r["path"]) for r in records if r.get("adapter_id") is not None), None)
    if found is None or not found.is_file():
        raise ModelError(
            "the file to serve was not built", where="release.serve", found=serve, fix="Run stage 5a: build."
        )
    return found


def _respondent(weights: Weights, max_tokens: int) -> Respondent:
    identity = f"sha256:{weights.sha256}"
    if weights.path.suffix == ".gguf":
        from fieldwise.engine.llama_cpp import LlamaCppEngine

        served = LlamaCppEngine(weights.path, context_tokens=_CONTEXT_TOKENS, parallel=_PARALLEL)
        return EngineRespondent(weights.system, served, identity, max_tokens)
    from fieldwise.engine.transformers_engine import TransformersEngine

    return EngineRespondent(weights.system, TransformersEngine(weights.path, dtype="auto"), identity, max_tokens)
