"""Sequence-level distillation: what a teacher's reply must pass, what is learnt in its place, and a teacher of our own weights."""

import json
from pathlib import Path

import pytest
from sessions import session_in

from fieldwise.engine.base_weights import resolve
from fieldwise.errors import MissingExtra, ModelError, ServiceError
from fieldwise.files import read_jsonl
from fieldwise.interfaces import LlmReply
from fieldwise.prompts import closed_prompt, extraction_prompt, grounded_prompt
from fieldwise.records import NOT_STATED, Evidence, Example, Message, PreferencePair
from fieldwise.run import RunFolder, StepRun
from fieldwise.tables import write_records
from fieldwise.train import stage
from fieldwise.train.distil import student
from fieldwise.train.distil_sequence import fault_of, lesson_of, taught
from fieldwise.train.distil_settings import DistillationSettings, TeacherSettings
from fieldwise.train.settings import LoraSettings, PreferenceSettings, SftSettings, TrainSettings

PASSAGES = (
    "Register > Retention\nThe visitor register is kept for 14 days. Mr Boyle signs it at 6 o'clock.",
    "Keys > Hand-over\nThe keys are not handed over before 8 o'clock. A deposit of 20 euros is taken.",
)
OWN = DistillationSettings(teacher=TeacherSettings(model="fieldwise-nano"))


def example(reply: str, question: str = "How long is the visitor register kept?", **more) -> Example:
    prompt = grounded_prompt(question, PASSAGES)
    return Example.make(
        question=question, answer=reply, kind="duration", style="grounded",
        conversation=(*prompt, Message(role="assistant", content=reply)), **more,
    )  # fmt: skip


KNOWN = example("14 days [1]")
NOT_KNOWN = example(NOT_STATED, "Who painted the door?")


@pytest.mark.parametrize(
    ("of", "reply", "fault"),
    [
        (KNOWN, "It is kept for 14 days [1].", None),
        (KNOWN, "fourteen days [1]", None),
        (KNOWN, "", "empty_reply"),
        (KNOWN, "I'm sorry, but I can't help with that. [1]", "over_refusal"),
        (KNOWN, NOT_STATED, "over_refusal"),
        (KNOWN, "14 days", "uncited"),
        (KNOWN, "14 days [3]", "no_such_passage"),
        (KNOWN, "14 days [2]", "wrong_citation"),
        (KNOWN, "30 days [1]", "number_not_in_evidence"),
        (KNOWN, "14 hours [1]", "unit_not_in_evidence"),
        (KNOWN, "Mrs Kerr keeps it 14 days [1]", "name_not_in_evidence"),
        (KNOWN, "It is not kept 14 days [1]", "negation_differs"),
        (KNOWN, "It is signed at 6 o'clock [1]", "lacks_number"),
        (KNOWN, "14 days [1] " + "and so on " * 40, "answer_length"),
        (example("Mr Boyle [1]", "Who signs the register?"), "a deposit [1]", "differs_from_known"),
        (NOT_KNOWN, NOT_STATED, None),
        (NOT_KNOWN, "The passages do not say who painted it.", "declines_otherwise"),
        (NOT_KNOWN, "Mr Boyle [1]", "answers_unanswerable"),
    ],
)
def test_each_rule_finds_its_fault_and_no_other(of, reply, fault) -> None:
    assert fault_of(of, reply) == fault


def test_a_question_without_passages_stands_on_its_quotes() -> None:
    conversation = (
        *closed_prompt("When is the deposit paid back?"),
        Message(role="assistant", content="within 14 days"),
    )
    quoted = Evidence(chunk_id="chk_1", quote="The deposit is paid back within 14 days of the hand-over.")
    closed = Example.make(
        question="q", answer="within 14 days", kind="time", conversation=conversation, evidence=(quoted,)
    )
    assert fault_of(closed, "Within 14 days of the hand-over.") is None
    assert fault_of(closed, "Within 14 days, or 30 for tenants.") == "number_not_in_evidence"


def test_json_is_held_to_the_keys_of_the_known_reply() -> None:
    conversation = (
        *extraction_prompt("Extract.", PASSAGES, "{}"),
        Message(role="assistant", content='{"days": 14, "by": null}'),
    )
    task = Example.make(question="q", answer="{}", kind="extraction", style="task", conversation=conversation)
    assert fault_of(task, '{"by": null, "days": 14}') is None
    assert fault_of(task, '{"days": 14}') == "other_keys" and fault_of(task, "14 days") == "not_json"


def reply(text: str, **more) -> LlmReply:
    return LlmReply(text=text, **{"completion_tokens": 5, "requests": 1, **more})


def test_what_passes_is_learnt_in_the_place_of_the_known_reply_and_keeps_its_lineage() -> None:
    replies = {KNOWN.id: reply("It is kept 14 days [1]", price=0.5), NOT_KNOWN.id: reply("Mr Boyle [1]")}
    found = lesson_of([KNOWN, NOT_KNOWN], replies, OWN)
    assert [e.conversation[-1].content for e in found.examples] == ["It is kept 14 days [1]", NOT_STATED]
    assert [e.id for e in found.examples] == [KNOWN.id, NOT_KNOWN.id]
    assert found.facts == {"asked": 2, "learnt": 1, "rejected": {"answers_unanswerable": 1}, "prompt_tokens": 0, "completion_tokens": 10, "price": 0.5}  # fmt: skip
    assert found.rows[1] == {"example": NOT_KNOWN.id, "reply": "Mr Boyle [1]", "rejected": "answers_unanswerable"}


