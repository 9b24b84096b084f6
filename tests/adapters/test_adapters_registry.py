"""The registry, merges, differences and removals over runs that are published as the stages publish them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from adapter_runs import Home, example, make_home
from safetensors.torch import load_file
from tiny_models import edit_json
from transformers import AutoModelForCausalLM

from fieldwise.adapters.difference import difference
from fieldwise.adapters.lineage import taught
from fieldwise.adapters.merge import Order, compare_methods, gather, make
from fieldwise.adapters.methods import Plan
from fieldwise.adapters.registry import Choice, open_registry
from fieldwise.adapters.removal import depends, remove
from fieldwise.errors import FieldwiseError
from fieldwise.files import write_json
from fieldwise.hashing import sha256_of_files
from fieldwise.lineage import Lineage


@pytest.fixture
def home(base: Path, tmp_path: Path) -> Home:
    return make_home(tmp_path / "runs/first", base)


@pytest.fixture
def other(base: Path, tmp_path: Path) -> Home:
    return make_home(tmp_path / "runs/second", base, "linen", "keys", "meals")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_it_says_of_each_adapter_what_it_stands_on_and_what_was_measured(
    home: Home, base: Path, tmp_path: Path
) -> None:
    sft, preferred = home.train(tmp_path / "made")
    assert [e.status for e in open_registry([home.run.path]).entries] == [("not chosen yet",)] * 2
    home.measure("preference", right=12, verdict="FAIL")
    entries = {e.name: e for e in open_registry([home.run.path]).entries}
    assert {n: e.id for n, e in entries.items()} == {"sft": sft, "preference": preferred}
    tuned, preferred = entries["sft"], entries["preference"]
    assert tuned.status == ("not selected",) and preferred.status == ("selected", "gates FAIL")
    assert tuned.base == str(base) and preferred.parents == (sft,) and preferred.root_sha256 == tuned.base_sha256
    assert tuned.lora is not None and tuned.lora.rank == 4 and "q_proj" in tuned.lora.targets
    assert tuned.data is not None and tuned.data.startswith("dat_") and tuned.examples == 2
    assert set(tuned.metrics) == {"sft"} and set(preferred.metrics) == {"preference", "rag_tuned"}
    assert preferred.metrics["rag_tuned"]["overall_f1"].value == 0.5
    assert tuned.selection is None and preferred.selection == Choice(metric="f1", score=0.5, items=3)
    assert tuned.training == {"loss": 1.25} and tuned.verdict is None and preferred.verdict == "FAIL"


def test_a_later_training_supersedes_and_keeps_what_was_measured_of_the_earlier(home: Home, tmp_path: Path) -> None:
    first, _ = home.train(tmp_path / "one", preference=False)
    home.measure("sft", right=6)
    second, _ = home.train(tmp_path / "two", seed=2, preference=False)
    entries = {e.id: e for e in open_registry([home.run.path]).entries}
    assert entries[first].status == ("superseded", "gates PASS") and not entries[first].is_standing
    assert entries[first].metrics["rag_tuned"]["overall_f1"].value == 0.25
    # the choice and the report that still stand were made from the other weights
    assert entries[second].status == ("not chosen yet",) and entries[second].metrics == {}


def test_a_release_is_seen(home: Home, tmp_path: Path) -> None:
    sft, _ = home.train(tmp_path / "made", preference=False)
    home.measure("sft", right=6)
    write_json(home.run.path / "6_builds/release.json", {"builds": [{"adapter_id": sft}]})
    registry = open_registry([home.run.path])
    assert registry.entries[0].status == ("released", "selected", "gates PASS")
    assert any("the release of" in reason for reason in depends(registry, registry.held[0]))


def test_it_finds_runs_below_a_folder_and_adapters_by_id_or_place(home: Home, other: Home, tmp_path: Path) -> None:
    sft, _ = home.train(tmp_path / "one")
    home.measure("sft", right=3)
    other.train(tmp_path / "two", seed=3)
    registry = open_registry([tmp_path / "runs"])
    assert len(registry.entries) == 4
    assert registry.find(sft[4:12]).entry.id == registry.find(f"{home.run.path}:sft").entry.id == sft
    with pytest.raises(FieldwiseError, match=r"several adapters fit.*second:sft"):
        registry.find("sft")
    with pytest.raises(FieldwiseError, match=f"no adapter fits.*there are: .*{sft}"):
        registry.find("ada_nothing")
    with pytest.raises(FieldwiseError, match="no run stands here"):
        open_registry([tmp_path / "made"])


def test_what_it_was_taught_is_found_by_ids(home: Home, tmp_path: Path) -> None:
    home.train(tmp_path / "made")
    registry = open_registry([home.run.path])
    seen = taught(registry, registry.find("preference"))
    assert seen.examples == 3 and seen.found == 2  # the pair's id is made up
    assert seen.kinds == {"fact": 2} and seen.documents == ("linen.md", "rota.md")
    assert "What is linen?" in seen.sample


# ---------------------------------------------------------------- merging


def order(*wanted: tuple[str, float | None], **more: object) -> Order:
    plan = more.pop("plan", Plan())
    return Order(wanted, plan, str(more.pop("name", "both")), **more)  # type: ignore[arg-type]


def test_a_chain_merged_in_full_is_the_tuned_weights(home: Home, tmp_path: Path) -> None:
    _, preferred = home.train(tmp_path / "made")
    registry = open_registry([home.run.path])
    made, was_there = make(registry, order((str(preferred), 1.0), chain=True, full=True), home.run)
    assert not was_there and made.error < 1e-6 and made.rank == 8 and made.parts[0].chain != ()
    ours = weights_of(home.run.path / str(made.weights))
    tuned = weights_of(home.run.path / "4_adapters/preference/merged")
    assert set(ours) == set(tuned)
    assert max(float((ours[n] - tuned[n]).abs().max()) for n in ours) < 1e-5
    ids = torch.arange(40, 80).unsqueeze(0)
    loaded = AutoModelForCausalLM.from_pretrained(home.run.path / str(made.weights))
    wanted = AutoModelForCausalLM.from_pretrained(home.run.path / "4_adapters/preference/merged")
    with torch.no_grad():
        assert torch.allclose(loaded(ids).logits, wanted(ids).logits, atol=1e-3)


def test_a_merge_is_a_step_of_its_run_that_registry_and_trace_see(home: Home, other: Home, tmp_path: Path) -> None:
    one, _ = home.train(tmp_path / "one", preference=False)
    two, _ = other.train(tmp_path / "two", seed=3, rank=2, preference=False)
    registry = open_registry([tmp_path / "runs"])
    wanted = order((one, 0.5), (two, -0.25))
    made, _ = make(registry, wanted, home.run)
    assert make(registry, wanted, home.run) == (made, True)
    assert made.rank == 6 and made.error < 1e-6 and [p.weight for p in made.parts] == [0.5, -0.25]
    entry = open_registry([tmp_path / "runs"]).find("both").entry
    assert entry.id == made.id and entry.parents == (one, two) and entry.status == ("merged",)
    lineage = Lineage(home.run)
    up = lineage.upward(lineage.find(made.id))
    assert {n.id for n in up["adapter"]} == {one, two} and len(up["example"]) == 2
    assert made.id in {n.id for n in lineage.downward(lineage.find(example("linen").id))["adapter"]}
    (home.run.path / made.path / "adapter_config.json").unlink()  # put back from the store
    assert make(registry, wanted, home.run) == (made, True)
    assert (home.run.path / made.path / "adapter_config.json").is_file()
    with pytest.raises(FieldwiseError, match="another merge of this name"):
        make(registry, order((one, 0.5), (two, 0.5)), home.run)


def test_the_same_merge_has_the_same_bytes_in_any_order_of_its_parts(home: Home, other: Home, tmp_path: Path) -> None:
    one, _ = home.train(tmp_path / "one", preference=False)
    two, _ = other.train(tmp_path / "two", seed=3, preference=False)
    registry = open_registry([tmp_path / "runs"])
    plan = Plan("dare", rank=3, density=0.5, seed=7)
    make(registry, order((one, 0.5), (two, 0.5), plan=plan, name="x"), home.run)
    make(registry, order((two, 0.5), (one, 0.5), plan=plan, name="y"), other.run)
    tensors = [
        load_file(run.path / f"4_adapters/merges/{name}/adapter/adapter_model.safetensors")
        for run, name in ((home.run, "x"), (other.run, "y"))
    ]
    assert all(torch.allclose(tensors[0][n].abs(), tensors[1][n].abs(), atol=1e-5) for n in tensors[0])


def test_every_method_is_compared_with_the_exact_sum(home: Home, other: Home, tmp_path: Path) -> None:
    one, _ = home.train(tmp_path / "one", preference=False)
    two, _ = other.train(tmp_path / "two", seed=3, preference=False)
    registry = open_registry([tmp_path / "runs"])
    found = compare_methods(gather(registry, order((one, None), (two, None))), Plan())
    assert float(found["cat"]) < 1e-6 < float(found["svd"]) < float(found["ties"])
    assert float(found["svd"]) < float(found["dare"]) and float(found["linear"]) > 0.1


def test_adapters_of_different_bases_are_refused_with_the_way_out(
    home: Home, other: Home, base: Path, tmp_path: Path
) -> None:
    sft, preferred = home.train(tmp_path / "one")
    registry = open_registry([home.run.path])
    with pytest.raises(FieldwiseError, match=r"different bases.*--chain"):
        gather(registry, order((sft, None), (str(preferred), None)))
    assert gather(registry, order((sft, None), (str(preferred), None), chain=True)).base == str(base)
    shutil.copytree(base, tmp_path / "base")
    edit_json(tmp_path / "base/config.json", max_position_embeddings=512)
    strange = make_home(tmp_path / "runs/third", tmp_path / "base")
    third, _ = strange.train(tmp_path / "three", seed=3, preference=False)
    with pytest.raises(FieldwiseError, match=r"different bases.*Train them on one base"):
        gather(open_registry([tmp_path / "runs"]), order((sft, None), (third, None)))
    with pytest.raises(FieldwiseError, match="some adapters have a weight"):
        gather(registry, order((sft, 1.0), (str(preferred), None), chain=True))


def test_full_weights_need_the_base_itself_in_16_or_32_bits(home: Home, base: Path, tmp_path: Path) -> None:
    sft, _ = home.train(tmp_path / "made", preference=False)
    registry = open_registry([home.run.path])
    shutil.copytree(base, tmp_path / "other")
    edit_json(tmp_path / "other/config.json", max_position_embeddings=512)
    with pytest.raises(FieldwiseError, match="not the weights that the adapters were trained on"):
        make(registry, order((sft, 1.0), full=True, base=tmp_path / "other"), home.run)
    # an adapter of a base that is itself quantised
    quantised = tmp_path / "quantised"
    shutil.copytree(base, quantised)
    edit_json(quantised / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    coarse = make_home(tmp_path / "runs/coarse", quantised)
    four = coarse.train_on_plain(tmp_path / "four", base)
    registry = open_registry([coarse.run.path])
    with pytest.raises(FieldwiseError, match=r"the base is quantised.*bitsandbytes, 4 bits.*--base FOLDER"):
        make(registry, order((four, 1.0), full=True), coarse.run)
    assert not (coarse.run.path / "4_adapters/merges").exists() and not list(coarse.run.path.glob(".tmp-*"))
    made, _ = make(registry, order((four, 1.0), full=True, base=base), coarse.run)
    plain, merged = weights_of(base), weights_of(coarse.run.path / str(made.weights))
    name = "model.layers.0.mlp.up_proj.weight"
    assert made.weights_dtype == "float32" and not torch.equal(plain[name], merged[name])
    assert torch.equal(plain["model.embed_tokens.weight"], merged["model.embed_tokens.weight"])


def test_rounding_to_16_bits_is_told(home: Home, tmp_path: Path) -> None:
    sft, _ = home.train(tmp_path / "made", preference=False)
    registry = open_registry([home.run.path])
    lost = {}
    for dtype in ("float32", "bfloat16", "float16"):
        made, _ = make(registry, order((sft, 0.01), full=True, dtype=dtype, name=dtype), home.run)
        lost[dtype] = made.weights_rounding or 0.0
        folder = home.run.path / str(made.weights)
        assert {str(t.dtype) for t in weights_of(folder).values()} == {f"torch.{dtype}"}
        assert json.loads((folder / "config.json").read_text())["dtype"] == dtype
    assert lost["float32"] < 1e-4 < lost["float16"] < lost["bfloat16"]


def test_modules_that_only_one_adapter_updates_count_as_zero_in_the_other(
    home: Home, tmp_path: Path, base: Path
) -> None:
    from peft import PeftModel

    one, _ = home.train(tmp_path / "one", preference=False)
    narrow = make_home(tmp_path / "runs/narrow", base)
    two = narrow.train_on_plain(tmp_path / "two", base, targets=["q_proj"])
    registry = open_registry([tmp_path / "runs"])
    made, _ = make(registry, order((two, 1.0), (one, 1.0)), home.run)
    tensors = load_file(home.run.path / made.path / "adapter_model.safetensors")
    assert {t.shape[0] for n, t in tensors.items() if ".lora_A." in n} == {8}  # one rank throughout, filled up
    bare = AutoModelForCausalLM.from_pretrained(base)
    both = PeftModel.from_pretrained(bare, home.run.path / made.path)
    up = both.base_model.model.get_submodule("model.layers.0.mlp.up_proj").get_delta_weight("default")
    alone = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), home.run.path / "4_adapters/sft/adapter"
    )
    wanted = alone.base_model.model.get_submodule("model.layers.0.mlp.up_proj").get_delta_weight("default")
    assert torch.allclose(up, wanted, atol=1e-5)


# ---------------------------------------------------------------- differences and removal


def test_a_difference_tells_settings_data_figures_and_weights(home: Home, other: Home, tmp_path: Path) -> None:
    home.train(tmp_path / "one", rank=4)
    home.measure("sft", right=4)
    other.train(tmp_path / "two", rank=2, seed=9)
    other.measure("sft", right=20)
    registry = open_registry([tmp_path / "runs"])
    first, second = registry.find(f"{home.run.path}:sft"), registry.find(f"{other.run.path}:sft")
    found = difference(registry, first, second)
    assert {c.key: (c.first, c.second) for c in found.settings} == {"rank": (4, 2), "seed": (1, 9)}
    assert (found.data.common, found.data.only_first, found.data.only_second) == (1, 1, 2)
    change = next(c for c in found.metrics if c.metric == "overall_f1" and c.first_system == "rag_tuned").difference
    assert change.value is not None and change.value > 0.3 and change.low is not None and change.low > 0
    assert change.p_adjusted is not None and change.p_adjusted < 0.05
    module = found.weights[0]
    assert module.difference == pytest.approx(
        (module.first**2 + module.second**2 - 2 * (module.cosine or 0) * module.first * module.second) ** 0.5
    )
    same = difference(registry, first, first)
    assert same.settings == () and max(m.difference for m in same.weights) < 1e-6
    assert all(m.cosine == pytest.approx(1) for m in same.weights)


def test_the_difference_of_preference_to_its_sft_is_what_it_added(home: Home, tmp_path: Path) -> None:
    home.train(tmp_path / "made")
    registry = open_registry([home.run.path])
    found = difference(registry, registry.find("sft"), registry.find("preference"))
    assert found.is_chained and found.no_weights is None
    from fieldwise.adapters.factors import read_updates

    added = read_updates(registry.find("preference").files)
    for module in found.weights:
        assert module.difference == pytest.approx(added[module.module].norm(), rel=1e-6)


def test_what_is_needed_is_not_removed(home: Home, tmp_path: Path) -> None:
    sft, preferred = home.train(tmp_path / "one")
    home.measure("preference", right=3)
    registry = open_registry([home.run.path])
    make(registry, order((str(preferred), 1.0), chain=True), home.run)
    registry = open_registry([home.run.path])
    before = sha256_of_files([p for p in home.run.path.rglob("*") if p.is_file() and p.name != "lock"], home.run.path)
    with pytest.raises(FieldwiseError, match=r"both \(merge cat.*4b_train made, and 4c_select, 4d_evaluate read it"):
        remove(registry, registry.find(str(preferred)))
    with pytest.raises(FieldwiseError, match=f"{preferred}.* was made on it"):
        remove(registry, registry.find(sft))
    after = sha256_of_files([p for p in home.run.path.rglob("*") if p.is_file() and p.name != "lock"], home.run.path)
    assert before == after


def test_a_superseded_training_goes_and_what_others_share_stays(home: Home, tmp_path: Path) -> None:
    sft, preferred = home.train(tmp_path / "one")
    home.train(tmp_path / "two", seed=2)
    standing = {p: p.read_bytes() for p in (home.run.path / "4_adapters").rglob("*") if p.is_file()}
    registry = open_registry([home.run.path])
    with pytest.raises(FieldwiseError, match="was made on it"):
        remove(registry, registry.find(sft))
    keys = len(list((home.run.store / "keys").glob("*.json")))
    assert remove(registry, registry.find(str(preferred))).bytes > 100_000
    registry = open_registry([home.run.path])
    assert registry.by_id(str(preferred)) is None and registry.by_id(sft) is not None
    remove(registry, registry.find(sft))
    assert len(list((home.run.store / "keys").glob("*.json"))) == keys - 1
    assert standing == {p: p.read_bytes() for p in (home.run.path / "4_adapters").rglob("*") if p.is_file()}
    manifest = home.run.manifest("4b_train")
    assert manifest is not None and home.run.damaged_outputs(manifest) == []
    assert home.run.stored(manifest.key) is not None  # the tokenizer of both trainings is one content


def test_a_merge_goes_whole(home: Home, tmp_path: Path) -> None:
    sft, _ = home.train(tmp_path / "one", preference=False)
    make(open_registry([home.run.path]), order((sft, 1.0), full=True), home.run)
    registry = open_registry([home.run.path])
    gone = remove(registry, registry.find("both", one_place=True))
    assert gone.files >= 3 and not (home.run.path / "4_adapters/merges").exists()
    assert not list(home.run.manifests.glob("4m_*"))
    manifest = home.run.manifest("4b_train")
    assert manifest is not None and home.run.stored(manifest.key) is not None


# ---------------------------------------------------------------- the command


def test_the_command_prints_tables_and_json(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import argparse

    from fieldwise.commands import adapters
    from fieldwise.commands.common import parents

    def call(*words: str) -> str:
        parser = argparse.ArgumentParser()
        adapters.add(parser.add_subparsers(), parents())
        options = parser.parse_args(["adapters", *words])
        options.json = getattr(options, "json", False)
        assert options.command(options) == 0
        return capsys.readouterr().out

    sft, preferred = home.train(tmp_path / "one")
    home.measure("preference", right=12, verdict="FAIL")
    place = str(home.run.path)
    assert f"{preferred}" in (listed := call("list", "--run", place)) and "selected, gates FAIL" in listed
    assert [e["id"] for e in json.loads(call("list", "--run", place, "--json"))] == [preferred, sft]
    shown = call("show", "preference", "--run", place)
    assert f"stands on  {sft}" in shown and "0.50 [0.10, 0.90]" in shown and "linen" in shown
    assert "Frobenius norms of the updates, with what was merged" in call("diff", "sft", "preference", "--run", place)
    assert "svd" in call("merge", "--run", place, "--chain", "--compare", f"{preferred}=1", f"{sft}=-0.5")
    told = call("merge", "--run", place, "--chain", "--name", "both", f"{preferred}=1", f"{sft}=-0.5")
    assert "cat of 2, rank 12" in told and f"{place}/4_adapters/merges/both/adapter" in told and "up_proj" in told
    assert json.loads(call("show", "both", "--run", place, "--json"))["merge"]["rank"] == 12
    assert "removed" in call("remove", "both", "--run", place)
    with pytest.raises(FieldwiseError, match="ADAPTER=NUMBER"):
        call("merge", "--run", place, "--name", "x", "sft=much")
    with pytest.raises(FieldwiseError, match="needs a name"):
        call("merge", "--run", place, "sft")
