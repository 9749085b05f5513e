"""API: the event log, as one page of JSON or as an endless server-sent stream that resumes where it broke."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header, Path, Query, Request
from fastapi.responses import Response

from dkv.access.principals import Kind
from dkv.api.context import Manager, ManagerContext
from dkv.api.problems import refuse
from dkv.api.routing import Router
from dkv.api.streams import PAGE, POLL, Judging, Streams, judging_of
from dkv.store.contract import StoredEvent, StoreError
from dkv.wire import schemas, views

router = Router(tags=["looking"])

CHAIN = 200  # events that are followed back at most
KEEP_ALIVE = 10.0  # s of silence after which a comment is sent, so that both ends notice a broken line

STREAM: dict[str, Any] = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}

Accept = Annotated[str, Header()]
Resume = Annotated[str, Header(alias="Last-Event-ID")]


@dataclass(frozen=True)
class Wanted:
    """Which events are asked for: those of a store, of a principal; None: of all."""

    store: str | None
    by: str | None

    def of(self, batch: Sequence[StoredEvent]) -> list[schemas.Event]:
        """Those of a batch, as they are shown."""
        shown = [views.event_view(stored) for stored in batch]
        return [event for event in shown if self.store in (None, event["database"]) and self._is_by(event["actor"])]

    def _is_by(self, actor: str) -> bool:
        """Whether it is that principal, written whole or without the kind of its identity."""
        return self.by is None or actor == self.by or any(actor == f"{kind} {self.by}" for kind in Kind)


@router.get("/admin/v1/events", response_model=schemas.Events, responses={200: STREAM})
async def events(
    request: Request,
    manager: Manager,
    after: Annotated[int, Query(ge=0)] = 0,
    store: str | None = None,
    by: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    newest: Annotated[int, Query(ge=0, le=10_000)] = 0,
    accept: Accept = "",
    last_event_id: Resume = "",
) -> schemas.Events | Response:
    """Events with a sequence above `after`, oldest first; `store` keeps those of one store, `by` those of one principal,
    such as `user ann` or `ann`, `newest` only the last ones.

    As JSON when `Accept` asks for application/json, with the sequence of the `oldest` event that is kept (0: there is
    none); else as a text/event-stream for ever, which resumes after `Last-Event-ID`; that wins over `after`.
    """
    wanted = Wanted(store, by)
    if newest:
        after = max(after, await _before_newest(manager, newest, wanted))
    if "application/json" in accept and "text/event-stream" not in accept:
        return {"events": await _page(manager, after, wanted, limit), "oldest": await _oldest(manager)}
    streams: Streams = request.app.state.api.streams
    stream = _stream(manager, streams, _resumed(last_event_id, after), wanted, judging_of(request))
    return streams.answer(request.client.host if request.client else "", stream)


@router.get("/admin/v1/events/{sequence}")
async def why(manager: Manager, sequence: Annotated[int, Path(ge=1, le=2**53)]) -> schemas.Chain:
    """One event, then the one it follows from, and so on to where that began: an order, or what merely happened.

    `trimmed`: the chain goes on with an event that is not in the log any more.
    """
    chain: list[schemas.Event] = []
    cause: int | None = sequence
    while cause is not None and len(chain) < CHAIN:
        event = await _event(manager, cause)
        if event is None:
            break
        chain.append(event)
        cause = event["cause"]
    if not chain:
        raise refuse(
            "not_found",
            f"There is no event {sequence} in the log.",
            f"It holds {await _oldest(manager)} to {await manager.event_log.newest()}.",
        )
    return {"events": chain, "trimmed": cause is not None}


async def _event(manager: ManagerContext, sequence: int) -> schemas.Event | None:
    batch = await manager.event_log.events(sequence - 1, 1) if sequence > 0 else ()
    return views.event_view(batch[0]) if batch and batch[0].sequence == sequence else None


async def _oldest(manager: ManagerContext) -> int:
    batch = await manager.event_log.events(0, 1)
    return batch[0].sequence if batch else 0


def _resumed(last_event_id: str, after: int) -> int:
    if not last_event_id:
        return after
    if not re.fullmatch("[0-9]{1,18}", last_event_id):
        raise refuse("bad_value", f"Last-Event-ID is {last_event_id!r}.", "Send the id of the last event you saw.")
    return max(after, int(last_event_id))


async def _page(manager: ManagerContext, after: int, wanted: Wanted, limit: int) -> list[schemas.Event]:
    events: list[schemas.Event] = []
    while True:
        batch = await manager.event_log.events(after, PAGE)
        events += wanted.of(batch)
        if len(batch) < PAGE or len(events) >= limit:
            return events[:limit]
        after = batch[-1].sequence


async def _before_newest(manager: ManagerContext, count: int, wanted: Wanted) -> int:
    """The sequence after which the newest `count` wanted events follow: read backwards, page by page."""
    end = await manager.event_log.newest()
    events: list[schemas.Event] = []
    while end > 0 and len(events) < count:
        start = max(0, end - PAGE)
        batch = [event for event in await manager.event_log.events(start, PAGE) if event.sequence <= end]
        if not batch:
            break
        events = wanted.of(batch) + events
        end = start
    return int(events[-count]["sequence"]) - 1 if len(events) >= count else 0


async def _stream(manager: ManagerContext, streams: Streams, after: int, wanted: Wanted, judging: Judging) -> AsyncIterator[str]:
    """Events as they happen, as long as who reads them is allowed to. None has a name of its own: a browser's EventSource gives
    `onmessage` only those without.
    """
    yield ": events follow\n\n"
    clock = asyncio.get_running_loop().time
    written_at = judged_at = clock()
    while not manager.closing():
        if clock() >= judged_at + judging.every:
            judged_at = clock()
            if not await judging.is_allowed():
                return
        try:
            batch = await manager.event_log.events(after, PAGE)
        except StoreError:
            batch = []
            await asyncio.sleep(POLL)
        for event in wanted.of(batch):
            written_at = clock()
            yield f"id: {event['sequence']}\ndata: {json.dumps(event)}\n\n"
        if batch:
            after = batch[-1].sequence
        else:
            await streams.beyond(after, max(0.0, min(written_at + KEEP_ALIVE, judged_at + judging.every) - clock()))
        if clock() >= written_at + KEEP_ALIVE:
            written_at = clock()
            yield ": nothing happened\n\n"
