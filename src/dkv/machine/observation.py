"""What plan() judges by: one observation of this machine, the domain's state, and what is derived from the two. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TypedDict

from dkv.domain.constants import SERVER_TTL
from dkv.domain.facts import ServerJoined
from dkv.domain.levels import LEVEL
from dkv.domain.model import SERVERS_AT, Archive, Group, ProcessState, State
from dkv.domain.phases import Open
from dkv.domain.states import STOPPING as STOPPING
from dkv.domain.table import keys_of
from dkv.engine.contract import Announced, EngineSeen, ExitSeen, PeerNode, ReplicaSeen, Survey, TeSeen

REAP_PATIENCE = 5_000  # ms an exit is not reported while something of the dead engine may still run
VANISHED = 3_000  # ms after which an engine that is neither there nor known to have ended is given up
ENGINE_SHARE = 0.6  # of the machine's memory, shared by its engines
HANG_TIMEOUT = 30_000  # ms without any answer before an engine is killed, unless set (engineHangTimeout)
OK_PATIENCE = 3_000  # ms a loaded engine is given to call its cluster ok


@dataclass(frozen=True, eq=False)
class LocalServer:
    """The server that a manager runs on: who it is, and where. `uid` is random and belongs to its data directory, `boot_id` names
    this boot of the machine; `memory` is in bytes; `hang_timeout` in ms: how long an engine may answer nothing.
    """

    server_id: str
    uid: str
    host: str
    port: int
    nuodb_port: int
    boot_id: str
    data_dir: str
    memory: int
    hang_timeout: int = HANG_TIMEOUT
    engine_release: str = ""  # of the engines' program
    engine_tls: bool = False  # whether that has TLS
    etcd_port: int = 0  # client port of the etcd member that it may run; 0: it can run none
    labels: tuple[tuple[str, str], ...] = ()  # by name
    dkv_release: str = ""  # of this program
    announced: Announced = Announced()  # to clients of its engines

    def joined(self) -> ServerJoined:
        """The fact by which it joins its domain."""
        return ServerJoined(
            actor=self.server_id,
            server_id=self.server_id,
            uid=self.uid,
            host=self.host,
            port=self.port,
            nuodb_port=self.nuodb_port,
            boot_id=self.boot_id,
            data_dir=self.data_dir,
            engine_release=self.engine_release,
            engine_tls=self.engine_tls,
            etcd_port=self.etcd_port,
            labels=self.labels,
            dkv_release=self.dkv_release,
            level=LEVEL,
        )


class FactHeader(TypedDict):
    """Who reports a fact."""

    server_id: str
    actor: str


class GroupFactHeader(FactHeader):
    """Who reports a fact about a group, and the newest term that its leader's manager knows."""

    database: str
    group: str
    term: int


@dataclass(frozen=True)
class ProbeResult:
    """The result of a probe of a silent leader, at `at` ms of this manager's monotonic clock: whether its machine answered, and
    whether its engine's port accepted a connection (False if it was not probed).
    """

    at: float
    answers: bool
    accepts: bool


