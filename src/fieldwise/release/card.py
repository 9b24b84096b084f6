"""The model card: what the model is, what it was measured to do, what it has read, and who let it out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from fieldwise import __version__
from fieldwise.records import BaseWeights, ModelBuild
from fieldwise.retrieve.decline import DeclineRule


def model_card(
    *,
    name: str,
    domain: str,
    base: BaseWeights,
    builds: Sequence[ModelBuild],
    verdict: str,
    override: str | None,
    gated: Mapping[str, dict[str, JsonValue] | None],
    decline: DeclineRule | None,
    report: str,
    data: dict[str, JsonValue],
    read: tuple[int, int],
    licences: Sequence[str],
) -> str:
    """Return the card as Markdown with front matter that hubs read; `read` is how many documents of how many.

    `gated` holds what the file to serve answered ("served") and, where they were asked, "suites" and "judge".
    """
    served = gated["served"] or {}
    front = [
        "---",
        f"base_model: {base_name(base)}",
        f"license: {base.licence or 'other'}",
        "language: en",
        "pipeline_tag: text-generation",
        "library_name: gguf",
        "tags:",
        f"- {json.dumps(domain, ensure_ascii=False)}",  # quoted: a domain may hold a colon
        "- fieldwise",
        "---",
        "",
    ]
    body = [
        f"# {name}",
        "",
        f"A small language model for the field *{domain}*, tuned with Fieldwise {__version__} from {_base_at(base)} on {read[0]} of {read[1]} documents. It answers from passages it is shown, cites them, and says so when they do not tell.",
        "",
        "## Released",
        "",
        f"Gates: **{verdict}**." + (f" Released all the same: {override}." if override else ""),
        "",
        f"The file to serve, `{served['file']}`, answered the same {served['questions']} questions over passages, {served['same_replies']} of them with the very words of the weights it was made from:",
        "",
        *(f"- **{g['verdict']}** {g['requirement']}: {g['found']}" for g in _rows(served.get("gates"))),
        "",
        *_suites(gated.get("suites")),
        *_judged(gated.get("judge")),
        "## Measured",
        "",
        report.strip(),
        "",
        *_declining(decline),
        "## Files",
        "",
        "| file | types found | MB | greatest logit difference | top-1 agreement with 32 bits | token F1 over passages |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(build) for build in builds),
        "",
        "Only the file to serve is measured on the questions; the others are compared with the 32-bit file alone.",
        "",
        "## What it has read",
        "",
        f"{read[0]} of {read[1]} documents, the others were held out; {data.get('train')} training examples and {data.get('preference_pairs')} preference pairs, data version `{data.get('version')}`. `fieldwise trace FILE --run DIR` lists every file this card describes that has read a document.",
        "",
        *_data_sets(data),
        f"Terms of the documents: {', '.join(licences) or 'not stated in the recipe'}.",
        "",
        "## What it must not be used for",
        "",
        "It knows nothing beyond the passages it is given and may still quote the wrong one. It must not decide about people, treatment, rights or money without a person who reads the cited passage.",
        "",
    ]
    return "\n".join([*front, *body])


def _suites(found: dict[str, JsonValue] | None) -> list[str]:
    """The suites it was put through, with the flaky items that were left out; nothing where there were none."""
    if found is None:
        return []
    lines = ["Put through prepared suites, as the base, after every training, and as the file to serve:", ""]
    lines += [f"- **{g['verdict']}** {g['requirement']}: {g['found']}" for g in _rows(found.get("gates"))]
    flaky = [f for s in _rows(found.get("suites")) for f in _rows(s.get("quarantined"))]
    for one in flaky:
        lines.append(
            f"- in quarantine until {one['expires']}: {one['suite']} `{one['item']}`, passed in {one['passed']} of {one['of']}"
        )
    return [*lines, ""]


def _judged(found: dict[str, JsonValue] | None) -> list[str]:
    if found is None:
        return []
    gates = [f"- **{g['verdict']}** {g['requirement']}: {g['found']}" for g in _rows(found.get("gates"))]
    advice = [f"- a judge's advice, which decided nothing: {found['advice']}"] if found.get("advice") else []
    return [*gates, *advice, ""]


def _data_sets(data: dict[str, JsonValue]) -> list[str]:
    """The rows it was trained on besides documents; nothing where there were none."""
    sets = data.get("data")
    if not isinstance(sets, dict):
        return []
    told = [
        f"- `{name}`: {entry.get('read')} rows. Terms: {entry.get('licence') or 'not stated in the recipe'}."
        for name, entry in sets.items()
        if isinstance(entry, dict)
    ]
    return ["Rows of data sets are among the training examples:", "", *told, ""]


def _declining(rule: DeclineRule | None) -> list[str]:
    """When the service declines although the model would speak; nothing without a fitted rule."""
    if rule is None:
        return []
    return [
        "## When it declines",
        "",
        "Besides the model's own words: a score of how probable it finds declining and how near the best passage is, "
        f"fitted on {rule.answerable} answerable and {rule.unanswerable} unanswerable development questions (area under the curve {rule.auc:.2f}, in sample). "
        f"From a doubt of {rule.threshold:.3f} on the service says that the documents do not tell. "
        "The figures above are with it; a file of this release run elsewhere has only its own words.",
        "",
    ]


def base_name(base: BaseWeights) -> str:
    """Return the base as others may know it: of a local folder its name, since a path of this machine is nobody's."""
    return Path(base.model).name if Path(base.model).expanduser().is_dir() else base.model


def _base_at(base: BaseWeights) -> str:
    return base_name(base) + (f" at revision {base.revision}" if base.revision else "")


def _rows(value: JsonValue) -> list[dict[str, JsonValue]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _row(build: ModelBuild) -> str:
    types = ", ".join(f"{n} {t}" for t, n in sorted(build.tensor_types.items()))
    parity = build.parity
    difference, agreement, score = (parity.get(k) for k in ("max_logit_difference", "top1_agreement", "token_f1"))
    shown = [f"{float(str(v)):.3g}" if v is not None else "-" for v in (difference, agreement, score)]
    return f"| {build.path.rpartition('/')[2]} | {types} | {build.bytes / 1e6:.1f} | {' | '.join(shown)} |"
