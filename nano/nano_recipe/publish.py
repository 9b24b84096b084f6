"""Put trained weights into the package: weights, tokenizer, chat template, and a card with their hashes.

python -m nano_recipe.publish runs/nano-2m/after-long --size nano-2m --build build --report report.json --run runs/nano-2m
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

from safetensors import safe_open

from .prompts import GROUNDED_SYSTEM
from .tasks import NOT_STATED

# Every reply begins with a space, so that its first word has the same tokens as in the middle of a passage;
# programs strip it. The markers tell trainers which tokens carry loss: all that the assistant says, its end included.
CHAT_TEMPLATE = """{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] + '\\n\\n' }}{%- endif %}
{{- 'Tools:' }}
{%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message['role'] == 'assistant' %}
{{- '<|im_start|>assistant\\n' }}
{%- generation %}
{%- if message['content'] %}{{- ' ' + (message['content'] | trim) }}{%- endif %}
{%- for call in message['tool_calls'] or [] %}
{%- set function = call['function'] if call['function'] is defined else call %}
{{- '\\n' if message['content'] or not loop.first else '' }}
{{- '<tool_call>\\n{"name": "' + function['name'] + '", "arguments": ' + (function['arguments'] if function['arguments'] is string else (function['arguments'] | tojson)) + '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>' }}
{%- endgeneration %}
{{- '\\n' }}
{%- elif not (message['role'] == 'system' and tools and loop.first) %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


CURVE = ("READ", "FORMS", "FIVE", "json", "tool", "false_decline")


def tokenizer_config(context: int) -> dict[str, object]:
    """The tokenizer_config.json beside the tokenizer."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "padding_side": "right",
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|pad|>",
        "unk_token": None,
    }


def made(run: Path) -> dict[str, object]:
    """How many tokens the run took, how long, and on what, from its curve."""
    rows = [json.loads(line) for line in (run / "curves.jsonl").read_text().splitlines()]
    return {
        "tokens": rows[-1]["tokens"],
        "minutes": rows[-1]["minutes"],
        "device": next(row["device"] for row in reversed(rows) if "device" in row),
    }


def point(card: dict[str, Any]) -> dict[str, float] | None:
    """What a card says was reached after so many tokens, as one point of the curve of its size."""
    if "made" not in card or "measured" not in card:
        return None
    measured = card["measured"]
    return {
        "tokens": card["made"]["tokens"],
        "minutes": card["made"]["minutes"],
        **{key: measured["grammar"][key]["value"] for key in CURVE},
        **{key: measured["handwritten"][key]["value"] for key in ("answered", "declined")},
        "bits_per_byte": measured["bits_per_byte"],
    }


def earlier(before: dict[str, Any], card: dict[str, Any]) -> list[dict[str, float]]:
    """The points of the weights that these go on from; weights of another plan have none."""
    names = [[p["name"] for p in c.get("plan", {}).get("phases", [])] for c in (before, card)]
    if not names[0] or names[0] != names[1][: len(names[0])]:
        return []
    points = [*before.get("earlier", []), point(before)]
    return [p for p in points if p is not None and p["tokens"] < card["made"]["tokens"]]


def parameters(path: Path) -> int:
    """The number of weights, from the header of the file."""
    with safe_open(path, "pt") as file:
        names = file.keys()
        return sum(math.prod(file.get_slice(name).get_shape()) for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    parser.add_argument("--size", required=True)
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--report", type=Path, help="what evaluate.py wrote with --json")
    parser.add_argument("--quantised", type=Path, help="what quantised.py wrote with --json")
    parser.add_argument("--run", type=Path, help="the run: its plan, how many tokens it took and how long")
    parser.add_argument("--out", type=Path, default=Path("src/fieldwise_nano/weights"))
    options = parser.parse_args()
    folder = options.out / options.size
    folder.mkdir(parents=True, exist_ok=True)
    before = json.loads((folder / "card.json").read_text()) if (folder / "card.json").is_file() else {}
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        shutil.copyfile(options.trained / name, folder / name)
    shutil.copyfile(options.build / "tokenizer.json", folder / "tokenizer.json")
    context = json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(context), indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    files = sorted(p.name for p in folder.iterdir() if p.name != "card.json")
    card: dict[str, Any] = {
        "name": options.size,
        "licence": "Apache-2.0",
        "prompt": GROUNDED_SYSTEM,
        "declines_with": NOT_STATED,
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files},
    }
    if options.run:
        card["plan"] = json.loads((options.run / "plan.json").read_text())
        card["made"] = made(options.run)
    card["parameters"] = parameters(folder / "model.safetensors")
    if options.report:
        report = json.loads(options.report.read_text())
        card["measured"] = {k: v for k, v in report.items() if k != "answers"}
    if options.quantised:
        card["quantised"] = json.loads(options.quantised.read_text())
    card["earlier"] = earlier(before, card)
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
