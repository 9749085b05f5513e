// The page: one view, of which each message brings what changed; one panel a subject, none of which takes another with it.
// @ts-check

import { h, patch } from "./dom.js";
import { credential, follow } from "./stream.js";
import { age, setClock } from "./words.js";
import { top, waiting } from "./top.js";
import { stores } from "./stores.js";
import { links } from "./links.js";
import { plots } from "./plots.js";
import { chain, ended, filtered, happened, operations } from "./happened.js";
import { begin, loadActions } from "./plan.js";

const KEPT_EVENTS = 1000;
const KEPT_SAMPLES = 600;

/** All that is known: the fields of the live view, the events and samples so far, and how the stream is. */
const view = { events: [], samples: [], connected: false, brokenSince: 0, why: "", chains: new Map(), filter: "", log: "" };

/** Each panel: the fields it is drawn from, and what draws it (null: there is nothing to show). */
const PANELS = [
  ["waiting", ["waiting", "reader"], waiting],
  ["stores", ["stores", "domain", "reader", "numbers", "hotCopies", "events"], stores],
  ["operations", ["stores", "hotCopies", "reader"], operations],
  ["links", ["numbers", "domain", "stores", "reader"], links],
  ["plots", ["numbers", "history", "stores", "events"], plots],
  ["happened", ["events", "chains"], happened],
  ["ended", ["tombstones"], ended],
];

const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

function take(message) {
  setClock(message.at);
  view.connected = true;
  view.brokenSince = 0;
  const { history, events, ...fields } = message;
  if (history) view.samples = history;
  if (message.numbers) view.samples = [...view.samples.filter((sample) => sample.at !== message.numbers.at), message.numbers].slice(-KEPT_SAMPLES);
  if (events) {
    const known = new Set(view.events.map((event) => event.sequence));
    const fresh = events.filter((event) => event && !known.has(event.sequence));
    view.events = [...view.events, ...fresh].sort((a, b) => a.sequence - b.sequence).slice(-KEPT_EVENTS);
  }
  Object.assign(view, fields);
  draw(new Set(Object.keys(message)));
}

function broken(why) {
  if (view.connected || !view.brokenSince) view.brokenSince = Date.now();
  view.connected = false;
  view.why = why;
  drawTop();
}

function draw(changed) {
  drawTop();
  for (const [name, needs, make] of PANELS) {
    if (needs.some((need) => changed.has(need))) panel(name, make);
  }
  search();
}

function drawTop() {
  guarded("top", () => top(view, element("where"), element("state")));
  document.body.classList.toggle("stale", !view.connected || Boolean(view.asOf));
}

/** Draw one panel; what goes wrong is said in its place. */
function panel(name, make) {
  const holder = element("panels");
  let place = holder.querySelector(`[data-panel="${name}"]`);
  if (!place) {
    place = h("section", { "data-panel": name });
    const later = PANELS.slice(PANELS.findIndex(([other]) => other === name) + 1).map(([other]) => holder.querySelector(`[data-panel="${other}"]`));
    holder.insertBefore(place, later.find(Boolean) ?? null);
  }
  let content;
  try {
    content = make(view);
  } catch (error) {
    console.error(error);
    content = [h("h2", {}, name), h("p", { class: "note" }, `This part of the page could not be drawn: ${error.message}. The rest goes on.`)];
  }
  patch(place, h("section", { "data-panel": name, hidden: !content }, content ?? []));
}

function guarded(name, act) {
  try {
    act();
  } catch (error) {
    console.error(name, error);
  }
}

// What a person does ----------------------------------------------------------------------------------------------------

const DO = {
  copy: (target) => navigator.clipboard?.writeText(target.dataset.copy).then(() => say("Copied.")),
  why: (target) => toggleChain(Number(target.dataset.why)),
  act: (target) => begin(view, target.dataset.act, JSON.parse(target.dataset.with ?? "{}")),
  log: (target) => {
    view.log = target.dataset.log;
    panel("happened", happened);
  },
};

