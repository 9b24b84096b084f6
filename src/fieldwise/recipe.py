"""The recipe: everything a run is told, in one YAML file.

Each section is named after its room. Unknown keys are refused with the nearest known name, and all problems
are reported together, each with its line and dotted key. `key=value` overrides on the command line use
the same dotted keys.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError

from fieldwise.collect.settings import CollectSettings, RowsSource, WebSource, is_other_scheme, is_url
from fieldwise.errors import FieldwiseError, RecipeError
from fieldwise.evaluate.metrics import METRICS, TIMES, by_judge, by_model, in_batches
from fieldwise.evaluate.settings import BY_PROBABILITY, RAG_SYSTEMS, RESERVED, EvaluateSettings, SuiteSettings
from fieldwise.files import write_text
from fieldwise.generate.settings import DataSettings, GenerateSettings
from fieldwise.hashing import canonical_json, sha256_text
from fieldwise.llm.settings import EndpointSettings
from fieldwise.prepare.settings import PrepareSettings
from fieldwise.release.settings import ReleaseSettings
from fieldwise.retrieve.settings import RetrieveSettings
from fieldwise.serve.settings import ServeSettings
from fieldwise.settings import Settings
from fieldwise.train.settings import ComputeSettings, TrainSettings

_MAX_RECIPE_BYTES = 1_000_000
_MAX_VALUES = 10_000  # a few anchors that name each other can stand for billions of values
_COMMAND_LINE = "command line"
_RETRIEVE_PLACES = ("embedding_model", "rerank_model", "rerank_cross_encoder")
_MOST_SUGGESTED = 4
_RENAMED = {"train.dpo": "train.preference, with method: dpo"}


class BaseSettings(Settings):
    """The weights to start from."""

    model: str = Field(
        "fieldwise-nano", description="fieldwise-nano, fieldwise-nano/SIZE, a local folder, or a Hugging Face id"
    )
    revision: str | None = Field(
        None, description="commit or tag of a Hugging Face id; name one for a run that can be repeated"
    )


class Recipe(Settings):
    """Everything a run is told."""

    name: str = Field(
        "fieldwise",
        min_length=1,
        max_length=80,
        pattern=r"^[\w][\w .-]*$",
        description="name of the model this recipe makes",
    )
    domain: str = Field("general", description="field the documents belong to; stands in the model card")
    seed: int = Field(42, ge=0, lt=2**32, description="every random choice starts from it")
    base: BaseSettings = BaseSettings()
    collect: CollectSettings = CollectSettings()
    prepare: PrepareSettings = PrepareSettings()
    retrieve: RetrieveSettings = RetrieveSettings()
    generate: GenerateSettings = GenerateSettings()
    train: TrainSettings = TrainSettings()
    compute: ComputeSettings = ComputeSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    release: ReleaseSettings = ReleaseSettings()
    serve: ServeSettings = ServeSettings()

    def hash(self) -> str:
        """Return the hash of the whole recipe."""
        return sha256_text(canonical_json(self.model_dump(mode="json")))

    def to_yaml(self) -> str:
        """Return the recipe with every default filled in."""
        return str(yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100))


# ---------------------------------------------------------------- reading


def load_recipe(path: Path | None, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file (None: all defaults), apply `key=value` overrides, and check everything.

    Places of sources, questions and weights become absolute. They count from the folder of the recipe file, those
    of overrides from the current folder.
    """
    raw: dict[str, Any] = {}
    places: dict[str, str] = {}
    problems: list[FieldwiseError] = []
    if path is not None:
        raw, places, problems = _read_yaml(path)
    problems += [p for override in overrides if (p := _apply(raw, override, places)) is not None]
    problems += _unknown_keys(raw, Recipe, "", places)
    try:  # without what is unknown, to say in the same breath what else is wrong
        recipe = Recipe.model_validate(_without_unknown(raw, Recipe))
        problems += _contradictions(recipe, places)
    except ValidationError as error:
        problems += [_problem(e, places) for e in error.errors()]
    if problems:
        raise RecipeError(problems, where=path)
    return _absolute(recipe, path.resolve().parent if path is not None else Path.cwd(), places)


