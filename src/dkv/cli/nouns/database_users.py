"""CLI: users of databases: made, given new passwords, deleted, listed; and whether a database is open to every client.

A password is never needed on a command line: it comes from a file or from standard input, or it is made here and printed once.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE, CliError
from dkv.cli.nouns.common import CHANGES, DB_NAME, SHARED, native, only_one
from dkv.cli.nouns.processes import TIMEOUT
from dkv.cli.output import moment, table
from dkv.cli.session import Session
from dkv.client import Json
from dkv.client.manager import quoted

if TYPE_CHECKING:
    from dkv.wire import schemas

RANDOM_BYTES = 24  # of a password that is made here
LONGEST_FILE = 4_096  # characters of a password's file that are read

NAME = Param("--name", "text", "the user's name", required=True)
PASSWORD = Param("--password-file", "text", "the file that holds the password; -: the first line of standard input")
GENERATED = "Without --password-file its password is made here and printed, only this once."

VERBS = (
    Cmdlet(
        "create database-user",
        f"Creates a user whom every engine of a database lets in. {GENERATED}",
        "nouns.database_users:create",
        (
            DB_NAME,
            NAME,
            Param("--read-only", "switch", "it may read, and change nothing", default=False),
            Param("--keys", "words", "patterns of the keys that it may use, such as orders:*; default: all"),
            Param("--no-scripting", "switch", "it may run no scripts and functions", default=False),
            Param(
                "--monitor", "switch", "for exporters: it sees numbers, connections and slow commands, and no key", default=False
            ),
            PASSWORD,
            *CHANGES,
        ),
    ),
    Cmdlet(
        "rotate database-user",
        f"Gives a user a new password beside the old one; --drop-old ends the old one. {GENERATED}",
        "nouns.database_users:rotate",
        (
            DB_NAME,
            NAME,
            Param("--drop-old", "switch", "take the newest password only, once every client uses it", default=False),
            PASSWORD,
            *CHANGES,
        ),
    ),
    Cmdlet(
        "delete database-user",
        "Has the engines of a database let a user in no more; its connections end.",
        "nouns.database_users:delete",
        (DB_NAME, NAME, *CHANGES),
    ),
    Cmdlet("get database-users", "Lists the users of a database as data.", "nouns.database_users:get", (DB_NAME, *SHARED)),
    Cmdlet("show database-users", "Lists the users of a database.", "nouns.database_users:show", (DB_NAME, *SHARED)),
    Cmdlet(
        "rotate secret",
        "Changes the managers' own password on the engines of a database, while everything runs, and waits for its end.",
        "nouns.database_users:rotate_secret",
        (DB_NAME, TIMEOUT, *CHANGES),
    ),
    Cmdlet(
        "set database-access",
        "Says whom the engines of a database let in: its users only, or with --open every client.",
        "nouns.database_users:set_access",
        (
            DB_NAME,
            Param("--open", "switch", "every client, without a password", default=False),
            Param("--users-only", "switch", "its users only", default=False),
            *CHANGES,
        ),
    ),
)


def create(session: Session, bound: Bound) -> int:
    """The password alone on standard output, if it was made here."""
    password, made = _password(bound)
    body: Json = {
        "name": bound["--name"],
        "password": password,
        "readOnly": bound["--read-only"],
        "keys": bound["--keys"] or [],
        "scripting": not bound["--no-scripting"],
    } | ({"monitor": True} if bound["--monitor"] else {})
    native(session, bound).change("POST", _path(bound), body)
    _say(session, bound, password if made else "", f"User {bound['--name']} of {bound['--db-name']} is let in from now on.")
    return DONE


def rotate(session: Session, bound: Bound) -> int:
    """First the new password, later the end of the old one: between the two clients change over."""
    only_one(bound, "--drop-old", "--password-file")
    path, name = f"{_path(bound)}/{quoted(bound['--name'])}/passwords", bound["--name"]
    if bound["--drop-old"]:
        native(session, bound).change("DELETE", path)
        _say(session, bound, "", f"Only the newest password of {name} is taken from now on.")
        return DONE
    password, made = _password(bound)
    native(session, bound).change("POST", path, {"password": password})
    again = f"dkv rotate database-user --db-name {bound['--db-name']} --name {name} --drop-old"
    _say(session, bound, password if made else "", f"The old password is taken too, until: {again}")
    return DONE


def delete(session: Session, bound: Bound) -> int:
    """One request."""
    native(session, bound).change("DELETE", f"{_path(bound)}/{quoted(bound['--name'])}")
    return DONE


def get(session: Session, bound: Bound) -> int:
    """The users as JSON."""
    session.screen.data(_users(session, bound))
    return DONE


def show(session: Session, bound: Bound) -> int:
    """A table of the users."""
    users = _users(session, bound)
    if session.screen.as_json:
        session.screen.data(users)
        return DONE
    for line in table([("User", "May", "Keys", "Passwords", "Changed"), *map(_row, users)]) if users else ():
        session.screen.line(line)
    if not users:
        session.screen.note(f"{bound['--db-name']} has no users.")
    return DONE


def rotate_secret(session: Session, bound: Bound) -> int:
    """Ask for it, then wait until no engine takes the old one any more."""
    client, name = native(session, bound), bound["--db-name"]
    phase = client.change("POST", f"/stores/{quoted(name)}/secret")["phase"]
    if phase == "DONE" or not bound["--timeout"]:
        return DONE

    def lacking() -> list[str]:
        return [item["subject"] for item in client.store(name)["waiting"] if item["kind"] == "users"]

    left = session.until(lacking, lambda left: not left, bound["--timeout"], progress=lambda left: f"waiting: {', '.join(left)}")
    if left:
        raise CliError(
            f"{', '.join(left)} did not take it in time. The change goes on.", f"See dkv show waiting --db-name {name}."
        )
    return DONE


def set_access(session: Session, bound: Bound) -> int:
    """One request."""
    only_one(bound, "--open", "--users-only")
    if not bound["--open"] and not bound["--users-only"]:
        raise CliError("It is not said whom the database is to let in.", "Give --open or --users-only.")
    native(session, bound).change("POST", f"/stores/{quoted(bound['--db-name'])}/access", {"open": bound["--open"]})
    return DONE


def _users(session: Session, bound: Bound) -> list[schemas.DatabaseUser]:
    users: list[schemas.DatabaseUser] = native(session, bound).read(_path(bound))["users"]
    return users


def _path(bound: Bound) -> str:
    return f"/stores/{quoted(bound['--db-name'])}/users"


def _row(user: schemas.DatabaseUser) -> tuple[str, ...]:
    if user["monitor"]:
        return (user["name"], "see numbers and logs", "none", str(user["passwords"]), moment(user["changedAt"]))
    may = ("read" if user["readOnly"] else "read and write") + ("" if user["scripting"] else ", no scripts")
    return (user["name"], may, " ".join(user["keys"]) or "all", str(user["passwords"]), moment(user["changedAt"]))


def _say(session: Session, bound: Bound, password: str, remark: str) -> None:
    if bound["--plan"]:
        return
    if session.screen.as_json:
        session.screen.data({"name": bound["--name"], **({"password": password} if password else {})})
        return
    if password:
        session.screen.value(password)
    session.screen.note(remark)


# Passwords -----------------------------------------------------------------------------------------------------------


def _password(bound: Bound) -> tuple[str, bool]:
    """The password that was given, or a new one, and whether it was made here. Raises CliError."""
    if bound["--password-file"] == "-":
        return checked(sys.stdin.readline() if sys.stdin else "", "standard input"), False
    if bound["--password-file"]:
        return checked(content(bound["--password-file"]), bound["--password-file"]), False
    return os.urandom(RANDOM_BYTES).hex(), True


def content(path: str) -> str:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read(LONGEST_FILE)
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{path} cannot be read: {error}.", "Give a file in UTF-8 that holds the password alone.") from error


def checked(text: str, where: str) -> str:
    """The text without the line end that editors add."""
    password = text.removesuffix("\n").removesuffix("\r")
    if not password:
        raise CliError(f"There is no password in {where}.", "Write it there, or leave the option out to have one made.")
    return password
