// Orders: a button makes a request, its plan is shown, and only then that very request is sent, bound to the plan's revision.
// @ts-check

import { h } from "./dom.js";
import { Refused, ask } from "./stream.js";
import { line } from "./words.js";

let ACTIONS = {};

/** Read what each action sends, and which line does the same at a command line. */
export async function loadActions() {
  const answer = await fetch(new URL("console/actions.json", document.baseURI), { credentials: "omit" });
  ACTIONS = await answer.json();
}

/** A hint: its texts, and its actions as lines to copy with a button each. */
export function hint(view, parts, text) {
  if (!parts?.length) return [text];
  return parts.map((part) => (part.action && ACTIONS[part.action] ? [line(filled(ACTIONS[part.action].line, part.arguments)), " ", button(view, part.action, part.arguments)] : part.text));
}

/** A button for an action, if this reader may order it. */
export function button(view, name, values, label) {
  const action = ACTIONS[name];
  if (!action?.method || !may(view, action)) return null;
  return h("button", { type: "button", class: action.typed ? "danger" : "", "data-act": name, "data-with": JSON.stringify(values) }, label ?? action.label, "…");
}

/** Whether it is worth showing: who has roles that somebody made is told by the plan. */
function may(view, action) {
  return view.reader?.rights.includes(action.right ?? "operate") || view.reader?.otherRoles;
}

/** A command line with its {names} filled, quoted where a shell needs it. */
export function filled(template, values) {
  return template.replace(/\{(\w+)\}/g, (_, name) => (values[name] === undefined || values[name] === "" ? name.toUpperCase() : quoted(String(values[name]))));
}

function quoted(word) {
  return /^[\p{L}\p{N}_./-]+$/u.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function addressed(template, values) {
  return template.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(String(values[name])));
}

/** A body with its {names} filled; a text that is one name has its value as it is. */
function inside(part, values) {
  if (typeof part === "string") {
    const whole = /^\{(\w+)\}$/.exec(part);
    return whole ? values[whole[1]] : part;
  }
  if (part === null || typeof part !== "object") return part;
  return Object.fromEntries(Object.entries(part).map(([name, value]) => [inside(name, values), inside(value, values)]));
}

/** The requests of an action. That of a whole store may be one for each instance that does not run. */
function requests(view, action, values) {
  const made = (more) => ({ method: action.method, path: addressed(action.path, more), ...(action.body ? { body: inside(action.body, more) } : {}) });
  if (!action.each) return [made(values)];
  const store = view.stores.find((one) => one.name === values.store);
  return (store?.instances ?? []).filter((instance) => !instance.process).map((instance) => made({ ...values, instance: instance.instanceName }));
}

// The dialog ------------------------------------------------------------------------------------------------------------

/** Begin an order: what it needs to know is asked for, then its plan is shown. */
export function begin(view, name, values) {
  const action = ACTIONS[name];
  const title = `${action.label}: ${values.instance ?? values.server ?? values.store ?? values.startId}`;
  const order = { view, action, values: { ...values }, title };
  if (action.inputs) return fill(order);
  return show(order);
}

function dialog(...content) {
  const element = /** @type {HTMLDialogElement} */ (document.getElementById("dialog"));
  element.replaceChildren(...content.flat(Infinity).filter(Boolean));
  if (!element.open) element.showModal();
  return element;
}

function close() {
  return h("button", { type: "submit", formmethod: "dialog", formnovalidate: true }, "Cancel");
}

function fill(order) {
  const fields = Object.entries(order.action.inputs).map(([name, text]) => h("label", {}, text, h("input", { name, required: true, autocomplete: "off", spellcheck: "false" })));
  const form = h("form", {}, fields, h("p", { class: "actions" }, h("button", { class: "main" }, "Show the plan"), close()));
  form.addEventListener("submit", (event) => {
    if (/** @type {SubmitEvent} */ (event).submitter?.getAttribute("formmethod")) return;
    event.preventDefault();
    for (const [name, value] of new FormData(/** @type {HTMLFormElement} */ (form))) order.values[name] = value;
    show(order);
  });
  dialog(h("h2", { id: "dialog-title" }, order.title), form);
}

async function show(order, note = "") {
  dialog(h("h2", { id: "dialog-title" }, order.title), h("p", {}, "Making the plan."));
  order.requests = requests(order.view, order.action, order.values);
  order.keys = order.requests.map(() => random());
  try {
    const bound = order.action.bound ? await ask("GET", addressed(order.action.bound, order.values)) : null;
    order.plan = await ask("POST", "admin/v1/plan", { steps: order.requests });
    planned(order, note, bound);
  } catch (error) {
    failed(order, error);
  }
}

