"""The engines and archive locks of one machine that this manager holds; what engines, hot copies and tails build on."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from dkv.engine import archive, supervisor
from dkv.engine.contract import ArchiveRefused, Cause, EngineRefused, EngineUnreachable
from dkv.engine.engine import Engine
from dkv.engine.logs import LogWatch
from dkv.engine.refused import Refused, unreported
from dkv.engine.supervisor import Run


class LocalEngines:
    """Engines by start id and locks (descriptors) by archive directory. `runs` is the directory of run directories,
    `boot_id` of this machine's boot, `lock_wait` the seconds a lock is waited for. `changed` is set when an engine exits.
    """

    def __init__(self, runs: Path, boot_id: str, lock_wait: float) -> None:
        self._runs = runs.absolute()
        self._boot_id = boot_id
        self._lock_wait = lock_wait
        self._engines: dict[int, Engine] = {}
        self._locks: dict[str, int] = {}
        self._logs = LogWatch()
        self.refused: Refused = unreported
        """Gets what engines refused of clients."""
        self.changed = asyncio.Event()

    def close(self) -> None:
        """Let go of sockets, descriptors and locks. Engines keep running."""
        for engine in self._engines.values():
            engine.close()
        self._engines.clear()
        self._logs.close()
        for fd in self._locks.values():
            os.close(fd)
        self._locks.clear()

    def _adopt(self) -> None:
        """Take up every run directory; one of an earlier boot can only be an end."""
        try:
            names = {int(name) for name in os.listdir(self._runs) if name.isdigit()}
        except OSError:
            names = set()
        for start_id in sorted(names - self._engines.keys()):
            run = supervisor.read_run(self._runs / str(start_id))
            if run is not None:
                self._engines[start_id] = self._engine(run)
            else:
                supervisor.clear_unborn(self._runs / str(start_id))
        for engine in self._engines.values():
            engine.watch(self.changed)

    def _engine(self, run: Run) -> Engine:
        return Engine(run, this_boot=run.record.boot_id == self._boot_id, logs=self._logs, refused=self._refused)

    def _refused(self, peer: str, kind: str, last: str, count: int) -> None:
        self.refused(peer, kind, last, count)

    def _known(self, start_id: int) -> Engine:
        if start_id not in self._engines:
            self._adopt()
        if start_id not in self._engines:
            raise EngineRefused(f"engine {start_id} is not known on this machine")
        return self._engines[start_id]

    def _running(self, start_id: int) -> Engine:
        """The living engine of an archive."""
        engine = self._all(start_id)[0]
        if not engine.durable:
            raise EngineRefused(f"process {start_id} is memory only and never leads")
        return engine

    def _all(self, start_id: int) -> tuple[Engine, ...]:
        """The living engine of that start id, or each of a memory-only process."""
        engine = self._known(start_id)
        if not engine.alive:
            raise EngineUnreachable(f"engine {start_id} ended")
        return engine.parts or (engine,)

    async def _take_lock(self, directory: str) -> None:
        """Hold the archive's lock, after killing what is left of its own former engine."""
        if directory in self._locks:
            return
        deadline = time.monotonic() + self._lock_wait
        while (fd := archive.take_lock(directory)) is None:
            serving = self._kill_leftovers(directory)
            if serving or time.monotonic() >= deadline:
                holder = archive.lock_holder(directory)
                raise ArchiveRefused(Cause.ARCHIVE_LOCKED, f"{directory} is in use by pid {holder}")
            await asyncio.sleep(0.02)
        self._locks[directory] = fd

    def _kill_leftovers(self, directory: str) -> bool:
        """Kill children that outlived their engine, never an engine; True if one runs there that no manager ended."""
        self._adopt()
        mine = [engine for engine in self._engines.values() if engine.run.record.directory == directory]
        for engine in mine:
            if not engine.alive:
                engine.kill_leftovers()
        return any(engine.alive and not engine.run.intents for engine in mine)

    def _drop_lock(self, directory: str) -> None:
        fd = self._locks.pop(directory, None)
        if fd is not None:
            os.close(fd)
