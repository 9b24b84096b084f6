"""Look at a data set as a training would meet it: what is in it, what the base makes of it, what would spoil a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fieldwise.data.contamination import NEAR_COSINE, Benchmark, BenchmarkItem, Contaminated, Contamination
from fieldwise.data.findings import Finding, Places, Severity, by_share, rows
from fieldwise.data.overlap import NGRAM_WORDS, SAME_SHARE, Overlap
from fieldwise.data.rendering import Base, Piece, Rendered
from fieldwise.data.unsafe import unsafe_categories
from fieldwise.data.versions import content_of, version_of
from fieldwise.errors import DatasetError, ModelError
from fieldwise.prepare.language import detect_language
from fieldwise.prepare.personal_data import find_personal_data
from fieldwise.progress import track
from fieldwise.refusals import declines
from fieldwise.rows.formats import Item
from fieldwise.rows.items import Guessed, ItemReader, Unread
from fieldwise.rows.schema import Schema
from fieldwise.rows.splits import find_splits
from fieldwise.rows.values import RowFault
from fieldwise.train.hardware import PRESETS, preset_for, this_machine
from fieldwise.train.settings import TrainSettings

_TOKEN_BATCH = 256
_EVERY_LANGUAGE, _LANGUAGE_STEP = 2000, 50
"""The language is told for the first rows and then for every fiftieth: it takes longer than all else together."""
_TOKEN_CHECKS = 200
"""Rows whose prompt is compared token by token as well; all are compared letter by letter."""
_NO_LANGUAGE = "too short to tell"
_SHOWN_BROKEN = 10
_SHOWN_ROWS = 5
_FEW_HELD_OUT = 30
_SPLIT_ORDER = ("test", "validation", "train", "all")  # held-out rows first: see overlap.py


@dataclass
class Report:
    """What was found; `to_json` holds all that the text shows."""

    path: str
    version: str
    """The hash of what training reads of it: see versions.py."""
    base: str
    format: str
    explanation: dict[str, str]
    splits: dict[str, dict[str, int]]
    lengths: dict[str, float]
    max_length: int
    languages: dict[str, int]
    kinds: dict[str, int]
    labels: dict[str, int]
    personal_data: dict[str, int]
    unsafe: dict[str, int]
    """Rows to look at, by what they speak of; those whose reply declines stand under `declined` alone."""
    overlap: dict[str, dict[str, float]]
    contamination: dict[str, Contaminated]
    """Of each benchmark the rows were held against."""
    broken: list[dict[str, Any]]
    sample: list[Piece]
    sample_place: str | None
    samples: list[tuple[str, list[Piece]]]
    """The first rows without personal data, for the page; `sample` is the first of them."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_fit(self) -> bool:
        """Whether nothing was found that would spoil a run."""
        return not any(f.severity == "problem" for f in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            **vars(self),
            "fit": self.is_fit,
            "sample": [p._asdict() for p in self.sample],
            "samples": [{"place": place, "tokens": [p._asdict() for p in pieces]} for place, pieces in self.samples],
            "contamination": {name: {**c._asdict(), "seen": len(c.seen)} for name, c in self.contamination.items()},
            "findings": [asdict(f) for f in self.findings],
        }


def examine(
    path: Path,
    base: Base,
    mapped: Mapping[str, str],
    settings: TrainSettings | None = None,
    *,
    against: Sequence[Benchmark] = (),
    embed: bool = False,
) -> Report:
    """Return the report on a file or folder of rows; raises DatasetError when its format cannot be told.

    Training rows are held against the questions of the benchmarks, with `embed` in meaning too, and so are held-out rows.
    """
    return _Doctor(path, base, mapped, settings or TrainSettings(), Contamination(against, embed=embed)).report()


