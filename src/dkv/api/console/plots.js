// The last ten minutes on one time axis: work, times, memory and lag; outages as bands, changes of leader as marks.
// @ts-check

import { h, s } from "./dom.js";
import { bytes, clock, micro, now, short } from "./words.js";

const SPAN = 600000; // ms
const GAP = 5000; // ms without a sample, over which no line is drawn
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [600, 130, 52, 18, 8];

/** One plot a subject. */
export function plots(view) {
  if (!view.samples.length) return null;
  const end = now();
  const names = instances(view);
  const rates = work(view.samples);
  const marks = { bands: outages(view.events, end), leaders: view.events.filter((event) => event.kind === "group.opened" || event.kind === "group.handed_over") };
  const all = [
    plot("Operations a second", end, rates, marks, short),
    plot("Median and 99th percentile of ten seconds", end, times(view.samples), marks, micro),
    plot("Memory", end, each(view.samples, names, (engine) => engine.memory), marks, bytes, limit(view.samples)),
    plot("Followers behind their leader", end, lags(view.samples, followers(view)), marks, bytes),
  ];
  const since = view.samples[0].at;
  return [h("h2", {}, "The last ten minutes"), h("p", { class: "note" }, `Numbers are taken while a page is open: here since ${clock(Math.max(since, end - SPAN))}.`), h("div", { class: "plots" }, all)];
}

function instances(view) {
  const names = new Map();
  for (const store of view.stores ?? []) {
    for (const instance of store.instances) if (instance.process) names.set(instance.process.startId, instance.instanceName);
  }
  return names;
}

function work(samples) {
  const lines = { get: [], put: [], remove: [] };
  samples.forEach((sample, n) => {
    const before = samples[n - 1];
    if (!before || sample.at - before.at > GAP || sample.at <= before.at) return;
    const known = new Map(before.engines.map((engine) => [engine.startId, engine]));
    for (const [name, field] of [["get", "gets"], ["put", "puts"], ["remove", "removes"]]) {
      const done = sample.engines.reduce((sum, engine) => sum + (known.has(engine.startId) ? Math.max(0, engine[field] - known.get(engine.startId)[field]) : 0), 0);
      lines[name].push([sample.at, (done * 1000) / (sample.at - before.at)]);
    }
  });
  return lines;
}

function each(samples, names, value) {
  const lines = {};
  for (const sample of samples) {
    for (const engine of sample.engines) {
      const number = value(engine);
      if (number !== null && names.has(engine.startId)) (lines[names.get(engine.startId)] ??= []).push([sample.at, number]);
    }
  }
  return lines;
}

function times(samples) {
  const lines = { median: [], "99 %": [] };
  for (const sample of samples) {
    const [halves, tails] = [sample.engines.map((engine) => engine.p50), sample.engines.map((engine) => engine.p99)].map((list) => list.filter((number) => number !== null));
    if (halves.length) lines.median.push([sample.at, Math.max(...halves)]);
    if (tails.length) lines["99 %"].push([sample.at, Math.max(...tails)]);
  }
  return lines;
}

function followers(view) {
  return new Map((view.stores ?? []).flatMap((store) => store.instances).map((instance) => [`${instance.host}:${instance.clientPort}`, instance.instanceName]));
}

function lags(samples, names) {
  const lines = {};
  for (const sample of samples) {
    for (const engine of sample.engines) for (const follower of engine.followers) (lines[names.get(follower.address) ?? follower.address] ??= []).push([sample.at, follower.lagBytes]);
  }
  return lines;
}

function limit(samples) {
  const limits = samples[samples.length - 1].engines.map((engine) => engine.maxMemory).filter(Boolean);
  return limits.length ? Math.min(...limits) : 0;
}

