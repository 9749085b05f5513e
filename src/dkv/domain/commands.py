"""Everything that can happen to a domain, as values. decide() says what each makes true.

*Orders* come from people and programs; *facts* come from managers and are proposals: a fact about something the
domain no longer knows is refused. Time, ids and randomness arrive in here, never by a call.
"""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain.command import Command as Command
from dkv.domain.command import LeaderFact as LeaderFact
from dkv.domain.command import ManagerFact as ManagerFact
from dkv.domain.feeding import TailBroken as TailBroken
from dkv.domain.feeding import TailFed as TailFed
from dkv.domain.feeding import TailMeasured as TailMeasured
from dkv.domain.hotcopy_commands import CancelHotCopy as CancelHotCopy
from dkv.domain.hotcopy_commands import CopyBroke as CopyBroke
from dkv.domain.hotcopy_commands import CopyPrepared as CopyPrepared
from dkv.domain.hotcopy_commands import CopyProgressed as CopyProgressed
from dkv.domain.hotcopy_commands import CopyTarget as CopyTarget
from dkv.domain.hotcopy_commands import CopyWritten as CopyWritten
from dkv.domain.hotcopy_commands import CutDropped as CutDropped
from dkv.domain.hotcopy_commands import CutNoted as CutNoted
from dkv.domain.hotcopy_commands import RequestHotCopy as RequestHotCopy
from dkv.domain.hotcopy_commands import WritesPaused as WritesPaused
from dkv.domain.hotcopy_commands import WritesResumed as WritesResumed
from dkv.domain.keeping import BringBackArchive as BringBackArchive
from dkv.domain.keeping import SetDatabaseOptions as SetDatabaseOptions
from dkv.domain.maintenance import DrainServer as DrainServer
from dkv.domain.maintenance import EnforceLeader as EnforceLeader
from dkv.domain.maintenance import EngineSilent as EngineSilent
from dkv.domain.maintenance import RestartDatabase as RestartDatabase
from dkv.domain.maintenance import StopRestart as StopRestart
from dkv.domain.maintenance import Switchover as Switchover
from dkv.domain.maintenance import WritesRefused as WritesRefused
from dkv.domain.model import DatabaseOptions, PositionReport, ProcessRole
from dkv.domain.running import LackEnded as LackEnded
from dkv.domain.running import LeaderProgressed as LeaderProgressed
from dkv.domain.running import LoadingProgressed as LoadingProgressed
from dkv.domain.running import MemorySynced as MemorySynced
from dkv.domain.running import OptionsSeen as OptionsSeen
from dkv.domain.running import ProcessConfigured as ProcessConfigured
from dkv.domain.running import ProcessExited as ProcessExited
from dkv.domain.running import ProcessStarted as ProcessStarted
from dkv.domain.running import ProcessTracked as ProcessTracked

# Orders ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class NewGroup:
    """One storage group of a new database."""

    name: str
    shard_id: str
    slots: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class NewArchive:
    """One archive to create. An empty name, path or zero port is chosen by the domain.

    `restored`: its directory holds a copy of a database's data already, from which this database is to begin.
    """

    server_id: str
    name: str = ""
    group: str = ""
    path: str = ""
    cluster_port: int = 0
    client_port: int = 0
    restored: bool = False


@dataclass(frozen=True, kw_only=True)
class CreateDatabase(Command):
    """Create a database with its groups and, for a store, all its archives at once."""

    name: str
    uid: str
    secret: str
    options: DatabaseOptions = DatabaseOptions()
    groups: tuple[NewGroup, ...] = ()
    archives: tuple[NewArchive, ...] = ()
    dba_user: str = ""
    dba_password: str = ""
    default_options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class DeleteDatabase(Command):
    """Delete a database that does not run; with `purge` its archives too (directories are renamed, not removed). With
    `forget` its name and history as well, also of one that was deleted before."""

    name: str
    purge: bool = False
    forget: bool = False


@dataclass(frozen=True, kw_only=True)
class ShutdownDatabase(Command):
    """Stop a whole database: writes are fenced, all of S catches up, then everything stops without handover."""

    name: str
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class CreateArchives(Command):
    """Add archives to a database; all or none."""

    database: str
    archives: tuple[NewArchive, ...]


