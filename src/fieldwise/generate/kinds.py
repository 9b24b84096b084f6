"""Examples of the kinds that `generate.kinds` names beside questions and answers: made, checked, counted, limited."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fieldwise.generate.compare import comparisons, explanations
from fieldwise.generate.draft_checks import fault_of
from fieldwise.generate.drafts import Draft, Material
from fieldwise.generate.negatives import hard_negatives
from fieldwise.generate.settings import KINDS, GenerateSettings, KindName
from fieldwise.generate.split import Split
from fieldwise.generate.tasks import extractions, instructions, summaries
from fieldwise.generate.tools import Tool, read_tools, tool_calls
from fieldwise.generate.turns import conversations
from fieldwise.progress import say, track
from fieldwise.records import Example, Rejection

_MAKERS: dict[KindName, Callable[[Material, random.Random], Iterator[Draft]]] = {
    "summary": summaries,
    "extraction": extractions,
    "instruction": instructions,
    "comparison": comparisons,
    "explanation": explanations,
    "multi_turn": conversations,
    "hard_negative": hard_negatives,
}
"""Those that need nothing but documents; `tool_call` needs tools."""


class Dropped(NamedTuple):
    """A draft of a teacher that could not become one: its kind, which rule, and its words."""

    kind: KindName
    item: str
    reason: str
    words: str


@dataclass
class Further:
    """Examples of further kinds, what was left out and why, by kind."""

    examples: list[Example] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    reasons: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    over: dict[str, int] = field(default_factory=dict)
    """How many of each kind were over its limit."""

    def leave_out(self, kind: str, item: str, reason: str, words: str) -> None:
        """Note something that is not used."""
        self.reasons[kind][reason] += 1
        self.rejected.append(Rejection(stage="generate", item=item, reason=reason, detail=f"{kind}: {words}"[:600]))


def tools_of(settings: GenerateSettings) -> tuple[Tool, ...]:
    """Return the declared tools; raises DatasetError for a file that cannot be used."""
    return read_tools(Path(settings.tools)) if settings.tools and "tool_call" in settings.kinds else ()


def make_further(
    material: Material,
    made: Sequence[Example],
    tools: Sequence[Tool],
    seed: int,
    taught: Iterable[Draft | Dropped] = (),
) -> Further:
    """Return the examples of every further kind: those of the rules, then those a teacher wrote.

    `made` are the examples there are already: a question of theirs stays on its side of the split.
    """
    further = Further()
    sides: dict[str, Split] = {e.question.casefold(): e.split for e in made}
    known = {e.id for e in made}
    asked: set[tuple[str, str]] = set()
    for draft in _drafts(material, tools, seed, taught):
        if isinstance(draft, Dropped):
            further.leave_out(draft.kind, draft.item, draft.reason, draft.words)
            continue
        split = material.side(draft.home)
        reason = fault_of(draft, material)
        if reason is None and sides.setdefault(draft.question.casefold(), split) != split:
            reason = "question_on_two_sides"
        if reason is None and (draft.kind, draft.question.casefold()) in asked:
            reason = "question_repeated"
        if reason is None:
            example = draft.example(split)
            if example.id not in known:
                known.add(example.id)
                asked.add((draft.kind, draft.question.casefold()))
                further.examples.append(example)
                continue
            reason = "question_repeated"
        further.leave_out(draft.kind, draft.home.id, reason, f"{draft.question} | {draft.answer}")
    return further


def _drafts(
    material: Material, tools: Sequence[Tool], seed: int, taught: Iterable[Draft | Dropped]
) -> Iterator[Draft | Dropped]:
    for kind in track(material.settings.further_kinds, "further kinds"):
        rng = random.Random(f"{seed}/kinds/{kind}")
        yield from tool_calls(material, tools, rng) if kind == "tool_call" else _MAKERS[kind](material, rng)
    yield from taught


# ---------------------------------------------------------------- how many of each


def kind_of(example: Example) -> KindName:
    """The kind of `generate.kinds` that an example belongs to.

    >>> kind_of(Example(id="e", question="?", answer="14 days", kind="duration", conversation=()))
    'question_answer'
    """
    return next((k for k in KINDS if k == example.kind), "question_answer")


def limited(
    examples: Sequence[Example], limits: Mapping[KindName, int | float | None], seed: int
) -> tuple[list[Example], dict[str, int]]:
    """Return the examples within the limits, in their order, and how many of each kind were over them.

    Shares hold on each side of the split. Where every kind has a share, the one with the largest is taken whole.
    """
    kept = [e for e in examples if kind_of(e) in limits]
    rng = random.Random(f"{seed}/limits")
    whole = {k: n for k, n in limits.items() if isinstance(n, int)}
    for kind, most in whole.items():
        kept = _thinned(kept, kind, most, rng)
    shares = {k: n for k, n in limits.items() if isinstance(n, float)}
    if shares and set(limits) == set(shares):
        del shares[max(shares, key=lambda k: shares[k])]
    for split in ("train", "validation", "test"):
        side = [e for e in kept if e.split == split]
        for kind, most in _most(Counter(map(kind_of, side)), shares).items():
            side = _thinned(side, kind, most, rng)
        chosen = {e.id for e in side}
        kept = [e for e in kept if e.split != split or e.id in chosen]
    over = Counter(map(kind_of, examples)) - Counter(map(kind_of, kept))
    return kept, {k: over[k] for k in KINDS if over[k]}


def _thinned(examples: list[Example], kind: KindName, most: int, rng: random.Random) -> list[Example]:
    places = [n for n, e in enumerate(examples) if kind_of(e) == kind]
    if len(places) <= most:
        return examples
    gone = set(rng.sample(places, len(places) - most))
    return [e for n, e in enumerate(examples) if n not in gone]


def _most(counts: Mapping[KindName, int], shares: Mapping[KindName, float]) -> dict[KindName, int]:
    """How many of each kind make at most its share of all that are left: each limit lowers the whole, so until none does.

    >>> _most({"question_answer": 60, "summary": 60}, {"summary": 0.4})
    {'summary': 40}
    """
    left = dict(counts)
    while True:
        total = sum(left.values())
        lower = {k: min(left.get(k, 0), int(share * total + 1e-9)) for k, share in shares.items()}
        if all(lower[k] == left.get(k, 0) for k in shares):
            return lower
        left |= lower


def told_of(further: Further, examples: Sequence[Example]) -> dict[str, JsonValue]:
    """Return what the card says of kinds: how many of each, their phases, what was left out by which rule."""
    phases = Counter(e.phase for e in examples)
    return {
        "kinds_made": _counted(examples),
        "phases": {p: phases[p] for p in ("single_turn", "multi_turn", "tool_calls", "hard_negatives") if phases[p]},
        "kinds_left_out": {k: dict(sorted(reasons.items())) for k, reasons in sorted(further.reasons.items())},
        "kinds_over_limit": dict(further.over),
    }


def _counted(examples: Sequence[Example]) -> dict[str, JsonValue]:
    counts = Counter(map(kind_of, examples))
    return {k: counts[k] for k in KINDS if counts[k]}


def tell(examples: Sequence[Example], settings: GenerateSettings) -> None:
    """Say how many of each kind there are, and name those that the documents gave nothing for."""
    made = _counted(examples)
    say(f"  kinds: {', '.join(f'{n} {k}' for k, n in made.items())}")
    if nothing := [k for k in settings.further_kinds if k not in made]:
        say(f"  nothing in the documents made: {', '.join(nothing)}")
