"""What a manager may order its engines to do, and what it may observe of them. Independent of the domain.

Two implementations stand under one contract suite (tests/contract/test_engine.py): real Valkey 9.1
(engine/valkey.py with engine/supervisor.py) and the simulated engine (sim/engines/engine.py).

Vocabulary: an *engine* is one valkey-server process, named by its `start_id`, which is never used twice.
A *memory-only process* (a TE) is one start id with several engines, one per storage group: started together, ended
together, told as one end. An *archive directory* is where a durable engine keeps its append-only files, its LOCK and
its identity file. Facts about Valkey come from docs/reference/valkey.md and
docs/reference/positions.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

EPOCHS = 1 << 64
"""The epochs of Valkey: after the last comes 0."""
LAST_EPOCHS = EPOCHS - 64
"""From this current epoch on, as near the end as only a forged packet brings it, an engine's epochs are used up."""


class EngineError(Exception):
    """The engine, its files or its socket failed. Root of everything this package raises."""


class ArchiveRefused(EngineError):
    """The archive may not be started: locked, foreign, missing, swapped or unreadable. Changes nothing on disk."""

    def __init__(self, cause: Cause, detail: str) -> None:
        super().__init__(f"{cause}: {detail}")
        self.cause = cause
        self.detail = detail


class EngineUnreachable(EngineError):
    """The engine did not answer in time; whether the command was done is unknown."""


class EngineRefused(EngineError):
    """The engine answered an error; the command was not done."""


class EngineFull(EngineRefused):
    """The engine took the connection and closed it, because it has no room for more: it lives, and nothing was done."""


class Cause(StrEnum):
    """Why a process ended or an archive was refused. Without evidence it is KILLED_BY_SIGNAL, never a guess."""

    GRACEFUL_STOP = "graceful stop"  # we asked (SHUTDOWN) and it exited 0
    OPERATOR_KILL = "operator kill"  # we sent SIGKILL because an operator asked
    FENCED_BY_MANAGER = "fenced by its manager"  # we sent SIGKILL because it led without being the leader
    TORN = "lost its role inside a script"  # we sent SIGKILL: only a full resync makes its data whole
    EPOCHS_USED_UP = "was in the last epoch of the cluster bus"  # we sent SIGKILL: no order takes an epoch back
    LOST_ITS_SLOTS = "lost its hash slots to another node"  # we sent SIGKILL to start it again from what it had before
    NEVER_ANSWERED = "never answered"  # we sent SIGKILL after engine_hang_timeout without any answer
    SCRIPT_TOO_LONG = "script ran too long"  # we sent SIGKILL because a script that wrote passed script-limit
    KILLED_BY_SIGNAL = "killed by signal"  # e.g. "killed by signal 9, sender unknown"
    TERMINATED_FROM_OUTSIDE = "terminated from outside"  # SIGTERM/SIGINT that we did not send; exits 0
    OUT_OF_MEMORY = "out of memory"  # only with cgroup or kernel evidence
    PORT_TAKEN = "port taken"
    DIRECTORY_UNUSABLE = "directory not usable"
    DIRECTORY_UNSAFE = "directory not safe"  # others could make or change what is in it; detail says how
    DISK_FULL = "disk full"
    DISK_ERROR = "disk error"  # EIO and friends
    CORRUPT_ARCHIVE = "corrupt append-only file"
    BAD_OPTION = "bad option"
    ENGINE_CRASHED = "engine crashed"  # assertion or fatal signal inside, with the crash report
    BINARY_MISSING = "no valkey-server binary"
    MACHINE_RESTARTED = "machine restarted"  # boot id changed
    ARCHIVE_LOCKED = "archive in use"  # another process holds LOCK; detail says "pid N"
    ARCHIVE_FOREIGN = "archive belongs to another"  # identity file of another domain, archive or database
    ARCHIVE_MISSING = "archive identity missing"  # directory or identity file gone, or emptied
    ARCHIVE_UNINITIALISED = "archive has no data"  # initialised: yes but no append-only files
    NOT_A_COPY = "not a hot copy"  # to be restored, but no whole hot copy is there
    COPY_OF_ANOTHER_GROUP = "hot copy of another group"  # to be restored, but its hash slots are not this group's
    EXITED = "exited"  # none of the above; exit code and last words show it


