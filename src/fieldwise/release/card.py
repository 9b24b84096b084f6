"""The model card: what the model is, what it was measured to do, what it has read, and who let it out."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from fieldwise import __version__
from fieldwise.records import BaseWeights, ModelBuild


def model_card(
    *,
    name: str,
    domain: str,
    base: BaseWeights,
    builds: Sequence[ModelBuild],
    verdict: str,
    override: str | None,
    report: str,
    data: dict[str, JsonValue],
    documents: int,
    licences: Sequence[str],
) -> str:
    """Return the card as Markdown with front matter that hubs read."""
    front = [
        "---",
        f"base_model: {base.model}",
        f"license: {base.licence or 'other'}",
        "language: en",
        "pipeline_tag: text-generation",
        "library_name: gguf",
        "tags:",
        f"- {domain}",
        "- fieldwise",
        "---",
        "",
    ]
    body = [
        f"# {name}",
        "",
        f"A small language model for the field *{domain}*, tuned with Fieldwise {__version__} from {base.model} on {documents} documents. It answers from passages it is shown, cites them, and says so when they do not tell.",
        "",
        "## Released",
        "",
        f"Gates: **{verdict}**." + (f" Released all the same: {override}." if override else ""),
        "",
        "## Measured",
        "",
        report.strip(),
        "",
        "## Files",
        "",
        "| file | types found | MB | greatest logit difference | top-1 agreement with 32 bits | token F1 |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(build) for build in builds),
        "",
        "## What it has read",
        "",
        f"{documents} documents; {data.get('train')} training examples and {data.get('preference_pairs')} preference pairs, data version `{data.get('version')}`. `fieldwise trace FILE --run DIR` lists every file this card describes that has read a document.",
        "",
        f"Terms of the documents: {', '.join(licences) or 'not stated in the recipe'}.",
        "",
        "## What it must not be used for",
        "",
        "It knows nothing beyond the passages it is given and may still quote the wrong one. It must not decide about people, treatment, rights or money without a person who reads the cited passage.",
        "",
    ]
    return "\n".join([*front, *body])


def _row(build: ModelBuild) -> str:
    types = ", ".join(f"{n} {t}" for t, n in sorted(build.tensor_types.items()))
    parity = build.parity
    difference, agreement, score = (parity.get(k) for k in ("max_logit_difference", "top1_agreement", "token_f1"))
    shown = [f"{float(str(v)):.3g}" if v is not None else "-" for v in (difference, agreement, score)]
    return f"| {build.path.rpartition('/')[2]} | {types} | {build.bytes / 1e6:.1f} | {' | '.join(shown)} |"
