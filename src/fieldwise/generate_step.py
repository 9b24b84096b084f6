"""The step that makes examples: its work, what its key holds from outside, and what it needs and costs."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from fieldwise.hashing import sha256_file
from fieldwise.recipe import Recipe
from fieldwise.run import RunFolder, StepRun


def work(recipe: Recipe, step: StepRun) -> dict[str, JsonValue]:
    """Make the examples and return what the manifest tells of them."""
    from fieldwise.generate import stage

    return stage.run(recipe.generate, recipe.retrieve, step)


def require(recipe: Recipe) -> None:
    """Raise for missing keys of the teacher and of the judge, before either is paid for."""
    if not recipe.generate.from_documents:
        return
    from fieldwise.llm.wire import require_key

    if recipe.generate.asks_endpoint:
        require_key(recipe.generate.endpoint, "generate.endpoint")
    if recipe.generate.judge is not None:
        require_key(recipe.generate.judge.endpoint, "generate.judge.endpoint")


def estimate(recipe: Recipe, run: RunFolder) -> str | None:
    """Return what teacher, judge and candidates would cost, None where none is paid."""
    has_teacher, has_judge = recipe.generate.teacher == "openai", recipe.generate.judge is not None
    is_asked = has_teacher or has_judge or recipe.generate.asks_endpoint or recipe.generate.candidates.prompts
    if not is_asked or not recipe.generate.from_documents:
        return None
    from fieldwise.generate import candidates, evolve, judged, teacher
    from fieldwise.records import Chunk
    from fieldwise.tables import read_records

    path = run.path / "2_chunks/chunks.parquet"
    if not path.exists():
        return "cost not known before stage 2 has cut the documents"
    chunks = list(read_records(path, Chunk))
    taught = f"teacher: {teacher.told(teacher.estimate(chunks, recipe.generate, run.path))}" if has_teacher else None
    evolved = evolve.most_cost(chunks, recipe.generate, recipe.seed)
    judging = judged.most_cost(chunks, recipe.generate, recipe.seed)
    own = candidates.most_cost(chunks, recipe.generate)
    return "; ".join(t for t in (taught, evolved, judging, own) if t)


def outside(recipe: Recipe) -> dict[str, JsonValue]:
    """Return the hashes of the rows, votes and review sheets that the recipe names; nothing without them."""
    found: dict[str, JsonValue] = {}
    if recipe.generate.data:
        from fieldwise.generate.rows import fingerprint

        found["data"] = fingerprint(recipe.generate.data_sets)
    if recipe.generate.tools is not None:
        from fieldwise.generate.tools import read_tools

        found["tools"] = [dict(tool.declaration) for tool in read_tools(Path(recipe.generate.tools))]
    if recipe.generate.review:
        from fieldwise.generate.review import require_sheet

        found["review"] = [sha256_file(require_sheet(place)) for place in recipe.generate.review]
    if recipe.generate.votes is not None:
        from fieldwise.generate import votes

        found["votes"] = votes.fingerprint(Path(recipe.generate.votes))
    return found