@dataclass(frozen=True)
class Identity:
    """What an archive directory says of itself (file `identity.json`). Written before the first start."""

    domain_uid: str
    database: str
    archive_id: int
    incarnation_of_name: str  # uid of the database object, so that a re-created name is another database
    group: str


@dataclass(frozen=True)
class Position:
    """How far an archive got, read from its disk. Orders as (term, sequence, data_bytes); no marker is lowest.

    `bytes_after` counts the bytes of the incremental files after the marker, to the end of the last whole
    command, or to the start of an open MULTI (docs/reference/positions.md#cut-tails): it addresses places in this archive's
    files. `dataless_bytes` of them are of commands that change no data, which a copy may have written on its own.
    """

    term: int = 0
    sequence: int = 0
    nonce: str = ""
    bytes_after: int = 0
    initialised: bool = False
    origin: str = ""  # at the first start of a restored archive: the cut of the hot copy it holds
    size: int = field(default=0, compare=False)  # bytes of all append-only files, as a hint how long they load
    dataless_bytes: int = 0

    @property
    def data_bytes(self) -> int:
        """Bytes after the marker of commands that change data; the same in two archives with the same data."""
        return self.bytes_after - self.dataless_bytes

    @property
    def order(self) -> tuple[int, int, int]:
        """Sort key; higher is newer."""
        return (self.term, self.sequence, self.data_bytes)


@dataclass(frozen=True)
class PeerNode:
    """One engine of the same database, as written to nodes.conf."""

    node_id: str  # 40 hex
    address: str
    client_port: int
    cluster_port: int
    shard_id: str  # 40 hex, same for a whole group
    group: str
    leads: bool  # a living leader: written as master with the group's slots and epoch
    epoch: int = 0  # config epoch, leaders only
    led: bool = False  # led its group last, and no engine leads it now


@dataclass(frozen=True)
class GroupSlots:
    """The slots of one storage group, inclusive ranges, e.g. ((0, 5460),)."""

    group: str
    shard_id: str
    slots: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Secrets:
    """The managers' password on an engine, from which that of followers is derived: the one in use, and while it is being changed
    another one that is taken too.
    """

    used: str = field(repr=False)
    other: str = field(default="", repr=False)
    hash_seed: str = field(default="", repr=False, compare=False)  # 64 hex of all engines of a database; empty: one at random

    @property
    def taken(self) -> tuple[str, ...]:
        """All that are taken."""
        return (self.used, self.other) if self.other else (self.used,)

    @property
    def digest(self) -> str:
        """By which an engine that has these is known, without saying them."""
        return secrets_digest(_hashed(self.used), {_hashed(secret) for secret in self.taken})


def secrets_digest(used: str, taken: Iterable[str]) -> str:
    """Of the hash of the password that is used and of those that are taken."""
    return _hashed(" ".join([used, *sorted(taken)]))


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class EngineUser:
    """A user with whose name and password clients log in. `passwords` are their SHA-256 in hex, sorted; any of them is taken.

    `keys` are the patterns of the keys that it may use, none for all. `altered` are its rules where they are no such user's.
    """

    name: str
    passwords: tuple[str, ...]
    read_only: bool = False
    keys: tuple[str, ...] = ()
    scripting: bool = True
    monitor: bool = False  # it uses no key at all
    importing: bool = False  # it writes values as another server has them, and loads functions
    altered: str = ""


@dataclass(frozen=True)
class EngineUsers:
    """Whom an engine lets in as clients: with `open` everybody, without a name or password; and users, by name."""

    open: bool = True
    users: tuple[EngineUser, ...] = ()


@dataclass(frozen=True)
class TlsFiles:
    """What an engine shows and believes over TLS, as PEM texts: its leaf with the leaf's key, and the authorities.

    `trust` names the authorities, the signing one first; `serial` is the leaf's, in upper-case hex as engines show it.
    """

    trust: str
    serial: str
    authorities: str
    certificate: str
    key: str = field(repr=False)

    @property
    def name(self) -> str:
        """Names these files, and no others."""
        return f"{self.trust}-{self.serial}"


