// Talking to the service: the key, plain requests, and streams of server-sent events.

const STORED_KEY = "fieldwise-key";

export class ServiceError extends Error {
  constructor(status, parts) {
    super(parts.what || `the service answered ${status}`);
    this.status = status;
    this.parts = parts;
  }
}

export const storedKey = () => sessionStorage.getItem(STORED_KEY);

export function storeKey(key) {
  if (key) sessionStorage.setItem(STORED_KEY, key);
  else sessionStorage.removeItem(STORED_KEY);
}

function headers(more = {}) {
  const key = storedKey();
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function checked(response) {
  if (response.ok) return response;
  let parts = {};
  try {
    parts = (await response.json()).error || {};
  } catch {
    // not one of our answers, perhaps a proxy's: the status has to do
  }
  throw new ServiceError(response.status, parts);
}

export async function getJson(path) {
  return (await checked(await fetch(path, { headers: headers() }))).json();
}

export async function getBlob(path) {
  return (await checked(await fetch(path, { headers: headers() }))).blob();
}

export async function postJson(path, body) {
  const sent = { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body) };
  return (await checked(await fetch(path, sent))).json();
}

/** Yield {name, value} for every event of a streamed answer. */
export async function* stream(path, body, signal) {
  const response = await checked(
    await fetch(path, { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body), signal }),
  );
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      pending += value;
      const events = pending.split("\n\n");
      pending = events.pop();
      for (const event of events) yield parsed(event);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parsed(event) {
  let name = "message";
  const data = [];
  for (const line of event.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  return { name, value: JSON.parse(data.join("\n")) };
}
