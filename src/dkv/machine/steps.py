"""The steps a manager can take, as values. plan() chooses them; perform carries them out.

A step that is `guarded` is only taken after a fresh read of the domain, in the same step, from which plan()
would choose it again, and with more than half of the manager's own lease left
(docs/reference/safety.md#orders-to-engines). After a gap only a step that may be taken `blindly` is taken before the
domain was read again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dkv.domain.command import Command
from dkv.engine.contract import (
    Cause,
    CopyLabel,
    EngineSpec,
    EngineUsers,
    ExitSeen,
    Identity,
    PeerNode,
    Position,
    QuiescePoint,
    RunOptions,
    Secrets,
    TeSpec,
)

Slots = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Step:
    """One thing to do. `key` names what it works on: one step at a time per key. `rest_ms` is the least time between two equal
    steps, `refused_rest_ms` the same after one that was dropped or refused and so did nothing.
    """

    key: str

    guarded: ClassVar[bool] = False
    blindly: ClassVar[bool] = False
    rest_ms: ClassVar[int] = 0
    refused_rest_ms: ClassVar[int | None] = None  # None: as rest_ms


@dataclass(frozen=True)
class SubmitFact(Step):
    """Report a fact to the domain."""

    fact: Command
    rest_ms: ClassVar[int] = 20


@dataclass(frozen=True)
class PrepareArchive(Step):
    """Lock the archive, check its identity, read its position, and report the process STARTED."""

    start_id: int
    directory: str
    identity: Identity
    fresh: bool
    restored: Slots | None = None


@dataclass(frozen=True)
class LookForLack(Step):
    """Look whether what ended the processes of an archive is over; report it if it was seen before."""

    start_id: int
    directory: str
    cause: Cause
    address: str
    ports: tuple[int, ...]
    rest_ms: ClassVar[int] = 500


@dataclass(frozen=True)
class Recognise(Step):
    """Read which hot copy is in the directory of an archive to be restored, and report it."""

    archive_id: int
    directory: str


@dataclass(frozen=True)
class Launch(Step):
    """Start the engine, fenced and not as a primary, and report the process CONFIGURED."""

    spec: EngineSpec
    fresh: bool
    restored: Slots | None = None


@dataclass(frozen=True)
class LaunchTe(Step):
    """Start a TE's engines, and report the process CONFIGURED."""

    spec: TeSpec


@dataclass(frozen=True)
class RenewCertificate(Step):
    """Give a process's engines a new leaf, and the authorities that are trusted now."""

    start_id: int
    database: str
    rest_ms: ClassVar[int] = 5_000


@dataclass(frozen=True)
class CancelProcess(Step):
    """End a process that has no engine: drop its lock and report its end."""

    start_id: int
    directory: str
    killed: bool


@dataclass(frozen=True)
class ReportVanished(Step):
    """Report an engine that is gone without a record of its end; getting its lock proves that nothing runs."""

    start_id: int
    directory: str
    identity: Identity


@dataclass(frozen=True)
class ReportExit(Step):
    """Report the end of an engine, then forget its record."""

    exit: ExitSeen


@dataclass(frozen=True)
class ForgetExit(Step):
    """Drop the record of the end of a process that the domain does not know."""

    start_id: int


@dataclass(frozen=True)
class Release(Step):
    """Drop the lock of an archive that no process needs."""

    directory: str


@dataclass(frozen=True)
class ReportPosition(Step):
    """Answer in a vacancy: fence first if it leads, then read the position from disk."""

    start_id: int
    directory: str
    term: int
    leads: bool
    offset: int
    history: str
    digest: bool = False  # of the bytes after the marker too: its link is down, and it may be fed


@dataclass(frozen=True)
class Lead(Step):
    """Take over if it does not lead yet, write the term's marker, admit replicas, accept writes, say so."""

    guarded: ClassVar[bool] = True
    start_id: int
    directory: str
    database: str
    group: str
    term: int
    sequence: int
    takeover: bool
    unfence: bool