@dataclass(frozen=True)
class TlsSeen:
    """The leaf that an engine shows. `trust` as in TlsFiles; `proven`: the leaf that it was given is the one it shows."""

    trust: str = ""
    serial: str = ""
    proven: bool = False
    days_left: int = 0  # whole days, 0 once it has expired


@dataclass(frozen=True)
class RunOptions:
    """What a database wants of its engines, and what can be changed while they run."""

    max_memory: int  # bytes
    append_fsync: str = "always"  # "" of a memory-only engine, which has no file
    maxmemory_policy: str = "noeviction"
    notify_keyspace_events: str = ""  # in Valkey's letters
    max_clients: int = 0  # connections; 0 as many as the memory allows


@dataclass(frozen=True)
class Announced:
    """What clients are told of where the engines of a server are, when they reach them through something in between: addresses,
    "" the one on which engines listen, and by how much their ports differ. Nodes and managers use the real ones.
    """

    ipv4: str = ""
    ipv6: str = ""
    port_offset: int = 0


@dataclass(frozen=True)
class EngineSpec:
    """All that is needed to launch one engine on an archive. Launching never makes a primary.

    If a group's living leader is among `peers` the engine starts as its replica in nodes.conf; otherwise as
    replica of a fresh phantom with config epoch 0 that owns the group's slots (docs/reference/positions.md#cold-start).
    It always starts fenced (min-replicas-to-write 99), with its client port closed, and, unless it is memory only and has
    nothing to lose, without replication credentials.
    """

    start_id: int
    directory: str
    identity: Identity
    node_id: str
    group: str
    address: str
    client_port: int
    cluster_port: int
    secrets: Secrets  # of the managers' internal user
    peers: tuple[PeerNode, ...]  # every archive of the database but this one
    groups: tuple[GroupSlots, ...]
    current_epoch: int  # `vars currentEpoch` only, never a config epoch
    options: RunOptions
    memory_only: bool = False  # one engine of a TE
    led: bool = False  # others may still hold it for their leader
    restored: bool = False  # the directory holds a hot copy at the first start: it becomes this archive
    users: EngineUsers = EngineUsers()
    tls: bool = False  # with clients, in replication and on the cluster bus
    certificate: TlsFiles | None = None  # has to be there at the launch of one with TLS
    announced: Announced = Announced()


@dataclass(frozen=True)
class TeSpec:
    """All that is needed to launch a memory-only process: its engines, one per storage group, and their common place.

    Every engine's spec has the same start id, `memory_only`, and a directory of its own below `directory`.
    """

    start_id: int
    directory: str
    engines: tuple[EngineSpec, ...]


@dataclass(frozen=True)
class ReplicaSeen:
    """One replica as the leader's ROLE shows it: acknowledged offset, and milliseconds since its last ACK."""

    address: str
    port: int
    offset: int
    online: bool
    silent_ms: int


@dataclass(frozen=True)
class NodeSeen:
    """One line of CLUSTER NODES."""

    node_id: str
    address: str
    port: int
    role: str  # "leader" | "follower"
    follows: str | None
    handshake: bool
    failed: bool
    epoch: int
    slots: tuple[tuple[int, int], ...] = ()  # hash slots it owns, as the engine that was asked has it


@dataclass(frozen=True)
class ReplicationSeen:
    """An engine's replication: its stream, its link to a leader, and as a leader its replicas."""

    offset: int = 0  # only comparable inside one history
    history: str = ""  # replication id
    link_up: bool = False
    resyncing: bool = False
    link_silent_ms: int = 0  # follower: since last bytes from its leader; huge when the link is down
    replicas: tuple[ReplicaSeen, ...] = ()
    torn: bool = False  # its role changed inside a script: it may hold what no other engine has, at an equal offset


