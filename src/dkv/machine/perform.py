"""perform: carries one step out on the engines and reports the outcome. Holds no judgement.

A guarded step asks the domain afresh first and is dropped unless plan() would choose it again. Every step is
safe to repeat: this manager may die between any two awaits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from dkv.domain.command import Command
from dkv.domain.decision import Accepted, Refused
from dkv.domain.facts import (
    ArchiveRetired,
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
from dkv.domain.model import PositionReport
from dkv.engine.contract import ArchiveRefused, Cause, EngineRefused, Engines, EngineSpec, ExitSeen, Position, TlsFiles
from dkv.machine import steps
from dkv.machine.engine_upkeep import REWRITE_LEASE
from dkv.machine.handlers import Dropped, Handlers, Submits, on
from dkv.machine.hot_copy_handlers import HotCopyHandlers
from dkv.machine.observation import FactHeader, ProbeResult
from dkv.machine.tail.handlers import TailHandlers
from dkv.store.contract import Store

PLANNED = (Cause.GRACEFUL_STOP, Cause.OPERATOR_KILL)


async def accepts_nothing(host: str, port: int) -> bool:
    """The answer of a network on which nothing accepts connections."""
    return False


async def no_certificate(database: str) -> TlsFiles:
    """The answer of a manager that signs for no engine."""
    raise EngineRefused(f"there is no certificate for the engines of {database}")


class Performer:
    """Carries steps out. `still` says, after a fresh read, whether plan() would choose the step again."""

    def __init__(
        self,
        server_id: str,
        *,
        engines: Engines,
        submitter: Submits,
        store: Store,
        still: Callable[[steps.Step], Awaitable[bool]],
        token: Callable[[], str],
        probe: Callable[[str, int], Awaitable[bool]],
        accepts: Callable[[str, int], Awaitable[bool]] = accepts_nothing,
        certify: Callable[[str], Awaitable[TlsFiles]] = no_certificate,
        monotonic: Callable[[], float],
    ) -> None:
        self._header = FactHeader(server_id=server_id, actor=server_id)
        self._server_id = server_id
        self._engines = engines
        self._submitter = submitter
        self._store = store
        self._still = still
        self._token = token
        self._probe = probe
        self._accepts = accepts
        self._certify = certify
        self._now = monotonic
        self.prepared: set[str] = set()
        self.tails = TailHandlers(engines, self._submit, self._header, token=token, prepared=self.prepared)
        self._hot_copies = HotCopyHandlers(engines, submitter, self._header)
        self._lacked: set[int] = set()  # start ids of processes that were seen to lack what they wait for
        self._set_aside: set[tuple[int, Position]] = set()
        self.rewrite_leases: dict[int, float] = {}  # when each engine last had its group's turn at rewriting, ms
        self.probes: dict[tuple[str, int, int], ProbeResult] = {}
        self.failovers: dict[int, float] = {}  # when each engine was last asked to take over, ms
        self.handlers = self._table()

    async def perform(self, step: steps.Step) -> None:
        """Do one step. Raises Dropped, EngineError and StoreError; all mean: look again."""
        if step.guarded:
            await self._look_again(step)
        await self.handlers[type(step)](step)

    def _table(self) -> Handlers:
        """What carries out each type of step."""
        engines = self._engines
        return {
            **on(steps.SubmitFact, lambda step: self._submit(step.fact)),
            **on(steps.PrepareArchive, self._prepare_archive),
            **on(steps.LookForLack, self._look_for_lack),
            **on(steps.Launch, self._launch),
            **on(steps.LaunchTe, self._launch_te),
            **on(steps.CancelProcess, self._cancel_process),
            **on(steps.ReportVanished, self._report_vanished),
            **on(steps.Release, lambda step: self._release_lock(step.directory)),
            **on(steps.ReportExit, self._report_exit),
            **on(steps.ForgetExit, lambda step: engines.forget_exit(step.start_id)),
            **on(steps.ShutDown, lambda step: engines.shut_down(step.start_id)),
            **on(steps.Kill, lambda step: engines.kill(step.start_id, step.cause)),
            **on(steps.Retire, self._retire),
            **on(steps.ReportPosition, self._report_position),
            **on(steps.Lead, self._lead),
            **on(steps.Admit, lambda step: engines.admit(step.start_id)),
            **on(steps.Fence, lambda step: engines.fence(step.start_id)),
            **on(steps.Unfence, lambda step: engines.unfence(step.start_id)),
            **on(steps.CloseClientPort, lambda step: engines.shun_clients(step.start_id)),
            **on(steps.OpenClientPort, lambda step: engines.take_clients(step.start_id, step.group)),
            **on(steps.EndScript, self._end_script),
            **on(steps.SetOptions, lambda step: engines.set_options(step.start_id, step.options)),
            **on(steps.RenewCertificate, self._renew_certificate),
            **on(steps.SetUsers, lambda step: engines.set_users(step.start_id, step.users, step.secrets)),
            **on(steps.Mark, lambda step: engines.mark(step.start_id, step.term, step.sequence, self._token()[:8])),
            **on(steps.HandOver, lambda step: engines.hand_over(step.start_id, step.term, step.sequence, self._token()[:8])),
            **on(steps.Rewrite, self._rewrite),
            **on(steps.RenewRewriteLease, lambda step: self._turn(step.lease, step.start_id)),
            **on(steps.Meet, lambda step: engines.meet(step.start_id, step.peer)),
            **on(steps.LetNobodyIn, lambda step: engines.let_nobody_in(step.start_id)),
            **on(steps.RestartEpochs, lambda step: engines.restart_epochs(step.start_id, step.epoch)),
            **on(steps.TakePackets, lambda step: engines.take_packets(step.start_id)),
            **on(steps.Forget, lambda step: engines.forget(step.start_id, step.node_id)),
            **on(steps.Reclaim, lambda step: engines.reclaim_slots(step.start_id, step.slots)),
            **on(steps.SaveDeletions, self._save_deletions),
            **on(steps.RollBack, lambda step: engines.roll_back(step.start_id, step.path)),
            **on(steps.Replicate, self._replicate),
            **on(steps.MarkJoiner, self._mark_joiner),
            **on(steps.AskFollowers, lambda step: engines.ask_followers(step.start_id)),
            **on(steps.CheckMarker, self._check_marker),
            **on(steps.Failover, self._failover),
            **on(steps.ProbePeer, self._probe_peer),
            **self._hot_copies.table(),
            **self.tails.table(),
        }

    async def _look_again(self, step: steps.Step) -> None:
        if not await self._still(step):
            raise Dropped(step)

    async def _submit(self, fact: Command) -> Accepted | Refused:
        return await self._submitter.submit(fact)

    # Starting ------------------------------------------------------------------------------------------------------

    async def _prepare_archive(self, step: steps.PrepareArchive) -> None:
        try:
            position = await self._engines.prepare(step.directory, step.identity, step.fresh, step.restored)
        except ArchiveRefused as refused:
            await self._never_ran(step.start_id, refused)
            return
        self.prepared.add(step.directory)
        await self._submit(
            ProcessStarted(start_id=step.start_id, report=report_of(position), origin=position.origin, **self._header)
        )

    async def _never_ran(self, start_id: int, refused: ArchiveRefused) -> None:
        """The process ended before it had an engine."""
        await self._submit(
            ProcessExited(start_id=start_id, cause=refused.cause, detail=refused.detail, exit_code=1, **self._header)
        )

    async def _look_for_lack(self, step: steps.LookForLack) -> None:
        obstacle = await self._engines.obstacle(step.directory, step.cause, step.address, step.ports)
        if obstacle:
            self._lacked.add(step.start_id)
        elif step.start_id in self._lacked:
            await self._submit(LackEnded(start_id=step.start_id, **self._header))
            self._lacked.discard(step.start_id)

    async def _launch(self, step: steps.Launch) -> None:
        directory = step.spec.directory
        try:
            if directory not in self.prepared:
                await self._engines.prepare(directory, step.spec.identity, step.fresh, step.restored)
            pid = await self._engines.launch(await self._certified(step.spec))
        except ArchiveRefused as refused:
            await self._engines.release(directory)
            await self._never_ran(step.spec.start_id, refused)
            return
        finally:
            self.prepared.discard(directory)
        await self._submit(ProcessConfigured(start_id=step.spec.start_id, pid=pid, **self._header))

    async def _launch_te(self, step: steps.LaunchTe) -> None:
        engines = tuple([await self._certified(engine) for engine in step.spec.engines])
        try:
            pid = await self._engines.launch_memory(replace(step.spec, engines=engines))
        except ArchiveRefused as refused:
            await self._engines.release(step.spec.directory)
            await self._never_ran(step.spec.start_id, refused)
            return
        await self._submit(ProcessConfigured(start_id=step.spec.start_id, pid=pid, **self._header))

    async def _certified(self, spec: EngineSpec) -> EngineSpec:
        """With a new leaf, where the engine is to speak TLS."""
        return replace(spec, certificate=await self._certify(spec.identity.database)) if spec.tls else spec

    async def _renew_certificate(self, step: steps.RenewCertificate) -> None:
        await self._engines.set_certificate(step.start_id, await self._certify(step.database))

    async def _cancel_process(self, step: steps.CancelProcess) -> None:
        await self._release_lock(step.directory)
        cause = Cause.OPERATOR_KILL if step.killed else Cause.GRACEFUL_STOP
        detail = "It was stopped before it had an engine."
        await self._submit(
            ProcessExited(start_id=step.start_id, cause=cause, detail=detail, exit_code=0, planned=True, **self._header)
        )

    async def _report_vanished(self, step: steps.ReportVanished) -> None:
        detail = "Its engine is gone, and nothing is known of its end."
        try:
            await self._engines.prepare(step.directory, step.identity, False)
            await self._release_lock(step.directory)
            proven = True
        except ArchiveRefused:
            proven = False
        await self._submit(
            ProcessExited(start_id=step.start_id, cause=Cause.EXITED, detail=detail, exit_code=1, reaped=proven, **self._header)
        )

    async def _release_lock(self, directory: str) -> None:
        await self._engines.release(directory)
        self.prepared.discard(directory)

    # Ending --------------------------------------------------------------------------------------------------------

    async def _report_exit(self, step: steps.ReportExit) -> None:
        start_id = step.exit.start_id
        await self._submit(exit_fact(step.exit, self._server_id))
        await self._engines.forget_exit(start_id)
        self.rewrite_leases.pop(start_id, None)  # a start id is never used again
        self.failovers.pop(start_id, None)

    async def _retire(self, step: steps.Retire) -> None:
        path = await self._engines.retire(step.directory, step.identity)
        await self._submit(ArchiveRetired(archive_id=step.archive_id, path=path or "", **self._header))

    # Leading -------------------------------------------------------------------------------------------------------

    async def _report_position(self, step: steps.ReportPosition) -> None:
        """An engine that leads is fenced before its position is read (model: fenced_before_reported)."""
        if step.leads:
            await self._engines.fence(step.start_id)
        position = await self._position(step.directory)
        report = report_of(position, step.offset, step.history)
        if step.digest and position.term:
            marker = (position.term, position.sequence, position.nonce)
            measured = await self._engines.digest(step.directory, marker, position.bytes_after)
            report = replace(report, digest=measured.digest)
        await self._submit(PositionReported(start_id=step.start_id, term=step.term, report=report, **self._header))

    async def _position(self, directory: str) -> Position:
        """An unreadable archive of a living engine is an answer too: it ranks below every other (safety model, V6)."""
        try:
            return await self._engines.read_position(directory)
        except ArchiveRefused:
            return Position()

    async def _lead(self, step: steps.Lead) -> None:
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
        await self._engines.take_clients(step.start_id)  # last: a client that is let in can write
        seen = await self._engines.survey()
        engine = next((e for e in seen.engines if e.start_id == step.start_id), None)
        if engine is None or engine.role != "leader":
            raise Dropped(step)
        await self._submit(
            LeaderServing(
                database=step.database,
                group=step.group,
                term=step.term,
                start_id=step.start_id,
                epoch=engine.cluster.epoch,
                history=engine.replication.history,
                **self._header,
            )
        )

    async def _still_leads(self, step: steps.Lead) -> bool:
        """One more fresh read between TAKEOVER and the first admitted replica or write (docs/reference/safety.md#assignment;
        model: read_after_takeover).
        """
        view = await self._submitter.view()
        group = view.state.groups.get((step.database, step.group))
        named = group is not None and group.open and group.term == step.term
        return named and group is not None and group.leader_process == step.start_id

    async def _end_script(self, step: steps.EndScript) -> None:
        try:
            await self._engines.end_script(step.start_id)
        except EngineRefused:
            await self._engines.kill(step.start_id, Cause.SCRIPT_TOO_LONG)

    async def _rewrite(self, step: steps.Rewrite) -> None:
        if not await self._turn(step.lease, step.start_id):
            return
        marker = (*step.marker, self._token()[:8]) if step.marker else None
        await self._engines.rewrite(step.start_id, marker)

    async def _turn(self, lease: str, start_id: int) -> bool:
        """Take or keep the turn of a group at rewriting; whether it is ours."""
        ours = await self._store.acquire(lease, f"{self._server_id}/{start_id}", REWRITE_LEASE)
        if ours:
            self.rewrite_leases[start_id] = self._now() * 1000
        return ours

    # Unknown nodes -----------------------------------------------------------------------------------------------------

    async def _save_deletions(self, step: steps.SaveDeletions) -> None:
        path, keys, error = "", 0, ""
        try:
            saved = await self._engines.keep_deleted(step.start_id)
        except ArchiveRefused as refused:  # a full disk must not keep the group from its slots
            saved, error = None, refused.detail
        if saved is not None:
            path, keys = saved.path, saved.keys
        await self._submit(
            DeletionsKept(
                database=step.database,
                group=step.group,
                term=step.term,
                start_id=step.start_id,
                path=path,
                keys=keys,
                trouble=error,
                **self._header,
            )
        )

    # Following -----------------------------------------------------------------------------------------------------

    async def _replicate(self, step: steps.Replicate) -> None:
        if step.keep and (step.start_id, step.keep) not in self._set_aside:
            path = await self._engines.set_aside(step.start_id, step.keep)
            self._set_aside.add((step.start_id, step.keep))
            if path:
                await self._submit(TailSetAside(start_id=step.start_id, path=path, **self._header))
        await self._engines.replicate(step.start_id, step.leader)

    async def _mark_joiner(self, step: steps.MarkJoiner) -> None:
        nonce = self._token()[:8]
        await self._engines.mark(step.start_id, step.term, step.sequence, nonce)
        await self._submit(
            JoinMarked(
                database=step.database,
                group=step.group,
                term=step.term,
                archive_id=step.archive_id,
                sequence=step.sequence,
                nonce=nonce,
                **self._header,
            )
        )

    async def _check_marker(self, step: steps.CheckMarker) -> None:
        position = await self._engines.read_position(step.directory)
        if (position.term, position.sequence) < (step.term, step.sequence):
            return
        await self._engines.confirm_initialised(step.directory)
        await self._submit(
            JoinDurable(start_id=step.start_id, term=step.term, sequence=step.sequence, nonce=step.nonce, **self._header)
        )

    async def _failover(self, step: steps.Failover) -> None:
        """The target's disk is looked at in the step that sends FAILOVER (model: marker_before_handover)."""
        position = await self._engines.read_position(step.directory)
        if position.term != step.term or position.sequence <= step.after:
            raise Dropped(step)
        self.failovers[step.start_id] = self._now() * 1000
        await self._engines.unfence(step.start_id)
        await self._engines.failover(step.start_id)

    async def _probe_peer(self, step: steps.ProbePeer) -> None:
        answers = await self._probe(step.host, step.port)
        accepts = step.engine_port > 0 and await self._accepts(step.host, step.engine_port)
        self.probes[(step.host, step.port, step.engine_port)] = ProbeResult(self._now() * 1000, answers, accepts)


def report_of(position: Position, offset: int = 0, history: str = "") -> PositionReport:
    """The domain's value for a position."""
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
    """The fact that reports the end of an engine."""
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
