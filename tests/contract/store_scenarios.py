"""What the scenarios about a shared state file have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dkv.store.sqlite import SqliteStore
from tests.contract.store_process import spawn

LIMIT = 120.0


def scenario(play: Callable[[Path], Awaitable[None]]) -> Callable[[Path], None]:
    """Make a pytest test of a scenario that needs the path of a state file."""

    def test(tmp_path: Path) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(LIMIT):
                await play(tmp_path / "state")

        asyncio.run(bounded())

    test.__name__, test.__doc__ = play.__name__, play.__doc__
    return test


@asynccontextmanager
async def opened(path: Path, **words: Any) -> Any:
    store = await SqliteStore.open(path, **words)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def program(role: str, path: Path, *words: str) -> Any:
    """Another process, gone at the end whatever happened."""
    process = await spawn(role, path, *words)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def written(path: Path, rows: int = 0) -> None:
    async with opened(path) as store:
        await store.commit(0, {"a": "1", **{f"k{n}": "v" * 400 for n in range(rows)}}, ["first"], "t")
