// Each store: how much more it can lose, its slots, and its copies by server and group.
// @ts-check

import { h, s } from "./dom.js";
import { button } from "./plan.js";
import { ago, bytes, clock, count, line, short } from "./words.js";

const CYCLE = ["REQUESTED", "STARTED", "CONFIGURED", "TRACKED", "MONITORED"];
const SLOTS = 16384;
const COLOURS = 8; // of groups, in style.css

/** Every store, and the servers. */
export function stores(view) {
  if (view.stores === null) return [h("h2", {}, "Stores"), h("p", { class: "note" }, "The manager could not show its stores; its log says why.")];
  if (!view.stores) return null;
  const none = view.stores.length ? null : h("p", { class: "note" }, "There is no store yet. ", line("dkv New-DkvStore -Name OrdersStore -InstancePrefix orders"));
  return [h("h2", {}, "Stores"), none, view.stores.map((store) => guarded(store.name, () => card(view, store)))];
}

function guarded(name, make) {
  try {
    return make();
  } catch (error) {
    console.error(error);
    return h("article", { class: "card store", "data-key": name }, h("h3", {}, name), h("p", { class: "note" }, `This store could not be drawn: ${error.message}.`));
  }
}

function card(view, store) {
  const running = store.instances.filter((instance) => instance.state === "Running").length;
  return h(
    "article",
    { class: "card store", "data-key": store.name, "data-find": `${store.name} ${store.status}` },
    h(
      "div",
      { class: "title" },
      h("h3", {}, store.name),
      h("span", { class: `tag ${store.status === "Running" ? "good" : store.status === "Partial" ? "warn" : ""}` }, store.status),
      h("span", { class: "dim" }, `${running} of ${count(store.instances.length, "copy").replace("copys", "copies")} running`),
      store.open ? h("span", { class: "tag warn" }, "lets in every client") : null,
      h("span", { class: "actions" }, orders(view, store, running)),
    ),
    h("p", { class: "lose" }, losing(store)),
    strip(store),
    legend(view, store),
    copies(view, store),
  );
}

/** Whether nothing of a store runs, and nothing is to: that it serves nothing is what somebody wanted. */
function stopped(store) {
  return store.status === "Stopped" && !store.instances.some((instance) => instance.process);
}

/** What the store can lose: the least of its groups. */
function losing(store) {
  if (!store.groups.length) return "It has no storage group.";
  if (stopped(store)) return "It is stopped.";
  const shut = store.groups.filter((group) => !group.serving).map((group) => group.name);
  if (shut.length) return [h("strong", {}, `${shut.join(", ")} ${shut.length === 1 ? "does" : "do"} not serve.`), " Nothing is written there until a copy leads."];
  const confirmed = Math.min(...store.groups.map((group) => group.canLoseForConfirmed));
  const writes = Math.min(...store.groups.map((group) => group.canLoseForWrites));
  return [h("strong", {}, `Can lose ${count(confirmed, "more server")}`), " without losing a confirmed write, ", h("strong", {}, String(writes || "none")), " and still take writes."];
}

function orders(view, store, running) {
  const values = { store: store.name };
  return [
    running < store.instances.length ? button(view, "startStore", values) : null,
    running ? button(view, "switchover", values) : null,
    store.groups.length > 1 && running ? button(view, "rebalance", values) : null,
    running && !store.restart ? button(view, "restartRolling", values) : null,
    store.restart ? button(view, "endRestart", values) : null,
    running ? button(view, "hotCopy", values) : null,
    running ? button(view, "stopStore", values) : button(view, "removeStore", values),
  ];
}

// Slots -----------------------------------------------------------------------------------------------------------------

