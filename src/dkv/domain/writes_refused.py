"""Domain: why an engine that leads refuses the writes of clients, or lets them wait, and what helps. Pure.

The reasons are Valkey's error replies, by their first word; docs/decisions/0023 goes through all of them and says which
cannot be met here. A manager observes them in INFO and reports one that lasts (machine/refusing.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain.model import Group, Process, State


@dataclass(frozen=True)
class WriteRefusal:
    """One reason: a clause that says what is the case, and what helps; `hint` may name {address} and {server}, and
    the actions {kill}, {start} and {memory}."""

    reason: str
    hint: str


WRITE_REFUSALS: dict[str, WriteRefusal] = {
    "BUSY": WriteRefusal(
        "it is busy with a script or function that does not end, and every other client is answered BUSY",
        "A script that wrote nothing ends by SCRIPT KILL (a function by FUNCTION KILL) sent to {address}. One that wrote ends "
        "only with its engine: {kill}, then {start}. No acknowledged write is lost by that; what the script wrote was not "
        "acknowledged to any client and is undone. With the option script-limit (ms) the manager does this by itself.",
    ),
    "OOM": WriteRefusal(
        "its memory is full (maxmemory), and writes that need more are answered OOM",
        "Delete keys or let them expire, or give it more: {memory}.",
    ),
    "MISCONF": WriteRefusal(
        "it cannot write its append-only file, and writes are answered MISCONF",
        "Make room on the disk of {server}, or repair it; the engine tries again every second.",
    ),
    "NOREPLICAS": WriteRefusal(
        "its manager blocks its writes, and they are answered NOREPLICAS",
        "The block ends when the manager of {server} may let it lead: look at what its group waits for, and at "
        "that manager's log.",
    ),
    "CLUSTERDOWN": WriteRefusal(
        "it does not know which node serves its hash slots, and writes are answered CLUSTERDOWN",
        "Look at the cluster links of {address} (its bus port) and at the log of the manager of {server}.",
    ),
    "READONLY": WriteRefusal(
        "it follows another engine although it should lead, so it accepts no client's writes",
        "Its manager makes it lead again or restarts it: look at the log of the manager of {server}, and for engines that "
        "are not of this domain on the bus.",
    ),
    "LOADING": WriteRefusal("it is loading data although it should lead", "Wait for it, or look at its log on {server}."),
    "MAXCLIENTS": WriteRefusal(
        "it has reached its limit of connections (maxclients), and new clients are refused",
        "Close connections: CLIENT LIST at {address} shows which clients have them.",
    ),
    "CLOSED": WriteRefusal(
        "its client port is closed, and every client's connection is refused",
        "Its manager opens the port as soon as it can: look at the log of the manager of {server}, and whether another program "
        "has {address}.",
    ),
    "PAUSED": WriteRefusal(
        "it holds back the writes of its clients (CLIENT PAUSE)",
        "The pause ends with the hot copy or the handover that needs it; otherwise send CLIENT UNPAUSE to {address} as the "
        "managers' user.",
    ),
}
"""By Valkey's word for it; MAXCLIENTS, CLOSED and PAUSED, which have none, by ours."""


def leading(state: State, process: Process) -> Group | None:
    """The group that a process leads, and whose writes it should take."""
    group = state.groups.get((process.database, process.group))
    return group if group and group.open and group.leader_process == process.start_id else None


def takes_writes(state: State, group: Group) -> bool:
    """Whether a client's write to the group is taken now, as far as the domain knows."""
    leader = state.leader_of(group)
    if leader is None or not group.serving or leader.health.silent_at or leader.health.refuses or group.intrusion:
        return False
    return len(group.in_sync) >= state.databases[group.database].options.min_in_sync
