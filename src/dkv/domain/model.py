"""The nouns of a domain, as values. Nothing here acts; the rules do (rules/), and lifecycle.py names the moves.

One word per concept. Times called `at` are wall-clock milliseconds and only
ever shown; times called `since` are milliseconds of the domain clock, set by Tick, and are what rules judge by.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from dkv.database_options import DEFAULTS
from dkv.domain.access import Authority, DatabaseUser, Departed, JoinToken, SecretChange, Token
from dkv.domain.hotcopy import HotCopy
from dkv.domain.phases import Assigned, Election, HandingOver, Joining, Leadership, Open, Phase, SwitchoverRequest, Vacant
from dkv.domain.positions import PositionReport as PositionReport
from dkv.domain.positions import TailTransfer as TailTransfer
from dkv.domain.states import STOPPING
from dkv.domain.states import ArchiveState as ArchiveState
from dkv.domain.states import DatabaseState as DatabaseState
from dkv.domain.states import EngineState as EngineState
from dkv.domain.states import JoinStage as JoinStage
from dkv.domain.states import ProcessRole as ProcessRole
from dkv.domain.states import ProcessState as ProcessState
from dkv.domain.states import Requester as Requester
from dkv.domain.table import Index, as_table, items_of, keys_of
from dkv.placement import ZONE, Spot

T = TypeVar("T")


@dataclass(frozen=True)
class Server:
    """One machine with one manager."""

    server_id: str
    uid: str  # random, made when the data directory was; a name can be reused, this cannot
    host: str
    port: int
    nuodb_port: int
    boot_id: str
    alive: bool = True  # its lease holds; a change of liveness alone never changes any in-sync set
    data_dir: str = ""  # where it keeps archives whose path was not given
    lost_at: int = 0  # when its lease was found ended, to be shown
    last_event: int = 0  # number of the newest event about it; see event_causality.py
    certificate_until: int = 0  # when the leaf that its manager uses ends, wall clock; 0: it has none
    engine_release: str = ""  # of its engine program, such as 9.1.2; "" unknown
    engine_tls: bool = False  # whether that program has TLS
    labels: tuple[tuple[str, str], ...] = ()  # by name, as its manager's settings have them
    etcd_port: int = 0  # client port of the etcd member that it may run for the domain state; 0: it can run none
    state_member: str = ""  # its member as the cluster lists it: voter, learner, or "" for none
    state_member_at: int = 0  # since when, wall clock
    gives_up_vote: bool = False  # an operator wants another server's member in place of its own, while it is away
    member_failed_at: int = 0  # when its member was removed before it voted, although it was alive, wall clock; 0: none was since
    member_trouble: str = ""  # what its manager sees wrong with its member, a key of TROUBLES of state_members.py
    dkv_release: str = ""  # of its manager, such as 0.1.0; "" unknown
    level: int = 0  # the newest that its manager knows (levels.py); 0 unknown

    @property
    def spot(self) -> Spot:
        """It and its zone, as copies are placed by them."""
        return Spot(self.server_id, dict(self.labels).get(ZONE, ""))


@dataclass(frozen=True)
class Transport:
    """How a database's engines speak with clients, with each other and on the cluster bus (transport.py)."""

    tls: bool = False
    insecure: bool = False  # without TLS, reached from other machines: an operator accepted that


@dataclass(frozen=True)
class DatabaseOptions:
    """What people may set per database: database_options.py says what each is, its unit and its bounds."""

    replication_factor: int = DEFAULTS["replication_factor"]
    min_in_sync: int = DEFAULTS["min_in_sync"]
    append_fsync: str = DEFAULTS["append_fsync"]
    max_memory: int = DEFAULTS["max_memory"]
    leader_assignment_timeout: int = DEFAULTS["leader_assignment_timeout"]
    failover_grace: int = DEFAULTS["failover_grace"]
    failover_limit: int = DEFAULTS["failover_limit"]
    restart_budget: int = DEFAULTS["restart_budget"]
    script_limit: int = DEFAULTS["script_limit"]
    tail_above: int = DEFAULTS["tail_above"]
    engine_tls: str = DEFAULTS["engine_tls"]
    insecure_engine_traffic: str = DEFAULTS["insecure_engine_traffic"]
    maxmemory_policy: str = DEFAULTS["maxmemory_policy"]
    notify_keyspace_events: str = DEFAULTS["notify_keyspace_events"]
    max_clients: int = DEFAULTS["max_clients"]
    leaders: str = DEFAULTS["leaders"]


