"""The look of report pages: the colours and type of the page that `serve` shows, and paper as well."""

from __future__ import annotations

STYLE = """
:root {
  --ground: #f4f6f5; --surface: #ffffff; --sunken: #eef2f0; --ink: #17211f; --muted: #55635f; --line: #d8e0dc;
  --strong-line: #7d8c87; --accent: #0d5c58; --accent-soft: #e2efed; --warning: #7a4a00; --warning-soft: #fdf1dc;
  --error: #9a2318; --error-soft: #fcebe8;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
  --serif: Charter, "Iowan Old Style", Georgia, "Liberation Serif", serif;
  --mono: ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ground: #111716; --surface: #1a2221; --sunken: #222c2a; --ink: #e7edea; --muted: #a3b2ad; --line: #2f3b38;
    --strong-line: #71827c; --accent: #7fcfc7; --accent-soft: #1f3633; --warning: #f3c778; --warning-soft: #352a15;
    --error: #ffab9e; --error-soft: #3b1e1a;
  }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 var(--sans); overflow-wrap: anywhere; }
h1, h2, h3, p, ol, ul, dl, dd, figure { margin: 0; }
a { color: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.skip { position: absolute; left: -999px; top: 0; z-index: 2; background: var(--surface); padding: .5rem 1rem; }
.skip:focus { left: .5rem; top: .5rem; }
.page { max-width: 66rem; margin: 0 auto; padding: 1.75rem 1.5rem 4rem; }
.kicker { color: var(--muted); font-size: .9rem; }
h1 { font-size: 1.7rem; line-height: 1.25; }
h2 { font-size: 1.25rem; line-height: 1.3; margin-bottom: .35rem; }
h3 { font-size: 1.02rem; margin: 1.5rem 0 .35rem; }
section { background: var(--surface); border: 1px solid var(--line); border-radius: 12px; padding: 1.25rem; margin-top: 1.25rem; }
section > p { max-width: 46rem; }
section > p + * { margin-top: .8rem; }
.hint { color: var(--muted); font-size: .92rem; }
.hash { font-family: var(--mono); font-size: .85em; }
nav ul { display: flex; flex-wrap: wrap; gap: .15rem 1.1rem; list-style: none; padding: 0; margin-top: .9rem; font-size: .95rem; }
nav a { display: inline-block; padding: .2rem 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .8rem 1.5rem; margin-top: 1rem; }
.facts dt { color: var(--muted); font-size: .85rem; }
.facts .wide { grid-column: 1 / -1; }

.verdict { display: inline-flex; gap: .4rem; align-items: baseline; border-radius: 7px; border: 1px solid currentColor; padding: .1rem .6rem; font-size: .9rem; font-weight: 650; white-space: nowrap; }
.verdict-PASS { color: var(--accent); background: var(--accent-soft); }
.verdict-INCONCLUSIVE { color: var(--warning); background: var(--warning-soft); }
.verdict-FAIL { color: var(--error); background: var(--error-soft); }
.gates { list-style: none; padding: 0; display: grid; gap: .6rem; }
.gates li { display: grid; grid-template-columns: 10.5rem minmax(0, 1fr); gap: .2rem 1rem; align-items: start; background: var(--sunken); border-radius: 10px; padding: .75rem .9rem; }
.gates .verdict { justify-self: start; }
.wanted { font-weight: 600; }
.found { color: var(--muted); font-size: .92rem; font-variant-numeric: tabular-nums; }

.scroller { overflow-x: auto; background: linear-gradient(to right, var(--surface) .6rem, transparent) left / 1.5rem 100% local no-repeat, linear-gradient(to left, var(--surface) .6rem, transparent) right / 1.5rem 100% local no-repeat, linear-gradient(to right, var(--line), transparent) left / .5rem 100% scroll no-repeat, linear-gradient(to left, var(--line), transparent) right / .5rem 100% scroll no-repeat; }
section > .scroller, section > .counts, section > .filter { margin-top: .9rem; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 650; padding-bottom: .35rem; }
th, td { text-align: left; vertical-align: top; padding: .5rem .9rem .5rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
thead th { vertical-align: bottom; border-bottom-color: var(--strong-line); font-size: .95em; }
tbody th { min-width: 8.5rem; }
.numbers { overflow-wrap: normal; }
.numbers td { white-space: nowrap; }
.slices td { white-space: nowrap; }
.slices .figure-text { display: inline-flex; flex-wrap: wrap; gap: 0 .5rem; align-items: baseline; min-width: 8rem; }
.numbers tbody th { position: sticky; left: 0; background: var(--surface); }
.interval-text, .note { display: block; color: var(--muted); font-size: .88em; font-weight: 400; }
.words td { min-width: 9rem; }
.whisker { vertical-align: -2px; }

.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(18rem, 100%), 1fr)); gap: 1.5rem 2rem; }
.pictures svg { width: 100%; max-width: 26rem; height: auto; display: block; margin-top: .3rem; }
figcaption { font-size: .92rem; }
figcaption b { display: block; font-size: 1rem; font-weight: 650; }
svg text { font: 12px var(--sans); fill: var(--ink); font-variant-numeric: tabular-nums; }
svg .released { font-weight: 700; }
svg .tick { fill: var(--muted); font-size: 11px; }
svg .grid { stroke: var(--line); }
svg .reference { stroke: var(--strong-line); stroke-width: 1.5; stroke-dasharray: 3 2; }
svg .interval { stroke: var(--accent); stroke-width: 2; fill: none; }
svg .each { stroke: var(--strong-line); stroke-width: .8; fill: none; }
svg .dot { fill: var(--accent); }
svg .baseline { fill: var(--surface); stroke: var(--accent); stroke-width: 2; }

.counts { display: flex; flex-wrap: wrap; gap: .4rem 1.6rem; list-style: none; padding: 0; }
.counts b { font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.filter { display: flex; flex-wrap: wrap; gap: .6rem 1rem; align-items: center; background: var(--sunken); border-radius: 10px; padding: .7rem .9rem; }
.filter label { display: inline-flex; gap: .5rem; align-items: center; min-width: 0; }
.filter input, .filter select { font: inherit; color: inherit; background: var(--surface); border: 1px solid var(--strong-line); border-radius: 7px; padding: .35rem .6rem; min-width: 0; }
.items { list-style: none; padding: 0; margin-top: .9rem; display: grid; gap: .8rem; }
.item { border: 1px solid var(--line); border-radius: 10px; padding: .9rem 1rem; }
.item-head { display: flex; flex-wrap: wrap; gap: .2rem .9rem; color: var(--muted); font-size: .88rem; }
.item-head b { color: var(--ink); }
.question { font-weight: 600; margin-top: .25rem; }
.sides { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 4fr) minmax(0, 4fr); gap: .8rem 1.2rem; margin-top: .6rem; }
.sides dt { color: var(--muted); font-size: .85rem; }
.reply { font-family: var(--serif); font-size: 1.04rem; white-space: pre-line; }
.cited { list-style: none; padding: 0; margin-top: .3rem; font-size: .87rem; color: var(--muted); }
.plain { padding-left: 1.3rem; }
.plain li { margin-top: .25rem; }
.methods { display: grid; gap: .6rem; }
.methods dt { font-weight: 600; }

@media (max-width: 640px) {
  .page { padding: 1rem .75rem 3rem; }
  section { padding: 1rem; }
  h1 { font-size: 1.4rem; }
  .gates li, .sides { grid-template-columns: minmax(0, 1fr); }
  .words { min-width: 34rem; }
  tbody th { min-width: 7rem; }
  .slices tbody th { min-width: 9rem; }
  .slices .figure-text { display: flex; }
  .numbers tbody th { padding-right: .5rem; border-right: 1px solid var(--line); }
  .numbers td, .numbers thead th + th { padding-left: .6rem; }
}
@media (forced-colors: active) {
  svg .dot { fill: CanvasText; }
  svg .interval, svg .baseline, svg .reference, svg .each { stroke: CanvasText; }
  svg text { fill: CanvasText; }
}
@page { size: A4; margin: 14mm 13mm; }
@media print {
  :root { --ground: #ffffff; --sunken: #f4f6f5; }
  html { color-scheme: light; font-size: 10pt; }
  body { font-size: 10pt; line-height: 1.4; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .page { max-width: none; padding: 0; }
  nav, .skip, .filter { display: none !important; }
  section { border: 0; border-top: 1px solid var(--strong-line); border-radius: 0; padding: 3mm 0 0; margin-top: 6mm; }
  .scroller { overflow: visible; background: none; }
  table { font-size: 8.5pt; }
  th, td { padding: 1.2mm 2.5mm 1.2mm 0; }
  tbody th { min-width: 0; }
  .words { min-width: 0; }
  .words td { min-width: 0; }
  .numbers tbody th { position: static; }
  thead { display: table-header-group; }
  tr, .item, .gates li, figure, #systems, #differences { break-inside: avoid; }
  h1, h2, h3, caption { break-after: avoid; }
  .pictures { grid-template-columns: 1fr 1fr; gap: 5mm 8mm; }
}
"""
