"""Confirm: whether a write is confirmed, from an engine's answers and a view of the store. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dkv.client import Endpoint

FRESH = 0.5
"""Seconds a view may be old when a write is confirmed with it."""


class ConfirmError(Exception):
    """Root of everything this package raises: a command that cannot be sent, or routed to one slot."""


class Kind(StrEnum):
    """The result of a write whose time is over."""

    CONFIRMED = "confirmed"  # on the disk of every member of the in-sync set
    ACKNOWLEDGED = "acknowledged"  # in the leader's archive; nothing is known of the others
    FAILED = "failed"  # refused, or no answer came: it may or may not have been done


@dataclass(frozen=True)
class Outcome:
    """How a write ended: what is known, the engine's reply, and why it is not more than that."""

    kind: Kind
    reason: str = ""
    reply: Any = None

    @property
    def confirmed(self) -> bool:
        """Whether it survives the loss of all machines of the in-sync set but one."""
        return self.kind is Kind.CONFIRMED


@dataclass(frozen=True)
class Engine:
    """One run of one engine as leader: nothing else may ever be meant by the same three facts."""

    endpoint: str
    term: int
    start_id: int


@dataclass(frozen=True)
class GroupView:
    """One storage group as a view of the store has it. `required` are the addresses that must have a write."""

    slots: tuple[tuple[int, int], ...]
    leader: Engine | None
    in_sync: int
    required: tuple[str, ...]
    min_in_sync: int


@dataclass(frozen=True)
class Role:
    """An answer to ROLE. `replicas` has the offset that each address acknowledged; offsets are bytes of one history."""

    leads: bool
    offset: int
    replicas: Mapping[str, int]


def judge(first: Role, second: Role, view: GroupView, age: float, written_to: Engine) -> Outcome:
    """Whether a write is confirmed: `first` was read after it on its connection to `written_to`, `second` later.

    `age` is in seconds since the view was asked for. Whatever is not known is not confirmed (model: confirm_by_name,
    model: confirm_on_the_leader_named).
    """
    if age >= FRESH:
        return acknowledged(f"no manager gave the state of the store within {FRESH:g} s")
    if view.leader != written_to:
        return acknowledged(f"{written_to.endpoint} is not the leader of the newest term any more")
    if not (first.leads and second.leads):
        return acknowledged(f"{written_to.endpoint} does not lead any more")
    if view.in_sync < view.min_in_sync:
        return acknowledged(f"{view.in_sync} of {view.min_in_sync} copies are in sync")
    late = [address for address in view.required if second.replicas.get(address, -1) < first.offset]
    if late:
        return acknowledged(f"not yet on the disk of {', '.join(late)}")
    return Outcome(Kind.CONFIRMED)


def acknowledged(reason: str) -> Outcome:
    """Acknowledged, and why it is not more than that."""
    return Outcome(Kind.ACKNOWLEDGED, reason)


def read_role(answer: Any) -> Role:
    """The reply of ROLE. Of two connections from one address the one with the smaller offset counts."""
    if not isinstance(answer, list) or answer[0] not in (b"master", "master"):
        return Role(False, 0, {})
    replicas: dict[str, int] = {}
    for host, port, offset in answer[2]:
        address = str(Endpoint(host.decode() if isinstance(host, bytes) else host, int(port)))
        replicas[address] = min(replicas.get(address, int(offset)), int(offset))
    return Role(True, int(answer[1]), replicas)


def read_groups(store: Mapping[str, Any]) -> tuple[GroupView, ...]:
    """The groups of a store from the managers' API."""
    return tuple(_group(group, int(store["minInSync"])) for group in store["groups"])


def read_authorities(store: Mapping[str, Any]) -> str:
    """The authorities (PEM) of a store whose engines speak TLS; empty where they speak plain, as all did before views said so."""
    transport = store.get("transport") or {}
    return str(transport["authorities"]) if transport.get("tls") else ""


def _group(group: Mapping[str, Any], min_in_sync: int) -> GroupView:
    leader = None
    if group["open"] and group["serving"] and group["leaderEndpoint"]:
        leader = Engine(str(group["leaderEndpoint"]), int(group["term"]), int(group["leaderStartId"]))
    slots = tuple((int(low), int(high)) for low, high in group["slots"])
    return GroupView(slots, leader, len(group["inSync"]), tuple(group["requiredEndpoints"]), min_in_sync)
