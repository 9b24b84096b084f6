"""Which side of the split documents and rows fall on, and the proof that nothing stands on two."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

from pydantic import JsonValue

from fieldwise.generate.settings import SplitSettings
from fieldwise.records import Chunk, Example

Split = Literal["train", "validation", "test"]


def split_documents(
    groups: dict[str, str], settings: SplitSettings, seed: int, strata: dict[str, str] | None = None
) -> dict[str, Split]:
    """Put whole groups of near-duplicate documents on one side each; the shares count documents.

    `strata` names for a document, or row, what every side shall have its share of (its domain, its kind): each stratum
    gives its part of what is held out, rounded by largest remainder. A set too small for its shares still gets one
    group for validation and one for testing when there are three groups.
    """
    members: dict[str, list[str]] = {}
    for document, group in sorted(groups.items()):
        members.setdefault(group, []).append(document)
    order = sorted(members)
    random.Random(f"{seed}/split").shuffle(order)
    stratum = {group: _most_common((strata or {}).get(d, "") for d in members[group]) for group in order}
    sizes: Counter[str] = Counter()
    for group in order:
        sizes[stratum[group]] += len(members[group])
    total = len(groups)
    least = 1 if len(members) >= 3 else 0
    shares: dict[Split, float] = {"test": settings.test, "validation": settings.validation}
    wanted = {name: max(least if share > 0 else 0, round(share * total)) for name, share in shares.items()}
    quotas = {name: _quotas(most, sizes) for name, most in wanted.items()}
    sides: dict[str, Split] = {}
    taken: Counter[tuple[Split, str]] = Counter()
    held: Counter[Split] = Counter()
    for group in order:
        size, of = len(members[group]), stratum[group]
        for name, most in wanted.items():
            quota = quotas[name][of]
            if taken[name, of] < quota and taken[name, of] + size <= quota + 1 and held[name] + size <= most + 1:
                taken[name, of] += size
                held[name] += size
                sides |= dict.fromkeys(members[group], name)
                break
    for group in order:  # what the strata could not give, since a group was too large for them, comes from any
        size = len(members[group])
        if members[group][0] not in sides:
            side: Split = next(
                (n for n, most in wanted.items() if held[n] < most and held[n] + size <= most + 1), "train"
            )
            held[side] += size
            sides |= dict.fromkeys(members[group], side)
    return sides


def sides_of(
    chunks: Iterable[Chunk], groups: Mapping[str, JsonValue], settings: SplitSettings, seed: int
) -> dict[str, Split]:
    """Return on which side each document of `2_chunks/` falls; whoever trains on documents has to ask here."""
    grouped = {str(document): str(group) for document, group in groups.items()}
    return split_documents(grouped, settings, seed, {c.document_id: domain_of(c.uri) for c in chunks})


def domain_of(uri: str) -> str:
    """The part of a collection that a document is from: the first folder of its path, or the host of its address.

    >>> domain_of("contracts/2024/lease.pdf"), domain_of("https://example.org/a"), domain_of("lease.pdf")
    ('contracts', 'example.org', '')
    """
    if "://" in uri:
        return urlsplit(uri).hostname or ""
    return uri.split("/", 1)[0] if "/" in uri else ""


def _most_common(names: Iterable[str]) -> str:
    counted = Counter(names)
    return min(counted, key=lambda name: (-counted[name], name))


def _quotas(wanted: int, sizes: Counter[str]) -> dict[str, int]:
    """Part a whole number among strata by their sizes: the largest remainders are rounded up."""
    total = sum(sizes.values())
    exact = {name: wanted * size / total for name, size in sizes.items()}
    quotas = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (quotas[name] - exact[name], name))
    for name in by_remainder[: wanted - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def leakage(examples: Sequence[Example], groups: dict[str, str]) -> list[str]:
    """Return evidence documents or questions that stand on both sides; an honest split returns nothing."""
    sides: dict[str, set[str]] = {}
    for example in examples:
        for name in [f"group {groups[d]}" for d in example.document_ids[:1] if d in groups and example.evidence] + [
            f"question {example.question!r}"
        ]:
            sides.setdefault(name, set()).add(example.split)
    return [f"{name} in {', '.join(sorted(found))}" for name, found in sorted(sides.items()) if len(found) > 1]
