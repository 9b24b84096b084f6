"""Closed worlds: invented facts about invented things, written as passages in several styles.

A passage knows its facts, so that every question about it has one known answer, or none. Several
things of one kind with the same facts stand side by side, so that the right value must be bound to the right name.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from .forms import SLOT, Frame, slots
from .pools import Pools

ANY_KINDS = ("np", "person", "company", "place", "system", "product", "dept", "item", "role", "form", "name")
ANY_VALUES = (
    "person",
    "place",
    "date",
    "money",
    "id",
    "np",
    "count",
    "company",
    "percent",
    "duration",
    "measure",
    "time",
    "name",
    "role",
    "item",
    "phone",
    "colour",
    "system",
)


@dataclass
class Fact:
    """One statement: what it is about, the value, and how both stand in the passage."""

    frame: Frame
    keys: dict[str, str]
    value: str
    shown: str = ""
    sentence: str = ""

    @property
    def subject(self) -> str:
        return self.keys["s"]


@dataclass
class Passage:
    """A title, a body, and the facts that stand in it."""

    title: str
    body: str
    facts: list[Fact] = field(default_factory=list)

    @property
    def text(self) -> str:
        return f"{self.title}\n{self.body}" if self.title else self.body


def capitalise(text: str) -> str:
    """Upper-case the first letter only."""
    return text[:1].upper() + text[1:]


class Writer:
    """Writes passages; `held` makes it use only sentence forms that no training row has."""

    def __init__(
        self,
        frames: list[Frame],
        pools: Pools,
        rng: random.Random,
        filler: Callable[[], str],
        *,
        held: bool = False,
        unseen_frames: bool = False,
    ) -> None:
        self.pools, self.rng, self.filler, self.held = pools, rng, filler, held
        self.filler_share = 1.0  # how often sentences of real text stand between the facts
        self.generic = next(f for f in frames if f.name == "generic_relation")
        self.frames = [f for f in frames if f.is_held_out == unseen_frames and f is not self.generic]
        self.by_kind: dict[str, list[Frame]] = defaultdict(list)
        for frame in self.frames:
            self.by_kind[frame.subject_kind].append(frame)
        self.kinds = sorted(self.by_kind)
        self.kind_weights = [len(self.by_kind[k]) ** 0.5 for k in self.kinds]

    # ------------------------------------------------------------ facts

    def sentences(self, frame: Frame) -> tuple[str, ...]:
        return (frame.held_sentences or frame.sentences) if self.held else frame.sentences

    def fact(self, frame: Frame, subject: str | None = None) -> Fact:
        keys: dict[str, str] = {}
        for slot, kind in frame.keys.items():
            if slot == "s" and subject is not None:
                keys[slot] = subject
            elif kind == "attribute":
                keys[slot] = self.rng.choice((self.pools.np, self.pools.np, self.pools.word))()
            else:
                keys[slot] = self.draw(kind)
        kind = frame.value_kind if frame.value_kind != "any" else self.rng.choice(ANY_VALUES)
        return Fact(frame, keys, self.pools.draw(kind))

    def draw(self, kind: str) -> str:
        return self.pools.draw(self.rng.choice(ANY_KINDS) if kind == "any" else kind)

    def fill(self, form: str, fact: Fact, **override: str) -> str:
        """Fill a form; remembers in `fact.shown` how the value stands in the text."""

        def replace(match: object) -> str:
            slot, caret = match.group(1), match.group(2)  # type: ignore[attr-defined]
            if slot in override:
                value = override[slot]
            elif slot == "v":
                value = fact.value
            elif slot in fact.keys:
                value = fact.keys[slot]
            else:
                value = self.draw(slot)
            return capitalise(value) if caret else value

        text = capitalise(SLOT.sub(replace, form))
        return text.replace("the the ", "the ").replace("The the ", "The ")

    def say(self, fact: Fact, *, needs: frozenset[str] = frozenset()) -> str:
        """State the fact with a sentence form that holds the needed slots."""
        forms = [f for f in self.sentences(fact.frame) if needs <= slots(f)] or [
            f for f in fact.frame.sentences if needs <= slots(f)
        ]
        form = self.rng.choice(forms or fact.frame.sentences)
        fact.sentence = self.fill(form, fact)
        fact.shown = fact.value if fact.value in fact.sentence else capitalise(fact.value)
        return fact.sentence

    # ------------------------------------------------------------ passages

    def passage(self, size: int) -> Passage:
        """Write a passage of about `size` facts."""
        draw = self.rng.random()
        if draw < 0.42 or size < 2:
            return self._single(size)
        if draw < 0.82:
            return self._several(size)
        return self._mixed(size)

    def sibling(self, passage: Passage, size: int) -> Passage:
        """Write another passage with the same kinds of facts about other things: a hard distractor."""
        frames = list({f.frame.name: f.frame for f in passage.facts}.values())
        chosen = self.rng.sample(frames, min(len(frames), max(1, size)))
        kind = chosen[0].subject_kind
        subject = self.draw(kind)
        facts = [self.fact(f, subject if f.subject_kind == kind else None) for f in chosen]
        return self._prose(facts, subject)

    def _single(self, size: int) -> Passage:
        kind = self.rng.choices(self.kinds, self.kind_weights)[0]
        subject = self.draw(kind)
        frames = self.rng.sample(self.by_kind[kind], min(size, len(self.by_kind[kind])))
        facts = [self.fact(f, subject) for f in frames]
        facts += [self.fact(f, subject) for f in frames if "k" in f.keys and self.rng.random() < 0.5]
        if self.rng.random() < 0.25:
            facts.append(self.fact(self.generic, subject))
        style = self.rng.random()
        if style < 0.16 and not any("k" in f.keys for f in facts):
            return self._header(facts, subject)
        if style < 0.3:
            return self._list(facts, subject)
        return self._prose(facts, subject)

    def _several(self, size: int) -> Passage:
        r = self.rng
        kind = r.choices(self.kinds, self.kind_weights)[0]
        count = r.randint(2, max(2, min(5, size)))
        frames = r.sample(self.by_kind[kind], min(max(1, size // count), len(self.by_kind[kind])))
        if r.random() < 0.2:
            frames = [self.generic]
        subjects = list(dict.fromkeys(self.draw(kind) for _ in range(count)))
        if frames == [self.generic]:
            attribute = self.pools.np()
            facts = [self.fact(self.generic, s) for s in subjects]
            for fact in facts:
                if r.random() < 0.7:
                    fact.keys["k"] = attribute
            return self._all_named(facts)
        facts = [self.fact(f, s) for s in subjects for f in frames]
        if r.random() < 0.25 and not any("k" in f.keys for f in frames):
            return self._table(subjects, frames, facts)
        return self._all_named(facts)

    def _mixed(self, size: int) -> Passage:
        frames = self.rng.sample(self.frames, min(size, len(self.frames)))
        facts = [self.fact(f) for f in frames]
        return self._all_named(facts)

    # ------------------------------------------------------------ styles

    def _all_named(self, facts: list[Fact]) -> Passage:
        r = self.rng
        same = r.random() < 0.5
        template: dict[str, str] = {}
        lines = []
        for fact in facts:
            needs = frozenset(fact.keys)
            if same and fact.frame.name in template:
                fact.sentence = self.fill(template[fact.frame.name], fact)
                fact.shown = fact.value if fact.value in fact.sentence else capitalise(fact.value)
            else:
                forms = (
                    [f for f in self.sentences(fact.frame) if needs <= slots(f)]
                    or [f for f in fact.frame.sentences if needs <= slots(f)]
                    or list(self.sentences(fact.frame))
                )
                template[fact.frame.name] = r.choice(forms)
                fact.sentence = self.fill(template[fact.frame.name], fact)
                fact.shown = fact.value if fact.value in fact.sentence else capitalise(fact.value)
            lines.append(fact.sentence)
        return self._join(lines, facts, title=self._title())

    def _prose(self, facts: list[Fact], subject: str) -> Passage:
        r = self.rng
        repeated = {f.frame.name for f in facts if sum(g.frame.name == f.frame.name for g in facts) > 1}
        lines = [
            self.say(f, needs=frozenset(("k",) if f.frame.name in repeated and "k" in f.keys else ())) for f in facts
        ]
        title = self._title(subject) if r.random() < 0.5 else self._title()
        named = subject.lower() in (title + " " + " ".join(lines)).lower()
        if not named:
            title = (
                capitalise(subject)
                if r.random() < 0.6
                else f"{r.choice(('Notes on', 'About', 'Record of', 'Summary for', 'Concerning'))} {subject}"
            )
        return self._join(lines, facts, title=title)

    def _list(self, facts: list[Fact], subject: str) -> Passage:
        r = self.rng
        passage = self._prose(facts, subject)
        mark = r.choice(("- ", "- ", "* ", "{n}. ", "({n}) ", "{n}) "))
        lines = [mark.replace("{n}", str(i + 1)) + f.sentence for i, f in enumerate(facts)]
        passage.title = passage.title or capitalise(subject)
        passage.body = "\n".join(lines)
        return passage

    def _header(self, facts: list[Fact], subject: str) -> Passage:
        r = self.rng
        separator = r.choice((": ", ": ", ": ", " - ", " = "))
        lines = []
        for fact in facts:
            label = fact.keys.get("k") or (
                r.choice(fact.frame.labels) if fact.frame.labels else fact.frame.name.replace("_", " ")
            )
            fact.shown = fact.value
            fact.sentence = f"{capitalise(label)}{separator}{fact.value}"
            lines.append(fact.sentence)
        first = (
            f"{capitalise(facts[0].frame.subject_kind)}{separator}{subject}"
            if r.random() < 0.5
            else capitalise(subject)
        )
        tail = f"\n{self.filler()}" if r.random() < 0.25 else ""
        return Passage("", first + "\n" + "\n".join(lines) + tail, facts)

    def _table(self, subjects: list[str], frames: list[Frame], facts: list[Fact]) -> Passage:
        r = self.rng
        labels = [capitalise(r.choice(f.labels) if f.labels else f.name.replace("_", " ")) for f in frames]
        by = {(f.subject, f.frame.name): f for f in facts}
        rows = [
            f"| {capitalise(frames[0].subject_kind)} | " + " | ".join(labels) + " |",
            "|" + " --- |" * (len(labels) + 1),
        ]
        for subject in subjects:
            row = f"| {subject} | " + " | ".join(by[subject, f.name].value for f in frames) + " |"
            for frame in frames:
                by[subject, frame.name].sentence = row
                by[subject, frame.name].shown = by[subject, frame.name].value
            rows.append(row)
        if r.random() < 0.35:  # the plain style of tables that lost their rules
            separator = r.choice((" | ", "; ", ", ", "   "))
            rows = [row.strip("| ").replace(" | ", separator) for i, row in enumerate(rows) if i != 1]
            for fact in facts:
                fact.sentence = next(row for row in rows if row.startswith(fact.subject) and fact.value in row)
        return Passage(self._title(), "\n".join(rows), facts)

    def _join(self, lines: list[str], facts: list[Fact], title: str) -> Passage:
        r = self.rng
        lines = list(lines)
        for _ in range(r.choice((0, 0, 0, 1, 1, 2)) if r.random() < self.filler_share else 0):
            lines.append(self.filler())
        r.shuffle(lines)
        separator = r.choice((" ", " ", " ", " ", "\n", "\n\n"))
        return Passage(title, separator.join(lines), facts)

    def _title(self, subject: str | None = None) -> str:
        r = self.rng
        if subject is not None:
            kind = r.choice(("record", "file", "notes", "summary", "overview", "sheet", "entry", "report", "review"))
            return capitalise(
                r.choice((subject, f"{subject}: {kind}", f"{capitalise(kind)} for {subject}", f"{subject} - {kind}"))
            )
        if r.random() < 0.5:
            return ""
        return capitalise(
            r.choice(
                (
                    self.pools.np(),
                    f"{self.pools.np()} > {self.pools.np()}",
                    f"{self.pools.word()} notice",
                    f"{r.randint(1, 14)}.{r.randint(1, 9)} {capitalise(self.pools.np())}",
                )
            )
        )
