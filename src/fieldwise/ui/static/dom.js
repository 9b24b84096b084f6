// Building parts of the page. Text from models and documents only ever becomes a text node.

export const byId = (id) => document.getElementById(id);

/** Make an element; `attributes` may hold class, data-testid, aria-*, and functions for events (onclick). */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function show(element, isShown) {
  element.hidden = !isShown;
}

export function seconds(value) {
  return `${value.toFixed(value < 1 ? 2 : value < 10 ? 1 : 0)} s`;
}

export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}
