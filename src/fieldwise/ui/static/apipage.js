// The page of the API, made from openapi.json: no host but this one is asked.

import { getJson, storedKey } from "./api.js";
import { byId, make } from "./dom.js";

const TITLES = { ask: "Ask the documents", compare: "Compare blind", generate: "Generate, rerank, stop", openai: "OpenAI-compatible", state: "State" };

function resolved(schema, spec) {
  if (!schema || !schema.$ref) return schema || {};
  return schema.$ref.replace("#/", "").split("/").reduce((place, name) => place[name], spec);
}

function typeOf(schema, spec) {
  if (schema.$ref) return resolved(schema, spec).title || "object";
  if (schema.anyOf) return schema.anyOf.map((one) => typeOf(one, spec)).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${typeOf(schema.items || {}, spec)}`;
  return schema.type || "any";
}

function limits(schema) {
  const bounds = schema.anyOf?.find((one) => one.type !== "null") || schema;
  const low = bounds.minimum ?? bounds.minLength ?? bounds.minItems;
  const high = bounds.maximum ?? bounds.maxLength ?? bounds.maxItems;
  if (low === undefined && high === undefined) return "";
  if (low === 1 && high === undefined && bounds.type !== "integer") return "not empty";
  const unit = { string: " characters", array: " items" }[bounds.type] || "";
  return (high === undefined ? `from ${low}` : low === undefined ? `up to ${high}` : `${low} to ${high}`) + unit;
}

function fieldTable(schema, spec) {
  const body = resolved(schema, spec);
  if (!body.properties) return null;
  const needed = new Set(body.required || []);
  const rows = Object.entries(body.properties).sort(([a], [b]) => needed.has(b) - needed.has(a)).map(([name, field]) => {
    const facts = [typeOf(field, spec), limits(field)].filter(Boolean).join(", ");
    const fallback = needed.has(name) ? "required" : JSON.stringify(field.default ?? null);
    return make("tr", {}, make("td", {}, name), make("td", {}, facts), make("td", {}, fallback), make("td", {}, field.description || ""));
  });
  const head = make("tr", {}, ...["field", "type", "default", ""].map((title) => make("th", { scope: "col" }, title)));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
}

function example(schema, spec) {
  const body = resolved(schema, spec);
  const wanted = Object.entries(body.properties || {}).filter(([name]) => (body.required || []).includes(name));
  return Object.fromEntries(wanted.map(([name, field]) => [name, sample(name, field, spec)]));
}

function sample(name, field, spec) {
  if (name === "messages") return [{ role: "user", content: "Hello" }];
  const type = typeOf(field, spec);
  if (type.startsWith("list of")) return ["some text"];
  return type === "integer" ? 1 : "some text";
}

function route(method, path, operation, spec) {
  const schema = operation.requestBody?.content?.["application/json"]?.schema;
  const parameters = (operation.parameters || []).map((one) => make("tr", {}, make("td", {}, one.name), make("td", {}, `in ${one.in}`), make("td", {}, one.required ? "required" : ""), make("td", {}, one.description || "")));
  const sent = schema ? ` \\\n  -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(example(schema, spec))}'` : "";
  const key = storedKey() ? " \\\n  -H 'Authorization: Bearer KEY'" : "";
  const verb = method === "get" ? "" : ` -X ${method.toUpperCase()}`;
  return make(
    "details", { "data-testid": "route" },
    make("summary", {}, make("span", { class: "method" }, method.toUpperCase()), make("span", { class: "path" }, path), make("span", { class: "about" }, (operation.description || operation.summary || "").replaceAll("`", ""))),
    make("div", { class: "api-body" }, parameters.length ? make("table", {}, make("tbody", {}, ...parameters)) : null, schema ? fieldTable(schema, spec) : null, make("pre", {}, `curl${verb} ${location.origin}${path}${key}${sent}`)),
  );
}

function fill(spec) {
  byId("api-title").textContent = `${spec.info.title.replace("Fieldwise: ", "")}, API ${spec.info.version}`;
  const groups = new Map(Object.keys(TITLES).map((tag) => [tag, []]));
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = (operation.tags || ["state"])[0];
      groups.set(tag, [...(groups.get(tag) || []), route(method, path, operation, spec)]);
    }
  }
  byId("routes").replaceChildren(...[...groups].flatMap(([tag, routes]) => (routes.length ? [make("h2", {}, TITLES[tag] || tag), ...routes] : [])));
}

try {
  fill(await getJson("openapi.json"));
} catch (error) {
  byId("api-note").textContent = error.status === 401 ? "Enter the key on the first page, then come back." : `It could not be read: ${error.message}.`;
}
byId("routes").setAttribute("aria-busy", "false");
