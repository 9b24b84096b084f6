"""The quality report of a prepared set: what came in, what was taken out, what the chunks look like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from fieldwise.hashing import sha256_text
from fieldwise.prepare.clean import PassCount
from fieldwise.prepare.duplicates import NearPair
from fieldwise.records import Chunk, Document, Rejection

_PERCENTILES = (5, 25, 50, 75, 95)


@dataclass
class Quality:
    """Counts as the stage goes along; `report()` puts them in order."""

    documents: int = 0
    characters_before: int = 0
    characters_after: int = 0
    kept: int = 0
    pages: int = 0
    tables: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    passes: dict[str, PassCount] = field(default_factory=dict)
    token_counts: list[int] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    chunk_texts: Counter[str] = field(default_factory=Counter)

    def add_read(self, before: Document, passes: dict[str, PassCount]) -> None:
        """Count a document as it came."""
        self.documents += 1
        self.characters_before += len(before.text)
        for name, count in passes.items():
            places, characters = self.passes.get(name, PassCount(0, 0))
            self.passes[name] = PassCount(places + count.places, characters + count.characters)

    def add_kept(self, document: Document, chunks: Sequence[Chunk]) -> Sequence[Chunk]:
        """Count a document as it goes on, with its chunks; returns the chunks."""
        self.kept += 1
        self.characters_after += len(document.text)
        self.pages += len(document.pages)
        self.tables += len(document.tables)
        self.languages[document.language or "unknown"] += 1
        for chunk in chunks:
            self.token_counts.append(chunk.tokens)
            self.kinds[chunk.kind] += 1
            self.chunk_texts[sha256_text(chunk.text)] += 1
        return chunks

    def report(
        self,
        rejected: Sequence[Rejection],
        near: Sequence[tuple[NearPair, str, str]],
        near_in_meaning: Sequence[tuple[NearPair, str, str]] = (),
    ) -> dict[str, JsonValue]:
        """Return the whole report; near-duplicates come with the names of both documents."""
        alike: list[JsonValue] = [
            {"first": first, "second": second, "cosine": round(pair.similarity, 4)}
            for pair, first, second in near_in_meaning
        ]
        return {
            "documents": {
                "read": self.documents,
                "kept": self.kept,
                "rejected": dict(sorted(Counter(r.reason for r in rejected).items())),
            },
            "characters": {"read": self.characters_before, "kept": self.characters_after},
            "cleaning": {
                name: {"places": count.places, "characters_removed": count.characters}
                for name, count in sorted(self.passes.items())
            },
            "languages": dict(sorted(self.languages.items())),
            "pages": self.pages,
            "tables": self.tables,
            "chunks": {
                "count": len(self.token_counts),
                "kinds": dict(sorted(self.kinds.items())),
                "tokens": _spread(self.token_counts),
                "repeated": sum(n - 1 for n in self.chunk_texts.values()),
            },
            "duplicates": {
                "exact": [[r.item, r.detail] for r in rejected if r.reason == "exact_duplicate"],
                "near": [
                    {"first": first, "second": second, "similarity": round(pair.similarity, 4)}
                    for pair, first, second in near
                ],
                **({"near_in_meaning": alike} if alike else {}),
            },
        }


def _spread(values: list[int]) -> dict[str, JsonValue]:
    """Total, extremes and percentiles (nearest rank)."""
    if not values:
        return {"total": 0}
    ordered = sorted(values)
    ranks: dict[str, JsonValue] = {
        f"p{p}": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in _PERCENTILES
    }
    return {"total": sum(ordered), "smallest": ordered[0], **ranks, "largest": ordered[-1]}
