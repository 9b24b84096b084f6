"""Questions over closed worlds: spans, absent things, reverse look-up, two hops, yes/no, JSON, quotes, follow-ups.

Each asker takes the passages of one context and returns a Turn, or None where the context does not allow
its kind of question. Answers end with the mark of the passage they stand in, `[2]`; what the passages do
not say is declined with one fixed sentence.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .forms import Frame, slots
from .pools import NUMERIC
from .world import Fact, Passage, Writer, capitalise

NOT_STATED = "Not stated in the documents."


class Turn(NamedTuple):
    """One question with its answer; `kind` names what is measured."""

    question: str
    answer: str
    kind: str


class Context:
    """The passages of one conversation, with where each fact stands."""

    def __init__(self, writer: Writer, passages: Sequence[Passage], *, cite: bool = True) -> None:
        self.writer, self.rng, self.cite = writer, writer.rng, cite
        self.passages = passages
        self.facts: list[tuple[int, Fact]] = [(i, f) for i, p in enumerate(passages, 1) for f in p.facts]
        self.text = "\n".join(p.text for p in passages)

    def marked(self, answer: str, number: int) -> str:
        return f"{answer} [{number}]" if self.cite else answer

    def same_frame(self, frame: Frame) -> list[Fact]:
        return [f for _, f in self.facts if f.frame.name == frame.name and (frame.name != "generic_relation")]

    def questions(self, frame: Frame) -> tuple[str, ...]:
        return (frame.held_questions or frame.questions) if self.writer.held else frame.questions

    def reverse(self, frame: Frame) -> tuple[str, ...]:
        return (frame.held_reverse or frame.reverse) if self.writer.held else frame.reverse


def _needs(context: Context, fact: Fact) -> frozenset[str]:
    """Which keys a question must name so that it has one answer in this context."""
    if fact.frame.name == "generic_relation":
        return frozenset(("s", "k"))
    others = [f for f in context.same_frame(fact.frame) if f is not fact]
    if not others:
        return frozenset()
    return frozenset(slot for slot in fact.keys if any(f.keys[slot] != fact.keys[slot] for f in others)) or frozenset(
        fact.keys
    )


def _question(context: Context, fact: Fact, needs: frozenset[str]) -> str | None:
    forms = [f for f in context.questions(fact.frame) if needs <= slots(f)]
    if not forms and context.writer.held:
        forms = [f for f in fact.frame.questions if needs <= slots(f)]
    if not forms:
        return None
    return context.writer.fill(context.rng.choice(forms), fact)


def _kind(context: Context, fact: Fact) -> str:
    if fact.frame.name == "generic_relation":
        return "generic"
    if len(context.same_frame(fact.frame)) > 1:
        return "bind"
    kind = fact.frame.value_kind
    return "number" if kind in NUMERIC else "name"


def _ambiguous(context: Context, fact: Fact) -> bool:
    """Two facts with the same keys but different values cannot be asked about."""
    return any(
        f is not fact and f.frame.name == fact.frame.name and f.keys == fact.keys and f.value != fact.value
        for _, f in context.facts
    )


def ask_value(context: Context) -> Turn | None:
    """The value of a fact, asked in one of its own forms or by one of its labels."""
    number, fact = context.rng.choice(context.facts)
    if _ambiguous(context, fact):
        return None
    question = None
    generic = context.writer.generic
    if (
        fact.frame.labels
        and fact.frame is not generic
        and "k" not in fact.keys
        and not context.writer.held
        and context.rng.random() < 0.15
    ):
        form = context.rng.choice(generic.questions)
        question = context.writer.fill(form, fact, k=context.rng.choice(fact.frame.labels))
    question = question or _question(context, fact, _needs(context, fact))
    return Turn(question, context.marked(fact.shown, number), _kind(context, fact)) if question else None


def ask_reverse(context: Context) -> Turn | None:
    """What a value belongs to."""
    number, fact = context.rng.choice(context.facts)
    forms = context.reverse(fact.frame)
    if not forms or sum(f.value == fact.value for _, f in context.facts) > 1:
        return None
    form = context.rng.choice(forms)
    if (
        "k" in fact.keys
        and "k" not in slots(form)
        and len(context.same_frame(fact.frame)) > 1
        and fact.frame.name != "generic_relation"
    ):
        return None
    passage = context.passages[number - 1].text
    subject = fact.subject if fact.subject in passage else capitalise(fact.subject)
    if subject not in passage:
        return None
    return Turn(context.writer.fill(form, fact, v=fact.shown), context.marked(subject, number), "reverse")


def ask_absent_field(context: Context) -> Turn | None:
    """A kind of fact that no passage states, about a thing that is there."""
    writer, r = context.writer, context.rng
    _, fact = r.choice(context.facts)
    present = {f.frame.name for _, f in context.facts}
    words = {
        w
        for _, f in context.facts
        for label in (*f.frame.labels, f.keys.get("k", ""))
        for w in re.findall(r"[a-z]{4,}", label.lower())
    }
    candidates = [
        f
        for f in writer.by_kind.get(fact.frame.subject_kind, [])
        if f.name not in present and not words & {w for label in f.labels for w in re.findall(r"[a-z]{4,}", label)}
    ]
    if candidates and r.random() < 0.8:
        frame = r.choice(candidates)
        asked = writer.fact(frame, fact.subject)
        needs: frozenset[str] = frozenset(("s",) if len({f.subject for _, f in context.facts}) > 1 else ())
        question = _question(context, asked, needs)
    else:
        asked = writer.fact(writer.generic, fact.subject)
        if asked.keys["k"].lower() in context.text.lower():
            return None
        question = _question(context, asked, frozenset(("s", "k")))
    return Turn(question, NOT_STATED, "absent_field") if question else None


def ask_absent_entity(context: Context) -> Turn | None:
    """The same question as one that has an answer, about a thing that is not there."""
    writer, r = context.writer, context.rng
    _, fact = r.choice(context.facts)
    slot = r.choice(sorted(fact.keys))
    kind = fact.frame.keys[slot]
    other = writer.pools.np() if kind == "attribute" else writer.draw(kind if kind != "any" else "any")
    if kind == "patient" and r.random() < 0.25 and " " in fact.keys[slot]:  # same family name, other given name
        other = writer.pools.rng.choice(writer.pools.given) + " " + fact.keys[slot].split()[-1]
    if other.lower() in context.text.lower():
        return None
    asked = Fact(fact.frame, {**fact.keys, slot: other}, fact.value)
    question = _question(context, asked, frozenset((slot,)) | _needs(context, fact))
    return Turn(question, NOT_STATED, "absent_entity") if question else None


def ask_two_hop(context: Context) -> Turn | None:
    """A fact about the value of another fact, which is named only by its label."""
    pairs = [
        (a, b, n)
        for _, a in context.facts
        for n, b in context.facts
        if a is not b and a.value == b.subject and a.frame.labels and "k" not in a.keys
    ]
    if not pairs:
        return None
    first, second, number = context.rng.choice(pairs)
    forms = [f for f in context.questions(second.frame) if "s" in slots(f)]
    if not forms or _ambiguous(context, second):
        return None
    subject = (
        f"the {context.rng.choice(first.frame.labels)} of {first.subject}"
        if first.frame.name != "generic_relation"
        else f"the {first.keys['k']} of {first.subject}"
    )
    return Turn(
        context.writer.fill(context.rng.choice(forms), second, s=subject),
        context.marked(second.shown, number),
        "two_hop",
    )


_YES_NO = (
    "Is it true that {x}?",
    "Is this right: {x}?",
    "True or false: {x}",
    "Does it say that {x}?",
    "Can you confirm that {x}?",
    "Correct or not: {x}?",
    "I was told that {x}. Is that so?",
    "{x} - yes or no?",
)


def ask_yes_no(context: Context) -> Turn | None:
    """Whether a statement holds; the answer gives the sentence that decides it as its reason."""
    number, fact = context.rng.choice(context.facts)
    if _ambiguous(context, fact) or fact.sentence.startswith("|"):
        return None
    forms = [f for f in fact.frame.sentences if frozenset(fact.keys) <= slots(f) and ":" not in f]
    if not forms:
        return None
    right = context.rng.random() < 0.5
    claimed = fact.value
    if not right:
        others = [
            f.value for _, f in context.facts if f.frame.value_kind == fact.frame.value_kind and f.value != fact.value
        ]
        claimed = (
            context.rng.choice(others)
            if others and context.rng.random() < 0.6
            else context.writer.pools.draw(fact.frame.value_kind if fact.frame.value_kind != "any" else "name")
        )
        if claimed == fact.value:
            return None
    statement = context.writer.fill(context.rng.choice(forms), fact, v=claimed).rstrip(".")
    if re.match(r"(The|A|An|In|On|For|With|It|At|Under|As|By|Since|No|Any|All) ", statement):
        statement = statement[0].lower() + statement[1:]
    question = context.rng.choice(_YES_NO).replace("{x}", statement)
    return Turn(question, context.marked(f"{'Yes' if right else 'No'}: {fact.sentence}", number), "yes_no")


_QUOTE = (
    "Quote the sentence that answers this: {q}",
    "Which sentence answers the question: {q}",
    "Give the exact wording that answers: {q}",
    "{q} Quote the source.",
    "Copy the line that tells us: {q}",
)


def ask_quote(context: Context) -> Turn | None:
    """The sentence that holds the answer, word for word."""
    number, fact = context.rng.choice(context.facts)
    question = None if _ambiguous(context, fact) else _question(context, fact, _needs(context, fact))
    if not question:
        return None
    return Turn(
        context.rng.choice(_QUOTE).replace("{q}", question), context.marked(f'"{fact.sentence}"', number), "quote"
    )


_JSON_HEADS = (
    "Return JSON with the fields {fields}.",
    "Answer as JSON with the keys {fields}.",
    "Extract {fields} as JSON.",
    "JSON: {fields}",
    "Fill in this JSON object: {object}",
    "Reply with a JSON object that matches this schema: {schema}",
    "Give only JSON. Schema: {schema}",
    "Extract the data as JSON in this form: {object}",
)


def ask_json(context: Context) -> Turn | None:
    """The facts about one thing as a JSON object; what is not stated is null."""
    r, writer = context.rng, context.writer
    _, anchor = r.choice(context.facts)
    about = [f for _, f in context.facts if f.subject == anchor.subject and "k" not in f.keys and f.frame.labels]
    about = list({f.frame.name: f for f in about}.values())
    if not about or any(_ambiguous(context, f) for f in about):
        return None
    chosen: list[tuple[str, str | None]] = [
        (r.choice(f.frame.labels), f.shown) for f in r.sample(about, r.randint(1, min(4, len(about))))
    ]
    if r.random() < 0.4:
        present = {f.frame.name for f in about}
        absent = [f for f in writer.by_kind.get(anchor.frame.subject_kind, []) if f.name not in present and f.labels]
        if absent:
            chosen.insert(r.randint(0, len(chosen)), (r.choice(r.choice(absent).labels), None))
    snake = r.random() < 0.75
    names = [label.replace(" ", "_").replace("-", "_") if snake else label for label, _ in chosen]
    if len(set(names)) < len(names):
        return None
    blank = json.dumps(dict.fromkeys(names, r.choice(("string", "...", "string or null"))), ensure_ascii=False)
    schema = json.dumps(
        {
            "type": "object",
            "properties": {n: {"type": ["string", "null"]} if r.random() < 0.5 else {"type": "string"} for n in names},
            "required": names,
        },
        ensure_ascii=False,
    )
    head = (
        r.choice(_JSON_HEADS)
        .replace("{fields}", ", ".join(f'"{n}"' if r.random() < 0.5 else n for n in names))
        .replace("{object}", blank)
        .replace("{schema}", schema)
    )
    several = len({f.subject for _, f in context.facts}) > 1
    subject = (
        f" {r.choice(('About', 'For', 'Regarding', 'Concerning'))} {anchor.subject}."
        if several or r.random() < 0.4
        else ""
    )
    answer = json.dumps({n: v for n, (_, v) in zip(names, chosen, strict=True)}, ensure_ascii=False)
    return Turn(head + subject, answer, "json")


_LIST = (
    "List every {l} that is given.",
    "Name all the {l} entries.",
    "Which values of {l} are there?",
    "Give me each {l}, one after the other.",
    "List all: {l}.",
)


def ask_list(context: Context) -> Turn | None:
    """All values of one kind of fact, in the order in which they stand in one passage."""
    r = context.rng
    number = r.randint(1, len(context.passages))
    passage = context.passages[number - 1]
    frames = {f.frame.name: f.frame for f in passage.facts if f.frame.labels and f.frame.name != "generic_relation"}
    names = [
        n
        for n in sorted(frames)
        if sum(f.frame.name == n for _, f in context.facts) == sum(f.frame.name == n for f in passage.facts) > 1
    ]
    if not names:
        return None
    frame = frames[r.choice(names)]
    found = sorted((passage.text.find(f.sentence), f.shown) for f in passage.facts if f.frame.name == frame.name)
    if any(position < 0 for position, _ in found):
        return None
    return Turn(
        r.choice(_LIST).replace("{l}", r.choice(frame.labels)),
        context.marked("; ".join(v for _, v in found), number),
        "list",
    )


_FOLLOW_SUBJECT = (
    "And {s}?",
    "What about {s}?",
    "And for {s}?",
    "The same for {s}?",
    "How about {s}?",
    "And in the case of {s}?",
)
_FOLLOW_FIELD = (
    "And the {l}?",
    "What about the {l}?",
    "And what is the {l}?",
    "The {l} too, please.",
    "And the {l} there?",
)


def ask_follow_up(context: Context) -> list[Turn] | None:
    """Two turns: the second leaves out what the first has named."""
    r = context.rng
    first = ask_value(context)
    if first is None:
        return None
    anchors = [(n, f) for n, f in context.facts if context.marked(f.shown, n) == first.answer and "k" not in f.keys]
    if len(anchors) != 1 or anchors[0][1].subject not in first.question:
        return None
    _, anchor = anchors[0]
    others = [
        (n, f)
        for n, f in context.facts
        if f.frame is anchor.frame and f.subject != anchor.subject and "k" not in f.keys
    ]
    fields = [
        (n, f)
        for n, f in context.facts
        if f.subject == anchor.subject and f.frame.name != anchor.frame.name and f.frame.labels and "k" not in f.keys
    ]
    if others and r.random() < 0.6:
        number, fact = r.choice(others)
        second = r.choice(_FOLLOW_SUBJECT).replace("{s}", fact.subject)
    elif fields:
        number, fact = r.choice(fields)
        second = r.choice(_FOLLOW_FIELD).replace("{l}", r.choice(fact.frame.labels))
    else:
        return None
    if _ambiguous(context, fact):
        return None
    return [first, Turn(second, context.marked(fact.shown, number), "follow_up")]


ASKERS: dict[str, Callable[[Context], Turn | None]] = {
    "value": ask_value,
    "reverse": ask_reverse,
    "absent_field": ask_absent_field,
    "absent_entity": ask_absent_entity,
    "two_hop": ask_two_hop,
    "yes_no": ask_yes_no,
    "quote": ask_quote,
    "json": ask_json,
    "list": ask_list,
}


def add_chain(writer: Writer, passages: list[Passage]) -> None:
    """Add a fact about the value of a fact already there, so that a two-hop question exists."""
    r = writer.rng
    facts = [
        (p, f)
        for p in passages
        for f in p.facts
        if f.frame.value_kind in writer.by_kind
        and f.frame.labels
        and "k" not in f.keys
        and not f.sentence.startswith("|")
    ]
    if not facts:
        return
    _, first = r.choice(facts)
    frame = r.choice(writer.by_kind[first.frame.value_kind])
    second = writer.fact(frame, first.value)
    target = r.choice(passages)
    sentence = writer.say(second, needs=frozenset(("s",)))
    if first.value not in sentence or target.body.startswith("|"):
        return
    decoy = writer.fact(frame)
    lines = [sentence, writer.say(decoy, needs=frozenset(("s",)))]
    target.facts += [second, decoy]
    r.shuffle(lines)
    target.body += "\n" + " ".join(lines)
