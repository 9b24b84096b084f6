import json

import pytest

from fieldwise.errors import ServiceError
from fieldwise.generate.checks import checked_pairs
from fieldwise.generate.settings import GenerateSettings
from fieldwise.generate.teacher import Lesson, _announce, open_teacher, request_for, teach, wanted_pairs
from fieldwise.interfaces import LlmRequest
from fieldwise.llm.fake import FakeLlm
from fieldwise.prompts import ANSWER_STYLE, GROUNDED_SYSTEM
from fieldwise.records import NOT_STATED, Chunk, Document, RetrievedPassage, Source


def chunk(uri: str, text: str) -> Chunk:
    return Chunk.make(Document.make(title=uri, text=text, source=Source(uri=uri)), 0, len(text))


LOG = chunk("log.md", "The fridge log is kept for 14 days. The charge nurse signs the log every evening.")
DOOR = chunk("door.md", "The east door closes at 20:00. Visitors ring the bell beside the door.")
SIDES = {LOG.document_id: "train", DOOR.document_id: "test"}
SETTINGS = GenerateSettings(teacher="fake")


class Shelf:
    def search(self, query: str, top_k: int) -> list[RetrievedPassage]:
        return [RetrievedPassage(chunk=c, score=1.0) for c in (LOG, DOOR)]


def pair(question: str, answer: str, quote: str, kind: str = "fact") -> dict[str, str]:
    return {"question": question, "answer": answer, "quote": quote, "kind": kind}


LESSONS = {
    LOG.id: {
        "pairs": [
            pair("How long is the fridge log kept?", "14 days", "The fridge log is kept for 14 days.", "figure"),
            pair("How long is the fridge log stored?", "3 weeks", "The fridge log is kept for 14 days."),
        ],
        "unanswerable": ["Where are old copies of the fridge log archived?", "Who signs the fridge log every evening?"],
    },
    DOOR.id: {"pairs": [], "unanswerable": ["Where are old copies of the fridge log archived?"]},
}


def lessons(request: LlmRequest) -> str:
    return json.dumps(LESSONS[request.label])


def test_what_passes_the_checks_is_taken_and_the_rest_is_listed_with_its_rule() -> None:
    taught = teach([LOG, DOOR], SIDES, SETTINGS, FakeLlm(lessons), Shelf())
    assert [(a.pair.question, a.pair.kind, a.split) for a in taught.asked] == [
        ("How long is the fridge log kept?", "figure", "train")
    ]
    assert [a.pair.question for a in taught.unanswerable[LOG.id]] == [
        "Where are old copies of the fridge log archived?"
    ]
    assert taught.unanswerable[LOG.id][0].pair.answer == NOT_STATED
    assert sorted((r.item, r.reason) for r in taught.rejected) == sorted(
        [
            (LOG.id, "number_not_in_evidence"),
            (LOG.id, "unanswerable_may_be_answered"),
            (DOOR.id, "no_question"),
            (DOOR.id, "unanswerable_off_topic"),
        ]
    )
    assert taught.facts["requests"] == 2


def test_a_chunk_whose_reply_cannot_be_used_is_rejected_and_the_others_stay() -> None:
    client = FakeLlm(lambda request: "I'd rather not." if request.label == DOOR.id else lessons(request))
    taught = teach([LOG, DOOR], SIDES, SETTINGS, client, Shelf())
    assert len(taught.asked) == 1
    assert (DOOR.id, "not_json") in {(r.item, r.reason) for r in taught.rejected}


def test_nothing_that_can_be_used_at_all_is_an_error_with_a_sample() -> None:
    with pytest.raises(ServiceError, match="no reply of the teacher can be used") as caught:
        teach([LOG, DOOR], SIDES, SETTINGS, FakeLlm(lambda _: "Roses are red."), Shelf())
    assert "Roses are red." in str(caught.value)


def test_the_teacher_and_the_models_are_told_the_same_style() -> None:
    prompt = request_for(LOG, SETTINGS).conversation
    assert ANSWER_STYLE in prompt[0].content and ANSWER_STYLE in GROUNDED_SYSTEM
    assert LOG.text in prompt[1].content and "up to 1 questions" in prompt[1].content
    assert wanted_pairs(chunk("long.md", "word " * 5000), SETTINGS) == SETTINGS.max_per_chunk


def test_a_kind_of_the_teachers_own_making_becomes_a_fact() -> None:
    lesson = Lesson.model_validate({"pairs": [pair("a", "b", "c", "trivia")]})
    assert (lesson.pairs[0].kind, lesson.unanswerable) == ("fact", [])


def test_the_fake_teacher_writes_the_same_every_time_and_passes_the_checks(tmp_path) -> None:
    taught = [
        teach([LOG, DOOR], SIDES, SETTINGS, open_teacher(SETTINGS, tmp_path, [LOG, DOOR], 7), Shelf()) for _ in range(2)
    ]
    assert taught[0] == taught[1] and taught[0].asked
    for item in taught[0].asked:
        assert list(checked_pairs([item.pair], item.chunk)) == [item.pair]


def test_of_the_endpoint_only_what_shapes_its_replies_is_in_the_key() -> None:
    assert "endpoint" not in GenerateSettings().keyed()
    asked = GenerateSettings.model_validate(
        {"teacher": "openai", "endpoint": {"base_url": "http://localhost/v1", "model": "m", "concurrency": 3}}
    )
    assert set(asked.keyed()["endpoint"]) == {"base_url", "model", "temperature", "max_tokens", "seed"}


def test_what_leaves_this_machine_is_said_before_it_does(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = GenerateSettings.model_validate(
        {"teacher": "openai", "endpoint": {"base_url": "http://llm.example/v1", "model": "m"}}
    )
    client = open_teacher(settings, tmp_path, [LOG], 7)
    _announce(settings, client, [request_for(LOG, settings)])
    said = capsys.readouterr().err
    assert "the text of 1 passages leaves this machine for http://llm.example/v1, unencrypted" in said
    assert "prepare.personal_data" in said


def test_a_question_that_is_nearly_one_before_it_is_dropped_also_of_another_passage_of_its_document() -> None:
    document = Document.make(title="log.md", text=f"{LOG.text} {LOG.text}", source=Source(uri="log.md"))
    first, second = Chunk.make(document, 0, len(LOG.text)), Chunk.make(document, len(LOG.text) + 1, len(document.text))
    asked = ["How long is the fridge log kept?", "For how long is the fridge's log kept?"]

    def respond(request: LlmRequest) -> str:
        question = asked[0] if request.label == first.id else asked[1]
        written = [pair(question, "14 days", "The fridge log is kept for 14 days.")]
        return json.dumps({"pairs": written, "unanswerable": []})

    sides = {document.id: "train"}
    taught = teach([first, second], sides, SETTINGS, FakeLlm(respond), Shelf())
    assert [a.pair.question for a in taught.asked] == asked[:1]
    assert [(r.item, r.reason) for r in taught.rejected] == [(second.id, "question_nearly_repeated")]