def missing_places(recipe: Recipe) -> list[FieldwiseError]:
    """Return a problem for each source, file of questions or folder of weights that is not there."""
    named = [
        *((f"collect.sources.{n}", place) for n, place in enumerate(map(_local_place, recipe.collect.sources))),
        *((f"generate.data.{n}", _data_place(d)) for n, d in enumerate(recipe.generate.data)),
        ("generate.tools", recipe.generate.tools or ""),
        *(("generate.review", place) for place in recipe.generate.review),
        ("generate.votes", recipe.generate.votes or ""),
        ("evaluate.questions", recipe.evaluate.questions or ""),
        ("evaluate.development", recipe.evaluate.development or ""),
        ("evaluate.quarantine", recipe.evaluate.quarantine or ""),
        ("evaluate.nli", recipe.evaluate.nli or ""),
        *((f"evaluate.suites.{n}", s.suite) for n, s in enumerate(recipe.evaluate.wanted_suites) if _is_file(s.suite)),
        *((f"retrieve.{name}", getattr(recipe.retrieve, name) or "") for name in _RETRIEVE_PLACES),
        ("base.model", recipe.base.model if recipe.base.model.startswith("/") else ""),
        ("train.distillation.teacher.model", _teacher_place(recipe)),
    ]
    return [
        FieldwiseError(
            "the file or folder is not there",
            where=key,
            found=place,
            fix="Check the spelling; places count from the folder of the recipe file, those on the command line from here.",
        )
        for key, place in named
        if place and not Path(place).exists() and not (key.startswith("collect.") and set(place) & set("*?["))
    ]


def _teacher_place(recipe: Recipe) -> str:
    teacher = recipe.train.distillation.teacher.model if recipe.train.distillation is not None else None
    return teacher if teacher is not None and teacher.startswith("/") else ""


def _local_place(source: str | WebSource | RowsSource) -> str:
    """The file or folder of this machine that a source names; none for addresses."""
    if isinstance(source, WebSource):
        return source.urls or ""
    if isinstance(source, RowsSource):
        return source.rows or ""
    return "" if is_url(source) else source


def _is_file(suite: str) -> bool:
    """Whether a suite is named by its place: with a folder, or an ending."""
    is_place = Path(suite).suffix != "" or len(Path(suite).parts) > 1
    return is_place and not suite.startswith("lm-eval:")


