"""How well the check of claims tells supported sentences from edited and foreign ones.

    python benchmarks/bench_claims.py PUBMEDQA.jsonl [--json]

The file holds `contexts` (passages of an abstract) and `long_answer` (its conclusion), as PubMedQA's labelled part does.
Edits are made by rule: a figure changed, a "not" put in or taken out, a sentence of another abstract. A sentence as it
stands is the easiest support there is, a conclusion in other words the hardest: both are shown.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from pathlib import Path

from fieldwise.claims import claims
from fieldwise.evaluate.statistics import wilson
from fieldwise.records import Answer, Chunk, RetrievedPassage

_VERB = re.compile(r"\b(is|are|was|were|can|may|should|will|did|does|has|have|had)\b(?! not)")
_FIGURE = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])")


def passage(text: str) -> RetrievedPassage:
    """A passage to cite."""
    chunk = Chunk(id="chk_1", document_id="doc_1", uri="a", title="A", start=0, end=len(text), text=text, tokens=1)
    return RetrievedPassage(chunk=chunk, score=1.0)


def is_supported(sentence: str, context: str) -> bool:
    """Whether every claim of the sentence stands in the context."""
    text = f"{sentence.rstrip('.')} [1]."
    found = list(claims(Answer(text=text, answer=sentence, model="", passages=(passage(context),))))
    return bool(found) and not any(c.problem for c in found)


def changed_figure(sentence: str, rng: random.Random) -> str | None:
    """The sentence with one figure changed."""
    found = list(_FIGURE.finditer(sentence))
    if not found:
        return None
    match = rng.choice(found)
    value = str(int(float(match.group(0))) + rng.choice((1, 2, 7, 10)))
    return sentence[: match.start()] + value + sentence[match.end() :]


def negated(sentence: str) -> str | None:
    """The sentence with a "not" behind its first auxiliary verb, or without the one that stood there."""
    if re.search(r"\bnot \b", sentence):
        return re.sub(r"\bnot ", "", sentence, count=1)
    if re.search(r"\b(no|never|without|nor|none|neither|unless|except)\b", sentence, re.I):
        return None
    return _VERB.sub(lambda m: f"{m.group(0)} not", sentence, count=1) if _VERB.search(sentence) else None


def cases(rows: list[dict[str, object]], each: int, rng: random.Random) -> dict[str, list[tuple[str, str]]]:
    """Sentences with the context they are held against, by kind."""
    contexts = ["\n".join(row["contexts"]) for row in rows]  # type: ignore[arg-type]
    made: dict[str, list[tuple[str, str]]] = {
        k: [] for k in ("as it stands", "conclusion in other words", "figure changed", "negation changed", "foreign")
    }
    for n, context in enumerate(contexts):
        sentences = [s for s in re.split(r"(?<=[.!?])\s+|\n+", context) if 8 <= len(s.split()) <= 40]
        if not sentences:
            continue
        sentence = rng.choice(sentences)
        made["as it stands"].append((sentence, context))
        made["conclusion in other words"].append((str(rows[n]["long_answer"]), context))
        made["foreign"].append((sentence, contexts[(n + len(contexts) // 2) % len(contexts)]))
        for kind, edit in (("figure changed", lambda s: changed_figure(s, rng)), ("negation changed", negated)):
            edited = [e for s in sentences if (e := edit(s)) is not None and e not in context]
            if edited:
                made[kind].append((rng.choice(edited), context))
    return {kind: rng.sample(found, min(each, len(found))) for kind, found in made.items()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--each", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.rows.is_file():
        print(f"skipped: {options.rows} is not there", file=sys.stderr)
        return 0
    rows = [json.loads(line) for line in options.rows.read_text(encoding="utf-8").split("\n") if line]
    made = cases(rows, options.each, random.Random(options.seed))
    figures = {}
    for kind, pairs in made.items():
        rejected = [not is_supported(sentence, context) for sentence, context in pairs]
        found = wilson(sum(rejected), len(rejected))
        figures[kind] = {
            "n": len(pairs),
            "rejected": round(found.value, 3),
            "low": round(found.low, 3),
            "high": round(found.high, 3),
        }
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        print(f"{'kind':28} {'n':>4}  rejected [95 %]")
        for kind, f in figures.items():
            print(f"{kind:28} {f['n']:>4}  {f['rejected']:.3f} [{f['low']:.3f}, {f['high']:.3f}]")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
