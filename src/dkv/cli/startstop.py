"""Start-DkvStore and Stop-DkvStore (docs/reference/cmdlets.md#managers): a call and a row per node, on its own manager.

All requests are posted before any is judged; then one store view after the other is read until every node is where
it should be or the time is over. What a node waits for is in that view; nothing is worked out here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dkv.cli.binding import Bound
from dkv.cli.create import finish
from dkv.cli.errors import CliError
from dkv.cli.manager_pool import ManagerPool, pick_instance, said
from dkv.cli.output import FAILED, SKIPPED, SUCCESS, Row
from dkv.cli.session import Job, Outcome, Session, fan_out
from dkv.client import ClientError, Json, ManagerClient

WIDTHS = (22, 28, 9)
POLL_SECONDS = 0.2
SEEN_FAILED = 2
"""How often in a row a node must read Failed: between an exit and its automatic restart a view may say so once."""


@dataclass
class Node:
    """One node of the command: its instance, its manager's address, and what is known of it so far."""

    instance: Json
    manager: str
    outcome: Outcome | None = None
    row: Row | None = None
    failures: int = 0

    @property
    def name(self) -> str:
        """The instance's name."""
        return str(self.instance["instanceName"])


@dataclass
class Work:
    """A Start or a Stop under way. `verb` is StartInstance or StopInstance, `goal` the states that end the waiting."""

    session: Session
    bound: Bound
    fleet: ManagerPool
    store: Json
    verb: str
    goal: tuple[str, ...]
    done: str
    nodes: list[Node] = field(default_factory=list)

    def settle(self, node: Node, result: str, message: str) -> Row:
        """Give the node its row."""
        node.row = Row(node.manager, f"{self.verb}:{node.name}", result, message)
        return node.row


def start(session: Session, bound: Bound) -> int:
    """Start every node of a store, or one."""
    work = _prepare(session, bound, "StartInstance", ("Running",), "Started")
    store = work.store["name"]
    _post(work, lambda client, name: client.start_instance(store, name))
    _wait(work)
    return finish(session, [_row(work, node) for node in work.nodes], WIDTHS)


def stop(session: Session, bound: Bound) -> int:
    """Stop every node of a store, or one. The stop of a whole store is announced to the domain first, so that no
    leader change is started by it."""
    work = _prepare(session, bound, "StopInstance", ("Stopped", "Created"), "Stopped")
    store, force = work.store["name"], bool(bound["Force"])
    whole = len(work.nodes) == len(work.store["instances"])
    if whole and not bound["InstanceName"] and any(n.instance["state"] not in work.goal for n in work.nodes):
        session.sent.append(f"the stop of {store} to its managers")
        work.fleet.first(lambda client: client.stop_store(store, force))
    _post(work, lambda client, name: client.stop_instance(store, name, force))
    _wait(work)
    return finish(session, [_row(work, node) for node in work.nodes], WIDTHS)


def _prepare(session: Session, bound: Bound, verb: str, goal: tuple[str, ...], done: str) -> Work:
    fleet = ManagerPool(session, bound, session.targets(bound))
    store = fleet.first(lambda client: client.store(bound["Name"]))
    work = Work(session, bound, fleet, store, verb, goal, done)
    chosen = [pick_instance(store, bound["InstanceName"])] if bound["InstanceName"] else list(store["instances"])
    if not chosen:
        raise CliError(f"The store {store['name']} has no instances.", "Add one with Add-DkvInstance.")
    owners = fleet.owners(store)
    for instance in chosen:
        if instance["server"] in owners:
            work.nodes.append(Node(instance, str(owners[instance["server"]])))
    _tell_left_out(session, store, [i for i in chosen if i["server"] not in owners], bool(work.nodes))
    return work


def _tell_left_out(session: Session, store: Json, left: Sequence[Json], some: bool) -> None:
    if not left:
        return
    names = ", ".join(str(i["instanceName"]) for i in left)
    managers = ",".join(dict.fromkeys(str(i["manager"]) for i in left))
    if not some:
        none = f"None of the targeted managers owns {names} of {store['name']}."
        raise CliError(none, f"Use -Managers {managers}.")
    session.screen.note(f"warning: left out {names}: not on the targeted managers but on {managers}.")


