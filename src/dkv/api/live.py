"""API: the live view: what a console shows, rendered once for each change and sent to whoever looks, as one server-sent stream.

While nobody looks nothing runs. While somebody does, a commit renders the view, at most EVERY s; and once a second the numbers of
all engines are read, here and at the other managers. They are kept in a ring of some minutes, which no other manager has.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

from fastapi import Header, Request
from fastapi.responses import Response

from dkv.access.roles import rights_of
from dkv.api.context import Manager, ManagerContext
from dkv.api.latencies import Latencies
from dkv.api.numbers import own_numbers
from dkv.api.origin import CALLER
from dkv.api.routing import Router
from dkv.api.streams import POLL, Judging, judging_of
from dkv.control.submit import View
from dkv.domain.identities import roles_of
from dkv.domain.model import Server, State
from dkv.domain.unwritten import AsOf
from dkv.store.contract import StoreError
from dkv.wire import schemas, views
from dkv.wire.hotcopy import hot_copy_view
from dkv.wire.maintenance import waiting_view

log = logging.getLogger("dkv.api")
router = Router(tags=["looking"])

EVERY = 0.25  # s between two renderings at least
AGAIN = 10.0  # s after which the view is rendered although nothing was committed: certificates grow old
PERIOD = 1.0  # s between two samples of the numbers
ASKED_AT_ONCE = 5  # other managers of a domain that are asked every PERIOD; of more each is asked less often
PATIENCE = 1.0  # s that a sample waits for another manager
RING_S = 600  # s that the ring reaches back
RING_CHARACTERS = 2_000_000  # that it holds at most, as JSON
NEWEST_EVENTS = 200
NEWEST_TOMBSTONES = 20
NEWEST_COPIES = 10

STREAM: dict[str, Any] = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
Json = Any
Accept = Annotated[str, Header()]


@router.get("/admin/v1/live", response_model=schemas.Live, responses={200: STREAM})
async def live(request: Request, manager: Manager, accept: Accept = "") -> schemas.Live | Response:
    """Everything that a console shows. As JSON when `Accept` asks for application/json; else as a text/event-stream for ever,
    whose first message is whole and whose others have the fields that changed. Each message has no name and is one JSON object.

    While the manager can neither change nor read the domain's state, `asOf` says since when, and the rest is as it was then.
    """
    api = request.app.state.api
    hub: Hub = api.hub
    if "application/json" in accept and "text/event-stream" not in accept:
        return await hub.once(await _reader(request, manager))
    stream = hub.stream(await _reader(request, manager), judging_of(request))
    answer: Response = api.streams.answer(request.client.host if request.client else "", stream)
    return answer


async def _reader(request: Request, manager: ManagerContext) -> schemas.Reader:
    caller = request.scope.get(CALLER)
    if caller is None:
        return {"principal": None, "rights": sorted(rights_of(None, {})[0]), "otherRoles": False}
    made: Mapping[str, Any] = {}
    with suppress(StoreError):
        made = roles_of((await manager.submitter.view()).state)
    rights, others = rights_of(caller, made)
    return {"principal": str(caller.principal), "rights": sorted(rights), "otherRoles": others}


# What is shown -------------------------------------------------------------------------------------------------------


def parts_of(manager: ManagerContext, view: View, leader: str, judged: bool) -> Iterator[tuple[str, Callable[[], Json]]]:
    """Each part of the live view that follows from the state, and what makes it."""
    state, now = view.state, manager.clock()
    control: Any = "on" if judged else "off"
    yield "revision", lambda: view.revision
    yield "asOf", lambda: _as_of(state)
    yield "domain", lambda: views.domain_view(state, view.revision, leader, manager.server_id, now, control=control)
    yield "stores", lambda: [views.store_view(state, d, view.revision, judged=judged) for d in views.stores_of(state)]
    yield "waiting", lambda: waiting_view(state, None, now)
    yield "tombstones", lambda: views.tombstones_view(state)[:NEWEST_TOMBSTONES]
    yield (
        "hotCopies",
        lambda: [hot_copy_view(state, copy) for _, copy in sorted(state.copies.items(), reverse=True)][:NEWEST_COPIES],
    )


def _as_of(state: State) -> schemas.AsOf | None:
    unwritten = state.unwritten if isinstance(state, AsOf) else None
    return {"since": unwritten.at, "why": unwritten.why, "hint": str(unwritten.hint)} if unwritten else None


def _made(name: str, make: Callable[[], Json]) -> Json:
    """A part, or null if it cannot be made: one that is broken must not take the others with it."""
    try:
        return make()
    except Exception:
        log.exception("the part %s of the live view could not be made", name)
        return None


# The numbers ---------------------------------------------------------------------------------------------------------


async def sample_of(manager: ManagerContext, latencies: Latencies, servers: Mapping[str, Server]) -> schemas.Sample:
    """The numbers of these servers' engines now. A manager that does not answer in time is without numbers."""
    others = [server for name, server in sorted(servers.items()) if name != manager.server_id]
    clock = asyncio.get_running_loop().time
    asked = asyncio.gather(*(_numbers_at(manager, server, clock) for server in others))
    own, answers = await asyncio.gather(own_numbers(manager, latencies), asked)
    engines = [*own["engines"], *(engine for _, numbers in answers for engine in numbers)]
    ages = await _lease_ages(manager)
    heard: list[schemas.ManagerHeard] = [
        {"server": server.server_id, "answeredIn": took, "leaseAge": ages.get(server.server_id)}
        for server, (took, _) in zip(others, answers, strict=True)
    ]
    return {"at": manager.clock(), "engines": engines, "managers": heard}