def _data_place(entry: str | DataSettings) -> str:
    return entry if isinstance(entry, str) else entry.path


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe atomically."""
    write_text(path, recipe.to_yaml())


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, str], list[FieldwiseError]]:
    """Return the values, the file and line of each key, and the keys that stand twice (YAML would keep the last)."""
    if path.is_dir():
        raise FieldwiseError(
            "expected a recipe file",
            where=path,
            found="a folder",
            fix=f"Name the YAML file, such as {path / 'recipe.yaml'}.",
        )
    try:
        if path.stat().st_size > _MAX_RECIPE_BYTES:
            raise FieldwiseError(
                "the recipe is too large",
                where=path,
                found=f"{path.stat().st_size} bytes",
                fix="A recipe is a short YAML file.",
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise FieldwiseError(
            "the recipe is not there", where=path, fix="Make one with: fieldwise init DOMAIN"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise FieldwiseError(
            "the recipe cannot be read",
            where=path,
            found=str(error),
            fix="Name a text file in UTF-8 that you may read.",
        ) from error
    try:
        keys = list(islice(_key_lines(yaml.compose(text, Loader=yaml.SafeLoader), ""), _MAX_VALUES + 1))
        if len(keys) > _MAX_VALUES:
            raise FieldwiseError(
                "the recipe is too large",
                where=path,
                found=f"more than {_MAX_VALUES} values",
                fix="A recipe is a short YAML file; anchors multiply what they name.",
            )
        value = _unshared(yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise FieldwiseError(
            "not valid YAML",
            where=where,
            found=getattr(error, "problem", None) or str(error).splitlines()[0],
            fix="Check indentation, colons and quotes on that line.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise FieldwiseError(
            "a value cannot be read",
            where=path,
            found="brackets or anchors without end" if isinstance(error, RecursionError) else str(error),
            fix="Put text that looks like a date or a number in quotes; docs/recipe.md lists every key with its type.",
        ) from error
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise FieldwiseError(
            "expected a mapping of sections", where=path, found=type(value).__name__, fix="Start with: name: my-model"
        )
    places: dict[str, str] = {}
    twice: list[FieldwiseError] = []
    for dotted, line in keys:
        if dotted in places:
            twice.append(
                FieldwiseError(
                    "the key stands twice",
                    where=f"{path}:{line}: {dotted}",
                    found=f"it first at {places[dotted]}",
                    fix="Keep one of them.",
                )
            )
        places[dotted] = f"{path}:{line}"
    return value, places, twice


def _unshared(value: Any) -> Any:
    """Copy what several anchors name, so that an override of one place leaves the others alone."""
    if isinstance(value, dict):
        return {k: _unshared(v) for k, v in value.items()}
    return [_unshared(v) for v in value] if isinstance(value, list) else value


def _key_lines(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            dotted = f"{prefix}{key.value}"
            yield dotted, key.start_mark.line + 1
            yield from _key_lines(value, f"{dotted}.")
    elif isinstance(node, yaml.SequenceNode):
        for n, item in enumerate(node.value):
            yield f"{prefix}{n}", item.start_mark.line + 1
            yield from _key_lines(item, f"{prefix}{n}.")


def _apply(raw: dict[str, Any], override: str, places: dict[str, str]) -> FieldwiseError | None:
    """Set one value; a list the recipe leaves out is taken from the defaults, so that one of its entries can be changed."""
    key, equals, text = (part.strip() for part in override.partition("="))
    if not equals or not key:
        return FieldwiseError(
            "an override is written key=value",
            where=_COMMAND_LINE,
            found=repr(override),
            fix="Example: train.sft.epochs=2",
        )
    target: Any = raw
    default: Any = Recipe().model_dump(mode="json")
    *path, last = key.split(".")
    for n, part in enumerate(path):
        default = default.get(part) if isinstance(default, dict) else None
        if isinstance(target, dict) and target.get(part) is None:
            target[part] = deepcopy(default) if isinstance(default, list) else {}
        if (entry := _entry(target, part)) is None:
            return _no_entry(target, ".".join(path[:n]), key)
        target = target[entry]
    if (entry := _entry(target, last)) is None:
        return _no_entry(target, ".".join(path), key)
    target[entry] = _value(text)
    for inside in [k for k in places if k.startswith(f"{key}.")]:
        del places[inside]
    places[key] = _COMMAND_LINE
    return None


def _value(text: str) -> Any:
    try:
        value = yaml.safe_load(text) if text else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return text
    if isinstance(value, dict) and not text.startswith("{"):
        return text  # "NAME: REASON" is text, not a mapping
    return value


def _entry(target: Any, part: str) -> str | int | None:
    if isinstance(target, list):
        return int(part) if part.isdecimal() and int(part) < len(target) else None
    return part if isinstance(target, dict) else None


def _no_entry(target: Any, parent: str, key: str) -> FieldwiseError:
    if isinstance(target, list):
        found, fix = f"a list of {len(target)}", f"Count from 0, or give the whole list: {parent}=[...]"
    else:
        found, fix = repr(target)[:80], f"Give it a value: {parent}=..."
    return FieldwiseError(f"{parent} has no such entry", where=f"{_COMMAND_LINE}: {key}", found=found, fix=fix)


# ---------------------------------------------------------------- problems


def _where(dotted: str, places: dict[str, str]) -> str:
    probe = dotted
    while probe and probe not in places:
        probe = probe.rpartition(".")[0]
    return f"{places[probe]}: {dotted}" if probe else dotted


def _inner_models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _inner_models(part)]


def _model_for(annotation: Any, value: Any) -> type[BaseModel] | None:
    """The model of a section; of several the one that knows, or nearly knows, most of the keys that are there."""
    keys = [str(key) for key in value] if isinstance(value, dict) else []

    def known(model: type[BaseModel]) -> tuple[int, int]:
        near = sum(bool(difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.6)) for key in keys)
        return len(set(keys) & set(model.model_fields)), near

    return max(_inner_models(annotation), key=known, default=None)


def _unknown_keys(
    raw: dict[str, Any], model: type[BaseModel], prefix: str, places: dict[str, str]
) -> Iterator[FieldwiseError]:
    for key, value in raw.items():
        dotted = f"{prefix}{key}"
        if key not in model.model_fields:
            yield FieldwiseError("unknown key", where=_where(dotted, places), fix=_suggest(str(key), model, prefix))
            continue
        annotation = model.model_fields[key].annotation
        for n, item in enumerate(value) if isinstance(value, list) else [(None, value)]:
            inner = _model_for(annotation, item)
            if inner is not None and isinstance(item, dict):
                yield from _unknown_keys(item, inner, f"{dotted}.{n}." if n is not None else f"{dotted}.", places)


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for inner in _inner_models(field.annotation):
            yield from _all_keys(inner, f"{prefix}{name}.")


def _either(places: list[str]) -> str:
    """Some names as a choice: `a`, `a or b`, `a, b or c`."""
    *others, last = places[:_MOST_SUGGESTED]
    return f"{', '.join(others)} or {last}" if others else last


def _suggest(key: str, model: type[BaseModel], prefix: str) -> str:
    if f"{prefix}{key}" in _RENAMED:
        return f"Call it {_RENAMED[f'{prefix}{key}']}."
    near = difflib.get_close_matches(key, model.model_fields, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {prefix}{near[0]}?"
    elsewhere = [k for k in _all_keys(Recipe) if k.rpartition(".")[2] == key]
    if elsewhere:
        return f"Did you mean {_either(elsewhere)}?"
    return f"Known here: {', '.join(model.model_fields)}."


def _without_unknown(raw: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in model.model_fields:
            continue
        annotation = model.model_fields[key].annotation
        kept[key] = [_known(annotation, v) for v in value] if isinstance(value, list) else _known(annotation, value)
    return kept


def _known(annotation: Any, value: Any) -> Any:
    inner = _model_for(annotation, value)
    return _without_unknown(value, inner) if inner is not None and isinstance(value, dict) else value


_PLAIN = {  # kinds of pydantic's errors in the words of someone who writes YAML, and what to do
    "int": ("expected a whole number", ""),
    "float": ("expected a number", ""),
    "bool": ("expected true or false", ""),
    "string_type": ("expected text", "Put it in quotes."),
    "tuple_type": ("expected a list", "Write it as [a, b]."),
    "model": ("expected a section of keys", "Write its keys below it, or leave it out."),
    "missing": ("a value is needed", "docs/recipe.md says what it means."),
}


def _problem(error: Any, places: dict[str, str]) -> FieldwiseError:
    location, default = _field_at(error["loc"])
    kind, found = str(error["type"]), error.get("input")
    plain = next(
        (p for k, p in _PLAIN.items() if kind == k or kind in (f"{k}_type", f"{k}_parsing", f"{k}_from_float")), None
    )
    if plain is not None:
        message, fix = plain if found is not None else (plain[0], "")
    else:
        message = re.sub(r"^\w+ should (?=\w)", "must ", str(error["msg"]).removeprefix("Value error, "))
        near = difflib.get_close_matches(str(found), re.findall(r"'([^']+)'", message), n=1)
        fix = f"Did you mean {near[0]}?" if near and kind == "literal_error" else ""
    if not fix and isinstance(default, str | int | float):
        fix = f"The default is {str(default).lower() if isinstance(default, bool) else default}."
    words: dict[object, str] = {None: "nothing", True: "true", False: "false"}
    shown = (
        None
        if isinstance(found, dict | BaseModel)
        else words[found]
        if found is None or isinstance(found, bool)
        else repr(found)[:80]
    )
    return FieldwiseError(message, where=_where(location, places) or "recipe", found=shown, fix=fix or None)


def _field_at(loc: tuple[str | int, ...]) -> tuple[str, Any]:
    """Return the dotted key of a problem, without pydantic's names for members of a union, and its default."""
    models: list[type[BaseModel]] = [Recipe]
    parts: list[str] = []
    default: Any = None
    for part in loc:
        if isinstance(part, str):
            if not models:
                break
            model = next((m for m in models if part in m.model_fields), None)
            if model is None:
                models = [m for m in models if m.__name__ == part] or models
                continue
            field = model.model_fields[part]
            models, default = _inner_models(field.annotation), field.default
        parts.append(str(part))
    return ".".join(parts), default


