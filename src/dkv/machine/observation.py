"""What a manager knows at one glance, and how long it has known it. Pure: time comes in as a number.

Conditions that last are remembered by name since when they hold, on this manager's own monotonic clock; what
stopped holding is forgotten. Nothing here is ever written to the domain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TypedDict

from dkv.domain.model import Archive, Group, GroupPhase, Handover, JoinStage, Process, ProcessState, State, SwitchoverRequest
from dkv.domain.options import FSYNC
from dkv.domain.states import STOPPING as STOPPING
from dkv.engine.contract import EngineSeen, ExitSeen, PeerNode, ReplicaSeen, Survey, TeSeen

REAP_PATIENCE = 5_000  # ms an end is not told while something of the dead engine may still run
VANISHED = 3_000  # ms after which an engine that is neither there nor known to have ended is given up
ENGINE_SHARE = 0.6  # of the machine's memory, shared by its engines
HANG_TIMEOUT = 30_000  # ms without any answer before an engine is killed, unless set (engineHangTimeout)
OK_PATIENCE = 3_000  # ms a loaded engine is given to call its cluster ok


@dataclass(frozen=True, eq=False)
class LocalServer:
    """This manager, one of a kind: its server, where its data is, its host, its memory in bytes, its patience."""

    server_id: str
    data_dir: str
    host: str
    domain_uid: str
    memory: int
    hang_timeout: int = HANG_TIMEOUT


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
    """What knocking at a silent leader's gave: `at` ms of this manager's monotonic clock its machine answered or not, and
    its engine's port accepted connections or not (or was not asked).
    """

    at: float
    answers: bool
    accepts: bool


@dataclass(frozen=True)
class Observation:
    """One glance at this machine. `lease_left` is in seconds; `memory` knows for how long things have been so; `turns` when
    each engine last had its group's turn at rewriting, on the same clock; `knocks` what knocking at other machines gave,
    by the manager's address and the engine's port; `failovers` when each engine was last asked to take over.
    """

    survey: Survey
    lease_left: float
    conditions: ConditionHistory
    prepared: frozenset[str] = frozenset()
    tails: frozenset[str] = frozenset()  # archive directories from which followers are fed
    handled: Mapping[str, int] = field(default_factory=dict)  # bytes read or sent for tails, by archive directory; grows
    rewrite_leases: Mapping[int, float] = field(default_factory=dict)
    probes: Mapping[tuple[str, int, int], ProbeResult] = field(default_factory=dict)
    failovers: Mapping[int, float] = field(default_factory=dict)

    def engine(self, start_id: int) -> EngineSeen | None:
        """The living engine of a process."""
        return next((e for e in self.survey.engines if e.start_id == start_id), None)

    def memory_only(self, start_id: int) -> TeSeen | None:
        """The living engines of a TE."""
        return next((m for m in self.survey.memory if m.start_id == start_id), None)

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
    """The nodes of a database as the domain has them: all their ids, and those that answer, archives' first."""

    known: frozenset[str]
    answering: tuple[PeerNode, ...]


@dataclass(frozen=True)
class PlanInput:
    """Everything plan() judges by: what the domain wants, who this manager is, what this glance shows."""

    state: State
    server: LocalServer
    seen: Observation

    @property
    def fact_header(self) -> FactHeader:
        """Who reports a fact."""
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


@cache  # every glance compares each engine's table with every archive's name
def node_id(domain_uid: str, archive_id: int) -> str:
    """An archive's node id in Valkey: 40 hex, the same for ever."""
    return hashlib.sha1(f"{domain_uid}/{archive_id}".encode(), usedforsecurity=False).hexdigest()


def directory_of(data_dir: str, archive: Archive) -> str:
    """Where an archive lives on its server."""
    return archive.directory_in(data_dir)


@cache
def memory_node_id(domain_uid: str, start_id: int, group: str) -> str:
    """The node id of one engine of a TE: 40 hex, of this start only."""
    return hashlib.sha1(f"{domain_uid}/te/{start_id}/{group}".encode(), usedforsecurity=False).hexdigest()


def memory_directory(data_dir: str, start_id: int) -> str:
    """Where a TE's engines have their configuration; they keep nothing else."""
    return f"{data_dir}/te/{start_id}"


