"""Which steps have to run, and running them.

A step's key hashes its settings, the content of its inputs, the code of its modules and the versions of the
libraries that shape its output. Same key: skipped. Key seen before: restored from the store.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import ascii_lowercase
from typing import Literal, NamedTuple

from pydantic import JsonValue

from fieldwise.collect.settings import CollectSettings
from fieldwise.errors import FieldwiseError, RunError
from fieldwise.extras import installed_version
from fieldwise.hashing import canonical_json, sha256_of_files, sha256_text
from fieldwise.progress import say, stop_if_interrupted
from fieldwise.recipe import Recipe, save_recipe
from fieldwise.run import Manifest, RunFolder, StepRun
from fieldwise.steps import STEPS, Step, wanted_inputs

_CORE_MODULES = ("records", "tables", "hashing", "prompts", "files")
_UNWANTED = "Name suites in the recipe: evaluate.suites=[safety]"
READ_BY_PEOPLE = ("2_chunks/report.json", "2_chunks/report.html")
"""Outputs that no step reads: another look of a report does not train a model anew."""


# ---------------------------------------------------------------- choosing steps


def choose(stage: str | None = None, start: str | None = None, end: str | None = None) -> tuple[Step, ...]:
    """Return the steps that `--stage`, `--start` and `--end` name: numbers such as 4b, whole stages such as 4, or names."""
    if stage is not None and (start is not None or end is not None):
        raise FieldwiseError(
            "--stage names one stage; --start and --end a range", where="command line", fix="Give one or the other."
        )
    if stage is not None:
        return _matching(stage)
    first = STEPS.index(_matching(start)[0]) if start is not None else 0
    last = STEPS.index(_matching(end)[-1]) if end is not None else len(STEPS) - 1
    if first > last:
        raise FieldwiseError(
            "the range is empty",
            where="command line",
            found=f"--start {start} --end {end}",
            fix="Name the earlier stage with --start.",
        )
    return STEPS[first : last + 1]


def wanted(steps: tuple[Step, ...], recipe: Recipe) -> tuple[Step, ...]:
    """Return the steps that the recipe wants; one that it does not is passed over without a word."""
    return tuple(s for s in steps if s.is_wanted(recipe))


def _matching(wanted: str) -> tuple[Step, ...]:
    found = tuple(
        s
        for s in STEPS
        if wanted in (s.number, s.name, s.id) or (wanted.isdigit() and s.number.rstrip(ascii_lowercase) == wanted)
    )
    if not found:
        serving = "Stage 6 is a command of its own: fieldwise serve. " if wanted in ("6", "serve") else ""
        raise FieldwiseError(
            "no such stage",
            where="command line",
            found=repr(wanted),
            fix=f"{serving}There are: {', '.join(f'{s.number} {s.name}' for s in STEPS)}.",
        )
    return found


# ---------------------------------------------------------------- keys


@cache
def _code_hash(rooms: tuple[str, ...]) -> str:
    """Hash of the modules a step runs: its rooms, or single files of a room, and the records they exchange."""
    spec = importlib.util.find_spec("fieldwise")
    assert spec is not None and spec.submodule_search_locations is not None
    root = Path(spec.submodule_search_locations[0])
    files = [path for name in (*_CORE_MODULES, *rooms) if (path := root / f"{name}.py").is_file()]
    files += [p for room in rooms for p in sorted((root / room).glob("*.py")) if p.name != "settings.py"]
    return sha256_of_files(files, root)


def parts_of(
    step: Step, recipe: Recipe, run: RunFolder, restored: dict[str, Manifest] | None = None
) -> dict[str, JsonValue] | None:
    """Return everything the step's key is made of, or None if an input is not there yet."""
    inputs: dict[str, JsonValue] = {}
    for name in wanted_inputs(step, recipe):
        manifest = (restored or {}).get(name) or run.manifest(name)
        if manifest is None:
            return None
        read = {n: o.sha256 for n, o in manifest.outputs.items() if n not in READ_BY_PEOPLE}
        inputs[name] = sha256_text(canonical_json(read))
    libraries: dict[str, JsonValue] = {name: installed_version(name) for name in step.libraries}
    return {
        "step": step.id,
        "seed": recipe.seed,
        "settings": step.settings(recipe),
        "inputs": inputs,
        "outside": {**step.outside(recipe), **step.beside(recipe, run)},
        "code": _code_hash(step.rooms),
        "libraries": libraries,
    }


def key_of(parts: dict[str, JsonValue]) -> str:
    """Return the key of a step."""
    return sha256_text(canonical_json(parts))


class Plan(NamedTuple):
    """What would happen to a step, and why."""

    step: Step
    action: Literal["skip", "restore", "run", "wait", "blocked"]
    reason: str
    key: str | None
    parts: dict[str, JsonValue] | None


def plan_step(
    step: Step, recipe: Recipe, run: RunFolder, *, force: bool, restored: dict[str, Manifest] | None = None
) -> Plan:
    """Decide about one step from what stands in the run folder now, or would once `restored` stands there."""
    parts = parts_of(step, recipe, run, restored)
    if parts is None:
        missing = [
            name for name in wanted_inputs(step, recipe) if name not in (restored or {}) and run.manifest(name) is None
        ]
        return Plan(step, "wait", f"needs {', '.join(missing)} first", None, None)
    key = key_of(parts)
    old = run.manifest(step.id)
    if force:
        return Plan(step, "run", "forced", key, parts)
    if old is not None and old.key == key:
        damaged = run.damaged_outputs(old)
        if not damaged:
            return Plan(step, "skip", "up to date", key, parts)
        stored = run.stored(key)
        return Plan(step, "restore" if stored else "run", f"{damaged[0]} is missing or was changed", key, parts)
    reason = "never run here" if old is None else _difference(old.parts, parts)
    if (begun := run.begun_otherwise(step.id, key)) is not None:
        reason += f"; begun before and not finished, which is not gone on with: {_difference(begun, parts)}"
    if run.stored(key) is not None:
        return Plan(step, "restore", f"{reason}; made before", key, parts)
    return Plan(step, "run", reason, key, parts)


