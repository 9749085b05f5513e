"""CLI room: the verbs that tell what goes on: show waiting, show events; read with click."""

from __future__ import annotations

from urllib.parse import urlencode

import click

from dkv.cli.look import waiting_lines
from dkv.cli.output import Screen
from dkv.cli.recover import MANAGERS, OUTPUT, managers_of
from dkv.cli.trouble import DONE
from dkv.cli.upkeep import ask

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
        screen.line(line)
    if not found:
        screen.note("Nothing waits.")
    return DONE


VERBS = (show,)
