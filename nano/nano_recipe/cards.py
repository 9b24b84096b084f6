"""MODEL_CARD.md, written from the card.json of every published size, so that no figure in it is typed by hand.

python -m nano_recipe.cards            # writes MODEL_CARD.md
python -m nano_recipe.cards --check    # fails if it is not up to date
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .publish import CURVE, point

ROOT = Path(__file__).resolve().parent.parent
SIZES = ("nano-10m", "nano-2m")

# What the project wants of a size; a target that is missed stays beside what was reached.
FIGURES: tuple[tuple[str, str, str, dict[str, str]], ...] = (
    ("READ", "grammar", "READ: names, numbers, binding, reverse, random relations", {"nano-2m": ".80", "nano-10m": ".90"}),
    ("json", "grammar", "JSON to a schema, all fields exact", {"nano-2m": ".60", "nano-10m": ".85"}),
    ("json_valid", "grammar", "JSON to a schema, valid without constrained decoding", {"nano-2m": ".97", "nano-10m": ".99"}),
    ("absent_field", "grammar", "declines: field not in the passage", {"nano-2m": ".95", "nano-10m": ".95"}),
    ("absent_entity", "grammar", "declines: entity not in the passage", {"nano-2m": ".70", "nano-10m": ".85"}),
    ("false_decline", "grammar", "declines what is stated (less is better)", {"nano-2m": "at most .08", "nano-10m": "at most .05"}),
    ("FORMS", "grammar", "unseen sentence and question forms", {"nano-2m": ".40", "nano-10m": ".65"}),
    ("FRAMES", "grammar", "unseen kinds of relation", {}),
    ("FIVE", "grammar", "five passages, right span and right mark", {"nano-10m": ".70"}),
    ("two_hop", "grammar", "two hops", {}),
    ("yes_no", "grammar", "yes or no with the reason", {}),
    ("follow_up", "grammar", "follow-up turn", {}),
    ("real", "grammar", "questions over real text", {}),
    ("written", "grammar", "held-out written passages, two at a time", {}),
    ("written_absent", "grammar", "declines: not in the written passages", {}),
    ("tool", "grammar", "tool call, name and arguments", {"nano-10m": ".85"}),
    ("answered", "handwritten", "hand-written passages: answered rightly", {"nano-2m": ".50", "nano-10m": ".75"}),
    ("declined", "handwritten", "hand-written passages: declined rightly", {}),
)  # fmt: skip

HEAD = """# fieldwise-nano

<!-- Written by `python -m nano_recipe.cards` from the card.json of every size. -->

Small Llama-shaped base weights for [Fieldwise](../README.md): the first run on a machine without a hub, an account or a GPU, and fast tests. It is **a reader of the passages it is given**, fluent in a narrow register. It knows nothing of the world, answers nothing without passages until it is fine-tuned, and is **not for clinical, legal or financial use**.

- Architecture: Llama, head size 64, tied embeddings, context 1024, bfloat16 safetensors.
- Tokenizer: byte-level BPE of 8192 tokens. Its merges never join a space with a capital, nor two digits, so that a name has the same tokens wherever it stands; it is shipped under the `qwen2` pre-tokeniser that transformers and llama.cpp both know.
- Template: ChatML with generation markers, the end token inside them; `[1]` to `[9]` and the tool tags are single tokens; a reply begins with a space, which programs strip.
- Declines with "Not stated in the documents."
- Training text and generated tasks: [DATA_CARD.md](DATA_CARD.md). Licence: Apache-2.0.

```python
from fieldwise_nano import weights

folder = weights()  # checked against the hashes in its card; any Llama loader takes it
```
"""

TAIL = """## How the figures were made

```
python -m nano_recipe.evaluate src/fieldwise_nano/weights/SIZE --build build --json report.json
python -m nano_recipe.quantised src/fieldwise_nano/weights/SIZE --build build --json quantised.json
```

Entities, wording and documents of the test items are disjoint from training. An item counts as right only if every token of the answer, its citation mark and the end of the turn are the model's first choice. The hand-written passages (`evaluation/handwritten.jsonl`, ours, with real names and foreign wording) are generated greedily and compared after normalising case, punctuation and articles. Intervals are 95 % Wilson. What the default size answers of the demo's questions before and after fine-tuning stands in the [README](../README.md), from `make demo`.

## How to make it

```
python -m nano_recipe.prepare --text FOLDER_OF_OPEN_TEXT --out build
python -m nano_recipe.train recipes/SIZE.yaml --build build --out runs/SIZE      # resumes; a GPU is used if there is one
python -m nano_recipe.publish runs/SIZE/after-LAST_PHASE --size SIZE --build build --report report.json --quantised quantised.json --run runs/SIZE
python -m nano_recipe.cards
```

