"""What an earlier run scored, question by question: read from its folder or from a baseline file, and paired with today's.

A baseline file holds ids, hashes and scores, no word of a question or an answer, so that it can stand in a repository.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import Field, ValidationError

from fieldwise import __version__
from fieldwise.errors import DatasetError
from fieldwise.evaluate.judged import read_judged
from fieldwise.evaluate.metrics import TIMES
from fieldwise.evaluate.report import Scored, cluster_names, score_system
from fieldwise.files import read_json, read_jsonl, write_json
from fieldwise.hashing import canonical_json, sha256_file, sha256_text
from fieldwise.records import Answer, Question, Record
from fieldwise.retrieve.settings import hashes_of
from fieldwise.run import RunFolder

PREFERRED = ("served", "rag_tuned")  # what is released comes first
_SHOWN = 10


class Item(Record):
    """One question of a baseline, without its words."""

    id: str
    asked: str = Field(description="SHA-256 of the question")
    content: str = Field(description="SHA-256 of question, answer, aliases and document")

    @classmethod
    def of(cls, question: Question) -> Self:
        """Return the item of a question."""
        known = [question.question, question.answer, list(question.aliases), question.document]
        return cls(id=question.id, asked=sha256_text(question.question), content=sha256_text(canonical_json(known)))


class Baseline(Record):
    """The scores of one system on every question, and what they were made with."""

    fieldwise: str
    run: str
    system: str
    seed: int
    questions_sha256: str
    metrics_sha256: str = Field(description="of the code of the metrics")
    nli_sha256: str = Field("", description="of the NLI model that scored the claims; empty where none did")
    judge: str = Field("", description="who judged the answers, with a hash of its rule; empty where nobody did")
    judge_may_gate: bool = Field(False, description="whether people agree with that judge well enough")
    items: tuple[Item, ...] = Field(min_length=1)
    scores: dict[str, tuple[float | None, ...]]

    def scored(self, metric: str, order: Sequence[int]) -> Scored | None:
        """The scores of a metric in another order of the items; None if it was not measured."""
        values = self.scores.get(metric)
        return None if values is None else Scored(self.system, metric, tuple(values[n] for n in order))


class Measured(NamedTuple):
    """A system of a run with the documents its questions ask about."""

    baseline: Baseline
    clusters: list[str]


def metrics_hash() -> str:
    """Hash of the code of the metrics: equal hashes mean equal definitions."""
    from fieldwise.evaluate import metrics

    return sha256_file(Path(metrics.__file__))


def measured_systems(run: RunFolder) -> list[str]:
    """The systems whose predictions a run holds, those to be released first."""
    folder = run.require("5_reports/predictions", "evaluate")
    found = sorted(p.stem for p in folder.glob("*.jsonl"))
    return [*(s for s in PREFERRED if s in found), *(s for s in found if s not in PREFERRED)]


def read_measured(run: RunFolder, system: str, name: str, nli: str | None = None) -> Measured:
    """Read the predictions of a system and score them by today's metrics; by an NLI model where a folder of one is named."""
    path = run.require(f"5_reports/predictions/{system}.jsonl", "evaluate")
    questions, answers = _predictions(path)
    report = read_json(run.require("5_reports/report.json", "evaluate"))
    semantic = any(_has_semantic(s) for s in _listed(report.get("systems")))
    scored = score_system(system, answers, questions, semantic=semantic, nli=nli)
    scores = {m: s.values for m, s in scored.items() if m not in TIMES}
    times = run.path / "times" / f"{system}.json"
    known = read_json(times) if times.exists() else {}
    for measure in TIMES:
        values = known.get(measure)
        if isinstance(values, list) and len(values) == len(questions):
            scores[measure] = tuple(None if v is None else float(str(v)) for v in values)
    judged = read_judged(run, system, [q.id for q in questions])
    if judged is not None:
        scores["judged_right"] = judged.values
    baseline = Baseline(
        fieldwise=__version__,
        run=name,
        system=system,
        seed=int(str(report.get("seed", 0))),
        questions_sha256=str(report.get("questions_sha256", "")),
        metrics_sha256=metrics_hash(),
        nli_sha256="" if nli is None else sha256_text(canonical_json(hashes_of(nli))),
        judge="" if judged is None else judged.who,
        judge_may_gate=judged is not None and judged.may_gate,
        items=tuple(Item.of(q) for q in questions),
        scores=scores,
    )
    return Measured(baseline, cluster_names(questions))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _has_semantic(system: object) -> bool:
    """Whether a system of a report was scored by the encoder too."""
    figures = system.get("figures") if isinstance(system, dict) else None
    figure = figures.get("bert_score") if isinstance(figures, dict) else None
    return isinstance(figure, dict) and bool(figure.get("n"))


