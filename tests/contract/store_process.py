"""A second process on the same state file, for the store's tests: played as a program, spoken to as `FarStore`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dkv.kernel import boottime
from dkv.store import contract
from dkv.store.contract import Conflict, Lease, Snapshot, Store, StoredEvent, Unavailable
from dkv.store.etcd import EtcdStore
from dkv.store.etcd_address import EtcdAddress
from dkv.store.sqlite import SqliteStore
from dkv.store.sqlite_state import KEEP_EVENTS


class FarStore:
    """A Store whose work is done in another process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, place: str, keep_events: int) -> FarStore:
        far = cls(await spawn("serve", place, str(keep_events), stdin=asyncio.subprocess.PIPE))
        await far._answer()
        return far

    async def call(self, name: str, *words: Any) -> Any:
        async with self._turn:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps([name, *words]).encode() + b"\n")
            return await self._answer()

    async def read(self) -> Snapshot:
        return Snapshot(**await self.call("read"))

    def known(self) -> Snapshot | None:
        return None

    async def commit(self, base: int, writes: Mapping[str, str | None], events: Sequence[str], token: str) -> int:
        return int(await self.call("commit", base, dict(writes), list(events), token))

    async def watch(self) -> AsyncIterator[Snapshot]:
        while True:
            yield Snapshot(**await self.call("next_view"))

    async def events(self, after: int, limit: int) -> Sequence[StoredEvent]:
        return tuple(StoredEvent(**event) for event in await self.call("events", after, limit))

    async def newest(self) -> int:
        return int(await self.call("newest"))

    async def acquire(self, name: str, holder: str, ttl: float, value: str = "") -> bool:
        return bool(await self.call("acquire", name, holder, ttl, value))

    async def renew(self, name: str, holder: str, ttl: float) -> None:
        await self.call("renew", name, holder, ttl)

    async def release(self, name: str, holder: str) -> None:
        await self.call("release", name, holder)

    async def leases(self) -> Sequence[Lease]:
        return tuple(Lease(**lease) for lease in await self.call("leases"))

    async def close(self) -> None:
        try:
            async with asyncio.timeout(10):
                if self._process.returncode is None:
                    await self.call("close")
        except TimeoutError:
            self._process.kill()  # a failed test left it waiting
        await self._process.wait()

    async def _answer(self) -> Any:
        trouble, answer = json.loads(await line_of(self._process))
        if trouble:
            raise getattr(contract, trouble)(answer)
        return answer


def place_of(address: EtcdAddress) -> str:
    """A cluster without TLS as one word."""
    return f"etcd:{','.join(address.endpoints)};{address.prefix}"


async def open_store(place: str, keep_events: int, clock: Callable[[], float] = boottime) -> Store:
    """A handle on the state at the path of a file, or at what `place_of` writes."""
    kind, _, where = place.partition(":")
    if kind != "etcd":
        return await SqliteStore.open(place, keep_events=keep_events, clock=clock)
    endpoints, _, prefix = where.partition(";")
    address = EtcdAddress(tuple(endpoints.split(",")), prefix=prefix)
    return await EtcdStore.open(address, keep_events=keep_events, clock=clock)


async def spawn(role: str, path: Path | str, *words: str, stdin: int | None = None) -> asyncio.subprocess.Process:
    """Start this file as a program."""
    return await asyncio.create_subprocess_exec(
        sys.executable, __file__, role, str(path), *words, stdin=stdin, stdout=asyncio.subprocess.PIPE, limit=2**24
    )


async def line_of(process: asyncio.subprocess.Process) -> str:
    """The next line it prints; a program that ended prints empty ones."""
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def add_one(store: contract.Store, name: str, number: int, stamp: str) -> int:
    """One read-modify-write of the common counter, repeated until it held. Returns its revision."""
    while True:
        snapshot = await store.read()
        total = int(snapshot.records.get("plus", "0")) + 1
        writes = {"plus": str(total), "minus": str(-total), f"last/{name}": str(number)}
        try:
            token = f"{name} {number} {stamp} {snapshot.revision}"
            return await store.commit(snapshot.revision, writes, [f"{name} {number}"], token)
        except Conflict:
            continue
        except Unavailable as trouble:
            if trouble.written is not False:
                raise


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())  # in one piece: a kill must not halve a line


async def serve(path: str, keep_events: str) -> None:
    """Answer the calls of a FarStore."""
    ahead = 0.0
    store = await open_store(path, int(keep_events), lambda: boottime() + ahead)
    view = store.watch()
    say(json.dumps(["", None]))
    while line := await asyncio.to_thread(sys.stdin.readline):  # its watch goes on meanwhile, as a manager's does
        name, *words = json.loads(line)
        if name == "advance":
            ahead += words[0]
            say(json.dumps(["", None]))
            continue
        try:
            answer: Any = await (anext(view) if name == "next_view" else getattr(store, name)(*words))
        except contract.StoreError as trouble:
            say(json.dumps([type(trouble).__name__, str(trouble)]))
            continue
        if isinstance(answer, Snapshot):
            answer = {"revision": answer.revision, "records": dict(answer.records)}
        elif isinstance(answer, tuple):
            answer = [asdict(first) for first in answer]
        say(json.dumps(["", answer]))
        if name == "close":
            return


async def count(path: str, name: str, times: str) -> None:
    """Add one so many times, telling each acknowledged revision; 0 times: for ever."""
    store = await open_store(path, KEEP_EVENTS)
    number = 0
    while times == "0" or number < int(times):
        number += 1
        say(name, number, await add_one(store, name, number, str(os.getpid())))
    await store.close()


async def stop_inside(path: str, sign: str) -> None:
    """Send itself a signal with everything written and nothing committed yet."""
    store = await SqliteStore.open(path)
    trim = store._writer._trim

    def trap(*numbers: int) -> None:
        say("inside")
        os.kill(os.getpid(), signal.Signals[sign])
        trim(*numbers)

    store._writer._trim = trap  # type: ignore[method-assign]
    say("committed", await store.commit((await store.read()).revision, {"frozen": "thawed"}, ["thawed"], "thaw"))
    await store.close()


async def die_in_parts(place: str, calls: str) -> None:
    """Commit 250 records to etcd and be killed before the call of that number (from 0, of those that the commit makes)."""
    store = await open_store(place, KEEP_EVENTS)
    base = (await store.read()).revision
    assert isinstance(store, EtcdStore)
    ask, made = store._client.call, 0

    async def ask_until(name: str, request: Any, patience: float | None = None) -> Any:
        nonlocal made
        if made == int(calls):
            os.kill(os.getpid(), signal.SIGKILL)
        made += 1
        return await ask(name, request, patience)

    store._client.call = ask_until  # type: ignore[method-assign]
    try:
        await store.commit(base, {f"k{n}": "new" for n in range(250)}, ["in parts"], "parts")
    finally:
        store._client.call = ask  # type: ignore[method-assign]
        await store.close()  # a channel of grpc that stays open may keep the program from ending


if __name__ == "__main__":
    role, *given = sys.argv[1:]
    roles = {"serve": serve, "count": count, "stop_inside": stop_inside, "die_in_parts": die_in_parts}
    asyncio.run(roles[role](*given))
