import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import edit_json
from transformers import AutoTokenizer

from fieldwise.cli import main
from fieldwise.errors import FieldwiseError, ModelError
from fieldwise.records import Chunk, Document, Source
from fieldwise.tables import write_records
from fieldwise.train import hardware
from fieldwise.train.distil_memory import with_teacher
from fieldwise.train.distil_settings import DistillationSettings, TeacherSettings
from fieldwise.train.forecast import require_base, require_trainable, told_before
from fieldwise.train.memory import Estimate
from fieldwise.train.plan import Fitted, first_plan
from fieldwise.train.settings import SftSettings, TrainSettings
from fieldwise.train.shape import read_shape


@pytest.fixture
def run(tmp_path: Path, examples, pairs) -> Path:
    (tmp_path / "run/3_examples").mkdir(parents=True)
    write_records(tmp_path / "run/3_examples/train.parquet", examples, type(examples[0]))
    write_records(tmp_path / "run/3_examples/preferences.parquet", pairs, type(pairs[0]))
    return tmp_path / "run"


def test_the_forecast_names_both_trainings_and_what_they_take(base: Path, run: Path) -> None:
    sft, preference = told_before(TrainSettings(), base, run).splitlines()
    assert sft.startswith("sft: 2 x 8 packed rows of 512 tokens a step, float32 weights") and "GB at the peak" in sft
    assert preference.startswith("preference: 4 x 4 pairs of 768 tokens a step") and "on an idle machine" in preference
    before_stage_3, _ = told_before(TrainSettings(), base, run / "empty").splitlines()
    assert "GB at the peak" in before_stage_3 and "idle machine" not in before_stage_3


def test_reading_the_documents_and_training_all_weights_are_forecast_too(base: Path, run: Path) -> None:
    settings = TrainSettings.model_validate({"pretrain": {"enabled": True}, "sft": {"method": "full"}})
    read, sft, _ = told_before(settings, base, run).splitlines()
    assert read.startswith("pretrain: 2 x 8 packed rows of 512 tokens a step") and "GB at the peak" in read
    assert "float32 weights, all of them trained" in sft and "all of them" not in read


def test_what_has_its_data_is_forecast_with_the_time(base: Path, run: Path) -> None:
    document = Document.make(title="Lease", text="The tenant pays by the month. " * 400, source=Source(uri="a.md"))
    (run / "2_chunks").mkdir()
    settings = TrainSettings.model_validate(
        {
            "pretrain": {"enabled": True},
            "reward": {"enabled": True},
            "rl": {"enabled": True, "batch_size": 4, "max_new_tokens": 8},
        }
    )
    before = told_before(settings, base, run).splitlines()
    assert "idle machine" not in before[0] and all("idle machine" in line for line in before[1:])
    write_records(run / "2_chunks/chunks.parquet", [Chunk.make(document, 0, len(document.text))], Chunk)
    read, *_, reward, rl = told_before(settings, base, run).splitlines()
    assert read.startswith("pretrain") and "idle machine" in read
    assert reward.startswith("reward") and rl.startswith("rl")


def test_a_teacher_is_counted_before_any_stage(base: Path, tmp_path: Path, monkeypatch) -> None:
    def learning(method: str) -> TrainSettings:
        return TrainSettings.model_validate({"distillation": {"method": method, "teacher": {"model": str(base)}}})

    sft = told_before(learning("on_policy"), base, tmp_path / "run").splitlines()[0]
    assert "more for the teacher" in sft
    assert "teacher" not in told_before(learning("token"), base, tmp_path / "run")
    monkeypatch.setattr("fieldwise.train.distil_memory._COPIES", 10**9)
    with pytest.raises(ModelError, match="does not fit into memory beside its teacher"):
        require_trainable(learning("on_policy"), base)


