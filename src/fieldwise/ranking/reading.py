"""Judged sets out of what people have: a BEIR folder, a TREC qrels file, questions written by hand, generated ones."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from fieldwise.errors import DatasetError
from fieldwise.evaluate.questions import document_uris, from_examples
from fieldwise.files import read_jsonl
from fieldwise.ranking.judged import JudgedQuery, JudgedSet, Level, Span
from fieldwise.records import Chunk, Document, Example, Question
from fieldwise.retrieve.citing import find_words

_SHOWN = 3
Judgements = dict[str, dict[str, int]]

# ---------------------------------------------------------------- BEIR


def is_beir(path: Path) -> bool:
    """Whether a folder holds a corpus and queries as BEIR names them."""
    return path.is_dir() and (path / "corpus.jsonl").is_file()


def read_beir(folder: Path, split: str) -> JudgedSet:
    """Read corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv; every document of the corpus is one passage.

    Beside what BEIR knows a document may have `headings`, a list. Queries about one document are drawn together.
    Queries without a judgement in this split are left out, and so are judgements of queries that are not there.
    """
    qrels = folder / "qrels" / f"{split}.tsv"
    if not qrels.is_file():
        there = ", ".join(sorted(p.stem for p in (folder / "qrels").glob("*.tsv"))) or "none"
        raise DatasetError(
            "the judgements are not there", where=qrels, found=f"splits: {there}", fix="Name one with --split."
        )
    judged = read_qrels(qrels)
    texts = dict(_queries(folder / "queries.jsonl"))
    corpus = [
        _passage(row, f"{folder / 'corpus.jsonl'}:{n}") for n, row in enumerate(_rows(folder / "corpus.jsonl"), 1)
    ]
    known = {chunk.id for chunk in corpus}
    notes = _notes(judged, texts, known)
    queries = [
        JudgedQuery(id=i, text=texts[i], relevant=relevant, cluster=i if len(relevant) > 1 else next(iter(relevant)))
        for i, relevant in ((i, _positive(grades)) for i, grades in judged.items())
        if i in texts and relevant
    ]
    return _made(JudgedSet(folder.name, "beir", "document", split, tuple(queries), corpus, notes), qrels)


def _passage(row: Mapping[str, JsonValue], where: str) -> Chunk:
    identifier, title, text = str(row.get("_id") or ""), str(row.get("title") or ""), str(row.get("text") or "")
    if not identifier or not (title or text):
        raise DatasetError(
            "not a document of a corpus",
            where=where,
            found=str(dict(row))[:80],
            fix='A line looks like {"_id": "d1", "title": "...", "text": "..."}.',
        )
    headings = row.get("headings")
    return Chunk(
        id=identifier,
        document_id=identifier,
        uri=identifier,
        title=title,
        start=0,
        end=len(text),
        text=text,
        heading_path=tuple(map(str, headings)) if isinstance(headings, list) else (),
    )


# ---------------------------------------------------------------- TREC


def read_trec(qrels: Path, queries: Path, chunks: Sequence[Chunk]) -> JudgedSet:
    """Read a qrels file over the documents of a run: ids are uris, their last parts, document ids or chunk ids."""
    judged, texts = read_qrels(qrels), dict(_queries(queries))
    named, level = _named(chunks, {i for grades in judged.values() for i in grades})
    uris = {c.document_id: c.uri for c in chunks}
    made: list[JudgedQuery] = []
    for i, grades in judged.items():
        relevant = {named.get(key, key): grade for key, grade in _positive(grades).items()}
        if i in texts and relevant:
            first = next(iter(relevant))
            made.append(JudgedQuery(id=i, text=texts[i], relevant=relevant, cluster=uris.get(first, first)))
    if not named:
        ids = sorted({key for grades in judged.values() for key in grades})
        raise DatasetError(
            "no judgement is about a document of this run",
            where=qrels,
            found=f"{', '.join(ids[:_SHOWN])}; the run has {', '.join(sorted(set(uris.values()))[:_SHOWN])}",
            fix="Name documents by their uri, their id or the id of a chunk, or give a BEIR folder with its own corpus.",
        )
    notes = _notes(judged, texts, set(named))
    return _made(JudgedSet(qrels.name, "trec", level, "", tuple(made), None, notes), qrels)


def _named(chunks: Sequence[Chunk], wanted: set[str]) -> tuple[dict[str, str], Level]:
    """The judged ids that are known, each with the id it stands for, and whether these are of passages or documents."""
    ids = {c.id for c in chunks}
    if wanted & ids:
        return {i: i for i in wanted & ids}, "passage"
    names: dict[str, str] = {}
    for chunk in chunks:
        for name in (Path(chunk.uri).stem, Path(chunk.uri).name, chunk.uri, chunk.document_id):
            names[name] = chunk.document_id
    return {i: names[i] for i in wanted if i in names}, "document"


def read_qrels(path: Path) -> Judgements:
    """Read judgements: BEIR (query, document, grade, with a heading) or TREC (query, iteration, document, grade)."""
    if not path.is_file():
        raise DatasetError("the judgements are not there", where=path, fix="Name a qrels file or a BEIR folder.")
    judged: Judgements = defaultdict(dict)
    with path.open(encoding="utf-8", newline="") as stream:
        for number, line in enumerate(stream, 1):
            fields = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
            if not any(f.strip() for f in fields) or (number == 1 and not _is_whole(fields[-1])):
                continue
            if len(fields) not in (3, 4) or not _is_whole(fields[-1]):
                raise DatasetError(
                    "not a judgement",
                    where=f"{path}:{number}",
                    found=line.strip()[:80],
                    fix="A line is: query, document, grade (BEIR), or: query, 0, document, grade (TREC).",
                )
            judged[fields[0].strip()][fields[-2].strip()] = int(fields[-1])
    return dict(judged)


def _is_whole(text: str) -> bool:
    return text.strip().lstrip("+-").isdecimal()


def _positive(grades: Mapping[str, int]) -> dict[str, int]:
    return {key: grade for key, grade in grades.items() if grade > 0}


def _queries(path: Path) -> Iterator[tuple[str, str]]:
    """Yield id and text: JSON Lines with `_id` or `id` and `text` or `question`, or two columns parted by a tab."""
    if path.suffix in (".tsv", ".txt"):
        if not path.is_file():
            raise _no_queries(path)
        with path.open(encoding="utf-8", newline="") as stream:
            for number, row in enumerate(csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE), 1):
                if len(row) != 2 or not row[1].strip():
                    raise DatasetError(
                        "not a query", where=f"{path}:{number}", found=str(row)[:80], fix="A line is: id, tab, text."
                    )
                yield row[0].strip(), row[1].strip()
        return
    for number, values in enumerate(_rows(path), 1):
        identifier, text = values.get("_id", values.get("id")), values.get("text", values.get("question"))
        if identifier is None or not isinstance(text, str) or not text.strip():
            raise DatasetError(
                "not a query",
                where=f"{path}:{number}",
                found=str(values)[:80],
                fix='A line looks like {"_id": "q1", "text": "..."}.',
            )
        yield str(identifier), text


def _rows(path: Path) -> Iterator[dict[str, JsonValue]]:
    if not path.is_file():
        raise _no_queries(path)
    yield from read_jsonl(path)


def _no_queries(path: Path) -> DatasetError:
    return DatasetError("the file is not there", where=path, fix="Name the queries with --queries FILE.")


def _notes(judged: Judgements, texts: Mapping[str, str], known: set[str]) -> tuple[str, ...]:
    notes = []
    if lost := [i for i in judged if i not in texts]:
        notes.append(f"{len(lost)} judged queries have no text and are left out, such as {lost[0]}")
    if bare := [i for i, grades in judged.items() if not _positive(grades)]:
        notes.append(f"{len(bare)} queries have nothing relevant and are left out")
    if unknown := {key for grades in judged.values() for key in _positive(grades)} - known:
        notes.append(f"{len(unknown)} relevant documents are not in the corpus and count as not found")
    return tuple(notes)


def _made(judged: JudgedSet, where: Path) -> JudgedSet:
    if not judged.queries:
        raise DatasetError(
            "no query is left to measure on", where=where, found="; ".join(judged.notes) or "an empty file"
        )
    return judged


# ---------------------------------------------------------------- questions of a run


def from_questions(
    questions: Sequence[Question],
    chunks: Sequence[Chunk],
    documents: Sequence[Document],
    *,
    name: str,
    split: str = "",
    where: object = None,
) -> JudgedSet:
    """Judge passages by where the quote of each question stands: relevant is the passage that holds most of it.

    Questions the documents do not answer have nothing relevant and are left out. A document that the run does not hold
    counts as not found; one without a quote that stands in it is judged as a whole, so its figures of passages are open.
    """
    by_uri = {d.source.uri: d for d in documents}
    of_document: dict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        of_document[chunk.document_id].append(chunk)
    made: list[JudgedQuery] = []
    unplaced, absent = 0, 0
    answerable = [q for q in questions if q.answer is not None and q.document is not None]
    for question in answerable:
        document = by_uri.get(str(question.document))
        if document is None:
            absent += 1
            gone = {f"absent:{question.document}": 1}
            spans: tuple[Span, ...] = ()
            relevant, known = gone, gone
        else:
            known = {document.id: 1}
            spans = _evidence(question, document)
            relevant = {i: 1 for s in spans for i in _holders(s, of_document[document.id])}
            unplaced += not relevant
        made.append(
            JudgedQuery(
                id=question.id,
                text=question.question,
                relevant=relevant,
                documents=known,
                spans=spans,
                kind=question.kind,
                cluster=str(question.document),
            )
        )
    notes = []
    if len(answerable) < len(questions):
        notes.append(
            f"{len(questions) - len(answerable)} questions name no document that answers them and are left out"
        )
    if unplaced:
        notes.append(f"{unplaced} quotes do not stand in their document: judged by document only")
    if absent:
        notes.append(f"{absent} questions are about documents the run does not hold and count as not found")
    judged = JudgedSet(name, "questions", "passage", split, tuple(made), None, tuple(notes))
    return _made(judged, Path(str(where or name)))


def from_split(
    examples: Sequence[Example], chunks: Sequence[Chunk], documents: Sequence[Document], split: str
) -> JudgedSet:
    """Judge the generated questions of a split by the chunk they were made from."""
    uris = document_uris(documents)
    made = from_questions(
        from_examples(examples, uris), chunks, documents, name="generated questions", split=split, where=split
    )
    return JudgedSet(made.name, "examples", made.level, split, made.queries, None, made.notes)


def _evidence(question: Question, document: Document) -> tuple[Span, ...]:
    quote = question.quote or ""
    exact = document.text.find(quote) if quote else -1
    if exact >= 0:
        return (Span(document.id, exact, exact + len(quote)),)
    found = find_words(quote, document.text)  # without the sign at the end of a sentence
    return (Span(document.id, *found),) if found else ()


def _holders(span: Span, chunks: Sequence[Chunk]) -> list[str]:
    """The passage that holds most of a span; several that hold equally much."""
    shares = {c.id: min(c.end, span.end) - max(c.start, span.start) for c in chunks}
    most = max(shares.values(), default=0)
    return [i for i, share in shares.items() if share == most] if most > 0 else []
