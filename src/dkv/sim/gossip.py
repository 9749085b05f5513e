"""Simulation room: what engines say of each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dkv.engine.contract import NodeSeen


@dataclass(frozen=True)
class Known:
    """Another engine of the database, as gossip tells."""

    node_id: str
    address: str
    port: int
    leads: bool
    epoch: int
    follows: str | None
    said_at: float = 0.0
    claims: int = 0          # the epoch in which a phantom that it follows would own its group's slots

    @cached_property
    def seen(self) -> NodeSeen:
        """As one line of an engine's table of nodes."""
        return NodeSeen(self.node_id, self.address, self.port, "leader" if self.leads else "follower", self.follows,
                        False, False, self.epoch)  # fmt: skip
