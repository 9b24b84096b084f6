"""The review sheet as a page: look at each pair beside its passage, decide, correct, and save the sheet as CSV.

One file without a server: what is decided stays in the browser until it is saved, and goes nowhere else.
"""

from __future__ import annotations

import json
from collections import Counter

from fieldwise.data.review_sheet import Review, ReviewItem
from fieldwise.generate.review import COLUMNS
from fieldwise.page.frame import whole
from fieldwise.page.look import STYLE
from fieldwise.page.markup import escape, section

_STYLE = """
.bar { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .6rem 1rem; align-items: center; background: var(--surface); border: 1px solid var(--line); border-radius: 12px; padding: .7rem 1rem; margin-top: 1.25rem; }
.bar label, .choices label { display: inline-flex; gap: .4rem; align-items: center; }
.bar .done { font-variant-numeric: tabular-nums; font-weight: 600; }
.bar .grow { flex: 1 1 auto; }
input, select, textarea, button { font: inherit; color: inherit; background: var(--surface); border: 1px solid var(--strong-line); border-radius: 7px; padding: .35rem .6rem; min-width: 0; }
input[type=radio] { accent-color: var(--accent); width: 1.1rem; height: 1.1rem; }
input[type=file] { border: 0; padding: 0; max-width: 15rem; }
button { cursor: pointer; min-height: 2.4rem; }
button.main { background: var(--accent); border-color: var(--accent); color: var(--surface); font-weight: 600; }
button:disabled { opacity: .45; cursor: default; }
.item { background: var(--surface); }
.item[data-verdict=keep] { box-shadow: inset 4px 0 var(--accent); }
.item[data-verdict=fix] { box-shadow: inset 4px 0 var(--warning); }
.item[data-verdict=drop] { box-shadow: inset 4px 0 var(--error); }
.two { display: grid; grid-template-columns: minmax(0, 2fr) minmax(0, 3fr); gap: 1rem 1.5rem; margin-top: .6rem; }
.two dt, .fields > label > span { color: var(--muted); font-size: .85rem; }
.passage { max-height: 13rem; overflow-y: auto; white-space: pre-line; font-family: var(--serif); font-size: .98rem; background: var(--sunken); border-radius: 8px; padding: .6rem .8rem; }
mark { background: var(--warning-soft); color: inherit; border-bottom: 2px solid var(--warning); }
.choices { border: 0; padding: 0; margin: .8rem 0 0; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; align-items: center; }
.choices label { min-height: 2.2rem; }
.fields { display: grid; gap: .6rem; margin-top: .6rem; }
.fields label { display: grid; gap: .2rem; }
.fields textarea { width: 100%; resize: vertical; }
.pages { display: flex; gap: .8rem; align-items: center; justify-content: center; margin-top: 1.25rem; }
.items:empty + .none { display: block; } .none { display: none; color: var(--muted); padding: 1rem 0; }
@media (max-width: 640px) { .two { grid-template-columns: minmax(0, 1fr); } .bar { top: .25rem; } }
@media print { .bar, .pages, .choices { display: none; } }
"""

_BAR = """<div class="bar" id="bar" hidden>
<span class="done" id="done" role="status"></span>
<span class="grow"></span>
<button class="main" id="save" type="button">Save the sheet (CSV)</button>
</div>"""

_FILTER = """<div class="filter" role="search" aria-label="Filter the pairs below">
<label>Show <select id="state"><option value="">all</option><option value="none">undecided</option><option value="keep">keep</option><option value="fix">fix</option><option value="drop">drop</option></select></label>
<label>kind <select id="kind"><option value="">all</option>{kinds}</select></label>
<label>with the words <input id="words" type="search" autocomplete="off"></label>
<label>Go on from a CSV <input id="load" type="file" accept=".csv,text/csv"></label>
</div>"""

_LIST = """<ol class="items" id="items"></ol><p class="none">Nothing fits the filter.</p>
<nav class="pages" aria-label="Pages of the sheet" id="pages" hidden><button type="button" id="back">Back</button><span id="at"></span><button type="button" id="next">Next</button></nav>
<noscript><p>This page needs its script, which runs in this file alone. Without it, review the CSV that `fieldwise review --csv FILE` writes.</p></noscript>"""