function strip(store) {
  const parts = store.groups.flatMap((group, number) =>
    group.slots.map(([low, high]) =>
      s(
        "rect",
        { x: low, y: 0, width: high - low + 1, height: 16, class: colour(store, group, number) },
        s("title", {}, `slots ${low} to ${high}: ${group.name}, ${group.leader ? `${group.leader} leads` : "nobody leads"}`),
      ),
    ),
  );
  const owned = store.groups.reduce((sum, group) => sum + group.slots.reduce((n, [low, high]) => n + high - low + 1, 0), 0);
  const served = store.groups.filter((group) => group.serving).reduce((sum, group) => sum + group.slots.reduce((n, [low, high]) => n + high - low + 1, 0), 0);
  const text = `${served} of ${SLOTS} hash slots are served${owned < SLOTS ? `, ${SLOTS - owned} belong to no group` : ""}`;
  return s("svg", { class: "strip", viewBox: `0 0 ${SLOTS} 16`, preserveAspectRatio: "none", role: "img", "aria-label": text }, s("rect", { x: 0, y: 0, width: SLOTS, height: 16, class: "nobody" }), parts);
}

function colour(store, group, number) {
  return group.serving ? `g${number % COLOURS}` : stopped(store) ? "nobody" : "unserved";
}

function legend(view, store) {
  return h(
    "ul",
    { class: "legend" },
    store.groups.map((group, number) =>
      h(
        "li",
        { "data-key": group.name, "data-find": `${store.name} ${group.name}` },
        s("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": true }, s("rect", { width: 10, height: 10, class: colour(store, group, number) })),
        h("strong", {}, group.name),
        ` ${ranges(group.slots)} · ${group.leader ? `${group.leader} leads` : "nobody leads"}, term ${group.term}, ${group.phase}`,
        group.handover ? ` to ${group.handover.to}` : "",
        group.waitsFor ? h("span", { class: "tag warn" }, `waits for ${group.waitsFor.for.join(", ") || "a copy"}`) : null,
        group.joining.map((joining) => h("span", { class: "tag" }, `${joining.instance} joins: ${joining.stage}`)),
        group.enforcements.length ? h("span", { class: "tag warn", title: group.enforcements.map((one) => `${clock(one.at)} ${one.actor}: ${one.reason}`).join("\n") }, `${count(group.enforcements.length, "enforced leader")}`) : null,
      ),
    ),
  );
}

function ranges(slots) {
  const whole = slots.length === 1 && slots[0][0] === 0 && slots[0][1] === SLOTS - 1;
  if (whole) return "all slots";
  const shown = slots.slice(0, 3).map(([low, high]) => (low === high ? `${low}` : `${low}-${high}`));
  return `slots ${shown.join(", ")}${slots.length > 3 ? ` and ${slots.length - 3} more` : ""}`;
}

// Copies ----------------------------------------------------------------------------------------------------------------

function copies(view, store) {
  const servers = [...new Set(store.instances.map((instance) => instance.server))].sort();
  const groups = store.groups.map((group) => group.name);
  const known = new Map((view.domain?.servers ?? []).map((server) => [server.serverId, server]));
  const head = h("tr", {}, h("th", { scope: "col" }, "server"), groups.map((name) => h("th", { scope: "col" }, name)));
  const rows = servers.map((name) => {
    const server = known.get(name);
    const cells = groups.map((group) =>
      h("td", { "data-group": group }, store.instances.filter((instance) => instance.server === name && instance.group === group).map((instance) => chip(view, store, instance))),
    );
    return h("tr", { class: server?.alive ? "" : "away", "data-key": name }, h("th", { scope: "row" }, name, server && !server.alive ? h("span", { class: "tag warn" }, "manager away") : null, server?.stateMember ? h("small", {}, server.stateMember) : null), cells);
  });
  return h("div", { class: "wide", tabindex: 0, role: "group", "aria-label": `Copies of ${store.name}` }, h("table", { class: "copies" }, h("thead", {}, head), h("tbody", {}, rows)));
}