@dataclass(frozen=True)
class Observation:
    """One observation of this machine. Times are in ms of the manager's monotonic clock, `lease_left` is in seconds.

    `prepared` and `tails` are archive directories: locked without an engine, and sending a tail. `handled` counts the bytes read
    or sent for tails by archive directory. `rewrite_leases` says when each engine last had its group's turn at rewriting,
    `failovers` when each was last asked to take over; probes are by host, manager's port and engine's port.
    """

    survey: Survey
    lease_left: float
    conditions: ConditionHistory
    prepared: frozenset[str] = frozenset()
    tails: frozenset[str] = frozenset()
    handled: Mapping[str, int] = field(default_factory=dict)
    rewrite_leases: Mapping[int, float] = field(default_factory=dict)
    probes: Mapping[tuple[str, int, int], ProbeResult] = field(default_factory=dict)
    failovers: Mapping[int, float] = field(default_factory=dict)

    @property
    def lease_is_fresh(self) -> bool:
        """Whether more than half of the lease is left, so that no other manager may act for this server yet."""
        return self.lease_left > SERVER_TTL / 2

    def differs(self, before: Observation) -> bool:
        """Whether anything that plan() reads is not as it was before, but for how long conditions have held."""
        return self._facts != before._facts

    @property
    def _facts(self) -> tuple[object, ...]:
        work = (self.prepared, self.tails, self.handled, self.rewrite_leases, self.probes, self.failovers)
        return (self.lease_is_fresh, self.survey, *work)

    def engine(self, start_id: int) -> EngineSeen | None:
        """The living engine of a process."""
        return next((e for e in self.survey.engines if e.start_id == start_id), None)

    def te(self, start_id: int) -> TeSeen | None:
        """The living engines of a TE."""
        return next((te for te in self.survey.memory if te.start_id == start_id), None)

    def exit(self, start_id: int) -> ExitSeen | None:
        """The unreported end of an engine."""
        return next((e for e in self.survey.exits if e.start_id == start_id), None)


@dataclass(frozen=True)
class ConditionHistory:
    """Since when conditions hold, in ms of this manager's monotonic clock; and numbers noted on the way."""

    now: float = 0
    since: Mapping[Hashable, float] = field(default_factory=dict)
    notes: Mapping[Hashable, int] = field(default_factory=dict)

    def lasted(self, condition: Hashable) -> float:
        """For how many ms a condition has held; 0 if it does not."""
        return self.now - self.since[condition] if condition in self.since else 0


@dataclass(frozen=True)
class NodeTable:
    """The nodes of a database as the domain has them: all their ids, and those that answer, archives' first. `led_in`: the
    epoch of the serving leader, for each archive's node that follows it.
    """

    known: frozenset[str]
    answering: tuple[PeerNode, ...]
    led_in: Mapping[str, int]


@dataclass(frozen=True)
class PlanInput:
    """Everything plan() judges by: the domain's state, the server, what was observed on it."""

    state: State
    server: LocalServer
    seen: Observation

    @property
    def fact_header(self) -> FactHeader:
        """The header of a fact that this manager reports."""
        return FactHeader(server_id=self.server.server_id, actor=self.server.server_id)

    def group_header(self, group: Group) -> GroupFactHeader:
        """The header of a fact that this manager reports as a group's leader's."""
        return GroupFactHeader(**self.fact_header, database=group.database, group=group.name, term=group.term)

    def table(self, database: str) -> NodeTable:
        """The node table that every engine of a database should have."""
        return self.state.memoized(table_of, database)

    @property
    def share(self) -> int:
        """Bytes: each engine's part of this machine's memory."""
        return self.state.memoized(share, self.server)

    def lasted(self, condition: Hashable) -> float:
        """For how many ms a condition has held on this machine; 0 if it does not."""
        return self.seen.conditions.lasted(condition)


# Names derived, never stored ---------------------------------------------------------------------------------------


@cache  # every observation compares each engine's table with every archive's name
def node_id(domain_uid: str, archive_id: int) -> str:
    """An archive's node id in Valkey: 40 hex, the same for ever."""
    return hashlib.sha1(f"{domain_uid}/{archive_id}".encode(), usedforsecurity=False).hexdigest()


def directory_of(data_dir: str, archive: Archive) -> str:
    """Where an archive lives on its server."""
    return archive.directory_in(data_dir)


@cache
def te_node_id(domain_uid: str, start_id: int, group: str) -> str:
    """The node id of one engine of a TE: 40 hex, of this start only."""
    return hashlib.sha1(f"{domain_uid}/te/{start_id}/{group}".encode(), usedforsecurity=False).hexdigest()


def te_directory(data_dir: str, start_id: int) -> str:
    """Where a TE's engines have their configuration; they keep nothing else."""
    return f"{data_dir}/te/{start_id}"


