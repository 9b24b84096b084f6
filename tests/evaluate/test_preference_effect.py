from pathlib import Path

from fieldwise.evaluate.effect import read_effect, told
from fieldwise.evaluate.report import EvalReport
from fieldwise.files import write_json
from fieldwise.records import Answer
from fieldwise.run import RunFolder

EFFECT = {"pairs": 32, "split": "train", "margin": 1.25, "accuracy": 0.9, "kl_per_token": 0.012, "length_learnt": True}


def answer(text: str, *, is_declined: bool = False) -> Answer:
    return Answer(text=text, answer=text, model="m", is_declined=is_declined)


def report(**more) -> EvalReport:
    given = {"questions": 4, "unanswerable": 0, "questions_sha256": "0", "baseline": "base", "systems": (), **more}
    return EvalReport(**given)


def test_the_report_says_what_preferences_did_and_how_long_answers_have_become(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    (run.path / "4_adapters/preference").mkdir(parents=True)
    said = {
        "sft": [answer("two tablets"), answer("every eight hours")],
        "preference": [answer("two tablets a day"), answer("Not stated in the documents.", is_declined=True)],
    }
    assert read_effect(run, said) is None
    write_json(run.path / "4_adapters/preference/figures.json", {"about": {"effect": {}}})
    assert read_effect(run, said) is None  # rated replies alone: there was no pair to look at
    write_json(run.path / "4_adapters/preference/figures.json", {"about": {"effect": EFFECT}})
    effect = read_effect(run, said)
    assert effect is not None and effect.words == {"sft": 2.5, "preference": 4.0}
    text = told(report(preference_method="kto", effect=effect))
    assert text.startswith("The preference step (SFT+KTO): over 32 pairs it was trained on the chosen reply gained")
    assert "in 90% (mean margin 1.25 nats), 0.0120 nats of KL a token" in text and "learnt length along" in text
    assert text.endswith("SFT, closed book 2.5, SFT+KTO, closed book 4.0.")
    assert told(report(preference_method=None, effect=effect)) == "" == told(report(preference_method="dpo"))