def memory_peers(state: State, database: str) -> list[PeerNode]:
    """Every engine of the database's TEs as others see it."""
    return [
        PeerNode(
            memory_node_id(state.uid, process.start_id, one.group),
            state.servers[process.server_id].host,
            one.client_port,
            one.cluster_port,
            state.groups[(database, one.group)].shard_id,
            one.group,
            leads=False,
        )
        for process in state.processes_of(database)
        for one in process.endpoints
    ]


def table_of(state: State, database: str) -> NodeTable:
    """What the node table of each engine of a database should be."""
    archives = [a for a in state.archives_of(database) if not a.removed]
    memory = memory_peers(state, database)
    known = frozenset(node_id(state.uid, a.archive_id) for a in archives) | {p.node_id for p in memory}
    there = [p for p in state.processes_of(database) if p.state in (ProcessState.TRACKED, ProcessState.MONITORED)]
    on = {p.archive_id for p in there}
    at = {(state.servers[p.server_id].host, e.client_port) for p in there for e in p.endpoints}
    durable = [peer(state, a) for a in archives if a.archive_id in on]
    return NodeTable(known, (*durable, *(p for p in memory if (p.address, p.client_port) in at)))


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
    return next((r for r in engine.replicas if (r.address, r.port) == (host, archive.client_port)), None)


def acknowledges(state: State, engine: EngineSeen, archive_id: int, within_ms: int) -> bool:
    """Whether the leader heard of that replica within so many ms."""
    replica = replica_of(state, engine, archive_id)
    return replica is not None and replica.online and replica.silent_ms <= within_ms


def knows_as_follower(state: State, engine: EngineSeen, archive_id: int) -> bool:
    """Whether a leader's engine was told on the cluster bus that an archive's engine follows it.

    A replication link does not say so. Until it was told, some seconds after it met that engine, it ignores its request to
    fail over (measured on 9.1.2, tests/contract).
    """
    follower = node_id(state.uid, archive_id)
    return any(node.node_id == follower and node.follows == engine.node_id for node in engine.nodes)


def processes_on(state: State, server_id: str) -> list[Process]:
    """The processes of a server, by start id."""
    return sorted((p for p in state.processes.values() if p.server_id == server_id), key=lambda p: p.start_id)


def archives_on(state: State, server_id: str) -> list[Archive]:
    """The archives of a server."""
    return [a for a in state.archives.values() if a.server_id == server_id]


def share(state: State, me: LocalServer) -> int:
    """Bytes: each engine's part of the memory that the engines of this machine may use together."""
    hosts = {s.server_id for s in state.servers.values() if s.host == me.host} | {me.server_id}
    engines = sum(1 for a in state.archives.values() if a.server_id in hosts and not a.removed)
    engines += sum(len(p.endpoints) for p in state.processes.values() if p.server_id in hosts)
    return int(me.memory * ENGINE_SHARE / max(1, engines))


def copies_of(state: State, key: tuple[str, str]) -> list[Archive]:
    """A group's archives, by id; removed ones too."""
    return [a for a in state.archives_of(key[0]) if a.group == key[1]]


def next_sequence(group: Group, engine: EngineSeen) -> int:
    """The number of the next marker: the leader's manager counts them within a term, without a commit."""
    marker = engine.marker
    return marker.sequence + 1 if marker and marker.term == group.term else 1


def stopping(state: State, group: Group) -> bool:
    """Whether the whole database is being shut down."""
    return state.databases[group.database].state in STOPPING


# Remembering -------------------------------------------------------------------------------------------------------

REQUIRED_BEFORE_GROWING = 1_000  # ms `required` stands before S grows (docs/reference/safety.md#growing-s)
SILENT = 3_000  # ms after which a follower is out of sync, or its leader silent
QUIET = 2_000  # ms of silence of an attached follower worth watching; engines count whole seconds


def update_history(
    memory: ConditionHistory,
    state: State,
    me: LocalServer,
    survey: Survey,
    now: float,
    *,
    handled: Mapping[str, int] | None = None,
) -> ConditionHistory:
    """The memory after one more glance: keep since when what still holds, start what began, drop what ended. `handled` as
    in `Seen`."""
    holding = {*_conditions(state, me, survey), *_work_conditions(state, me, survey, handled or {})}
    holding |= {("inherited", c) for c in holding if _inherited(memory, c)}
    known = memory.since
    since = {c: known[c] if c in known else _start(c, memory, now) for c in holding}
    fresh = ConditionHistory(now, since, {})
    return ConditionHistory(now, since, dict(_notes(memory, fresh, state, survey)))