/** From each loss of a leader to the moment when the group serves again. */
function outages(events, end) {
  const open = new Map();
  const bands = [];
  for (const event of events) {
    if (event.kind === "group.vacated") open.set(event.subject, event.at);
    if (event.kind === "group.serving" && open.has(event.subject)) {
      bands.push([open.get(event.subject), event.at, event.subject]);
      open.delete(event.subject);
    }
  }
  return [...bands, ...[...open].map(([subject, at]) => [at, end, subject])];
}

function plot(title, end, lines, marks, write, ceiling = 0) {
  const named = Object.entries(lines).filter(([, points]) => points.length);
  const begin = end - SPAN;
  const most = Math.max(1, ...named.flatMap(([, points]) => points.filter(([at]) => at >= begin).map(([, value]) => value)));
  const top = ceiling && ceiling < most * 4 ? Math.max(most, ceiling) : nice(most);
  const x = (at) => LEFT + ((Math.max(begin, at) - begin) / SPAN) * (WIDTH - LEFT - 4);
  const y = (value) => TOP + (1 - Math.min(1, value / top)) * (HEIGHT - TOP - BOTTOM);
  const newest = named.map(([name, points]) => `${name} ${write(points[points.length - 1][1])}`).join(", ");
  const drawing = s(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "plot", role: "img", "aria-label": `${title}: ${newest || "no numbers yet"}` },
    marks.bands.filter(([, to]) => to >= begin).map(([from, to, subject]) => s("rect", { class: "outage", x: x(from), y: TOP, width: Math.max(1.5, x(to) - x(from)), height: HEIGHT - TOP - BOTTOM }, s("title", {}, `${subject} had no leader for ${to - from} ms`))),
    (named.length ? [0, 0.5, 1] : []).map((part) => [s("line", { class: "grid", x1: LEFT, x2: WIDTH - 4, y1: y(top * part), y2: y(top * part) }), s("text", { class: "tick", x: LEFT - 6, y: y(top * part) + 4, "text-anchor": "end" }, write(top * part))]),
    [0, 2, 4, 6, 8, 10].map((minutes) => s("text", { x: x(end - minutes * 60000), y: HEIGHT - 4, "text-anchor": minutes === 0 ? "end" : "middle", class: minutes % 4 ? "tick odd" : "tick" }, minutes ? `-${minutes} min` : "now")),
    named.length ? null : s("text", { class: "tick", x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "no numbers yet"),
    ceiling && ceiling <= top ? s("line", { class: "ceiling", x1: LEFT, x2: WIDTH - 4, y1: y(ceiling), y2: y(ceiling) }, s("title", {}, `limit ${write(ceiling)}`)) : null,
    named.map(([, points], number) => pieces(points, begin).map((piece) => s("polyline", { class: `line l${number % 6}`, points: piece.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" ") }))),
    marks.leaders.filter((event) => event.at >= begin).map((event) => s("path", { class: "leader", d: `M${x(event.at)} ${TOP} l4 -7 h-8 z` }, s("title", {}, `${clock(event.at)} ${event.text}`))),
  );
  const legend = h("figcaption", {}, h("strong", {}, title), h("span", { class: "keys" }, named.slice(0, 8).map(([name, points], number) => h("span", { "data-key": name }, s("svg", { viewBox: "0 0 16 6", class: "swatch", "aria-hidden": true }, s("line", { class: `line l${number % 6}`, x1: 0, x2: 16, y1: 3, y2: 3 })), `${name} ${write(points[points.length - 1][1])}`)), named.length > 8 ? `and ${named.length - 8} more` : null));
  return h("figure", { "data-key": title }, legend, drawing);
}

/** The points in pieces without a gap, at most as many as there are pixels. */
function pieces(points, begin) {
  const shown = [];
  let piece = [];
  for (const [at, value] of points) {
    if (at < begin) continue;
    if (piece.length && at - piece[piece.length - 1][0] > GAP) {
      shown.push(piece);
      piece = [];
    }
    piece.push([at, value]);
  }
  return [...shown, piece].filter((part) => part.length);
}

function nice(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= most) ?? most;
}