@dataclass(frozen=True)
class Replicate(Step):
    """Attach to the leader; what would be lost by it is set aside first."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 1_000
    start_id: int
    leader: PeerNode
    keep: Position | None = None


@dataclass(frozen=True)
class MarkJoiner(Step):
    """Write a fresh marker for a joiner whose link is up, and say which."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 200
    start_id: int
    database: str
    group: str
    term: int
    sequence: int
    archive_id: int


@dataclass(frozen=True)
class CheckMarker(Step):
    """Look for the awaited marker on the joiner's own disk, and say so when it is there."""

    rest_ms: ClassVar[int] = 20
    start_id: int
    directory: str
    term: int
    sequence: int
    nonce: str


@dataclass(frozen=True)
class AskFollowers(Step):
    """Have a leader's followers acknowledge at once, for which something waits; by themselves they do it once a second."""

    rest_ms: ClassVar[int] = 100
    start_id: int


@dataclass(frozen=True)
class Mark(Step):
    """Write a marker because much was written since the last."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 1_000
    start_id: int
    term: int
    sequence: int


@dataclass(frozen=True)
class Fence(Step):
    """Refuse writes at once. Wanted most when the domain cannot be read."""

    blindly: ClassVar[bool] = True
    start_id: int


@dataclass(frozen=True)
class Unfence(Step):
    """Accept writes."""

    guarded: ClassVar[bool] = True
    start_id: int


@dataclass(frozen=True)
class EndScript(Step):
    """End a script that has kept an engine longer than its database allows; if it wrote, end the engine."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 1_000
    start_id: int


@dataclass(frozen=True)
class SetOptions(Step):
    """Have the engines of a process run with other options."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 1_000
    start_id: int
    options: RunOptions


@dataclass(frozen=True)
class SetUsers(Step):
    """Have the engines of a process let in these clients and no others."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 1_000
    start_id: int
    users: EngineUsers
    secrets: Secrets


@dataclass(frozen=True)
class Admit(Step):
    """Let replicas attach to a leader that a fresh read still names."""

    guarded: ClassVar[bool] = True
    start_id: int


@dataclass(frozen=True)
class HandOver(Step):
    """As the leader that is to be taken over from: get ready to follow, and write a marker, which no engine does inside a
    script.
    """

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 1_000
    refused_rest_ms: ClassVar[int | None] = 50
    start_id: int
    term: int
    sequence: int


@dataclass(frozen=True)
class OpenClientPort(Step):
    """Open the client port of an engine; of a TE, of its engine of that group."""

    rest_ms: ClassVar[int] = 200
    start_id: int
    group: str


@dataclass(frozen=True)
class CloseClientPort(Step):
    """Close the client port of an archive's engine, and the connections that came by it."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 200
    start_id: int


@dataclass(frozen=True)
class Failover(Step):
    """Make this follower the leader in a coordinated way, if a marker of the term after number `after` is on its disk."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 5_500
    refused_rest_ms: ClassVar[int | None] = 50
    start_id: int
    directory: str
    term: int
    after: int = 0


@dataclass(frozen=True)
class ProbePeer(Step):
    """Probe a silent leader: whether its machine answers, and whether its engine's port (if not 0) accepts a connection."""

    rest_ms: ClassVar[int] = 1_000
    host: str
    port: int
    engine_port: int = 0


@dataclass(frozen=True)
class ShutDown(Step):
    """Ask the engine for a graceful end."""

    rest_ms: ClassVar[int] = 2_000
    start_id: int


@dataclass(frozen=True)
class Kill(Step):
    """End the engine at once, and remember why."""

    rest_ms: ClassVar[int] = 500
    start_id: int
    cause: Cause


