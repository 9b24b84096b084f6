"""Passages written by hand in natural wording, their values drawn anew in every row. The format: reading/README.md.

python -m nano_recipe.written reading      # checks every file
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .pools import Pools
from .tasks import NOT_STATED

_SLOT = re.compile(r"\{([a-z]+)(\d*)\}")
_CHOICE = re.compile(r"\[\[(.*?)\]\]")
_OWN_LINE = re.compile(r"- |\| |## |\d+\. ")  # list items, rows of a table, headings and steps
KINDS = frozenset(
    "name drug id person patient company place dept system product role form room phone email count money percent date time "
    "duration measure dose freq age colour account contract case policy asset course".split()
)


@dataclass
class Template:
    """One passage with its questions; answers are a slot, fixed words, or None where the passage does not say."""

    title: str
    sentences: list[str] = field(default_factory=list)
    questions: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def held_out(self) -> bool:
        """True for the twelfth that is kept for measuring."""
        return int.from_bytes(hashlib.md5(self.title.encode()).digest()[:4], "big") % 12 == 0


def read(folder: Path, files: str = "*.txt") -> list[Template]:
    """Read every such file of the folder; what is malformed stops with file, line and reason, all together."""
    templates: list[Template] = []
    problems: list[str] = []
    for path in sorted(folder.glob(files)):
        for number, raw in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            line = raw.strip()
            if not line or (line.startswith("#") and not line.startswith("## ")):
                continue
            if line.startswith("passage "):
                templates.append(Template(line[8:].strip()))
                continue
            reason = _add(templates[-1], line) if templates else "the file must begin with a passage"
            if reason:
                problems.append(f"{path}:{number}: {reason}: {line}")
    if problems:
        raise SystemExit("\n".join(problems))
    return templates


def _add(template: Template, line: str) -> str | None:
    """Add a sentence or a question; returns what is wrong with it."""
    kinds = {m.group(1) for m in _SLOT.finditer(line)}
    if unknown := kinds - KINDS:
        return f"unknown kind {', '.join(sorted(unknown))}"
    if not line.startswith("?"):
        if template.questions:
            return "a sentence after the questions; a new passage begins with 'passage TITLE'"
        template.sentences.append(line)
        return None
    question, bar, answer = line[1:].strip().rpartition(" | ")
    if not bar or not question or not answer:
        return "expected '? QUESTION | ANSWER'"
    text = "\n".join(template.sentences)
    if missing := {m.group(0) for m in _SLOT.finditer(question)} - {m.group(0) for m in _SLOT.finditer(text)}:
        return f"the passage has no {', '.join(sorted(missing))}"
    if answer == "-":
        template.questions.append((question, None))
        return None
    holders = sum(answer in s for s in template.sentences)
    if holders != 1:
        return f"the answer stands in {holders} sentences, expected one (case counts)"
    if any(answer in m.group(1) for m in _CHOICE.finditer(text)):
        return "the answer stands inside a choice [[...|...]], so it is not always there"
    template.questions.append((question, answer))
    return None


def write(template: Template, pools: Pools, leave_out: float) -> tuple[str, list[tuple[str, str | None]]]:
    """One passage with fresh values and all its questions in any order; `leave_out` is the chance that a sentence is missing."""
    rng = pools.rng
    values: dict[str, str] = {}

    def filled(form: str) -> str:
        def slot(match: re.Match[str]) -> str:
            while match.group(0) not in values:
                drawn = pools.draw(match.group(1))
                if drawn not in values.values():
                    values[match.group(0)] = drawn
            return values[match.group(0)]

        said = _SLOT.sub(slot, _CHOICE.sub(lambda m: rng.choice(m.group(1).split("|")), form))
        return said[:1].upper() + said[1:]

    kept = list(template.sentences)
    if len(kept) > 2 and rng.random() < leave_out:
        kept.remove(rng.choice(kept))
    body = _joined([filled(s) for s in kept])
    found: list[tuple[str, str | None]] = []
    for question, form in template.questions:
        asked = filled(question)
        if form is None or not any(form in s for s in kept):
            found.append((asked, None))
            continue
        answer = _SLOT.sub(lambda m: values[m.group(0)], form)
        answer = answer if answer in body else answer[:1].upper() + answer[1:]  # it begins a sentence
        if body.count(answer) == 1:
            found.append((asked, answer))
    rng.shuffle(found)
    title = f"{template.title}\n" if rng.random() < 0.6 else ""
    return title + body, found


def _joined(lines: list[str]) -> str:
    """Sentences as one paragraph; what looks like an item, a row, a heading or a step has a line of its own."""
    text = ""
    for before, line in zip(["", *lines], lines, strict=False):
        apart = _OWN_LINE.match(line) or _OWN_LINE.match(before)
        text += ("" if not before else "\n" if apart else " ") + line
    return text


def conversation(
    templates: Sequence[Template], pools: Pools, passages: int, turns: int
) -> tuple[list[str], list[tuple[str, str]]]:
    """Passages with questions over all of them in any order, each answer with the mark of its passage."""
    written = [write(t, pools, 0.4) for t in pools.rng.sample(list(templates), passages)]
    texts = [text for text, _ in written]
    said = []
    for place, (_, asked) in enumerate(written, 1):
        for question, answer in asked:
            if answer is None:
                said.append((question, NOT_STATED))
            elif sum(answer in t for t in texts) == 1:
                said.append((question, f"{answer} [{place}]"))
    pools.rng.shuffle(said)
    return texts, said[:turns]


def main() -> None:
    templates = read(Path(sys.argv[1]))
    questions = [q for t in templates for q in t.questions]
    print(
        f"{len(templates)} passages, {len(questions)} questions, {sum(a is None for _, a in questions)} without an answer"
    )


if __name__ == "__main__":
    main()
