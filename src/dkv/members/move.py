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
from dkv.members.place import Members, forget_members, members_in, new_members
from dkv.store.contract import Unavailable
from dkv.store.etcd import EtcdStore
from dkv.store.sqlite_file import SqliteFile
from dkv.store.sqlite_state import STATE_FILE, StateWriter, WholeState, moved_to, was_copied, whole

STARTS_WITHIN = 20.0  # s a first member has to answer
EVENTS = 20_000  # the newest events, which go along
PAUSE = 0.1  # s between two tries to reach it
Open = Callable[[tuple[str, ...]], Awaitable[EtcdStore]]  # opens the state at client URLs


async def move(file: Path, domain: str, process: MemberProcess, open_at: Open) -> Members:
    """Move the state in `file` to a new member of this server; where the move was begun, end it. Raises StoreError: then the
    state is still in the file, or the file says that it moved and the next attempt goes on.
    """
    sealed, copied = await asyncio.to_thread(_sealed, file)
    members = members_in(sealed) if sealed else new_members(domain, process.spec.client)
    if copied or members.clients != (process.spec.client,):
        return members
    if not sealed:
        await process.end()
        process.set_aside()  # it is of another state: a domain in a file has no member
        forget_members(process.spec.directory.parent)
    try:
        store = await first_member(process, members, open_at)
        try:
            members = await _copy(file, members, store)
        finally:
            await store.close()
    except BaseException:
        if not (await asyncio.to_thread(_sealed, file))[0]:
            await process.end()
            process.forget()
        raise
    if members.clients != (process.spec.client,):  # another manager of the file was faster
        await process.end()
        process.forget()
    return members


def _sealed(file: Path) -> tuple[str, bool]:
    """Where a state file says that its state moved, "" while it is there, and whether it is whole there. Raises StoreError."""
    state = SqliteFile(file, STATE_FILE)
    try:
        return state.read(lambda: (moved_to(state), was_copied(state)))
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
                    f"etcd ended at once: {process.why_it_ends() or 'see its log'}", f"Look at {process.spec.log}."
                ) from error
            if time.monotonic() > give_up:
                raise
        await asyncio.sleep(PAUSE)


async def _copy(file: Path, members: Members, store: EtcdStore) -> Members:
    """Seal the file, and copy what it holds; where the state is then. Raises StoreError."""
    place, moved = await asyncio.to_thread(_seal, file, members.text)
    if place != members.text:
        return members_in(place)
    await store.take_over(moved.records, moved.revision, moved.sequence, moved.events, f"moved-{members.token}")
    await asyncio.to_thread(_set_copied, file)
    return members


def _seal(file: Path, place: str) -> tuple[str, WholeState]:
    state = SqliteFile(file, STATE_FILE)
    try:
        return StateWriter(state).seal(place), whole(state, EVENTS)
    finally:
        state.close()


def _set_copied(file: Path) -> None:
    state = SqliteFile(file, STATE_FILE)
    try:
        StateWriter(state).set_copied()
    finally:
        state.close()
