"""The release stage: nothing leaves that a gate refuses or whose file is not proven to behave like the weights.

5a build: gate, convert to 32 bits, compare tokens and logits with the weights, quantise, compare again.
5b verify (in room evaluate): the file to serve answers the questions that were measured.
5c release: gate once more with that figure, write card and record.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from fieldwise.engine.base_weights import check_k_quants
from fieldwise.errors import GateFailed, ModelError
from fieldwise.files import read_json, write_json, write_text
from fieldwise.hashing import content_id, sha256_file
from fieldwise.progress import say
from fieldwise.prompts import grounded_prompt
from fieldwise.records import BaseWeights, Chunk, Document, Example, ModelBuild
from fieldwise.release.card import base_name, model_card
from fieldwise.release.gguf import convert
from fieldwise.release.parity import ParityReport, check
from fieldwise.release.quantise import quantise
from fieldwise.release.settings import Quantisation, ReleaseSettings
from fieldwise.retrieve.decline import DeclineRule
from fieldwise.retrieve.index import passage_text
from fieldwise.run import RunFolder, StepRun
from fieldwise.tables import read_records

FOLDER = "6_builds"


def run_build(settings: ReleaseSettings, base: BaseWeights, step: StepRun, *, name: str) -> dict[str, JsonValue]:
    """Write the GGUF files of the selected weights with a record of each; returns their figures.

    Raises GateFailed when a gate said no and the recipe names no override, ModelError when a file is not proven equal.
    """
    report = read_json(step.run.require("5_reports/report.json", "evaluate"))
    _require_gates(report, settings, "5_reports/report.json")
    selected = str(read_json(step.run.require("4_adapters/selected.json", "train"))["selected"])
    weights = step.run.require(f"4_adapters/{selected}/merged", "train")
    adapter = str(read_json(step.run.path / f"4_adapters/{selected}/adapter.json")["id"])
    require_k_quants(settings, weights)
    texts = parity_texts(step.run, settings.parity_prompts)

    slug = slug_of(name)
    whole = step.work / f"{slug}-f32.gguf"
    convert(weights, whole, name=name)
    proof = check(weights, whole, texts)
    _require_proof(proof, whole, settings)
    say(
        f"  32 bits: tokens equal, logits within {proof.max_logit_difference:.1e} of the weights over {proof.positions} positions"
    )
    write_json(step.out(f"{FOLDER}/parity-f32.json"), proof.to_json())

    builds = [_quantised(kind, whole, weights, texts, adapter, slug, step) for kind in settings.quantisations]
    if settings.include_base:
        _base_build(base, slug, step)
    return {
        "selected": selected,
        "max_logit_difference": proof.max_logit_difference,
        "builds": {b.quantisation: {"path": b.path, "bytes": b.bytes, **b.parity} for b in builds},
    }


def run_release(
    settings: ReleaseSettings,
    base: BaseWeights,
    step: StepRun,
    *,
    name: str,
    domain: str,
    has_suites: bool = False,
    judged: dict[str, JsonValue] | None = None,
) -> dict[str, JsonValue]:
    """Gate the file to serve by what it answered, then write `release.json` and the model card.

    With suites their verdicts are gates as well, and so is that of a judge where the recipe asks for it.
    """
    report = read_json(step.run.require("5_reports/report.json", "evaluate"))
    served = read_json(step.run.require("5_reports/served.json", "release"))
    suites = read_json(step.run.require("5_reports/suites.json", "run --stage 5s")) if has_suites else None
    gated = {"report": report, "served": served, "suites": suites, "judge": judged}
    for place, found in gated.items():
        if found is not None:
            _require_gates(found, settings, f"5_reports/{place}.json")
    builds = read_builds(step.run)
    files = [b for b in builds if b.adapter_id is not None]
    base_build = next((b for b in builds if b.adapter_id is None), None)
    to_serve = next((b for b in files if Path(b.path).stem.endswith(settings.serve)), None)
    if to_serve is None:
        raise ModelError(
            "the file to serve was not built",
            where="release.serve",
            found=settings.serve,
            fix=f"Choose one of: {', '.join(settings.quantisations)}.",
        )
    verdict = _worst(*(str(found["verdict"]) for found in gated.values() if found is not None))
    override = settings.override if verdict != "PASS" else None  # nothing was overruled
    to_serve = _with_score(to_serve, served)
    decline = read_json(step.run.require("4_adapters/selected.json", "train")).get("decline")
    files = [to_serve if b.path == to_serve.path else b for b in files]
    record = {
        "name": name,
        "domain": domain,
        "serve": to_serve.quantisation,
        "builds": [b.model_dump(mode="json") for b in files],
        "base_build": base_build.model_dump(mode="json") if base_build else None,
        "decline": decline,
        "verdict": verdict,
        "override": override,
        "base": base_name(base),
        "base_revision": base.revision,
        "base_sha256": base.sha256,
    }
    write_json(step.out(f"{FOLDER}/release.json"), record)
    documents = list(read_records(step.run.path / "2_chunks/documents.parquet", Document))
    examples = read_records(step.run.path / "3_examples/train.parquet", Example)
    card = model_card(
        name=name,
        domain=domain,
        base=base,
        builds=files,
        verdict=verdict,
        override=override,
        gated=gated,
        decline=DeclineRule.model_validate(decline) if isinstance(decline, dict) else None,
        report=step.run.require("5_reports/report.md", "evaluate").read_text(encoding="utf-8"),
        data=read_json(step.run.path / "3_examples/card.json"),
        read=(len({d for e in examples for d in e.document_ids} & {d.id for d in documents}), len(documents)),
        licences=sorted({d.source.licence for d in documents if d.source.licence}),
    )
    write_text(step.out(f"{FOLDER}/MODEL_CARD.md"), card)
    say(f"  released: {to_serve.path} ({to_serve.bytes / 1e6:.1f} MB), gates {verdict}")
    return {"verdict": verdict, "override": override, "serve": to_serve.path, "builds": [b.id for b in files]}


# ---------------------------------------------------------------- requirements


def _require_gates(report: dict[str, JsonValue], settings: ReleaseSettings, where: str) -> None:
    verdict = str(report["verdict"])
    if verdict == "PASS":
        return
    gates = report.get("gates")
    failed = [g for g in gates if isinstance(g, dict) and g.get("verdict") != "PASS"] if isinstance(gates, list) else []
    if settings.override:
        say(f"  released although the gates say {verdict}: {settings.override}")
        return
    raise GateFailed(
        f"the gates say {verdict}, so nothing is released",
        where=where,
        found="; ".join(f"{g['verdict']} {g['requirement']}: {g['found']}" for g in failed),
        fix="Mend what the report shows, or name who takes responsibility and why: release.override='NAME: REASON'.",
    )


def _worst(*verdicts: str) -> str:
    return next((v for v in ("FAIL", "INCONCLUSIVE") if v in verdicts), "PASS")


def _with_score(build: ModelBuild, served: dict[str, JsonValue]) -> ModelBuild:
    """The record of the file to serve with the task score that it reached itself."""
    figures = served.get("figures")
    figure = figures.get("token_f1") if isinstance(figures, dict) else None
    score = figure.get("value") if isinstance(figure, dict) else None
    return build.model_copy(update={"parity": {**build.parity, "token_f1": score}})


def require_k_quants(settings: ReleaseSettings, weights: Path) -> None:
    """Raise ModelError if a wanted K-quant does not fit the sizes of the weights: known before any training."""
    wanted = [q for q in settings.quantisations if q.endswith(("_k", "_k_m", "_k_s"))]
    problem = check_k_quants(weights)
    if wanted and problem:
        raise ModelError(
            f"these weights do not allow {', '.join(wanted)}",
            where="release.quantisations",
            found=problem,
            fix="Choose q8_0, q5_0 or q4_0, which need multiples of 32, or a base whose sizes are multiples of 256.",
        )


def _require_proof(proof: ParityReport, file: Path, settings: ReleaseSettings) -> None:
    problems = proof.problems(settings.max_logit_difference)
    if problems:
        raise ModelError(
            "the file does not behave like the weights it was made from",
            where=file.name,
            found="; ".join(problems[:3]),
            fix="Nothing was released. Please report it with the architecture and tokenizer of the base.",
        )


def parity_texts(run: RunFolder, count: int) -> list[str]:
    """Texts of the kind the model will see: prompts over the run's own passages, spread over the documents."""
    chunks = list(read_records(run.require("2_chunks/chunks.parquet", "prepare"), Chunk))
    every = max(1, len(chunks) // count)
    return [
        grounded_prompt("What does the passage say?", [passage_text(c)])[-1].content for c in chunks[::every][:count]
    ]


# ---------------------------------------------------------------- files


def slug_of(name: str) -> str:
    """Return a file name of a model's name: `My model` becomes `my-model`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"


def read_builds(run: RunFolder) -> list[ModelBuild]:
    """Return the records of all files that were built."""
    return [ModelBuild.model_validate(read_json(p)) for p in sorted((run.path / FOLDER).glob("*.build.json"))]


def _quantised(
    kind: Quantisation, whole: Path, weights: Path, texts: Sequence[str], adapter: str, slug: str, step: StepRun
) -> ModelBuild:
    out = step.out(f"{FOLDER}/{slug}-{kind}.gguf")
    info = quantise(whole, out, kind)
    if warning := info.warning():
        say(f"  {warning}")
    proof = check(weights, out, texts, reference=whole)
    if proof.token_mismatches:
        raise ModelError(
            "the quantised file splits text into other tokens than the weights",
            where=out.name,
            found="; ".join(proof.problems()[:2]),
        )
    say(
        f"  {kind}: {info.bytes / 1e6:.1f} MB, same first choice as 32 bits on {proof.top1_agreement:.1%} of positions, perplexity x {proof.perplexity_ratio:.3f}"
    )
    parity: dict[str, JsonValue] = {
        "max_logit_difference": proof.max_logit_difference,
        "top1_agreement": proof.top1_agreement,
        "kl_divergence": proof.kl_divergence,
        "perplexity_ratio": proof.perplexity_ratio,
        "positions": proof.positions,
    }
    return _record(out, info.actual, info.tensor_types, adapter, parity, step)


def _base_build(base: BaseWeights, slug: str, step: StepRun) -> ModelBuild:
    """The untuned base beside the tuned model, so that both can be asked and compared."""
    whole = step.work / "base-f32.gguf"
    convert(Path(base.path), whole, name=f"{slug}-base")
    out = step.out(f"{FOLDER}/{slug}-base-q8_0.gguf")
    info = quantise(whole, out, "q8_0")
    whole.unlink()
    return _record(out, info.actual, info.tensor_types, None, {}, step)


def _record(
    out: Path,
    quantisation: str,
    types: dict[str, int],
    adapter: str | None,
    parity: dict[str, JsonValue],
    step: StepRun,
) -> ModelBuild:
    digest = sha256_file(out)
    build = ModelBuild(
        id=content_id("bld", digest),
        format="gguf",
        quantisation=quantisation,
        adapter_id=adapter,
        sha256=digest,
        bytes=out.stat().st_size,
        path=f"{FOLDER}/{out.name}",
        tensor_types=types,
        parity=parity,
    )
    write_json(step.out(f"{FOLDER}/{out.stem}.build.json"), build.model_dump(mode="json"))
    return build
