"""Two small documents with lists, tables and procedures, and what the makers of kinds need."""

import random

from fieldwise.generate.drafts import Material
from fieldwise.generate.examples import Asked, ExampleMaker
from fieldwise.generate.rules import pairs_of_chunk
from fieldwise.generate.settings import GenerateSettings
from fieldwise.records import Chunk, Document, RetrievedPassage, Source

TABLE = """Boxes

| Box | Colour | Where |
| --- | --- | --- |
| Low sugar | Orange | Drug room |
| Allergy | Yellow | Trolley |
| Potassium | Brown | Ward store |
"""
CASES = """Fridges

If the display shows more than eight degrees, close the door. If the alarm rings, call the estates desk. The fridge log is kept for 14 days. The fridge log is signed by the charge nurse because two medicines were spoiled last winter. The wall of the fridge must stay dry."""
STEPS = """Leaving

Close the door behind you. Turn the red key to the left. Tell the porter that the room is empty. Sign the book in the hall."""
FORM = """Notice

- Issued by: Ines Corvo
- Valid until: 3 May 2031
- Extension: 4455"""
LIST = """Register

Each entry needs:

- the date and time
- the name of the patient
- the dose that was given
- the running balance"""
OTHER = "Doors\n\nThe east door closes at 20:00. Visitors ring the bell beside the east door. The bell is tested every week. The porter keeps the spare key in the lodge and lends it to nobody."
ALSO = "Bags\n\nThe bag is kept for three weeks. The bag is signed by the clerk who packed it. A lost bag is told to the desk within one day."


def chunk(uri: str, title: str, text: str) -> Chunk:
    document = Document.make(title=title, text=text, source=Source(uri=uri))
    return Chunk.make(document, 0, len(text), heading_path=(text.split("\n")[0],))


CHUNKS = [
    chunk(f"{n}.md", title, text)
    for n, (title, text) in enumerate(
        [("Medicines", TABLE), ("Cold store", CASES), ("Closing", STEPS), ("Notices", FORM), ("Drugs", LIST), ("Doors", OTHER), ("Luggage", ALSO)]
    )
]  # fmt: skip


class Shelf:
    """Finds every chunk, in order."""

    def __init__(self, chunks: list[Chunk]) -> None:
        self.chunks = chunks

    def search(self, query: str, top_k: int) -> list[RetrievedPassage]:
        return [RetrievedPassage(chunk=c, score=1.0) for c in self.chunks[:top_k]]


def material(chunks: list[Chunk] | None = None, sides: dict[str, str] | None = None, **settings) -> Material:
    chunks = CHUNKS if chunks is None else chunks
    sides = sides or {c.document_id: "train" for c in chunks}
    made = GenerateSettings.model_validate(settings)
    asked = [Asked(p, c, sides[c.document_id]) for c in chunks for p in pairs_of_chunk(c, random.Random(1))]
    groups = {c.document_id: c.document_id for c in chunks}
    return Material(chunks, asked, sides, ExampleMaker(Shelf(chunks), groups, sides, made, random.Random(0)), made)
