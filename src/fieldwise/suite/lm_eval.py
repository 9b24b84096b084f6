"""Tasks of lm-evaluation-harness, from local files or by name, asked of any respondent of ours.

The harness makes the prompts and scores the replies; we ask, keep every reply in a ledger, and give its scores our
intervals. Generation works with everything that replies; choice between continuations needs log-probabilities, which
weights in this process give and chat endpoints do not.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import JsonValue

from fieldwise.errors import DatasetError, FieldwiseError
from fieldwise.extras import require
from fieldwise.files import write_json, write_jsonl, write_text
from fieldwise.hashing import sha256_text
from fieldwise.interfaces import Sampling
from fieldwise.progress import say
from fieldwise.records import Interval, Message
from fieldwise.suite.command import Source, default_folder, respondents, slug
from fieldwise.suite.items import Item, Reply, Suite
from fieldwise.suite.respondents import EngineRespondent, Respondent
from fieldwise.suite.run import ask, interval

PREFIX = "lm-eval:"
_KEYS = re.compile(r"^(?:dataset_path|output_type|doc_to_text|metric_list|include)\s*:", re.MULTILINE)
_NAMED = re.compile(r"^task\s*:", re.MULTILINE)
_MOST_BYTES = 1 << 20
_ZERO_OR_ONE = {"exact_match", "acc"}
_UNRATED = -1e9  # the harness reckons with a number; the item is not scored


class TaskFigures(NamedTuple):
    """What one model reached in one task: the mean of each metric over the items, with its interval."""

    task: str
    model: str
    version: str
    items: int
    metrics: dict[str, Interval]
    problems: dict[str, int]  # why items are not scored


class Outcome(NamedTuple):
    """What the harness found: for each task a row an item and filter, and what else is needed to read them."""

    samples: dict[str, list[dict[str, Any]]]
    versions: dict[str, Any]
    directions: dict[str, dict[str, bool]]
    results: dict[str, Any]
    problems: dict[tuple[str, int], str]
    """Task and item: why there was no reply. The harness sees an empty one; nothing that counts may."""


def is_task(named: str) -> bool:
    """Whether this names a task of the harness: `lm-eval:NAME`, or a YAML file in its shape."""
    if named.startswith(PREFIX):
        return True
    path = Path(named).expanduser()
    if path.suffix.lower() not in (".yaml", ".yml") or not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    return _NAMED.search(text) is not None and _KEYS.search(text) is not None


def run_task(
    named: str, source: Source, out: Path | None = None, *, limit: int | None = None
) -> tuple[list[TaskFigures], Path]:
    """Put every model of a source through a task; returns the figures and the folder with every reply."""
    name = named.removeprefix(PREFIX)
    folder = (out or default_folder(source)) / f"lm-eval-{slug(Path(name).stem)}"
    found = []
    for make in respondents(source):
        with closing(make()) as respondent:
            place = folder / f"{slug(respondent.name)}-{sha256_text(respondent.identity)[:8]}"
            say(f"lm-eval {name} for {respondent.name}")
            outcome = evaluated(name, respondent, place / "replies.jsonl", source.max_tokens, limit)
        for task, rows in outcome.samples.items():
            found.append(_figures(task, rows, outcome, respondent))
            write_jsonl(place / f"{slug(task)}.jsonl", (_kept(row) for row in rows))
        write_json(place / "harness.json", json.loads(json.dumps(outcome.results, default=str)))
    write_text(folder / "report.md", plain(found) + "\n")
    return found, folder


def evaluated(name: str, respondent: Respondent, ledger: Path, max_tokens: int, limit: int | None = None) -> Outcome:
    """Let the harness put a respondent through a task file, or a task by name; raises DatasetError if it cannot."""
    lm_eval = require("lm_eval", extra="lm-eval", to="run tasks of lm-evaluation-harness")
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    path = Path(name).expanduser()
    is_file = path.is_file()
    manager = TaskManager(include_path=str(path.resolve().parent), include_defaults=False) if is_file else TaskManager()
    problems: dict[tuple[str, int], str] = {}
    try:
        results: dict[str, Any] | None = lm_eval.simple_evaluate(
            model=_model(respondent, ledger, max_tokens, problems),
            tasks=[str(path.resolve()) if is_file else name],
            task_manager=manager,
            apply_chat_template=True,
            limit=limit,
            bootstrap_iters=0,  # intervals are ours
            log_samples=True,
        )
    except FieldwiseError:
        raise
    except Exception as error:
        raise DatasetError(
            "the task cannot be run",
            where=name,
            found=f"{type(error).__name__}: {str(error)[:300]}",
            fix="Check the file against the harness, or that its data set is on this machine; lm-eval ls tasks lists the names.",
        ) from error
    if not results or not results.get("samples"):
        raise DatasetError("the task holds no item", where=name, fix="Check its split and its limit.")
    directions = results.get("higher_is_better", {})
    return Outcome(results["samples"], results.get("versions", {}), directions, results["results"], problems)


# ---------------------------------------------------------------- our respondent, as the harness wants a model


def _model(respondent: Respondent, ledger: Path, max_tokens: int, problems: dict[tuple[str, int], str]) -> Any:
    from lm_eval.api.model import LM

    class Ours(LM):  # type: ignore[misc]
        """Any respondent behind the harness's interface; a prompt is the conversation as JSON."""

        tokenizer_name = respondent.identity

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            del add_generation_prompt
            return json.dumps(chat_history)

        def generate_until(self, requests: Sequence[Any], **_: object) -> list[str]:
            replies = generated(respondent, [r.args for r in requests], ledger, max_tokens)
            note(requests, [reply.problem for reply in replies])
            return [_cut(reply.spoken, r.args[1].get("until")) for reply, r in zip(replies, requests, strict=True)]

        def loglikelihood(self, requests: Sequence[Any], **_: object) -> list[tuple[float, bool]]:
            found = rated(respondent, [r.args for r in requests])
            note(requests, ["too_long" if one is None else "" for one in found])
            # whether it is the likeliest of all texts is not looked at
            return [(_UNRATED if one is None else one, False) for one in found]

        def loglikelihood_rolling(self, requests: Sequence[Any], **_: object) -> list[float]:
            raise _no_probabilities(respondent, "perplexity of whole texts")

    def note(requests: Sequence[Any], told: Sequence[str]) -> None:
        problems.update({(r.task_name, r.doc_id): p for r, p in zip(requests, told, strict=True) if p})

    return Ours()