def _contradictions(recipe: Recipe, places: dict[str, str]) -> Iterator[FieldwiseError]:
    """What only two settings together can say wrong: told now, not by the stage that would stumble over it."""

    def problem(key: str, what: str, found: object, fix: str) -> FieldwiseError:
        return FieldwiseError(what, where=_where(key, places), found=found, fix=fix)

    model, release, evaluate, retrieve = recipe.base.model, recipe.release, recipe.evaluate, recipe.retrieve
    if recipe.base.revision is not None and model.startswith(("fieldwise-nano", ".", "~", "/")):
        yield problem("base.revision", "only a Hugging Face id has revisions", model, "Leave the key out.")
    if retrieve.candidates < retrieve.top_k:
        yield problem(
            "retrieve.candidates",
            f"fewer candidates than the {retrieve.top_k} passages of retrieve.top_k",
            retrieve.candidates,
            f"Take at least {retrieve.top_k}.",
        )
    if release.serve not in release.quantisations:
        yield problem(
            "release.serve",
            "the file to serve is not among release.quantisations",
            release.serve,
            f"Add it there, or choose one of: {', '.join(release.quantisations) or 'none yet'}.",
        )
    yield from _endpoint_problems(recipe, problem)
    yield from _reinforcement_problems(recipe, problem)
    if evaluate.questions is None and recipe.generate.split.test == 0:
        yield problem(
            "generate.split.test",
            "nothing is left to measure on",
            0,
            "Raise it, or name a file with evaluate.questions.",
        )
    yield from _suite_problems(recipe, problem)
    yield from _endpoint_system_problems(evaluate, problem)
    yield from _gate_problems(evaluate, problem)