def test_rejected_replies_may_be_left_out_instead() -> None:
    own = OWN.model_copy(update={"when_rejected": "leave_out"})
    found = lesson_of([KNOWN, NOT_KNOWN], {KNOWN.id: reply("14 days [1]"), NOT_KNOWN.id: reply("Mr Boyle [1]")}, own)
    assert [e.id for e in found.examples] == [KNOWN.id]


def test_a_reply_that_was_cut_is_not_learnt() -> None:
    own = OWN.model_copy(update={"max_new_tokens": 5})
    found = lesson_of([KNOWN, NOT_KNOWN], {KNOWN.id: reply("14 days [1]"), NOT_KNOWN.id: reply(NOT_STATED, completion_tokens=4)}, own)  # fmt: skip
    assert found.facts["rejected"] == {"cut_reply": 1}


def test_a_teacher_that_never_passes_ends_the_run_with_the_commonest_fault() -> None:
    with pytest.raises(ServiceError, match="no reply of the teacher passes") as caught:
        lesson_of([KNOWN], {KNOWN.id: reply("14 days")}, OWN)
    assert "uncited in 1 of 1" in str(caught.value)


def test_examples_with_tools_are_not_asked() -> None:
    tool = KNOWN.model_copy(update={"id": "exa_tool", "tools": ({"type": "function"},)})
    found = lesson_of([KNOWN, tool], {KNOWN.id: reply("14 days [1]")}, OWN)
    assert [e.id for e in found.examples] == [KNOWN.id, "exa_tool"] and len(found.rows) == 1


@pytest.fixture(scope="module")
def nano() -> DistillationSettings:
    try:
        resolve("fieldwise-nano/nano-2m")
    except (MissingExtra, ModelError):
        pytest.skip("the embedded weights are not installed")
    teacher = TeacherSettings(model="fieldwise-nano/nano-2m")
    return DistillationSettings(method="sequence", teacher=teacher, max_new_tokens=24)


def test_own_weights_teach_and_are_asked_once(nano, tmp_path: Path, monkeypatch) -> None:
    from fieldwise.engine.transformers_engine import TransformersEngine
    from fieldwise.train.distil_teacher import teacher_weights

    weights = teacher_weights(nano.teacher)
    first = taught([KNOWN], nano, weights, tmp_path)
    assert first.facts["asked"] == 1 and first.facts["learnt"] == 1 and "14 days" in str(first.rows[0]["reply"])
    assert len(list(read_jsonl(tmp_path / "journal.jsonl"))) == 1
    monkeypatch.setattr(TransformersEngine, "generate", lambda *_, **__: pytest.fail("asked again"))
    assert taught([KNOWN], nano, weights, tmp_path) == first


def test_the_stage_trains_on_the_teachers_replies_and_records_them(nano, base, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    (run.path / "3_examples").mkdir(parents=True)
    write_records(run.path / "3_examples/train.parquet", [KNOWN, NOT_KNOWN], Example)
    write_records(run.path / "3_examples/validation.parquet", [], Example)
    write_records(run.path / "3_examples/preferences.parquet", [], PreferencePair)
    settings = TrainSettings(
        sft=SftSettings(max_steps=2, batch_size=2, lora=LoraSettings(rank=4)),
        preference=PreferenceSettings(enabled=False),
        distillation=nano,
        precision="float32",
        hardware="cpu",
    )
    step = StepRun(run, "4b_train", "0" * 64, 3)
    facts = stage.run(settings, resolve(str(base)), step)
    made = step.staging / "4_adapters/sft"
    record = json.loads((made / "adapter.json").read_text())
    assert record["method"] == "distillation" and record["example_ids"] == [KNOWN.id, NOT_KNOWN.id]
    told = facts["sft"]["distillation"]
    assert told["method"] == "sequence" and told["asked"] == 2 and told["teacher"] == "fieldwise-nano/nano-2m"
    assert [row["example"] for row in read_jsonl(made / "teacher_replies.jsonl")] == [KNOWN.id, NOT_KNOWN.id]
    assert (run.path / "memo/distillation/journal.jsonl").exists()


def test_a_gguf_file_that_is_not_there_is_named(base, examples, device, tmp_path) -> None:
    own = DistillationSettings(teacher=TeacherSettings(model=str(tmp_path / "large.gguf")))
    with pytest.raises(ModelError, match="the teacher's file is not there"):
        student(own, tmp_path)(
            base, examples, [], SftSettings(), device, session=session_in(tmp_path),
        )  # fmt: skip


def test_a_gguf_file_teaches(nano, tmp_path) -> None:
    pytest.importorskip("xllamacpp")
    from fieldwise.release.gguf import convert
    from fieldwise.train.distil_teacher import require_fitting, teacher_weights

    file = tmp_path / "teacher.gguf"
    convert(Path(resolve("fieldwise-nano/nano-2m").path), file, dtype="f16")
    own = nano.model_copy(update={"teacher": TeacherSettings(model=str(file))})
    require_fitting(own, Path(resolve("fieldwise-nano/nano-2m").path))
    found = taught([KNOWN], own, teacher_weights(own.teacher), tmp_path)
    assert found.facts["learnt"] == 1 and "14 days" in str(found.rows[0]["reply"])
