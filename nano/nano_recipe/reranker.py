"""The reranker that is shipped and the passages embedders are checked on, from the hand-written passages of reading/.

python -m nano_recipe.reranker [--set OUT] [--vectors DIR] [--passages 1300] [--questions 4] [--seed 7]

It writes `retrieve/models/rerank-features.json` and `ranking/everyday.json` of the package fieldwise, and with --set the
questions as a BEIR folder. Values of the passages are invented here. A passage stands alone under its title, or under the
name of its file with its title as heading, by the toss of a coin, since documents come both ways. Learnt on eleven
twelfths of the passages; the twelfth that nano never trains on proves it. Nothing else goes in: no public set.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from pathlib import Path

import fieldwise
from fieldwise.files import write_json, write_text
from fieldwise.ranking.corpus import open_corpus
from fieldwise.ranking.learn import learn
from fieldwise.ranking.reading import read_beir
from fieldwise.retrieve.settings import RetrieveSettings

from . import written
from .pools import Pools

READING = Path(__file__).resolve().parents[1] / "reading"
PACKAGE = Path(fieldwise.__file__).parent
EVERYDAY, EVERYDAY_QUESTIONS = 200, 2
_WORDS: dict[str, list[str]] = {
    "name": "Alder Brandt Corvin Dellow Erwick Farrow Gantry Hollis Ingram Jessop Kessler Lowther Marlow Norwell".split(),
    "word": "harbour lantern meadow copper willow summit orchard anchor marble falcon ember cedar granite".split(),
    "np": ["annual review", "spare key", "delivery note", "training record", "stock count", "visitor list"],
    "act": ["check the list", "sign the form", "close the valve", "count the stock", "renew the permit"],
}


def make_set(out: Path, passages: int, questions: int, seed: int) -> None:
    """Write a BEIR folder: `qrels/train.tsv` to learn from, `qrels/test.tsv` of the twelfth that is kept apart."""
    rng = random.Random(seed)
    pools = Pools(_WORDS, "train", rng)
    pools.lists = dict(_WORDS)  # too few to keep one in eight aside
    templates = [(path.stem, t) for path in sorted(READING.glob("*.txt")) for t in written.read(path.parent, path.name)]
    chosen = rng.sample(templates, min(passages, len(templates)))
    corpus, queries = [], []
    qrels: dict[str, list[str]] = {"train": [], "test": []}
    for number, (theme, template) in enumerate(chosen):
        text, asked = written.write(template, pools, 0.0)
        body = text.removeprefix(f"{template.title}\n")
        stands_alone = rng.random() < 0.5
        row = {"_id": f"p{number:04}", "title": template.title if stands_alone else theme.capitalize(), "text": body}
        corpus.append(row if stands_alone else {**row, "headings": [template.title]})
        answered = [question for question, answer in asked if answer is not None]
        for place, question in enumerate(answered[:questions]):
            queries.append({"_id": f"q{number:04}-{place}", "text": question})
            qrels["test" if template.held_out else "train"].append(f"q{number:04}-{place}\tp{number:04}\t1\n")
    for name, rows in (("corpus", corpus), ("queries", queries)):
        write_text(out / f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    for split, judged in qrels.items():
        write_text(out / "qrels" / f"{split}.tsv", "query-id\tcorpus-id\tscore\n" + "".join(judged))


def everyday(folder: Path) -> dict[str, object]:
    """Passages and questions to check embedders on: those kept apart first, others to fill up the collection."""
    apart, rest = read_beir(folder, "test"), read_beir(folder, "train")
    assert apart.corpus is not None
    wanted = [*dict.fromkeys(q.cluster for q in (*apart.queries, *rest.queries))][:EVERYDAY]
    places = {identifier: n for n, identifier in enumerate(wanted)}
    chunks = {c.id: c for c in apart.corpus}
    asked: list[tuple[int, str]] = []
    for query in (*apart.queries, *rest.queries):
        place = places.get(query.cluster)
        if place is not None and sum(n == place for n, _ in asked) < EVERYDAY_QUESTIONS:
            asked.append((place, query.text))
    return {"passages": [f"{chunks[i].title}\n{chunks[i].text}" for i in wanted], "questions": sorted(asked)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, help="keep the questions in this folder")
    parser.add_argument("--vectors", type=Path, help="keep the vectors in this folder")
    parser.add_argument("--passages", type=int, default=1300)
    parser.add_argument("--questions", type=int, default=4, help="most questions of a passage")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.set or Path(temporary) / "reading"
        make_set(folder, options.passages, options.questions, options.seed)
        write_json(PACKAGE / "ranking/everyday.json", everyday(folder))
        fit, held = read_beir(folder, "train"), read_beir(folder, "test")
        assert fit.corpus is not None
        retriever = open_corpus(fit.corpus, RetrieveSettings(), options.vectors or Path(temporary) / "vectors")
        notes = {"questions_of": "hand-written passages of nano/reading", "command": "python -m nano_recipe.reranker"}
        learnt = learn(fit, held, retriever, samples=2000, seed=options.seed, notes=notes)
    figures = {
        "held_out_questions": learnt.held_out,
        "held_out_ndcg@10_without": learnt.held_out_current.value,
        "held_out_ndcg@10_with": learnt.held_out_learnt.value,
        "difference_low": learnt.difference.low,
        "difference_high": learnt.difference.high,
    }
    print(json.dumps(figures, indent=2))
    if not learnt.is_better:
        raise SystemExit("not kept: the interval of the difference reaches 0")
    rounded = {
        name: value if isinstance(value, int) else round(float(value or 0), 4) for name, value in figures.items()
    }
    model = learnt.model.model_copy(update={"learnt_from": {**learnt.model.learnt_from, **rounded}})
    write_json(PACKAGE / "retrieve/models/rerank-features.json", model.model_dump(mode="json"))


if __name__ == "__main__":
    main()
