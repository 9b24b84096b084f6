"""From pairs to examples: the prompt a pair is asked with, closed or over passages, and questions without an answer."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from fieldwise.generate.pairs import Pair
from fieldwise.generate.settings import GenerateSettings
from fieldwise.generate.split import Split
from fieldwise.interfaces import Retriever
from fieldwise.prompts import closed_prompt, grounded_prompt
from fieldwise.records import NOT_STATED, Chunk, Conversation, Evidence, Example, Message
from fieldwise.retrieve.index import passage_text
from fieldwise.support import may_answer


@dataclass(frozen=True)
class Asked:
    """A pair with the chunk it was made from and the side it belongs to."""

    pair: Pair
    chunk: Chunk
    split: Split


def with_reply(prompt: Conversation, reply: str) -> Conversation:
    """Return the prompt with the assistant's reply behind it."""
    return (*prompt, Message(role="assistant", content=reply))


def drop_ambiguous(asked: Sequence[Asked]) -> tuple[list[Asked], list[Asked]]:
    """Split off questions that are asked more than once with different answers; of equal pairs the first stays."""
    answers: dict[str, set[str]] = defaultdict(set)
    for item in asked:
        answers[item.pair.question.casefold()].add(item.pair.answer.casefold())
    kept: list[Asked] = []
    dropped: list[Asked] = []
    seen: set[str] = set()
    for item in asked:
        key = item.pair.question.casefold()
        if len(answers[key]) > 1 or key in seen:
            dropped.append(item)
        else:
            kept.append(item)
            seen.add(key)
    return kept, dropped


class ExampleMaker:
    """Builds examples; distractors are what the retriever finds, so that training meets what serving will show."""

    def __init__(
        self,
        retriever: Retriever,
        groups: dict[str, str],
        sides: dict[str, Split],
        settings: GenerateSettings,
        rng: random.Random,
    ) -> None:
        self.retriever, self.groups, self.sides, self.settings, self.rng = retriever, groups, sides, settings, rng
        self._invented: dict[str, Split] = {}

    def closed(self, asked: Asked) -> Example:
        """The question alone: what the weights shall know."""
        prompt = closed_prompt(asked.pair.question)
        return Example.make(
            question=asked.pair.question,
            answer=asked.pair.answer,
            kind=asked.pair.kind,
            conversation=with_reply(prompt, asked.pair.answer),
            style="closed",
            evidence=(Evidence(chunk_id=asked.chunk.id, quote=asked.pair.quote),),
            chunk_ids=(asked.chunk.id,),
            document_ids=(asked.chunk.document_id,),
            split=asked.split,
            difficulty=_difficulty(asked.pair, 0),
        )

    def grounded(self, asked: Sequence[Asked], others: Sequence[Asked] = ()) -> list[Example]:
        """Questions about one chunk over the same passages: the evidence among near misses, at a random place.

        `others` are questions about other chunks, or written as unanswerable: over these passages the right answer
        to them is a decline.
        All share their passages, so that training can read these once, and sees what tells the two apart.
        """
        chunk, split = asked[0].chunk, asked[0].split
        shown = self.others(" ".join(a.pair.question for a in asked), asked, self.settings.distractors)
        place = self.rng.randint(0, len(shown))
        ordered = [*shown[:place], chunk, *shown[place:]]
        passages = [passage_text(c) for c in ordered]
        made = [
            Example.make(
                question=item.pair.question,
                answer=item.pair.answer,
                kind=item.pair.kind,
                conversation=with_reply(
                    grounded_prompt(item.pair.question, passages), f"{item.pair.answer} [{place + 1}]"
                ),
                style="grounded",
                evidence=(Evidence(chunk_id=chunk.id, quote=item.pair.quote),),
                chunk_ids=(chunk.id, *(c.id for c in shown)),
                document_ids=_documents([chunk, *shown]),
                split=split,
                difficulty=_difficulty(item.pair, len(shown)),
            )
            for item in asked
        ]
        text = "\n".join(c.text for c in ordered).casefold()
        for item in others:
            if item.pair.kind == "unanswerable":
                if may_answer(item.pair.question, [c.text for c in ordered]):
                    continue
            elif _holds(text, item.pair.answer.casefold()) or _holds(text, item.pair.quote.casefold()):
                continue
            made.append(
                Example.make(
                    question=item.pair.question,
                    answer=NOT_STATED,
                    kind="unanswerable",
                    conversation=with_reply(grounded_prompt(item.pair.question, passages), NOT_STATED),
                    style="grounded",
                    chunk_ids=tuple(c.id for c in ordered),
                    document_ids=_documents(ordered),
                    split=split,
                    difficulty=1.0,
                )
            )
        self.rng.shuffle(made)  # no place in the row tells what to decline
        return made

    def invented(self, asked: Asked, corpus: str) -> Example | None:
        """A question about a thing of an invented name, without passages: the weights must not make something up."""
        question = invent(asked.pair.question, corpus, self.rng)
        if question is None or self._invented.setdefault(question, asked.split) != asked.split:
            return None  # nothing to replace, or the same invention stands on another side already
        return Example.make(
            question=question,
            answer=NOT_STATED,
            kind="unanswerable",
            conversation=with_reply(closed_prompt(question), NOT_STATED),
            style="closed",
            split=asked.split,
            difficulty=0.5,
        )

    def others(self, query: str, asked: Sequence[Asked], count: int) -> list[Chunk]:
        """What retrieval finds beside the evidence.

        Never a passage that holds an answer too, never a near-duplicate of the document, and never one of a
        held-out document beside a training question.
        """
        home, split = asked[0].chunk, asked[0].split
        group = self.groups.get(home.document_id)
        words = [w.casefold() for a in asked for w in (a.pair.answer, a.pair.quote)]
        found = []
        for hit in self.retriever.search(query, count * 4 + 4):
            chunk = hit.chunk
            is_near_duplicate = chunk.document_id != home.document_id and self.groups.get(chunk.document_id) == group
            if chunk.id == home.id or is_near_duplicate or self.sides.get(chunk.document_id) not in (split, "train"):
                continue
            text = chunk.text.casefold()
            if not any(_holds(text, w) for w in words):
                found.append(chunk)
        return found[:count]