def _predictions(path: Path) -> tuple[list[Question], list[Answer]]:
    questions, answers = [], []
    for number, row in enumerate(read_jsonl(path), 1):
        if "document" not in row:
            raise DatasetError(
                "the prediction does not name the document of its question",
                where=f"{path}:{number}",
                found="a file of an earlier version" if "id" in row else str(row)[:80],
                fix="Measure that run again: fieldwise evaluate --run DIR",
            )
        known = {k: row[k] for k in ("id", "question", "aliases", "document", "kind") if k in row}
        try:
            questions.append(Question.model_validate({**known, "answer": row.get("expected")}))
            answers.append(Answer.model_validate(row.get("answer")))
        except ValidationError as error:
            first = error.errors()[0]
            raise DatasetError(
                f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}",
                where=f"{path}:{number}",
                fix="Measure that run again: fieldwise evaluate --run DIR",
            ) from error
    if not questions:
        raise DatasetError("the file holds no prediction", where=path, fix="Measure that run again.")
    repeated = sorted(i for i, times in Counter(q.id for q in questions).items() if times > 1)
    if repeated:
        raise DatasetError(
            "ids stand twice", where=path, found=_some(repeated), fix="Give every question an id of its own."
        )
    return questions, answers


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline file."""
    write_json(path, baseline.model_dump(mode="json"))


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file."""
    value = read_json(path)
    try:
        baseline = Baseline.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise DatasetError(
            "this is no baseline file",
            where=path,
            found=f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}",
            fix="Write one with: fieldwise gate --run DIR --save-baseline FILE",
        ) from error
    wrong = [m for m, values in baseline.scores.items() if len(values) != len(baseline.items)]
    if wrong:
        raise DatasetError(
            "the scores do not go with the items",
            where=path,
            found=f"{len(baseline.scores[wrong[0]])} values of {wrong[0]} for {len(baseline.items)} items",
            fix="Write the file anew with: fieldwise gate --run DIR --save-baseline FILE",
        )
    return baseline


# ---------------------------------------------------------------- the same questions?


class Changes(NamedTuple):
    """How the questions of two runs differ: ids of the run for new and changed ones, of the baseline for those gone."""

    new: list[str]
    gone: list[str]
    changed: list[str]

    def __str__(self) -> str:
        parts = [(ids, word) for ids, word in zip(self, ("new", "gone", "changed"), strict=True) if ids]
        return "; ".join(f"{len(ids)} {word}: {_some(ids)}" for ids, word in parts)


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return ", ".join(ids[:_SHOWN]) + more


def same_questions(items: Sequence[Item], baseline: Baseline, where: object) -> list[int]:
    """Return the place of each item in the baseline; ids and order may differ, the questions may not.

    Raises DatasetError with the ids of new, gone and changed questions if they are of another version.
    """
    places: dict[str, list[int]] = {}
    for n, item in enumerate(baseline.items):
        places.setdefault(item.content, []).append(n)
    order, unmatched = [], []
    for item in items:
        if found := places.get(item.content):
            order.append(found.pop(0))
        else:
            unmatched.append(item)
    left = [baseline.items[n] for found in places.values() for n in found]
    if not unmatched and not left:
        return order
    changes = _changes(unmatched, left)
    raise DatasetError(
        "the baseline was asked other questions",
        where=where,
        found=str(changes),
        fix="Compare runs over the same version of the questions: measure the baseline on these, or name another.",
    )


def _changes(unmatched: Sequence[Item], left: Sequence[Item]) -> Changes:
    """Sort what has no equal: with the same words or the same id it was changed."""
    rest = list(left)
    changes = Changes([], [], [])
    for item in unmatched:
        before = next((i for i in rest if i.asked == item.asked), None) or next(
            (i for i in rest if i.id == item.id), None
        )
        if before is None:
            changes.new.append(item.id)
        else:
            rest.remove(before)
            changes.changed.append(item.id)
    changes.gone.extend(i.id for i in rest)
    return changes
