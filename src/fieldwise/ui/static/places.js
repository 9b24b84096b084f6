// Offsets of the service count characters as Python does; JavaScript counts some characters twice. This text counts like Python.

export class Text {
  constructor(text) {
    this.parts = /[\ud800-\udfff]/.test(text) ? Array.from(text) : text;
    this.length = this.parts.length;
  }

  slice(start, end) {
    const part = this.parts.slice(start, end);
    return typeof part === "string" ? part : part.join("");
  }
}

/** Return spans that cover the text from `first` to `last` without overlap: {start, end, heading, isMarked, page} where `page` begins there. */
export function spans(first, last, { headings, pages, mark }) {
  const cuts = new Set([first, last]);
  for (const span of [...headings, ...pages, ...(mark ? [mark] : [])]) {
    for (const place of [span.start, span.end]) if (first < place && place < last) cuts.add(place);
  }
  const places = [...cuts].sort((a, b) => a - b);
  const begins = new Map(pages.map((page) => [page.start, page.number]));
  const found = [];
  for (let n = 0; n + 1 < places.length; n += 1) {
    const [start, end] = [places[n], places[n + 1]];
    found.push({
      start,
      end,
      heading: headings.find((h) => h.start <= start && end <= h.end) || null,
      isMarked: Boolean(mark) && mark.start <= start && end <= mark.end,
      page: begins.has(start) ? begins.get(start) : null,
    });
  }
  return found;
}

/** Return the rows of a table kept as Markdown, each a list of cells {start, end}; the rule under the head is left out. */
export function tableRows(text, table) {
  const rows = [];
  let start = table.start;
  for (const line of text.slice(table.start, table.end).split("\n")) {
    if (line.trim() && !/^[\s|:-]+$/.test(line)) rows.push(cells(line, start));
    start += new Text(line).length + 1;
  }
  return rows;
}

function cells(line, start) {
  const found = [];
  let place = start;
  for (const cell of line.split(/(?<!\\)\|/)) {
    found.push({ start: place, end: place + new Text(cell).length });
    place = found.at(-1).end + 1;
  }
  // what stands before the first bar and after the last is no cell
  return found.slice(line.trimStart().startsWith("|") ? 1 : 0, line.trimEnd().endsWith("|") ? -1 : undefined);
}

/** Return a quote without the marks of Markdown, and without the heading that is shown above it anyway. */
export function readable(quote, headingPath) {
  const paragraphs = quote.split(/\n\s*\n/).map((paragraph) => paragraph.replace(/^#{1,6}\s+/gm, "").trim());
  if (paragraphs.length > 1 && (headingPath || []).includes(paragraphs[0])) paragraphs.shift();
  return paragraphs.join(" ").replace(/^\||\|$/gm, "").replace(/\s*(?<!\\)\|\s*/g, " · ").trim();
}

/** Return "Page 2 · Storage · Fridges" for a place; the parts that are not known are left out. */
export function placeOf(page, headingPath, title) {
  const headings = (headingPath || []).filter((heading) => heading && heading !== title);
  return [page ? `Page ${page}` : null, ...headings].filter(Boolean).join(" · ");
}
