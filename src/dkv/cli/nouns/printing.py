"""CLI: how a verb prints what it got: documented lines, or the objects themselves as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from dkv.cli.errors import CliError
from dkv.cli.nouns.shapes import repr_line
from dkv.cli.output import in_json, moment
from dkv.cli.session import Session
from dkv.client import Json


def show(session: Session, shape: str, found: Json | Iterable[Json] | None) -> None:
    """An object or a list of them, as repr lines or as JSON."""
    if session.screen.as_json:
        session.screen.data(found if found is None or isinstance(found, dict) else list(found))
        return
    for one in [found] if isinstance(found, dict) else found or ():
        session.screen.line(repr_line(shape, one))


def lines(session: Session, data: object, text: Iterable[str]) -> None:
    """The text of a `show`, or what it was made from as JSON."""
    if session.screen.as_json:
        session.screen.data(data)
        return
    for line in text:
        session.screen.line(line)


def say_waiting(session: Session, database: Json) -> None:
    """What a database, its groups or its options wait for, beside the data: for whom, since when, why, and what would help."""
    found = [one for one in database.get("waiting", ()) if one["kind"] in ("domain", "database", "group", "option")]
    if not found:
        return
    for one in found:
        since = f" since {moment(one['since'])}" if one["since"] is not None else ""
        fix = f" fix: {session.screen.spoken(one['fix'])}" if one["fix"] else ""
        session.screen.note(f"{one['subject']} is waiting for {one['for'] or 'a process'}{since}: {one['reason']}.{fix}")


def say_ignored(session: Session, options: Json | None) -> None:
    """Which of the options that were set nothing here goes by: words beside the data."""
    if not options:
        return
    from dkv.wire.options import ignored

    for sentence in ignored(options):
        session.screen.note(f"warning: {sentence}.")


def keep(session: Session, path: str, value: Any) -> None:
    """Write JSON to a file, the way nuocmd does: two spaces, sorted. `-` is stdout. Raises CliError."""
    written = in_json(value, sort_keys=True)
    if path == "-":
        session.screen.block(written)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(written + "\n")
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}.", "Name a file that may be written.") from error


def kept(path: str) -> Any:
    """The JSON of a file. Raises CliError."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error.strerror}.", "Name a file that was captured before.") from error
    except ValueError as error:
        raise CliError(f"{path} is not JSON: {error}.", "Capture it again.") from error
