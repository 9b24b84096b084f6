"""The recipe of the base weights is not installed: its folder is put on the path."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

NANO = Path(__file__).resolve().parents[2] / "nano"
sys.path.insert(0, str(NANO))


@pytest.fixture(scope="session")
def documents() -> list[str]:
    return [p.read_text(encoding="utf-8") for p in sorted((NANO.parent / "examples/documents/healthcare").glob("*.md"))]


@pytest.fixture(scope="session")
def frames():
    from nano_recipe.forms import read_forms

    return read_forms(NANO / "forms")


@pytest.fixture(scope="session")
def harvested(documents):
    from nano_recipe.pools import harvest

    found = harvest(documents)
    letters = "bdfgklmnprstv"
    made = [f"{a}{v}{b}{w}" for a in letters for v in "aeiou" for b in letters for w in ("ro", "lin", "ta")]
    found["word"] = sorted({*found["word"], *made})
    found["name"] = sorted({*found["name"], *(w.capitalize() for w in made[::3])})
    found["act"] = sorted({*found["act"], *(f"check the {w} list" for w in made[::5])})
    found["np"] = sorted({*found["np"], *(f"{w} form" for w in made[::4])})
    return found


@pytest.fixture
def composer(frames, harvested, documents):
    from nano_recipe.pools import Pools
    from nano_recipe.rows import Composer

    rng = random.Random(11)
    return Composer(frames, Pools(harvested, "train", rng), rng, documents)


@pytest.fixture
def row_maker(composer, documents):
    import numpy as np
    from fieldwise_nano import weights
    from tokenizers import Tokenizer

    from nano_recipe import written
    from nano_recipe.questions import Asked
    from nano_recipe.rows import RowMaker

    tokenizer = Tokenizer.from_file(str(weights() / "tokenizer.json"))
    asked = [
        Asked(f"The {a} box stands in room {n}. It is opened at {n}:15.", [(f"Where is the {a} box?", f"room {n}")])
        for n, a in enumerate("red blue green white black brown grey pink".split(), 10)
    ]
    text = np.array(tokenizer.encode(" ".join(documents)).ids, dtype=np.uint16)
    return RowMaker(tokenizer, composer, text, asked, written.read(NANO / "reading"))
