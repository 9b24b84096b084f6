// The page to ask from.

import { ServiceError, getJson, storeKey, stream } from "./api.js";
import { Pane } from "./answer.js";
import { prepareDocument } from "./document.js";
import { byId, count, make, show } from "./dom.js";

const POLL_MILLISECONDS = 1000;
const LABELS = { tuned: "Tuned on these documents", base: "Base model" };
let followed = [];
let isWatching = false;

async function loadModels() {
  try {
    const found = await getJson("models");
    show(byId("key-form"), false);
    describe(found);
  } catch (error) {
    if (error instanceof ServiceError && error.status === 401) askForKey();
    else setState("failed", "Not reachable");
  }
}

function describe({ release, models }) {
  const tuned = models.find((model) => model.name === "tuned");
  byId("release-name").textContent = release.name;
  document.title = `${release.name} · Fieldwise`;
  const gates = release.verdict === "PASS" ? "gates passed" : `gates: ${release.verdict.toLowerCase() || "not stated"}`;
  const loaded = models.filter((model) => model.is_loaded).map((model) => model.name);
  byId("release-facts").textContent = [`${tuned.quantisation} file`, count(release.documents, "document"), gates, `loaded: ${loaded.join(", ") || "nothing yet"}`].join(" · ");
  show(byId("override"), Boolean(release.override) && release.verdict !== "PASS");
  byId("override").textContent = `This model was released although a gate said no. Reason on record: ${typeof release.override === "string" ? release.override : JSON.stringify(release.override)}`;
  const hasBase = models.some((model) => model.name === "base");
  byId("compare").disabled = !hasBase;
  byId("compare").closest("label").title = hasBase ? "Both models read the same passages" : "This release holds no base model";
}

function setState(state, text) {
  byId("state").dataset.state = state;
  byId("state").textContent = text;
}

async function watchReadiness() {
  if (isWatching) return;
  isWatching = true;
  for (;;) {
    try {
      const answer = await (await fetch("ready")).json();
      if (answer.ready) {
        setState("ready", "Ready");
        isWatching = false;
        await loadModels();
        return;
      }
      setState("loading", answer.reason === "the models are being loaded" ? "Loading" : `Not ready: ${answer.reason}`);
    } catch {
      setState("failed", "Not reachable");
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
  }
}

// ------------------------------------------------------------ the key

function askForKey(message = "") {
  show(byId("key-form"), true);
  show(byId("key-error"), Boolean(message));
  byId("key-error").textContent = message;
  byId("key").focus();
}

async function useKey(event) {
  event.preventDefault();
  storeKey(byId("key").value.trim());
  byId("key").value = "";
  try {
    describe(await getJson("models"));
    show(byId("key-form"), false);
    byId("question").focus();
  } catch (error) {
    storeKey(null);
    askForKey(error.status === 401 ? "This key is not accepted." : `The service did not answer: ${error.message}.`);
  }
}

// ------------------------------------------------------------ asking

function ask(event) {
  event.preventDefault();
  const question = byId("question").value.trim();
  if (!question) return;
  const isCompared = byId("compare").checked;
  const panes = isCompared ? ["tuned", "base"].map((name) => new Pane(name, LABELS[name])) : [new Pane("tuned", null)];
  const exchange = new Exchange(question, followed, panes);
  byId("answers").prepend(exchange.element);
  show(byId("empty"), false);
  byId("question").value = "";
  follow(null);
  exchange.run();
}

class Exchange {
  constructor(question, history, panes) {
    this.question = question;
    this.history = history;
    this.panes = panes;
    this.abort = new AbortController();
    this.stopButton = make("button", { type: "button", class: "secondary", "data-testid": "stop", onclick: () => this.abort.abort() }, "Stop");
    this.actions = make("p", { class: "actions" }, this.stopButton);
    this.element = make(
      "article", { class: "card exchange", "data-testid": "exchange" },
      make("h2", { class: "asked", "data-testid": "asked" }, question),
      make("div", { class: panes.length > 1 ? "panes is-compared" : "panes" }, ...panes.map((pane) => pane.element)),
      panes.length > 1 ? make("p", { class: "hint" }, "Both read the same passages; only the weights differ.") : null,
      this.actions,
    );
  }

  async run() {
    await Promise.all(this.panes.map((pane) => this.fill(pane)));
    const answer = this.panes[0].answer;
    this.stopButton.remove();
    // a question that failed comes back to be mended, unless another is being written
    if (this.panes.some((pane) => pane.hasFailed) && !byId("question").value) byId("question").value = this.question;
    if (answer && !answer.is_declined) this.actions.append(make("button", { type: "button", class: "secondary", "data-testid": "ask-follow-up", onclick: () => follow(this) }, "Ask a follow-up"));
  }

  async fill(pane) {
    try {
      const body = { question: this.question, model: pane.model, stream: true, history: this.history };
      for await (const event of stream("ask", body, this.abort.signal)) pane.take(event);
      if (!pane.answer && !pane.hasFailed) pane.fail({ what: "the connection ended before the answer did", fix: "Ask again." });
    } catch (error) {
      if (error.name === "AbortError") pane.stop();
      else if (error instanceof ServiceError) {
        pane.fail(error.parts);
        if (error.status === 401) askForKey();
      } else {
        pane.fail({ what: "the service cannot be reached", fix: "Check that it is running, then ask again." });
        watchReadiness();
      }
    }
  }
}

/** Take an exchange along as history of the next question; null begins anew. */
function follow(exchange) {
  followed = exchange ? [...exchange.history, { role: "user", content: exchange.question }, { role: "assistant", content: exchange.panes[0].answer.text }].slice(-8) : [];
  show(byId("follow-up"), Boolean(exchange));
  byId("follow-up-question").textContent = exchange ? exchange.question : "";
  if (exchange) byId("question").focus();
}

prepareDocument();
byId("key-form").addEventListener("submit", useKey);
byId("ask-form").addEventListener("submit", ask);
byId("follow-up-end").addEventListener("click", () => follow(null));
byId("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("ask-form").requestSubmit();
  }
});
loadModels();
watchReadiness();
byId("question").focus({ preventScroll: true });