class _Doctor:
    """Reads every row once and counts."""

    def __init__(
        self,
        path: Path,
        base: Base,
        mapped: Mapping[str, str],
        settings: TrainSettings,
        contamination: Contamination,
    ) -> None:
        self.contamination = contamination
        self.path, self.base, self.mapped, self.settings = path, base, mapped, settings
        preset = PRESETS.get(settings.hardware) or preset_for("auto", this_machine())
        self.sft_length = settings.sft.max_length or preset.max_length["sft"]
        self.pair_length = settings.preference.max_length or preset.max_length["preference"]
        self.splits = find_splits(path)
        self.schemas: dict[str, Schema] = {}
        self.counts: dict[str, Counter[str]] = {}
        self.broken: list[dict[str, Any]] = []
        self.notes = Places()
        self.faults: dict[str, tuple[str, Places]] = {}
        self.refusals: dict[str, Places] = {}
        self.no_loss, self.unequal, self.unequal_tokens = Places(), Places(), Places()
        self.too_long, self.same_sides, self.control = Places(), Places(), Places()
        self.lengths: list[int] = []
        self.languages: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.personal: Counter[str] = Counter()
        self.unsafe: Counter[str] = Counter()
        self.unknown_tools, self.undeclared = Places(), Places()
        self.personal_rows, self.unsafe_rows, self.declined_rows = Places(), Places(), Places()
        self.overlap = Overlap()
        self.held_out: list[BenchmarkItem] = []
        """Questions of the held-out splits to compare in meaning; over a context the same question asks something else."""
        self.contents: list[tuple[str, str]] = []
        self.samples: list[tuple[str, Rendered]] = []
        self._waiting: list[tuple[str, list[str]]] = []

    def report(self) -> Report:
        """Read everything, then judge."""
        for split in _SPLIT_ORDER:
            if split in self.splits.files:
                held_out, self.samples = self.samples, []  # what training reads is shown, where there is any
                self._read_split(split)
                self.samples = self.samples or held_out
        self._count_tokens()
        total = sum(c["rows"] for c in self.counts.values())
        if not total and not self.broken:
            raise DatasetError("the data set holds no rows", where=self.path, fix="Write it again, or name another.")
        samples = [(place, self.base.pieces(rendered)) for place, rendered in self.samples]
        made = Report(
            path=str(self.path),
            version=version_of(self.contents),
            base=self.base.name,
            format=next(iter(self.schemas.values())).format.name,
            explanation={split: schema.explain() for split, schema in sorted(self.schemas.items())},
            splits={split: dict(self.counts[split]) for split in self.splits.files if split in self.counts},
            lengths=_quantiles(self.lengths),
            max_length=self.max_length,
            languages=dict(self.languages.most_common()),
            kinds=dict(self.kinds.most_common(20)),
            labels=dict(self.labels.most_common()),
            personal_data=dict(self.personal.most_common()),
            unsafe=dict(self.unsafe.most_common()),
            overlap={
                split: {
                    "rows": o.rows,
                    "ngrams": o.ngrams,
                    "found": o.found,
                    "share": o.share,
                    "same_rows": len(o.same_rows),
                }
                for split, o in self.overlap.ngram_overlap().items()
            }
            if "train" in self.counts
            else {},
            broken=self.broken[:_SHOWN_BROKEN],
            contamination=self.contamination.results(),
            sample=samples[0][1] if samples else [],
            sample_place=samples[0][0] if samples else None,
            samples=samples,
        )
        order = {"problem": 0, "warning": 1, "note": 2}
        made.findings = sorted([*self._findings(total), *_about_contamination(made)], key=lambda f: order[f.severity])
        return made

    @property
    def max_length(self) -> int:
        """The limit on tokens for the kind of training that these rows are for."""
        return self.pair_length if self._is_preference else self.sft_length

    @property
    def _is_preference(self) -> bool:
        return any(s.format.name in ("preference", "kto") for s in self.schemas.values())

    # ------------------------------------------------------------ reading

    def _read_split(self, split: str) -> None:
        counts = self.counts.setdefault(split, Counter(rows=0, used=0, broken=0))
        reader = ItemReader(self.splits.files[split], self.mapped)
        for file in reader.files:
            where = split if len(reader.files) == 1 else f"{split} ({file.name})"
            for found in track(reader.read(file), f"reading {file.name}"):
                place = f"{where}:{found.number}"
                if isinstance(found, Guessed):
                    self.notes.add(place)
                elif isinstance(found, Unread):
                    counts["broken"] += 1
                    self.broken.append({"file": file.name, "line": found.number, "reason": found.reason})
                else:
                    counts["rows"] += 1
                    self._row(split, place, found.item, counts)
        if reader.schema is not None:
            self.schemas[split] = reader.schema

    def _row(self, split: str, place: str, item: Item | RowFault, counts: Counter[str]) -> None:
        if isinstance(item, RowFault):
            self.faults.setdefault(item.code, (str(item), Places()))[1].add(place)
            return
        counts["used"] += 1
        self.contents.append((split, content_of(item)))
        is_private = self._look_at_text(place, item)
        self._look_at_render(place, item, is_private)
        prompt = f"{item.context}\n{item.asked}" if item.context else item.asked
        answer = f"{item.said}\n{item.rejected or ''}" if item.label is None else f"{item.said}\n{item.label}"
        self.overlap.add(split, place, prompt, answer, item.text)
        if split in ("train", "all"):
            if self.contamination.benchmarks or (self.contamination.embed and not item.context):
                self.contamination.add(item.question or item.asked, item.text)
        elif self.contamination.embed and not item.context:
            self.held_out.append(BenchmarkItem(place, item.question or item.asked))

    def _look_at_text(self, place: str, item: Item) -> bool:
        """Count what stands in a row; tells whether it holds personal data."""
        text = item.text
        seen = len(self.lengths) + len(self._waiting)
        if seen < _EVERY_LANGUAGE or seen % _LANGUAGE_STEP == 0:
            self.languages[detect_language(text) or _NO_LANGUAGE] += 1
        if item.kind is not None:
            self.kinds[item.kind] += 1
        if item.label is not None:
            self.labels[str(item.label).lower()] += 1
        if item.rejected is not None and item.rejected.split() == item.said.split():
            self.same_sides.add(place)
        if self.base.holds_control(text):
            self.control.add(place)
        self._look_at_safety(place, item)
        if kinds := Counter(f.kind for f in find_personal_data(text)):
            self.personal.update(kinds)
            self.personal_rows.add(place)
        return bool(kinds)

    def _look_at_safety(self, place: str, item: Item) -> None:
        if not (found := unsafe_categories(item.text)):
            return
        if declines(item.said) and item.label is not False:
            self.unsafe["declined"] += 1
            self.declined_rows.add(place)
        else:
            self.unsafe.update(found)
            self.unsafe_rows.add(place)

    def _look_at_render(self, place: str, item: Item, is_private: bool) -> None:
        calls = any(m.tool_calls for conversation in item.conversations for m in conversation)
        if (item.tools or calls) and not self.base.knows_tools:
            self.unknown_tools.add(place)
        elif calls and not item.tools:
            self.undeclared.add(place)
        texts = []
        for conversation in item.conversations:
            try:
                rendered = self.base.rendered(conversation, item.tools)
            except ModelError as error:
                self.refusals.setdefault(f"{error.what}: {error.found}", Places()).add(place)
                return
            texts.append(rendered.text)
            if not rendered.prompts_agree:
                self.unequal.add(place)
            elif len(self.lengths) + len(self._waiting) < _TOKEN_CHECKS and not self.base.tokens_agree(rendered):
                self.unequal_tokens.add(place)
            if not rendered.spans:
                self.no_loss.add(place)
            if len(self.samples) < _SHOWN_ROWS and not is_private:
                self.samples.append((place, rendered))
        self._waiting.append((place, texts))
        if len(self._waiting) >= _TOKEN_BATCH:
            self._count_tokens()

    def _count_tokens(self) -> None:
        counted = iter(self.base.token_counts([t for _, texts in self._waiting for t in texts]))
        for place, texts in self._waiting:
            length = max(next(counted) for _ in texts)
            self.lengths.append(length)
            if length > self.max_length:
                self.too_long.add(place)
        self._waiting.clear()

    # ------------------------------------------------------------ judging

    def _findings(self, total: int) -> Iterator[Finding]:
        yield from self._about_reading(total)
        yield from self._about_rows(total)
        yield from self._about_render()
        yield from self._about_lengths(total)
        yield from self._about_repeats(total)
        yield from self._about_splits()
        yield from self._about_balance(total)

    def _about_reading(self, total: int) -> Iterator[Finding]:
        broken = sum(c["broken"] for c in self.counts.values())
        if broken:
            places = tuple(f"{b['file']}:{b['line']}" for b in self.broken[:5])
            what = f"{broken:,} line{'s' if broken != 1 else ''} cannot be read ({self.broken[0]['reason']})"
            fix = "Mend these lines; the others are read without them."
            yield Finding(by_share(broken, total + broken, 0.01), "broken_lines", what, fix, broken, places)
        if self.notes.count:
            fix = "Save the file as UTF-8, and look whether letters such as ä and é are right."
            yield self.notes.finding("warning", "encoding", f"lines that are not UTF-8: {self.notes.count:,}; their encoding was guessed", fix)  # fmt: skip
        if self.splits.left_out:
            names = ", ".join(p.name for p in self.splits.left_out[:5])
            yield Finding("note", "left_out", f"files that name no split were not read: {names}", "Name them train, validation or test if they belong to the set.", len(self.splits.left_out))  # fmt: skip
        names_found = {s.format.name for s in self.schemas.values()}
        if len(names_found) > 1:
            told = "; ".join(f"{split}: {s.format.name}" for split, s in sorted(self.schemas.items()))
            yield Finding("problem", "formats_differ", f"the splits speak different formats ({told})", "Write all splits in one format, or map the columns with --map.")  # fmt: skip

    def _about_rows(self, total: int) -> Iterator[Finding]:
        for code, (text, places) in self.faults.items():
            what = f"{rows(places.count)} cannot be trained on ({code}): {text}"
            yield places.finding(by_share(places.count, total, 0.01), code, what, _FAULT_FIXES[code])
        if self.same_sides.count:
            what = f"{rows(self.same_sides.count)} where chosen and rejected say the same"
            fix = "Drop them: there is nothing to prefer."
            yield self.same_sides.finding(by_share(self.same_sides.count, total, 0.01), "same_sides", what, fix)
        if self.control.count:
            what = f"control tokens of the base in the text of {rows(self.control.count)}"
            fix = "Often a set that was rendered for another model: take its plain messages. A run breaks the tokens up, so no role is forged."
            yield self.control.finding(by_share(self.control.count, total, 0.1), "control_tokens", what, fix)
        if self.personal:
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in self.personal.most_common())
            fix = "Mask or drop them before you train; a model can repeat what it has read. The values are not shown here."
            yield self.personal_rows.finding("warning", "personal_data", f"personal data in {rows(self.personal_rows.count)} ({kinds})", fix)  # fmt: skip

        yield from self._about_safety()

    def _about_safety(self) -> Iterator[Finding]:
        if self.unsafe_rows.count:
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in self.unsafe.items() if kind != "declined")
            fix = "Look at these before you train: a list of words knows no context, and clinical or legal text may speak of such things. Nothing is left out for it."
            yield self.unsafe_rows.finding("warning", "unsafe", f"words that may be toxic or unsafe in {rows(self.unsafe_rows.count)} ({kinds})", fix)  # fmt: skip
        if self.declined_rows.count:
            fix = "Nothing to do if meant: such rows teach to decline. The reply was told by its first words alone."
            yield self.declined_rows.finding("note", "unsafe_declined", f"unsafe requests whose reply declines in {rows(self.declined_rows.count)}", fix)  # fmt: skip

    def _about_render(self) -> Iterator[Finding]:
        for text, places in self.refusals.items():
            what = f"the base's chat template refuses {rows(places.count)} ({text[:160]})"
            fix = "Bring the roles into the order system, user, assistant, user, ..., or take another base with --base."
            yield places.finding("problem", "template_refuses", what, fix)
        if self.no_loss.count:
            fix = "Give every conversation a reply of the assistant; if all rows are named, put {% generation %} ... {% endgeneration %} around what the assistant says in the base's template."
            yield self.no_loss.finding("problem", "no_loss", f"no token carries loss in {rows(self.no_loss.count)}: nothing would be learnt, and a training stops", fix)  # fmt: skip
        if self.unknown_tools.count:
            fix = "Take a base whose template shows tools, or leave these rows out: a run does, and says so."
            yield self.unknown_tools.finding("problem", "tools_not_shown", f"the base's chat template does not show the tools of {rows(self.unknown_tools.count)}", fix)  # fmt: skip
        if self.undeclared.count:
            fix = "Give the declarations in a column tools: a model that sees none when it serves will call none."
            yield self.undeclared.finding("warning", "tools_not_declared", f"tools are called but not declared in {rows(self.undeclared.count)}", fix)  # fmt: skip
        for places, told in ((self.unequal, "letters"), (self.unequal_tokens, "tokens")):
            if places.count:
                fix = (
                    "Mend the template: what it writes with add_generation_prompt must be how a rendered reply begins."
                )
                yield places.finding("problem", f"prompt_{told}_differ", f"{rows(places.count)} where training renders the prompt in other {told} than serving", fix)  # fmt: skip
        if not self.base.has_markers:
            fix = "Nothing to do: what a reply adds to its prompt carries the loss. Markers would make it explicit."
            yield Finding("note", "no_markers", "the base's template has no generation markers", fix)

    def _about_lengths(self, total: int) -> Iterator[Finding]:
        if not self.too_long.count:
            return
        key = "train.preference.max_length" if self._is_preference else "train.sft.max_length"
        what = (
            f"{rows(self.too_long.count)} longer than {key} ({self.max_length} tokens), which would be left out whole"
        )
        fix = f"Shorten them, or raise {key} (the longest has {max(self.lengths):,} tokens)."
        yield self.too_long.finding(by_share(self.too_long.count, total, 0.1), "too_long", what, fix)

    def _about_repeats(self, total: int) -> Iterator[Finding]:
        found = self.overlap
        if found.exact:
            fix = "Keep one of each: a row seen twice counts twice."
            yield _at(by_share(len(found.exact), total, 0.2), "duplicates", f"{rows(len(found.exact))} the same as an earlier row", fix, found.exact)  # fmt: skip
        if found.near:
            fix = "Read some of them; drop those that teach nothing new."
            yield _at("warning" if len(found.near) >= 0.05 * total else "note", "near_duplicates", f"{rows(len(found.near))} nearly the same as an earlier row", fix, found.near)  # fmt: skip
        if found.contradictions and not self._is_preference and not self.labels:
            fix = "Decide on one answer, or put what tells the cases apart into the prompt."
            yield _at("warning", "contradictions", f"{rows(len(found.contradictions))} with another answer to a prompt that stood before", fix, found.contradictions)  # fmt: skip

    def _about_splits(self) -> Iterator[Finding]:
        found = self.overlap
        if found.shared_prompts:
            fix = "Take them out of train (or of the held-out split): scores on known prompts measure memory."
            yield _at("problem", "leakage", f"{rows(len(found.shared_prompts))} with a prompt that stands in another split too", fix, found.shared_prompts)  # fmt: skip
        if found.near_across:
            fix = "Put near-duplicates on one side of the split; `fieldwise prepare` groups documents so."
            yield _at("warning", "near_leakage", f"{rows(len(found.near_across))} the same or nearly the same as a row of another split", fix, found.near_across)  # fmt: skip
        if "train" not in self.counts:
            return
        if near := self.contamination.asked_in_other_words(self.held_out):
            what = f"{rows(len(near))} of the held-out splits whose question train asks in the same or other words (cosine {NEAR_COSINE:g} or more)"
            fix = "Read some of them, and put what asks the same on one side of the split."
            yield _at("warning", "meaning_leakage", what, fix, near)
        for split, overlap in found.ngram_overlap().items():
            if overlap.same_rows:
                what = f"{rows(len(overlap.same_rows))} of {split} with {SAME_SHARE:.0%} or more of the {NGRAM_WORDS}-word runs in train"
                fix = "Take them out of train or of the held-out split, then look again."
                yield _at(by_share(len(overlap.same_rows), overlap.rows, 0.01), "ngram_leakage", what, fix, overlap.same_rows)  # fmt: skip
        for split in ("validation", "test"):
            if split in self.counts and self.counts[split]["used"] < _FEW_HELD_OUT:
                what = f"{split} has {rows(self.counts[split]['used'])}: its figures will have wide intervals"
                yield Finding("note", "small_split", what, f"Hold out at least {_FEW_HELD_OUT}, better some hundreds.")

    def _about_balance(self, total: int) -> Iterator[Finding]:
        told = sum(n for language, n in self.languages.items() if language != _NO_LANGUAGE)
        common = [(language, n) for language, n in self.languages.most_common() if n >= 0.05 * told and language != _NO_LANGUAGE]  # fmt: skip
        if len(common) > 1:
            what = f"several languages: {', '.join(f'{language} {n:,}' for language, n in common)}"
            yield Finding("note", "languages", what, "Fine if meant; the embedded base speaks English only.")
        if self.labels:
            least = min(self.labels["true"], self.labels["false"])
            what = f"labels: {self.labels['true']:,} true, {self.labels['false']:,} false"
            if not least:
                yield Finding("problem", "one_label", what, "KTO needs both; add rows of the other label.")
            elif least < 0.1 * sum(self.labels.values()):
                yield Finding("warning", "label_balance", what, "Add rows of the rare label, or weigh it higher.")
        if self.kinds and (top := self.kinds.most_common(1)[0])[1] > 0.9 * total and len(self.kinds) > 1:
            what = f"{top[1] / total:.0%} of the rows are of one kind ({top[0]})"
            yield Finding("note", "kind_balance", what, "Add rows of the other kinds if these matter as much.")


