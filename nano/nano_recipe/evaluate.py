"""What the model can do, on entities, forms and texts that training never saw.

    python -m nano_recipe.evaluate weights/nano-2m --build build --json report.json

An item counts as right only if every token of the answer, the citation mark and the end of the turn are the
model's own first choice (the greedy output, checked by teacher forcing); the hand-written passages are
generated and compared after normalising case, punctuation and articles. Intervals are 95 % Wilson.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import string
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from . import ngram, written
from .model import Nano, load_exported
from .prompts import GROUNDED_SYSTEM, served
from .rows import RowMaker, open_maker
from .tasks import NOT_STATED, Turn
from .toolcalls import make_call, public, tool_line
from .world import Passage

_WRITTEN_FREELY = 60  # JSON is long, and writing goes without a cache
READ = ("name", "number", "bind", "reverse", "generic")


class Item(NamedTuple):
    """One question as token ids; the answer starts at `start`."""

    kind: str
    ids: list[int]
    start: int


class Rate(NamedTuple):
    """A share with its 95 % Wilson interval."""

    value: float
    low: float
    high: float
    n: int


def wilson(right: int, n: int, z: float = 1.959964) -> Rate:
    """Wilson score interval; 8 of 10 gives 0.49-0.94."""
    if n == 0:
        return Rate(float("nan"), 0.0, 1.0, 0)
    p = right / n
    centre, half = (
        (p + z * z / (2 * n)) / (1 + z * z / n),
        z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n),
    )
    return Rate(p, max(0.0, centre - half), min(1.0, centre + half), n)


# ---------------------------------------------------------------- items


def _item(maker: RowMaker, passages: list[Passage], turns: list[Turn], context: int) -> Item | None:
    """The served prompt; a follow-up keeps the turns before it."""
    messages = [("user", served([p.text for p in passages], turns[0].question))]
    for before, after in zip(turns, turns[1:], strict=False):
        messages += [("assistant", maker.lead + before.answer), ("user", after.question)]
    ids: list[int] = maker.said("system", GROUNDED_SYSTEM, 0).ids
    for role, content in messages:
        ids += maker.said(role, content, 0).ids
    ids = ids + maker.roles["assistant"]
    answer = [*maker.encode(maker.lead + turns[-1].answer), maker.special.end]
    return Item(turns[-1].kind, ids + answer, len(ids)) if len(ids) + len(answer) <= context else None


def reading_items(
    maker: RowMaker,
    wanted: Iterable[str],
    each: int,
    context: int,
    *,
    passages: int = 1,
    prefix: str = "",
    size: tuple[int, int] = (2, 6),
) -> list[Item]:
    """`each` items of every wanted kind over fresh passages, one item of a kind per conversation."""
    missing = dict.fromkeys(wanted, each)
    items: list[Item] = []
    for _ in range(200 * each):
        if not any(missing.values()):
            break
        shown, turns = maker.composer.conversation(
            maker.rng.randint(*size),
            passages,
            turns=14,
            decline=0.3,
            real_share=0.15 if any(k.startswith("real") for k in wanted) else 0.0,
        )
        used: set[str] = set()
        for n, turn in enumerate(turns):
            if missing.get(turn.kind, 0) > 0 and turn.kind not in used:
                item = _item(maker, shown, [turns[n - 1], turn] if turn.kind == "follow_up" else [turn], context)
                if item is not None:
                    items.append(item._replace(kind=prefix + turn.kind))
                    missing[turn.kind] -= 1
                    used.add(turn.kind)
    return items


def tool_items(maker: RowMaker, each: int, context: int) -> list[Item]:
    """Requests with up to three tools on offer."""
    items: list[Item] = []
    counts: dict[str, int] = defaultdict(int)
    while min(counts["tool"], counts["no_tool"] * 3) < each:
        call = make_call(maker.composer.pools, maker.rng)
        kind = "tool" if call.answer.startswith("<tool_call>") else "no_tool"
        ids = (
            maker.said("system", "Tools:\n" + "\n".join(tool_line(public(t)) for t in call.tools), 0).ids
            + maker.said("user", call.request, 0).ids
            + maker.roles["assistant"]
        )
        answer = [*maker.encode(call.answer if kind == "tool" else maker.lead + call.answer), maker.special.end]
        if len(ids) + len(answer) <= context and counts[kind] < (each if kind == "tool" else each // 3 + 1):
            items.append(Item(kind, ids + answer, len(ids)))
            counts[kind] += 1
    return items


def written_items(maker: RowMaker, each: int, context: int, passages: int) -> list[Item]:
    """Questions over held-out written passages: `written` with an answer, `written_absent` without."""
    items: list[Item] = []
    counts: dict[str, int] = defaultdict(int)
    for _ in range(100 * each):
        texts, turns = written.conversation(maker.templates, maker.composer.pools, passages, 2)
        for question, answer in turns:
            kind = "written_absent" if answer == NOT_STATED else "written"
            if counts[kind] < each:
                item = _item(maker, [Passage("", t) for t in texts], [Turn(question, answer, kind)], context)
                if item is not None:
                    items.append(item)
                    counts[kind] += 1
    return items


def build_items(build: Path, forms: Path, each: int, context: int = 1024) -> list[Item]:
    """Every grammar-made test item: seen forms, unseen forms, unseen frames, several passages, tools."""
    test = open_maker(build, forms, "test", seed=777)
    items = reading_items(
        test,
        (
            *READ,
            "absent_field",
            "absent_entity",
            "json",
            "two_hop",
            "yes_no",
            "quote",
            "list",
            "follow_up",
            "real",
            "real_quote",
            "real_absent",
        ),
        each,
        context,
    )
    items += reading_items(
        test, ("name", "number", "bind", "absent_entity"), each // 2, context, passages=5, prefix="five_", size=(1, 4)
    )
    items += tool_items(test, each, context)
    if len(test.templates) > 1:
        items += written_items(test, each, context, 2)
        read = open_maker(build, forms, "train", seed=780)  # what the others are held against: no measure of reading
        items += [i._replace(kind=f"trained_{i.kind}") for i in written_items(read, each, context, 2)]
    held = open_maker(build, forms, "test", held=True, seed=778)
    items += reading_items(held, ("name", "number", "bind", "reverse"), each, context, prefix="form_")
    unseen = open_maker(build, forms, "test", unseen_frames=True, seed=779)
    items += reading_items(unseen, ("name", "number", "bind"), each // 2, context, prefix="frame_")
    return items


# ---------------------------------------------------------------- scoring


def _padded(rows: list[list[int]], pad: int) -> torch.Tensor:
    """Rows of one width, a multiple of 64: oneDNN keeps something for every shape it meets, gigabytes in the end."""
    ids = torch.full((len(rows), -(-max(map(len, rows)) // 64) * 64), pad)
    for n, row in enumerate(rows):
        ids[n, : len(row)] = torch.tensor(row)
    return ids


class Said(NamedTuple):
    """How one item was answered."""

    right: bool  # every token
    declined: bool  # begins to decline
    missed: bool  # wrong from the first token that is no blank on: another place was chosen, not copied badly


@torch.no_grad()
def score(model: Nano, items: list[Item], decline: list[int], pad: int) -> dict[str, list[Said]]:
    """How the items of every kind were answered; `decline` holds the first tokens of a decline, a blank first."""
    model.eval()
    device = next(model.parameters()).device
    results: dict[str, list[Said]] = defaultdict(list)
    ordered = sorted(items, key=lambda i: len(i.ids))

    def hidden_states(rows: list[list[int]]) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return model(_padded(rows, pad).to(device))

    for begin in range(0, len(ordered), 16):
        group = ordered[begin : begin + 16]
        hidden = hidden_states([i.ids for i in group])
        # the right answer was shown above, so whether another one was begun takes a look of its own
        begun = hidden_states([i.ids[: i.start] + decline[:-1] for i in group])
        for row, item in enumerate(group):
            best = model.logits(hidden[row, item.start - 1 : len(item.ids) - 1]).argmax(-1).tolist()
            declined = model.logits(begun[row, item.start - 1 : item.start - 1 + len(decline)]).argmax(-1).tolist()
            answer = item.ids[item.start :]
            first = 2 if answer[0] == decline[0] else 1
            results[item.kind].append(Said(best == answer, declined == decline, best[:first] != answer[:first]))
    model.train()
    return results


def summarise(model: Nano, items: list[Item], maker: RowMaker) -> dict[str, Rate]:
    """Rates per kind, READ, form, frame and five-passage means, false declines, and where wrong answers of READ go wrong."""
    results = score(model, items, maker.encode(maker.lead + NOT_STATED)[:3], maker.special.pad)
    rates = {kind: wilson(sum(said.right for said in rows), len(rows)) for kind, rows in sorted(results.items())}

    def among(kinds: Iterable[str]) -> list[Said]:
        return [said for kind in kinds for said in results.get(kind, [])]

    def pooled(kinds: Iterable[str]) -> Rate:
        said = among(kinds)
        return wilson(sum(s.right for s in said), len(said))

    rates["READ"] = pooled(READ)
    rates["FORMS"] = pooled(k for k in results if k.startswith("form_"))
    rates["FRAMES"] = pooled(k for k in results if k.startswith("frame_"))
    rates["FIVE"] = pooled(("five_name", "five_number", "five_bind"))
    answerable = among(
        (*READ, "form_name", "form_number", "form_bind", "five_name", "five_number", "five_bind", "written")
    )
    rates["false_decline"] = wilson(sum(s.declined for s in answerable), len(answerable))
    wrong = [said for said in among(READ) if not said.right]
    rates["wrong_from_the_start"] = wilson(sum(s.missed for s in wrong), len(wrong))
    return rates


@torch.no_grad()
def text_loss(model: Nano, ids: torch.Tensor, length: int = 512) -> float:
    """Nats per token on held-out running text."""
    model.eval()
    device = next(model.parameters()).device
    rows = ids[: len(ids) // length * length].view(-1, length)
    total = count = 0.0
    with torch.autocast(device.type, torch.bfloat16):
        for begin in range(0, len(rows), 8):
            batch = rows[begin : begin + 8].to(device)
            logits = model.logits(model(batch)[:, :-1]).float()
            total += torch.nn.functional.cross_entropy(
                logits.reshape(-1, logits.shape[-1]), batch[:, 1:].reshape(-1), reduction="sum"
            ).item()
            count += batch[:, 1:].numel()
    model.train()
    return total / count


# ---------------------------------------------------------------- by generation: JSON and hand-written passages


def json_replies(model: Nano, maker: RowMaker, items: list[Item]) -> dict[str, Rate]:
    """Replies to the JSON items, written freely: how many parse, and how many have the right fields and values."""
    asked = [i for i in items if i.kind == "json"][:_WRITTEN_FREELY]
    outputs = generate(model, [i.ids[: i.start] for i in asked], maker.special.end, maker.special.pad, most=96)
    parsed = [_parsed(maker, tokens) for tokens in outputs]
    wanted = [_parsed(maker, i.ids[i.start :]) for i in asked]
    return {
        "json_valid": wilson(sum(p is not None for p in parsed), len(parsed)),
        "json_fields": wilson(
            sum(p is not None and p.keys() == w.keys() for p, w in zip(parsed, wanted, strict=True) if w), len(parsed)
        ),
    }


def _parsed(maker: RowMaker, tokens: list[int]) -> dict[str, object] | None:
    try:
        value = json.loads(maker.tokenizer.decode([t for t in tokens if t != maker.special.end]))
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def normalise(answer: str) -> str:
    """Case, punctuation, articles and citation marks do not count (as in SQuAD)."""
    answer = re.sub(r"\[\d\]", " ", answer.lower())
    answer = "".join(" " if ch in string.punctuation and ch not in ".,:/-%$" else ch for ch in answer)
    answer = re.sub(r"\b(a|an|the)\b", " ", answer)
    return " ".join(answer.split()).strip(".,: ")


@torch.no_grad()
def generate(model: Nano, prompts: list[list[int]], end: int, pad: int, most: int = 40) -> list[list[int]]:
    """Greedy continuations, batched by length; without a cache, which is fast enough at this size."""
    model.eval()
    device = next(model.parameters()).device
    outputs: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for begin in range(0, len(order), 16):
        group = order[begin : begin + 16]
        alive = list(group)
        for _ in range(most):
            rows = [prompts[i] + outputs[i] for i in alive]
            with torch.autocast(device.type, torch.bfloat16):
                hidden = model(_padded(rows, pad).to(device))
                last = hidden[torch.arange(len(rows)), torch.tensor([len(r) - 1 for r in rows])]
                tokens = model.logits(last).argmax(-1).tolist()
            for i, token in zip(alive, tokens, strict=True):
                outputs[i].append(token)
            alive = [
                i for i in alive if outputs[i][-1] != end and len(prompts[i]) + len(outputs[i]) < model.shape.context
            ]
            if not alive:
                break
    model.train()
    return outputs


def handwritten_prompts(maker: RowMaker, path: Path) -> list[tuple[dict[str, Any], dict[str, Any], list[int]]]:
    """Every question of the hand-written passages: its row, itself, and the served prompt."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [
        (
            row,
            q,
            maker.said("system", GROUNDED_SYSTEM, 0).ids
            + maker.said("user", served([row["passage"]], q["question"]), 0).ids
            + maker.roles["assistant"],
        )
        for row in rows
        for q in row["questions"]
    ]


