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

/** Return spans that cover the text without overlap: {start, end, heading, isMarked, page} where `page` begins there. */
export function spans(length, { headings, pages, mark }) {
  const cuts = new Set([0, length]);
  for (const span of [...headings, ...pages, ...(mark ? [mark] : [])]) {
    cuts.add(Math.min(span.start, length));
    cuts.add(Math.min(span.end, length));
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

/** Return "Page 2 · Storage · Fridges" for a place; the parts that are not known are left out. */
export function placeOf(page, headingPath, title) {
  const headings = (headingPath || []).filter((heading) => heading && heading !== title);
  return [page ? `Page ${page}` : null, ...headings].filter(Boolean).join(" · ");
}
