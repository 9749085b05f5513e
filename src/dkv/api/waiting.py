"""API package: the one way in which a request waits for the domain: bounded, and woken by commits instead of by sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from dkv.api.context import ManagerContext
from dkv.domain.model import State
from dkv.store.contract import StoreError

POLL = 0.25  # s between two looks whether the manager ends


async def until(manager: ManagerContext, holds: Callable[[State], bool], seconds: float) -> State:
    """The newest state, read once `holds` is true of it, the seconds are over or the manager ends, whichever comes first.

    A dry run waits for nothing. A store that fails meanwhile is waited for too. Raises StoreError for the last read.
    """
    if not manager.dry_run:
        await _wait(manager, holds, seconds)
    return (await manager.submitter.view()).state


async def _wait(manager: ManagerContext, holds: Callable[[State], bool], seconds: float) -> None:
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    watch = asyncio.create_task(_watch(manager, holds))
    try:
        while not watch.done() and not manager.closing() and clock() < end:
            await asyncio.wait({watch}, timeout=min(POLL, end - clock()))
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def _watch(manager: ManagerContext, holds: Callable[[State], bool]) -> None:
    changes = manager.event_log.watch()
    try:
        async for _ in changes:
            with suppress(StoreError):
                if holds((await manager.submitter.view()).state):
                    return
    finally:
        if isinstance(changes, AsyncGenerator):
            await changes.aclose()
