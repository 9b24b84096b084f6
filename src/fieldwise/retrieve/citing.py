"""Words of an answer tied to the words of the passages it was shown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fieldwise.records import Chunk, Citation

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_BEGINNING = 200


def cite(answer: str, numbers: Sequence[int], chunks: Sequence[Chunk]) -> Iterator[Citation]:
    """Yield a citation for every mark that names a shown passage; without a mark, for the first passage that holds the answer."""
    marked = [n for n in numbers if 1 <= n <= len(chunks)]
    if not marked:
        marked = [n for n, chunk in enumerate(chunks, 1) if find_words(answer, chunk.text) is not None][:1]
    for number in marked:
        yield quote(answer, number, chunks[number - 1])


def quote(words: str, mark: int, chunk: Chunk, path: str | None = None) -> Citation:
    """Return the sentence of a passage that holds the words; its beginning, not verified, if none does.

    `mark` is the number it was shown under, `path` the JSON pointer of the value that the words are.
    """
    found = find_words(words, chunk.text)
    start, end = sentence_around(chunk.text, *found) if found else (0, min(len(chunk.text), _BEGINNING))
    return Citation(
        mark=mark,
        path=path,
        chunk_id=chunk.id,
        document_id=chunk.document_id,
        uri=chunk.uri,
        title=chunk.title,
        heading_path=chunk.heading_path,
        page=chunk.page,
        start=chunk.start + start,
        end=chunk.start + end,
        quote=chunk.text[start:end],
        is_verified=found is not None,
    )


def find_words(words: str, text: str) -> tuple[int, int] | None:
    """Return where the words stand in the text, whatever the blanks and the case; None if they do not.

    >>> find_words("14  Days", "kept for 14 days.")
    (9, 16)
    """
    parts = words.strip().strip("\"'").rstrip(".").split()
    if not parts:
        return None
    before = r"(?<!\w)" if parts[0][0].isalnum() else ""
    after = r"(?!\w)" if parts[-1][-1].isalnum() else ""
    match = re.search(before + r"\s+".join(re.escape(p) for p in parts) + after, text, re.IGNORECASE)
    return match.span() if match else None


def sentence_around(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the span of the sentence or line that holds a span.

    >>> sentence_around("One. Two is 2. Three.", 9, 10)
    (5, 14)
    """
    left, right = 0, len(text)
    for match in _SENTENCE_END.finditer(text):
        if match.end() <= start:
            left = match.end()
        elif match.start() >= end:
            right = match.start()
            break
    return left, right
