// What happened and why, what is under way, and what ended.
// @ts-check

import { h } from "./dom.js";
import { button, hint } from "./plan.js";
import { ask } from "./stream.js";
import { ago, bytes, clock, count, span } from "./words.js";

const SHOWN = 60;
const SHOWN_SEARCHED = 1000;
let searching = false;

/** Whether somebody searches: then the whole log is looked through. */
export function filtered(now) {
  searching = now;
}

/** The newest events first; each with the chain of what it follows from, where that was asked for. */
export function happened(view) {
  const kinds = ["", "group", "process", "server", "database", "in_sync"];
  const events = view.events.filter((event) => event.kind.startsWith(view.log)).slice(-(searching ? SHOWN_SEARCHED : SHOWN)).reverse();
  const choose = h("div", { class: "choose", role: "group", "aria-label": "Kind of events" }, kinds.map((kind) => h("button", { type: "button", "data-log": kind, "data-key": `kind ${kind}`, "aria-pressed": view.log === kind ? "true" : "false" }, { "": "all", in_sync: "in sync" }[kind] ?? kind)));
  return [h("h2", {}, "What happened"), choose, events.length ? h("ol", { class: "log" }, events.map((event) => item(view, event))) : h("p", { class: "note" }, "Nothing of that is in the log of this page.")];
}

function item(view, event) {
  const known = view.chains.get(event.sequence);
  return h(
    "li",
    { "data-key": `e${event.sequence}`, class: event.ordered ? "ordered" : "", "data-find": `${event.kind} ${event.subject} ${event.database} ${event.actor}` },
    h("div", { class: "event" }, h("time", { datetime: new Date(event.at).toISOString() }, clock(event.at)), h("span", { class: "text" }, told(event)), h("button", { type: "button", class: "why", "data-why": event.sequence, "aria-expanded": known ? "true" : "false" }, "why?")),
    known ? h("ol", { class: "chain" }, known.map((link) => h("li", {}, link))) : null,
  );
}

function told(event) {
  return [event.text, event.because ? h("span", { class: "dim" }, `, because ${event.because}`) : null];
}

/** Why an event happened: what it follows from, the beginning first, as sentences. */
export async function chain(sequence) {
  try {
    const answer = await ask("GET", `admin/v1/events/${sequence}`);
    const lines = answer.events.map((event) => `${clock(event.at)}  ${event.text}${event.because ? `, because ${event.because}` : ""} (${event.command}${event.actor ? ` by ${event.actor}` : ""})`);
    return [...(answer.trimmed ? ["What came before is not kept any more."] : []), ...lines.reverse()];
  } catch (error) {
    return [error.message];
  }
}

/** Long operations and hot copies, with how far they are. */
export function operations(view) {
  const rows = (view.stores ?? []).flatMap((store) => store.operations.map((operation) => underWay(view, store, operation)));
  const copies = (view.hotCopies ?? []).filter((copy) => copy.status === "running" || copy.endAt > view.at - 3600000).map((copy) => hotCopy(view, copy));
  if (!rows.length && !copies.length) return null;
  return [h("h2", {}, "Under way"), h("ul", { class: "cards" }, rows, copies)];
}

function underWay(view, store, operation) {
  return h(
    "li",
    { class: "card", "data-key": `${operation.kind} ${operation.subject}`, "data-find": `${store.name} ${operation.subject}` },
    h("p", { class: "what" }, h("strong", {}, operation.subject), ` ${operation.stage}`, operation.since ? [", since ", ago(operation.since)] : null),
    operation.total ? progress(operation.done, operation.total, `${operation.done} of ${operation.total}`) : null,
    operation.waitsFor ? h("p", {}, `waits for ${operation.waitsFor}: ${operation.reason}.`, " ", hint(view, operation.hintParts, operation.hint)) : null,
    operation.cancel === "StopRestart" ? h("p", { class: "actions" }, button(view, "endRestart", { store: store.name })) : null,
  );
}

function hotCopy(view, copy) {
  const percent = copy.archives.length ? copy.archives.reduce((sum, part) => sum + part.percent, 0) / copy.archives.length : 0;
  const size = copy.archives.reduce((sum, part) => sum + part.size, 0);
  return h(
    "li",
    { class: copy.status === "failed" ? "card bad" : "card", "data-key": `copy ${copy.hotCopyId}`, "data-find": copy.store },
    h("p", { class: "what" }, h("strong", {}, `hot copy ${copy.hotCopyId} of ${copy.store}`), ` ${copy.status}, ${copy.stage}${copy.message ? `: ${copy.message}` : ""}`, copy.endAt ? `, took ${span(copy.endAt - copy.beginAt)}` : [", since ", ago(copy.beginAt)], size ? `, ${bytes(size)}` : ""),
    copy.status === "running" ? progress(percent, 100, `${Math.round(percent)} %`) : null,
    copy.status === "running" ? h("p", { class: "actions" }, button(view, "cancelHotCopy", { store: copy.store, copyId: copy.hotCopyId, coordinator: copy.coordinatorStartId })) : null,
  );
}

function progress(value, max, text) {
  return h("p", { class: "progress" }, h("progress", { value, max, "aria-label": text }), ` ${text}`);
}

/** What is kept of processes that ended, with the cause. */
export function ended(view) {
  if (!view.tombstones?.length) return null;
  const rows = view.tombstones.map((stone) =>
    h(
      "tr",
      { "data-key": String(stone.startId), "data-find": `${stone.store} ${stone.instanceName ?? ""} ${stone.cause}` },
      h("td", {}, clock(stone.at)),
      h("th", { scope: "row" }, stone.instanceName ?? "TE", h("small", {}, ` start id ${stone.startId}`)),
      h("td", {}, stone.server),
      h("td", {}, h("strong", {}, stone.cause), stone.reason && !stone.reason.startsWith(stone.cause) ? `: ${stone.reason}` : stone.reason.slice(stone.cause.length), stone.lastWords.length ? h("details", {}, h("summary", {}, count(stone.lastWords.length, "last line")), h("pre", { tabindex: 0 }, stone.lastWords.join("\n"))) : null),
    ),
  );
  return [h("h2", {}, "Processes that ended"), h("div", { class: "wide", tabindex: 0, role: "group", "aria-label": "Processes that ended" }, h("table", { class: "ended" }, h("thead", {}, h("tr", {}, ["when", "instance", "server", "cause"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows)))];
}
