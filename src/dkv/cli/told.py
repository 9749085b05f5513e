"""CLI room: the verbs that tell what goes on: show waiting, show events; read with click."""

from __future__ import annotations

import json
from contextlib import suppress
from urllib.parse import urlencode

import click

from dkv.cli.happened import chain, logged
from dkv.cli.look import waiting_lines
from dkv.cli.output import Screen
from dkv.cli.recover import MANAGERS, OUTPUT, managers_of
from dkv.cli.session import Session
from dkv.cli.trouble import DONE
from dkv.cli.upkeep import ask
from dkv.client import Json, ManagerClient, ManagerUnreachable

AGAIN = 0.5   # s until another manager is asked to tell on
ONE_STORE = click.option("--db-name", help="only this store or database")


@click.group(help="Tell what goes on: waiting, events. The other nouns of show are read without this.")
def show() -> None:
    """Verbs that tell."""


@show.command("waiting", help="Everything that waits: for whom, since when, why, and what would help.")
@ONE_STORE
@MANAGERS
@OUTPUT
@click.pass_obj
def show_waiting(screen: Screen, *, db_name: str | None, managers: str | None, output: str) -> int:
    """One line for each thing that is not where it belongs."""
    screen.as_json = output == "json"
    _, client = managers_of(screen, managers)
    if db_name:
        client.store(db_name)  # refused when there is none of that name
    found = ask(client, "GET", "/waiting" + (f"?{urlencode({'store': db_name})}" if db_name else ""))["waiting"]
    if screen.as_json:
        screen.data(found)
    for line in [] if screen.as_json else waiting_lines(found):
        screen.line(screen.spoken(line))
    if not found:
        screen.note("Nothing waits.")
    return DONE


# Events ------------------------------------------------------------------------------------------------------------


@show.command("events", help="What happened, why, who asked, and which event each follows from; --why N tells a chain.")
@ONE_STORE
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, help="how many of the newest [50]")
@click.option("--follow", is_flag=True, help="go on with what happens now, until Ctrl-C")
@click.option("--why", type=click.IntRange(min=1), help="this event, what it follows from, and so on to where that began")
@MANAGERS
@OUTPUT
@click.pass_obj
def show_events(
    screen: Screen, *, db_name: str | None, limit: int, follow: bool, why: int | None, managers: str | None, output: str
) -> int:  # fmt: skip
    """The log of the domain, or one chain of it."""
    screen.as_json = output == "json"
    session, client = managers_of(screen, managers)
    if why is not None:
        if follow or db_name:
            raise click.UsageError("--why takes no --follow and no --db-name: a chain is one event's.")
        return _told_why(screen, ask(client, "GET", f"/events/{why}"))
    if db_name:
        client.store(db_name)  # refused when there is none of that name
    wanted = {"newest": limit, "limit": limit} | ({"store": db_name} if db_name else {})
    found = ask(client, "GET", f"/events?{urlencode(wanted)}")
    if follow:
        _follow(session, client, found["events"], db_name, managers)
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


def _follow(session: Session, client: ManagerClient, events: list[Json], store: str | None, managers: str | None) -> None:
    """Print what there is and what comes, for ever; when a manager goes away another one tells on where it broke."""
    after = 0
    for event in events:
        after = _print(session.screen, event)
    while True:
        with suppress(ManagerUnreachable):
            for event in client.follow_events(after, store):
                after = _print(session.screen, event)
        session.sleep(AGAIN)
        _, client = managers_of(session.screen, managers)


def _print(screen: Screen, event: Json) -> int:
    screen.line(json.dumps(event) if screen.as_json else logged(event))
    return int(event["sequence"])


VERBS = (show,)
