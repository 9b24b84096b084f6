import random

import pytest

from fieldwise.generate.rules import pairs_of_chunk
from fieldwise.generate.wider import wide_pairs
from fieldwise.records import Chunk, Document, Source


@pytest.mark.parametrize(
    ("sentence", "kind", "question", "answer"),
    [
        ("The urinary tract includes two kidneys and a bladder", "contents", "What does the urinary tract include?", "two kidneys and a bladder"),
        ("Blood loss can lead to a low pressure", "effect", "What can Blood loss lead to?", "a low pressure"),
        ("Long exposure to cold causes frostbite of toes", "cause", "What causes frostbite of toes?", "Long exposure to cold"),
        ("Beta blockers are used to treat high blood pressure", "use", "What are Beta blockers used for?", "to treat high blood pressure"),
        ("Low blood sugar is also called hypoglycaemia", "name", "What else is Low blood sugar called?", "hypoglycaemia"),
        ("The purpose of the night round is to find open doors", "purpose", "What is the purpose of the night round?", "to find open doors"),
        ("The side door is kept shut so that smoke cannot spread", "reason", "Why is the side door kept shut?", "so that smoke cannot spread"),
        ("A stoma is made by turning the bowel outwards", "way", "How is a stoma made?", "by turning the bowel outwards"),
        ("Primary tremor is more common than secondary tremor", "comparison", "How does Primary tremor compare with secondary tremor?", "more common than secondary tremor"),
        ("The yearly audit must be finished by 31 March 2025", "deadline", "By when must the yearly audit be finished?", "by 31 March 2025"),
        ("The Credit Facilities will mature in May 2024", "time", "When will the Credit Facilities mature?", "in May 2024"),
        ("In 2019, the effective tax rate was 21%", "amount", "What was the effective tax rate in 2019?", "21%"),
        ("Interest expense increased by $5.3 million in 2019", "change", "By how much did interest expense increase in 2019?", "$5.3 million"),
        ("Net sales declined by 7% in fiscal 2019 due to the sale of a plant", "reason", "Why did net sales decline by 7% in fiscal 2019?", "due to the sale of a plant"),
    ],
)  # fmt: skip
def test_each_further_kind(sentence: str, kind: str, question: str, answer: str) -> None:
    assert (question, answer, kind) in {(p.question, p.answer, p.kind) for p in wide_pairs(sentence)}


@pytest.mark.parametrize(
    "sentence",
    [
        "Symptoms include fever and cough",
        "Examples include tendonitis and a tumour",
        "It is also called hypoglycaemia",
        "Phlebotomy reduces your red blood cell count and causes your blood to thin",
        "Panic disorder is more common in women than men",
        "More research is needed to be sure that age increases the risk of falls",
        "The increase was driven by sales",
        "Costs were $60.3 million and $80.5 million, respectively",
        "Regular cleaning helps keep the tract sterile by flushing away germs",
        "The good news is that you can prevent falls by holding the rail",
    ],
)
def test_what_is_vague_or_holds_a_second_clause_stays_unasked(sentence: str) -> None:
    assert list(wide_pairs(sentence)) == []


def test_further_kinds_leave_the_others_as_they_are() -> None:
    text = (
        "The fridge log is kept for 14 days so that gaps are seen. Beta blockers are used to treat high blood pressure."
    )
    chunk = Chunk.make(Document.make(title="T", text=text, source=Source(uri="m")), 0, len(text))
    plain = pairs_of_chunk(chunk, random.Random(3))
    wide = pairs_of_chunk(chunk, random.Random(3), wide=True)
    assert set(plain) < set(wide)
    assert "What are Beta blockers used for?" in {p.question for p in wide}
