"""What was measured before, in `5_reports/retrieval.json`: the last report on each judged set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from fieldwise.errors import DatasetError
from fieldwise.files import read_json, write_json
from fieldwise.ranking.measure import RetrievalReport

NAME = "5_reports/retrieval.json"


def read_reports(place: Path) -> list[RetrievalReport]:
    """Read the reports of a run folder or of such a file; none where nothing was measured yet in a run folder."""
    path = place / NAME if place.is_dir() else place
    if not path.is_file():
        if place.is_dir():
            return []
        raise DatasetError(
            "there is no report here", where=place, fix="Name a run folder or the retrieval.json of one."
        )
    found = read_json(path).get("reports")
    try:
        return [RetrievalReport.model_validate(r) for r in found] if isinstance(found, list) else []
    except ValidationError as error:
        first = error.errors()[0]
        raise DatasetError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}",
            where=path,
            fix="Delete the file and run fieldwise retrieval evaluate again.",
        ) from error


def on_same_set(reports: Sequence[RetrievalReport], report: RetrievalReport) -> RetrievalReport | None:
    """The report on the same judged set, if there is one."""
    return next((r for r in reports if r.sha256 == report.sha256), None)


def keep(run: Path, reports: Sequence[RetrievalReport], report: RetrievalReport) -> Path:
    """Write the reports with the new one in place of that on the same set; returns the file."""
    others = [r for r in reports if r.sha256 != report.sha256]
    write_json(run / NAME, {"reports": [r.model_dump(mode="json") for r in (*others, report)]})
    return run / NAME
