"""The set that the shipped reranker is learnt from: the hand-written passages of reading/ with their questions.

python -m nano_recipe.reranker OUT [--passages 600] [--questions 3] [--seed 7]
fieldwise retrieval learn OUT --run RUN --split train --out model.json

OUT becomes a BEIR folder. Values of the passages are invented here. A passage stands alone under its title, or under the
name of its file with its title as heading, by the toss of a coin, since documents come both ways. `qrels/train.tsv` has
the passages to learn from, `qrels/test.tsv` the twelfth that nano never trains on.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from . import written
from .pools import Pools

READING = Path(__file__).resolve().parents[1] / "reading"
_WORDS: dict[str, list[str]] = {
    "name": "Alder Brandt Corvin Dellow Erwick Farrow Gantry Hollis Ingram Jessop Kessler Lowther Marlow Norwell".split(),
    "word": "harbour lantern meadow copper willow summit orchard anchor marble falcon ember cedar granite".split(),
    "np": ["annual review", "spare key", "delivery note", "training record", "stock count", "visitor list"],
    "act": ["check the list", "sign the form", "close the valve", "count the stock", "renew the permit"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--passages", type=int, default=600)
    parser.add_argument("--questions", type=int, default=3, help="most questions of a passage")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    pools = Pools(_WORDS, "train", rng)
    pools.lists = dict(_WORDS)  # too few to keep one in eight aside
    templates = [(path.stem, t) for path in sorted(READING.glob("*.txt")) for t in written.read(path.parent, path.name)]
    chosen = rng.sample(templates, min(options.passages, len(templates)))
    corpus, queries, qrels = [], [], {"train": [], "test": []}
    for number, (theme, template) in enumerate(chosen):
        text, asked = written.write(template, pools, 0.0)
        body = text.removeprefix(f"{template.title}\n")
        stands_alone = rng.random() < 0.5
        row = {"_id": f"p{number:04}", "title": template.title if stands_alone else theme.capitalize(), "text": body}
        corpus.append(row if stands_alone else {**row, "headings": [template.title]})
        answered = [question for question, answer in asked if answer is not None]
        for place, question in enumerate(answered[: options.questions]):
            queries.append({"_id": f"q{number:04}-{place}", "text": question})
            qrels["test" if template.held_out else "train"].append(f"q{number:04}-{place}\tp{number:04}\t1\n")
    (options.out / "qrels").mkdir(parents=True, exist_ok=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (options.out / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    for split, judged in qrels.items():
        (options.out / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))
    print(f"{len(corpus)} passages, {len(queries)} questions: {', '.join(f'{len(v)} {k}' for k, v in qrels.items())}")


if __name__ == "__main__":
    main()
