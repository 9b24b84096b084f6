"""Rows of token ids with loss weights: conversations over passages, drills, tool calls and running text.

A row holds one conversation, then running text up to its length: two conversations in one row would let
the second read the passages of the first, and "not stated" would be taught as a lie. Weights: what the
assistant says 2, running text 1, passages and questions a little (their names are not predictable).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from . import preference, questions, written
from . import real as real_text
from .forms import Frame, read_forms
from .pools import Pools, load_harvest
from .prompts import system_prompt, varied
from .tasks import ASKERS, Context, Turn, add_chain, ask_absent_entity, ask_absent_field, ask_follow_up, ask_value
from .toolcalls import make_call, public, tool_line
from .world import Passage, Writer

ANSWER, TEXT, PASSAGE, QUESTION = 2.0, 1.0, 0.4, 0.3
READ_SHARE = 0.3  # of the tokens of passages and questions that carry loss: their names are noise, and scores of 8192 tokens cost time


class SpecialTokens:
    """Ids of the tokens that shape a conversation."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.pad, self.start, self.end, self.end_of_text = (
            tokenizer.token_to_id(t) for t in ("<|pad|>", "<|im_start|>", "<|im_end|>", "<|endoftext|>")
        )


class Row(NamedTuple):
    """Token ids and the loss weight of predicting each of them."""

    ids: list[int]
    weights: list[float]


class Composer:
    """Makes conversations: passages with turns over them."""

    def __init__(
        self,
        frames: list[Frame],
        pools: Pools,
        rng: random.Random,
        documents: Sequence[str],
        *,
        held: bool = False,
        unseen_frames: bool = False,
    ) -> None:
        self.pools, self.rng, self.documents = pools, rng, documents
        self.writer = Writer(frames, pools, rng, self.filler, held=held, unseen_frames=unseen_frames)

    def filler(self) -> str:
        """One sentence of real text."""
        for _ in range(20):
            document = self.documents[self.rng.randrange(len(self.documents))]
            found = real_text.sentences(real_text.windows(document, self.rng, 500))
            if found:
                return self.rng.choice(found)
        return "This page was left blank on purpose."

    def window(self, chars: int) -> Passage:
        """A stretch of real text as a passage."""
        document = self.documents[self.rng.randrange(len(self.documents))]
        return Passage("", real_text.windows(document, self.rng, chars))

    def conversation(
        self,
        size: int,
        passages: int,
        *,
        turns: int = 8,
        decline: float = 0.22,
        real_share: float = 0.2,
        level: float = 1.0,
    ) -> tuple[list[Passage], list[Turn]]:
        """Passages (synthetic, real, siblings as hard distractors) and turns over them.

        `level` 0 asks for plain values in bare passages; towards 1 come filler sentences, real text and the harder kinds.
        """
        r = self.rng
        self.writer.filler_share = level
        if r.random() < real_share * level:
            return self._real_conversation(passages, turns, decline)
        written = [self.writer.passage(size)]
        while len(written) < passages:
            draw = r.random()
            if draw < 0.4:
                written.append(self.writer.sibling(written[0], size))
            elif draw < 0.8:
                written.append(self.writer.passage(max(1, size - 1)))
            else:
                written.append(self.window(r.randint(150, 500)))
        if r.random() < 0.3 * level:
            add_chain(self.writer, written)
        r.shuffle(written)
        context = Context(self.writer, written)
        return written, self._turns(context, turns, decline, level)

    def _turns(self, context: Context, count: int, decline: float, level: float) -> list[Turn]:
        r = self.rng
        asked: list[Turn] = []
        seen: set[str] = set()
        for _ in range(count * 3):
            if len(asked) >= count:
                break
            draw = r.random()
            if draw < decline:
                turn = (ask_absent_entity if r.random() < 0.6 else ask_absent_field)(context)
            elif draw < decline + 0.05 * level:
                pair = ask_follow_up(context)
                if pair and not {t.question for t in pair} & seen:
                    asked += pair
                    seen |= {t.question for t in pair}
                continue
            elif draw < 1 - (0.5 - decline) * level:
                turn = ask_value(context)
            else:
                turn = ASKERS[
                    r.choice(("reverse", "reverse", "two_hop", "two_hop", "yes_no", "quote", "json", "json", "list"))
                ](context)
            if turn is not None and turn.question not in seen:
                asked.append(turn)
                seen.add(turn.question)
        return asked

    def _real_conversation(self, passages: int, turns: int, decline: float) -> tuple[list[Passage], list[Turn]]:
        r = self.rng
        read = [self.window(r.randint(250, 800)) for _ in range(passages)]
        asked: list[Turn] = []
        for _ in range(turns * 2):
            if len(asked) >= turns:
                break
            turn = (
                real_text.ask_foreign(self.window(600).body, read, r)
                if r.random() < decline
                else real_text.ask(read, r.randint(1, len(read)), r, cite=True)
            )
            if turn is not None and all(turn.question != t.question for t in asked):
                asked.append(turn)
        return read, asked


