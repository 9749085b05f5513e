"""Facts: what managers saw, as proposals to a domain, by noun. The rule of each is found in decide.py."""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain.command import Command
from dkv.domain.model import PositionReport


@dataclass(frozen=True, kw_only=True)
class ManagerFact(Command):
    """Something one manager saw on its own machine. `server_id` is that manager's."""

    server_id: str


@dataclass(frozen=True, kw_only=True)
class LeaderFact(ManagerFact):
    """Something only the manager of a group's leader may say, quoting the term."""

    database: str
    group: str
    term: int


# Archives ------------------------------------------------------------------------------------------------------------


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


# Processes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ProcessStarted(ManagerFact):
    """The manager took the request; an SM's archive is locked and its position was read from disk.

    `origin` names the data that a restored archive holds: the cut of a hot copy.
    """

    start_id: int
    report: PositionReport | None = None
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class LackEnded(ManagerFact):
    """What a held back process lacks is there again, as its manager saw who had seen it missing."""

    start_id: int


@dataclass(frozen=True, kw_only=True)
class ProcessConfigured(ManagerFact):
    """Its parameters are decided and its engine was launched."""

    start_id: int
    pid: int


@dataclass(frozen=True, kw_only=True)
class LoadingProgressed(ManagerFact):
    """The engine is loading its archive and got further."""

    start_id: int
    percent: int


@dataclass(frozen=True, kw_only=True)
class ProcessTracked(ManagerFact):
    """The engine answers and has loaded. The options are those it runs with, as in OptionsSeen; `users` as in UsersSeen."""

    start_id: int
    pid: int
    append_fsync: str = ""
    max_memory: int = 0
    users: str = ""
    maxmemory_policy: str = "noeviction"
    notify_keyspace_events: str = ""
    max_clients: int = 0


@dataclass(frozen=True, kw_only=True)
class OptionsSeen(ManagerFact):
    """A process runs with other options than were known. `max_memory` in bytes is 0 where the database sets none and the
    engines have their share, `max_clients` where they let in what that memory allows; `append_fsync` is "" for a TE."""

    start_id: int
    append_fsync: str
    max_memory: int
    maxmemory_policy: str = "noeviction"
    notify_keyspace_events: str = ""
    max_clients: int = 0


@dataclass(frozen=True, kw_only=True)
class UsersSeen(ManagerFact):
    """Whom the engines of a process let in is `users`, or `altered` names those that were right and are not any more."""

    start_id: int
    users: str
    altered: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CertificateSeen(ManagerFact):
    """The engines of a process show another leaf than was known: of several the one that ends first."""

    start_id: int
    trust: str
    serial: str
    days_left: int


@dataclass(frozen=True, kw_only=True)
class MemorySynced(ManagerFact):
    """A TE's engines hold what their leaders hold: all links are up and all data is loaded; or not any more."""

    start_id: int
    synced: bool


@dataclass(frozen=True, kw_only=True)
class EngineSilent(Command):
    """An engine has answered nothing at all for 3 s, or answers again. Its manager, `server_id`, ends it after
    engineHangTimeout; this fact only shows it earlier."""

    server_id: str
    start_id: int
    silent: bool


@dataclass(frozen=True, kw_only=True)
class WritesRefused(Command):
    """The engine that leads a group has refused its clients' writes for some seconds, or takes them again: `why` is the
    error they are answered (domain/writes_refused.py lists them), "" when there is none. The fact is only shown."""

    server_id: str
    start_id: int
    why: str


@dataclass(frozen=True, kw_only=True)
class ProcessExited(ManagerFact):
    """A process ended, or never came to be. `reaped`: nothing of it runs any more."""

    start_id: int
    cause: str
    detail: str
    exit_code: int
    wait_status: int | None = None
    last_words: tuple[str, ...] = ()
    planned: bool = False  # we ended it because the domain wanted it
    reaped: bool = True


# Storage groups: who leads -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PositionReported(ManagerFact):
    """An engine that already runs answers in a vacancy. Fenced first, if it was found leading."""

    start_id: int
    term: int
    report: PositionReport


@dataclass(frozen=True, kw_only=True)
class LeaderProgressed(ManagerFact):
    """A process for which an assigned term waits works, although its engine reports no progress: the assigned leader, which
    reads, computes or takes memory, or the sender of its tail. `count` grows from one to the next: ms of its
    manager's clock.
    """

    start_id: int
    term: int
    count: int


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
class LeaderSilence(ManagerFact):
    """A follower received nothing from its leader for 3 s, or receives again; and whether the leader's machine answers."""

    start_id: int
    term: int
    silent: bool
    machine_answers: bool = True


@dataclass(frozen=True, kw_only=True)
class CleanStopReached(LeaderFact):
    """Writes are fenced and these archives reached the leader's position."""

    reached: tuple[int, ...]


# Storage groups: who is in sync --------------------------------------------------------------------------------------


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


# Storage groups: a dead leader's tail --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TailMeasured(ManagerFact):
    """The dead leader's manager read what its disk has after the common marker, and compared the followers' part."""

    start_id: int  # the process that holds the dead leader's archive
    term: int
    size: int
    digest: str
    history: str  # under which it is going to be fed; never used before
    prefixes: tuple[int, ...]  # processes whose bytes are the beginning of the dead leader's


@dataclass(frozen=True, kw_only=True)
class TailFed(ManagerFact):
    """A follower's manager found these bytes after the common marker on its disk, all of them."""

    start_id: int
    term: int
    size: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class TailBroken(ManagerFact):
    """Something about feeding a dead leader's tail was not exactly as expected."""

    start_id: int
    term: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class TailSetAside(ManagerFact):
    """Before a resync, acknowledged but unconfirmed bytes of an old leader were copied to a file."""

    start_id: int
    path: str


