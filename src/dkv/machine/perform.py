"""perform: carries one step out on the engines and reports what came of it. Holds no judgement.

A guarded step asks the domain afresh first and is dropped unless plan() would choose it again. Every step is
safe to repeat: this manager may die between any two awaits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from dkv.domain.commands import (
    ArchiveRetired,
    Command,
    DeletionsKept,
    JoinDurable,
    JoinMarked,
    LackEnded,
    LeaderServing,
    PositionReported,
    ProcessConfigured,
    ProcessExited,
    ProcessStarted,
    TailSetAside,
)
from dkv.domain.decision import Accepted, Refused
from dkv.domain.model import PositionReport
from dkv.engine.contract import ArchiveRefused, Cause, EngineRefused, Engines, ExitSeen, Position
from dkv.machine import steps as s
from dkv.machine.copying import Copying
from dkv.machine.leader_steps import REWRITE_LEASE
from dkv.machine.observation import FactHeader, ProbeResult
from dkv.machine.ports import Dropped as Dropped
from dkv.machine.ports import Submits
from dkv.machine.tail_steps import CheckTail, MeasureTail, ServeTail, StopTail
from dkv.machine.tail_transfer import Feeding
from dkv.store.contract import Store

PLANNED = (Cause.GRACEFUL_STOP, Cause.OPERATOR_KILL)


async def nobody(host: str, port: int) -> bool:
    """The answer of a network on which nobody accepts connections."""
    return False


class Performer(Copying):
    """Carries steps out. `still` says, after a fresh read, whether plan() would choose the step again."""

    def __init__(
        self,
        server_id: str,
        *,
        engines: Engines,
        submitter: Submits,
        store: Store,
        still: Callable[[s.Step], Awaitable[bool]],
        token: Callable[[], str],
        probe: Callable[[str, int], Awaitable[bool]],
        accepts: Callable[[str, int], Awaitable[bool]] = nobody,
        monotonic: Callable[[], float],
    ) -> None:
        self._told = FactHeader(server_id=server_id, actor=server_id)
        self._server_id = server_id
        self._engines = engines
        self._submitter = submitter
        self._store = store
        self._still = still
        self._token = token
        self._probe = probe
        self._accepts = accepts
        self._now = monotonic
        self.prepared: set[str] = set()
        self.feeding = Feeding(engines, self._tell, self._told, token=token, prepared=self.prepared)
        self._lacked: set[int] = set()  # start ids of processes that were seen to lack what they wait for
        self._set_aside: set[tuple[int, Position]] = set()
        self.rewrite_leases: dict[int, float] = {}  # when each engine last had its group's turn at rewriting, ms
        self.probes: dict[tuple[str, int, int], ProbeResult] = {}
        self.failovers: dict[int, float] = {}  # when each engine was last asked to take over, ms

    async def perform(self, step: s.Step) -> None:
        """Do one step. Raises EngineError and StoreError; both mean: look again."""
        if step.guarded:
            await self._look_again(step)
        if isinstance(step, s.SubmitFact):
            await self._tell(step.fact)
            return
        handler: Callable[[Any], Awaitable[None]] = getattr(self, "_" + type(step).__name__.lower())
        await handler(step)

    async def _look_again(self, step: s.Step) -> None:
        if not await self._still(step):
            raise Dropped(step)

    async def _tell(self, fact: Command) -> Accepted | Refused:
        return await self._submitter.submit(fact)

    # Starting ------------------------------------------------------------------------------------------------------

    async def _preparearchive(self, step: s.PrepareArchive) -> None:
        try:
            position = await self._engines.prepare(step.directory, step.identity, step.fresh, step.restored)
        except ArchiveRefused as refused:
            await self._never_was(step.start_id, refused)
            return
        self.prepared.add(step.directory)
        await self._tell(ProcessStarted(start_id=step.start_id, report=report_of(position), origin=position.origin, **self._told))

    async def _never_was(self, start_id: int, refused: ArchiveRefused) -> None:
        """The process ended before it had an engine."""
        await self._tell(ProcessExited(start_id=start_id, cause=refused.cause, detail=refused.detail, exit_code=1, **self._told))

    async def _lookforlack(self, step: s.LookForLack) -> None:
        found = await self._engines.obstacle(step.directory, step.cause, step.address, step.ports)
        if found:
            self._lacked.add(step.start_id)
        elif step.start_id in self._lacked:
            await self._tell(LackEnded(start_id=step.start_id, **self._told))
            self._lacked.discard(step.start_id)

    async def _launch(self, step: s.Launch) -> None:
        directory = step.spec.directory
        try:
            if directory not in self.prepared:
                await self._engines.prepare(directory, step.spec.identity, step.fresh, step.restored)
            pid = await self._engines.launch(step.spec)
        except ArchiveRefused as refused:
            await self._engines.release(directory)
            await self._never_was(step.spec.start_id, refused)
            return
        finally:
            self.prepared.discard(directory)
        await self._tell(ProcessConfigured(start_id=step.spec.start_id, pid=pid, **self._told))

    async def _launchmemory(self, step: s.LaunchMemory) -> None:
        try:
            pid = await self._engines.launch_memory(step.spec)
        except ArchiveRefused as refused:
            await self._engines.release(step.spec.directory)
            await self._never_was(step.spec.start_id, refused)
            return
        await self._tell(ProcessConfigured(start_id=step.spec.start_id, pid=pid, **self._told))

    async def _cancelprocess(self, step: s.CancelProcess) -> None:
        await self._release_lock(step.directory)
        cause = Cause.OPERATOR_KILL if step.killed else Cause.GRACEFUL_STOP
        detail = "It was asked to leave before it had an engine."
        await self._tell(
            ProcessExited(start_id=step.start_id, cause=cause, detail=detail, exit_code=0, planned=True, **self._told)
        )

    async def _vanished(self, step: s.Vanished) -> None:
        detail = "Its engine is gone, and nothing is known of its end."
        try:
            await self._engines.prepare(step.directory, step.identity, False)
            await self._release_lock(step.directory)
            proven = True
        except ArchiveRefused:
            proven = False
        await self._tell(
            ProcessExited(start_id=step.start_id, cause=Cause.EXITED, detail=detail, exit_code=1, reaped=proven, **self._told)
        )

    async def _release(self, step: s.Release) -> None:
        await self._release_lock(step.directory)

    async def _release_lock(self, directory: str) -> None:
        await self._engines.release(directory)
        self.prepared.discard(directory)

    # Ending --------------------------------------------------------------------------------------------------------

    async def _reportexit(self, step: s.ReportExit) -> None:
        await self._tell(exit_fact(step.exit, self._server_id))
        await self._engines.forget_exit(step.exit.start_id)

    async def _forgetexit(self, step: s.ForgetExit) -> None:
        await self._engines.forget_exit(step.start_id)

    async def _shutdown(self, step: s.ShutDown) -> None:
        await self._engines.shut_down(step.start_id)

    async def _kill(self, step: s.Kill) -> None:
        await self._engines.kill(step.start_id, step.cause)

    async def _retire(self, step: s.Retire) -> None:
        path = await self._engines.retire(step.directory, step.identity)
        await self._tell(ArchiveRetired(archive_id=step.archive_id, path=path or "", **self._told))

    # Leading -------------------------------------------------------------------------------------------------------

    async def _reportposition(self, step: s.ReportPosition) -> None:
        if step.leads:
            await self._engines.fence(step.start_id)
        position = await self._position(step.directory)
        report = report_of(position, step.offset, step.history)
        if step.digest and position.term:
            marker = (position.term, position.sequence, position.nonce)
            found = await self._engines.digest(step.directory, marker, position.bytes_after)
            report = replace(report, digest=found.digest)
        await self._tell(PositionReported(start_id=step.start_id, term=step.term, report=report, **self._told))

    async def _position(self, directory: str) -> Position:
        """An unreadable archive of a living engine is an answer too: it ranks below every other (safety model, V6)."""
        try:
            return await self._engines.read_position(directory)
        except ArchiveRefused:
            return Position()

    async def _measuretail(self, step: MeasureTail) -> None:
        await self.feeding.measure(step)

    async def _servetail(self, step: ServeTail) -> None:
        await self.feeding.serve(step)

    async def _stoptail(self, step: StopTail) -> None:
        await self.feeding.stop(step)

    async def _checktail(self, step: CheckTail) -> None:
        await self.feeding.check(step)

    async def _lead(self, step: s.Lead) -> None:
        if step.takeover:
            await self._engines.take_over(step.start_id)
            if not await self._still_leads(step):
                await self._engines.fence(step.start_id)  # or its clients would wait for nothing
                raise Dropped(step)
        await self._engines.mark(step.start_id, step.term, step.sequence, self._token()[:8])
        await self._engines.confirm_initialised(step.directory)
        if not step.unfence:
            await self._engines.fence(step.start_id)  # a hold is for as long as this step takes
        await self._engines.admit(step.start_id)
        if step.unfence:
            await self._engines.unfence(step.start_id)
        await self._engines.take_clients(step.start_id)  # last: whoever gets in can write
        seen = await self._engines.survey()
        engine = next((e for e in seen.engines if e.start_id == step.start_id), None)
        if engine is None or engine.role != "leader":
            raise Dropped(step)
        await self._tell(
            LeaderServing(
                database=step.database,
                group=step.group,
                term=step.term,
                start_id=step.start_id,
                epoch=engine.epoch,
                history=engine.history,
                **self._told,
            )
        )

    async def _still_leads(self, step: s.Lead) -> bool:
        """One more fresh read between TAKEOVER and the first admitted replica or write (docs/reference/safety.md#assignment)."""
        view = await self._submitter.view()
        group = view.state.groups.get((step.database, step.group))
        named = group is not None and group.open and group.term == step.term
        return named and group is not None and group.leader_process == step.start_id

    async def _admit(self, step: s.Admit) -> None:
        await self._engines.admit(step.start_id)

    async def _fence(self, step: s.Fence) -> None:
        await self._engines.fence(step.start_id)

    async def _unfence(self, step: s.Unfence) -> None:
        await self._engines.unfence(step.start_id)

    async def _shunclients(self, step: s.ShunClients) -> None:
        await self._engines.shun_clients(step.start_id)

    async def _takeclients(self, step: s.TakeClients) -> None:
        await self._engines.take_clients(step.start_id, step.group)

    async def _endscript(self, step: s.EndScript) -> None:
        try:
            await self._engines.end_script(step.start_id)
        except EngineRefused:
            await self._engines.kill(step.start_id, Cause.SCRIPT_TOO_LONG)

    async def _setoptions(self, step: s.SetOptions) -> None:
        await self._engines.set_options(step.start_id, step.max_memory, step.append_fsync)

    async def _mark(self, step: s.Mark) -> None:
        await self._engines.mark(step.start_id, step.term, step.sequence, self._token()[:8])

    async def _handover(self, step: s.HandOver) -> None:
        await self._engines.hand_over(step.start_id, step.term, step.sequence, self._token()[:8])

    async def _rewrite(self, step: s.Rewrite) -> None:
        if not await self._turn(step.lease, step.start_id):
            return
        marker = (*step.marker, self._token()[:8]) if step.marker else None
        await self._engines.rewrite(step.start_id, marker)

    async def _renewrewritelease(self, step: s.RenewRewriteLease) -> None:
        await self._turn(step.lease, step.start_id)

    async def _turn(self, lease: str, start_id: int) -> bool:
        """Take or keep the turn of a group at rewriting; whether it is ours."""
        ours = await self._store.acquire(lease, f"{self._server_id}/{start_id}", REWRITE_LEASE)
        if ours:
            self.rewrite_leases[start_id] = self._now() * 1000
        return ours

    async def _meet(self, step: s.Meet) -> None:
        await self._engines.meet(step.start_id, step.peer)

    async def _letnobodyin(self, step: s.LetNobodyIn) -> None:
        await self._engines.let_nobody_in(step.start_id)

    async def _forget(self, step: s.Forget) -> None:
        await self._engines.forget(step.start_id, step.node_id)

    # Strangers -----------------------------------------------------------------------------------------------------

    async def _reclaim(self, step: s.Reclaim) -> None:
        await self._engines.reclaim_slots(step.start_id, step.slots)

    async def _keepdeleted(self, step: s.KeepDeleted) -> None:
        path, keys, trouble = "", 0, ""
        try:
            kept = await self._engines.keep_deleted(step.start_id)
        except ArchiveRefused as refused:  # a full disk must not keep the group from its slots
            kept, trouble = None, refused.detail
        if kept is not None:
            path, keys = kept.path, kept.keys
        await self._tell(
            DeletionsKept(
                database=step.database,
                group=step.group,
                term=step.term,
                start_id=step.start_id,
                path=path,
                keys=keys,
                trouble=trouble,
                **self._told,
            )
        )

    async def _rollback(self, step: s.RollBack) -> None:
        await self._engines.roll_back(step.start_id, step.path)

    # Following -----------------------------------------------------------------------------------------------------

    async def _replicate(self, step: s.Replicate) -> None:
        if step.keep and (step.start_id, step.keep) not in self._set_aside:
            path = await self._engines.set_aside(step.start_id, step.keep)
            self._set_aside.add((step.start_id, step.keep))
            if path:
                await self._tell(TailSetAside(start_id=step.start_id, path=path, **self._told))
        await self._engines.replicate(step.start_id, step.leader)

    async def _markjoiner(self, step: s.MarkJoiner) -> None:
        nonce = self._token()[:8]
        await self._engines.mark(step.start_id, step.term, step.sequence, nonce)
        await self._tell(
            JoinMarked(
                database=step.database,
                group=step.group,
                term=step.term,
                archive_id=step.archive_id,
                sequence=step.sequence,
                nonce=nonce,
                **self._told,
            )
        )

    async def _askfollowers(self, step: s.AskFollowers) -> None:
        await self._engines.ask_followers(step.start_id)

    async def _checkmarker(self, step: s.CheckMarker) -> None:
        position = await self._engines.read_position(step.directory)
        if (position.term, position.sequence) < (step.term, step.sequence):
            return
        await self._engines.confirm_initialised(step.directory)
        await self._tell(
            JoinDurable(start_id=step.start_id, term=step.term, sequence=step.sequence, nonce=step.nonce, **self._told)
        )

    async def _failover(self, step: s.Failover) -> None:
        position = await self._engines.read_position(step.directory)
        if position.term != step.term or position.sequence <= step.after:
            raise Dropped(step)
        self.failovers[step.start_id] = self._now() * 1000
        await self._engines.unfence(step.start_id)
        await self._engines.failover(step.start_id)

    async def _probepeer(self, step: s.ProbePeer) -> None:
        answers = await self._probe(step.host, step.port)
        accepts = step.engine_port > 0 and await self._accepts(step.host, step.engine_port)
        self.probes[(step.host, step.port, step.engine_port)] = ProbeResult(self._now() * 1000, answers, accepts)


def report_of(position: Position, offset: int = 0, history: str = "") -> PositionReport:
    """A position in the domain's words."""
    return PositionReport(
        position.term,
        position.sequence,
        position.nonce,
        position.bytes_after,
        offset,
        history,
        size=position.size,
        dataless_bytes=position.dataless_bytes,
    )


def exit_fact(ended: ExitSeen, server_id: str) -> ProcessExited:
    """The end of an engine in the domain's words."""
    return ProcessExited(
        server_id=server_id,
        actor=server_id,
        start_id=ended.start_id,
        cause=ended.cause,
        detail=ended.detail,
        exit_code=ended.exit_code,
        wait_status=ended.signal,
        last_words=ended.last_words,
        planned=ended.cause in PLANNED,
        reaped=ended.reaped,
    )