def _holds(text: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None


def _documents(chunks: Sequence[Chunk]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(c.document_id for c in chunks))


def _difficulty(pair: Pair, distractors: int) -> float:
    """A rough order for a curriculum: longer answers and more distractors are harder."""
    return round(min(1.0, 0.1 * distractors + len(pair.answer.split()) / 40), 3)


_SYLLABLES = [
    "bal",
    "cor",
    "dun",
    "fel",
    "gar",
    "hol",
    "kem",
    "lor",
    "mar",
    "nex",
    "ost",
    "pel",
    "quor",
    "rin",
    "sel",
    "tor",
    "ulm",
    "ven",
    "wex",
    "yor",
    "zan",
]


def invented_name(rng: random.Random) -> str:
    """Return a name that stands for nobody and no place.

    >>> invented_name(random.Random(1))
    'Garwex'
    """
    return "".join(rng.choice(_SYLLABLES) for _ in range(2)).capitalize()


def invent(question: str, corpus: str, rng: random.Random) -> str | None:
    """Replace the name, code or last noun of a question by one that the documents do not know; None if nothing can be replaced."""
    candidates = re.findall(r"(?<=[a-z,] )[A-Z][A-Za-z-]{3,}|\b[A-Z]{2,4}-\d+\b", question)
    if not candidates:
        words = [w for w in re.findall(r"[a-z]{5,}", question[8:]) if w not in _COMMON]
        candidates = words[-1:]
    if not candidates:
        return None
    old = rng.choice(candidates)
    for _ in range(20):
        new = "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 3))))
        new = new.capitalize() if old[:1].isupper() else new
        if new.casefold() not in corpus:
            return question.replace(old, new, 1)
    return None


_COMMON = frozenset(
    [
        "should",
        "after",
        "before",
        "happens",
        "applies",
        "which",
        "where",
        "number",
        "within",
        "under",
        "every",
        "there",
        "often",
        "about",
        "their",
        "person",
        "means",
    ]
)