@dataclass(frozen=True)
class ClusterSeen:
    """The nodes and slots an engine knows."""

    state_ok: bool = False
    phantom: bool = False  # it follows a made-up id, or no node
    epoch: int = 0  # own config epoch (leader's when follower)
    current_epoch: int = 0
    nodes: tuple[NodeSeen, ...] = ()
    slots: tuple[tuple[int, int], ...] | None = None  # leader: hash slots it owns; None unknown yet, or it follows
    lets_in: bool = False  # any node that introduces itself on the cluster bus, as far as this manager knows
    takes_packets: bool | None = True  # what other nodes send on the cluster bus; None: this manager has given no order yet


@dataclass(frozen=True)
class FilesSeen:
    """An archive's append-only files, and their filesystem."""

    marker: Position | None = None  # the last one; `bytes_after` counts a torn end too, `dataless_bytes` is not known
    base_bytes: int = 0
    incremental_bytes: int = 0
    free_bytes: int = 0  # on the filesystem
    lost: bool = False  # the identity file is gone: what its engine writes now is on no disk
    rewriting: bool = False


@dataclass(frozen=True)
class WritesSeen:
    """What a client's write meets at an engine."""

    refuses: str = ""  # the error it is answered now (OOM, BUSY, READONLY ...), MAXCLIENTS; "" none
    fenced: bool = False
    held: bool = False  # fenced so that writes wait, while it begins to lead; as a follower it applies nothing
    paused: bool = False  # writes wait (`pause`)
    yields: bool = False  # a leader: writes wait for its successor, for 2 s more at least


@dataclass(frozen=True)
class EngineOptions:
    """The options an engine runs with, and whom it lets in as clients."""

    max_memory: int | None = None  # bytes, 0 no limit; None unknown yet
    append_fsync: str = ""  # "" unknown yet, or memory only
    users: EngineUsers | None = None  # None unknown yet
    tls: TlsSeen | None = None  # the leaf that it shows; None: it has no TLS, or that is not known yet
    secrets: str = ""  # digest of the managers' passwords; "" unknown yet
    maxmemory_policy: str = "noeviction"
    notify_keyspace_events: str = ""  # as it shows them
    max_clients: int = 0  # connections; 0 unknown yet
    clients_by_memory: int = 0  # as many as its memory allows


@dataclass(frozen=True)
class EngineSeen:
    """One living engine at one glance. Levels, not edges."""

    start_id: int
    directory: str
    node_id: str
    pid: int
    answering: bool  # False: nothing came back at this glance
    busy: bool = False  # it answered, but too busy to say more: the rest is from an earlier glance
    silent_ms: int = 0  # since the last answer of any kind (BUSY, LOADING, MASTERDOWN are answers)
    idle_ms: int = 0  # while it loads or is silent: since its process last computed, woke up, read, wrote or grew
    loading: bool = False
    loading_percent: int = 0
    role: str = ""  # "leader" | "follower" | "" when unknown
    follows: str | None = None  # node id it replicates, phantom included; None of a follower: it waits for its role
    admits_replicas: bool = False  # the replication user is on
    takes_clients: bool = False  # its client port is open
    group: str = ""  # its storage group
    replication: ReplicationSeen = ReplicationSeen()
    cluster: ClusterSeen = ClusterSeen()
    files: FilesSeen = FilesSeen()
    writes: WritesSeen = WritesSeen()
    options: EngineOptions = EngineOptions()


@dataclass(frozen=True)
class TeSeen:
    """One living memory-only process at one glance: the pid of its launcher, and its engines by group."""

    start_id: int
    directory: str
    pid: int
    engines: tuple[EngineSeen, ...]


@dataclass(frozen=True)
class ExitSeen:
    """One engine that ended, kept until `forget_exit`. Known even when it died while no manager ran."""

    start_id: int
    directory: str
    cause: Cause
    detail: str  # one sentence for a tombstone
    exit_code: int  # 0.., or 128 + signal
    signal: int | None
    last_words: tuple[str, ...]  # last lines of its log
    reaped: bool  # True: the whole process group is proven gone


@dataclass(frozen=True)
class Survey:
    """Everything on this machine at one glance. `engines` are those of archives; memory-only processes stand apart."""

    engines: tuple[EngineSeen, ...] = ()
    exits: tuple[ExitSeen, ...] = ()
    memory: tuple[TeSeen, ...] = ()


