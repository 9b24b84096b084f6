"""`fieldwise data sample`: invented questions, passages and answers for a first try, from our own grammars.

A passage is a few facts of one scene about an invented place, party or firm. One question asks for one of them, in the
words of the passage; one in eight asks for a fact the passage leaves out, and the answer declines. The rejected answer
of a pair is another value of the same kind.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from fieldwise.data.targets import Made, Source, Target, convert, settled
from fieldwise.data.writing import require_kind, write_rows
from fieldwise.errors import DatasetError
from fieldwise.prompts import grounded_prompt, is_declined
from fieldwise.records import NOT_STATED, Message
from fieldwise.rows.formats import Item

DOMAINS = ("healthcare", "legal", "finance")
LABELS: Mapping[str, Any] = {"invented": True, "origin": "fieldwise data sample", "licence": "Apache-2.0"}
"""What every row says of itself."""
_UNANSWERABLE = 1 / 8
_TRIES = 200
"""Draws for one new question before the grammar counts as exhausted."""
_SLOT = re.compile(r"\{(\w+)\}")
_CLAUSE = re.compile(r"Clause \d+\.\d")
_STARTS = "Al Bar Cor Dun El Fen Gar Hol Is Kel Lor Mar Nor Os Pen Quin Ros Sel Tor Ul Ves Wel Yar Zan Bri Cal Dor Far Hal Tam".split()
_ENDS = "more ford wick low ham stead mont dale ridge grove bourne combe field gate haven lock mere ness port shaw stone thorpe vale worth by ton ley cliff brook den".split()
_POOLS: dict[str, Any] = {
    "name": ["{start}{end}"],
    "start": _STARTS,
    "end": _ENDS,
    "stem": ["{start2}{mid}"],
    "start2": "Bra Cle Dro Fli Gro Kra Ple Sto Tri Vel Zor Xan Myr Lun Nec Per".split(),
    "mid": "vax dor lin mer pex ron tas vit zol cam fen gul".split(),
    "letter": list("ABCDEFGHKLMNPRSTW"),
    "small": list("123456789"),
    "quarter": ["00", "15", "30", "45"],
}


@dataclass(frozen=True)
class Sample:
    """A question over an invented passage, its answer, and a wrong one."""

    question: str
    context: str
    answer: str
    wrong: str
    kind: str


def write_sample(domain: str, count: int, out: Path, target: Target, seed: int, *, force: bool = False) -> int:
    """Write `count` different samples in a format; returns how many rows that makes."""
    require_kind(out)
    if out.exists() and not force:
        raise DatasetError("there is a file already", where=out, fix="Name another with --out, or add --force.")
    made: list[Made] = []
    for n, sample in enumerate(samples(domain, count, seed)):
        made += convert([Source(str(n), _item(sample, target), True, {"kind": sample.kind, **LABELS})], target)[0]
    write_rows(out, settled(made))
    return len(made)


def _item(sample: Sample, target: Target) -> Item:
    prompt = grounded_prompt(sample.question, [sample.context])
    said = (sample.answer, sample.wrong) if target in ("preference", "kto") else (sample.answer,)
    replies = [reply if is_declined(reply) else f"{reply} [1]" for reply in said]
    return Item(
        tuple((*prompt, Message(role="assistant", content=reply)) for reply in replies),
        sample.question,
        sample.answer,
        rejected=replies[1] if len(replies) > 1 else None,
        question=sample.question,
        passages=(sample.context,),
    )


def samples(domain: str, count: int, seed: int) -> Iterator[Sample]:
    """Yield samples, no question and no passage twice; the same seed gives the same ones.

    Raises DatasetError for an unknown domain, or when the grammar has no more to say.
    """
    if domain not in DOMAINS:
        raise DatasetError("unknown domain", where="data sample", found=repr(domain), fix=f"Choose one of: {', '.join(DOMAINS)}.")  # fmt: skip
    if count < 1:
        raise DatasetError("a sample needs rows", where="--num-samples", found=count, fix="Ask for 1 or more.")
    grammar = _grammar(domain)
    rng = random.Random(f"{seed}/sample/{domain}")
    seen: set[str] = set()
    for made in range(count):
        for _ in range(_TRIES):
            sample = _draw(grammar, rng)
            if sample is not None and sample.question not in seen and sample.context not in seen:
                break
        else:
            raise DatasetError("the grammar has no more to say", where=f"data sample {domain}", found=f"{made:,} different rows", fix="Ask for fewer with --num-samples.")  # fmt: skip
        seen |= {sample.question, sample.context}
        yield sample


@cache
def _grammar(domain: str) -> dict[str, Any]:
    path = Path(__file__).parent / "grammars" / f"{domain}.yaml"
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {**found, "pools": {**_POOLS, **found["pools"]}}


def _draw(grammar: dict[str, Any], rng: random.Random) -> Sample | None:
    """A sample, or None where chance gave two facts of a passage one answer or one number of a clause."""
    pools = grammar["pools"]
    scene = rng.choice(grammar["scenes"])
    shared = {name: _value(name, pools, rng) for name in scene["shared"]}
    facts = rng.sample(scene["facts"], len(scene["facts"]))
    shown = facts[: rng.randint(3, len(facts) - 1)]
    drawn = [_Fact(fact, shared, pools, rng) for fact in facts]
    told = [
        _upper(_fill(rng.choice(fact["says"]), one.bound, pools, rng)) for fact, one in zip(shown, drawn, strict=False)
    ]
    context = f"{_upper(_fill(rng.choice(scene['title']), shared, pools, rng))}\n" + " ".join(told)
    clauses = _CLAUSE.findall(context)
    if len(set(clauses)) < len(clauses):
        return None
    number = rng.randrange(len(shown))
    if rng.random() < _UNANSWERABLE:
        number = len(shown)
    fact, one = facts[number], drawn[number]
    question = _fill(rng.choice(fact["asks"]), one.bound, pools, rng)
    if number == len(shown):
        return None if one.answer in context else Sample(question, context, NOT_STATED, one.answer, "unanswerable")
    wrong = _Fact(fact, shared, pools, rng).answer
    is_alone = context.casefold().count(one.answer.casefold()) == 1
    answer = _as_it_stands(one.answer, context)
    if wrong == one.answer:
        wrong = NOT_STATED
    return Sample(question, context, answer, wrong, fact["kind"]) if is_alone else None


class _Fact:
    """A fact with its values drawn."""

    def __init__(self, fact: dict[str, Any], shared: dict[str, str], pools: dict[str, Any], rng: random.Random) -> None:
        names = {n for text in (*fact["says"], *fact["asks"], fact["answer"]) for n in _SLOT.findall(text)}
        self.bound = {**{name: _value(name, pools, rng) for name in sorted(names - shared.keys())}, **shared}
        self.answer = _SLOT.sub(lambda m: self.bound[m.group(1)], fact["answer"])


def _value(name: str, pools: dict[str, Any], rng: random.Random) -> str:
    pool = pools[name]
    if isinstance(pool, dict):
        number = rng.randrange(pool["from"], pool["to"] + 1, pool.get("step", 1))
        return _fill(pool["as"].replace("{}", str(number)), {}, pools, rng)
    return _fill(rng.choice(pool), {}, pools, rng)


def _fill(text: str, bound: Mapping[str, str], pools: dict[str, Any], rng: random.Random) -> str:
    return _SLOT.sub(lambda m: bound[m.group(1)] if m.group(1) in bound else _value(m.group(1), pools, rng), text)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _as_it_stands(answer: str, context: str) -> str:
    """The answer in the letters of the passage, where it may begin a sentence."""
    place = context.casefold().find(answer.casefold())
    return context[place : place + len(answer)]