@dataclass(frozen=True)
class DatabaseRestart:
    """A restart of a whole database that is under way: every process with a lower start id is to be replaced."""

    below: int  # start id
    of: int  # how many processes there were to replace
    rolling: bool = True  # one after the other; else all stop, then all start
    force: bool = False  # writes may stop where a group has no copy to spare
    actor: str = ""
    at: int = 0
    again: tuple[Process, ...] = ()  # not rolling: what to request when all has stopped
    last_event: int = 0  # number of the event that began it


@dataclass(frozen=True)
class ClientAccess:
    """Whom the engines of a database let in beside its users, and who administrates it in the words of NuoDB."""

    open: bool = True  # every client, without a password
    dba_user: str = ""
    dba_password: str = ""  # as it was given, for clients that read it: only of a domain without access control
    changed_at: int = 0  # when this or a user was last changed, to be shown; 0 never


@dataclass(frozen=True)
class Database:
    """A named key space; the cmdlets call it a store."""

    name: str
    uid: str
    secret: str  # password of the managers' internal engine user
    options: DatabaseOptions
    state: DatabaseState = DatabaseState.NOT_RUNNING
    major: int = 0  # cold starts
    minor: int = 0  # exits within this incarnation
    next_node_id: int = 1
    numbered: bool = False  # node ids of this incarnation were given out at its first assignment
    created_at: int = 0
    access: ClientAccess = ClientAccess()
    secret_change: SecretChange = SecretChange()
    default_options: tuple[tuple[str, str], ...] = ()  # as people wrote them
    restart: DatabaseRestart | None = None  # a restart of all its processes is under way
    trimmed: int = 0  # tombstones that were dropped, the oldest first
    trimmed_in: int = 0  # major in which an event last said so
    state_at: int = 0  # when it reached its state, to be shown
    last_event: int = 0  # number of the newest event about it
    options_at: int = 0  # when its options were last changed, to be shown; 0 never
    transport: Transport = Transport()

    @property
    def stopping(self) -> bool:
        """Whether it is being shut down as a whole, or was deleted."""
        return self.state in (*STOPPING, DatabaseState.TOMBSTONE)


@dataclass(frozen=True)
class Intrusion:
    """An unknown node took a group's hash slots over the cluster bus; the leader's manager takes them back."""

    at: int  # when it was seen
    start_id: int  # of the leader's process, which deleted the keys in them
    by: str  # who, for people
    all: bool  # whether it lost all its slots, so that no write came after the deletions
    looked: bool = False  # whether what it deleted was looked for in its file
    saved_directory: str = ""  # the directory with its files as they were before; empty: there is none
    back: bool = False  # whether the engine is to be started from them


@dataclass(frozen=True)
class Enforcement:
    """One time an operator made an archive lead although it may have lacked writes. Kept as long as its group is."""

    archive_id: int
    term: int  # of the group at that moment; the enforced archive leads in a later one
    in_sync: bool  # whether the archive was in sync, so that no confirmed write was given up
    bound: str  # what could be lost, as it was known then
    reason: str  # the operator's words
    actor: str
    at: int


