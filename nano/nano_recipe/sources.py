"""Which real text the model may read, with its licence, and how it is cleaned.

A source is listed here only if its licence allows a derived model without further conditions
than attribution (CC0, public domain, CC BY, MIT/Apache/BSD). What was left out, and why, stands
in DATA_CARD.md. Every fortieth document of a source is held out for measuring bits per byte.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Source(NamedTuple):
    """One file of the open-text folder."""

    name: str
    licence: str
    field: str  # general | clinical | legal | finance | operations
    max_chars: float


SOURCES = (
    Source("openstax_anatomy_physiology", "CC BY 4.0", "clinical", 3e6),
    Source("openstax_microbiology", "CC BY 4.0", "clinical", 2.5e6),
    Source("openstax_psychology", "CC BY 4.0", "clinical", 2e6),
    Source("va_gov", "CC0 1.0", "clinical", 1.1e6),
    Source("dc_code", "public law", "legal", 12e6),
    Source("dc_legislation", "public law", "legal", 5e6),
    Source("openstax_business_ethics", "CC BY 4.0", "legal", 1e6),
    Source("openstax_american_government", "CC BY 4.0", "legal", 2e6),
    Source("fomc_minutes", "MIT, US government work", "finance", 6e6),
    Source("openstax_principles_finance", "CC BY 4.0", "finance", 1.3e6),
    Source("openstax_introduction_business", "CC BY 4.0", "finance", 1.9e6),
    Source("openstax_economics", "CC BY 4.0", "finance", 2.3e6),
    Source("dynamics_ax2012", "CC BY 4.0", "finance", 8e6),
    Source("digitalgov", "CC0 1.0", "operations", 9e6),
    Source("oss_docs", "MIT, Apache-2.0, BSD", "operations", 3e6),
    Source("us_speeches", "public domain", "general", 2e6),
    Source("english_novels", "public domain", "general", 14e6),
)

_QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "–": "-", "—": " - ", "\u00a0": " ", "•": "-"})


class Text(NamedTuple):
    """One cleaned document of real text."""

    source: str
    field: str
    title: str
    text: str
    held_out: bool


def clean(text: str) -> str:
    """Return the text with plain quotes and dashes and without runs of blanks."""
    text = text.translate(_QUOTES)
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" ?\n ?", "\n", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def is_held_out(identifier: str) -> bool:
    """Every fortieth document, by the hash of its id, so that the choice survives re-ordering."""
    return int.from_bytes(hashlib.md5(identifier.encode()).digest()[:4], "big") % 40 == 0


def read_source(folder: Path, source: Source) -> Iterator[Text]:
    """Yield the documents of one source until its share of characters is reached."""
    path = folder / f"{source.name}.jsonl.gz"
    if not path.exists():
        raise SystemExit(
            f"{path}: not found. The open text is listed in nano/DATA_CARD.md; point --text at its folder."
        )
    used = 0
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            row = json.loads(line)
            text = clean(row["text"])
            if len(text) < 200 or sum(ch > "\u024f" for ch in text) > 0.01 * len(text):
                continue
            yield Text(
                source.name, source.field, str(row.get("title", "")), text, is_held_out(str(row.get("id", number)))
            )
            used += len(text)
            if used > source.max_chars:
                return


def read_all(folder: Path) -> Iterator[Text]:
    """Yield every document of every source, in the order of SOURCES."""
    for source in SOURCES:
        yield from read_source(folder, source)