def _difference(old: dict[str, JsonValue], parts: dict[str, JsonValue]) -> str:
    """Say which part of the key is new."""
    changes = list(_changes(old, parts, ""))
    return (
        "; ".join(changes[:3]) + (f" and {len(changes) - 3} more" if len(changes) > 3 else "")
        if changes
        else "the key is another"
    )


def _changes(old: JsonValue, new: JsonValue, path: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from _changes(old.get(name), new.get(name), f"{path}.{name}" if path else name)
    elif old != new:
        kind, _, rest = path.partition(".")
        if kind == "inputs":
            yield f"output of {rest} changed"
        elif kind == "code":
            yield "Fieldwise's code changed"
        elif kind == "libraries":
            yield f"{rest} {old} -> {new}"
        elif kind == "outside":
            yield f"{rest} changed"
        else:
            yield f"{rest or kind}: {old!r} -> {new!r}"[:120]


# ---------------------------------------------------------------- running


def run_steps(
    recipe: Recipe, run: RunFolder, steps: tuple[Step, ...], *, force: bool = False
) -> list[dict[str, JsonValue]]:
    """Run what is not up to date, in order; returns what happened to each step.

    Call `require_outside` first and hold the lock.
    """
    if not wanted(steps, recipe):
        names = ", ".join(s.name for s in steps)
        raise FieldwiseError("the recipe does not ask for it", where=f"stage {names}", fix=_UNWANTED)
    run.require_free_disk()
    save_recipe(recipe, run.recipe_path)
    happened: list[dict[str, JsonValue]] = []
    for step in wanted(steps, recipe):
        stop_if_interrupted()
        plan = plan_step(step, recipe, run, force=force)
        if plan.action == "wait":
            raise FieldwiseError(
                f"stage {step.number} {step.name} {plan.reason}",
                where=run.path,
                fix=f"Run the earlier stages as well: fieldwise run --run {run.path} --end {step.number}",
            )
        assert plan.key is not None and plan.parts is not None
        began = time.monotonic()
        if plan.action == "skip":
            say(f"{step.number:>2} {step.name}: up to date")
            manifest = run.manifest(step.id)
        elif plan.action == "restore":
            say(f"{step.number:>2} {step.name}: restored ({plan.reason})")
            manifest = run.stored(plan.key)
            assert manifest is not None
            run.restore(manifest)
        else:
            say(f"{step.number:>2} {step.name}: {step.about} ({plan.reason})")
            manifest = _run_one(step, recipe, run, plan.key, plan.parts)
            say(f"   done in {manifest.seconds:.1f} s")
        happened.append(
            {
                "step": step.id,
                "action": plan.action,
                "reason": plan.reason,
                "seconds": round(time.monotonic() - began, 2),
                "facts": manifest.facts if manifest else {},
            }
        )
    return happened


def require_outside(recipe: Recipe, run: RunFolder, steps: tuple[Step, ...]) -> None:
    """Raise for sources, weights or questions that are not there, before anything is written or a stage spends time."""
    from fieldwise.collect.stage import require_sources

    for step in wanted(steps, recipe):
        if step.number == "1":
            _require_apart(recipe.collect, run)
            require_sources(recipe.collect)
        else:
            step.outside(recipe)
            if step.require is not None and plan_step(step, recipe, run, force=False).action in ("run", "wait"):
                step.require(recipe)


def _require_apart(settings: CollectSettings, run: RunFolder) -> None:
    """A run folder below a source is passed over by collect; one that is the source would read what it writes."""
    for source in settings.places:
        if run.path == Path(source).resolve():
            raise RunError(
                "the run folder is the source itself, which would read what the run writes",
                where=run.path,
                found=f"the source {source}",
                fix="Name a folder elsewhere with --run.",
            )


def _run_one(step: Step, recipe: Recipe, run: RunFolder, key: str, parts: dict[str, JsonValue]) -> Manifest:
    began = time.monotonic()
    with StepRun(run, step.id, key, recipe.seed, parts) as given:
        facts = step.work(recipe, given)
        return run.publish(step.id, key, parts, given.staging, facts, time.monotonic() - began)


def plan_all(recipe: Recipe, run: RunFolder, steps: tuple[Step, ...], *, force: bool = False) -> list[Plan]:
    """Say what a run would do, step by step; steps behind one that would run wait for its output.

    A step is blocked when what it needs from outside, such as the sources, is not there.
    """
    plans: list[Plan] = []
    changed: set[str] = set()
    restored: dict[str, Manifest] = {}
    for step in wanted(steps, recipe):
        try:
            plan = plan_step(step, recipe, run, force=force, restored=restored)
        except FieldwiseError as error:
            plans.append(Plan(step, "blocked", str(error), None, None))
            continue
        behind = [name for name in wanted_inputs(step, recipe) if name in changed]
        if behind and plan.action in ("skip", "restore", "wait"):
            plan = plan._replace(action="run", reason=f"depends on {', '.join(behind)}, which would run")
        if plan.action == "run":
            changed.add(step.id)
        elif plan.action == "restore" and plan.key is not None and (stored := run.stored(plan.key)) is not None:
            restored[step.id] = stored
        plans.append(plan)
    return plans