@dataclass(frozen=True)
class KeptDeletions:
    """A copy of an archive's append-only files as they were before its engine deleted the keys of slots it had lost.

    `keys` counts the deletions at the end of the file; `whole`: nothing but them comes after what was kept.
    """

    path: str
    keys: int
    whole: bool


@dataclass(frozen=True)
class Counters:
    """Cumulative command counts of one engine since it started, for metrics; never enters the domain."""

    start_id: int
    gets: int
    puts: int
    removes: int
    keys: int
    used_memory: int
    clients: int
    at_ms: int


@dataclass(frozen=True)
class EngineStatistics:
    """What one engine says of itself and of its work since it started: the fields of INFO and CLUSTER INFO as it writes them."""

    start_id: int
    group: str
    fields: Mapping[str, str]


@dataclass(frozen=True)
class EngineLatencies:
    """How long commands of one engine took since it started: by command, how many calls took at most so many microseconds, for
    bounds that double.
    """

    start_id: int
    commands: Mapping[str, Mapping[int, int]]


@dataclass(frozen=True)
class QuiescePoint:
    """What a leader held at a moment. Equal file and size at two moments: nothing was written in between.

    The offset is no such proof, because pings move it.
    """

    offset: int  # replication offset
    history: str  # replication id
    file: str  # its incremental file ...
    size: int  # ... and how long that is


@dataclass(frozen=True)
class CutSeen:
    """Where an archive's files ended when they were linked: the newest one's name and length, and bytes in all."""

    file: str
    length: int
    size: int


@dataclass(frozen=True)
class CopyLabel:
    """What a hot copy says of itself (file `hot-copy.json`): which cut, of which archive, when (wall clock, ms)."""

    cut: str
    identity: Identity
    slots: tuple[tuple[int, int], ...]
    at: int


@dataclass(frozen=True)
class ByteRangeDigest:
    """Bytes of an archive's incremental files after a marker: how many, and their digest."""

    size: int
    digest: str


@dataclass(frozen=True)
class TailFollower:
    """A follower of the dead engine: where its stream and its disk stood, at the same moment."""

    node_id: str
    offset: int
    place: int  # bytes after the marker


@dataclass(frozen=True)
class TailPlan:
    """What is sent from which archive to which followers. `marker` is (term, sequence, nonce) of the marker all of them have."""

    directory: str
    node_id: str  # of the dead engine
    address: str
    port: int
    secrets: Secrets
    marker: tuple[int, int, str]
    stretch: ByteRangeDigest  # all that the archive has after the marker
    former: str  # the history the followers have
    history: str  # the one they get
    shift: int
    followers: tuple[TailFollower, ...]
    tls: bool = False  # with the leaf that the dead engine had

    @property
    def lowest(self) -> int:
        """The place furthest behind."""
        return min(follower.place for follower in self.followers)

    def filling_history(self, follower: TailFollower) -> str:
        """A history only this follower ever has: while the gap is being filled no other follower can continue it."""
        return hashlib.sha1(f"{self.history}:{follower.node_id}".encode(), usedforsecurity=False).hexdigest()

    def filled(self, follower: TailFollower) -> int:
        """The offset of this follower once its gap is filled."""
        return follower.place + self.shift


