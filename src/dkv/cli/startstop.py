"""CLI: Start-DkvStore and Stop-DkvStore: one call and one row per node, on the manager that owns it.

All requests are posted before any is judged; then the store is read until every node is where it should be or the time is
over. What a node waits for is in the store's view; nothing is worked out here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dkv.cli.binding import Bound
from dkv.cli.errors import CliError
from dkv.cli.manager_pool import TargetedManagers, pick_instance, reason_of
from dkv.cli.output import FAILED, SKIPPED, SUCCESS, WIDE, Row
from dkv.cli.session import Job, Session, fan_out, finish
from dkv.cli.waiting import until
from dkv.client import ClientError, ManagerClient

if TYPE_CHECKING:
    from dkv.wire import schemas

POLL = 0.2  # s between two reads of the store


class Node:
    """One node of the command: its instance as it was read last, its manager's address, and its row once it has one."""

    def __init__(self, instance: schemas.Instance, manager: str) -> None:
        self.instance = instance
        self.manager = manager
        self.row: Row | None = None

    @property
    def name(self) -> str:
        """The instance's name."""
        return str(self.instance["instanceName"])


class Work:
    """A Start or a Stop under way. `verb` is StartInstance or StopInstance, `goal` the states that end the waiting, `done`
    the message of a node that reached one."""

    def __init__(self, session: Session, bound: Bound, *, verb: str, goal: tuple[str, ...], done: str) -> None:
        self.session = session
        self.bound = bound
        self.verb = verb
        self.goal = goal
        self.done = done
        self.managers = TargetedManagers(session, bound)
        self.store = self.managers.first(lambda client: client.store(bound["Name"]))
        self.nodes: list[Node] = []

    def settle(self, node: Node, result: str, message: str) -> None:
        """Give the node its row."""
        node.row = Row(node.manager, f"{self.verb}:{node.name}", result, message)

    def waiting(self) -> list[Node]:
        """The nodes without a row."""
        return [node for node in self.nodes if node.row is None]

    def halted(self) -> bool:
        """Whether -FailFast ends the waiting."""
        return bool(self.bound["FailFast"]) and any(node.row and node.row.result == FAILED for node in self.nodes)


def start(session: Session, bound: Bound) -> int:
    """Start every node of a store, or one."""
    work = _prepare(Work(session, bound, verb="StartInstance", goal=("Running",), done="Started"))
    store = work.store["name"]
    _post(work, lambda client, name: client.start_instance(store, name))
    return _finish(work)


def stop(session: Session, bound: Bound) -> int:
    """Stop every node of a store, or one. The stop of a whole store is announced to the domain first, so that no
    leader change is started by it."""
    work = _prepare(Work(session, bound, verb="StopInstance", goal=("Stopped", "Created"), done="Stopped"))
    store, force = work.store["name"], bool(bound["Force"])
    whole = len(work.nodes) == len(work.store["instances"])
    if whole and not bound["InstanceName"] and any(node.instance["state"] not in work.goal for node in work.nodes):
        session.sent.append(f"the stop of {store} to its managers")
        work.managers.first(lambda client: client.stop_store(store, force))
    _post(work, lambda client, name: client.stop_instance(store, name, force))
    return _finish(work)


def _prepare(work: Work) -> Work:
    """The work with its nodes: all instances of the store or the one named, as far as the targeted managers own them."""
    store, name = work.store, work.bound["InstanceName"]
    chosen = [pick_instance(store, name)] if name else list(store["instances"])
    if not chosen:
        raise CliError(f"The store {store['name']} has no instances.", "Add one with Add-DkvInstance.")
    owners = work.managers.owners(store)
    work.nodes = [Node(i, str(owners[i["server"]])) for i in chosen if i["server"] in owners]
    _name_left_out(work.session, store, [i for i in chosen if i["server"] not in owners], bool(work.nodes))
    return work