document.addEventListener("click", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  for (const [name, act] of Object.entries(DO)) {
    const found = target.closest(`[data-${name}]`);
    if (found) guarded(name, () => act(found));
  }
});

async function toggleChain(sequence) {
  if (view.chains.has(sequence)) view.chains.delete(sequence);
  else view.chains.set(sequence, await chain(sequence));
  panel("happened", happened);
}

/** Say something that has happened, for a moment. */
export function say(text) {
  element("said").textContent = text;
  setTimeout(() => {
    if (element("said").textContent === text) element("said").textContent = "";
  }, 4000);
}

/** What is searched for is shown, and how much of it there is. */
function search() {
  const words = element("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const item of document.querySelectorAll("[data-find]")) {
    item.toggleAttribute("data-lost", !words.every((word) => item.dataset.find.toLowerCase().includes(word) || item.textContent.toLowerCase().includes(word)));
  }
  filtered(words.length > 0);
}

element("search").addEventListener("input", search);

const KEYS = {
  "/": ["search", () => element("search").focus()],
  "?": ["show these keys", keys],
  w: ["what waits", () => jump("waiting")],
  s: ["stores", () => jump("stores")],
  n: ["who hears whom", () => jump("links")],
  p: ["plots", () => jump("plots")],
  e: ["what happened", () => jump("happened")],
  d: ["processes that ended", () => jump("ended")],
};

document.addEventListener("keydown", (event) => {
  const target = /** @type {HTMLElement} */ (event.target);
  if (event.key === "Escape" && target === element("search")) {
    element("search").value = "";
    search();
    target.blur();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, dialog[open]")) return;
  if (KEYS[event.key]) {
    event.preventDefault();
    KEYS[event.key][1]();
  }
});

function jump(name) {
  const heading = /** @type {HTMLElement} */ (document.querySelector(`[data-panel="${name}"]:not([hidden]) h2`));
  if (!heading) return say("There is nothing of that now.");
  heading.tabIndex = -1;
  heading.focus();
  heading.scrollIntoView({ block: "start" });
}

function keys() {
  const rows = Object.entries(KEYS).map(([key, [text]]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)]);
  const close = h("form", { method: "dialog" }, h("button", {}, "Close"));
  const dialog = /** @type {HTMLDialogElement} */ (element("dialog"));
  dialog.replaceChildren(h("h2", { id: "dialog-title" }, "Keys"), h("dl", { class: "keys" }, rows, h("dt", {}, h("kbd", {}, "Tab")), h("dd", {}, "everything else")), close);
  if (!dialog.open) dialog.showModal();
}

element("help").addEventListener("click", keys);

// Who looks -------------------------------------------------------------------------------------------------------------

function login(refused) {
  const hadOne = Boolean(credential.get());
  credential.forget();
  view.connected = false;
  element("panels").hidden = true;
  element("leave").hidden = true;
  element("login").hidden = false;
  element("where").replaceChildren();
  element("state").textContent = refused.status === 403 ? "This principal may not look." : "This manager asks who you are.";
  element("refused").textContent = hadOne ? refused.message : "";
  element("token").focus();
}

element("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const [token, user, password] = ["token", "user", "password"].map((id) => element(id).value);
  if (!token && !user) return;
  const pair = String.fromCharCode(...new TextEncoder().encode(`${user}:${password}`));
  credential.set(token ? `Bearer ${token.trim()}` : `Basic ${btoa(pair)}`);
  element("login").reset();
  start();
});

element("leave").addEventListener("click", () => {
  credential.forget();
  location.reload();
});

function start() {
  element("login").hidden = true;
  element("panels").hidden = false;
  element("leave").hidden = !credential.get();
  element("state").textContent = "Connecting.";
  follow(take, broken, login);
}

setInterval(() => {
  guarded("age", age);
  drawTop();
}, 1000);

loadActions().finally(start);

