// What the votes of a blind comparison say, as parts of a page.

import { count, make } from "./dom.js";

const percent = (value) => `${Math.round(100 * value)} %`;
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
const plainNumber = (value) => `${value < 0 ? "−" : ""}${Math.abs(value).toFixed(2)}`;
const range = (figure, write) => `${write(figure.value)}, 95 % interval ${write(figure.low)} to ${write(figure.high)}`;

/** Return the parts of a result; `back` is the button that leaves it. */
export function resultOf(found, back) {
  const voted = found.pairs.filter((pair) => pair.votes > 0);
  const looks = found.checks.filter((check) => check.state === "look");
  return [
    make("div", { class: "row result-head" }, make("h2", { id: "result-title", tabindex: "-1" }, "What the votes say"), back),
    make("p", { class: "hint", "data-testid": "result-votes" }, summary(found)),
    ...(voted.length ? [] : [make("p", { class: "notice" }, "There are no votes on these answers yet.")]),
    ...voted.map((pair) => pairCard(pair, found.width)),
    voted.length > 1 ? strengthCard(found.systems) : null,
    found.votes ? effects(found) : null,
    looks.length ? lookList(looks) : null,
    make("p", { class: "hint method-note" }, found.method),
  ].filter(Boolean);
}

function summary(found) {
  const parts = [`${count(found.votes, "vote")} by ${count(found.voters.length, "voter")}`];
  const skipped = found.voters.reduce((sum, voter) => sum + voter.skipped, 0);
  if (skipped) parts.push(`${skipped} skipped`);
  if (found.withdrawn) parts.push(`${found.withdrawn} taken back`);
  if (found.same_answers) parts.push(`${count(found.same_answers, "question")} not shown, both answers being the same`);
  return `${parts.join(" · ")}.`;
}

function pairCard(pair, width) {
  const winner = { first: pair.first, second: pair.second }[pair.verdict];
  const named = winner || pair.first;
  const counted = [[pair.prefers_first, pair.first], [pair.ties, "ties"], [pair.both_bad, "both bad"], [pair.prefers_second, pair.second]];
  return make(
    "article", { class: "card pair", "data-testid": "pair-result" },
    make("h3", {}, winner ? `${winner} is preferred` : "No difference shown"),
    make("p", { class: "hint" }, `${pair.first} against ${pair.second}, ${count(pair.votes, "vote")} on ${count(pair.questions, "question")}`),
    bar(pair),
    make("p", { class: "pair-counts" }, ...counted.map(([number, name]) => make("span", {}, make("b", {}, String(number)), ` ${name}`))),
    make("p", {}, `Share of ${named}, ties half: ${range(shareOf(named, pair), percent)}.`),
    make("p", { class: "hint", "data-testid": "enough" }, enough(pair, width)),
  );
}

/** The share of one system of a pair; what is kept is that of the first. */
function shareOf(system, { first, share }) {
  return system === first ? share : { value: 1 - share.value, low: 1 - share.high, high: 1 - share.low };
}

function enough(pair, width) {
  if (!pair.more_votes) return `Enough votes: the interval is no wider than ${percent(width)}.`;
  const missing = `About ${count(pair.more_votes, "more vote")} for an interval of ${percent(width)}`;
  return pair.more_votes > pair.questions_left ? `${missing}; only ${count(pair.questions_left, "question")} without a vote: more questions are needed too.` : `${missing}.`;
}

const SVG = "http://www.w3.org/2000/svg";

/** The share and its interval between the two systems, the middle marked. A style attribute would break the page's policy; an SVG needs none. */
function bar(pair) {
  const svg = document.createElementNS(SVG, "svg");
  const add = (tag, attributes) => {
    const part = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) part.setAttribute(name, String(value));
    svg.append(part);
  };
  const place = (share) => 4 + 392 * (1 - share); // the first system stands on the left, so its shares run leftwards
  svg.setAttribute("viewBox", "0 4 400 16");
  svg.setAttribute("class", "bar-picture");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Share of ${pair.first}: ${range(pair.share, percent)}`);
  add("line", { x1: 4, x2: 396, y1: 12, y2: 12, class: "bar-line" });
  add("line", { x1: 200, x2: 200, y1: 5, y2: 19, class: "bar-middle" });
  add("line", { x1: place(pair.share.high), x2: place(pair.share.low), y1: 12, y2: 12, class: "bar-interval" });
  add("circle", { cx: place(pair.share.value), cy: 12, r: 5, class: "bar-value" });
  return svg;
}

function strengthCard(systems) {
  const ranked = systems.filter((system) => system.strength).sort((a, b) => b.strength.value - a.strength.value);
  if (!ranked.length) return make("p", { class: "notice" }, "The votes do not link the systems yet, so there is no order among them.");
  const rows = ranked.map(({ system, strength }) => make("tr", {}, make("th", { scope: "row" }, system), make("td", {}, signed(strength.value)), make("td", {}, `${signed(strength.low)} to ${signed(strength.high)}`)));
  return make(
    "article", { class: "card", "data-testid": "strengths" },
    make("h3", {}, "Strengths"),
    make("p", { class: "hint" }, "Bradley-Terry with ties, log-odds; 0 is the mean."),
    make("table", { class: "figures-table" }, make("thead", {}, make("tr", {}, ...["System", "Strength", "95 % interval"].map((title) => make("th", { scope: "col" }, title)))), make("tbody", {}, ...rows)),
  );
}

function effects(found) {
  const says = (effect, above, below) => (effect.low > 0 ? above : effect.high < 0 ? below : "no effect shown");
  const rows = [
    ["Length", found.length_effect && `An answer of twice the words: log-odds ${range(found.length_effect, signed)}; ${says(found.length_effect, "longer answers win more", "shorter answers win more")}.`],
    ["Side", found.left_effect && `Answer A: log-odds ${range(found.left_effect, signed)}; ${says(found.left_effect, "standing first helps", "standing second helps")}.`],
    ["Agreement", found.agreement ? `Krippendorff's alpha ${range(found.agreement, plainNumber)}, on ${count(found.shared_items, "item")} judged by several.` : `${count(found.shared_items, "item")} judged by several voters: too few or too alike to say.`],
  ];
  return make("dl", { class: "card effects", "data-testid": "effects" }, ...rows.filter(([, text]) => text).flatMap(([title, text]) => [make("dt", {}, title), make("dd", {}, text)]));
}

function lookList(looks) {
  const rows = looks.map((check) => make("li", {}, [check.check.replaceAll("_", " "), check.voter].filter(Boolean).join(", "), `: ${check.found}`));
  return make("article", { class: "notice notice-warning", "data-testid": "looks" }, make("h3", {}, "Look at"), make("ul", {}, ...rows));
}