def generated(
    respondent: Respondent, asked: Sequence[tuple[str, dict[str, Any]]], ledger: Path, max_tokens: int
) -> list[Reply]:
    """Return the reply to every conversation; each is asked once."""
    items = tuple(
        Item(id=f"{n:06d}", conversation=conversation_of(text), asked=text[:300], checks=())
        for n, (text, _) in enumerate(asked)
    )
    replies = ask(Suite(name="lm-eval", items=items), respondent, ledger, max_tokens=max_tokens)
    return [replies[item.id] for item in items]


def _cut(text: str, until: str | Sequence[str] | None) -> str:
    for stop in [until] if isinstance(until, str) else until or ():
        if stop:
            text = text.split(stop)[0]
    return text


def rated(respondent: Respondent, asked: Sequence[tuple[str, str]]) -> list[float | None]:
    """Return the log-probability of every continuation; None for one that does not fit the context."""
    if not isinstance(respondent, EngineRespondent):
        raise _no_probabilities(respondent, "a choice between continuations")
    engine = respondent.engine
    prompts = [engine.render(conversation_of(text)) for text, _ in asked]
    replies = [engine.reply_tokens(continuation.strip()) for _, continuation in asked]
    fits = [len(p) + len(r) <= engine.context_tokens for p, r in zip(prompts, replies, strict=True)]
    fitting = [n for n, fit in enumerate(fits) if fit]
    made: list[float | None] = [None] * len(asked)
    if fitting:
        found = engine.generate(
            [prompts[n] for n in fitting], Sampling(max_tokens=1), rated=[[replies[n]] for n in fitting]
        )
        for n, one in zip(fitting, found, strict=True):
            made[n] = one.ratings[0] if one.ratings else None
    return made