@dataclass(frozen=True)
class Group:
    """A storage group: a range of hash slots with one leader and its copies."""

    database: str
    name: str
    shard_id: str  # 40 hex
    slots: tuple[tuple[int, int], ...]  # inclusive ranges
    phase: Phase = Vacant()
    term: int = 0  # 0: never had a leader
    in_sync: tuple[int, ...] = ()  # S, archive ids
    required: tuple[int, ...] = ()  # whose acknowledgement a confirmed write needs
    last_leader: int | None = None  # archive of the newest opened term
    suspects: tuple[int, ...] = ()  # start ids that may lead and are not proven stopped
    silent: tuple[int, ...] = ()  # archives whose engines received nothing from the leader for 3 s
    machine_answers: bool = True  # the silent leader's machine, as its followers' managers see it
    history: str = ""  # replication id of the leader of this term
    epoch: int = 0  # Valkey config epoch last seen
    clean_stop: bool = False  # all of S was stopped at the same position
    opened_at: PositionReport | None = None  # what the leader held when its term opened; None after a handover
    enforcements: tuple[Enforcement, ...] = ()  # every enforced leader, oldest first; events are trimmed, these not
    under_replicated_since: int = 0  # since when S is smaller than minInSync, to be shown; 0: it is not
    intrusion: Intrusion | None = None  # its hash slots are another's, or were a moment ago
    last_event: int = 0  # number of the newest event about it

    @property
    def leader(self) -> int | None:
        """The archive that leads, or is assigned to; None while the group is vacant."""
        return None if isinstance(self.phase, Vacant) else self.phase.leader

    @property
    def leader_process(self) -> int | None:
        """The start id of the process that leads, or is assigned to; None while the group is vacant."""
        return None if isinstance(self.phase, Vacant) else self.phase.leader_process

    @property
    def open(self) -> bool:
        """Whether a term is open."""
        return isinstance(self.phase, Leadership)

    @property
    def serving(self) -> bool:
        """Whether its leader reported that it leads."""
        return isinstance(self.phase, HandingOver) or (isinstance(self.phase, Open) and self.phase.serving)

    @property
    def joining(self) -> tuple[Joining, ...]:
        """The archives on their way into the in-sync set."""
        return self.phase.joining if isinstance(self.phase, Leadership) else ()

    @property
    def switchover(self) -> SwitchoverRequest | None:
        """A planned change of leader that was asked for."""
        return self.phase.switchover if isinstance(self.phase, Leadership) else None

    @property
    def tail(self) -> TailTransfer | None:
        """What the assigned leader is given before its term may open."""
        return self.phase.tail if isinstance(self.phase, Assigned) else None

    @property
    def contested(self) -> tuple[int, ...]:
        """Archives of a handover whose leader died: all are asked."""
        return self.phase.contested if isinstance(self.phase, Election) else ()

    @property
    def enforced(self) -> int | None:
        """The archive an operator forced to lead, until it leads."""
        return self.phase.enforced if isinstance(self.phase, Election) else None

    @property
    def key(self) -> tuple[str, str]:
        """Its identity: (database, group name)."""
        return (self.database, self.name)

    @property
    def subject(self) -> str:
        """How events name it."""
        return f"group {self.database}/{self.name}"


@dataclass(frozen=True)
class BackupManifest:
    """What a hot copy says of itself. Without slots: it was looked at, and no whole hot copy was there."""

    cut: str = ""
    group: str = ""
    slots: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Archive:
    """A directory on one server where data is durable; the cmdlets call it an instance."""

    archive_id: int
    database: str
    database_uid: str
    group: str
    server_id: str
    name: str
    path: str  # empty: its manager derives it from its data directory
    cluster_port: int
    client_port: int
    state: ArchiveState = ArchiveState.PROVISIONED
    stopped_by_operator: bool = False
    removed: bool = False  # deleted: its manager retires the directory, then it is gone ...
    kept: bool = False  # ... unless it is kept: it can be brought back under its id until it is purged
    restored: bool = False  # its directory holds restored data, with which its group is to begin
    origin: str = ""  # which data that was: the cut of a hot copy, as its manager read it
    last_event: int = 0  # number of the newest event about it
    copy: BackupManifest | None = None  # what is to be restored, as its manager found it before the first start
    goes_home: bool = False  # it led when its server was lost, and is to lead again once it is in sync
    home_since: int | None = None  # domain clock: since when it could lead again; armed by Tick

    def directory_in(self, data_dir: str) -> str:
        """Where it lies on its server, whose data directory that is."""
        return self.path or f"{data_dir}/archives/{self.database}/{self.name}-{self.archive_id}"

    @property
    def unread(self) -> bool:
        """It is to be restored, did not start yet, and its manager has not said what it holds."""
        fresh = self.restored and self.state is ArchiveState.PROVISIONED
        return fresh and self.copy is None and not self.removed