@dataclass(frozen=True, kw_only=True)
class DeleteArchive(Command):
    """Take an archive out of its database: with `purge` its directory is renamed by its manager and the archive is
    forgotten, else it stays on the list of removed ones and can be brought back."""

    archive_id: int
    purge: bool = True


@dataclass(frozen=True, kw_only=True)
class StartProcess(Command):
    """Request a process. `expected` is the incarnation (major, minor) it is to run in, minor None for any; or None.

    On a database that does not run that is the one this start opens: (major + 1, 0) (docs/reference/nuodb.md#life-cycles).
    """

    database: str
    role: ProcessRole
    server_id: str = ""
    archive_id: int | None = None
    expected: tuple[int, int | None] | None = None
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ShutdownProcess(Command):
    """End one process gracefully, or at once with `kill`. `force` accepts falling below minInSync. `evict` forgets it
    although nobody proved that it stopped: for a process whose server does not come back."""

    start_id: int
    kill: bool = False
    force: bool = False
    evict: bool = False


@dataclass(frozen=True, kw_only=True)
class PutRecord(Command):
    """Set a record, or with no value delete it. With `expects` only if its value is one of those; None is: not there."""

    kind: str
    key: str
    value: str | None = None  # JSON
    expects: tuple[str | None, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RemoveServer(Command):
    """Take a server that is away, and has nothing left, out of the domain."""

    server_id: str


@dataclass(frozen=True, kw_only=True)
class RemoveServerState(Command):
    """Give up what ran on a server that is away: its processes end unproven, its archives go where that is safe."""

    server_id: str


# Facts -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Tick(Command):
    """Time passed: `clock` is the domain clock in ms, from the one manager that holds the leader lease."""

    clock: int


@dataclass(frozen=True, kw_only=True)
class ServerJoined(Command):
    """A manager is here: first time, again, or after its lease was lost."""

    server_id: str
    uid: str
    host: str
    port: int
    nuodb_port: int
    boot_id: str
    data_dir: str = ""


@dataclass(frozen=True, kw_only=True)
class ServerLost(Command):
    """A server's lease ended, judged by a manager with one TTL of uninterrupted access to the backend."""

    server_id: str
    uid: str


@dataclass(frozen=True, kw_only=True)
class PositionReported(ManagerFact):
    """An engine that already runs answers in a vacancy. Fenced first, if it was found leading."""

    start_id: int
    term: int
    report: PositionReport


@dataclass(frozen=True, kw_only=True)
class OpenTerm(LeaderFact):
    """The assigned leader's engine has loaded and is fenced: its term may open."""

    start_id: int


@dataclass(frozen=True, kw_only=True)
class LeaderServing(LeaderFact):
    """The opened leader's engine leads, its marker is written, and it admits replicas."""

    start_id: int
    epoch: int
    history: str


@dataclass(frozen=True, kw_only=True)
class JoinAnnounced(LeaderFact):
    """An archive outside S may attach to the leader."""

    archive_id: int


@dataclass(frozen=True, kw_only=True)
class JoinMarked(LeaderFact):
    """The joiner's link is up and a fresh marker was written through the leader."""

    archive_id: int
    sequence: int
    nonce: str


@dataclass(frozen=True, kw_only=True)
class JoinDurable(ManagerFact):
    """The joiner's own manager found the fresh marker on its disk, with no resync or rewrite going on."""

    start_id: int
    term: int
    sequence: int
    nonce: str


@dataclass(frozen=True, kw_only=True)
class JoinCompleted(LeaderFact):
    """Required for 1 s, and its offset passed the leader's offset noted after that: S grows."""

    archive_id: int


@dataclass(frozen=True, kw_only=True)
class JoinAborted(LeaderFact):
    """The joiner's link broke before S grew, or it is not to join any more."""

    archive_id: int
    reason: str = "its link to the leader broke before it was in sync"


@dataclass(frozen=True, kw_only=True)
class InSyncShrunk(LeaderFact):
    """A follower is gone, silent for 3 s, must resync, or is about to be stopped: S without it."""

    archive_id: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class HandoverBegun(LeaderFact):
    """A planned change of leader to a linked member of S with its marker on disk."""

    to_archive: int
    immediate: bool = False
    sequence: int = 0  # of the leader's newest marker of this term; 0 without one


@dataclass(frozen=True, kw_only=True)
class HandoverDeclined(LeaderFact):
    """The handover that an operator asked for cannot begin now: `reason` completes "it was not handed over: ..."."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class HandoverDone(ManagerFact):
    """The target was seen leading: by either manager."""

    database: str
    group: str
    term: int
    start_id: int
    epoch: int
    history: str


@dataclass(frozen=True, kw_only=True)
class HandoverWithdrawn(ManagerFact):
    """The target's manager asked its engine for nothing yet and cannot: `reason` says why. The leader goes on."""

    database: str
    group: str
    term: int
    start_id: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class HandoverFailed(LeaderFact):
    """The deadline passed and the old engine still leads."""


@dataclass(frozen=True, kw_only=True)
class LeaderSteppedDown(ManagerFact):
    """An engine that may have led is proven to follow now."""

    start_id: int


@dataclass(frozen=True, kw_only=True)
class CleanStopReached(LeaderFact):
    """Writes are fenced and these archives reached the leader's position."""

    reached: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class LeaderSilence(ManagerFact):
    """A follower heard nothing from its leader for 3 s, or hears it again; and whether its machine answers."""

    start_id: int
    term: int
    silent: bool
    machine_answers: bool = True


@dataclass(frozen=True, kw_only=True)
class SlotsLost(LeaderFact):
    """The leader's engine does not own its hash slots any more: somebody took them over the cluster bus."""

    start_id: int
    by: str
    all: bool


@dataclass(frozen=True, kw_only=True)
class DeletionsKept(LeaderFact):
    """The leader's files as they were before its engine deleted the keys of those slots; no path: none, or `trouble`."""

    start_id: int
    path: str
    keys: int
    trouble: str = ""


@dataclass(frozen=True, kw_only=True)
class SlotsOwned(LeaderFact):
    """The leader's engine owns its hash slots again."""

    start_id: int
    epoch: int


@dataclass(frozen=True, kw_only=True)
class TailSetAside(ManagerFact):
    """Before a resync, acknowledged but unconfirmed bytes of an old leader were copied to a file."""

    start_id: int
    path: str


@dataclass(frozen=True, kw_only=True)
class ArchiveRetired(ManagerFact):
    """The directory of a deleted archive was renamed."""

    archive_id: int
    path: str


@dataclass(frozen=True, kw_only=True)
class CopyRecognised(ManagerFact):
    """What an archive to be restored begins with: the hot copy in its directory says its cut, and the group that it was of.
    Empty words: no whole hot copy is there.
    """

    archive_id: int
    cut: str = ""
    group: str = ""
    slots: tuple[tuple[int, int], ...] = ()


FACTS: tuple[type[Command], ...] = (
    Tick,
    ServerJoined,
    ServerLost,
    ProcessStarted,
    ProcessConfigured,
    LoadingProgressed,
    ProcessTracked,
    MemorySynced,
    PositionReported,
    OpenTerm,
    LeaderServing,
    JoinAnnounced,
    JoinMarked,
    JoinDurable,
    JoinCompleted,
    JoinAborted,
    InSyncShrunk,
    HandoverBegun,
    HandoverDeclined,
    HandoverDone,
    HandoverWithdrawn,
    HandoverFailed,
    LeaderSteppedDown,
    CleanStopReached,
    LeaderSilence,
    ProcessExited,
    TailSetAside,
    ArchiveRetired,
    CopyPrepared,
    WritesPaused,
    CutNoted,
    WritesResumed,
    CopyProgressed,
    CopyWritten,
    CopyBroke,
    CutDropped,
    EngineSilent,
    WritesRefused,
    TailMeasured,
    TailFed,
    TailBroken,
    CopyRecognised,
    OptionsSeen,
    LeaderProgressed,
    LackEnded,
    SlotsLost,
    DeletionsKept,
    SlotsOwned,
)

ORDERS: tuple[type[Command], ...] = (
    CreateDatabase,
    DeleteDatabase,
    ShutdownDatabase,
    CreateArchives,
    DeleteArchive,
    StartProcess,
    ShutdownProcess,
    EnforceLeader,
    PutRecord,
    RemoveServer,
    RemoveServerState,
    BringBackArchive,
    SetDatabaseOptions,
    Switchover,
    RestartDatabase,
    StopRestart,
    DrainServer,
    RequestHotCopy,
    CancelHotCopy,
)

COMMANDS: dict[str, type[Command]] = {kind.__name__: kind for kind in ORDERS + FACTS}
