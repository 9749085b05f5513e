"""Simulation: a machine's engines as managers reach them; the machine itself is in machine.py.

`SimEngines` implements dkv.engine.contract.Engines. Each run of a manager has a handle of its own, which refuses
everything once that manager was killed; engines, disks, and the records of ended engines stay with the machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from dkv.engine.contract import (
    ArchiveRefused,
    ByteRangeDigest,
    Cause,
    CopyLabel,
    Counters,
    CutSeen,
    EngineLatencies,
    EngineRefused,
    EngineSpec,
    EngineStatistics,
    EngineUnreachable,
    EngineUsers,
    Identity,
    KeptDeletions,
    PeerNode,
    Position,
    QuiescePoint,
    RunOptions,
    Secrets,
    Survey,
    TailPlan,
    TeSpec,
    TlsFiles,
)
from dkv.sim.engines import tail
from dkv.sim.engines.backup_store import BackupPlace, clone
from dkv.sim.engines.disk import Disk
from dkv.sim.engines.engine import SimEngine
from dkv.sim.engines.machine import SimMachine
from dkv.sim.engines.observe import look, statistics_of
from dkv.sim.engines.tail import SimFeeds
from dkv.sim.engines.te import SimMemory

T = TypeVar("T")
Slots = tuple[tuple[int, int], ...]

APPLIED_WITHIN = 0.5  # seconds a follower is waited for when a cut is noted
SLICE = 0.5  # seconds between two reports of a hot copy's progress
LOCK_WAIT = 5.0  # seconds
TAKE_OVER_WITHIN = 1.0
GLANCE = 0.5  # seconds a survey waits for an engine that does not answer
REPLICATE_WITHIN = 3.0


class SimEngines:
    """One run of one manager's handle on its machine's engines."""

    def __init__(self, machine: SimMachine) -> None:
        self.machine = machine
        self.net = machine.net
        self.revoked = False
        self.feeds = SimFeeds(self.net, machine.name)

    def revoke(self) -> None:
        """The manager is dead: its locks are free and whatever it still holds of this refuses everything."""
        self.revoked = True
        self.feeds.close()
        self.machine.locks = {d: holder for d, holder in self.machine.locks.items() if holder is not self}

    async def _pause(self, longest: float = 0.002) -> None:
        """Every call takes a moment, in which anything can happen."""
        self._check()
        await self.net.sleep(self.net.random.uniform(0.0001, longest))
        self._check()

    def _check(self) -> None:
        if self.revoked:
            raise EngineUnreachable("this manager is dead")

    async def _ask(self, order: str, start_id: int, answer: Callable[[SimEngine], T], timeout: float = 2.0) -> T:
        """One order and its answer. Between the manager's last look and the sending anything can happen."""
        self.machine.before(order)
        await self._pause(0.0005)
        return await self._send(order, self.machine.living(start_id), answer, timeout)

    async def _ask_of(self, order: str, engine: SimEngine, answer: Callable[[SimEngine], T], timeout: float = 2.0) -> T:
        self.machine.before(order)
        await self._pause(0.0005)
        return await self._send(order, engine, answer, timeout)

    async def _send(self, order: str, engine: SimEngine, answer: Callable[[SimEngine], T], timeout: float) -> T:
        self.machine.sent(order, engine)
        try:
            return await self.net.ask(self.machine.name, engine, lambda: _unless_busy(engine, answer), timeout)
        finally:
            engine.ordered = True

    # -- looking ---------------------------------------------------------------------------------------------------

    async def survey(self, thorough: bool = True) -> Survey:
        """See the contract."""
        await self._pause(0.004)
        stopped = [engine.silent for engine in self.machine.engines.values()]
        if any([*stopped, *(process.stopped for process in self.machine.memory.values())]):
            await self.net.sleep(GLANCE)
            self._check()
        engines = tuple([look(engine, thorough) for _, engine in sorted(self.machine.engines.items())])
        memory = tuple(process.look() for _, process in sorted(self.machine.memory.items()))
        return Survey(engines, tuple(exit for _, exit in sorted(self.machine.exits.items())), memory)

    async def wait_for_change(self, timeout: float) -> None:
        """See the contract."""
        self._check()
        try:
            async with asyncio.timeout(timeout):
                await self.machine.changed.wait()
        except TimeoutError:
            return

    async def count(self) -> Sequence[Counters]:
        """See the contract."""
        await self._pause()
        return [
            Counters(e.start_id, e.gets, e.puts, 0, len(e.data), 10**6, 1, int(self.net.now() * 1000))
            for _, e in sorted(self.machine.engines.items())
            if not e.silent
        ] + [
            Counters(
                s, sum(e.gets for e in m.engines), 0, 0, sum(len(e.data) for e in m.engines), 10**6, 1, int(self.net.now() * 1000)
            )
            for s, m in sorted(self.machine.memory.items())
            if not m.stopped
        ]

    async def latencies(self) -> Sequence[EngineLatencies]:
        """See the contract. Every call takes a microsecond."""
        await self._pause()
        return [
            EngineLatencies(engine.start_id, {"get": {1: engine.gets}, "set": {1: engine.puts}})
            for engine in self.machine.engines.values()
            if not engine.silent and not engine.busy
        ]

    async def statistics(self, start_id: int | None = None) -> Sequence[EngineStatistics]:
        """See the contract. A few of the fields."""
        await self._pause()
        machine = self.machine
        memory = [engine for process in machine.memory.values() if not process.stopped for engine in process.engines]
        engines = [*machine.engines.values(), *memory]
        return [
            EngineStatistics(engine.start_id, engine.group, statistics_of(engine))
            for engine in engines
            if not engine.silent and not engine.busy and start_id in (None, engine.start_id)
        ]

    # -- archives --------------------------------------------------------------------------------------------------

    async def prepare(self, directory: str, identity: Identity, fresh: bool, restored: Slots | None = None) -> Position:
        """See the contract."""
        await self._pause()
        if fresh and restored is not None:
            origin = self._restored(directory, identity, restored)
            await self._take_lock(directory)
            disk = self.machine.disks.get(directory) or self.machine.backups.places[directory].files
            return replace(disk.position() if disk else Position(), origin=origin)
        disk = self._checked(directory, identity, fresh)
        await self._take_lock(directory)
        if disk is None:
            disk = self.machine.disks[directory] = Disk(directory, identity, drive=self.machine.drive)
        await self._pause()
        return disk.position()

    def _checked(self, directory: str, identity: Identity, fresh: bool) -> Disk | None:
        disk = self.machine.disks.get(directory)
        if disk is None and not fresh:
            raise ArchiveRefused(Cause.ARCHIVE_MISSING, f"there is no identity file in {directory}")
        if disk is not None and disk.identity != identity:
            raise ArchiveRefused(Cause.ARCHIVE_FOREIGN, f"{directory} is another archive")
        if disk is not None and fresh and disk.initialised:
            raise ArchiveRefused(Cause.ARCHIVE_FOREIGN, f"{directory} already holds data of this archive")
        if disk is not None and disk.initialised and not disk.has_data:
            raise ArchiveRefused(Cause.ARCHIVE_UNINITIALISED, f"{directory} had data once")
        return disk

    async def _take_lock(self, directory: str) -> None:
        deadline = self.net.now() + LOCK_WAIT
        while self.machine.locks.get(directory, self) is not self:
            if self.net.now() >= deadline:
                raise ArchiveRefused(Cause.ARCHIVE_LOCKED, f"{directory} is in use by pid {self._holder(directory)}")
            await self.net.sleep(0.02)
            self._check()
        self.machine.locks[directory] = self

    def _holder(self, directory: str) -> str:
        holder = self.machine.locks.get(directory)
        return str(holder.pid) if isinstance(holder, SimEngine | SimMemory) else "unknown"

    async def obstacle(self, directory: str, cause: Cause, address: str, ports: Sequence[int]) -> str:
        """See the contract."""
        await self._pause()
        if cause in (Cause.DISK_FULL, Cause.DISK_ERROR):
            return f"the disk is in trouble: {self.machine.drive.trouble}" if self.machine.drive.trouble else ""
        if cause is Cause.ARCHIVE_MISSING:
            return "" if directory in self.machine.disks else f"there is no identity file in {directory}"
        if cause is Cause.ARCHIVE_LOCKED:
            return "its lock is held" if self.machine.locks.get(directory, self) is not self else ""
        return ""

    async def release(self, directory: str) -> None:
        """See the contract."""
        await self.stop_tail(directory)
        if self.machine.locks.get(directory) is self:
            del self.machine.locks[directory]

    async def read_position(self, directory: str) -> Position:
        """See the contract."""
        await self._pause()
        return self._disk(directory).position()

    async def confirm_initialised(self, directory: str) -> None:
        """See the contract."""
        await self._pause()
        self._disk(directory).initialised = True

    def _disk(self, directory: str) -> Disk:
        if directory not in self.machine.disks:
            raise ArchiveRefused(Cause.ARCHIVE_MISSING, f"there is no identity file in {directory}")
        return self.machine.disks[directory]

    async def retire(self, directory: str, identity: Identity) -> str | None:
        """See the contract."""
        await self._pause()
        await self.release(directory)
        if directory in self.machine.locks:
            raise ArchiveRefused(Cause.ARCHIVE_LOCKED, f"{directory} is in use")
        disk = self.machine.disks.get(directory)
        present = disk.identity if disk else None
        if present is None or (present.domain_uid, present.archive_id) != (identity.domain_uid, identity.archive_id):
            return None
        self.machine.disks[f"{directory}.deleted-{len(self.machine.retired)}"] = self.machine.disks.pop(directory)
        self.machine.retired.append(directory)
        return f"{directory}.deleted-{len(self.machine.retired) - 1}"

    async def digest(self, directory: str, marker: tuple[int, int, str], upto: int | None = None) -> ByteRangeDigest:
        """See the contract."""
        await self._pause(0.01)
        stretch = ByteRangeDigest(*tail.digest(directory, self._disk(directory), marker, upto))
        self.feeds.handled[directory] += stretch.size
        return stretch

    def handled(self) -> Mapping[str, int]:
        """See the contract."""
        return dict(self.feeds.handled)

    async def serve_tail(self, plan: TailPlan, identity: Identity) -> None:
        """See the contract."""
        await self._pause()
        disk = self._checked(plan.directory, identity, False)
        await self._take_lock(plan.directory)
        assert disk is not None
        self.feeds.serve(plan, disk)

    async def stop_tail(self, directory: str) -> None:
        """See the contract."""
        self._check()
        self.feeds.stop(directory)

    async def set_aside(self, start_id: int, keep: Position) -> str | None:
        """See the contract."""
        await self._pause()
        self.machine.before("set aside")
        engine = self.machine.engines.get(start_id)
        if engine is None or engine.disk is None:
            raise EngineRefused(f"engine {start_id} is not known on this machine")
        tail = [e for e in engine.disk.after((keep.term, keep.sequence, keep.nonce), keep.bytes_after) if e.key]
        if not tail:
            return None
        return f"{engine.spec.directory}/set-aside/{start_id}-after-{keep.term}-{keep.sequence}.aof"

    async def keep_deleted(self, start_id: int) -> KeptDeletions | None:
        """See the contract."""
        await self._pause()
        engine = self.machine.living(start_id)
        if engine.disk is None or not engine.disk.files[-1] or not engine.disk.files[-1][-1].wipes:
            return None
        path = f"{engine.spec.directory}/set-aside/{start_id}-before-deletions-{len(self.machine.kept_files) + 1}"
        self.machine.kept_files[path] = [*engine.disk.files[:-1], engine.disk.files[-1][:-1]]
        return KeptDeletions(path, 1, whole=True)

    async def roll_back(self, start_id: int, path: str) -> None:
        """See the contract."""
        await self._pause()
        disk = self.machine.living(start_id).disk
        self.machine.intents[start_id] = Cause.LOST_ITS_SLOTS
        self.machine.end(start_id)
        if disk is None or path not in self.machine.kept_files:
            raise EngineRefused(f"there is no copy in {path}")
        disk.files, disk.unsynced = [list(file) for file in self.machine.kept_files[path]], 0
        disk.recount()

    # -- processes -------------------------------------------------------------------------------------------------

    async def launch(self, spec: EngineSpec) -> int:
        """See the contract."""
        self.machine.before("launch")
        await self._pause()
        known = self._started_already(spec.start_id)
        if known is not None:
            return known
        if self.machine.locks.get(spec.directory) is not self:
            await self.prepare(spec.directory, spec.identity, False)
        place = self.machine.backups.places.get(spec.directory)
        if spec.restored and spec.directory in self.machine.disks:
            self.machine.disks[spec.directory].identity = spec.identity
        elif spec.restored and place and place.files:
            self.machine.disks[spec.directory] = clone(place.files, spec.directory, spec.identity)
        await self.stop_tail(spec.directory)
        engine = self.machine.start(spec)
        await self._pause(0.01)
        return engine.pid

    async def launch_memory(self, spec: TeSpec) -> int:
        """See the contract."""
        self.machine.before("launch")
        await self._pause()
        known = self._started_already(spec.start_id)
        if known is not None:
            return known
        await self._take_lock(spec.directory)
        process = self.machine.start_memory(spec)
        await self._pause(0.01)
        return process.pid

    def _started_already(self, start_id: int) -> int | None:
        known = self.machine.engines.get(start_id) or self.machine.memory.get(start_id)
        if known is None and start_id in self.machine.started:
            raise EngineRefused(f"engine {start_id} ended already; a start id is never used twice")
        return known.pid if known is not None else None

    async def shut_down(self, start_id: int) -> None:
        """See the contract. A leader lets its followers catch up first, for at most 3 s."""
        self.machine.before("shut down")
        await self._pause()
        engine = self.machine.engines.get(start_id)
        if start_id in self.machine.memory:
            self.machine.intents.setdefault(start_id, Cause.GRACEFUL_STOP)
            self.net.later(self.net.random.uniform(0.01, 0.05), self.machine.end, start_id, 0)
        if engine is None:
            return
        self.machine.intents.setdefault(start_id, Cause.GRACEFUL_STOP)
        engine.paused_until = self.net.now() + 3.0
        self.net.post(
            self.machine.name, engine, self._leave, engine, self.net.now() + 3.0, delay=self.net.random.uniform(0.05, 0.12)
        )

    def _leave(self, engine: SimEngine, latest: float) -> None:
        link = engine.replication
        behind = any(r.offset < link.offset for r in link.replicas.values())
        if engine.role == "leader" and behind and self.net.now() < latest:
            link.ask_all()
            self.net.post(self.machine.name, engine, self._leave, engine, latest, delay=0.1)
        else:
            self.machine.end(engine.start_id, exit_code=0)

    async def kill(self, start_id: int, cause: Cause) -> None:
        """See the contract."""
        self.machine.before("kill")
        await self._pause()
        if start_id in self.machine.engines or start_id in self.machine.memory:
            self.machine.intents[start_id] = cause
            self.machine.end(start_id)
        elif start_id not in self.machine.exits:
            raise EngineRefused(f"engine {start_id} is not known on this machine")

    async def forget_exit(self, start_id: int) -> None:
        """See the contract."""
        self._check()
        if start_id in self.machine.engines or start_id in self.machine.memory:
            raise EngineRefused(f"engine {start_id} runs; there is no exit to forget")
        self.machine.exits.pop(start_id, None)

    # -- orders ----------------------------------------------------------------------------------------------------

    async def take_over(self, start_id: int) -> None:
        """See the contract."""
        try:
            await self._ask("take over", start_id, SimEngine.take_over, TAKE_OVER_WITHIN)
        except EngineUnreachable:
            self._check()
            if start_id in self.machine.engines:
                self.machine.intents[start_id] = Cause.NEVER_ANSWERED
                self.machine.end(start_id)
            raise

    async def admit(self, start_id: int) -> None:
        """See the contract."""
        await self._ask("admit", start_id, lambda engine: engine.set_switches(admits=True))

    async def take_clients(self, start_id: int, group: str = "") -> None:
        """See the contract."""
        self._check()
        process = self.machine.memory.get(start_id)
        engine = process.engine(group or process.engines[0].group) if process is not None else self.machine.living(start_id)
        await self._ask_of("take clients", engine, SimEngine.take_clients)

    async def shun_clients(self, start_id: int) -> None:
        """See the contract."""
        await self._ask("shun clients", start_id, SimEngine.shun_clients)

    async def replicate(self, start_id: int, leader: PeerNode) -> None:
        """See the contract."""
        self._check()
        process = self.machine.memory.get(start_id)
        engine = process.engine(leader.group) if process is not None else self.machine.living(start_id)
        await self._ask_of("let in", engine, SimEngine.let_in)
        if leader.node_id not in engine.known:
            await self._ask_of("meet", engine, lambda engine: engine.meet(leader))
        deadline = self.net.now() + REPLICATE_WITHIN
        while True:
            try:
                await self._ask_of("replicate", engine, lambda engine: engine.replicate(leader.node_id))
                break
            except EngineRefused:
                if self.net.now() > deadline:
                    raise
            await self.net.sleep(0.05)
        await self._ask_of("forget", engine, lambda engine: engine.forget(engine.phantom_id))

    async def failover(self, start_id: int) -> None:
        """See the contract."""
        await self._ask("fail over", start_id, SimEngine.begin_failover)

    async def hand_over(self, start_id: int, term: int, sequence: int, nonce: str) -> None:
        """See the contract."""
        await self._ask("hand over", start_id, lambda engine: engine.hand_over((term, sequence, nonce)))

    async def fence(self, start_id: int) -> None:
        """See the contract."""
        await self._ask("fence", start_id, lambda engine: engine.set_switches(fenced=True))

    async def unfence(self, start_id: int) -> None:
        """See the contract."""
        await self._ask("unfence", start_id, lambda engine: engine.set_switches(fenced=False))

    async def end_script(self, start_id: int) -> None:
        """See the contract."""
        await self._ask("end script", start_id, lambda engine: None)

    async def set_options(self, start_id: int, options: RunOptions) -> None:
        """See the contract."""
        for engine in self.machine.followers(start_id):
            await self._ask_of("set options", engine, lambda engine: _set(engine, options))

    async def set_users(self, start_id: int, users: EngineUsers, secrets: Secrets) -> None:
        """See the contract."""
        for engine in self.machine.followers(start_id):
            await self._ask_of("set users", engine, lambda engine: engine.set_users(users, secrets))

    async def set_certificate(self, start_id: int, certificate: TlsFiles) -> None:
        """See the contract."""
        for engine in self.machine.followers(start_id):
            await self._ask_of("set certificate", engine, lambda engine: setattr(engine, "tls", certificate))

    async def mark(self, start_id: int, term: int, sequence: int, nonce: str) -> None:
        """See the contract."""
        await self._ask("mark", start_id, lambda engine: engine.mark((term, sequence, nonce)))

    async def rewrite(self, start_id: int, marker: tuple[int, int, str] | None) -> None:
        """See the contract."""
        await self._ask("rewrite", start_id, lambda engine: engine.rewrite(marker))

    async def ask_followers(self, start_id: int) -> None:
        """See the contract."""
        await self._ask("ask followers", start_id, lambda engine: engine.replication.ask_all())

    async def meet(self, start_id: int, peer: PeerNode) -> None:
        """See the contract."""
        for engine in self.machine.followers(start_id):
            await self._ask_of("meet", engine, lambda engine: engine.meet(peer))

    async def let_nobody_in(self, start_id: int) -> None:
        """See the contract."""
        await self._ask("let nobody in", start_id, SimEngine.let_nobody_in)

    async def restart_epochs(self, start_id: int, epoch: int) -> None:
        """See the contract."""
        for engine in self.machine.followers(start_id):
            await self._ask_of("restart epochs", engine, lambda engine: engine.restart_epochs(epoch))

    async def take_packets(self, start_id: int) -> None:
        """See the contract."""
        for engine in self.machine.followers(start_id):
            await self._ask_of("take packets", engine, SimEngine.take_packets)

    async def reclaim_slots(self, start_id: int, slots: Sequence[tuple[int, int]]) -> None:
        """See the contract."""
        await self._ask("reclaim slots", start_id, SimEngine.reclaim_slots)

    async def forget(self, start_id: int, node_id: str) -> None:
        """See the contract."""
        for engine in self.machine.followers(start_id):
            await self._ask_of("forget", engine, lambda engine: engine.forget(node_id))

    # -- hot copies ------------------------------------------------------------------------------------------------

    async def _on(self, start_id: int, act: Callable[[SimEngine], QuiescePoint]) -> QuiescePoint:
        engine = self.machine.living(start_id)
        return await self.machine.net.ask(self.machine.name, engine, lambda: act(engine), 2.0)

    async def pause(self, start_id: int, ms: int) -> QuiescePoint:
        """See the contract."""

        def held(engine: SimEngine) -> QuiescePoint:
            if engine.loading or engine.fenced or engine.held or engine.role != "leader":
                raise EngineRefused(f"engine {start_id} is fenced or no leader; its writes are not paused")
            engine.waits_until = engine.net.now() + ms / 1000
            return quiesce_point(engine)

        return await self._on(start_id, held)

    async def resume(self, start_id: int) -> QuiescePoint:
        """See the contract."""

        def freed(engine: SimEngine) -> QuiescePoint:
            engine.waits_until = 0.0
            return quiesce_point(engine)

        return await self._on(start_id, freed)

    async def note_cut(self, start_id: int, name: str, reached: QuiescePoint) -> CutSeen:
        """See the contract."""
        deadline = self.machine.net.now() + APPLIED_WITHIN
        while True:
            await self._pause()
            engine = self.machine.living(start_id)
            link, disk = engine.replication, engine.disk
            attached = engine.role == "leader" or link.state == "up"
            awake = not engine.silent
            if disk and awake and attached and link.history == reached.history and link.offset >= reached.offset:
                break
            if self.machine.net.now() > deadline:
                raise EngineRefused(f"engine {start_id} has not reached its leader's position")
            await asyncio.sleep(0.003)
        directory = engine.spec.directory
        if (directory, name) not in self.machine.backups.cuts:
            await self.drop_cut(directory, "")
            self.machine.backups.cuts[(directory, name)] = clone(disk, directory, disk.identity)
        cut = self.machine.backups.cuts[(directory, name)]
        return CutSeen(*cut.newest(), cut.incremental_bytes)

    async def recognise(self, directory: str) -> CopyLabel | None:
        """See the contract."""
        await self._pause()
        place = self.machine.backups.places.get(directory)
        return place.label if place and place.files else None

    async def drop_cut(self, directory: str, name: str) -> None:
        """See the contract."""
        cuts = self.machine.backups.cuts
        for key in [key for key in cuts if key[0] == directory and name in ("", key[1])]:
            del cuts[key]

    async def claim_target(self, directory: str, target: str, label: CopyLabel) -> None:
        """See the contract."""
        await self._pause()
        if f"{target}/".startswith(f"{directory}/") or f"{directory}/".startswith(f"{target}/"):
            raise EngineRefused(f"{target} and the archive {directory} lie in each other")
        there = self.machine.backups.places.get(target)
        if target in self.machine.disks or (there and there.label != label):
            raise EngineRefused(f"{target} is not empty")
        self.machine.backups.places.setdefault(target, BackupPlace(label))

    async def write_copy(
        self, directory: str, name: str, target: str, label: CopyLabel, *, rate: int, report: Callable[[int], Awaitable[None]]
    ) -> None:
        """See the contract."""
        await self._pause()
        shelf = self.machine.backups
        place, cut = shelf.places.get(target), shelf.cuts.get((directory, name))
        if place and place.label == label and place.files:
            return
        if cut is None:
            raise EngineRefused(f"the cut {name} of {directory} is not there any more")
        if place is None or place.label != label:
            raise EngineRefused(f"{target} is another copy's by now")
        lasts, began = cut.incremental_bytes / rate if rate else 0.05, self.machine.net.now()
        while (gone := self.machine.net.now() - began) < lasts:
            await asyncio.sleep(min(SLICE, lasts - gone) + 0.001)
            await report(min(99, int(100 * gone / lasts)))
        await self._pause()
        place.files = clone(cut, target, None)

    async def abandon_target(self, target: str, label: CopyLabel) -> None:
        """See the contract."""
        place = self.machine.backups.places.get(target)
        if place and place.label == label and place.files is None:
            del self.machine.backups.places[target]

    def _restored(self, directory: str, identity: Identity, slots: Slots) -> str:
        """The cut that a directory's hot copy was made of. Raises ArchiveRefused."""
        place = self.machine.backups.places.get(directory)
        earlier = self.machine.disks.get(directory)
        was = earlier.identity if earlier else None
        if was and was != identity and replace(was, incarnation_of_name=identity.incarnation_of_name) == identity:
            return was.incarnation_of_name
        if was and was != identity:
            raise ArchiveRefused(Cause.ARCHIVE_FOREIGN, f"{directory} is another archive")
        if place is None or place.files is None:
            raise ArchiveRefused(Cause.NOT_A_COPY, f"{directory} holds no hot copy that is whole")
        if place.label.slots != slots:
            raise ArchiveRefused(Cause.COPY_OF_ANOTHER_GROUP, f"{directory} is a copy of other slots")
        return place.label.cut


def quiesce_point(engine: SimEngine) -> QuiescePoint:
    """What an engine holds."""
    assert engine.disk is not None
    name, size = engine.disk.newest()
    return QuiescePoint(engine.replication.offset, engine.replication.history, name, size)


def _unless_busy(engine: SimEngine, answer: Callable[[SimEngine], T]) -> T:
    """Whatever a manager orders, a script that answers BUSY keeps from being done."""
    if engine.busy:
        raise EngineRefused("BUSY the engine is busy running a script")
    return answer(engine)


def _set(engine: SimEngine, options: RunOptions) -> None:
    """CONFIG SET; refused while it loads."""
    if engine.loading:
        raise EngineRefused("LOADING the dataset")
    engine.options = options if engine.disk else replace(options, append_fsync="")
    if engine.disk is not None and options.append_fsync == "always":
        engine.disk.unsynced = 0  # the next turn of its loop reaches the device with all that was put off
