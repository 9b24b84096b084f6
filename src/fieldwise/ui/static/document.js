// The panel that shows a document with the cited passage marked.

import { getBlob, getJson, storedKey } from "./api.js";
import { byId, make, show } from "./dom.js";
import { Text, placeOf, spans, tableRows } from "./places.js";

const isNarrow = window.matchMedia("(max-width: 899px)");
const MOST_CELLS = 20000; // a browser draws more of them too slowly; such a table stays text
let opener = null;
let latest = 0;

export function prepareDocument() {
  byId("document-close").addEventListener("click", close);
  byId("document-jump").addEventListener("click", toMark);
  byId("document-original").addEventListener("click", downloadWithKey);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("document").hidden) close();
  });
  isNarrow.addEventListener("change", () => setBackground(!byId("document").hidden));
}

/** Open a document and mark `place` ({documentId, title, uri, page, headingPath, start, end}); focus returns to `from` when it is closed. */
export async function openDocument(place, from) {
  opener = from;
  latest += 1;
  const request = latest;
  byId("document-title").textContent = place.title || place.uri;
  byId("document-place").textContent = placeOf(place.page, place.headingPath, place.title);
  byId("document-uri").textContent = place.uri;
  byId("document-text").replaceChildren(make("p", { class: "hint" }, "Loading"));
  show(byId("document-original"), false);
  show(byId("document"), true);
  byId("layout").classList.add("has-document");
  setBackground(true);
  byId("document-title").focus({ preventScroll: true });
  try {
    const found = await getJson(`documents/${encodeURIComponent(place.documentId)}`);
    if (request === latest) fill(found, place);
  } catch (error) {
    if (request === latest) byId("document-text").replaceChildren(make("p", { class: "error-text", role: "alert" }, `The document cannot be shown: ${error.message}.`));
  }
}

function fill(found, place) {
  const text = new Text(found.text);
  const run = (first, last) => spans(first, last, { headings: found.headings, pages: found.pages, mark: place }).map((span) => part(text, span));
  const parts = [];
  let from = 0;
  for (const table of found.tables.filter((one) => one.rows * one.columns <= MOST_CELLS)) {
    parts.push(run(from, table.start), grid(text, table, found.pages, place));
    from = table.end;
  }
  byId("document-text").replaceChildren(...[...parts, run(from, text.length)].flat(2));
  const link = byId("document-original");
  show(link, Boolean(found.original));
  if (found.original) link.href = found.original.slice(1);
  link.dataset.name = found.uri.split("/").pop();
  toMark();
}

function part(text, span) {
  const words = span.heading ? text.slice(span.start, span.end).replace(/^#{1,6}\s+/, "") : text.slice(span.start, span.end);
  const shown = make("span", { class: span.heading ? `heading heading-${Math.min(span.heading.level, 4)}` : null }, ...(span.isMarked ? marked(words) : [words]));
  return span.page === null ? [shown] : [pageBreak(span.page), shown];
}

/** Mark words, but not the empty lines between them: each would show as a sliver of colour. */
function marked(words) {
  return words.split(/(\s*\n\s*\n\s*|^\s+|\s+$)/).filter(Boolean).map((piece) => (piece.trim() ? make("mark", { "data-testid": "mark" }, piece) : piece));
}

function pageBreak(number) {
  return make("span", { class: "page-break", "data-testid": "page-break" }, `Page ${number}`);
}

/** A table as one; a cell is marked when any of its words are. */
function grid(text, table, pages, mark) {
  const shown = (cell) => {
    const words = text.slice(cell.start, cell.end).trim().replaceAll("\\|", "|");
    return words && mark.start < cell.end && cell.start < mark.end ? marked(words) : [words];
  };
  const [head, ...rows] = tableRows(text, table).map((row, n) => make("tr", {}, ...row.map((cell) => make(n ? "td" : "th", n ? {} : { scope: "col" }, ...shown(cell)))));
  const breaks = pages.filter((page) => table.start <= page.start && page.start < table.end).map((page) => pageBreak(page.number));
  return [...breaks, make("div", { class: "grid", tabindex: "0", role: "region", "aria-label": "Table" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)))];
}

function toMark() {
  const panel = byId("document-text");
  const mark = panel.querySelector("mark");
  if (!mark) return;
  // only the panel scrolls, not the page under it; a passage longer than the panel shows its beginning
  const above = mark.getBoundingClientRect().top - panel.getBoundingClientRect().top + panel.scrollTop;
  const room = Math.max(24, (panel.clientHeight - mark.getBoundingClientRect().height) / 2);
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  panel.scrollTo({ top: above - room, behavior: calm ? "auto" : "smooth" });
}

function close() {
  latest += 1;
  show(byId("document"), false);
  byId("layout").classList.remove("has-document");
  setBackground(false);
  if (opener && opener.isConnected) opener.focus();
  opener = null;
}

/** On a phone the panel covers the page, so what lies under it must not be reached. */
function setBackground(isOpen) {
  const covers = isOpen && isNarrow.matches;
  byId("main").inert = covers;
  document.querySelector(".bar").inert = covers;
  document.body.classList.toggle("is-covered", covers);
}

/** A link cannot carry the key, so with one the file is fetched and saved from memory. */
async function downloadWithKey(event) {
  if (!storedKey()) return;
  event.preventDefault();
  const link = event.currentTarget;
  const url = URL.createObjectURL(await getBlob(link.getAttribute("href")));
  const saved = make("a", { href: url, download: link.dataset.name });
  document.body.append(saved);
  saved.click();
  saved.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