def _about_contamination(report: Report) -> Iterator[Finding]:
    for name, found in report.contamination.items():
        if not (seen := found.seen):
            continue
        ways = [f"{len(found.same)} word for word", f"{len(found.by_ngrams)} by runs of {NGRAM_WORDS} words"]
        ways += [f"{len(found.near)} in other words"] if found.near is not None else []
        what = f"{len(seen)} of {found.items} questions of {name} stand in the training rows ({', '.join(ways)})"
        fix = f"Take these rows out, or do not report {name}: it would measure memory."
        yield _at(by_share(len(seen), found.items, 0.01), "contamination", what, fix, seen)


def _at(severity: Severity, code: str, what: str, fix: str, places: list[str]) -> Finding:
    return Finding(severity, code, what, fix, len(places), tuple(places[:5]))


_FAULT_FIXES = {
    "null": "Fill the field or drop the row.",
    "empty": "Fill the field or drop the row: an empty reply teaches silence.",
    "not_text": "Write the field as text.",
    "not_messages": "Write a list of messages, each with role and content (or from and value).",
    "unknown_role": "Use the roles system, user, assistant and tool (ShareGPT: system, human, gpt, tool).",
    "tool_calls": "Write a call as OpenAI does, with name and arguments (a JSON object), or as ShareGPT's function_call.",
    "tools": "Write tools as a list of declarations in OpenAI's format, or as JSON text of such a list.",
    "half_sign": "The text was cut within a sign: write it again from its source, or drop the row.",
    "bad_label": "Write true or false.",
    "no_shared_prompt": "Give a prompt column, or let both sides begin with the same messages.",
}


def _quantiles(lengths: list[int]) -> dict[str, float]:
    if not lengths:
        return {}
    p50, p95, p99 = np.percentile(lengths, [50, 95, 99])
    return {"mean": round(float(np.mean(lengths)), 1), "p50": float(p50), "p95": float(p95), "p99": float(p99), "max": max(lengths)}  # fmt: skip
