"""API: the event log, as one page of JSON or as an endless server-sent stream that resumes where it broke."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import Header, Path, Query, Request
from fastapi.responses import Response

from dkv.api.context import Manager, ManagerContext
from dkv.api.problems import refuse
from dkv.api.routing import Router
from dkv.api.streams import PAGE, POLL, Streams
from dkv.store.contract import StoredEvent, StoreError
from dkv.wire import schemas, views

router = Router(tags=["looking"])

CHAIN = 200  # events that are followed back at most
KEEP_ALIVE = 10.0  # s of silence after which a comment is sent, so that both ends notice a broken line

STREAM: dict[str, Any] = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}

Accept = Annotated[str, Header()]
Resume = Annotated[str, Header(alias="Last-Event-ID")]


@router.get("/admin/v1/events", response_model=schemas.Events, responses={200: STREAM})
async def events(
    request: Request,
    manager: Manager,
    after: Annotated[int, Query(ge=0)] = 0,
    store: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    newest: Annotated[int, Query(ge=0, le=10_000)] = 0,
    accept: Accept = "",
    last_event_id: Resume = "",
) -> schemas.Events | Response:
    """Events with a sequence above `after`, oldest first; `store` keeps those of one store, `newest` only the last ones.

    As JSON when `Accept` asks for application/json, with the sequence of the `oldest` event that is kept (0: there is
    none); else as a text/event-stream for ever, which resumes after `Last-Event-ID`; that wins over `after`.
    """
    if newest:
        after = max(after, await _before_newest(manager, newest, store))
    if "application/json" in accept and "text/event-stream" not in accept:
        return {"events": await _page(manager, after, store, limit), "oldest": await _oldest(manager)}
    streams: Streams = request.app.state.api.streams
    stream = _stream(manager, streams, _resumed(last_event_id, after), store)
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


async def _page(manager: ManagerContext, after: int, store: str | None, limit: int) -> list[schemas.Event]:
    events: list[schemas.Event] = []
    while True:
        batch = await manager.event_log.events(after, PAGE)
        events += _of(batch, store)
        if len(batch) < PAGE or len(events) >= limit:
            return events[:limit]
        after = batch[-1].sequence


async def _before_newest(manager: ManagerContext, count: int, store: str | None) -> int:
    """The sequence after which the newest `count` events of a store follow: read backwards, page by page."""
    end = await manager.event_log.newest()
    events: list[schemas.Event] = []
    while end > 0 and len(events) < count:
        start = max(0, end - PAGE)
        batch = [event for event in await manager.event_log.events(start, PAGE) if event.sequence <= end]
        if not batch:
            break
        events = _of(batch, store) + events
        end = start
    return int(events[-count]["sequence"]) - 1 if len(events) >= count else 0


def _of(batch: Sequence[StoredEvent], store: str | None) -> list[schemas.Event]:
    shown = [views.event_view(stored) for stored in batch]
    return [event for event in shown if store is None or event["database"] == store]


async def _stream(manager: ManagerContext, streams: Streams, after: int, store: str | None) -> AsyncIterator[str]:
    """Events as they happen. None has a name of its own: a browser's EventSource gives `onmessage` only those without."""
    yield ": events follow\n\n"
    clock = asyncio.get_running_loop().time
    written_at = clock()
    while not manager.closing():
        try:
            batch = await manager.event_log.events(after, PAGE)
        except StoreError:
            batch = []
            await asyncio.sleep(POLL)
        for event in _of(batch, store):
            written_at = clock()
            yield f"id: {event['sequence']}\ndata: {json.dumps(event)}\n\n"
        if batch:
            after = batch[-1].sequence
        else:
            await streams.beyond(after, max(0.0, written_at + KEEP_ALIVE - clock()))
        if clock() >= written_at + KEEP_ALIVE:
            written_at = clock()
            yield ": nothing happened\n\n"
