// Who hears whom: managers by the one that shows this page, followers by their leaders.
// @ts-check

import { h } from "./dom.js";
import { bytes, span } from "./words.js";

/** A table of managers, and one of followers. */
export function links(view) {
  const sample = view.numbers;
  if (!sample || !view.domain) return null;
  return [h("h2", {}, "Who hears whom"), h("div", { class: "columns" }, managers(view, sample), followers(view, sample))];
}

function managers(view, sample) {
  const rows = sample.managers.map((heard) => {
    const server = view.domain.servers.find((one) => one.serverId === heard.server);
    const silent = heard.answeredIn === null;
    return h(
      "tr",
      { "data-key": heard.server, class: silent ? "bad" : "", "data-find": heard.server },
      h("th", { scope: "row" }, heard.server),
      h("td", {}, silent ? word(false, "does not answer") : word(true, `answers in ${heard.answeredIn.toFixed(1)} ms`)),
      h("td", {}, server?.alive ? "alive" : "away"),
      h("td", {}, heard.leaseAge === null ? "no lease" : `lease ${span(heard.leaseAge)} old`),
    );
  });
  if (!rows.length) return h("p", { class: "note" }, "This domain has one server.");
  return h("div", { class: "wide", tabindex: 0, role: "group", "aria-label": "Managers" }, h("table", {}, h("caption", {}, `Managers, as ${view.domain.servers.find((server) => server.isLocal)?.serverId ?? "this one"} hears them`), h("tbody", {}, rows)));
}

function followers(view, sample) {
  const engines = new Map(sample.engines.map((engine) => [engine.startId, engine]));
  const rows = [];
  for (const store of view.stores ?? []) {
    for (const instance of store.instances) {
      const leads = store.groups.find((group) => group.name === instance.group)?.leader;
      if (!instance.process || instance.instanceName === leads) continue;
      rows.push(follower(store, instance, store.instances.find((other) => other.instanceName === leads), engines));
    }
  }
  if (!rows.length) return h("p", { class: "note" }, "No follower runs.");
  return h("div", { class: "wide", tabindex: 0, role: "group", "aria-label": "Followers" }, h("table", {}, h("caption", {}, "Followers and their leaders"), h("tbody", {}, rows)));
}

function follower(store, instance, leader, engines) {
  const own = engines.get(instance.process.startId);
  const seen = leader?.process ? engines.get(leader.process.startId)?.followers.find((one) => one.address === `${instance.host}:${instance.clientPort}`) : null;
  const hears = own ? (own.linkUp ? word(true, `hears ${leader?.instanceName ?? "its leader"}`) : word(false, own.linkUp === null ? "leads or is alone" : "link is down")) : word(false, "no numbers");
  return h(
    "tr",
    { "data-key": `${store.name} ${instance.instanceName}`, class: own?.linkUp ? "" : "bad", "data-find": `${store.name} ${instance.instanceName}` },
    h("th", { scope: "row" }, instance.instanceName),
    h("td", {}, hears),
    h("td", {}, seen ? `${bytes(seen.lagBytes)} behind` : "-"),
    h("td", {}, seen ? `acknowledged ${seen.silentSeconds} s ago` : own?.leaderHeard != null ? `heard ${own.leaderHeard} s ago` : "-"),
  );
}

function word(good, text) {
  return h("span", { class: good ? "yes" : "no" }, h("span", { "aria-hidden": true }, good ? "✓ " : "✕ "), text);
}
