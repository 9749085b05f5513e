"""Simulation: one engine, with the habits of Valkey that hurt (docs/reference/valkey.md, docs/reference/positions.md).

TAKEOVER checks nothing. A process restart forgets the replication history. WAIT counts every attached replica. Of two
leaders of one group the higher epoch wins, the other follows it. A coordinated failover needs the votes of more than
half of the leaders of all groups, each of which votes once in an epoch: of two at the same moment both may fail. A
stopped process executes what it was sent as soon as it goes on. A manager's death does not concern it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dkv.engine import config
from dkv.engine.config import BUSY_REPLY_AFTER
from dkv.engine.contract import (
    EPOCHS,
    LAST_EPOCHS,
    Cause,
    EngineRefused,
    EngineSeen,
    EngineSpec,
    EngineUnreachable,
    EngineUsers,
    NodeSeen,
    PeerNode,
    Secrets,
)
from dkv.sim.engines.disk import MARKER_SIZE, Disk, Entry, Marker
from dkv.sim.engines.gossip import Known
from dkv.sim.engines.net import SimNet
from dkv.sim.engines.replication import FSYNC, Replication, Waiting

FAILOVER_WITHIN = 5.0  # seconds, cluster-manual-failover-timeout
WAITS = frozenset(("take", "continued", "resync_began", "resync_ended", "filled", "attach", "transferred"))
"""What an engine does not do before its script has ended: the stream is not read, and no replica attaches."""

WIPE_SIZE = 2000  # bytes of the commands by which a leader deletes its keys


class SimEngine:
    """A process. `disk` is None for a memory-only engine."""

    failover: tuple[float, int | None] | None = None  # as the follower: since when, offset to reach
    election: tuple[int, set[str]] | None = None  # as the follower: the epoch it asked for votes in, and who agreed
    voted_in: int = 0  # as a leader: the epoch of its last vote
    deaf: bool = False  # inside a script that does not answer BUSY yet
    busy: bool = False  # inside one that does
    script: Entry | None = None  # what the running one wrote
    stopped: bool = False  # SIGSTOP
    loading: bool = True
    through: bool = False  # it would have loaded if it did not stand still
    epoch: int = 0
    takes_clients: bool = False
    rewriting: bool = False
    torn: bool = False  # its role changed inside a script, and nothing made its data whole since

    def __init__(
        self,
        net: SimNet[SimEngine],
        machine: str,
        spec: EngineSpec,
        disk: Disk | None,
        *,
        pid: int,
        loads: float,
        one_value: bool = False,
    ) -> None:
        self.net = net
        self.machine = machine
        self.spec = spec
        self.start_id, self.node_id, self.group, self.users = spec.start_id, spec.node_id, spec.group, spec.users
        self.disk, self.secrets = disk, spec.secrets
        self.pid, self.alive = pid, True
        self.withdrawn: set[str] = set()  # keys of scripts whose client left, perhaps before they began
        self.perish: Callable[[Cause], None] = lambda cause: None  # ends this process, because of its disk
        self.one_value = one_value  # that is what it loads: it says nothing until it is through
        self.went_on_at = float("-inf")  # last SIGCONT
        self.inbox: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.pending: list[asyncio.Future[Any]] = []
        self.born_at = self.stopped_at = net.now()  # stopped: the last time
        self.loads = loads  # seconds
        self.data: dict[str, str] = disk.load() if disk else {}
        leader = next((p for p in spec.peers if p.group == spec.group and p.leads), None)
        self.phantom_id = f"phantom-{spec.start_id}"
        self.role = "follower"
        self.follows: str | None = leader.node_id if leader else None if spec.led else self.phantom_id
        self.known = {p.node_id: Known(p.node_id, p.address, p.client_port, p.leads, p.epoch, None) for p in spec.peers}
        self.table: tuple[NodeSeen, tuple[NodeSeen, ...]] | None = None  # its line of CLUSTER NODES and all; None: news
        self.forgotten: set[str] = set()
        self.current_epoch = max([spec.current_epoch, *(p.epoch for p in spec.peers)])
        self.fenced, self.admits, self.credentials = True, False, spec.memory_only
        self.options = replace(spec.options, append_fsync="") if spec.memory_only else spec.options
        self.tls, self.paused_until, self.held = spec.certificate, 0.0, False  # held: fenced so that writes wait
        self.waits_until = 0.0  # CLIENT PAUSE, for a hot copy
        self.unfinished: list[Entry] = []
        self.waits: list[Waiting] = []
        self.gets, self.puts = 0, 0
        self.answered_at = net.now()
        self.last_seen: EngineSeen | None = None
        self.looked_at, self.ordered = 0.0, True  # thoroughly, by its manager; whether orders came since then
        self.takes_packets, self.lets_in, self.robbed = True, True, False  # robbed: a stranger owns its slots
        self.replication = Replication(self)
        net.engines[self.node_id] = self
        net.addresses[(spec.address, spec.client_port)] = self
        net.later(loads, self._through)
        net.later(net.random.uniform(0.1, 1.0), self._cron)

    # -- the process -----------------------------------------------------------------------------------------------

    def receive(self, act: Callable[..., None], args: tuple[Any, ...]) -> None:
        """Execute what arrived, now or when the process goes on."""
        if not self.alive:
            return
        if self.silent or (self._reads_no_stream() and getattr(act, "__name__", "") in WAITS):  # an answer has no name
            self.inbox.append((act, args))
        else:
            act(*args)

    def _reads_no_stream(self) -> bool:
        return self.busy or (self.held and self.role == "follower")

    @property
    def silent(self) -> bool:
        """Whether it answers nothing: it stands still, or works on one large value, or is inside a script."""
        return self.stopped or self.deaf or (self.loading and self.one_value)

    def stop(self) -> None:
        """SIGSTOP."""
        if not self.stopped:
            self.stopped, self.stopped_at = True, self.net.now()

    def go_on(self) -> None:
        """SIGCONT: first what was sent meanwhile."""
        if not self.alive or not self.stopped:
            return
        self.stopped, self.went_on_at = False, self.net.now()
        if self.through:
            self._loaded()
        self._catch_up()

    def _through(self) -> None:
        """All is loaded; one that stands still finds that out when it goes on."""
        self.through = self.stopped
        if self.alive and not self.stopped:
            self._loaded()
            self._catch_up()

    def die(self) -> None:
        """The process ends; what it had sent is still delivered, what it had only written stays written."""
        if self.unfinished and self.disk is not None and not self.disk.drive.trouble and self.net.random.random() < 0.5:
            for entry in self.unfinished:  # on its disk, never answered, never streamed
                if not self._is_there(entry):
                    self.disk.append(entry)
        self.alive = False
        self.replication.broken()
        if self.net.engines.get(self.node_id) is self:
            del self.net.engines[self.node_id]
        address = (self.spec.address, self.spec.client_port)
        if self.net.addresses.get(address) is self:
            del self.net.addresses[address]
        for future in self.pending:
            if not future.done():
                future.set_exception(EngineUnreachable(f"engine {self.start_id} ended"))
                future.exception()

    def _loaded(self) -> None:
        if self.disk is not None and self.disk.drive.trouble:
            self.perish(self.disk.drive.trouble)  # it cannot write its table of nodes
            return
        self.loading, self.through = False, False
        self.replication.connect()

    def loading_percent(self) -> int:
        """How far it is with its archive."""
        if self.loading and self.one_value:
            return 0
        return 100 if not self.loading else min(99, int(100 * (self.net.now() - self.born_at) / self.loads))

    def _cron(self) -> None:
        if not self.alive:
            return
        self.net.later(1.0, self._cron)
        if self.disk is not None and self.options.append_fsync == "everysec":
            self.disk.unsynced = 0
        if not self.silent and not self.busy and not self.loading:
            self.replication.cron()
            self.announce()

    # -- gossip ----------------------------------------------------------------------------------------------------

    def me(self) -> Known:
        """What this engine says of itself."""
        leads = self.role == "leader" or self.follows is None  # a replica of no node is taken for a primary without slots
        return Known(
            self.node_id,
            self.spec.address,
            self.spec.client_port,
            leads,
            self.epoch,
            self.follows,
            self.net.now(),
            self.own_slots(),
        )

    def announce(self) -> None:
        """Send news of this node to every known one."""
        me = self.me()
        for node_id in list(self.known):
            other = self.net.engines.get(node_id)
            if other is not None:
                self.net.post(self.machine, other, other.note_news, me, self.group, self.current_epoch)

    def _know(self, other: Known) -> None:
        before = self.known.get(other.node_id)
        self.known[other.node_id] = other
        if before is None or before.seen is not other.seen:
            self.table = None

    def note_news(self, sender: Known, group: str, current_epoch: int) -> None:
        """News of a node; one that knows this engine is soon known here, unless it was ordered to forget it."""
        if not self.takes_packets or self.loading or sender.node_id in self.forgotten:
            return
        if sender.node_id not in self.known:
            self._know(sender)
            self.announce()
        if sender.said_at < self.known[sender.node_id].said_at:
            return
        self._know(sender)
        self.current_epoch = max(self.current_epoch, current_epoch, sender.epoch)
        if self.election and sender.leads and sender.epoch >= self.election[0]:
            self.election = None  # another won in that epoch: a new one
            self.caught_up()
        if sender.leads and group == self.group:
            self._another_leader(sender)

    def _another_leader(self, sender: Known) -> None:
        if self.role == "leader":
            if sender.epoch > self.epoch:
                self._follow(sender.node_id)
            elif sender.epoch == self.epoch and self.node_id < sender.node_id:
                self.current_epoch += 1
                self.epoch = self.current_epoch
                self.announce()
        elif self.follows not in (None, sender.node_id) and sender.epoch > self.leader_epoch():
            self._follow(sender.node_id)

    def leader_epoch(self) -> int:
        """The config epoch of the node it follows."""
        leader = self.known.get(self.follows or "")
        return leader.epoch if leader and leader.leads else self._phantom_epoch()

    def _phantom_epoch(self) -> int:
        return config.PHANTOM_EPOCH if self.follows == self.phantom_id else 0

    def _follow(self, node_id: str) -> None:
        if self.role == "leader":
            self.role = "follower"
            self.replication.dismiss()
        else:
            self.replication.drop_link()
        self.follows = node_id
        self.failover = None
        self.check_waits()
        self.replication.connect()

    def _lead(self, epoch: int) -> None:
        self.replication.promote()
        self.role, self.follows, self.failover, self.robbed = "leader", None, None, False
        self.epoch, self.current_epoch = epoch, max(epoch, self.current_epoch)
        self.announce()

    # -- a manager's commands --------------------------------------------------------------------------------------

    def _loaded_only(self) -> None:
        if self.loading:
            raise EngineRefused("LOADING the dataset")

    def take_over(self) -> None:
        """Lead, without asking; fenced, or held where it has clients, and admitting no replica."""
        self._loaded_only()
        self.admits, self.fenced, self.held = False, not self.takes_clients, self.takes_clients
        self.net.seen["clients held at a takeover"] += self.held
        if self.role != "leader":
            self._lead((self.current_epoch + 1) % EPOCHS)

    def set_users(self, users: EngineUsers, secrets: Secrets) -> None:
        """ACL SETUSER, and with which password it follows."""
        self.users, self.secrets = users, secrets

    def set_switches(self, *, fenced: bool | None = None, admits: bool | None = None) -> None:
        """Fence and replication user. What a hold let wait goes on."""
        if fenced is not None and self.held:
            self.held = False
            self._catch_up()
        self.fenced = self.fenced if fenced is None else fenced
        self.admits = self.admits if admits is None else admits

    def take_clients(self) -> None:
        """Open the client port; not while it has no leader to name."""
        self._loaded_only()
        if self.role != "leader" and self.follows in (None, self.phantom_id):
            raise EngineRefused("it has no leader; it has nothing to tell clients")
        self.forgotten.add(self.phantom_id)
        self.takes_clients = True

    def shun_clients(self) -> None:
        """Close it again."""
        self.takes_clients = False

    def let_in(self) -> None:
        """Set the credentials by which this engine may attach to a leader."""
        self.credentials = True

    def replicate(self, node_id: str) -> None:
        """Follow that node."""
        self._loaded_only()
        target = self.known.get(node_id)
        if target is None:
            raise EngineRefused(f"Unknown node {node_id}")
        if not target.leads:
            raise EngineRefused("I can only replicate a master, not a replica.")
        if self.role == "leader":
            raise EngineRefused("To set a master the node must be empty and without assigned slots.")
        if self.held:
            self.set_switches(fenced=True)
        if self.follows != node_id:
            self._follow(node_id)
        self.replication.connect()

    def mark(self, marker: Marker) -> None:
        """Write a marker; a fence does not hold it back, a handover does, and so does a pause."""
        self._loaded_only()
        if self.role != "leader":
            raise EngineRefused("READONLY You can't write against a read only replica.")
        if self.fenced or self.held:
            self.waits_until = 0.0  # the fence is lifted for this command, so no client may wait then
        if self._is_paused():
            raise EngineUnreachable("it answers no client that writes")
        self.replication.append(Entry(MARKER_SIZE, marker=marker))

    def hand_over(self, marker: Marker) -> None:
        """Be ready to follow a successor at once, and write a marker."""
        self.mark(marker)
        self.credentials = True

    def rewrite(self, marker: Marker | None) -> None:
        """BGREWRITEAOF; the marker is the first record of the new incremental file."""
        self._loaded_only()
        if self.rewriting or self.disk is None or self.replication.state == "resyncing":
            raise EngineRefused("another child runs")
        self.rewriting = True
        snapshot = self.disk.begin_rewrite()
        try:
            if marker is not None:
                self.mark(marker)
        finally:
            delay = self.net.random.uniform(0.1, 0.6)
            self.net.post(self.machine, self, self._rewritten, snapshot, self.disk.files, delay=delay)

    def _rewritten(self, snapshot: dict[str, str], files: list[list[Entry]]) -> None:
        self.rewriting = False
        if self.disk is not None and self.disk.files is files:
            self.disk.end_rewrite(snapshot)

    def meet(self, peer: PeerNode) -> None:
        """Make a node known here, and this one there; who introduces himself is let in."""
        self.take_packets()
        self.forgotten.discard(peer.node_id)
        if peer.node_id not in self.known:
            self._know(Known(peer.node_id, peer.address, peer.client_port, False, 0, None))
        other = self.net.engines.get(peer.node_id)
        if other is not None:
            self.net.post(self.machine, other, other.introduced, self.me(), self.group, self.current_epoch)

    def introduced(self, sender: Known, group: str, current_epoch: int) -> None:
        """A node met this engine, which lets in only nodes it expects."""
        if not self.takes_packets or (sender.node_id not in self.known and not self.lets_in):
            return
        self.forgotten.discard(sender.node_id)
        if sender.node_id not in self.known:
            self._know(sender)
        self.note_news(sender, group, current_epoch)
        self.announce()

    def let_nobody_in(self) -> None:
        """Turn away nodes that introduce themselves."""
        self.lets_in, self.takes_packets = False, True

    def take_packets(self) -> None:
        """Take all packets."""
        self.lets_in = self.takes_packets = True

    def restart_epochs(self, epoch: int) -> None:
        """Begin anew from an epoch, and drop the packets of others."""
        self.takes_packets = False
        if self.role != "leader":
            self.current_epoch = epoch
        elif self.epoch < LAST_EPOCHS:  # one that leads in the last epoch keeps it
            self.current_epoch = self.epoch = epoch

    def hear_epoch(self, epoch: int) -> None:
        """A packet in the name of a node that is known says this."""
        if self.takes_packets:
            self.current_epoch = max(self.current_epoch, epoch)

    def met_by_stranger(self, stranger: Known, group: str) -> None:
        """A node of no domain meets this engine. One that is let in announces its slots, here and by gossip; a leader that it
        outbids deletes the keys in them, in its file and on its followers, and takes no writes of theirs any more.
        """
        if not (self.lets_in and self.takes_packets) or self.loading or stranger.node_id in self.forgotten:
            return
        self._believe(stranger)
        for node_id in list(self.known):
            other = self.net.engines.get(node_id)
            if other is not None:
                self.net.post(self.machine, other, other._believe, stranger)

    def _believe(self, stranger: Known) -> None:
        if not self.takes_packets or stranger.node_id in self.forgotten:
            return
        self._know(stranger)
        self.current_epoch = max(self.current_epoch, stranger.epoch)
        if self.role == "leader" and stranger.epoch > self.epoch and not self.robbed:
            self.robbed, self.table = True, None
            if self.data:
                self.replication.append(Entry(WIPE_SIZE, wipes=True))

    def own_slots(self) -> tuple[tuple[int, int], ...]:
        """The hash slots it owns."""
        mine = next((g.slots for g in self.spec.groups if g.group == self.group), ())
        return mine if self.role == "leader" and not self.robbed else ()

    def reclaim_slots(self) -> None:
        """Own its slots again, in an epoch above all it has seen."""
        self._loaded_only()
        if self.role != "leader":
            raise EngineRefused("You should use CLUSTER commands only against masters")
        self.current_epoch += 1
        self.epoch, self.robbed, self.table = self.current_epoch, False, None
        self.announce()

    def forget(self, node_id: str) -> None:
        """Drop a node; one that is not known is dropped already."""
        if node_id == self.follows:
            raise EngineRefused("Can't forget my master!")
        self.known.pop(node_id, None)
        self.table = None
        self.forgotten.add(node_id)

    # -- clients ---------------------------------------------------------------------------------------------------

    def write(self, key: str, value: str, answer: Callable[[str], None]) -> None:
        """SET, answered once it is on this disk: "OK", or the beginning of an error."""
        self._begin(Entry(self.net.write_size + len(value), key=key, value=value), answer)

    def raise_to(self, key: str, value: str, answer: Callable[[str], None]) -> None:
        """A script that sets a number unless it is as high already, answered as a write is."""
        self._begin(Entry(self.net.write_size + len(value), key=key, value=value, rises=True), answer)

    def _begin(self, entry: Entry, answer: Callable[[str], None]) -> None:
        self.unfinished.append(entry)
        self.net.post(self.machine, self, self._finish, entry, answer, delay=self.fsync())

    def _is_there(self, entry: Entry) -> bool:
        """Whether a number is as high already."""
        return entry.rises and int(self.data.get(entry.key, "0")) >= int(entry.value)

    def get(self, key: str, answer: Callable[..., None]) -> None:
        """GET of a client without READONLY: "OK" and the value, or the beginning of an error."""
        if self.loading or self.busy:
            answer("LOADING" if self.loading else "BUSY")
        elif self.role != "leader":
            answer("MOVED")
        elif self.robbed:
            answer("CLUSTERDOWN")
        else:
            answer("OK", self.read(key))

    def fsync(self) -> float:
        """How long the disk takes now, in seconds; longer where it is slow."""
        slow = self.disk.drive.slow if self.disk is not None else 0.0
        return FSYNC + (self.net.random.uniform(0, slow) if slow else 0.0)

    def _finish(self, entry: Entry, answer: Callable[[str], None]) -> None:
        if self.role == "leader" and self._holds_writes():
            self.net.post(self.machine, self, self._finish, entry, answer, delay=0.02)
            return
        self.unfinished.remove(entry)
        if self.loading or self.busy:
            answer("LOADING" if self.loading else "BUSY")
        elif self.role != "leader":
            answer("MOVED")
        elif self.robbed:
            answer("CLUSTERDOWN")
        elif self.fenced:
            answer("NOREPLICAS")
        elif self._is_there(entry):
            answer("OK")
        else:
            self.puts += 1
            if self.replication.append(entry):
                answer("OK")

    def _holds_writes(self) -> bool:
        """As a leader that begins to lead, or hands over, or whose clients wait for a hot copy."""
        return self.held or self._is_paused()

    def _is_paused(self) -> bool:
        return self.net.now() < max(self.paused_until, self.waits_until)

    def read(self, key: str) -> str:
        """GET; an empty text if there is none."""
        self.gets += 1
        return self.data.get(key, "")

    def count_distinct(self, key: str) -> str:
        """PFCOUNT of a client with READONLY; a follower logs it for itself (docs/reference/positions.md#trap-3)."""
        if self.disk is not None and self.role != "leader" and key in self.data:
            self.disk.append(Entry(26, key=key, value=self.data[key], dataless=True))
        return "OK"

    def wait(self, count: int, timeout: float, answer: Callable[[], None]) -> None:
        """WAIT: counts every attached follower, whatever its disk is worth."""
        waiting = Waiting(self.replication.offset, count, answer)
        self.waits.append(waiting)
        if self.replication.replicas:
            self.replication.ask_all()
        self.net.later(timeout, self._end_wait, waiting)
        self.check_waits()

    def check_waits(self) -> None:
        """Answer the clients whose wait is over."""
        for waiting in list(self.waits):
            acked = sum(1 for r in self.replication.replicas.values() if r.online and r.offset >= waiting.offset)
            if acked >= waiting.count or self.role != "leader":
                self._end_wait(waiting)

    def _end_wait(self, waiting: Waiting) -> None:
        if waiting in self.waits:
            self.waits.remove(waiting)
            self.receive(waiting.done, ())

    def acknowledged(self) -> dict[tuple[str, int], int]:
        """ROLE of a leader: address of each follower and the offset it acknowledged."""
        replicas = self.replication.replicas.values()
        return {(r.engine.spec.address, r.engine.spec.client_port): r.offset for r in replicas if r.online}

    # -- the coordinated failover (CLUSTER FAILOVER) ---------------------------------------------------------------

    def begin_failover(self) -> None:
        """Asked of a follower: the leader pauses, this one catches up, is elected by the leaders of all groups, and leads."""
        leader = self.net.engines.get(self.follows or "")
        if self.role != "follower" or self.replication.state != "up" or leader is None:
            raise EngineRefused("Master is down or failed, please use CLUSTER FAILOVER FORCE")
        self.admits = True
        self.failover, self.election = (self.net.now(), None), None
        self.net.post(self.machine, leader, leader.pause_for, self)

    def pause_for(self, follower: SimEngine) -> None:
        """As the leader: no writes until the follower leads, or the time for it is over. Only for its own replica."""
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
        elif self.replication.offset >= wanted and self.election is None:
            self._ask_for_votes()

    def _ask_for_votes(self) -> None:
        """As the follower: ask every leader, in an epoch above all that this engine has heard of."""
        self.current_epoch = (self.current_epoch + 1) % EPOCHS
        self.election = (self.current_epoch, set())
        for voter in self._voters():
            engine = self.net.engines.get(voter)
            if engine is not None:
                self.net.post(self.machine, engine, engine.vote, self, self.current_epoch)

    def _voters(self) -> list[str]:
        """The nodes known to own slots, dead ones too."""
        return [node.node_id for node in self.known.values() if node.leads and node.slots]

    def vote(self, follower: SimEngine, epoch: int) -> None:
        """As a leader: agree once in each epoch; for a follower of this one, while nothing can be written here."""
        if not self.takes_packets:
            return
        self.current_epoch = max(self.current_epoch, epoch)
        paused = follower.follows != self.node_id or self.net.now() < self.paused_until
        if self.role == "leader" and paused and epoch == self.current_epoch and epoch > self.voted_in:
            self.voted_in = epoch
            self.net.post(self.machine, follower, follower.elected, self.node_id, epoch)

    def elected(self, voter: str, epoch: int) -> None:
        """As the follower: a leader agreed; with more than half of them, lead."""
        if (
            not self.takes_packets
            or not self.failover
            or not self.election
            or self.role != "follower"
            or self.election[0] != epoch
        ):
            return
        self.election[1].add(voter)
        in_time = self.net.now() - self.failover[0] <= FAILOVER_WITHIN
        if in_time and len(self.election[1]) > len(self._voters()) // 2:
            self._lead(epoch)

    # -- scripts (EVAL, FCALL), as Valkey 9.1 runs them --------------------------------------------------------------
    #
    # While one runs nothing else is executed. Once it took `busy-reply-threshold` the engine answers BUSY, and takes part in the
    # cluster again: it fails over, votes and loses its role in the middle of the script. What the script wrote stands in
    # memory at once, in the file and the stream only at its end; a leader that follows by then writes it to its own file alone,
    # and its offset does not show it.

    def run_script(self, key: str, value: str, seconds: float, answer: Callable[[str], None]) -> None:
        """One that writes at once and then takes its time; nothing if its client left before it was read."""
        if key in self.withdrawn:
            return
        if self.loading or self.deaf or self.busy or self.role != "leader" or self.fenced or self._holds_writes():
            answer("BUSY or not now")
            return
        self.data[key] = value
        self.deaf = True
        self.script = entry = Entry(self.net.write_size + len(value), key=key, value=value)
        self.net.later(min(seconds, BUSY_REPLY_AFTER / 1000), self._answers_again, entry)
        self.net.later(seconds, self.script_ends, entry, answer)

    def _answers_again(self, entry: Entry) -> None:
        if self.alive and self.deaf and self.script is entry:
            self.deaf, self.busy = False, True
            self._catch_up()

    def _catch_up(self) -> None:
        """Do what came meanwhile, in its order."""
        inbox, self.inbox = self.inbox, []
        for act, args in inbox:
            self.receive(act, args)

    def script_ends(self, entry: Entry, answer: Callable[[str], None] = lambda reply: None) -> None:
        """Its last line. Nothing happens if it ended before."""
        if not self.alive or self.script is not entry:
            return
        if self.stopped:
            self.net.later(0.05, self.script_ends, entry, answer)
            return
        self.deaf, self.busy, self.script = False, False, None
        if self.role == "leader":
            if not self.replication.append(entry):
                return
            answer("OK")
        else:
            self.torn = True
            self.net.seen["role lost inside a script"] += 1
            if self.disk is not None and not self.disk.drive.trouble:
                self.disk.append(entry)
            answer("UNKNOWN")
        self._catch_up()