class RowMaker:
    """Turns conversations and text into rows of one length; every row depends on its seed alone."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        composer: Composer,
        text: NDArray[np.uint16],
        asked: Sequence[questions.Asked] = (),
        templates: Sequence[written.Template] = (),
    ) -> None:
        self.tokenizer, self.composer, self.text, self.asked = tokenizer, composer, text, asked
        self.templates = templates
        self.special = SpecialTokens(tokenizer)
        self.rng = composer.rng
        self.newline = self.encode("\n")
        self.lead = (
            "" if self.encode(" a")[0] == self.encode(" ")[0] else " "
        )  # where a word carries its space, a reply begins with one
        self.roles = {
            role: [self.special.start, *self.encode(f"{role}\n")] for role in ("system", "user", "assistant", "tool")
        }

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    # ------------------------------------------------------------ pieces

    def said(self, role: str, content: str, weight: float) -> Row:
        """One message; the assistant's content and its end carry the weight of an answer."""
        head, body = self.roles[role], self.encode(content)
        if role == "assistant":
            return Row(
                [*head, *body, self.special.end, *self.newline],
                [0.0] * len(head) + [ANSWER] * (len(body) + 1) + [0.0] * len(self.newline),
            )
        read = [weight if weight and self.rng.random() < READ_SHARE else 0.0 for _ in body]
        return Row(
            [*head, *body, self.special.end, *self.newline], [0.0] * len(head) + read + [0.0] * (1 + len(self.newline))
        )

    def chat(
        self, system: str | None, turns: Sequence[tuple[str, str]], length: int, *, first_weight: float = PASSAGE
    ) -> Row | None:
        """A conversation as one row's beginning; later turns that do not fit are left out."""
        ids: list[int] = []
        weights: list[float] = []
        if system:
            message = self.said("system", system, 0.0)
            ids += message.ids
            weights += message.weights
        for n, (question, answer) in enumerate(turns):
            user = self.said("user", question, first_weight if n == 0 else QUESTION)
            assistant = self.said("assistant", answer, ANSWER)
            if len(ids) + len(user.ids) + len(assistant.ids) > length:
                if n == 0:
                    return None
                continue
            ids += user.ids + assistant.ids
            weights += user.weights + assistant.weights
        return Row(ids, weights)

    def fill(self, row: Row, length: int) -> Row:
        """Fill the rest of a row with running text."""
        missing = length - len(row.ids)
        if missing < 16:
            return self.fill_up(row, length)
        start = self.rng.randrange(len(self.text) - missing)
        text = [self.special.end_of_text, *self.text[start : start + missing - 1].tolist()]
        return Row(row.ids + text, row.weights + [0.0] + [TEXT] * (missing - 1))

    # ------------------------------------------------------------ kinds of rows

    def reading(self, length: int, level: float = 1.0) -> Row:
        """Passages with as many turns as fit; passages grow with the row and with the level."""
        r = self.rng
        while True:
            count = 1 if length <= 256 else r.choice((1, 1, 2, 3)) if length <= 512 else r.choice((1, 2, 3, 4, 5, 5, 6))
            size = (
                r.randint(1, 2)
                if length <= 128
                else r.randint(1, 2 + round(3 * level))
                if length <= 256
                else r.randint(1, 7)
            )
            shown, turns = self.composer.conversation(
                size, count, turns=r.choice((8, 12)) if length <= 256 else r.choice((3, 12, 16, 20)), level=level
            )
            if not turns:
                continue
            first = varied([p.text for p in shown], turns[0].question, r)
            row = self.chat(
                system_prompt(r) if length > 256 or (length == 256 and r.random() < 0.5) else None,
                [(first, self.lead + turns[0].answer), *((t.question, self.lead + t.answer) for t in turns[1:])],
                length,
            )
            if row is not None:
                return self.fill(row, length)

    def rules(self, length: int) -> Row:
        """Real passages with questions of the rules teacher."""
        r = self.rng

        def drawn() -> tuple[list[str], list[tuple[str, str]]]:
            count = 1 if length <= 256 else r.choice((1, 2, 3, 3)) if length <= 512 else r.choice((3, 4, 5, 6))
            return questions.conversation(self.asked, r, count, r.choice((3, 8, 12)), 0.12)

        return self._asked(drawn, length)

    def written(self, length: int) -> Row:
        """Passages written by hand with their questions."""
        r = self.rng

        def drawn() -> tuple[list[str], list[tuple[str, str]]]:
            count = 1 if length <= 256 else r.choice((1, 1, 2, 3)) if length <= 512 else r.choice((2, 3, 4, 5))
            return written.conversation(self.templates, self.composer.pools, count, r.choice((4, 16, 20, 24)))

        return self._asked(drawn, length)

    def _asked(self, drawn: Callable[[], tuple[list[str], list[tuple[str, str]]]], length: int) -> Row:
        """The first conversation drawn that fits into the row."""
        r = self.rng
        while True:
            texts, turns = drawn()
            if not turns:
                continue
            first = varied(texts, turns[0][0], r)
            row = self.chat(
                system_prompt(r) if length > 256 or r.random() < 0.3 else None,
                [(first, self.lead + turns[0][1]), *((q, self.lead + a) for q, a in turns[1:])],
                length,
            )
            if row is not None:
                return self.fill(row, length)

    def preference(self, length: int, level: float = 1.0) -> tuple[Row, Row]:
        """A right and a wrong answer to one question over the same passages, as two rows that end with the answer."""
        r = self.rng
        while True:
            texts, turns = self._drawn(length, level)
            if not turns:
                continue
            question, answer = r.choice(turns)
            wrong = preference.spoilt(answer, [a for _, a in turns], len(texts), r)
            if wrong is None or wrong == answer:
                continue
            system = system_prompt(r) if length > 256 or r.random() < 0.5 else None
            asked = varied(texts, question, r)
            right_row, wrong_row = (
                self.chat(system, [(asked, self.lead + said)], length, first_weight=0.0) for said in (answer, wrong)
            )
            if right_row is not None and wrong_row is not None:
                return self.fill_up(right_row, length), self.fill_up(wrong_row, length)

    def _drawn(self, length: int, level: float) -> tuple[list[str], list[tuple[str, str]]]:
        """Passages and turns of any kind."""
        r = self.rng
        count = 1 if length <= 256 else r.choice((1, 2, 2, 3))
        draw = r.random()
        if draw < 0.4:
            return written.conversation(self.templates, self.composer.pools, count, 12)
        if draw < 0.6:
            return questions.conversation(self.asked, r, count, 8, 0.2)
        shown, turns = self.composer.conversation(r.randint(1, 4), count, turns=8, level=level)
        return [p.text for p in shown], [(t.question, t.answer) for t in turns]

    def fill_up(self, row: Row, length: int) -> Row:
        """Fill the rest of a row with padding."""
        missing = length - len(row.ids)
        return Row(row.ids + [self.special.pad] * missing, row.weights + [0.0] * missing)

    def pairs(self, length: int) -> Row:
        """Key-value lists with every key asked: the plainest form of looking something up."""
        r, pools = self.rng, self.composer.pools
        ids: list[int] = []
        weights: list[float] = []
        while True:
            count = r.choice((2, 3, 4, 6, 8, 12))
            key_kind, value_kind = (
                r.choice(("name", "word", "drug", "id", "person", "np")),
                r.choice(("name", "word", "place", "count", "money", "date", "id", "person", "dose", "np", "time")),
            )
            table = {pools.draw(key_kind): pools.draw(value_kind) for _ in range(count)}
            joint, end = r.choice((": ", " = ", " is ", " -> ", ", ")), r.choice(("\n", "; ", ". ", " | "))
            keys = list(table)
            listed = end.join(f" {k}{joint}{v}" for k, v in table.items())
            r.shuffle(keys)
            turns = [(f" {k}", f"{self.lead}{table[k]}") for k in keys]
            row = self.chat(
                None, [(f"{listed}\n{turns[0][0]}", turns[0][1]), *turns[1:]], length - len(ids), first_weight=0.0
            )
            if row is None:
                return self.fill(Row(ids, weights), length)
            ids += row.ids
            weights += row.weights

    def copy(self, length: int, longest: int = 60) -> Row:
        """Random tokens or mixed values, repeated."""
        r, pools = self.rng, self.composer.pools
        ids: list[int] = []
        weights: list[float] = []
        while len(ids) < length:
            count = r.choice((4, 8, 16, 32, longest))
            if r.random() < 0.5:
                piece = [r.randrange(32, self.tokenizer.get_vocab_size()) for _ in range(count)]
            else:
                piece = self.encode(
                    " "
                    + " ".join(
                        pools.draw(r.choice(("name", "word", "money", "date", "id", "np")))
                        for _ in range(max(2, count // 3))
                    )
                )
            ids += [self.special.start, *piece, self.special.end, *piece, self.special.end]
            weights += [0.0] * (len(piece) + 2) + [1.0] * (len(piece) + 1)
        return Row(ids[:length], weights[:length])

    def tools(self, length: int) -> Row:
        """Requests with tools on offer; each is answered by a call, a question back, or that no tool fits.

        As many as fit: every request has its own offer in front of it, so none can be answered from another's.
        """
        r = self.rng
        row = Row([], [])
        while True:
            call = make_call(self.composer.pools, r, most_tools=1 if length <= 256 else 3)
            offered = "Tools:\n" + "\n".join(tool_line(public(t)) for t in call.tools)
            answer = call.answer if call.answer.startswith("<tool_call>") else self.lead + call.answer
            said = self.chat(offered, [(call.request, answer)], length - len(row.ids), first_weight=QUESTION)
            if said is not None:
                row = Row(row.ids + said.ids, row.weights + said.weights)
            elif row.ids:
                return self.fill(row, length)

    def running_text(self, length: int) -> Row:
        """Real text as it stands."""
        start = self.rng.randrange(len(self.text) - length)
        return Row(self.text[start : start + length].tolist(), [TEXT] * length)

    def make(self, kind: str, length: int, level: float) -> Row:
        """One row of the kind named in a phase's mixture."""
        if kind == "reading":
            return self.reading(length, level)
        makers: dict[str, Callable[[int], Row]] = {
            "pairs": self.pairs,
            "rules": self.rules,
            "written": self.written,
            "copy": self.copy,
            "tools": self.tools,
            "text": self.running_text,
        }
        return makers[kind](length)

    def batch(
        self, seed: int, mixture: dict[str, float], length: int, rows: int, level: float = 1.0
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], list[str]]:
        """`rows` rows of `length` tokens; the same seed gives the same batch.

        The kind `preference` stands alone: its rows come in pairs, the right answer first.
        """
        self.rng.seed(seed)
        kinds = self.rng.choices(sorted(mixture), [mixture[k] for k in sorted(mixture)], k=rows)
        if "preference" in mixture:
            made = [row for _ in range(max(1, rows // 2)) for row in self.preference(length, level)]
        else:
            made = [self.make(kind, length, level) for kind in kinds]
        return (
            np.array([m.ids for m in made], dtype=np.int64),
            np.array([m.weights for m in made], dtype=np.float32),
            kinds,
        )


def open_maker(
    build: Path, forms: Path, split: str, *, held: bool = False, unseen_frames: bool = False, seed: int = 0
) -> RowMaker:
    """Load everything that `prepare` has written and return a maker of rows for one split."""
    tokenizer = Tokenizer.from_file(str(build / "tokenizer.json"))
    rng = random.Random(seed)
    name = "train" if split == "train" else "heldout"
    documents = [text for _, _, text in json.loads((build / f"documents_{name}.json").read_text())]
    composer = Composer(
        read_forms(forms),
        Pools(load_harvest(build / "pools.json"), split, rng),
        rng,
        documents,
        held=held,
        unseen_frames=unseen_frames,
    )
    asked = questions.load(build / f"questions_{name}.json")
    templates = [t for t in written.read(forms.parent / "reading") if t.held_out == (split != "train")]
    return RowMaker(tokenizer, composer, np.load(build / f"text_{name}.npy", mmap_mode="r"), asked, templates)