function random() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function planned(order, note, bound) {
  const { action, values, plan } = order;
  const refused = plan.steps.find((step) => step.status >= 400);
  const typed = action.typed && !refused ? String(values[action.typed]) : "";
  const name = typed ? h("input", { id: "typed", autocomplete: "off", spellcheck: "false" }) : null;
  const go = refused ? null : h("button", { id: "go", class: typed ? "danger" : "main", disabled: Boolean(typed) }, "Do it");
  name?.addEventListener("input", () => go?.toggleAttribute("disabled", name.value !== typed));
  const form = h("form", {}, typed ? h("label", {}, "Type ", h("strong", {}, typed), " to go on", name) : null, h("p", { class: "actions" }, go, close()));
  form.addEventListener("submit", (event) => {
    if (/** @type {SubmitEvent} */ (event).submitter?.getAttribute("formmethod")) return;
    event.preventDefault();
    if (!typed || name?.value === typed) send(order);
  });
  dialog(
    h("h2", { id: "dialog-title" }, order.title),
    note ? h("p", { class: "no", role: "alert" }, note) : null,
    action.loses && !refused ? h("p", { class: "no" }, h("strong", {}, action.loses)) : null,
    bound ? h("p", {}, `As far as the domain knows: ${bound.bound.verdict}`) : null,
    h("p", { class: "dim" }, `The plan at revision ${plan.revision}. Nothing has been changed yet.`),
    h("ol", { class: "steps" }, plan.steps.map(step)),
    h("p", {}, "The same at a command line: ", line(filled(action.line, values))),
    form,
  );
}

function step(step) {
  const no = step.status >= 400 ? step.answer : null;
  return h(
    "li",
    {},
    h("code", {}, `${step.method} ${step.path}`),
    no ? h("p", { class: "no" }, no.detail ?? (no.messages ?? []).join(" ") ?? "It is refused.", " ", no.hint ?? "") : null,
    no ? null : h("ul", {}, step.commands.flatMap((command) => command.events.map((event) => h("li", {}, `${event.subject}${event.change ? ` ${event.change}` : ` (${event.kind.replace(/^.*\./, "").replaceAll("_", " ")})`}${event.because ? `, because ${event.because}` : ""}`)))),
    !no && !step.commands.some((command) => command.events.length) ? h("p", { class: "dim" }, "Nothing would change at once; what follows is decided when it is due.") : null,
  );
}

/** Send what was planned: the first request only at the plan's revision; each with a key, so that none is done twice. */
async function send(order) {
  document.getElementById("go")?.setAttribute("disabled", "");
  try {
    for (const [number, { method, path, body }] of order.requests.entries()) {
      const headers = { "Idempotency-Key": order.keys[number], ...(number ? {} : { "If-Match": `"${order.plan.revision}"` }) };
      await sent(method, path, body, headers);
    }
    /** @type {HTMLDialogElement} */ (document.getElementById("dialog")).close();
    const said = document.getElementById("said");
    if (said) said.textContent = `${order.title}: accepted.`;
    setTimeout(() => said?.replaceChildren(), 4000);
  } catch (error) {
    if (error instanceof Refused && error.code === "domain_changed") show(order, `${error.message} This is the plan as of now.`);
    else failed(order, error);
  }
}

/** A request whose answer was lost is sent again with its key: it is answered as before, and not done twice. */
async function sent(method, path, body, headers) {
  try {
    return await ask(method, path, body, headers);
  } catch (error) {
    if (error instanceof Refused) throw error;
    await new Promise((resolve) => setTimeout(resolve, 500));
    return ask(method, path, body, headers);
  }
}

function failed(order, error) {
  const again = h("button", { type: "button", class: "main" }, "Plan again");
  again.addEventListener("click", () => show(order));
  dialog(h("h2", { id: "dialog-title" }, order.title), h("p", { class: "no", role: "alert" }, error instanceof Refused ? error.message : "The manager does not answer; whether it was done is not known. What happened shows it."), error.hintParts?.length ? h("p", {}, hint(order.view, error.hintParts, error.hint)) : null, h("form", { method: "dialog" }, h("p", { class: "actions" }, again, h("button", {}, "Close"))));
}
