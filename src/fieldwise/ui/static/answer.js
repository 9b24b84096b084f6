// One pane: an answer as it arrives, then with its sources, or why there is none.

import { count, make, seconds } from "./dom.js";
import { openDocument } from "./document.js";
import { placeOf, readable } from "./places.js";
import { screenedNote, searchedNote } from "./told.js";

export class Pane {
  constructor(model, label) {
    this.model = model;
    this.text = "";
    this.hasFailed = false;
    this.began = performance.now();
    this.reply = make("div", { class: "reply", "data-testid": "reply", "aria-live": "polite", "aria-busy": "true" });
    this.evidence = make("div", { class: "evidence" });
    this.figures = make("p", { class: "figures", "data-testid": "figures" }, "Searching the documents");
    const head = label ? make("h3", { class: "pane-name" }, label) : null;
    this.element = make("section", { class: "pane", "data-testid": `pane-${model}` }, head, this.reply, this.evidence, this.figures);
  }

  /** Take one event of the stream. */
  take({ name, value }) {
    if (name === "passages") this.figures.textContent = `Reading ${count(value.passages.length, "passage")}`;
    else if (name === "text") this.write(value.text);
    else if (name === "answer") this.finish(value);
    else if (name === "error") this.fail(value);
  }

  write(text) {
    this.text += text;
    this.reply.textContent = this.text;
    this.reply.classList.add("is-writing");
  }

  finish(answer) {
    this.answer = answer;
    this.settle();
    if (answer.is_declined) this.decline(answer.doubt);
    else this.reply.replaceChildren(...withChips(answer));
    const sources = answer.is_declined ? null : sourceList(answer.citations);
    this.evidence.replaceChildren(...[sources, screenedNote(answer.screened), searchedNote(answer.searched), passageList(answer.passages)].filter(Boolean));
    this.figures.textContent = figures(answer);
  }

  decline(doubt) {
    this.element.classList.add("is-declined");
    this.reply.replaceChildren(
      make("p", { class: "declined-title", "data-testid": "declined" }, "The documents do not say."),
      make("p", { class: "hint" }, "The model found no answer in the passages it read.", doubt == null ? "" : ` Doubt that they hold one: ${Math.round(100 * doubt)} %.`),
    );
  }

  fail(parts) {
    this.hasFailed = true;
    this.settle();
    const said = [parts.what, parts.found].filter(Boolean).join(": ");
    this.figures.textContent = "";
    this.evidence.replaceChildren(make("div", { class: "notice notice-error", role: "alert", "data-testid": "error" }, make("p", {}, `No answer: ${said || "the service did not answer"}.`), parts.fix ? make("p", { class: "hint" }, parts.fix) : null));
  }

  stop() {
    this.settle();
    this.figures.textContent = `Stopped after ${seconds((performance.now() - this.began) / 1000)}`;
  }

  settle() {
    this.reply.setAttribute("aria-busy", "false");
    this.reply.classList.remove("is-writing");
  }
}

/** The answer's text, each mark [n] that has a citation turned into a button. */
export function withChips(answer) {
  const cited = new Map(answer.citations.map((citation) => [citation.mark, citation]));
  return answer.text.split(/\s*(\[\d\])/).filter(Boolean).map((part) => {
    const mark = /^\[(\d)\]$/.exec(part);
    const citation = mark && cited.get(Number(mark[1]));
    return citation ? chip(citation) : part;
  });
}

function chip(citation) {
  const label = `Source ${citation.mark}: ${citation.title}${citation.page ? `, page ${citation.page}` : ""}`;
  return make("button", { type: "button", class: "chip", "data-testid": "citation", "aria-label": label, title: label, onclick: (event) => open(citation, event.currentTarget) }, String(citation.mark));
}

export function sourceList(citations) {
  if (!citations.length) return null;
  return make("ol", { class: "sources", "data-testid": "sources" }, ...citations.map((citation) => make("li", {}, source(citation))));
}

function source(citation) {
  const checked = citation.is_verified
    ? make("span", { class: "checked", "data-testid": "verified" }, "Word for word in the document")
    : make("span", { class: "unchecked", "data-testid": "unverified" }, "The answer does not stand word for word in this passage");
  return make(
    "button", { type: "button", class: "source", "data-testid": "source", onclick: (event) => open(citation, event.currentTarget) },
    make("span", { class: "source-number", "aria-hidden": "true" }, String(citation.mark)),
    make("span", { class: "source-body" },
      make("span", { class: "source-title" }, citation.title || citation.uri),
      make("span", { class: "source-place" }, placeOf(citation.page, citation.heading_path, citation.title) || citation.uri),
      make("span", { class: "source-quote" }, readable(citation.quote, citation.heading_path)),
      checked),
  );
}

function passageList(passages) {
  if (!passages.length) return null;
  const rows = passages.map(({ chunk }, n) => make("li", {}, make(
    "button", { type: "button", class: "passage", "data-testid": "passage", onclick: (event) => open(chunk, event.currentTarget) },
    make("span", { class: "source-number", "aria-hidden": "true" }, String(n + 1)),
    make("span", { class: "source-body" },
      make("span", { class: "source-title" }, chunk.title || chunk.uri),
      make("span", { class: "source-place" }, placeOf(chunk.page, chunk.heading_path, chunk.title) || chunk.uri)),
  )));
  return make("details", { class: "passages", "data-testid": "passages" }, make("summary", {}, `${count(passages.length, "passage")} read`), make("ol", {}, ...rows));
}

function open(place, from) {
  openDocument({ documentId: place.document_id, title: place.title, uri: place.uri, page: place.page, headingPath: place.heading_path, start: place.start, end: place.end }, from);
}

function figures(answer) {
  const { timings } = answer;
  const first = timings.first_token_seconds === null ? null : `first words after ${seconds(timings.first_token_seconds)}`;
  const cut = answer.finish_reason === "length" ? "cut at the token limit" : null;
  return [seconds(timings.total_seconds), first, `${answer.prompt_tokens.toLocaleString("en")} tokens read, ${answer.completion_tokens.toLocaleString("en")} written`, cut].filter(Boolean).join(" · ");
}
