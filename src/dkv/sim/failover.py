"""Simulation: the coordinated failover of Valkey (CLUSTER FAILOVER), as one engine's part in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dkv.engine.contract import EngineRefused
from dkv.sim.gossip import Known
from dkv.sim.net import SimNet
from dkv.sim.replication import Replication

if TYPE_CHECKING:
    from dkv.sim.engine import SimEngine

FAILOVER_WITHIN = 5.0  # seconds, cluster-manual-failover-timeout


class Failover:
    """What a leader and the follower that takes over do; the rest of the engine is in engine.py."""

    net: SimNet
    machine: str
    role: str
    follows: str | None
    node_id: str
    known: dict[str, Known]
    replication: Replication
    admits: bool
    paused_until: float  # as the leader: nothing is written before
    failover: tuple[float, int | None] | None  # as the follower: since when, offset to reach

    def _lead(self) -> None:
        raise NotImplementedError

    def begin_failover(self) -> None:
        """Asked of a follower: the leader pauses, this one catches up, gets the leader's vote, and leads."""
        leader = self.net.engines.get(self.follows or "")
        if self.role != "follower" or self.replication.state != "up" or leader is None:
            raise EngineRefused("Master is down or failed, please use CLUSTER FAILOVER FORCE")
        self.admits = True
        self.failover = (self.net.now(), None)
        self.net.post(self.machine, leader, leader.pause_for, self)

    def pause_for(self, follower: SimEngine) -> None:
        """As the leader: no writes until the follower leads, or the time for it is over. Only for whom it knows as its own."""
        asking = self.known.get(follower.node_id)
        if self.role == "leader" and asking is not None and asking.follows == self.node_id:
            self.paused_until = self.net.now() + FAILOVER_WITHIN
            self.net.post(self.machine, follower, follower.reach, self.replication.offset)

    def reach(self, offset: int) -> None:
        """As the follower: this is how far the paused leader got."""
        if self.failover:
            self.failover = (self.failover[0], offset)
            self.caught_up()

    def caught_up(self) -> None:
        """More of the stream is here: perhaps all of it."""
        leader = self.net.engines.get(self.follows or "")
        since, wanted = self.failover or (0.0, None)
        if wanted is None or leader is None:
            return
        if self.net.now() - since > FAILOVER_WITHIN:
            self.failover = None
        elif self.replication.offset >= wanted:
            self.net.post(self.machine, leader, leader.vote, self)

    def vote(self, follower: SimEngine) -> None:
        """As the paused leader: agree, once nothing can be written here any more."""
        if self.role == "leader" and self.net.now() < self.paused_until:
            self.net.post(self.machine, follower, follower.elected)

    def elected(self) -> None:
        """As the follower: lead."""
        if self.failover and self.role == "follower" and self.net.now() - self.failover[0] <= FAILOVER_WITHIN:
            self._lead()
