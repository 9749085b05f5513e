// How numbers, times and sizes are written.
// @ts-check

import { h } from "./dom.js";

let ahead = 0; // ms that the manager's clock is ahead of this one

/** Take the manager's clock for the time that is shown. */
export function setClock(at) {
  ahead = at - Date.now();
}

/** The manager's clock now, ms. */
export function now() {
  return Date.now() + ahead;
}

/** "3 servers", "1 server", "no server". */
export function count(number, noun) {
  return `${number || "no"} ${noun}${number === 1 ? "" : "s"}`;
}

/** A time of day of this browser, with the day where it is not today. */
export function clock(at) {
  const date = new Date(at);
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString()} ${time}`;
}

/** A span of time, ms, in its two largest units. */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** How long ago that was, kept up to date by `age`. */
export function ago(at) {
  if (!at) return h("span", {}, "since when is not known");
  return h("time", { "data-since": at, datetime: new Date(at).toISOString(), title: clock(at) }, span(now() - at));
}

/** Write all spans of time anew. */
export function age() {
  for (const element of document.querySelectorAll("time[data-since]")) {
    const text = span(now() - Number(element.dataset.since));
    if (element.textContent !== text) element.textContent = text;
  }
}

/** Bytes, in the largest unit that leaves a number of at least one. */
export function bytes(number) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${number >= 100 || unit === 0 ? Math.round(number) : number.toFixed(1)} ${units[unit]}`;
}

/** A number as people read it: 1.2 k, 34 k, 5.6 M. */
export function short(number) {
  if (number >= 1e6) return `${(number / 1e6).toFixed(number >= 1e7 ? 0 : 1)} M`;
  if (number >= 1e3) return `${(number / 1e3).toFixed(number >= 1e4 ? 0 : 1)} k`;
  return number >= 10 || Number.isInteger(number) ? String(Math.round(number)) : number.toFixed(1);
}

/** Microseconds. */
export function micro(number) {
  return number >= 1000 ? `${(number / 1000).toFixed(number >= 10000 ? 0 : 1)} ms` : `${Math.round(number)} µs`;
}

/** A line to copy, with its button. */
export function line(text) {
  return h("span", { class: "copyable" }, h("code", {}, text), h("button", { type: "button", class: "copy", "data-copy": text, "aria-label": `Copy ${text}` }, "Copy"));
}
