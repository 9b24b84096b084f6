"""A task file of lm-evaluation-harness as a suite of a release: what of it is asked, and its scores as items of a suite.

The harness makes the prompts and scores the replies; one of its metrics, 0 or 1 for every item, says what is passed.
Only files over data on this machine are taken: the key of the step holds the hash of all of it, so that a changed task
is asked anew, and no stage fetches anything. Functions a task names run as the harness runs them: a task file is code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fieldwise.errors import DatasetError
from fieldwise.extras import installed_version, require
from fieldwise.hashing import canonical_json, sha256_file, sha256_of_files, sha256_text
from fieldwise.suite.items import Reply
from fieldwise.suite.lm_eval import Outcome, conversation_of, deciding, evaluated, metrics_of
from fieldwise.suite.respondents import Respondent
from fieldwise.suite.run import Heading, ItemResult, Scored, SuiteResult, summed

_BUILDERS = {"json", "csv", "text", "parquet", "arrow", "xml"}  # not pandas: its files are pickles, which run code
_FIX = "Name files of this machine: dataset_path: json with dataset_kwargs: {data_files: {test: /place/rows.jsonl}}."


class Task(NamedTuple):
    """A task file with the hash of everything it reads: itself, what it includes, its functions, its data."""

    name: str
    path: Path
    sha256: str
    metric: str | None = None  # that decides; None: exact_match or acc
    about: str = "A task of lm-evaluation-harness."


def open_task(named: str, metric: str | None = None) -> Task:
    """Open a task file; raises DatasetError for one that cannot be read, or whose data are not on this machine."""
    path = Path(named).expanduser().resolve()
    files, settings = _read(path, ())
    data = _data_of(settings, path)
    parts = [(p.name, sha256_file(p)) for p in files]
    parts += [(p.name, sha256_of_files([f for f in p.rglob("*") if f.is_file()], p)) for p in data if p.is_dir()]
    parts += [(p.name, sha256_file(p)) for p in data if p.is_file()]
    version = installed_version("lm_eval") or ""
    return Task(path.stem, path, sha256_text(canonical_json([version, [list(p) for p in sorted(parts)]])), metric)


def require_harness() -> None:
    """Raise MissingExtra where the harness is not installed."""
    require("lm_eval", extra="lm-eval", to="run tasks of lm-evaluation-harness")


def ask_task(task: Task, respondent: Respondent, ledger: Path, *, max_tokens: int) -> SuiteResult:
    """Put a respondent through a task and return its figures; replies are kept in the ledger, as those of suites."""
    outcome = evaluated(str(task.path), respondent, ledger, max_tokens)
    items = tuple(_items(task, outcome))
    versions = ", ".join(str(v) for v in dict.fromkeys(outcome.versions.values()) if v is not None)
    return summed(Heading(task.name, versions or "?", task.sha256), items, respondent, max_tokens=max_tokens)


def _items(task: Task, outcome: Outcome) -> Iterator[ItemResult]:
    several = len(outcome.samples) > 1
    for name, rows in outcome.samples.items():
        decides = deciding(rows, outcome.directions.get(name, {}), task.metric)
        if decides is None:
            raise DatasetError(
                "no metric of the task says of every item whether it is passed",
                where=task.path,
                found=f"{name}: {', '.join(metrics_of(rows)) or 'none'}",
                fix="Name one that is 0 or 1 for every item and better when higher: {suite: FILE, metric: NAME}.",
            )
        by_item: dict[int, list[dict[str, Any]]] = {}
        for row in rows:
            by_item.setdefault(int(row["doc_id"]), []).append(row)
        for number, found in sorted(by_item.items()):
            item = f"{name}/{number}" if several else str(number)
            yield _item(item, name, found, decides, outcome.problems.get((name, number), ""))


def _item(item: str, kind: str, rows: Sequence[dict[str, Any]], decides: str, problem: str) -> ItemResult:
    values = {m: v for m, by_row in metrics_of(rows).items() for v in by_row}
    row = rows[0]
    checks = tuple(Scored(check=m, value=None if problem else v, why=problem) for m, v in values.items())
    return ItemResult(
        id=item,
        asked=_asked(row)[:300],
        kind=kind,
        reply=Reply(problem=problem) if problem else Reply(text=_said(row)),
        checks=checks,
        is_passed=None if problem else values[decides] == 1.0,
        cluster=item,
    )


def _asked(row: Mapping[str, Any]) -> str:
    """The last turn of the user in what was sent."""
    for request in row.get("arguments") or ():
        return conversation_of(str(request[0]))[-1].content
    return ""


def _said(row: Mapping[str, Any]) -> str:
    """What was replied; of a choice the log-probabilities of the continuations."""
    found = row.get("filtered_resps") or [""]
    return "; ".join(str(reply) for reply in found)


# ---------------------------------------------------------------- what a task reads


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """The harness's own tags, such as `!function utils.score`, as text."""


def _tag(loader: _Loader, suffix: str, node: yaml.Node) -> str:
    del loader
    return f"!{suffix} {node.value}"


_Loader.add_multi_constructor("!", _tag)


def _read(path: Path, above: tuple[Path, ...]) -> tuple[list[Path], dict[str, Any]]:
    """The files of a task, those it includes first, and its settings with the included ones below its own."""
    if path in above:
        raise DatasetError("a task includes itself", where=path, fix="Take the include out.")
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DatasetError(
            "the task file cannot be read",
            where=path,
            found=str(error)[:200],
            fix="Check the file against the harness.",
        ) from error
    if not isinstance(value, dict):
        raise DatasetError("expected a mapping", where=path, found=type(value).__name__, fix="Name a task file.")
    files, settings = [path], dict[str, Any]()
    included = value.pop("include", None)
    for place in [included] if isinstance(included, str) else included or ():
        more, below = _read((path.parent / str(place)).resolve(), (*above, path))
        files, settings = [*more, *files], {**settings, **below}
    files += sorted({path.parent / f"{m}.py" for m in _modules(value) if (path.parent / f"{m}.py").is_file()})
    return files, {**settings, **value}


def _modules(value: Any) -> Iterator[str]:
    """The Python files beside a task whose functions it names."""
    if isinstance(value, str) and value.startswith("!function "):
        yield value.removeprefix("!function ").split(".")[0]
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _modules(one)


def _data_of(settings: Mapping[str, Any], path: Path) -> list[Path]:
    """The files and folders of the data set; raises DatasetError for one that would have to be fetched."""
    if isinstance(settings.get("task"), list):
        raise DatasetError(
            "a group of tasks is no suite", where=path, found="a list under task", fix="Name its tasks one by one."
        )
    named = settings.get("dataset_path")
    if not isinstance(named, str):
        return []  # a function of the task makes them
    if Path(named).expanduser().exists():
        return [Path(named).expanduser()]
    options = settings.get("dataset_kwargs")
    files = [Path(f) for f in _texts((options or {}).get("data_files"))] if isinstance(options, dict) else []
    if named not in _BUILDERS or not files:
        raise DatasetError("the data set of the task is not a local file", where=path, found=named, fix=_FIX)
    if missing := next((f for f in files if not f.is_file()), None):
        raise DatasetError("the data of the task are not there", where=path, found=missing, fix=_FIX)
    return files


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)