def _endpoint_system_problems(
    evaluate: EvaluateSettings, problem: Callable[..., FieldwiseError]
) -> Iterator[FieldwiseError]:
    """Names of systems at endpoints that cannot be told apart, and passages that nobody searches."""
    names = [e.name for e in evaluate.endpoints]
    for n, system in enumerate(evaluate.endpoints):
        key = f"evaluate.endpoints.{n}"
        if system.name in RESERVED or system.name in names[:n]:
            what = "the name of a system of this run" if system.name in RESERVED else "the name stands twice"
            yield problem(f"{key}.name", what, system.name, "Give it a name of its own, such as hosted.")
        if system.documents and not set(RAG_SYSTEMS) & set(evaluate.systems):
            yield problem(
                f"{key}.documents",
                "it is asked over the passages of rag_tuned or rag_base, which are not measured",
                ", ".join(evaluate.systems),
                "Add one of them to evaluate.systems, or set documents: false.",
            )


def _gate_problems(evaluate: EvaluateSettings, problem: Callable[..., FieldwiseError]) -> Iterator[FieldwiseError]:
    """Gates on what is not measured, and gates that require nothing."""
    named = [(f"evaluate.regressions.{n}.metric", r.metric) for n, r in enumerate(evaluate.regressions)]
    for key, metric in named + [(f"evaluate.gates.{n}.metric", g.metric) for n, g in enumerate(evaluate.gates)]:
        if metric not in METRICS:
            yield problem(key, "unknown metric", metric, f"There are: {', '.join(METRICS)}.")
        elif METRICS[metric].score is in_batches and not evaluate.semantic:
            yield problem(key, "the metric is not measured", metric, "Set evaluate.semantic: true.")
        elif METRICS[metric].score is by_model and evaluate.nli is None:
            yield problem(key, "the metric is not measured", metric, "Name a folder with evaluate.nli.")
        elif METRICS[metric].score is by_judge and key.startswith("evaluate.gates"):
            fix = "No stage asks a judge: set evaluate.judge_at_least, or name it in evaluate.regressions."
            yield problem(key, "the metric is not measured", metric, fix)
    served = [e.name for e in evaluate.endpoints]
    for n, gate in enumerate(evaluate.gates):
        key = f"evaluate.gates.{n}"
        for name, system in (("system", gate.system), ("baseline", gate.baseline)):
            if system in served and gate.metric in (*BY_PROBABILITY, *TIMES):
                yield problem(
                    f"{key}.{name}",
                    f"{gate.metric} has no value at an endpoint",
                    system,
                    "Take another metric: an endpoint gives no probabilities of tokens, and its times are not measured.",
                )
            elif system is not None and system not in (*evaluate.systems, *served):
                yield problem(
                    f"{key}.{name}",
                    "the gate needs a system that is not measured",
                    system,
                    "Add it to evaluate.systems, or take the gate out of evaluate.gates.",
                )
        if gate.baseline == gate.system:
            yield problem(
                f"{key}.baseline", "a system cannot be its own baseline", gate.system, "Name another, or null."
            )
        if gate.baseline is None and gate.at_least is None:
            yield problem(key, "the gate requires nothing", None, "Give it a baseline, or a level with at_least.")


