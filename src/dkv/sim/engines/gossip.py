"""Simulation: what engines say of each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from dkv.engine.contract import NodeSeen


@dataclass(frozen=True)
class Known:
    """Another engine of the database, as gossip describes it."""

    node_id: str
    address: str
    port: int
    leads: bool
    epoch: int
    follows: str | None
    said_at: float = 0.0
    slots: tuple[tuple[int, int], ...] = ()  # that it owns

    @property
    def seen(self) -> NodeSeen:
        """As one line of an engine's table of nodes."""
        return line(self.node_id, (self.address, self.port), self.leads, self.follows, (self.epoch, self.slots))


@lru_cache(maxsize=4096)
def line(
    node_id: str, at: tuple[str, int], leads: bool, follows: str | None, claims: tuple[int, tuple[tuple[int, int], ...]]
) -> NodeSeen:
    """One line of an engine's table of nodes, with the epoch and the slots it claims; equal lines are the same object."""
    return NodeSeen(node_id, *at, "leader" if leads else "follower", follows, False, False, *claims)