def _name_left_out(session: Session, store: schemas.Store, left: Sequence[schemas.Instance], some: bool) -> None:
    if not left:
        return
    names = ", ".join(str(i["instanceName"]) for i in left)
    managers = ",".join(dict.fromkeys(str(i["manager"]) for i in left))
    if not some:
        none = f"None of the targeted managers owns {names} of {store['name']}."
        raise CliError(none, f"Use -Managers {managers}.")
    session.screen.note(f"warning: left out {names}: not on the targeted managers but on {managers}.")


def _post(work: Work, call: Callable[[ManagerClient, str], schemas.InstanceStarted | schemas.InstanceStopped]) -> None:
    jobs = [_job(work, node, call) for node in work.nodes]
    for node, outcome in zip(work.nodes, fan_out(work.session, jobs, work.bound), strict=True):
        if outcome.error is not None:
            work.settle(node, FAILED, reason_of(outcome.error))
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
    # A node that another command is starting is "already running" too; it is waited for like the others.


def _job(work: Work, node: Node, call: Callable[[ManagerClient, str], schemas.InstanceStarted | schemas.InstanceStopped]) -> Job:
    client = work.managers.clients[node.manager]
    return Job(node.manager, f"{work.verb}:{node.name}", lambda: call(client, node.name))


def _finish(work: Work) -> int:
    """Wait until every node has its row, or the time is over, and print the rows."""
    session = work.session
    if work.waiting():
        until(
            lambda: _read(work),
            lambda waiting: not waiting or work.halted(),
            work.managers.timeout,
            pause=POLL,
            report=lambda waiting, remaining: session.screen.progress(waiting_text(waiting, remaining)),
            clock=session.clock,
            sleep=session.sleep,
        )
    session.screen.clear_progress()
    for node in work.waiting():
        if work.halted():
            work.settle(node, SKIPPED, "Sent, but not waited for: another one failed")
        else:
            work.settle(node, FAILED, _why_late(work, node))
    return finish(session, [node.row for node in work.nodes if node.row], WIDE)


def _read(work: Work) -> list[Node]:
    """Read the store and give the nodes that are where they should be their rows; the nodes that are still waited for."""
    try:
        work.store = work.managers.first(lambda client: client.store(work.store["name"]))
    except ClientError:
        return work.waiting()
    instances = {str(instance["instanceName"]): instance for instance in work.store["instances"]}
    for node in work.waiting():
        if node.name not in instances:
            work.settle(node, FAILED, "It was removed meanwhile")
            continue
        node.instance = instances[node.name]
        if node.instance["state"] in work.goal:
            work.settle(node, SUCCESS, work.done)
        elif node.instance["state"] == "Failed":
            _settle_failed(work, node)
    return work.waiting()


def _settle_failed(work: Work, node: Node) -> None:
    reason = node.instance["reason"] or "no reason is known"
    if work.verb == "StopInstance" and not node.instance["process"]:
        work.settle(node, SUCCESS, f"{work.done} (it had failed: {reason})")
    else:
        work.settle(node, FAILED, reason)


def waiting_text(waiting: Sequence[Node], left: float) -> str:
    """The progress line: the nodes that are waited for, and the `left` seconds of the bound."""
    states = ", ".join(f"{node.name} {_state(node.instance)}" for node in waiting)
    return f"Waiting, at most {max(left, 0):.0f} s more: {states}"


def _state(instance: schemas.Instance) -> str:
    """A node's state; how far it has loaded only while it does."""
    process = instance["process"]
    if process is not None and process["loadingPercent"] < 100 and instance["state"] == "Starting":
        return f"Starting ({process['loadingPercent']} % loaded)"
    return instance["state"]


def _why_late(work: Work, node: Node) -> str:
    late = f"Not {work.goal[0].lower()} after {work.managers.timeout:g} s: {_state(node.instance)}"
    reason, hint = node.instance["reason"], work.session.screen.hint_of(node.instance)
    late = f"{late}, {reason}" if reason else late
    return f"{late}. {hint}" if hint and work.verb == "StartInstance" else late
