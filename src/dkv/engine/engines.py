"""The engines of one machine: real Valkey engines behind the contract, found again after their manager died.

It composes: processes (supervisor), files (archive, positions), the driver (valkey) and the judging of ends (causes).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from dkv import kernel
from dkv.engine import archive, deletions, supervisor, te
from dkv.engine.binary import find_binary
from dkv.engine.config import MANAGER, SOCKET_NAME
from dkv.engine.config_files import refuse_taken, taken, write_files
from dkv.engine.contract import (
    ArchiveRefused,
    Cause,
    Counters,
    EngineLatencies,
    EngineRefused,
    EngineSeen,
    EngineSpec,
    EngineStatistics,
    EngineUnreachable,
    EngineUsers,
    ExitSeen,
    Identity,
    KeptDeletions,
    PeerNode,
    Position,
    RunOptions,
    Secrets,
    Survey,
    TeSeen,
    TeSpec,
    TlsFiles,
)
from dkv.engine.ends import end_of
from dkv.engine.engine import GLANCE, Engine
from dkv.engine.evidence import Readers, own_oom_file
from dkv.engine.hot_copy import HotCopies, Slots, checked
from dkv.engine.obstacles import Place, obstacle
from dkv.engine.positions import read_position
from dkv.engine.salvage import copy_tail
from dkv.engine.supervisor import Record, Run
from dkv.engine.tail import TailSources
from dkv.guard.duty import GuardedEngine

_TAKE_OVER_WITHIN = 1.0  # seconds
_BIRTH_WITHIN = 5.0


class ValkeyEngines(HotCopies, TailSources):
    """Implements `Engines` (engine/contract.py) on this machine's processes and disks."""

    def __init__(
        self,
        data_dir: Path,
        *,
        binary: str | None = None,
        boot_id: str | None = None,
        readers: Readers | None = None,
        lock_wait: float = 5.0,
    ) -> None:
        """`binary` is a configured path (see binary.find_binary); `boot_id` and `readers` are for tests."""
        super().__init__(data_dir / "run", boot_id or kernel.boot_id(), lock_wait)
        self._binary = binary
        self._readers = readers or Readers(oom_file=own_oom_file())

    # -- looking ---------------------------------------------------------------------------------------------------

    async def survey(self, thorough: bool = True) -> Survey:
        """See the contract. One wait for all engines: this is what a manager does every second, for ever."""
        self._adopt()
        living = [engine for engine in self._engines.values() if engine.alive]
        for engine in living:
            engine.tend_log()
        answers = [engine.ask(thorough) for engine in living]
        if living:
            await asyncio.wait([item for several in answers for item in several], timeout=GLANCE)
        seen = [await engine.look(several) for engine, several in zip(living, answers, strict=True)]
        supervisor.reap_parents()
        ended = {engine.start_id for engine in self._engines.values() if not engine.alive}
        dead = [self._engines[start_id] for start_id in sorted(ended)]
        exits = await asyncio.gather(*(self._end(engine) for engine in dead))
        there = [item for item in seen if item.start_id not in ended]
        return Survey(
            engines=tuple(item for item in there if isinstance(item, EngineSeen)),
            exits=tuple(exit for exit in exits if exit is not None),
            memory=tuple(item for item in there if isinstance(item, TeSeen)),
        )

    def guarded(self, start_ids: Collection[int]) -> tuple[GuardedEngine, ...]:
        """What a guard has to know of the living engines among these."""
        living = [e for s, e in sorted(self._engines.items()) if s in start_ids and e.durable and e.alive]
        records = [(engine.born, engine.run.record) for engine in living]
        return tuple(
            GuardedEngine(r.start_id, r.directory, SOCKET_NAME, born.pid, born.started, MANAGER, r.secret)
            for born, r in records
            if born
        )

    async def _end(self, engine: Engine) -> ExitSeen | None:
        """Judged once: a proven end does not change."""
        if engine.end is not None:
            return engine.end
        end = await end_of(engine.run, self._readers, self._boot_id)
        if end is not None and end.reaped:
            engine.end = end
        return end

    async def wait_for_change(self, timeout: float) -> None:
        """See the contract. Woken by the kernel (pidfd), not by polling."""
        try:
            async with asyncio.timeout(timeout):
                await self.changed.wait()
        except TimeoutError:
            return
        finally:
            self.changed.clear()

    # -- archives --------------------------------------------------------------------------------------------------

    async def prepare(self, directory: str, identity: Identity, fresh: bool, restored: Slots | None = None) -> Position:
        """See the contract."""
        await asyncio.to_thread(archive.secure, directory, fresh and restored is None)
        await asyncio.to_thread(checked, directory, identity, fresh, restored)
        archive.make_private(directory)
        await self._take_lock(directory)
        try:
            initialised, origin = await asyncio.to_thread(checked, directory, identity, fresh, restored)
            if fresh and restored is None:
                archive.write_identity(directory, identity, initialised)
            return replace(await self.read_position(directory), origin=origin)
        except BaseException:
            await self.release(directory)
            raise

    async def obstacle(self, directory: str, cause: Cause, address: str, ports: Sequence[int]) -> str:
        """See the contract."""
        if cause is Cause.ARCHIVE_LOCKED and directory in self._locks:
            return ""
        try:
            return await asyncio.to_thread(obstacle, cause, Place(directory, str(self._runs), address, ports, self._binary))
        except OSError as error:
            return f"{directory}: {error.strerror}"

    async def read_position(self, directory: str) -> Position:
        """See the contract."""
        return await asyncio.to_thread(read_position, directory)

    async def confirm_initialised(self, directory: str) -> None:
        """See the contract."""
        present = archive.read_identity(directory)
        if present is None:
            raise ArchiveRefused(Cause.ARCHIVE_MISSING, f"there is no {archive.IDENTITY_FILE} in {directory}")
        if not present.initialised:
            archive.write_identity(directory, present.identity, True)

    async def retire(self, directory: str, identity: Identity) -> str | None:
        """See the contract."""
        await self.release(directory)
        return archive.retire(directory, identity)

    async def keep_deleted(self, start_id: int) -> KeptDeletions | None:
        """See the contract. The copy is `<directory>/set-aside/<start_id>-before-deletions-<n>`."""
        return await asyncio.to_thread(deletions.keep, self._running(start_id).run.record.directory, start_id)

    async def roll_back(self, start_id: int, path: str) -> None:
        """See the contract."""
        engine = self._running(start_id)
        engine.kill(Cause.LOST_ITS_SLOTS)
        await engine.gone()
        directory = engine.run.record.directory
        await self._take_lock(directory)  # the kernel frees it a moment after the last process of the engine is gone
        try:
            deletions.put_back(directory, path)
        finally:
            await self.release(directory)

    async def set_aside(self, start_id: int, keep: Position) -> str | None:
        """See the contract. The file is `<directory>/set-aside/<start_id>-after-<term>-<sequence>.aof`."""
        directory = self._known(start_id).run.record.directory
        return await asyncio.to_thread(copy_tail, directory, start_id, keep)

    # -- processes -------------------------------------------------------------------------------------------------

    async def launch(self, spec: EngineSpec) -> int:
        """See the contract."""
        self._adopt()
        known = self._engines.get(spec.start_id)
        if known is not None:
            return await self._already(known)
        await self._tails.stop(spec.directory)
        binary = find_binary(self._binary)
        if spec.directory not in self._locks:
            await self.prepare(spec.directory, spec.identity, False)
        if spec.restored:
            archive.write_identity(spec.directory, spec.identity, True)  # from here on it is this archive
        refuse_taken(spec)
        phantoms = write_files(spec)
        return await self._run(self._record(spec, phantoms), [binary, os.path.join(spec.directory, "valkey.conf")])

    async def launch_memory(self, spec: TeSpec) -> int:
        """See the contract."""
        self._adopt()
        known = self._engines.get(spec.start_id)
        if known is not None:
            return await self._already(known)
        binary = find_binary(self._binary)
        archive.make_directory(spec.directory)
        await self._take_lock(spec.directory)
        for engine in spec.engines:
            refuse_taken(engine)
        parts = te.write_parts(spec)
        record = replace(self._record(spec.engines[0], ()), directory=spec.directory, node_id="", group="", parts=parts)
        return await self._run(record, te.command(binary, spec))

    async def _run(self, record: Record, command: list[str]) -> int:
        run = self._spawn(record, command)
        lock = self._locks.pop(record.directory)
        engine = self._engines[record.start_id] = self._engine(run)
        try:
            pid = await self._born(engine)
            archive.sign_lock(lock, pid)
        finally:
            os.close(lock)
        return pid

    def _spawn(self, record: Record, command: list[str]) -> Run:
        """From here on the start id is used up, unless no process could be made at all."""
        try:
            run = supervisor.new_run(self._runs, record)
        except OSError as error:
            raise archive.unusable(str(self._runs), error) from error
        try:
            supervisor.start(run, command, self._locks[record.directory], self._readers.oom_file)
        except OSError as error:
            supervisor.drop_run(run)
            raise EngineRefused(f"engine {record.start_id} could not be started: {error}") from error
        return run

    def _record(self, spec: EngineSpec, phantoms: Sequence[str]) -> Record:
        return Record(
            start_id=spec.start_id,
            directory=spec.directory,
            node_id=spec.node_id,
            group=spec.group,
            address=spec.address,
            client_port=spec.client_port,
            secret=spec.secrets.used,
            memory_only=spec.memory_only,
            phantoms=tuple(phantoms),
            boot_id=self._boot_id,
            oom_kills=self._readers.oom_kills(),
            tls=spec.tls,
            slot=min(first for group in spec.groups if group.group == spec.group for first, _ in group.slots),
        )

    async def _already(self, engine: Engine) -> int:
        if not engine.alive:
            raise EngineRefused(f"engine {engine.start_id} ended already; a start id is never used twice")
        return await self._born(engine)

    async def _born(self, engine: Engine) -> int:
        """The engine's pid, as soon as its waiting parent wrote it."""
        deadline = time.monotonic() + _BIRTH_WITHIN
        while (born := engine.born) is None:
            if time.monotonic() > deadline:
                raise EngineUnreachable(f"engine {engine.start_id} was not born within {_BIRTH_WITHIN:.0f} s")
            await asyncio.sleep(0.001)
        engine.watch(self.changed)
        return born.pid

    async def shut_down(self, start_id: int) -> None:
        """See the contract."""
        engine = self._known(start_id)
        if engine.alive:
            await engine.shut_down()

    async def kill(self, start_id: int, cause: Cause) -> None:
        """See the contract."""
        self._known(start_id).kill(cause)

    async def forget_exit(self, start_id: int) -> None:
        """See the contract."""
        engine = self._engines.get(start_id)
        if engine is None:
            return
        if engine.alive:
            raise EngineRefused(f"engine {start_id} runs; there is no exit to forget")
        engine.close()
        del self._engines[start_id]
        supervisor.drop_run(engine.run)

    # -- orders ----------------------------------------------------------------------------------------------------

    async def take_over(self, start_id: int) -> None:
        """See the contract."""
        engine = self._running(start_id)
        try:
            async with asyncio.timeout(_TAKE_OVER_WITHIN):
                await engine.valkey.take_over(engine.phantoms, engine.run.record.slot)
        except (TimeoutError, EngineUnreachable) as error:
            engine.kill(Cause.NEVER_ANSWERED)
            await engine.gone()
            raise EngineUnreachable(f"engine {start_id} did not answer TAKEOVER and was killed") from error

    async def admit(self, start_id: int) -> None:
        """See the contract."""
        await self._running(start_id).valkey.admit()

    async def take_clients(self, start_id: int, group: str = "") -> None:
        """See the contract."""
        engine = self._of_group(start_id, group)
        address, port = engine.run.record.address, engine.run.record.client_port
        try:
            await engine.valkey.take_clients(port, engine.phantoms)
        except EngineRefused:
            if taken(address, port):
                self._known(start_id).kill(Cause.PORT_TAKEN)
            raise

    async def shun_clients(self, start_id: int) -> None:
        """See the contract."""
        await self._running(start_id).valkey.shun_clients()

    def _of_group(self, start_id: int, group: str) -> Engine:
        """The living engine of that group, or of whichever group it is if none is named."""
        engine = next((engine for engine in self._all(start_id) if group in ("", engine.run.record.group)), None)
        if engine is None:
            raise EngineRefused(f"process {start_id} has no engine of group {group}")
        return engine

    async def replicate(self, start_id: int, leader: PeerNode) -> None:
        """See the contract."""
        engine = self._of_group(start_id, leader.group)
        await engine.valkey.replicate(leader, engine.phantoms, engine.durable)

    async def failover(self, start_id: int) -> None:
        """See the contract."""
        await self._running(start_id).valkey.failover()

    async def hand_over(self, start_id: int, term: int, sequence: int, nonce: str) -> None:
        """See the contract."""
        await self._running(start_id).valkey.hand_over(term, sequence, nonce)

    async def fence(self, start_id: int) -> None:
        """See the contract."""
        await self._running(start_id).valkey.fence(True)

    async def unfence(self, start_id: int) -> None:
        """See the contract."""
        await self._running(start_id).valkey.fence(False)

    async def end_script(self, start_id: int) -> None:
        """See the contract."""
        await self._running(start_id).valkey.end_script()

    async def set_options(self, start_id: int, options: RunOptions) -> None:
        """See the contract."""
        await asyncio.gather(*(engine.set_options(options) for engine in self._all(start_id)))

    async def set_users(self, start_id: int, users: EngineUsers, secrets: Secrets) -> None:
        """See the contract."""
        try:
            await self._known(start_id).set_users(users, secrets)
        except OSError as error:
            raise EngineRefused(f"the record of engine {start_id} cannot be written: {error}") from error

    async def set_certificate(self, start_id: int, certificate: TlsFiles) -> None:
        """See the contract."""
        await asyncio.gather(*(engine.set_certificate(certificate) for engine in self._all(start_id)))

    async def mark(self, start_id: int, term: int, sequence: int, nonce: str) -> None:
        """See the contract."""
        await self._running(start_id).valkey.mark(term, sequence, nonce)

    async def rewrite(self, start_id: int, marker: tuple[int, int, str] | None) -> None:
        """See the contract."""
        await self._running(start_id).valkey.rewrite(marker)

    async def ask_followers(self, start_id: int) -> None:
        """See the contract."""
        await self._running(start_id).valkey.ask_followers()

    async def meet(self, start_id: int, peer: PeerNode) -> None:
        """See the contract."""
        await asyncio.gather(*(engine.valkey.meet(peer) for engine in self._all(start_id)))

    async def let_nobody_in(self, start_id: int) -> None:
        """See the contract."""
        await self._running(start_id).valkey.let_nobody_in()

    async def restart_epochs(self, start_id: int, epoch: int) -> None:
        """See the contract."""
        await asyncio.gather(*(engine.valkey.restart_epochs(epoch) for engine in self._all(start_id)))

    async def take_packets(self, start_id: int) -> None:
        """See the contract."""
        await asyncio.gather(*(engine.valkey.take_packets() for engine in self._all(start_id)))

    async def reclaim_slots(self, start_id: int, slots: Sequence[tuple[int, int]]) -> None:
        """See the contract."""
        await self._running(start_id).valkey.reclaim_slots(slots)

    async def forget(self, start_id: int, node_id: str) -> None:
        """See the contract."""
        await asyncio.gather(*(engine.valkey.forget(node_id) for engine in self._all(start_id)))

    async def count(self) -> Sequence[Counters]:
        """See the contract. An engine that does not answer is left out."""
        living = [engine for engine in self._engines.values() if engine.alive]
        counted = await asyncio.gather(*(engine.count() for engine in living))
        return [counters for counters in counted if counters is not None]

    async def statistics(self, start_id: int | None = None) -> Sequence[EngineStatistics]:
        """See the contract."""
        living = [engine for engine in self._engines.values() if engine.alive and start_id in (None, engine.start_id)]
        answers = await asyncio.gather(*(part.statistics() for engine in living for part in engine.parts or (engine,)))
        return [answer for answer in answers if answer is not None]

    async def latencies(self) -> Sequence[EngineLatencies]:
        """See the contract."""
        living = [engine for engine in self._engines.values() if engine.alive]
        answers = await asyncio.gather(*(part.latencies() for engine in living for part in engine.parts or (engine,)))
        return [answer for answer in answers if answer is not None]
