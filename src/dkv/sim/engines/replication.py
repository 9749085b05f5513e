"""Simulation: the replication of one engine: its stream, its followers, and its link to a leader.

As Valkey does it: the leader writes its own disk first and streams afterwards; followers acknowledge what is on their
disk once a second or when asked; a broken link continues where it was if both sides share a history, otherwise the
follower takes everything anew, and its disk keeps the old history until that has ended.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from dkv.engine.contract import Cause, EngineSpec, RunOptions, Secrets, TlsFiles
from dkv.sim.engines.certificates import believe_each_other
from dkv.sim.engines.disk import GETACK, PING, Disk, Entry
from dkv.sim.engines.histories import grown
from dkv.sim.engines.net import Endpoint, SimNet

FSYNC = 0.0003  # seconds
STEADY = 1.5  # seconds: a follower hears at least a ping in each


class ReplicatedEngine(Endpoint, Protocol):
    """An engine as its replication, and that of others, sees it."""

    net: SimNet[Any]
    spec: EngineSpec
    node_id: str
    group: str
    role: str
    follows: str | None
    loading: bool
    admits: bool
    takes_clients: bool
    credentials: bool
    secrets: Secrets
    tls: TlsFiles | None
    torn: bool
    options: RunOptions
    disk: Disk | None
    data: dict[str, str]
    replication: Replication
    perish: Callable[[Cause], None]

    @property
    def silent(self) -> bool:
        """Whether it answers nothing."""

    def fsync(self) -> float:
        """How long its disk takes now, in seconds."""

    def check_waits(self) -> None:
        """A follower acknowledged more: answer the clients whose WAIT is over."""

    def caught_up(self) -> None:
        """More of the stream is here."""


@dataclass
class Replica:
    """A follower, as its leader sees it."""

    engine: ReplicatedEngine
    token: int
    sent: int  # offset after what is on its way or there
    pending: list[Entry] = field(default_factory=list)  # its output buffer, which no backlog limits
    online: bool = False  # acknowledged something since it attached
    streaming: bool = True  # False while the snapshot is on its way
    offset: int = 0  # acknowledged
    acked_at: float = 0.0
    flushing: bool = False
    arrives_at: float = 0.0  # when the last message under way is there: a connection keeps its order


@dataclass
class Waiting:
    """A client in WAIT: until so many followers acknowledged an offset."""

    offset: int
    count: int
    done: Callable[[], None]


class Replication:
    """Both ends of replication in one engine."""

    def __init__(self, engine: ReplicatedEngine) -> None:
        self.engine = engine
        self.net = engine.net
        self.history = self._fresh_history()
        self.former: tuple[str, int] | None = None  # the history before a promotion, and up to where it is shared
        self.offset = 0
        self.content = 0  # what stands before the offset, to be compared
        self.entries: list[Entry] = []  # the backlog
        self.ends: list[int] = []  # offset after each of them
        self.replicas: dict[str, Replica] = {}
        self.token = 0  # names one attempt to attach; older messages are void
        self.state = "down"  # the link: down, asking, resyncing, up
        self.heard_at = 0.0
        self.steady_since = 0.0  # since when no gap was longer than STEADY

    def _heard(self) -> None:
        """Something of the leader arrived."""
        if self.net.now() - self.heard_at > STEADY:
            self.steady_since = self.net.now()
        self.heard_at = self.net.now()

    def _fresh_history(self) -> str:
        return f"{self.net.random.getrandbits(64):016x}"

    # -- the stream ------------------------------------------------------------------------------------------------

    def append(self, entry: Entry) -> bool:
        """One record more, on disk first; an engine that cannot write ends, as Valkey does with `appendfsync always`."""
        engine = self.engine
        if engine.disk is not None:
            if entry.durable and engine.disk.drive.trouble:
                engine.perish(engine.disk.drive.trouble)
                return False
            engine.disk.append(entry, synced=engine.options.append_fsync == "always")
        if entry.wipes:
            engine.data.clear()
        elif entry.key:
            engine.data[entry.key] = entry.value
        self.offset, self.content = self.offset + entry.size, grown(self.content, entry)
        self._reached()
        self.entries.append(entry)
        self.ends.append(self.offset)
        backlog = self.net.backlog
        if len(self.entries) > 2 * backlog:
            del self.entries[:-backlog], self.ends[:-backlog]
        for replica in self.replicas.values():
            replica.pending.append(entry)
            self._flush(replica)
        return True

    def _reached(self) -> None:
        self.net.histories.reached(self.engine.start_id, self.history, self.offset, self.content)

    def since(self, offset: int) -> list[Entry]:
        """The records after an offset."""
        return self.entries[bisect_right(self.ends, offset) :]

    def _begins(self) -> int:
        return self.ends[0] - self.entries[0].size if self.entries else self.offset

    def promote(self) -> None:
        """A new history that shares everything so far with the old one."""
        self.former = (self.history, self.offset)
        self.history = self._fresh_history()
        self._reached()
        self.drop_link()

    # -- as a leader -----------------------------------------------------------------------------------------------

    def attach(self, follower: ReplicatedEngine, token: int, history: str, offset: int) -> None:
        """A follower asks to continue its history at an offset."""
        engine, known = self.engine, self.replicas.get(follower.node_id)
        if known is not None and known.engine is follower and known.token > token:
            return  # an earlier attempt that was overtaken by a later one
        lets_in = engine.admits and engine.takes_clients and follower.secrets.used in engine.secrets.taken
        lets_in = lets_in and believe_each_other(engine.tls, follower.tls)
        if engine.role != "leader" or not lets_in or engine.loading:
            self.net.post(engine.machine, follower, follower.replication.refused, token)
            return
        continues = history == self.history or (
            self.former is not None and history == self.former[0] and offset <= self.former[1]
        )
        if continues and self._begins() <= offset <= self.offset:
            replica = Replica(follower, token, offset, self.since(offset), acked_at=self.net.now())
            self.replicas[follower.node_id] = replica
            self._send(replica, follower.replication.continued, token, self.history)
            self._flush(replica)
        else:
            self._send_all(follower, token)

    def _send_all(self, follower: ReplicatedEngine, token: int) -> None:
        replica = Replica(follower, token, self.offset, streaming=False, acked_at=self.net.now())
        self.replicas[follower.node_id] = replica
        self._send(replica, follower.replication.resync_began, token)
        snapshot, history, offset = dict(self.engine.data), self.history, self.offset
        self._reached()
        takes = self.net.random.uniform(0.05, 0.8)
        self._send(replica, follower.replication.resync_ended, token, history, offset, snapshot, delay=takes)

    def transferred(self, node_id: str, token: int) -> None:
        """The follower has the snapshot: the stream goes on from there."""
        replica = self.replicas.get(node_id)
        if replica and replica.token == token:
            replica.streaming = True
            self._flush(replica)

    def _flush(self, replica: Replica) -> None:
        """Send what a follower does not have yet; one piece under way at a time."""
        if replica.flushing or not replica.streaming or replica.sent >= self.offset:
            return
        begins, piece = replica.sent, replica.pending
        replica.sent, replica.pending, replica.flushing = self.offset, [], True
        act = replica.engine.replication.take
        self._send(replica, act, replica.token, begins, piece, delay=self.net.trail(replica.engine.machine))
        self.net.later(replica.arrives_at - self.net.now(), self._flushed, replica)

    def _send(self, replica: Replica, act: Callable[..., None], *args: Any, delay: float = 0.0) -> None:
        """One message down a follower's connection, never before an earlier one."""
        replica.arrives_at = max(replica.arrives_at + 1e-6, self.net.now() + (delay or self.net.hop()))
        self.net.post(self.engine.machine, replica.engine, act, *args, delay=replica.arrives_at - self.net.now())

    def _flushed(self, replica: Replica) -> None:
        replica.flushing = False
        if self.engine.alive and self.replicas.get(replica.engine.node_id) is replica and not self.engine.silent:
            self._flush(replica)

    def acknowledged(self, node_id: str, token: int, offset: int) -> None:
        """A follower has this on its disk."""
        replica = self.replicas.get(node_id)
        if replica and replica.token == token:
            replica.online, replica.acked_at = True, self.net.now()
            replica.offset = max(replica.offset, offset)
            self.engine.check_waits()

    def lost(self, node_id: str, token: int) -> None:
        """A follower's connection ended."""
        replica = self.replicas.get(node_id)
        if replica and replica.token == token:
            del self.replicas[node_id]

    def dismiss(self) -> None:
        """Not a leader any more: every follower's link ends."""
        for replica in self.replicas.values():
            self._send(replica, replica.engine.replication.refused, replica.token)
        self.replicas.clear()

    # -- as a follower ---------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Ask the leader to let this engine attach; nothing happens without credentials or without a leader."""
        engine = self.engine
        leader = self.net.engines.get(engine.follows or "")
        if engine.role != "follower" or engine.loading or self.state != "down" or not engine.credentials:
            return
        feeder = self.net.feeders.get(engine.follows or "") if leader is None else None
        if feeder is not None and not self.net.apart(engine.machine, feeder.machine):
            self.token += 1
            self.state = "asking"
            self.net.later(self.net.hop(), feeder.inbox.append, (engine, self.token, self.history, self.offset))
        if leader is None or leader.group != engine.group:
            return
        self.token += 1
        self.state = "asking"
        self.net.post(engine.machine, leader, leader.replication.attach, engine, self.token, self.history, self.offset)

    def refused(self, token: int) -> None:
        """The leader refused this link, or ended it."""
        if token == self.token:
            self.token += 1
            self.state = "down"

    def drop_link(self) -> None:
        """Let go of the leader."""
        if self.state != "down":
            leader = self.net.engines.get(self.engine.follows or "")
            if leader is not None:
                self.net.post(self.engine.machine, leader, leader.replication.lost, self.engine.node_id, self.token)
        self.token += 1
        self.state = "down"

    def continued(self, token: int, history: str) -> None:
        """The link goes on where it was."""
        if token != self.token:
            return
        self.state, self.history = "up", history
        self._heard()
        self._reached()
        self.acknowledge()

    def filled(self, token: int, history: str, gap: int) -> None:
        """A PING of just that size came under that history, and the connection ended: try again at once."""
        if token != self.token:
            return
        self.history, self.former = history, None
        self.append(Entry(gap))
        self.token += 1
        self.state = "down"
        self.connect()

    def resync_began(self, token: int) -> None:
        """Everything comes anew. The disk is still the old one."""
        if token == self.token:
            self.state = "resyncing"

    def resync_ended(self, token: int, history: str, offset: int, snapshot: dict[str, str]) -> None:
        """The snapshot is here: from now on disk and memory are the leader's."""
        leader, engine = self.net.engines.get(self.engine.follows or ""), self.engine
        if token != self.token or leader is None:
            return
        if engine.disk is not None and engine.disk.drive.trouble:
            engine.perish(engine.disk.drive.trouble)
            return
        engine.data, engine.torn = dict(snapshot), False
        if engine.disk is not None:
            engine.disk.replace(snapshot)
        self.history, self.former, self.offset = history, None, offset
        self.content = self.net.histories.content(history, offset)
        self.entries, self.ends = [], []
        self.state = "up"
        self._heard()
        self.net.post(engine.machine, leader, leader.replication.transferred, engine.node_id, token)
        self.acknowledge()

    def take(self, token: int, begins: int, piece: list[Entry]) -> None:
        """A piece of the stream arrived."""
        if token != self.token or self.state != "up":
            return
        assert begins == self.offset, "a connection keeps its order"
        self._heard()
        for entry in piece:
            if not self.append(entry):
                return
        if any(entry.asks for entry in piece):
            self.acknowledge()
        self.engine.caught_up()

    def acknowledge(self) -> None:
        """Acknowledge to the leader what is on this disk, after it is there."""
        leader = self.net.engines.get(self.engine.follows or "")
        if leader is not None and self.state == "up":
            self.net.post(
                self.engine.machine,
                leader,
                leader.replication.acknowledged,
                self.engine.node_id,
                self.token,
                self.offset,
                delay=self.engine.fsync() + self.net.hop(),
            )

    # -- once a second ---------------------------------------------------------------------------------------------

    def cron(self) -> None:
        """Pings, acknowledgements, and another attempt to attach."""
        if self.engine.role == "leader":
            if self.replicas:
                self.append(PING)
        elif self.state == "up":
            self.acknowledge()
        else:
            if self.state == "asking":
                self.state = "down"
            self.connect()

    def ask_all(self) -> None:
        """Have every follower acknowledge at once (WAIT)."""
        self.append(GETACK)

    def broken(self) -> None:
        """This engine died: every engine it was linked with notices."""
        self.dismiss()
        self.drop_link()