_SCRIPT = r"""
(() => {
  const sheet = JSON.parse(document.getElementById("sheet").textContent);
  const byId = new Map(sheet.items.map((item) => [item.id, item])), perPage = 20;
  const key = `fieldwise-review-${sheet.version}`, $ = (id) => document.getElementById(id);
  let decided = {}, page = 0, unsaved = false;
  try { decided = JSON.parse(localStorage.getItem(key) || "{}"); } catch { decided = {}; }
  const make = (tag, properties, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const keep = () => {
    unsaved = true;
    try { localStorage.setItem(key, JSON.stringify(decided)); } catch { /* full or forbidden: the sheet is saved by hand */ }
    count();
  };
  const count = () => {
    const all = Object.values(decided), of = (v) => all.filter((d) => d.verdict === v).length;
    $("done").textContent = `${of("keep") + of("fix") + of("drop")} of ${sheet.items.length} decided: ${of("keep")} keep, ${of("fix")} fix, ${of("drop")} drop`;
  };
  const fits = (item) => {
    const verdict = decided[item.id]?.verdict || "none", words = $("words").value.trim().toLowerCase();
    return (!$("state").value || $("state").value === verdict) && (!$("kind").value || $("kind").value === item.kind)
      && (!words || `${item.question} ${item.answer} ${item.quote} ${item.place}`.toLowerCase().includes(words));
  };
  const passage = (item) => {
    const text = sheet.passages[item.chunk] || "", at = item.quote ? text.indexOf(item.quote) : -1;
    const box = make("div", { className: "passage", dir: "auto", tabIndex: 0 });
    if (at < 0) box.append(text || "No passage: the right answer is to say that the documents do not tell.");
    else box.append(text.slice(0, at), make("mark", { textContent: item.quote }), text.slice(at + item.quote.length));
    if (at > 200) requestAnimationFrame(() => { box.scrollTop = box.querySelector("mark").offsetTop - box.offsetTop - 40; });
    return box;
  };
  const field = (item, name, label, rows, value) => {
    const area = make("textarea", { rows, value, dir: "auto" });
    area.addEventListener("input", () => { (decided[item.id] ||= {})[name] = area.value; keep(); });
    return make("label", {}, make("span", { textContent: label }), area);
  };
  const show = (item, number) => {
    const box = make("li", { className: "item" }), now = () => decided[item.id] || {};
    const fields = make("div", { className: "fields" });
    const redraw = () => {
      box.dataset.verdict = now().verdict || "";
      fields.replaceChildren();
      if (now().verdict === "fix") {
        fields.append(field(item, "corrected_question", "Right question", 2, now().corrected_question ?? item.question),
          field(item, "corrected_answer", "Right answer", 2, now().corrected_answer ?? item.answer));
      }
      if (now().verdict) fields.append(field(item, "note", "Note (optional)", 1, now().note || ""));
    };
    const choices = make("fieldset", { className: "choices" }, make("legend", { className: "unseen", textContent: "What becomes of this pair" }));
    for (const [verdict, label] of [["keep", "Keep"], ["fix", "Fix"], ["drop", "Drop"]]) {
      const radio = make("input", { type: "radio", name: `v-${item.id}`, value: verdict, checked: now().verdict === verdict });
      radio.addEventListener("change", () => { (decided[item.id] ||= {}).verdict = verdict; redraw(); keep(); });
      choices.append(make("label", {}, radio, label));
    }
    const about = [item.kind, item.split, ...(item.wordings > 1 ? [`in ${item.wordings} wordings`] : [])].join(", ");
    box.append(
      make("div", { className: "item-head" }, make("b", { textContent: `${number}` }), make("bdi", { textContent: item.place }), about),
      make("p", { className: "question", dir: "auto", textContent: item.question }),
      make("dl", { className: "two" },
        make("div", {}, make("dt", { textContent: "Answer" }), make("dd", { className: "reply", dir: "auto", textContent: item.answer })),
        make("div", {}, make("dt", { textContent: item.quote ? "Passage, the proof marked" : "Passage shown" }), make("dd", {}, passage(item)))),
      choices, fields);
    redraw();
    return box;
  };
  const draw = () => {
    const found = sheet.items.filter(fits), last = Math.max(0, Math.ceil(found.length / perPage) - 1);
    page = Math.min(page, last);
    $("items").replaceChildren(...found.slice(page * perPage, (page + 1) * perPage).map((item, n) => show(item, page * perPage + n + 1)));
    $("at").textContent = `Page ${page + 1} of ${last + 1}, ${found.length} pairs`;
    $("pages").hidden = last === 0;
    $("back").disabled = page === 0;
    $("next").disabled = page === last;
    count();
  };
  const turn = (by) => { page += by; draw(); $("bar").scrollIntoView(); };
  const cell = (text) => {
    const safe = /^[=+\-@\t]/.test(text) ? `'${text}` : text;
    return /[",\r\n']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const save = () => {
    const rows = sheet.items.map((item) => {
      const d = decided[item.id] || {}, isFix = d.verdict === "fix";
      const changed = (name) => (isFix && d[`corrected_${name}`] !== undefined && d[`corrected_${name}`].trim() !== item[name].trim() ? d[`corrected_${name}`] : "");
      const all = { ...item, verdict: d.verdict || "", corrected_question: changed("question"), corrected_answer: changed("answer"), note: d.note || "" };
      return sheet.columns.map((name) => cell(String(all[name] ?? ""))).join(",");
    });
    const file = new Blob(["\ufeff", [sheet.columns.join(","), ...rows].join("\r\n"), "\r\n"], { type: "text/csv" });
    const link = make("a", { href: URL.createObjectURL(file), download: "review.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    unsaved = false;
  };
  const rowsOf = (text) => {
    const rows = [[""]];
    let quoted = false;
    for (let n = 0; n < text.length; n++) {
      const sign = text[n], row = rows.at(-1);
      if (quoted) {
        if (sign !== '"') row[row.length - 1] += sign;
        else if (text[n + 1] === '"') { row[row.length - 1] += '"'; n++; }
        else quoted = false;
      } else if (sign === '"') quoted = true;
      else if (sign === ",") row.push("");
      else if (sign === "\n") rows.push([""]);
      else if (sign !== "\r") row[row.length - 1] += sign;
    }
    return rows;
  };
  const load = async (file) => {
    const [header, ...rows] = rowsOf((await file.text()).replace(/^\ufeff/, ""));
    let taken = 0;
    for (const row of rows) {
      const cells = Object.fromEntries(header.map((name, n) => [name, (row[n] || "").replace(/^'(?=[=+\-@\t])/, "")]));
      if (!byId.has(cells.id) || !["keep", "fix", "drop"].includes(cells.verdict)) continue;
      const made = { verdict: cells.verdict };
      for (const name of ["corrected_question", "corrected_answer", "note"]) if (cells[name]) made[name] = cells[name];
      decided[cells.id] = made;
      taken++;
    }
    keep();
    draw();
    $("done").textContent += `; ${taken} taken from ${file.name}`;
  };
  for (const id of ["state", "kind", "words"]) $(id).addEventListener("input", () => { page = 0; draw(); });
  $("back").addEventListener("click", () => turn(-1));
  $("next").addEventListener("click", () => turn(1));
  $("save").addEventListener("click", save);
  $("load").addEventListener("change", () => { if ($("load").files[0]) load($("load").files[0]); });
  addEventListener("beforeunload", (event) => { if (unsaved && Object.keys(decided).length) event.preventDefault(); });
  $("bar").hidden = false;
  draw();
})();
"""