@dataclass(frozen=True)
class Rewrite(Step):
    """Rewrite the append-only file; one rewrite per group at a time, kept by a lease."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 2_000
    start_id: int
    lease: str
    marker: tuple[int, int] | None


@dataclass(frozen=True)
class RenewRewriteLease(Step):
    """Renew the rewrite lease of a group while a rewrite goes on, so that the next one begins soon after its end."""

    rest_ms: ClassVar[int] = 1_000
    start_id: int
    lease: str


@dataclass(frozen=True)
class Meet(Step):
    """Make an engine known to this one."""

    rest_ms: ClassVar[int] = 1_000
    start_id: int
    peer: PeerNode


@dataclass(frozen=True)
class LetNobodyIn(Step):
    """Have this engine accept no new node on the cluster bus: its node table is complete."""

    rest_ms: ClassVar[int] = 1_000
    start_id: int


@dataclass(frozen=True)
class Forget(Step):
    """Drop a node the domain does not know from this engine's table."""

    rest_ms: ClassVar[int] = 1_000
    start_id: int
    node_id: str


@dataclass(frozen=True)
class RestartEpochs(Step):
    """Bring an engine's current epoch round to `epoch`, and have it drop all packets of the cluster bus."""

    rest_ms: ClassVar[int] = 1_000
    start_id: int
    epoch: int


@dataclass(frozen=True)
class TakePackets(Step):
    """Have an engine take packets of the cluster bus."""

    rest_ms: ClassVar[int] = 1_000
    start_id: int


@dataclass(frozen=True)
class Reclaim(Step):
    """Have a leader own its hash slots again."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 200
    start_id: int
    slots: Slots


@dataclass(frozen=True)
class SaveDeletions(Step):
    """Copy the files of a leader that lost its slots as they were before it deleted the keys in them, and say so."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 1_000
    start_id: int
    database: str
    group: str
    term: int


@dataclass(frozen=True)
class RollBack(Step):
    """End a leader that lost its slots, and give its archive the files it had before."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 1_000
    start_id: int
    path: str


@dataclass(frozen=True)
class Retire(Step):
    """Rename the directory of a deleted archive, if it is its own, and say so."""

    rest_ms: ClassVar[int] = 1_000
    archive_id: int
    directory: str
    identity: Identity


# Hot copies -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClaimTarget(Step):
    """Make and sign the directory that an archive's copy goes to, or say why that is impossible."""

    rest_ms: ClassVar[int] = 500
    copy_id: int
    archive_id: int
    directory: str
    target: str
    label: CopyLabel


@dataclass(frozen=True)
class PauseWrites(Step):
    """Make the writes of a leader's clients wait for a hot copy, and say what it holds."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 100
    start_id: int
    copy_id: int
    attempt: int
    database: str
    group: str
    term: int
    ms: int


@dataclass(frozen=True)
class NoteCut(Step):
    """Note where an archive's files end while its leader's clients wait."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 20
    start_id: int
    copy_id: int
    attempt: int
    archive_id: int
    name: str
    reached: QuiescePoint


@dataclass(frozen=True)
class ResumeWrites(Step):
    """Look whether anything was written since the pause, let writes go on, and say so."""

    rest_ms: ClassVar[int] = 20
    start_id: int
    copy_id: int
    attempt: int
    database: str
    group: str
    term: int
    noted: QuiescePoint


@dataclass(frozen=True)
class LiftPause(Step):
    """Let writes go on that no hot copy keeps waiting any more."""

    rest_ms: ClassVar[int] = 100
    start_id: int


@dataclass(frozen=True)
class WriteCopy(Step):
    """Copy the files of a cut to their place; takes as long as it takes."""

    rest_ms: ClassVar[int] = 500
    copy_id: int
    archive_id: int
    directory: str
    name: str
    target: str
    label: CopyLabel
    rate: int


@dataclass(frozen=True)
class DropCut(Step):
    """Remove links that are needed no more, and what an unfinished copy left."""

    rest_ms: ClassVar[int] = 500
    copy_id: int
    archive_id: int
    directory: str
    target: str
    label: CopyLabel
