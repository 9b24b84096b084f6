// What an answer tells of its own making: how a follow-up was worded as a search, and passages that give orders to a model.

import { count, make } from "./dom.js";

const WORDED = {
  joined: "the question together with the one before it",
  carried: "the question with words of the turns before it",
};
const SIGNS = {
  override: "tells it to forget its instructions",
  role: "gives it another role",
  to_model: "speaks to a model",
  leak: "asks for its prompt",
  steering: "tells it how to answer",
  exfiltration: "asks it to send something away",
  control_tokens: "holds control tokens of a model",
  hidden_characters: "holds characters that no reader sees",
};
const DONE = {
  mark: "these sentences were withheld from it",
  drop: "left out, the next best stand in their place",
  keep: "shown to it as they stand",
};

/** The words that were searched in place of a question that goes on from earlier ones. */
export function searchedNote(searched) {
  if (!searched) return null;
  const worded = WORDED[searched.by] || `worded by ${searched.by}`;
  return make(
    "p", { class: "hint searched", "data-testid": "searched" },
    "Searched for ", make("q", {}, searched.query), ` (${worded})`, searched.reason ? `. A model's wording was not taken: ${searched.reason}.` : ".",
  );
}

/** The passages that were found and read as orders to a model, with what was done about them. */
export function screenedNote(screened) {
  if (!screened?.length) return null;
  const [{ action }] = screened;
  const rows = screened.map(({ mark, uri, signs }) => make("li", {}, `${mark ? `Passage ${mark}, ` : ""}${uri}: ${signs.map((sign) => SIGNS[sign] || sign).join(", ")}`));
  return make(
    "div", { class: "notice notice-warning screened", "data-testid": "screened" },
    make("p", {}, `${count(screened.length, "passage")} with orders to the model: ${DONE[action]}.`),
    make("ul", {}, ...rows),
  );
}