@dataclass(frozen=True)
class Verdict:
    """Why the domain ends a process, decided before it ended (docs/reference/nuodb.md#life-cycles)."""

    reason: str
    exit_code: int


@dataclass(frozen=True)
class Rest:
    """Ends in a row of an archive's processes that did not get to run, and how the newest process waits because of them."""

    tries: int  # how many they are
    since: int  # when the first of them was, to be shown
    lacks: str  # what was missing, as the cause of the last end; "": nothing that comes back
    detail: str  # of the last end
    delay: int  # ms
    next_at: int  # when it will be begun at the latest, to be shown
    armed: int | None = None  # domain clock, by the first Tick
    over: bool = False  # it waits no more
    crashes: int = 0  # how many of them lacked nothing that comes back
    spent: bool = False  # the budget of quick restarts is spent: it may end again as soon as it is begun


@dataclass(frozen=True)
class Endpoint:
    """Where one engine of a TE is reached: the engine's group, and its two ports on the process's server."""

    group: str
    cluster_port: int
    client_port: int


@dataclass(frozen=True)
class CertificateShown:
    """The leaf that an engine shows, the one that ends first of several: which authorities it believes, the leaf's serial number
    in upper-case hex, and its end to within a day (wall clock, ms)."""

    trust: str
    serial: str
    ends_at: int


@dataclass(frozen=True)
class RunsWith:
    """What the engines of a process were last seen to run with."""

    append_fsync: str = ""  # "" unknown, or a TE
    max_memory: int = 0  # bytes by its database's option; 0: a share of its server's memory
    users: str = ""  # digest of whom they let in; see database_users.py
    certificate: CertificateShown | None = None  # None: no TLS, or not known yet
    maxmemory_policy: str = DEFAULTS["maxmemory_policy"]
    notify_keyspace_events: str = DEFAULTS["notify_keyspace_events"]
    max_clients: int = 0  # by its database's option; 0: as many as its memory allows


@dataclass(frozen=True)
class ProcessRequest:
    """How a process was asked for. It stays as it is as long as the process does."""

    requester: Requester = Requester.OPERATOR
    at: int = 0
    restart_of: int | None = None  # start id of the process that it replaces
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Health:
    """What its manager saw to be wrong with an engine that lives, and since when (wall clock, to be shown)."""

    silent_at: int = 0  # since when it answers nothing at all; 0: it answers
    refuses: str = ""  # the error it answers clients' writes for seconds; see writes_refused.py. "" none
    refuses_at: int = 0  # since when


@dataclass(frozen=True)
class Process:
    """One run of one engine. Its start id is never used twice."""

    start_id: int
    database: str
    role: ProcessRole
    server_id: str
    archive_id: int | None = None
    group: str = ""
    state: ProcessState = ProcessState.REQUESTED
    engine_state: EngineState = EngineState.UNKNOWN
    pid: int | None = None
    node_id: int | None = None  # reserved; shown from MONITORED
    request: ProcessRequest = ProcessRequest()
    kill: bool = False  # an operator wants it gone without a graceful end
    verdict: Verdict | None = None
    report: PositionReport | None = None  # answer in the present vacancy
    loading_percent: int = 0
    progress: int = 0  # `count` of the newest LeaderProgressed about it
    waiting_since: int | None = None  # domain clock; armed while leaderAssignmentTimeout runs
    running_at: int = 0  # when its engine state first became RUNNING; 0 never
    port: int = 0  # where clients reach its first engine, from CONFIGURED on; 0 unknown
    state_at: int = 0  # when it reached its state, to be shown
    health: Health = Health()
    rest: Rest | None = None  # it is held back until that is over
    restarted: bool = False  # it leaves to be requested again at once, by a restart of its database
    endpoints: tuple[Endpoint, ...] = ()  # of a TE's engines, chosen when it is requested; an SM's is its archive's
    last_event: int = 0  # number of the newest event about it
    runs: RunsWith = RunsWith()

    @property
    def leaving(self) -> bool:
        """Whether its end was requested, gracefully or at once."""
        return self.kill or self.state is ProcessState.REQUESTED_SHUTDOWN

    @property
    def timed(self) -> bool:
        """Whether a Tick may change it: a timer of its own runs, or is to be armed or stopped."""
        if self.waiting_since is not None or self.state is ProcessState.TRACKED or (self.rest is not None and not self.rest.over):
            return True
        return self.request.requester is Requester.OPERATOR and self.state is ProcessState.STARTED and self.role is ProcessRole.SM