def _inherited(memory: ConditionHistory, condition: Hashable) -> bool:
    """A handover that stood before this manager's first glance: nobody here knows how old it is."""
    if not isinstance(condition, tuple) or condition[0] != "handover":
        return False
    return not memory.now or ("inherited", condition) in memory.since


def _start(condition: Hashable, memory: ConditionHistory, now: float) -> float:
    """A handover may be as old as the last glance that did not show it; everything else starts now."""
    if isinstance(condition, tuple) and condition[0] == "handover" and memory.now:
        return memory.now
    return now


def handover_key(group: Group, handover: Handover) -> Hashable:
    """Names one handover."""
    return ("handover", group.key, group.term, handover.to_process)


def wish_key(group: Group, wish: SwitchoverRequest) -> Hashable:
    """Names one wish for a change of leader."""
    return ("wish", group.key, group.term, wish.to_process, wish.at)


def is_awaited(group: Group, process: Process) -> bool:
    """Whether an assigned term waits for this process, and another choice would be made if it did nothing."""
    if group.phase is not GroupPhase.ASSIGNED:
        return False
    if group.tail is not None:
        return process.start_id in (group.leader_process, group.tail.source_process)
    return process.start_id == group.leader_process and len(group.in_sync) > 1 and group.enforced != group.leader


def work_key(process: Process, engine: EngineSeen | None, handled: int) -> Hashable:
    """Holds since the last thing was done for a tail where this process is: bytes handled, or taken by an engine."""
    return ("did", process.start_id, handled + (engine.offset + engine.incremental_bytes if engine is not None else 0))


def fed_key(group: Group) -> Hashable:
    """Holds while a group's assigned leader has all of the dead leader's tail."""
    return ("fed", group.key, group.term)


def _conditions(state: State, me: LocalServer, survey: Survey) -> Iterable[Hashable]:
    engines = {e.start_id: e for e in survey.engines}
    memory = {m.start_id: m for m in survey.memory}
    yield from (("ended", e.start_id) for e in survey.exits)
    for process in state.memoized(processes_on, me.server_id):
        if process.start_id in memory:
            yield from _memory_conditions(state, process, memory[process.start_id])
        else:
            yield from _process_conditions(process, engines.get(process.start_id))
            yield from _usurpation(state, process, engines.get(process.start_id))
            yield from _option_conditions(state, process, engines.get(process.start_id))
    for group in state.groups.values():
        if state.databases[group.database].state in STOPPING:
            yield ("stopping", group.key)
        if group.handover:
            yield handover_key(group, group.handover)
        if group.switchover:
            yield wish_key(group, group.switchover)
        if group.leader is None:
            yield ("vacant", group.key)
        fed = group.tail.of(group.leader_process) if group.tail and group.leader_process is not None else None
        if fed and fed.whole:
            yield fed_key(group)
        engine = engines.get(group.leader_process) if group.leader_process is not None else None
        for joining in group.joining:
            yield ("joining", group.key, group.term, joining)
        if engine:
            yield from _leader_conditions(state, group, engine)
            if untaken(engine):
                yield refusing_key(engine)


def _work_conditions(state: State, me: LocalServer, survey: Survey, handled: Mapping[str, int]) -> Iterable[Hashable]:
    """How far each process of this server is that gives or takes a tail."""
    for group in state.groups.values():
        for start_id in (group.leader_process, group.tail.source_process) if group.tail else ():
            process = state.processes.get(start_id) if start_id is not None else None
            if process and process.server_id == me.server_id and process.archive_id is not None:
                engine = next((e for e in survey.engines if e.start_id == start_id), None)
                directory = directory_of(me.data_dir, state.archives[process.archive_id])
                yield work_key(process, engine, handled.get(directory, 0))


def in_a_script(engine: EngineSeen) -> bool:
    """Whether a script or function keeps it, so that it answers BUSY to everybody."""
    return engine.answering and engine.refuses == "BUSY"


