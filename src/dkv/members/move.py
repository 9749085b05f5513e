"""members: moves a domain's state from a file to a first etcd member of its own, in one guarded step.

Until the file is sealed nothing has changed and everything that goes wrong ends the member again. From then on no manager can
commit to the file, and whatever breaks off is gone on with at the next start: the file says where its state went.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from dkv.members.child import MemberProcess
from dkv.members.place import Members, members_in, new_members
from dkv.store.contract import Unavailable
from dkv.store.etcd import EtcdStore
from dkv.store.sqlite_file import SqliteFile
from dkv.store.sqlite_state import STATE_FILE, StateWriter, moved_to, whole

STARTS_WITHIN = 20.0  # s a first member has to answer
EVENTS = 20_000  # the newest events, which go along
PAUSE = 0.1  # s between two tries to reach it
Open = Callable[[tuple[str, ...]], Awaitable[EtcdStore]]  # opens the state at client URLs


async def move(file: Path, domain: str, process: MemberProcess, open_at: Open) -> Members:
    """Move the state in `file` to a new member of this server; where the move was begun, end it. Raises StoreError: then the
    state is still in the file, or the file says that it moved and the next attempt goes on.
    """
    sealed = _sealed(file)
    members = members_in(sealed) if sealed else new_members(domain, process.spec.client)
    if members.clients != (process.spec.client,):
        return members  # another manager of this file moved it, to its own member
    try:
        store = await first_member(process, members, open_at)
    except Unavailable:
        if not sealed:
            await process.end()
            process.forget()
        raise
    try:
        await _copy(file, members, store)
    finally:
        await store.close()
    return members


def _sealed(file: Path) -> str:
    """The place that a state file says its state moved to; "" while it is there. Raises StoreError."""
    state = SqliteFile(file, STATE_FILE)
    try:
        return state.read(lambda: moved_to(state))
    finally:
        state.close()


async def first_member(process: MemberProcess, members: Members, open_at: Open) -> EtcdStore:
    """The state at the first member of a cluster, which is started unless it runs. Raises Unavailable."""
    if process.running() is None:
        process.start({}, members.token, new=True)
    give_up = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            return await open_at((process.spec.client,))
        except Unavailable as error:
            if process.running() is None:
                raise Unavailable(
                    f"etcd ended at once: {process.last_words() or 'see its log'}", f"Look at {process.spec.log}."
                ) from error
            if time.monotonic() > give_up:
                raise
        await asyncio.sleep(PAUSE)


async def _copy(file: Path, members: Members, store: EtcdStore) -> None:
    state = SqliteFile(file, STATE_FILE)
    try:
        StateWriter(state).seal(members.text)
        moved = whole(state, EVENTS)
    finally:
        state.close()
    await store.take_over(moved.records, moved.revision, moved.sequence, moved.events, f"moved-{members.domain}")