## Limits

Wording far from its training forms, passages longer than its context, arithmetic, and anything that needs knowledge. A missed target in the table is a limit too: the training was short (see above), and the curve was still rising when it ended.
"""


def figure(rate: dict[str, Any]) -> str:
    return f"{rate['value']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}] (n={rate['n']})"


def share(rate: dict[str, Any]) -> str:
    return f"{rate['value']:.3f} (n={rate['n']})"


def section(card: dict[str, Any]) -> str:
    """What one size is, how it was trained and what it reached."""
    name, measured, made = card["name"], card.get("measured", {}), card.get("made", {})
    shape = card["plan"]["shape"]
    lines = [
        f"## {name}",
        "",
        f"{shape['layers']} layers, hidden size {shape['hidden']}, {card['parameters'] / 1e6:.1f} M parameters.",
    ]
    if made:
        lines.append(
            f"Trained on {made['tokens'] / 1e6:.1f} M tokens in {made['minutes']:.0f} minutes on {made['device']}"
            + (" beside other work." if made["device"].startswith("cpu") else ".")
        )
    phases = ", ".join(f"{p['name']} {round(p['tokens'] / 1e6, 1):g} M" for p in card["plan"]["phases"])
    lines += [f"Phases after the growing copy: {phases} tokens.", "", "| figure | reached | wanted |", "|---|---|---|"]
    for key, group, title, wanted in FIGURES:
        if key in measured.get(group, {}):
            lines.append(f"| {title} | {figure(measured[group][key])} | {wanted.get(name, '-')} |")
    if "bits_per_byte" in measured:
        counted = measured.get("bits_per_byte_5gram")
        wanted = f"below {counted:.2f}, a 5-gram model over all the training text" if counted else "-"
        lines.append(f"| bits per byte on held-out text of the fields | {measured['bits_per_byte']:.2f} | {wanted} |")
    return "\n".join(lines + files(card.get("quantised", {})) + curve(card)) + "\n"


def curve(card: dict[str, Any]) -> list[str]:
    """What was reached after how many tokens, wherever weights were published."""
    points = [p for p in (*card.get("earlier", []), point(card)) if p is not None]
    if len(points) < 2:
        return []
    lines = [
        "",
        "How it came there:",
        "",
        "| M tokens | minutes | READ | forms | five passages | JSON | tools | wrong declines | hand-written: answered, declined | bits per byte |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for p in points:
        shares = " | ".join(f"{p[key]:.2f}" for key in CURVE)
        lines.append(
            f"| {p['tokens'] / 1e6:.1f} | {p['minutes']:.0f} | {shares} | {p['answered']:.2f}, {p['declined']:.2f} | "
            f"{p['bits_per_byte']:.2f} |"
        )
    return lines


def files(quantised: dict[str, Any]) -> list[str]:
    """What its GGUF files keep of it, and how long they take to answer."""
    if not quantised:
        return []
    lines = [
        "",
        f"As GGUF files, with llama.cpp on {quantised['threads']} threads; READ over items drawn for this table; agreement is"
        " the share of positions whose first choice is that of the f32 file:",
        "",
        "| file | MB | READ | agreement in answers | in running text | seconds an answer: median, p95 |",
        "|---|---|---|---|---|---|",
    ]
    for kind, found in quantised.items():
        if kind != "threads":
            spent = found["seconds"]
            lines.append(
                f"| {kind} | {found['bytes'] / 1e6:.1f} | {figure(found['READ'])} | "
                f"{share(found['agreement_answers'])} | {share(found['agreement_text'])} | "
                f"{spent['median']:.3f}, {spent['p95']:.3f} |"
            )
    spent = quantised["f32"]["seconds"]
    lines += [
        "",
        f"An answer here: {spent['prompt_tokens']:.0f} tokens of prompt and {spent['tokens']:.0f} of reply, {spent['n']} questions.",
    ]
    return lines


def render(weights: Path) -> str:
    """The whole page."""
    cards = [
        json.loads((weights / size / "card.json").read_text(encoding="utf-8"))
        for size in SIZES
        if (weights / size / "card.json").is_file()
    ]
    return "\n".join([HEAD, *(section(card) for card in cards), TAIL])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=ROOT / "src/fieldwise_nano/weights")
    parser.add_argument("--out", type=Path, default=ROOT / "MODEL_CARD.md")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    text = render(options.weights)
    if options.check:
        if not options.out.is_file() or options.out.read_text(encoding="utf-8") != text:
            print(f"{options.out}: not up to date: run python -m nano_recipe.cards", file=sys.stderr)
            return 1
        return 0
    options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
