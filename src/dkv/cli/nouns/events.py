"""CLI: the verbs that tell what goes on: show waiting, show events."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlencode

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE, Usage
from dkv.cli.event_text import chain, logged
from dkv.cli.get_store import waiting_lines
from dkv.cli.nouns.dialect_client import DB_NAME, SHARED
from dkv.cli.nouns.native_client import ask, client_of
from dkv.cli.output import Screen
from dkv.cli.session import Session
from dkv.client import Json, ManagerClient, ManagerUnreachable

AGAIN = 0.5  # s until another manager is asked to tell on
ONE_STORE = DB_NAME._replace(required=False, help="only this store or database")

VERBS = (
    Cmdlet(
        "show waiting",
        "Everything that waits: for whom, since when, why, and what would help.",
        "nouns.events:show_waiting",
        (ONE_STORE, *SHARED),
    ),
    Cmdlet(
        "show events",
        "What happened, why, who asked, and which event each follows from; --why N tells a chain.",
        "nouns.events:show_events",
        (
            ONE_STORE,
            Param("--limit", "number", "how many of the newest", default=50, high=10_000),
            Param("--follow", "switch", "go on with what happens now, until Ctrl-C", default=False),
            Param("--why", "number", "this event, what it follows from, and so on to where that began", high=10**11),
            *SHARED,
        ),
    ),
)


def show_waiting(session: Session, bound: Bound) -> int:
    """One line for each thing that is not where it belongs."""
    screen, client, name = session.screen, client_of(session, bound["--managers"]), bound["--db-name"]
    if name:
        client.store(name)  # refused when there is none of that name
    found = ask(session, client, "GET", "/waiting" + (f"?{urlencode({'store': name})}" if name else ""))["waiting"]
    if screen.as_json:
        screen.data(found)
    for line in [] if screen.as_json else waiting_lines(found):
        screen.line(screen.spoken(line))
    if not found:
        screen.note("Nothing waits.")
    return DONE


# Events ------------------------------------------------------------------------------------------------------------


def show_events(session: Session, bound: Bound) -> int:
    """The log of the domain, or one chain of it."""
    if bound["--why"] and (bound["--follow"] or bound["--db-name"]):
        raise Usage("--why takes no --follow and no --db-name: a chain is one event's.", "Leave them out.")
    client = client_of(session, bound["--managers"])
    if bound["--why"]:
        return _told_why(session.screen, ask(session, client, "GET", f"/events/{bound['--why']}"))
    return _told_newest(session, client, bound)


def _told_newest(session: Session, client: ManagerClient, bound: Bound) -> int:
    screen, name, limit = session.screen, bound["--db-name"], bound["--limit"]
    if name:
        client.store(name)  # refused when there is none of that name
    wanted = {"newest": limit, "limit": limit} | ({"store": name} if name else {})
    found = ask(session, client, "GET", f"/events?{urlencode(wanted)}")
    if bound["--follow"]:
        _follow(session, client, found["events"], bound)
    if screen.as_json:
        screen.data(found["events"])
        return DONE
    for event in found["events"]:
        screen.line(logged(event))
    if len(found["events"]) < limit and found["oldest"] > 1:
        screen.note(f"Events before #{found['oldest']} are not kept any more.")
    if not found["events"]:
        screen.note("Nothing happened yet.")
    return DONE


def _told_why(screen: Screen, found: Json) -> int:
    if screen.as_json:
        screen.data(found)
        return DONE
    for text in chain(found["events"], found["trimmed"]):
        screen.line(text)
    return DONE


def _follow(session: Session, client: ManagerClient, events: list[Json], bound: Bound) -> None:
    """Print what there is and what comes, for ever; when a manager goes away another one tells on where it broke."""
    after = 0
    for event in events:
        after = _print(session.screen, event)
    while True:
        with suppress(ManagerUnreachable):
            for event in client.follow_events(after, bound["--db-name"]):
                after = _print(session.screen, event)
        session.sleep(AGAIN)
        client = client_of(session, bound["--managers"])


def _print(screen: Screen, event: Json) -> int:
    if screen.as_json:
        screen.data(event, indent=None)
    else:
        screen.line(logged(event))
    return int(event["sequence"])