def handwritten(model: Nano, maker: RowMaker, path: Path) -> tuple[dict[str, Rate], list[dict[str, object]]]:
    """The 100 passages with real names and foreign wording: rates by kind, and every answer."""
    asked = handwritten_prompts(maker, path)
    outputs = generate(model, [prompt for _, _, prompt in asked], maker.special.end, maker.special.pad)
    right: dict[str, list[bool]] = defaultdict(list)
    answers: list[dict[str, object]] = []
    for (row, q, _), tokens in zip(asked, outputs, strict=True):
        said = maker.tokenizer.decode([t for t in tokens if t != maker.special.end]).strip()
        expected = q["answer"] or NOT_STATED
        correct = normalise(said) == normalise(expected)
        group = "declined" if q["answer"] is None else "answered"
        right[group].append(correct)
        right[q["kind"]].append(correct)
        right["all"].append(correct)
        answers.append(
            {
                "id": row["id"],
                "question": q["question"],
                "expected": q["answer"],
                "said": said,
                "right": correct,
                "kind": q["kind"],
            }
        )
    return {k: wilson(sum(v), len(v)) for k, v in sorted(right.items())}, answers


def options_of(description: str | None) -> argparse.ArgumentParser:
    """What a measurement of weights is told: which, over which items, and where its report goes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--forms", type=Path, default=Path("forms"))
    parser.add_argument("--handwritten", type=Path, default=Path("evaluation/handwritten.jsonl"))
    parser.add_argument("--each", type=int, default=200)
    parser.add_argument("--json", type=Path)
    return parser


def main() -> None:
    options = options_of(__doc__).parse_args()
    model = load_exported(options.weights)
    maker = open_maker(options.build, options.forms, "test")
    items = build_items(options.build, options.forms, options.each, model.shape.context)
    rates = summarise(model, items, maker) | json_replies(model, maker, items)
    hand, answers = handwritten(model, maker, options.handwritten)
    held = torch.from_numpy(maker.text[:131072].astype("int64"))
    loss = text_loss(model, held)
    chars = len(maker.tokenizer.decode(held.tolist(), skip_special_tokens=True).encode())
    to_bits = len(held) / math.log(2) / chars
    bits = loss * to_bits
    counted = ngram.loss(
        np.load(options.build / "text_train.npy"), maker.text[:131072], maker.tokenizer.get_vocab_size()
    )
    report = {
        "grammar": {k: r._asdict() for k, r in rates.items()},
        "handwritten": {k: r._asdict() for k, r in hand.items()},
        "bits_per_byte": bits,
        "bits_per_byte_5gram": counted * to_bits,
    }
    for title, table in (("grammar", rates), ("hand-written", hand)):
        for kind, rate in table.items():
            print(f"{title:13} {kind:20} {rate.value:6.3f}  [{rate.low:.3f}, {rate.high:.3f}]  n={rate.n}")
    print(
        f"bits per byte on held-out text {bits:.3f}, of a 5-gram model over all training text {counted * to_bits:.3f}"
    )
    if options.json:
        options.json.write_text(json.dumps({**report, "answers": answers}, indent=1))


if __name__ == "__main__":
    main()
