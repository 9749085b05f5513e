"""CLI: the verbs that work on files beside any manager: backup state, restore state, rebuild state; read with click."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from dkv.cli.clicked import Commands
from dkv.cli.errors import DONE, CliError
from dkv.cli.nouns.native_client import client_of
from dkv.cli.output import Screen
from dkv.cli.session import Session
from dkv.printable import printable

OUTPUT = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="how data is printed")
MANAGERS = click.option("--managers", help="the managers, with commas between; else the connected ones")
STATE = "where the domain state is, such as sqlite:PATH"


@click.group(cls=Commands, help="Take a copy of what the domain knows.")
def backup() -> None:
    """Verbs that copy."""


@click.group(cls=Commands, help="Put a copy back.")
def restore() -> None:
    """Verbs that put back."""


@click.group(cls=Commands, help="Make anew what was lost, from what is left.")
def rebuild() -> None:
    """Verbs that make anew."""


# State -------------------------------------------------------------------------------------------------------------


@backup.command("state", help="Write the domain state at one revision to FILE, readable by you only: it holds secrets.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--state", help=f"take it without a manager, from {STATE.removeprefix('where the domain state is, ')}")
@MANAGERS
@OUTPUT
@click.pass_obj
def backup_state(screen: Screen, file: Path, state: str | None, managers: str | None, output: str) -> int:
    """Through a manager that runs on this machine, or from the state file itself."""
    screen.as_json = output == "json"
    if state is not None:
        said = _tool("read_state")(state)
    else:
        said = client_of(Session(screen), managers.split(",") if managers else None).state()
    _tool("write_backup")(file, said)
    told = {"file": str(file), "uid": said["uid"], "revision": said["revision"], "records": len(said["records"])}
    if screen.as_json:
        screen.data(told)
    else:
        screen.line(f"{file} holds {told['records']} records of domain {told['uid']} at revision {told['revision']}.")
    return DONE


@restore.command("state", help="Make a state from a backup FILE. Says first what it cannot know; overwrites nothing.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--state", required=True, help=STATE)
@click.option("--yes", is_flag=True, help="do not ask")
@OUTPUT
@click.pass_obj
def restore_state(screen: Screen, file: Path, state: str, yes: bool, output: str) -> int:
    """All engines must have ended; every instance starts cold afterwards."""
    return _make(screen, output, yes, _tool("plan_restore")(file, state))


@rebuild.command("state", help="Make a lost state anew from the archives on this machine. Says first what it cannot know.")
@click.option("--state", required=True, help=STATE)
@click.option(
    "--data-dir",
    "data_dirs",
    type=click.Path(path_type=Path),
    multiple=True,
    required=True,
    help="a manager's data directory; once for each manager of the domain",
)
@click.option("--yes", is_flag=True, help="do not ask")
@OUTPUT
@click.pass_obj
def rebuild_state(screen: Screen, state: str, data_dirs: Sequence[Path], yes: bool, output: str) -> int:
    """All managers and engines must have ended."""
    return _make(screen, output, yes, _tool("plan_rebuild")(list(data_dirs), state))


def _make(screen: Screen, output: str, yes: bool, planned: Any) -> int:
    """Print what a new state would be made of and what nobody knows; write it when that is wanted."""
    screen.as_json = output == "json"
    if not screen.as_json:
        for line in ("Found:", *(f"  {one}" for one in planned.found), "Not known:", *(f"  {one}" for one in planned.unknown)):
            screen.line(line)
    wanted = yes or _asked(f"Write {planned.path}?")
    if wanted:
        planned.write()
    if screen.as_json:
        screen.data({"found": list(planned.found), "unknown": list(planned.unknown), "written": wanted})
    elif wanted:
        screen.line(f"Written: {planned.path}. Start the managers, then the stores with all their instances.")
    if not wanted:
        raise CliError("Nothing was written.", "Repeat with --yes if that is what you want.")
    return DONE


def _asked(question: str) -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and bool(click.confirm(printable(question), err=True))


def _tool(name: str) -> Callable[..., Any]:
    """A function of the recovery room, which works on files beside any manager and is loaded only for this."""
    found: Callable[..., Any] = getattr(import_module("dkv.recovery"), name)
    return found


VERBS = (backup, restore, rebuild)