def held_key(engine: EngineSeen) -> Hashable:
    """Holds while something keeps an engine from answering: it is silent at first, and says BUSY after ten seconds."""
    return ("held", engine.start_id)


def _process_conditions(process: Process, engine: EngineSeen | None) -> Iterable[Hashable]:
    if process.leaving:
        yield ("leaving", process.start_id)
    if engine is None:
        if process.pid is not None:
            yield ("no engine", process.start_id)
        return
    if in_a_script(engine) or not engine.answering:
        yield held_key(engine)
    if engine.loading:
        yield ("loads", process.start_id)
        yield ("loading", process.start_id, process.loading_percent)
    if engine.answering and not engine.loading and not engine.cluster_ok:
        yield ("not ok", process.start_id)
    if engine.role == "follower" and not engine.link_up:
        yield ("link down", process.start_id)


def untaken(engine: EngineSeen) -> str:
    """Why the engine of a leader takes no client's write, by domain/refusing.py; "" if it does."""
    return engine.refuses or ("PAUSED" if engine.paused else "" if engine.takes_clients else "CLOSED")


def refusing_key(engine: EngineSeen) -> Hashable:
    """Holds while an engine refuses writes, or lets them wait, for one reason."""
    return ("refuses", engine.start_id, untaken(engine))


def _usurpation(state: State, process: Process, engine: EngineSeen | None) -> Iterable[Hashable]:
    group = state.groups.get((process.database, process.group))
    if engine and engine.role == "leader" and group and group.open and group.leader_process != process.start_id:
        yield ("usurps", process.start_id)


def _option_conditions(state: State, process: Process, engine: EngineSeen | None) -> Iterable[Hashable]:
    wanted = state.databases[process.database].options.append_fsync
    if engine and engine.append_fsync and FSYNC.index(wanted) > FSYNC.index(engine.append_fsync):
        yield ("weaker", process.start_id)


def _memory_conditions(state: State, process: Process, seen: TeSeen) -> Iterable[Hashable]:
    for engine in seen.engines:
        leader = state.groups[(process.database, engine.group)].leader
        if not engine.link_up or (leader is not None and engine.follows != node_id(state.uid, leader)):
            yield ("astray", process.start_id, engine.group)


def _leader_conditions(state: State, group: Group, engine: EngineSeen) -> Iterable[Hashable]:
    for archive in state.memoized(copies_of, group.key):
        if archive.archive_id == group.leader:
            continue
        replica = replica_of(state, engine, archive.archive_id)
        if replica is None or not replica.online:
            yield ("gone", engine.start_id, archive.archive_id)
        elif replica.silent_ms > QUIET:
            yield ("quiet", engine.start_id, archive.archive_id)


def unheard(memory: ConditionHistory, engine: EngineSeen, archive_id: int) -> bool:
    """Gone for 3 s, or attached and silent as long.

    A leader that was busy hears its followers a moment after it can be asked again, so that silence has to last.
    """
    if memory.lasted(("gone", engine.start_id, archive_id)) > SILENT:
        return True
    return memory.lasted(("quiet", engine.start_id, archive_id)) > SILENT - QUIET


def _notes(memory: ConditionHistory, fresh: ConditionHistory, state: State, survey: Survey) -> Iterable[tuple[Hashable, int]]:
    """The leader's offset, noted once a joiner was required long enough, or once it is fenced in a whole stop;
    file sizes at the last marker.
    """
    engines = {e.start_id: e for e in survey.engines}
    for group in state.groups.values():
        engine = engines.get(group.leader_process) if group.leader_process is not None else None
        if engine is None or not engine.answering or engine.busy:  # an old offset proves nothing
            continue
        if engine.fenced and state.databases[group.database].state in STOPPING:
            key: Hashable = ("stopping", group.key)
            yield key, memory.notes.get(key, engine.offset)
        for joining in group.joining:
            key = ("joining", group.key, group.term, joining)
            if joining.stage is JoinStage.REQUIRED and fresh.lasted(key) >= REQUIRED_BEFORE_GROWING:
                yield key, memory.notes.get(key, engine.offset)
        marker = engine.marker
        if marker:
            key = ("marked", engine.start_id, marker.term, marker.sequence)
            yield key, min(memory.notes.get(key, engine.incremental_bytes), engine.incremental_bytes)