async def _numbers_at(
    manager: ManagerContext, server: Server, clock: Callable[[], float]
) -> tuple[float | None, list[schemas.EngineNumbers]]:
    if not server.alive:
        return None, []
    began = clock()
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await manager.peers.fetch(server, "/admin/v1/numbers", PATIENCE)
        return round((clock() - began) * 1000, 1), answer["engines"]
    except (OSError, ValueError, KeyError) as error:
        log.debug("no numbers from %s: %r", server.server_id, error)
        return None, []


async def _lease_ages(manager: ManagerContext) -> Mapping[str, int]:
    try:
        return await manager.peers.lease_ages()
    except StoreError:
        return {}


# The hub -------------------------------------------------------------------------------------------------------------


class Hub:
    """What all who look at one manager are sent. Each part is kept as text, with the version at which it changed last; a reader
    that is slow misses versions, never the newest.
    """

    def __init__(self, manager: ManagerContext, latencies: Latencies, judged: bool) -> None:
        self._manager = manager
        self._latencies = latencies
        self._judged = judged
        self.readers = 0  # streams that are open
        self._tasks: list[asyncio.Task[None]] = []
        self._version = 0
        self._parts: dict[str, tuple[int, str]] = {}
        self._messages: dict[tuple[int, int], str] = {}  # of this version, by what a reader has
        self._events: deque[tuple[int, str]] = deque(maxlen=NEWEST_EVENTS)
        self._ring: deque[tuple[int, str]] = deque()
        self._servers: Mapping[str, Server] = {}
        self._failed_at = 0
        self._committed = asyncio.Event()
        self._changed = asyncio.Event()

    async def once(self, reader: schemas.Reader) -> schemas.Live:
        """The view as it is now, whole. Raises StoreError."""
        manager = self._manager
        view, leader = await manager.submitter.view(), await manager.peers.leader_server()
        newest = await manager.event_log.newest()
        stored = await manager.event_log.events(max(0, newest - NEWEST_EVENTS), NEWEST_EVENTS)
        whole: Any = {"at": manager.clock(), "reader": reader, "events": [views.event_view(event) for event in stored]}
        whole |= {name: _made(name, make) for name, make in parts_of(manager, view, leader, self._judged)}
        whole["numbers"] = await sample_of(manager, self._latencies, view.state.servers)
        answer: schemas.Live = whole
        return answer

    async def stream(self, reader: schemas.Reader, judging: Judging) -> AsyncIterator[str]:
        """What a reader is sent, as long as it may read."""
        self._enter()
        try:
            async for message in self._messages_to(reader, judging):
                yield message
        finally:
            self._leave()

    async def _messages_to(self, reader: schemas.Reader, judging: Judging) -> AsyncIterator[str]:
        clock = asyncio.get_running_loop().time
        judged_at, version, after = clock(), 0, 0
        beginning = f'"reader":{json.dumps(reader)},"history":[{",".join(text for _, text in self._ring)}],'
        while not self._manager.closing():
            if clock() >= judged_at + judging.every:
                judged_at = clock()
                if not await judging.is_allowed():
                    return
            if "asOf" in self._parts and self._version > version:  # the state was looked at
                message = self._message(version, after)
                version, after = self._version, self._events[-1][0] if self._events else after
                yield f'data: {{{beginning}"at":{self._manager.clock()}{message}}}\n\n'
                beginning = ""
            else:
                await self._newer(judged_at + judging.every - clock())

    def _message(self, version: int, after: int) -> str:
        """The fields that changed since a version, and the events after that sequence; made once for all who have the same."""
        if (version, after) not in self._messages:
            fields = [f',"{name}":{text}' for name, (changed, text) in self._parts.items() if changed > version]
            if events := [text for sequence, text in self._events if sequence > after]:
                fields.append(f',"events":[{",".join(events)}]')
            self._messages[version, after] = "".join(fields)
        return self._messages[version, after]

    async def _newer(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._changed.wait()

    # Who looks -------------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        self.readers += 1
        if not self._tasks:
            self._committed.set()
            self._tasks = [self._begun(task) for task in (self._watch(), self._render(), self._sample(), self._until_closing())]

    def _begun(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(_say_why)
        return task

    def _leave(self) -> None:
        self.readers -= 1
        if not self.readers:
            self._stop()

    def _stop(self) -> list[asyncio.Task[None]]:
        ended, self._tasks = self._tasks, []
        for task in ended:
            task.cancel()
        self._parts.clear()  # who comes next is not shown what is old by then
        self._messages.clear()
        self._events.clear()
        return ended

    async def close(self) -> None:
        """Look no more."""
        await asyncio.gather(*self._stop(), return_exceptions=True)

    # What changes ----------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            with suppress(StoreError):
                async for _ in self._manager.event_log.watch():
                    self._committed.set()
            self._committed.set()
            await asyncio.sleep(POLL)

    async def _render(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._committed.clear()
            await self._look()
            rendered_at = clock()
            waits = PERIOD if self._manager.readiness() else AGAIN
            with suppress(TimeoutError):
                async with asyncio.timeout(waits):
                    await self._committed.wait()
            await asyncio.sleep(max(0.0, rendered_at + EVERY - clock()))

    async def _look(self) -> None:
        manager = self._manager
        try:
            view = await manager.submitter.view()
            await self._follow_events()
            leader = await manager.peers.leader_server()
        except StoreError as error:
            self._failed_at = self._failed_at or manager.clock()
            self._put({"asOf": {"since": self._failed_at, "why": error.detail or "it is away", "hint": str(error.hint)}})
            return
        self._failed_at = 0
        self._servers = view.state.servers
        self._put({name: _made(name, make) for name, make in parts_of(manager, view, leader, self._judged)})

    async def _follow_events(self) -> None:
        known = self._events[-1][0] if self._events else 0
        after = max(known, await self._manager.event_log.newest() - NEWEST_EVENTS)
        for stored in await self._manager.event_log.events(after, NEWEST_EVENTS):
            event = _made(f"event {stored.sequence}", partial(views.event_view, stored))
            self._events.append((stored.sequence, json.dumps(event, separators=(",", ":"))))

    async def _sample(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            sample = await sample_of(self._manager, self._latencies, self._servers)
            self._put({"numbers": sample})
            self._keep(sample["at"], self._parts["numbers"][1])
            period = PERIOD * max(1.0, (len(self._servers) - 1) / ASKED_AT_ONCE)
            await asyncio.sleep(max(POLL, began + period - clock()))

    def _keep(self, at: int, text: str) -> None:
        self._ring.append((at, text))
        characters = sum(len(kept) for _, kept in self._ring)
        while self._ring and (self._ring[0][0] < at - RING_S * 1000 or characters > RING_CHARACTERS):
            characters -= len(self._ring.popleft()[1])

    def _put(self, parts: Mapping[str, Json]) -> None:
        """Keep what changed, and wake the readers if anything did."""
        texts = {name: json.dumps(part, separators=(",", ":")) for name, part in parts.items()}
        changed = {name: text for name, text in texts.items() if self._parts.get(name, (0, ""))[1] != text}
        if changed:
            self._version += 1
            self._messages.clear()
            self._parts |= {name: (self._version, text) for name, text in changed.items()}
            self._wake()

    def _wake(self) -> None:
        past, self._changed = self._changed, asyncio.Event()
        past.set()

    async def _until_closing(self) -> None:
        while not self._manager.closing():
            await asyncio.sleep(POLL)
        self._wake()


def _say_why(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception():
        log.error("a task of the live view failed", exc_info=task.exception())