def _no_probabilities(respondent: Respondent, what: str) -> FieldwiseError:
    return DatasetError(
        f"the task asks for {what}, which needs log-probabilities",
        where=respondent.name,
        found="a model that only replies",
        fix="Ask the weights (--weights, --run), or take a task with output_type: generate_until.",
    )


def conversation_of(text: str) -> tuple[Message, ...]:
    """The conversation in a prompt that the harness was given as JSON."""
    try:
        turns = json.loads(text)
    except ValueError:
        turns = None
    if not isinstance(turns, list):
        return (Message(role="user", content=text),)
    return tuple(Message(role=t["role"], content=t["content"]) for t in turns)


# ---------------------------------------------------------------- figures


def metrics_of(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """The values of every metric in the order of the rows; one that several filters score has a name for each."""
    filters = list(dict.fromkeys(str(row.get("filter", "none")) for row in rows))
    found: dict[str, list[float]] = {}
    for row in rows:
        ending = f",{row.get('filter', 'none')}" if len(filters) > 1 else ""
        for name in row.get("metrics", ()):
            if isinstance(row.get(name), int | float):
                found.setdefault(f"{name}{ending}", []).append(float(row[name]))
    return found


def deciding(
    rows: Sequence[dict[str, Any]], higher_is_better: Mapping[str, bool], wanted: str | None = None
) -> str | None:
    """The metric that says of every item whether it is passed; None if there is none.

    The one that is wanted, else the first that is 0 or 1 by its definition: what happens to be 0 for every item of a weak
    model may be a share for the next one. Several filters: the first, unless one is named behind a comma.
    """
    items = len({row["doc_id"] for row in rows})
    for name, values in metrics_of(rows).items():
        plain = name.split(",")[0]
        is_meant = plain in _ZERO_OR_ONE if wanted is None else wanted in (name, plain)
        if is_meant and len(values) == items and set(values) <= {0.0, 1.0} and higher_is_better.get(plain, True):
            return name
    return None


def _figures(task: str, rows: Sequence[dict[str, Any]], outcome: Outcome, respondent: Respondent) -> TaskFigures:
    problems = {item: why for (name, item), why in outcome.problems.items() if name == task}
    kept = [row for row in rows if row["doc_id"] not in problems]
    # every filter sees each item once
    metrics = {
        m: interval(values, [str(n) for n in range(len(values))], unscored=len(problems))
        for m, values in metrics_of(kept).items()
    }
    version, items = str(outcome.versions.get(task, "")), len({r["doc_id"] for r in rows})
    return TaskFigures(task, respondent.name, version, items, metrics, dict(Counter(problems.values())))


def _kept(row: dict[str, Any]) -> dict[str, JsonValue]:
    kept: dict[str, JsonValue] = json.loads(json.dumps(row, default=str))
    return kept


def plain(found: Sequence[TaskFigures]) -> str:
    """The figures, a line for each metric of each model."""
    lines = []
    for one in found:
        lines.append(f"{one.task} (lm-eval, version {one.version or '?'}), {one.model}, {one.items} items")
        lines += [f"  {name}: {_shown(figure)}" for name, figure in one.metrics.items()]
        lines += [f"  {count} items without a score: {why}" for why, count in one.problems.items()]
        if not one.metrics:
            lines.append("  no metric of single items; see harness.json")
    return "\n".join(lines)


def _shown(figure: Interval) -> str:
    if figure.value is None:
        return "not scored"
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}], n={figure.n} ({figure.method})"
