"""When an engine's client port is open: only while what it answers clients is true (decision 0022). Pure.

An engine starts with it closed, because it knows nothing but a made-up leader. It is opened once the engine leads, or is
linked to the leader of an open term. From then on it names engines that exist, and in a vacancy the dead leader, at whose
address a connection is refused; so it stays open, until the whole store is stopped.
"""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.model import Group
from dkv.engine.contract import EngineSeen
from dkv.machine.steps import CloseClientPort, OpenClientPort, Step


def open_client_port(engine: EngineSeen) -> Iterator[Step]:
    """For an engine that leads, or is attached to the leader: what it answers clients from now on is true."""
    if engine.answering and not engine.busy and not engine.loading and not engine.takes_clients:
        yield OpenClientPort(f"clients {engine.directory}", engine.start_id, engine.group)


def close_client_port(engine: EngineSeen) -> Iterator[Step]:
    """Of a store that stops: a connection that ends is understood by every client, a refused write by none."""
    if engine.takes_clients:
        yield CloseClientPort(f"clients {engine.directory}", engine.start_id)


def linked(group: Group, engine: EngineSeen, leader: str) -> bool:
    """Whether a follower has reached its leader, and holds what it may show."""
    return group.serving and engine.replication.link_up and not engine.replication.resyncing and engine.follows == leader