def te_peers(state: State, database: str) -> list[PeerNode]:
    """Every engine of the database's TEs as others see it."""
    return [
        PeerNode(
            te_node_id(state.uid, process.start_id, endpoint.group),
            state.servers[process.server_id].host,
            endpoint.client_port,
            endpoint.cluster_port,
            state.groups[(database, endpoint.group)].shard_id,
            endpoint.group,
            leads=False,
        )
        for process in state.processes_of(database)
        for endpoint in process.endpoints
    ]


def table_of(state: State, database: str) -> NodeTable:
    """What the node table of each engine of a database should be."""
    archives = [archive for archive in state.archives_of(database) if not archive.removed]
    tes = te_peers(state, database)
    known = frozenset(node_id(state.uid, archive.archive_id) for archive in archives) | {te.node_id for te in tes}
    running = [p for p in state.processes_of(database) if p.state in (ProcessState.TRACKED, ProcessState.MONITORED)]
    running_archives = {process.archive_id for process in running}
    addresses = {(state.servers[p.server_id].host, endpoint.client_port) for p in running for endpoint in p.endpoints}
    durable = [peer(state, archive) for archive in archives if archive.archive_id in running_archives]
    led = {group.name: group for group in state.groups_of(database) if isinstance(group.phase, Open) and group.phase.serving}
    led_in = {
        node_id(state.uid, archive.archive_id): led[archive.group].epoch
        for archive in archives
        if archive.group in led and led[archive.group].leader != archive.archive_id
    }
    return NodeTable(known, (*durable, *(te for te in tes if (te.address, te.client_port) in addresses)), led_in)


def peer(state: State, archive: Archive) -> PeerNode:
    """An archive's engine as others see it. Only a serving leader is written down as one."""
    group = state.groups[(archive.database, archive.group)]
    return PeerNode(
        node_id=node_id(state.uid, archive.archive_id),
        address=state.servers[archive.server_id].host,
        client_port=archive.client_port,
        cluster_port=archive.cluster_port,
        shard_id=group.shard_id,
        group=group.name,
        leads=group.serving and group.leader == archive.archive_id,
        epoch=group.epoch,
        led=not group.serving and group.last_leader == archive.archive_id,
    )


def replica_of(state: State, engine: EngineSeen, archive_id: int) -> ReplicaSeen | None:
    """An archive's engine as the leader's engine sees it."""
    archive = state.archives[archive_id]
    host = state.servers[archive.server_id].host
    return next((r for r in engine.replication.replicas if (r.address, r.port) == (host, archive.client_port)), None)


def acknowledges(state: State, engine: EngineSeen, archive_id: int, within_ms: int) -> bool:
    """Whether that replica acknowledged to the leader within so many ms."""
    replica = replica_of(state, engine, archive_id)
    return replica is not None and replica.online and replica.silent_ms <= within_ms


def knows_as_follower(state: State, engine: EngineSeen, archive_id: int) -> bool:
    """Whether a leader's engine has learned on the cluster bus that an archive's engine follows it.

    A replication link does not prove it. The leader's engine learns it some seconds after it met that engine, and ignores its
    requests to fail over until then (measured on 9.1.2, tests/contract).
    """
    follower = node_id(state.uid, archive_id)
    return any(node.node_id == follower and node.follows == engine.node_id for node in engine.cluster.nodes)


def share(state: State, server: LocalServer) -> int:
    """Bytes: each engine's part of the memory that the engines of this machine may use together."""
    hosts = {*keys_of(state.servers, SERVERS_AT, server.host), server.server_id}
    engines = sum(not archive.removed for host in hosts for archive in state.archives_on(host))
    engines += sum(len(process.endpoints) for host in hosts for process in state.processes_on(host))
    return int(server.memory * ENGINE_SHARE / max(1, engines))


def next_sequence(group: Group, engine: EngineSeen) -> int:
    """The number of the next marker: the leader's manager counts them within a term, without a commit."""
    marker = engine.files.marker
    return marker.sequence + 1 if marker and marker.term == group.term else 1


def stopping(state: State, group: Group) -> bool:
    """Whether the whole database is being shut down."""
    return state.databases[group.database].state in STOPPING
