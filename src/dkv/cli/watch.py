"""CLI: `dkv watch`: the domain as it lives, on one screen, from the same live view that the console draws."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from dkv.cli import live_table
from dkv.cli.binding import Bound
from dkv.cli.errors import DONE
from dkv.cli.nouns.common import native
from dkv.cli.output import Screen, columns_of, waiting_lines
from dkv.cli.session import Session
from dkv.cli.status import troubles
from dkv.client import ClientError

if TYPE_CHECKING:
    from dkv.wire import schemas

EVENTS = 10  # of the newest that are shown at most
AGAIN = 1.0  # s until a manager is asked again after the stream broke


def watch(session: Session, bound: Bound) -> int:
    """Until Ctrl-C; once with --once, as JSON, and where standard output is no terminal."""
    screen, client = session.screen, native(session, bound)
    if screen.as_json:
        screen.data(client.live())
    elif bound["--once"] or not screen.terminal:
        width = columns_of(screen.out)
        screen.lines(live_table.lines(_picture(screen, client.live(), width), width))
    else:
        try:
            _follow(session, bound)
        except KeyboardInterrupt:
            pass  # the way to end it
    return DONE


def _follow(session: Session, bound: Bound) -> None:
    view: dict[str, Any] = {}
    with live_table.drawn() as terminal:
        while True:
            try:
                for change in native(session, bound).follow_live():
                    merge(view, change)
                    terminal.put(_picture(session.screen, cast("schemas.Live", view), terminal.size[0]))
                why = "The manager ended the stream."
            except ClientError as error:
                why = str(error)
            if view:
                terminal.put(_picture(session.screen, cast("schemas.Live", view), terminal.size[0], why))
            time.sleep(AGAIN)


def merge(view: dict[str, Any], change: Mapping[str, Any]) -> None:
    """What a message of the live view changes."""
    events = view.get("events", [])
    newest = events[-1]["sequence"] if events else 0
    fresh = [event for event in change.get("events", ()) if event and event["sequence"] > newest]
    view.update(change)
    view["events"] = [*events, *fresh][-EVENTS:]


def _picture(screen: Screen, view: schemas.Live, width: int, broken: str = "") -> Any:
    stores, waiting = view.get("stores") or [], view.get("waiting") or []
    notes = waiting_lines(screen, waiting)
    events = [f"{_clock(event['at'])} {event['text']}" for event in view.get("events", [])[-EVENTS:] if event]
    return live_table.picture(_answer(view, stores, waiting, broken), stores, notes, events, width)


def _answer(view: schemas.Live, stores: Sequence[schemas.Store], waiting: Sequence[schemas.BlockedItem], broken: str) -> str:
    """Whether all is well, and as of when that is so."""
    as_of = view.get("asOf")
    if broken:
        return f"As of {_clock(view['at'])}: {broken} Trying again."
    if as_of:
        return f"As of {_clock(as_of['since'])}: the manager waits for the domain, {as_of['why']}. Engines go on serving."
    servers = len(view["domain"]["servers"]) if view.get("domain") else 0
    extent = f"{servers} server{'' if servers == 1 else 's'}, {len(stores)} store{'' if len(stores) == 1 else 's'}"
    return f"{_clock(view['at'])}  {' '.join(troubles(stores, waiting)) or 'All is well.'} {extent}."


def _clock(at: int) -> str:
    return datetime.fromtimestamp(at / 1000).astimezone().strftime("%H:%M:%S")