def _suite_problems(recipe: Recipe, problem: Callable[..., FieldwiseError]) -> Iterator[FieldwiseError]:
    """Names of suites that there are not, and one that stands twice."""
    names = [s.suite for s in recipe.evaluate.wanted_suites]
    if names:
        from fieldwise.suite.reading import shipped

        known = shipped()
        for n, name in enumerate(names):
            key = f"evaluate.suites.{n}"
            if name in names[:n]:
                yield problem(key, "the suite stands twice", name, "Name it once.")
            elif name.startswith("lm-eval:"):
                yield problem(
                    key,
                    "a task by name is no suite of a release: its data come over the network and have no hash",
                    name,
                    "Name a task file over local data: tasks/mine.yaml with dataset_path: json.",
                )
            elif not _is_file(name) and name not in known:
                yield problem(
                    key, "no suite has this name", name, f"There are: {', '.join(known)}; a file ends in .yaml."
                )


def _reinforcement_problems(recipe: Recipe, problem: Callable[..., FieldwiseError]) -> Iterator[FieldwiseError]:
    """What train.rl needs of other sections, and who needs it."""
    rl = recipe.train.rl
    if "rl" in recipe.evaluate.systems and not rl.enabled:
        yield problem(
            "evaluate.systems",
            "rl is measured only after reinforcement learning",
            "train.rl.enabled: false",
            "Set train.rl.enabled=true, or take rl out of the list.",
        )
    if not rl.enabled:
        return
    if "reward_model" in rl.rewards and not recipe.train.reward.enabled:
        yield problem(
            "train.rl.rewards",
            "the reward model is not trained",
            "reward_model",
            "Set train.reward.enabled=true, or take it out.",
        )
    if rl.method != "ppo" and rl.batch_size % rl.generations:
        yield problem(
            "train.rl.generations",
            f"no divisor of the {rl.batch_size} replies of train.rl.batch_size",
            rl.generations,
            "A step takes all replies to a prompt: choose a multiple of it for train.rl.batch_size.",
        )


def _endpoint_problems(recipe: Recipe, problem: Callable[..., FieldwiseError]) -> Iterator[FieldwiseError]:
    """What endpoints that will be asked lack; the judge of evaluate may get its address from flags."""
    generate, judge = recipe.generate, recipe.evaluate.judge
    asked: list[tuple[str, str, EndpointSettings]] = []
    if generate.asks_endpoint:
        asked.append(("generate.endpoint", "the teacher openai", generate.endpoint))
    if generate.judge is not None and generate.from_documents:
        asked.append(("generate.judge.endpoint", "the judge", generate.judge.endpoint))
    if generate.candidates.prompts and (ranks := generate.candidates.judge) is not None:
        asked.append(("generate.candidates.judge.endpoint", "the judge of candidates", ranks.endpoint))
    if recipe.train.distillation is not None and (teacher := recipe.train.distillation.teacher.endpoint) is not None:
        asked.append(("train.distillation.teacher.endpoint", "the teacher", teacher))
    if recipe.serve.follow_up == "endpoint" or recipe.serve.search.rewrite == "endpoint":
        asked.append(("serve.search.endpoint", "the wording of searches", recipe.serve.search.endpoint))
    for n, system in enumerate(recipe.evaluate.endpoints):
        asked.append((f"evaluate.endpoints.{n}.endpoint", f"the system {system.name}", system.endpoint))
    for key, who, endpoint in asked:
        for name, example in (("base_url", "http://127.0.0.1:11434/v1"), ("model", "the name the endpoint gives it")):
            if getattr(endpoint, name) is None:
                fix = f"Name it, such as {example}: nothing is sent anywhere that the recipe does not name."
                yield problem(f"{key}.{name}", f"{who} needs it", "nothing", fix)
    priced = [(key, endpoint) for key, _, endpoint in asked]
    priced += [("evaluate.judge.endpoint", judge.endpoint)] if judge is not None else []
    for key, endpoint in priced:
        if endpoint.budget.money is not None and endpoint.price.input == endpoint.price.output == 0:
            yield problem(
                f"{key}.budget.money",
                "a budget of money needs prices",
                endpoint.budget.money,
                f"Give {key}.price.input and .output for a million tokens, or a budget of tokens.",
            )


