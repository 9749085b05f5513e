"""Hot copies of engines' archives: pause, note, copy. Composes the driver (valkey) and the files (copies)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from dkv.engine import archive, hot_copy_files
from dkv.engine.contract import CopyLabel, CutSeen, Identity, QuiescePoint
from dkv.engine.engine import Engine
from dkv.engine.local import LocalEngines

Slots = tuple[tuple[int, int], ...]


def checked(directory: str, identity: Identity, fresh: bool, restored: Slots | None) -> tuple[bool, str]:
    """Whether the archive is initialised, and which data it is restored from, if it is. Raises ArchiveRefused."""
    if restored is None or not fresh:
        return archive.check_identity(directory, identity, fresh), ""
    present = archive.read_identity(directory)
    if present is None:
        return True, hot_copy_files.check_copy(directory, restored).cut
    if archive.is_earlier_self(present, identity):
        return True, present.identity.incarnation_of_name
    initialised = archive.check_identity(directory, identity, fresh, restored=True)
    label = hot_copy_files.label_of(directory)
    return initialised, label.cut if label else ""


class HotCopies(LocalEngines):
    """What ValkeyEngines offers for hot copies (`Backup` in engine/contract.py)."""

    async def pause(self, start_id: int, ms: int) -> QuiescePoint:
        """See the contract."""
        engine = self._running(start_id)
        return await self._stillness(engine, await engine.valkey.pause(ms))

    async def resume(self, start_id: int) -> QuiescePoint:
        """See the contract. What is found only counts if it is found before the pause is lifted."""
        engine = self._running(start_id)
        try:
            return await self._stillness(engine, await engine.valkey.written(lambda info: True))
        finally:
            await engine.valkey.unpause()

    async def _stillness(self, engine: Engine, info: dict[str, str]) -> QuiescePoint:
        name, size = await asyncio.to_thread(hot_copy_files.newest_file, engine.run.record.directory)
        return QuiescePoint(int(info.get("master_repl_offset", "0")), info.get("master_replid", ""), name, size)

    async def note_cut(self, start_id: int, name: str, reached: QuiescePoint) -> CutSeen:
        """See the contract."""
        engine = self._running(start_id)

        def whole(info: dict[str, str]) -> bool:
            attached = info.get("role") == "master" or info.get("master_link_status") == "up"
            applied = min(int(info[key]) for key in ("master_repl_offset", "slave_repl_offset") if key in info)
            return attached and info.get("master_replid") == reached.history and applied >= reached.offset

        await engine.valkey.written(whole)
        return await asyncio.to_thread(hot_copy_files.note_cut, engine.run.record.directory, name)

    async def recognise(self, directory: str) -> CopyLabel | None:
        """See the contract."""
        return await asyncio.to_thread(hot_copy_files.label_of, directory)

    async def drop_cut(self, directory: str, name: str) -> None:
        """See the contract."""
        await asyncio.to_thread(hot_copy_files.drop_cut, directory, name)

    async def claim_target(self, directory: str, target: str, label: CopyLabel) -> None:
        """See the contract."""
        await asyncio.to_thread(hot_copy_files.claim_target, directory, target, label)

    async def write_copy(
        self, directory: str, name: str, target: str, label: CopyLabel, *, rate: int, report: Callable[[int], Awaitable[None]]
    ) -> None:
        """See the contract."""
        await hot_copy_files.write_copy(directory, name, target, label, rate=rate, report=report)

    async def abandon_target(self, target: str, label: CopyLabel) -> None:
        """See the contract."""
        await asyncio.to_thread(hot_copy_files.abandon_target, target, label)