def review_page(review: Review) -> str:
    """Return the page as one HTML file; the same examples give the same bytes."""
    count = len(review.items)
    left = f" A sample; {review.left} more pairs are not shown." if review.left else ""
    head = (
        f'<header><p class="kicker">Review of training examples</p><h1>{escape(review.name)}: {count} pairs</h1>'
        f'<p class="hint">Look at each pair beside its passage: is the answer right, and the question clear without the passage? Then save the sheet and name it in the recipe as <code>generate.review</code>. What you decide stays in this browser until you save it.{left}</p></header>'
    )
    kinds = Counter(i.example.kind for i in review.items)
    options = "".join(f'<option value="{escape(k)}">{escape(k)} ({n})</option>' for k, n in sorted(kinds.items()))
    body = _BAR + section("pairs", "Pairs", _FILTER.format(kinds=options), _LIST) + _data(review)
    return whole(f"Review of {review.name}", head, body, STYLE + _STYLE, _SCRIPT)


def _data(review: Review) -> str:
    """What the script shows, as a block that no browser runs; a `<` in it could end it."""
    value = {
        "version": review.version,
        "columns": COLUMNS,
        "passages": {i.chunk.id: i.chunk.text for i in review.items if i.chunk is not None},
        "items": [_shown(item) for item in review.items],
    }
    text = json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
    return f'\n<script type="application/json" id="sheet">{text}</script>'


def _shown(item: ReviewItem) -> dict[str, object]:
    example, chunk = item.example, item.chunk
    place = "no document"
    if chunk is not None:
        place = f"{chunk.uri}, page {chunk.page}" if chunk.page else chunk.uri
    return {
        "id": example.id,
        "split": example.split,
        "kind": example.kind,
        "style": example.style,
        "question": example.question,
        "answer": example.answer,
        "quote": item.quote,
        "place": place,
        "chunk": chunk.id if chunk is not None else "",
        "wordings": item.wordings,
    }