class ArchiveFiles(Protocol):
    """Archive directories: taken, read, kept beside and retired, whether or not an engine runs on them."""

    async def prepare(
        self, directory: str, identity: Identity, fresh: bool, restored: tuple[tuple[int, int], ...] | None = None
    ) -> Position:
        """Take the archive's lock, check (or, when `fresh`, write) its identity, and read its position.

        Kills leftovers of the archive's own former process group and waits up to 5 s for the lock.
        The lock is kept by this object until `launch` hands it to the engine or `release` drops it.
        Raises ArchiveRefused; `fresh` on a directory with a foreign identity or with data is refused too.
        With `restored` the directory has to hold a whole hot copy of exactly these slots; launching makes it ours.
        """
        ...

    async def obstacle(self, directory: str, cause: Cause, address: str, ports: Sequence[int]) -> str:
        """What is still missing of what an engine of that archive ended for: room, a free port, its directory, its files.

        "" when nothing is, or that cannot be seen. Changes nothing.
        """
        ...

    async def release(self, directory: str) -> None:
        """Drop the lock of a prepared archive that is not going to be launched."""
        ...

    async def read_position(self, directory: str) -> Position:
        """Read the position from disk beside a running engine or without one. Raises ArchiveRefused if unreadable."""
        ...

    async def confirm_initialised(self, directory: str) -> None:
        """Set `initialised: yes` in the identity file: the first marker is on its disk."""
        ...

    async def set_aside(self, start_id: int, keep: Position) -> str | None:
        """Copy the bytes this archive has after `keep` to a file; the file's path, or None if there are none."""
        ...

    async def keep_deleted(self, start_id: int) -> KeptDeletions | None:
        """Copy the archive's files as they were before its engine deleted the keys of the slots it lost, which it logs
        one by one at the end of its file; None if the file does not end in deletions. The copy is part of the archive's
        `set-aside` directory.
        """
        ...

    async def roll_back(self, start_id: int, path: str) -> None:
        """SIGKILL the engine, and put the files that `keep_deleted` copied to `path` in the place of its own."""

    async def retire(self, directory: str, identity: Identity) -> str | None:
        """Rename a deleted archive's directory to `<dir>.deleted-<time>`; the new name. Never removes data.

        None, and nothing happens, unless the directory's identity file says that it is that archive's.
        """
        ...


class EngineLifecycle(Protocol):
    """Engines as processes: seen, started, set and ended."""

    async def survey(self, thorough: bool = True) -> Survey:
        """Look at every engine this data directory knows, adopting those found running. Not `thorough`: what only
        orders and gossip change (nodes, epochs, fence, admission, options) may be 5 s old (decision 0018)."""

    async def wait_for_change(self, timeout: float) -> None:
        """Return as soon as an engine exits, or after `timeout` seconds."""
        ...

    async def launch(self, spec: EngineSpec) -> int:
        """Start the engine (not a primary, fenced, client port closed) and return its pid without waiting for it to load.

        Repeating it for a start_id that already runs returns that pid. Raises ArchiveRefused; also, with
        Cause.PORT_TAKEN, when another process has its client port, which would show only once it is opened.
        """
        ...

    async def launch_memory(self, spec: TeSpec) -> int:
        """Start a memory-only process and return its launcher's pid without waiting for its engines to answer.

        If one of its engines ends, however, the others are ended too and there is one exit, with the cause of the
        first. It keeps nothing: its directory is removed by `forget_exit`. Repeating it is as with `launch`.
        """
        ...

    async def set_options(self, start_id: int, options: RunOptions) -> None:
        """Have each engine run with these options from now on; one that is memory only has no file to fsync."""

    async def set_users(self, start_id: int, users: EngineUsers, secrets: Secrets) -> None:
        """Have each engine let in these clients and no others, and take these passwords of managers and followers; log in anew,
        and follow, with the one in use. A user that stays keeps its connections."""

    async def set_certificate(self, start_id: int, certificate: TlsFiles) -> None:
        """Have each engine show this leaf and believe these authorities from the next handshake on; connections that stand stay.

        Raises EngineRefused where one does not show it afterwards.
        """
        ...

    async def end_script(self, start_id: int) -> None:
        """End the script or function that keeps an engine busy, if there is one. Raises EngineRefused when it cannot be ended:
        it wrote, so that only the end of its engine ends it."""

    async def shut_down(self, start_id: int) -> None:
        """Ask for a graceful end. The exit shows in a later survey."""
        ...

    async def kill(self, start_id: int, cause: Cause) -> None:
        """SIGKILL the whole process group and remember why."""

    async def forget_exit(self, start_id: int) -> None:
        """The exit was written down; drop its record."""

    async def count(self) -> Sequence[Counters]:
        """Command counts of every living engine."""

    async def statistics(self, start_id: int | None = None) -> Sequence[EngineStatistics]:
        """Of every living engine, or of those of one process. One that does not answer is left out; nothing is changed by it."""

    async def latencies(self) -> Sequence[EngineLatencies]:
        """Of every living engine. One that does not answer is left out."""