@dataclass(frozen=True)
class Tombstone:
    """What is kept of a process that ended."""

    process: Process
    major: int
    minor: int  # incarnation at its exit; distinct, newest shown first
    reason: str
    cause: str
    exit_code: int  # dkv's verdict, or 128 + signal, or the process's own
    wait_status: int | None  # the real one, kept beside
    at: int
    last_words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Record:
    """One small thing the domain keeps for people and programs and never judges by: a user, a region, a value of theirs."""

    kind: str
    key: str
    value: str  # JSON


def evolve(item: T, **changes: Any) -> T:
    """What dataclasses.replace gives, without writing every field anew: a decision changes many a value of many fields.

    Only for values whose making computes nothing. Raises TypeError for a field that does not exist.
    """
    values = {**vars(item), **changes}
    if len(values) != len(vars(item)):  # what was decoded from an older text has no value of its own where it is the default
        unknown = changes.keys() - {f.name for f in fields(item)}  # type: ignore[arg-type]  # a dataclass
        if unknown:
            raise TypeError(f"{type(item).__name__} has no field {', '.join(sorted(unknown))}")
    made = object.__new__(type(item))
    vars(made).update(values)
    return made


# By what things are found -------------------------------------------------------------------------------------------

SERVERS_AT = Index[Server](lambda s: s.host)
GROUPS_OF = Index[Group](lambda g: g.database)
GROUPS_NOT_SERVING = Index[Group](lambda g: None if g.serving else g.database)
GROUPS_VACANT = Index[Group](lambda g: True if isinstance(g.phase, Vacant) else None)
GROUPS_MOVING = Index[Group](lambda g: True if g.switchover or isinstance(g.phase, Assigned) else None)
"""Assigned, or with a switchover that was asked for: timers run."""
ARCHIVES_OF = Index[Archive](lambda a: a.database)
ARCHIVES_IN = Index[Archive](lambda a: (a.database, a.group))
ARCHIVES_ON = Index[Archive](lambda a: a.server_id)
ARCHIVES_GO_HOME = Index[Archive](lambda a: True if a.goes_home and not a.removed else None)
ARCHIVES_MISSING = Index[Archive](lambda a: a.database if a.state is ArchiveState.NOT_RUNNING and not a.removed else None)
PROCESSES_OF = Index[Process](lambda p: p.database)
PROCESSES_IN = Index[Process](lambda p: (p.database, p.group) if p.group else None)
PROCESSES_ON = Index[Process](lambda p: p.server_id)
PROCESSES_OF_ARCHIVE = Index[Process](lambda p: p.archive_id)
TES_OF = Index[Process](lambda p: p.database if p.role is ProcessRole.TE else None)
TES_HELD = Index[Process](
    lambda p: p.database if p.role is ProcessRole.TE and p.state is ProcessState.TRACKED and not p.kill else None
)
PROCESSES_REQUESTED = Index[Process](lambda p: p.database if p.state is ProcessState.REQUESTED else None)
PROCESSES_STAYING = Index[Process](lambda p: None if p.state is ProcessState.REQUESTED_SHUTDOWN else p.database)
PROCESSES_TIMED = Index[Process](lambda p: True if p.timed else None)
TOMBSTONES_OF = Index[Tombstone](lambda t: t.process.database)
TOMBSTONES_IN = Index[Tombstone](lambda t: (t.process.database, t.major))
TOMBSTONES_ON = Index[Tombstone](lambda t: t.process.server_id)
TOMBSTONES_OF_ARCHIVE = Index[Tombstone](lambda t: t.process.archive_id)
USERS_OF = Index[DatabaseUser](lambda u: u.database)
COPIES_ACTIVE = Index[HotCopy](lambda c: True if not c.over or any(p.linked for p in c.parts) else None)