def _post(work: Work, call: Callable[[ManagerClient, str], Json]) -> None:
    jobs = [_job(work, node, call) for node in work.nodes]
    for node, outcome in zip(work.nodes, fan_out(work.session, jobs, work.bound), strict=True):
        node.outcome = outcome
        if outcome.trouble is not None:
            work.settle(node, FAILED, said(outcome.trouble))
        elif outcome.skipped:
            work.settle(node, SKIPPED, "Not sent: an earlier one failed")
        elif isinstance(outcome.value, dict) and str(outcome.value.get("result", "")).startswith("Already"):
            _settle_already(work, node, str(outcome.value["result"]))


def _settle_already(work: Work, node: Node, result: str) -> None:
    if node.instance["state"] in work.goal:
        work.settle(node, SUCCESS, result)
    elif work.verb == "StopInstance":
        # A whole stop may have stopped the node between its announcement and this call.
        work.settle(node, SUCCESS, work.done)
    # A node that somebody else is starting is "already running" too; it is waited for like the others.


def _job(work: Work, node: Node, call: Callable[[ManagerClient, str], Json]) -> Job:
    client = work.fleet.clients[node.manager]
    return Job(node.manager, f"{work.verb}:{node.name}", lambda: call(client, node.name))


def _wait(work: Work) -> None:
    session, ends = work.session, work.session.clock() + work.fleet.timeout
    while any(node.row is None for node in work.nodes):
        view = _look(work)
        if view is not None:
            work.store = view
            _judge(work)
        waiting = [node for node in work.nodes if node.row is None]
        halted = work.bound["FailFast"] and any(n.row and n.row.result == FAILED for n in work.nodes)
        if not waiting or halted or session.clock() >= ends:
            break
        session.screen.progress(waiting_text(waiting, ends - session.clock()))
        session.sleep(POLL_SECONDS)
    session.screen.clear_progress()


def _look(work: Work) -> Json | None:
    try:
        return work.fleet.first(lambda client: client.store(work.store["name"]))
    except (CliError, ClientError):
        return None


def _judge(work: Work) -> None:
    now = {str(i["instanceName"]): i for i in work.store["instances"]}
    for node in work.nodes:
        if node.row is not None:
            continue
        if node.name not in now:
            work.settle(node, FAILED, "It was removed meanwhile")
            continue
        node.instance = now[node.name]
        state = node.instance["state"]
        node.failures = node.failures + 1 if state == "Failed" else 0
        if state in work.goal:
            work.settle(node, SUCCESS, work.done)
        elif node.failures >= SEEN_FAILED:
            _settle_failed(work, node)


def _settle_failed(work: Work, node: Node) -> None:
    reason = str(node.instance.get("reason") or "no reason is known")
    if work.verb == "StopInstance" and not node.instance.get("process"):
        work.settle(node, SUCCESS, f"{work.done} (it had failed: {reason})")
    else:
        work.settle(node, FAILED, reason)


def waiting_text(waiting: Sequence[Node], left: float) -> str:
    """What is waited for, and when that ends at the latest, `left` seconds from now."""
    states = ", ".join(f"{node.name} {_state(node.instance)}" for node in waiting)
    return f"Waiting, at most {max(left, 0):.0f} s more: {states}"


def _state(instance: Json) -> str:
    """A node's state; how far it has loaded only while it does."""
    loading = (instance.get("process") or {}).get("loadingPercent")
    loads = loading is not None and loading < 100 and instance["state"] == "Starting"
    return f"{instance['state']} ({loading} % loaded)" if loads else str(instance["state"])


def _row(work: Work, node: Node) -> Row:
    if node.row is not None:
        return node.row
    if work.bound["FailFast"] and any(n.row and n.row.result == FAILED for n in work.nodes):
        return work.settle(node, SKIPPED, "Sent, but not waited for: another one failed")
    return work.settle(node, FAILED, _why_late(work, node))


def _why_late(work: Work, node: Node) -> str:
    waits = waits_for(work.store, node.instance)
    others = [str(name) for name in (waits or {}).get("for", []) if name != node.name]
    if waits and others and work.verb == "StartInstance":
        because = f": {waits['reason']}" if waits.get("reason") else ""
        return f"Waits for {', '.join(others)}{because} {waits.get('help') or ''}".strip()
    reason = node.instance.get("reason")
    late = f"Not {work.goal[0].lower()} after {work.fleet.timeout:g} s: {_state(node.instance)}"
    return f"{late}, {reason}" if reason else late


def waits_for(store: Json, instance: Json) -> Json | None:
    """What the group of an instance waits for, if anything."""
    for group in store["groups"]:
        if group["name"] == instance.get("group") and group.get("waitsFor"):
            return dict(group["waitsFor"])
    return None
