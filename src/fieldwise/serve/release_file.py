"""Read `6_builds/release.json`: what was released, and under which names it is served."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from fieldwise.errors import ModelError, RunError
from fieldwise.files import read_json
from fieldwise.records import ModelBuild
from fieldwise.retrieve.decline import DeclineRule
from fieldwise.run import RunFolder

RELEASE = "6_builds/release.json"
TUNED, BASE = "tuned", "base"


class ReleaseFile(BaseModel):
    """What the release stage wrote; keys that are not needed here are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    domain: str = ""
    serve: str
    builds: tuple[ModelBuild, ...]
    base_build: ModelBuild | None = None
    verdict: str = ""
    override: JsonValue = None
    decline: DeclineRule | None = None


def read_release(run: RunFolder) -> ReleaseFile:
    """Return the release of a run; raises RunError when there is none, naming the command that makes one."""
    path = run.path / RELEASE
    if not run.path.is_dir():
        raise RunError(
            "the run folder is not there",
            where=run.path,
            fix="Name an existing folder with --run, or make one: fieldwise run --config recipe.yaml --run DIR",
        )
    if not path.is_file():
        _say_if_held_back(run)
        raise RunError(
            "nothing has been released in this run yet",
            where=path,
            fix=f"Make the release: fieldwise run --run {run.path}",
        )
    try:
        release = ReleaseFile.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise RunError(
            "not a release file",
            where=path,
            found=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            fix=f"Make the release again: fieldwise release --run {run.path} --force",
        ) from error
    if not release.builds:
        raise RunError(
            "the release holds no model",
            where=path,
            fix=f"Make the release again: fieldwise release --run {run.path} --force",
        )
    return release


def fitted_with(run: RunFolder, release: ReleaseFile) -> dict[str, JsonValue] | None:
    """Return the settings of retrieval that the rule of when to decline was fitted with; None if nothing tells.

    They stand in the manifest of the step that fitted it, which may meanwhile have fitted another one.
    """
    manifest, selected = run.path / "manifests/4c_select.json", run.path / "4_adapters/selected.json"
    if release.decline is None or not manifest.is_file() or not selected.is_file():
        return None
    rule, parts = read_json(selected), cast("JsonValue", read_json(manifest))
    for name in ("parts", "settings", "retrieve"):
        parts = parts.get(name) if isinstance(parts, dict) else None
    is_this_rule = isinstance(rule, dict) and rule.get("decline") == release.decline.model_dump(mode="json")
    return parts if is_this_rule and isinstance(parts, dict) else None


def _say_if_held_back(run: RunFolder) -> None:
    """Raise RunError when it was a gate that kept the run from being released."""
    report = run.path / "5_reports/report.json"
    found = read_json(report) if report.is_file() else {}
    gates = found.get("gates") if isinstance(found, dict) else None
    held = [g for g in gates if isinstance(g, dict) and g.get("verdict") != "PASS"] if isinstance(gates, list) else []
    if held:
        raise RunError(
            "the gates have held back the release of this run",
            where=run.path / "5_reports/report.md",
            found="; ".join(f"{g.get('verdict')}: {g.get('requirement')}, found {g.get('found')}" for g in held),
            fix=f"Improve what the report shows, or let a person answer for it: fieldwise run --run {run.path} "
            "'release.override=NAME: REASON'",
        )


def named_builds(release: ReleaseFile, chosen: str) -> dict[str, ModelBuild]:
    """Return every build by the name it is served under: the chosen one is `tuned`, the others `tuned:` and their type.

    Raises ModelError when there is no such build to choose.
    """
    wanted = chosen.removeprefix(f"{TUNED}:") or release.serve
    first = next((b for b in release.builds if _file_type(b) == wanted), None) or next(
        (b for b in release.builds if b.quantisation == wanted), None
    )
    if first is None:
        raise ModelError(
            "this model was not built",
            where="--model",
            found=repr(chosen),
            fix=f"Choose one of: {', '.join(b.quantisation for b in release.builds)}. Or add it to release.quantisations and run: fieldwise release",
        )
    named = {TUNED: first}
    if release.base_build is not None:
        named[BASE] = release.base_build
    for build in release.builds:
        if build is not first:
            name = f"{TUNED}:{build.quantisation}"
            named[name if name not in named else f"{TUNED}:{Path(build.path).stem}"] = build
    return named


def _file_type(build: ModelBuild) -> str:
    """The type in the file's name: rows that do not fit a type make the written file another one."""
    return Path(build.path).stem.rpartition("-")[2]