INDEXES: Mapping[str, tuple[Index[Any], ...]] = {
    "servers": (SERVERS_AT,),
    "databases": (),
    "groups": (GROUPS_OF, GROUPS_NOT_SERVING, GROUPS_VACANT, GROUPS_MOVING),
    "archives": (ARCHIVES_OF, ARCHIVES_IN, ARCHIVES_ON, ARCHIVES_GO_HOME, ARCHIVES_MISSING),
    "processes": (
        PROCESSES_OF,
        PROCESSES_IN,
        PROCESSES_ON,
        PROCESSES_OF_ARCHIVE,
        TES_OF,
        TES_HELD,
        PROCESSES_REQUESTED,
        PROCESSES_STAYING,
        PROCESSES_TIMED,
    ),
    "tombstones": (TOMBSTONES_OF, TOMBSTONES_IN, TOMBSTONES_ON, TOMBSTONES_OF_ARCHIVE),
    "records": (),
    "copies": (COPIES_ACTIVE,),
    "tokens": (),
    "authorities": (),
    "database_users": (USERS_OF,),
    "departed": (),
    "join_tokens": (),
}
"""By the field of State that holds the things."""


class Reader:
    """How a state is read, and a draft of the next one: both have the same tables."""

    servers: Mapping[str, Server]
    databases: Mapping[str, Database]
    groups: Mapping[tuple[str, str], Group]
    archives: Mapping[int, Archive]
    processes: Mapping[int, Process]
    tombstones: Mapping[int, Tombstone]
    records: Mapping[tuple[str, str], Record]
    copies: Mapping[int, HotCopy]
    tokens: Mapping[str, Token]
    authorities: Mapping[str, Authority]
    database_users: Mapping[tuple[str, str], DatabaseUser]
    departed: Mapping[str, Departed]
    join_tokens: Mapping[str, JoinToken]

    def groups_of(self, database: str) -> list[Group]:
        """The database's groups, by name."""
        return items_of(self.groups, GROUPS_OF, database)

    def archives_of(self, database: str) -> list[Archive]:
        """The database's archives, by id; removed ones too."""
        return items_of(self.archives, ARCHIVES_OF, database)

    def archives_on(self, server_id: str) -> list[Archive]:
        """The archives of a server, by id; removed ones too."""
        return items_of(self.archives, ARCHIVES_ON, server_id)

    def archives_in(self, group: Group) -> list[Archive]:
        """The group's archives that are not deleted, by id."""
        return [archive for archive in items_of(self.archives, ARCHIVES_IN, group.key) if not archive.removed]

    def spot_of(self, archive: Archive) -> Spot:
        """The archive's server and its zone."""
        server = self.servers.get(archive.server_id)
        return server.spot if server else Spot(archive.server_id)

    def processes_of(self, database: str) -> list[Process]:
        """The database's live processes, by start id."""
        return items_of(self.processes, PROCESSES_OF, database)

    def users_of(self, database: str) -> list[DatabaseUser]:
        """The database's users, by name."""
        return items_of(self.database_users, USERS_OF, database)

    def processes_on(self, server_id: str) -> list[Process]:
        """The live processes of a server, by start id."""
        return items_of(self.processes, PROCESSES_ON, server_id)

    def processes_in(self, group: Group) -> list[Process]:
        """The live processes on a group's archives, by start id."""
        return items_of(self.processes, PROCESSES_IN, group.key)

    def process_on(self, archive_id: int) -> Process | None:
        """The live process of an archive."""
        start_ids = keys_of(self.processes, PROCESSES_OF_ARCHIVE, archive_id)
        return self.processes[start_ids[0]] if start_ids else None

    def has_processes(self, database: str) -> bool:
        """Whether the database has any live process."""
        return bool(keys_of(self.processes, PROCESSES_OF, database))

    def leader_of(self, group: Group) -> Process | None:
        """The live process that leads a group, or is assigned to."""
        return self.processes.get(group.leader_process) if group.leader_process is not None else None

    def archive_of(self, process: Process) -> Archive | None:
        """The archive of an SM; None for a TE."""
        return self.archives.get(process.archive_id) if process.archive_id is not None else None

    def name_of(self, archive_id: int) -> str:
        """How people call an archive; by its id if it is gone."""
        archive = self.archives.get(archive_id)
        return archive.name if archive else f"archive {archive_id}"

    def group_of(self, process: Process) -> Group | None:
        """The group of an SM process."""
        return self.groups.get((process.database, process.group))

    def group_of_archive(self, archive_id: int) -> Group:
        """The group an archive belongs to."""
        archive = self.archives[archive_id]
        return self.groups[(archive.database, archive.group)]

    def server_alive(self, server_id: str) -> bool:
        """Whether the server's lease holds."""
        server = self.servers.get(server_id)
        return server is not None and server.alive

    def stopping(self, name: str) -> bool:
        """Whether a database is being shut down as a whole, or was deleted: nothing of it is started or opened."""
        database = self.databases.get(name)
        return database is not None and database.stopping