def test_a_teacher_that_is_asked_beforehand_needs_room_for_itself_alone(base: Path, device) -> None:
    shape = read_shape(base)
    assert shape is not None
    plan = first_plan("sft", TrainSettings(), SftSettings(), hardware.PRESETS["cpu"], device)
    own = DistillationSettings(method="token", teacher=TeacherSettings(model=str(base)))
    parts = Estimate(1.0, 0.0, 0.0, 0.0, 0.0, libraries=1000.0, merge=0.0)
    room = 4 * shape.parameters + 1000
    with_teacher(Fitted(plan, parts, room, ()), own, base, base)
    with pytest.raises(ModelError, match=r"train\.distillation\.teacher\.model: the teacher does not fit"):
        with_teacher(Fitted(plan, parts, room - 1, ()), own, base, base)
    beside = own.model_copy(update={"method": "on_policy"})
    one, two = (
        with_teacher(Fitted(replace(plan, micro_batch=n, max_length=10_000), parts, None, ()), beside, base, base)
        for n in (1, 2)
    )
    assert one.reasons != two.reasons  # whole rows of probabilities for each that is read at once


def test_the_forecast_loads_nothing_heavy(base: Path, run: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fieldwise.train.forecast import told_before;"
        "from fieldwise.train.settings import TrainSettings;"
        f"print(told_before(TrainSettings(), Path({str(base)!r}), Path({str(run)!r})));"
        "print(sorted({'torch', 'transformers', 'trl', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_training_that_can_never_fit_is_refused_before_any_stage(base: Path, monkeypatch) -> None:
    require_trainable(TrainSettings(), base)
    small = hardware.this_machine()._replace(memory=300_000_000)
    monkeypatch.setattr("fieldwise.train.forecast.this_machine", lambda: small)
    with pytest.raises(ModelError, match="does not fit into memory"):
        require_trainable(TrainSettings(), base)


def test_a_preset_for_a_gpu_that_is_not_there_is_refused(base: Path, monkeypatch) -> None:
    bare = hardware.this_machine()._replace(gpus=())
    monkeypatch.setattr("fieldwise.train.forecast.this_machine", lambda: bare)
    with pytest.raises(FieldwiseError, match=r"train\.hardware"):
        require_trainable(TrainSettings(hardware="80gb"), base)


def test_weights_with_fewer_embeddings_than_the_tokenizer_has_tokens(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "few"))
    tokens = len(AutoTokenizer.from_pretrained(base))
    edit_json(folder / "config.json", vocab_size=tokens - 1)
    with pytest.raises(
        ModelError, match=rf"more tokens than the base model has embeddings, found token {tokens - 1}, "
    ):
        require_base(folder)
    edit_json(folder / "config.json", vocab_size=tokens)
    require_base(folder)


def test_weights_that_are_quantised_already(base: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base, tmp_path / "q"))
    edit_json(folder / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(ModelError, match=r"quantised already.*found bitsandbytes.*quantisation=4bit"):
        require_trainable(TrainSettings(), folder)


def test_rows_longer_than_the_model_reads_are_refused_before_any_stage(base: Path) -> None:
    with pytest.raises(ModelError, match=r"train\.sft\.max_length.*context is 1024"):
        require_trainable(TrainSettings(sft=SftSettings(max_length=2048)), base)


def test_the_journey_asks_before_its_first_stage(base: Path, tmp_path: Path, capsys) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "visits.md").write_text("# Visits\n\nVisitors leave the ward at 20:00.\n")
    quantised = Path(shutil.copytree(base, tmp_path / "q"))
    edit_json(quantised / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    run = tmp_path / "run"
    recipe = tmp_path / "recipe.yaml"
    command = ["run", "--config", str(recipe), "--run", str(run), "--end", "4b", "--quiet"]
    recipe.write_text(f"base: {{model: {base}}}\ncollect: {{sources: [{documents}]}}\n")
    assert main([*command, "--dry-run"]) == 0
    assert "sft: 2 x 8 packed rows" in capsys.readouterr().out
    recipe.write_text(f"base: {{model: {quantised}}}\ncollect: {{sources: [{documents}]}}\n")
    for extra in (["--dry-run"], []):
        assert main([*command, *extra]) == 2
        assert "quantised already" in capsys.readouterr().err
    assert not list(run.glob("1_*"))
