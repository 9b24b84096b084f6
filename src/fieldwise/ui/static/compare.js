// The page to vote from: one question, two answers without names, then what the votes say.

import { ServiceError, getJson, postJson, storeKey } from "./api.js";
import { sourceList, withChips } from "./answer.js";
import { prepareDocument } from "./document.js";
import { byId, make, show } from "./dom.js";
import { resultOf } from "./result.js";

const KEYS = { ArrowLeft: "left", ArrowRight: "right", t: "tie", n: "both_bad", s: "skip" };
const STORED = { voter: "fieldwise-voter", shortcuts: "fieldwise-shortcuts" };
const PARTS = ["key-form", "voter-form", "ballot", "ended", "result"];
let voter = null;
let pair = {};
let showing = null;
let began = 0;
let isSending = false;
let afterKey = begin;

function turnTo(part, focus = null) {
  for (const id of PARTS) show(byId(id), id === part);
  show(byId("problem"), false);
  if (focus) byId(focus).focus();
}

/** Do something with the service; what goes wrong is told on the page, and a key asked for where one is missing. */
async function tried(work, again) {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ServiceError && error.status === 401) askForKey(again);
    else tell(error);
    return null;
  }
}

function tell(error) {
  const parts = error instanceof ServiceError ? error.parts : { what: "the service cannot be reached", fix: "Check that it is running, then vote again: what you voted so far is kept." };
  const said = [parts.what || error.message, parts.found].filter(Boolean).join(": ");
  byId("problem").textContent = [`${said}.`, parts.fix].filter(Boolean).join(" ");
  show(byId("problem"), true);
}

// ------------------------------------------------------------ the key and the voter

function askForKey(again, message = "") {
  afterKey = again;
  turnTo("key-form", "key");
  show(byId("key-error"), Boolean(message));
  byId("key-error").textContent = message;
}

async function useKey(event) {
  event.preventDefault();
  storeKey(byId("key").value.trim());
  byId("key").value = "";
  try {
    await getJson("api/v1/compare/systems");
    await afterKey();
  } catch (error) {
    storeKey(null);
    askForKey(afterKey, error.status === 401 ? "This key is not accepted." : `The service did not answer: ${error.message}.`);
  }
}

async function begin() {
  const found = await tried(() => getJson("api/v1/compare/systems"), begin);
  if (!found) return;
  const { systems } = found;
  const pairs = systems.flatMap((one, n) => systems.slice(n + 1).map((other) => [one, other]));
  const options = [[], ...pairs].map((names, n) => make("option", { value: String(n) }, names.length ? names.join(" and ") : "Every pair"));
  byId("pair").replaceChildren(...(pairs.length === 1 ? options.slice(1) : options));
  byId("pair").onchange = () => {
    const [left, right] = [[], ...pairs][Number(byId("pair").value)];
    pair = left ? { left, right } : {};
  };
  byId("pair").onchange();
  byId("voter").value = sessionStorage.getItem(STORED.voter) || "";
  turnTo("voter-form", "voter");
  if (systems.length < 2) tell(new ServiceError(404, { what: "there are not two systems to compare in this run", fix: "Measure them first: fieldwise evaluate." }));
}

async function enter(event) {
  event.preventDefault();
  voter = byId("voter").value.trim();
  sessionStorage.setItem(STORED.voter, voter);
  await load();
}

// ------------------------------------------------------------ voting

async function load() {
  const found = await tried(() => postJson("api/v1/compare/next", { voter, ...pair }), load);
  if (found) display(found);
}

function display(found) {
  byId("progress").textContent = `${voter} · ${found.votes.toLocaleString("en")} of ${found.showings.toLocaleString("en")} done`;
  showing = found.showing;
  if (!showing) {
    end("Everything is voted on", "There is nothing left to compare here. Thank you.");
    return;
  }
  byId("document-close").click();
  byId("question").textContent = found.question;
  for (const side of ["left", "right"]) byId(side).replaceChildren(...answer(found[side]));
  byId("undo").disabled = found.votes === 0;
  turnTo("ballot");
  byId("question").focus({ preventScroll: true });
  window.scrollTo(0, 0);
  began = performance.now();
}

function answer(side) {
  return [make("div", { class: "reply", "data-testid": "reply" }, ...withChips(side)), sourceList(side.citations)].filter(Boolean);
}

async function vote(choice) {
  await sent("api/v1/compare/votes", { showing, choice, seconds: (performance.now() - began) / 1000 });
}

/** Send once at a time: a key held down must not vote on what has not been seen. */
async function sent(path, body = {}) {
  if (isSending || !showing) return;
  isSending = true;
  byId("choices").setAttribute("aria-busy", "true");
  try {
    display(await postJson(path, { voter, ...pair, ...body }));
  } catch (error) {
    if (error.status === 401) askForKey(load);
    else if (error.status === 409 && body.showing) await load(); // voted on in another window: go on with what is next
    else tell(error);
  } finally {
    isSending = false;
    byId("choices").removeAttribute("aria-busy");
  }
}

function pressed(event) {
  const isTyping = event.target.closest("input:not([type=checkbox]), select, textarea, .document");
  if (byId("ballot").hidden || !byId("shortcuts").checked || isTyping || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "u" && !byId("undo").disabled) sent("api/v1/compare/undo");
  else if (KEYS[key]) vote(KEYS[key]);
  else return;
  event.preventDefault();
}

function end(title, text) {
  byId("ended-title").textContent = title;
  byId("ended-text").textContent = text;
  show(byId("resume"), Boolean(showing));
  byId("document-close").click();
  turnTo("ended", "ended-title");
}

// ------------------------------------------------------------ the result

async function openResult() {
  const query = pair.left ? `?${new URLSearchParams(pair)}` : "";
  const found = await tried(() => getJson(`api/v1/compare/result${query}`), openResult);
  if (!found) return;
  byId("result").replaceChildren(...resultOf(found, make("button", { type: "button", class: "secondary", "data-testid": "back", onclick: voter ? load : begin }, voter ? "Go on voting" : "Back")));
  turnTo("result", "result-title");
}

prepareDocument();
byId("key-form").addEventListener("submit", useKey);
byId("voter-form").addEventListener("submit", enter);
for (const button of document.querySelectorAll("[data-choice]")) button.addEventListener("click", () => vote(button.dataset.choice));
byId("undo").addEventListener("click", () => sent("api/v1/compare/undo"));
byId("stop").addEventListener("click", () => end("Your votes are kept", "Come back with the same name or code to go on where you stopped."));
byId("resume").addEventListener("click", load);
for (const id of ["result-open", "result-early"]) byId(id).addEventListener("click", openResult);
byId("shortcuts").checked = sessionStorage.getItem(STORED.shortcuts) !== "off";
byId("shortcuts").addEventListener("change", () => sessionStorage.setItem(STORED.shortcuts, byId("shortcuts").checked ? "on" : "off"));
document.addEventListener("keydown", pressed);
begin();