class Replication(Protocol):
    """Which engine leads, which one each follows, and what a leader writes of that."""

    async def take_over(self, start_id: int) -> None:
        """CLUSTER FAILOVER TAKEOVER, bounded to 1 s; afterwards it admits no replica and stays fenced until it is unfenced.

        One whose client port is open is held: writes wait until `unfence` takes them or `fence` refuses them. Nothing expires
        meanwhile, and should it come to follow, it takes nothing of its leader: unfence it soon, or fence it.
        If it is not answered within 1 s the engine is SIGKILLed and reaped before EngineUnreachable is raised.
        """
        ...

    async def admit(self, start_id: int) -> None:
        """Let replicas attach: switch the replication user on. Only after a fresh read still named this leader."""
        ...

    async def replicate(self, start_id: int, leader: PeerNode) -> None:
        """Set replication credentials, make the leader known, CLUSTER REPLICATE it, forget the phantoms."""
        ...

    async def failover(self, start_id: int) -> None:
        """On a follower: coordinated CLUSTER FAILOVER (no option), and replicas may attach. Returns once it leads or a moment
        after it was sent: its return does not say that it is done.
        """
        ...

    async def hand_over(self, start_id: int, term: int, sequence: int, nonce: str) -> None:
        """On a leader: set the credentials by which it follows its successor at once, and write that marker.

        Refused inside a script or function that answers BUSY: a leader whose role changes there goes on writing what
        no other engine has, at the offset of those that lack it.
        """
        ...

    async def fence(self, start_id: int) -> None:
        """Refuse every write at once, also those that wait in a held engine; reads stay (min-replicas-to-write 99). Survives
        the manager."""
        ...

    async def unfence(self, start_id: int) -> None:
        """Accept writes again, first those that wait in a held engine."""
        ...

    async def mark(self, start_id: int, term: int, sequence: int, nonce: str) -> None:
        """Write the marker `<term>-<sequence>-<nonce>` through this leader (FUNCTION LOAD REPLACE)."""
        ...

    async def rewrite(self, start_id: int, marker: tuple[int, int, str] | None) -> None:
        """BGREWRITEAOF; on a leader in one pipelined send with its marker."""

    async def ask_followers(self, start_id: int) -> None:
        """Have this leader's followers acknowledge now what they hold; by themselves they do once a second.

        What they answer shows in a later survey. The question is a few bytes of the replication stream, none of a file.
        """


class ClusterTable(Protocol):
    """Which nodes and slots an engine knows, and whether clients reach it."""

    async def take_clients(self, start_id: int, group: str = "") -> None:
        """Open the client port, after forgetting every phantom; refused while one is followed. Replicas come that way too.

        `group` names the engine of a memory-only process. An engine whose port another process has taken is ended with
        Cause.PORT_TAKEN before EngineRefused is raised.
        """
        ...

    async def shun_clients(self, start_id: int) -> None:
        """Close the client port of an archive's engine and end every client's connection; replicas that are attached stay."""
        ...

    async def meet(self, start_id: int, peer: PeerNode) -> None:
        """CLUSTER MEET a node this engine does not know.

        From then on, as from its start, it lets in any node that introduces itself; see `let_nobody_in`.
        """

    async def let_nobody_in(self, start_id: int) -> None:
        """Have an archive's engine turn away nodes that introduce themselves on the cluster bus, until `meet`.

        A node that is let in is one of the cluster, without a password, and may take its slots (decision 0026).
        """

    async def restart_epochs(self, start_id: int, epoch: int) -> None:
        """Bring an engine's current epoch, at the end of its 64 bits, round to `epoch`, or to one that is above all in which it
        knows nodes to lead. It drops every packet of the cluster bus from then on, until `take_packets`.

        Every other node that still has the old epoch would give it back (docs/reference/valkey.md#epochs). One that was
        elected in the last epoch, or led in it, keeps it.
        """

    async def take_packets(self, start_id: int) -> None:
        """Have an engine take packets of the cluster bus, and let in nodes that introduce themselves; see `let_nobody_in`."""

    async def forget(self, start_id: int, node_id: str) -> None:
        """CLUSTER FORGET a node the domain does not know."""

    async def reclaim_slots(self, start_id: int, slots: Sequence[tuple[int, int]]) -> None:
        """Make this leader own these hash slots again, in an epoch above every one it has seen."""