Touched = Mapping[str, Collection[Any]]
"""Keys of the things that may differ, by the field of State."""


@dataclass(frozen=True)
class State(Reader):
    """Everything one domain agrees on, at one revision. The mappings become tables and are never changed in place."""

    uid: str = ""
    clock: int = 0  # domain clock, ms; only Tick moves it
    next_archive_id: int = 0
    next_start_id: int = 0
    servers: Mapping[str, Server] = field(default_factory=dict)
    databases: Mapping[str, Database] = field(default_factory=dict)
    groups: Mapping[tuple[str, str], Group] = field(default_factory=dict)
    archives: Mapping[int, Archive] = field(default_factory=dict)
    processes: Mapping[int, Process] = field(default_factory=dict)
    tombstones: Mapping[int, Tombstone] = field(default_factory=dict)
    records: Mapping[tuple[str, str], Record] = field(default_factory=dict)  # by (kind, key)
    next_copy_id: int = 1
    copies: Mapping[int, HotCopy] = field(default_factory=dict)
    tokens: Mapping[str, Token] = field(default_factory=dict)  # by id
    authorities: Mapping[str, Authority] = field(default_factory=dict)  # by owner
    database_users: Mapping[tuple[str, str], DatabaseUser] = field(default_factory=dict)  # by database and name
    departed: Mapping[str, Departed] = field(default_factory=dict)  # by uid
    join_tokens: Mapping[str, JoinToken] = field(default_factory=dict)  # by id
    events: int = 0  # how many there were so far; the next one has the next number
    recoveries: int = 0  # how often it was begun anew without a majority of its state's voters: recovery/domain.py
    recovery_ids: tuple[str, ...] = ()  # random, of each of these, oldest first; an older dkv kept none
    level: int = 0  # what it may contain: levels.py

    _origin: ClassVar[tuple[weakref.ref[State], Touched] | None] = None

    def __post_init__(self) -> None:
        for name, indexes in INDEXES.items():
            object.__setattr__(self, name, as_table(getattr(self, name), indexes))
        object.__setattr__(self, "_found", {})

    def made_from(self, origin: State, touched: Touched) -> State:
        """This state, which remembers of which one it is a change, and where it may differ. Only for the caller that made it."""
        object.__setattr__(self, "_origin", (weakref.ref(origin), touched))
        return self

    def touched_since(self, before: State) -> Touched:
        """Where this state may differ from another one. Few keys if it was made from that; else all."""
        if self._origin is not None and self._origin[0]() is before:
            return self._origin[1]
        return {name: {**getattr(before, name), **getattr(self, name)} for name in INDEXES}

    def memoized(self, find: Callable[..., T], *about: Hashable) -> T:
        """What a pure function finds in this state, computed once: `find(state, *about)`. Its result is never changed.

        A state that is still being drafted is never asked so.
        """
        values: dict[Hashable, Any] = self._found  # type: ignore[attr-defined]
        key = (find, about)
        try:
            answer: T = values[key]
        except KeyError:
            answer = values[key] = find(self, *about)
        return answer