def _absolute(recipe: Recipe, folder: Path, places: dict[str, str]) -> Recipe:
    def absolute(key: str, place: str) -> str:
        at = Path.cwd() if _where(key, places).startswith(_COMMAND_LINE) else folder
        return str(at / Path(place).expanduser())

    def absolute_source(key: str, source: str | WebSource | RowsSource) -> str | WebSource | RowsSource:
        if not (place := _local_place(source)) or is_other_scheme(place):
            return source
        at = absolute(key, place)
        if isinstance(source, str):
            return at
        return source.model_copy(update={"urls" if isinstance(source, WebSource) else "rows": at})

    def absolute_of(settings: BaseModel, section: str, *names: str) -> dict[str, str]:
        """The settings of these names that name a place, each as an absolute one."""
        named = {name: place for name in names if (place := getattr(settings, name)) is not None}
        return {name: absolute(f"{section}.{name}", place) for name, place in named.items()}

    sources = tuple(absolute_source(f"collect.sources.{n}", s) for n, s in enumerate(recipe.collect.sources))
    web = recipe.collect.web.model_copy(update=absolute_of(recipe.collect.web, "collect.web", "ca_file"))
    docling = recipe.collect.docling
    docling = docling.model_copy(update=absolute_of(docling, "collect.docling", "models", "python"))
    update: dict[str, Any] = {
        "collect": recipe.collect.model_copy(update={"sources": sources, "web": web, "docling": docling})
    }

    def absolute_data(key: str, entry: str | DataSettings) -> str | DataSettings:
        if isinstance(entry, str):
            return absolute(key, entry)
        return entry.model_copy(update={"path": absolute(f"{key}.path", entry.path)})

    data = tuple(absolute_data(f"generate.data.{n}", d) for n, d in enumerate(recipe.generate.data))
    reviews = tuple(absolute("generate.review", place) for place in recipe.generate.review)
    made = {"data": data, "review": reviews, **absolute_of(recipe.generate, "generate", "votes", "tools")}
    update["generate"] = recipe.generate.model_copy(update=made)

    def absolute_suite(key: str, entry: str | SuiteSettings) -> str | SuiteSettings:
        """A name stays as it is; what ends like a file, or holds a folder, is one."""
        place = entry if isinstance(entry, str) else entry.suite
        if not _is_file(place):
            return entry
        at = absolute(key if isinstance(entry, str) else f"{key}.suite", place)
        return at if isinstance(entry, str) else entry.model_copy(update={"suite": at})

    wanted = recipe.evaluate.suites
    suites = tuple(absolute_suite(f"evaluate.suites.{n}", s) for n, s in enumerate(wanted))
    files = absolute_of(recipe.evaluate, "evaluate", "questions", "development", "quarantine", "nli")
    update["evaluate"] = recipe.evaluate.model_copy(update={**files, "suites": suites})
    update["serve"] = recipe.serve.model_copy(update=absolute_of(recipe.serve, "serve", "store", "keys"))
    models = absolute_of(recipe.retrieve, "retrieve", *_RETRIEVE_PLACES)
    update["retrieve"] = recipe.retrieve.model_copy(update=models)

    def absolute_weights(key: str, model: str) -> str:
        weights = Path(absolute(key, model))
        is_place = model.startswith((".", "~", "/")) or (
            not model.startswith("fieldwise-nano") and (weights.is_dir() or weights.suffix == ".gguf")
        )
        return str(weights.resolve()) if is_place else model

    update["base"] = recipe.base.model_copy(update={"model": absolute_weights("base.model", recipe.base.model)})
    distillation = recipe.train.distillation
    if distillation is not None and (named := distillation.teacher.model) is not None:
        named = absolute_weights("train.distillation.teacher.model", named)
        teacher = distillation.teacher.model_copy(update={"model": named})
        changed = distillation.model_copy(update={"teacher": teacher})
        update["train"] = recipe.train.model_copy(update={"distillation": changed})
    return recipe.model_copy(update=update)
