// The first two questions: is this page true, and does anything wait?
// @ts-check

import { h, patch } from "./dom.js";
import { hint } from "./plan.js";
import { ago, clock, count, now, span } from "./words.js";

/** The top line: which domain, as of when, and who ticks. */
export function top(view, where, state) {
  const domain = view.domain;
  const facts = domain
    ? [
        h("span", { title: domain.uid }, `domain ${domain.uid.slice(0, 8)}`),
        h("span", {}, `revision ${view.revision}`),
        h("span", {}, domain.leaderServer ? `${domain.leaderServer} ticks` : "no server ticks"),
        h("span", {}, `at ${local(domain)}`),
        view.reader?.principal ? h("span", { class: "who" }, view.reader.principal) : null,
        view.reader && domain.accessControl === "off" ? h("span", { class: "warn" }, "no access control") : null,
      ]
    : [];
  patch(where, h("div", { id: "where" }, facts));
  const [kind, text] = sentence(view);
  if (state.className !== kind) state.className = kind;
  if (state.textContent !== text) state.textContent = text;
  links(view, state);
}

function local(domain) {
  return domain.servers.find((server) => server.isLocal)?.serverId ?? "a manager";
}

function sentence(view) {
  if (!view.at) return view.why ? ["lost", `Not connected: ${view.why}.`] : ["", "Connecting."];
  if (!view.connected) return ["lost", `As of ${clock(view.at)}, ${span(now() - view.at)} ago: ${view.why}. Trying again.`];
  if (view.asOf) return ["lost", `As of ${clock(view.asOf.since)}: this manager waits for the domain since ${span(now() - view.asOf.since)}, ${view.asOf.why}. Engines go on serving.`];
  const waits = (view.waiting ?? []).length;
  const blocks = (view.waiting ?? []).filter((item) => item.blocksWrites).length;
  const text = blocks ? `Some writes are not taken. ${count(waits, "thing")} wait${waits === 1 ? "s" : ""}.` : waits ? `${count(waits, "thing")} wait${waits === 1 ? "s" : ""}.` : "All is well.";
  return [blocks ? "bad" : waits ? "warn" : "good", `${text} ${count(view.domain?.servers?.length, "server")}, ${count(view.stores?.length, "store")}. Live.`];
}

/** Where the page is to be had while its own manager is away. */
function links(view, state) {
  if (view.connected || !view.domain) return;
  const others = view.domain.servers.filter((server) => !server.isLocal && server.alive);
  const scheme = location.protocol;
  if (others.length) state.append(" Other managers: ", ...others.flatMap((server) => [h("a", { href: `${scheme}//${server.manager}/` }, server.serverId), " "]));
}

/** What waits: the sentence, since when, and what helps. */
export function waiting(view) {
  if (view.waiting === null) return [h("h2", {}, "What waits"), h("p", { class: "note" }, "The manager could not say what waits; its log says why.")];
  if (!view.waiting?.length) return null;
  const items = view.waiting.map((item) =>
    h(
      "li",
      { class: item.blocksWrites ? "card bad" : "card warn", "data-key": `${item.kind} ${item.subject} ${item.for}`, "data-find": `${item.subject} ${item.store ?? ""}` },
      h("p", { class: "what" }, h("strong", {}, item.subject), ` waits for ${item.for}`, item.since ? [" since ", ago(item.since)] : null, item.blocksWrites ? h("span", { class: "tag bad" }, "writes are not taken") : null),
      h("p", {}, `${item.reason}.`.replace(/\.\.$/, ".")),
      item.hint ? h("p", { class: "fix" }, hint(view, item.hintParts, item.hint)) : null,
    ),
  );
  return [h("h2", {}, "What waits"), h("ul", { class: "cards" }, items)];
}