class Backup(Protocol):
    """Copies of archives, all as they were at one moment, made while their engines run."""

    async def pause(self, start_id: int, ms: int) -> QuiescePoint:
        """Make the writes of a leader's clients wait, for at most `ms`; what it holds then, all of it in its files.

        Clients see no error, reads go on, nothing expires meanwhile; the pause ends by itself. Scripts that may write,
        transactions, and the managers' own markers wait too. Refused for a follower and for a fenced leader.
        """
        ...

    async def resume(self, start_id: int) -> QuiescePoint:
        """Look what it holds, then let its clients' writes go on."""
        ...

    async def note_cut(self, start_id: int, name: str, reached: QuiescePoint) -> CutSeen:
        """Link the engine's files as they are, with their lengths, once they hold all that `reached` names.

        A follower is waited for a moment. A cut of that name that was noted already stays as it is and is answered; those
        of other names are dropped.
        """
        ...

    async def recognise(self, directory: str) -> CopyLabel | None:
        """What the whole hot copy in a directory says of itself; None when there is none. Reads only."""
        ...

    async def drop_cut(self, directory: str, name: str) -> None:
        """Remove the links of a cut."""
        ...

    async def claim_target(self, directory: str, target: str, label: CopyLabel) -> None:
        """Make and sign the directory that the copy of an archive goes to. Refused unless it is empty and has room."""
        ...

    async def write_copy(
        self, directory: str, name: str, target: str, label: CopyLabel, *, rate: int, report: Callable[[int], Awaitable[None]]
    ) -> None:
        """Copy the files of a cut into the claimed directory, at most `rate` bytes per second (0: no limit), synced.

        `report` is called with percentages twice a second, and ends the copy by raising. One that is whole already is left alone.
        """
        ...

    async def abandon_target(self, target: str, label: CopyLabel) -> None:
        """Remove what an unfinished copy left."""
        ...


class TailSource(Protocol):
    """A dead leader's replication stream, continued from its files for the followers that lack its end (docs/decisions/0011).

    That stream held bytes its files do not hold (PING, GETACK), so offset minus place on disk differs between its
    followers. In the stream that is continued from the files the offset of a byte is its place plus `shift`, for all of
    them. A follower is brought there by one PING whose text fills the gap, under a history that only this follower ever
    has; then it continues in a history that is new too. A follower that was not fed knows neither and resyncs in full.
    """

    async def digest(self, directory: str, marker: tuple[int, int, str], upto: int | None = None) -> ByteRangeDigest:
        """The first `upto` bytes after a marker, or all that an engine would load. Reads only, as `read_position` does.

        Raises ArchiveRefused when the marker or so many bytes are not there.
        """
        ...

    def handled(self) -> Mapping[str, int]:
        """Bytes that were read by `digest` or sent to followers since this manager began, by archive directory."""
        ...

    async def serve_tail(self, plan: TailPlan, identity: Identity) -> None:
        """Continue a dead engine's stream from its archive, listening where it listened, for 1.5 s from now.

        Safe to repeat, and it has to be repeated. Takes the archive's lock. Raises ArchiveRefused, and EngineRefused
        when a follower asked for something else than the plan has for it.
        """
        ...

    async def stop_tail(self, directory: str) -> None:
        """Stop listening at once. `launch` and `release` do it too."""
        ...


class Engines(EngineLifecycle, ArchiveFiles, Replication, ClusterTable, Backup, TailSource, Protocol):
    """All engines of one machine. Every command is safe to repeat until it succeeds.

    Commands raise EngineUnreachable (outcome unknown) or EngineRefused (not done). To a memory-only process `replicate`
    is an order to the engine of the leader's group, `take_clients` to that of the group named, `meet`, `forget`, `set_options`,
    `set_users` and `set_certificate` to each of its engines; `shut_down` and `kill` end it as a whole; every other order is
    refused, because none of its engines may ever lead.
    """
