"""CLI room: the verbs for bad days: enforce leader, backup state, restore state, rebuild state; read with click."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from dkv.cli.output import Screen, moment
from dkv.cli.rehearse import rehearse
from dkv.cli.session import NO_MANAGERS, Session, endpoints
from dkv.cli.trouble import DONE, FAILED, CliTrouble, NothingSent
from dkv.client import Json, ManagerClient, ManagerRefused

WHOLE = "UNPARTITIONED"     # the group of a store that has a single one
LEADS_WITHIN = 30.0         # s an enforced leader is waited for before the command says what it waits for
POLL = 0.1                  # s
OUTPUT = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="how data is printed")
MANAGERS = click.option("--managers", help="the managers, with commas between; else the connected ones")
PLAN = click.option("--plan", is_flag=True, help="print what would be done, and change nothing")
STATE = "where the domain state is, such as sqlite:PATH"


@click.group(help="Override what the domain would not do by itself.")
def enforce() -> None:
    """Verbs that override."""


@click.group(help="Take a copy of what the domain knows.")
def backup() -> None:
    """Verbs that copy."""


@click.group(help="Put a copy back.")
def restore() -> None:
    """Verbs that put back."""


@click.group(help="Make anew what was lost, from what is left.")
def rebuild() -> None:
    """Verbs that make anew."""


def managers_of(screen: Screen, managers: str | None) -> tuple[Session, ManagerClient]:
    """A client of the first manager that answers. Raises NothingSent when none is known, ManagerUnreachable."""
    session = Session(screen)
    return session, client_of(session, managers)


def client_of(session: Session, managers: str | None) -> ManagerClient:
    """A client of the first manager that answers, over what the session sends with now."""
    texts = [part.strip() for part in managers.split(",") if part.strip()] if managers else session.managers()
    if not texts:
        raise NothingSent(NO_MANAGERS.replace("-Managers", "--managers"))
    clients = [session.client(endpoint, 30.0) for endpoint in endpoints(texts, 7801)]
    return next((client for client in clients if client.ready()), clients[0])


# Enforce -----------------------------------------------------------------------------------------------------------


@enforce.command("leader", help="Make an archive lead although it may lack writes. Says first what may be lost.")
@click.option("--db-name", required=True, help="the store or database")
@click.option("--group", default=WHOLE, help=f"its storage group [{WHOLE}]")
@click.option("--archive-id", type=click.IntRange(min=0), required=True, help="the archive that has to lead")
@click.option("--allow-data-loss", is_flag=True, help="what is said to be lost may be lost")
@click.option("--reason", default="", help="why, recorded for ever")
@PLAN
@MANAGERS
@OUTPUT
@click.pass_obj
def enforce_leader(
    screen: Screen, *, db_name: str, group: str, archive_id: int, allow_data_loss: bool, reason: str, plan: bool,
    managers: str | None, output: str,
) -> int:  # fmt: skip
    """Print the bound, then enforce if that was allowed, then wait until the archive leads."""
    screen.as_json = output == "json"
    session, client = managers_of(screen, managers)
    bound = client.leader_bound(db_name, group, archive_id)
    told: Json = {"store": db_name, "group": group, "archiveId": archive_id, "bound": bound}
    for line in [] if screen.as_json else bound_lines(bound):
        screen.line(line)

    def enforced() -> int:
        return enforce_now(session, client_of(session, managers), told, allow_data_loss=allow_data_loss, reason=reason)

    return rehearse(session, enforced) if plan else enforced()


def enforce_now(session: Session, client: ManagerClient, told: Json, *, allow_data_loss: bool, reason: str) -> int:
    """Enforce, wait, and say what came of it."""
    screen, bound, db_name, group = session.screen, told["bound"], told["store"], told["group"]
    try:
        client.enforce_leader(db_name, group, told["archiveId"], allow_data_loss, reason)
    except ManagerRefused:
        if screen.as_json:
            screen.data({**told, "enforced": False, "leads": False})
        raise
    view = _once_leading(session, client, db_name, group, bound["instanceName"])
    leads = view["serving"] and view["leader"] == bound["instanceName"]
    if screen.as_json:
        screen.data({**told, "enforced": True, "leads": leads})
    elif leads:
        screen.line(f"{bound['instanceName']} leads {db_name}/{group} in term {view['term']}.")
    if leads:
        return DONE
    waiting = view["waitsFor"] or {"reason": "it has not taken over yet", "help": ""}
    screen.error(f"It is recorded, but {bound['instanceName']} does not lead yet: {waiting['reason']}.", waiting["help"])
    return FAILED


def bound_lines(bound: Json) -> list[str]:
    """The bound in words: who is away, how far the archive goes beside the newest known, what may be lost."""
    lines = []
    for away in bound["away"]:
        since = f" since {moment(away['since'])}" if away["since"] is not None else ""
        lines.append(f"In sync and not available{since}: {away['instanceName']}: {away['why']}.")
    name, behind = bound["instanceName"], bound["behind"]
    lines.append(f"{name} reported: {_position(bound['position'])}. Newest known: {_position(bound['newestKnown'])}.")
    if behind:
        size = "bytes unknown" if behind["bytes"] is None else f"{behind['bytes']} bytes"
        lines.append(f"It is {behind['terms']} terms, {behind['markers']} markers, {size} behind the newest known.")
    if bound["endedAt"] is not None and not bound["inSync"]:
        lines.append(f"Its last process before ended at {moment(bound['endedAt'])}.")
    return [*lines, str(bound["verdict"])]


def _position(position: Json | None) -> str:
    if position is None:
        return "nothing"
    if not position["term"]:
        return "data without a marker"
    return f"marker {position['term']}-{position['marker']} and {position['bytesAfter']} bytes after it"


def _once_leading(session: Session, client: ManagerClient, store: str, group: str, name: str) -> Json:
    """The group as soon as the instance leads it, or as it is when time is up."""
    ends = session.clock() + LEADS_WITHIN
    while True:
        view: Json = next(g for g in client.store(store)["groups"] if g["name"] == group)
        if (view["serving"] and view["leader"] == name) or session.clock() > ends:
            return view
        session.screen.progress(f"waiting until {name} leads")
        session.sleep(POLL)


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
        said = managers_of(screen, managers)[1].state()
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
@click.option("--data-dir", "data_dirs", type=click.Path(path_type=Path), multiple=True, required=True,
              help="a manager's data directory; once for each manager of the domain")  # fmt: skip
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
        raise CliTrouble("Nothing was written.", "Repeat with --yes if that is what you want.")
    return DONE


def _asked(question: str) -> bool:
    return sys.stdin.isatty() and bool(click.confirm(question, err=True))


def _tool(name: str) -> Callable[..., Any]:
    """A function of the recovery room, which works on files beside any manager and is loaded only for this."""
    found: Callable[..., Any] = getattr(import_module("dkv.recovery"), name)
    return found


VERBS = (enforce, backup, restore, rebuild)