# Storage groups: hash slots taken over the cluster bus ---------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SlotsLost(LeaderFact):
    """The leader's engine does not own its hash slots any more: another node took them over the cluster bus."""

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


# Hot copies ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CopyPrepared(ManagerFact):
    """The directory that an archive's copy goes to is empty and has room."""

    copy_id: int
    archive_id: int


@dataclass(frozen=True, kw_only=True)
class WritesPaused(LeaderFact):
    """The group's leader makes its clients' writes wait. What was written by then: offset, and a file's length."""

    copy_id: int
    attempt: int
    start_id: int
    offset: int
    history: str
    file: str
    size: int


@dataclass(frozen=True, kw_only=True)
class CutNoted(ManagerFact):
    """An archive noted where its files end, and holds them by links. `file` and `length` are of the newest one."""

    copy_id: int
    attempt: int
    archive_id: int
    file: str
    length: int
    size: int


@dataclass(frozen=True, kw_only=True)
class WritesResumed(LeaderFact):
    """The group's leader looked again, then let its writes go on. `held`: nothing was written since the pause."""

    copy_id: int
    attempt: int
    start_id: int
    held: bool


@dataclass(frozen=True, kw_only=True)
class CopyProgressed(ManagerFact):
    """An archive's files are copied so far."""

    copy_id: int
    archive_id: int
    percent: int


@dataclass(frozen=True, kw_only=True)
class CopyWritten(ManagerFact):
    """An archive's copy is whole and on disk."""

    copy_id: int
    archive_id: int


@dataclass(frozen=True, kw_only=True)
class CopyBroke(ManagerFact):
    """An archive cannot be copied."""

    copy_id: int
    archive_id: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class CutDropped(ManagerFact):
    """The links that held an archive's files are gone."""

    copy_id: int
    archive_id: int


# Servers -------------------------------------------------------------------------------------------------------------


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
    engine_release: str = ""
    engine_tls: bool = False
    etcd_port: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    dkv_release: str = ""
    level: int = 0


@dataclass(frozen=True, kw_only=True)
class LevelsRead(ManagerFact):
    """The manager that holds the leader lease read from the leases of these servers which level the manager of each knows. Of a
    domain at level 0, whose state cannot say that.
    """

    levels: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class StateMemberSeen(ManagerFact):
    """The manager that holds the leader lease saw the etcd cluster of the domain state list another role for the member of the
    server `member`: voter, learner, or "" for none.
    """

    member: str
    role: str
    because: str


@dataclass(frozen=True, kw_only=True)
class MemberTroubled(ManagerFact):
    """The manager of a server sees what keeps its etcd member of the domain state from working, or soon will: a key of TROUBLES
    (state_members.py), or "" for nothing any more.
    """

    trouble: str


@dataclass(frozen=True, kw_only=True)
class ServerLost(Command):
    """A server's lease ended, judged by a manager with one TTL of uninterrupted access to the backend."""

    server_id: str
    uid: str


@dataclass(frozen=True, kw_only=True)
class RequestsRefused(ManagerFact):
    """The manager refused requests of a peer, for what it showed or may do: so many since that was last reported. `last` says
    which was the last, and why.
    """

    peer: str
    count: int
    last: str


@dataclass(frozen=True, kw_only=True)
class Tick(Command):
    """Time passed: `clock` is the domain clock in ms, from the one manager that holds the leader lease."""

    clock: int


# Authorities, and servers that join ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AuthorityFounded(Command):
    """A manager made the first authority of an owner: its certificate in PEM, and its key sealed with the domain's key."""

    owner: str
    certificate: str
    key: str


@dataclass(frozen=True, kw_only=True)
class CertificateKept(ManagerFact):
    """A manager uses a leaf that ends at `until` (wall clock, ms), and does what the phase of that number asks for."""

    uid: str
    until: int
    number: int
    because: str = ""  # why the leaf was made


# All of them ---------------------------------------------------------------------------------------------------------


FACTS: tuple[type[Command], ...] = (
    ArchiveRetired,
    CopyRecognised,
    ProcessStarted,
    LackEnded,
    ProcessConfigured,
    LoadingProgressed,
    ProcessTracked,
    OptionsSeen,
    UsersSeen,
    CertificateSeen,
    MemorySynced,
    EngineSilent,
    WritesRefused,
    ProcessExited,
    PositionReported,
    LeaderProgressed,
    OpenTerm,
    LeaderServing,
    HandoverBegun,
    HandoverDeclined,
    HandoverDone,
    HandoverWithdrawn,
    HandoverFailed,
    LeaderSteppedDown,
    LeaderSilence,
    CleanStopReached,
    JoinAnnounced,
    JoinMarked,
    JoinDurable,
    JoinCompleted,
    JoinAborted,
    InSyncShrunk,
    TailMeasured,
    TailFed,
    TailBroken,
    TailSetAside,
    SlotsLost,
    DeletionsKept,
    SlotsOwned,
    CopyPrepared,
    WritesPaused,
    CutNoted,
    WritesResumed,
    CopyProgressed,
    CopyWritten,
    CopyBroke,
    CutDropped,
    ServerJoined,
    ServerLost,
    LevelsRead,
    RequestsRefused,
    StateMemberSeen,
    MemberTroubled,
    Tick,
    AuthorityFounded,
    CertificateKept,
)