function chip(view, store, instance) {
  const process = instance.process;
  const leads = instance.role === "leader";
  const mark = leads ? "★" : instance.state === "Running" ? (instance.inSync ? "●" : "◐") : "○";
  const sync = instance.state === "Running" && !instance.inSync ? "not in sync" : instance.inSync && !leads ? "in sync" : "";
  const loading = process && process.loadingPercent < 100 && process.engineState !== "RUNNING" ? `${process.loadingPercent} % loaded` : "";
  const kind = instance.state === "Running" ? (instance.inSync ? "good" : "warn") : ["Stopped", "Created"].includes(instance.state) ? "" : "warn";
  return h(
    "details",
    { class: `chip ${kind}`, "data-key": instance.instanceName, "data-find": `${store.name} ${instance.instanceName} ${instance.server} ${instance.group} ${instance.host}:${instance.clientPort} ${instance.state}` },
    h(
      "summary",
      {},
      h("span", { class: "mark", "aria-hidden": true }, mark),
      h("span", { class: "name" }, instance.instanceName),
      h("span", { class: "dim" }, [leads ? "leads" : instance.role, sync, instance.state === "Running" ? "" : instance.state, loading].filter(Boolean).join(", ")),
      cycle(process),
    ),
    facts(view, store, instance),
  );
}

/** The life cycle: five dots, and the state as a word. One that is unknown here is a word only. */
function cycle(process) {
  if (!process) return h("span", { class: "cycle dim" }, "no process");
  const reached = CYCLE.indexOf(process.state);
  const dots = reached < 0 ? null : s("svg", { viewBox: "0 0 50 10", class: "dots", "aria-hidden": true }, CYCLE.map((_, n) => s("circle", { cx: 5 + n * 10, cy: 5, r: 3.2, class: n <= reached ? "done" : "todo" })));
  return h("span", { class: "cycle" }, dots, h("small", {}, process.state, process.engineState === "RUNNING" ? "" : `:${process.engineState}`));
}

function facts(view, store, instance) {
  const process = instance.process;
  const numbers = process ? (view.numbers?.engines ?? []).find((engine) => engine.startId === process.startId) : null;
  const born = process ? view.events.filter((event) => event.startId === process.startId && event.kind.startsWith("process.")).slice(-8) : [];
  const values = { store: store.name, instance: instance.instanceName, archiveId: instance.archiveId, server: instance.server, group: instance.group, startId: process?.startId };
  return h(
    "div",
    { class: "facts" },
    instance.reason ? h("p", {}, `${instance.reason}.`) : null,
    h(
      "dl",
      {},
      fact("clients", `${instance.host}:${instance.clientPort}`),
      fact("archive", `${instance.archiveId}, ${instance.archiveState}`),
      process ? fact("process", `start id ${process.startId}, pid ${process.pid ?? "-"}`) : null,
      numbers ? fact("memory", bytes(numbers.memory) + (numbers.maxMemory ? ` of ${bytes(numbers.maxMemory)}` : "")) : null,
      numbers ? fact("keys", short(numbers.keys)) : null,
      numbers ? fact("connections", String(numbers.clients)) : null,
    ),
    born.length ? h("ol", { class: "born" }, born.map((event) => h("li", { "data-key": `b${event.sequence}` }, ago(event.at), ` ago: ${event.change || event.text}`))) : null,
    h("p", { class: "actions" }, ordersOf(view, instance, process, values)),
  );
}

function fact(name, value) {
  return [h("dt", {}, name), h("dd", {}, value)];
}

function ordersOf(view, instance, process, values) {
  if (!process) return [button(view, "startInstance", values), button(view, "removeInstance", values), instance.archiveState === "NOT_RUNNING" ? button(view, "enforceLeader", values) : null];
  return [
    instance.role !== "leader" && instance.state === "Running" ? button(view, "switchoverTo", values) : null,
    button(view, "stopInstance", values),
    button(view, "killInstance", values),
  ];
}
