import json
import re
from collections import Counter
from pathlib import Path

import pytest

from fieldwise.cli import main
from fieldwise.data.doctor import examine
from fieldwise.data.rendering import Base
from fieldwise.data.sample import DOMAINS, samples, write_sample
from fieldwise.data.targets import TARGETS, Target
from fieldwise.errors import DatasetError
from fieldwise.generate.rows import place, read_own
from fieldwise.generate.settings import DataSettings, SplitSettings
from fieldwise.prompts import is_declined
from fieldwise.rows.formats import Item
from fieldwise.rows.items import ItemReader, Read


@pytest.mark.parametrize("domain", DOMAINS)
def test_samples_differ_and_every_answer_stands_once_in_its_passage(domain: str) -> None:
    made = list(samples(domain, 1500, 42))
    assert len({s.question.casefold() for s in made}) == len({s.context for s in made}) == 1500
    for s in made:
        assert not re.search(r"[{}]", s.question + s.context + s.answer + s.wrong)
        if is_declined(s.answer):
            assert s.wrong not in s.context
        else:
            assert s.context.count(s.answer) == 1 and s.wrong != s.answer
    kinds = Counter(s.kind for s in made)
    assert 0.08 < kinds["unanswerable"] / 1500 < 0.18 and len(kinds) >= 6
    shapes = {re.sub(r"[A-Z]\w+|\d[\d.,:]*", "_", s.question) for s in made}
    assert len(shapes) >= 40


def test_the_same_seed_gives_the_same_samples() -> None:
    assert list(samples("legal", 50, 7)) == list(samples("legal", 50, 7)) != list(samples("legal", 50, 8))


@pytest.mark.parametrize("target", TARGETS)
def test_samples_are_written_in_every_format_and_labelled_as_invented(tmp_path: Path, target: Target) -> None:
    out = tmp_path / "rows.jsonl"
    count = write_sample("finance", 40, out, target, 42)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == count == (80 if target == "kto" else 40)
    assert all(r["invented"] is True and r["licence"] == "Apache-2.0" for r in rows)
    found = [r.item for r in ItemReader([out], {}) if isinstance(r, Read) and isinstance(r.item, Item)]
    assert len(found) == count
    if target not in ("alpaca", "kto"):  # Alpaca knows no passages
        answered = [i for i in found if not is_declined(i.reply)]
        assert answered and all(i.reply.endswith(" [1]") for i in answered)


def test_the_doctor_finds_nothing_to_mend_and_a_recipe_can_train_on_them(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    write_sample("healthcare", 200, out, "qa", 42)
    report = examine(out, Base.named("fieldwise-nano"), {})
    assert report.is_fit and report.splits["all"]["used"] == 200
    result = place(read_own({"rows.jsonl": DataSettings(path=str(out))}), (), SplitSettings(), 42)
    assert {e.split for e in result.examples} == {"train", "validation", "test"}


def test_a_grammar_that_has_no_more_to_say_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    from fieldwise.data import sample

    small = {**sample._grammar("legal"), "scenes": sample._grammar("legal")["scenes"][:1]}
    small["pools"] = {**small["pools"], "name": ["Only"], "party": ["Only Ltd"], "other": ["Only Foods"]}
    monkeypatch.setattr(sample, "_grammar", lambda domain: small)
    with pytest.raises(DatasetError, match=r"the grammar has no more to say, found 1\d different rows"):
        list(samples("legal", 1000, 42))


def test_the_command_writes_a_sample_and_refuses_what_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "rows.csv")
    assert main(["data", "sample", "legal", "--num-samples", "5", "--out", out]) == 0
    assert capsys.readouterr().out == f"wrote      {out}: 5 rows as qa, all invented; licence Apache-2.0\n"
    for wrong, told in (
        (["legal", "--out", out], "there is a file already"),
        (["sports", "--out", out, "--force"], "unknown domain, found 'sports'"),
        (["legal", "--out", out, "--force", "--num-samples", "0"], "a sample needs rows, found 0"),
    ):
        assert main(["data", "sample", *wrong]) == 2
        assert told in capsys.readouterr().err
