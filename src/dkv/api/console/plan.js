// Orders: a button makes a request, its plan is shown, and only then it is sent.
// @ts-check

import { h } from "./dom.js";
import { line } from "./words.js";

let ACTIONS = {};

/** Read what each action sends, and which line does the same at a command line. */
export async function loadActions() {
  const answer = await fetch(new URL("console/actions.json", document.baseURI), { credentials: "omit" });
  ACTIONS = await answer.json();
}

/** A hint: its texts, its actions as lines to copy. */
export function hint(view, parts, text) {
  if (!parts?.length) return [text];
  return parts.map((part) => (part.action && ACTIONS[part.action] ? offered(view, part) : part.text));
}

function offered(view, part) {
  return [line(filled(ACTIONS[part.action].line, part.arguments)), button(view, part.action, part.arguments)];
}

/** A template with its {names} filled; for a shell they are quoted where they need it. */
export function filled(template, values) {
  return template.replace(/\{(\w+)\}/g, (_, name) => quoted(String(values[name] ?? `{${name}}`)));
}

function quoted(word) {
  return /^[\p{L}\p{N}_./-]+$/u.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** A button for an action, if this reader may order it. */
export function button(view, name, values, label) {
  return null;
}

export function begin(view, name, values) {}
