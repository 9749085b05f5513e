"""CLI room: the verbs of maintenance: switchover database, restart database; read with click. They ask, then wait."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

import click

from dkv.cli.output import Screen
from dkv.cli.recover import MANAGERS, OUTPUT, PLAN, client_of
from dkv.cli.rehearse import rehearse
from dkv.cli.session import Session
from dkv.cli.trouble import DONE, FAILED
from dkv.client import Json, ManagerClient

POLL = 0.05                # s between two looks
SWITCHED_WITHIN = 40.0     # s: longer than a handover may take from its wish to its deadline
STOPPED_WITHIN = 120.0     # s a whole stop and start is waited for
DB_NAME = click.option("--db-name", required=True, help="the store or database")


@click.group(help="Hand leadership over, without losing an acknowledged write.")
def switchover() -> None:
    """Verbs that hand over."""


@click.group(help="Replace processes by new ones.")
def restart() -> None:
    """Verbs that restart."""


def ask(client: ManagerClient, method: str, path: str, body: Json | None = None) -> Json:
    """One request below /admin/v1, and the JSON of its answer."""
    found: Json = json.loads(client.fetch(method, f"/admin/v1{path}", body).body)
    return found


def store_path(name: str) -> str:
    """Where a store is, below /admin/v1."""
    return f"/stores/{quote(name, safe='')}"


# Switchover --------------------------------------------------------------------------------------------------------


@switchover.command("database", help="Hand the leadership of a database's groups over and wait until it is done.")
@DB_NAME
@click.option("--group", default="", help="only this storage group")
@click.option("--to", "to", type=click.IntRange(min=0), help="the start id of the process that has to lead; else the furthest")
@PLAN
@MANAGERS
@OUTPUT
@click.pass_obj
def switchover_database(
    screen: Screen, *, db_name: str, group: str, to: int | None, plan: bool, managers: str | None, output: str
) -> int:
    """Ask, wait, and print from whom to whom and how long it took."""
    screen.as_json = output == "json"
    return _planned_or_done(screen, plan, lambda session: switch_over(session, managers, db_name, group, to))


def _planned_or_done(screen: Screen, plan: bool, run: Callable[[Session], int]) -> int:
    session = Session(screen)
    return rehearse(session, lambda: run(session)) if plan else run(session)


def switch_over(session: Session, managers: str | None, db_name: str, group: str, to: int | None) -> int:
    """Ask for it, wait until each group is done or has given up, and say so."""
    screen, client = session.screen, client_of(session, managers)
    before = {g["name"]: g["leader"] for g in client.store(db_name)["groups"]}
    since = newest(client, db_name)
    begun = session.clock()
    body = {"group": group} | ({} if to is None else {"toStartId": to})
    asked = ask(client, "POST", f"{store_path(db_name)}/switchover", body)["groups"]
    told = [_once_done(session, client, db_name, {"group": name, "from": before[name]}, begun) for name in asked]
    for one in told:
        one["reason"] = _why_not(client, db_name, one["group"], since) if one["from"] == one["to"] else ""
    if screen.as_json:
        screen.data(told)
    for one in [] if screen.as_json else told:
        screen.line(_said(one))
    return FAILED if any(one["reason"] for one in told) else DONE


def _once_done(session: Session, client: ManagerClient, store: str, asked: Json, begun: float) -> Json:
    """Look until the wish is fulfilled or given up."""
    while True:
        view: Json = next(g for g in client.store(store)["groups"] if g["name"] == asked["group"])
        took = session.clock() - begun
        if (not view["switchover"] and not view["handover"]) or took > SWITCHED_WITHIN:
            return asked | {"to": view["leader"], "seconds": round(took, 3)}
        session.screen.progress(f"group {asked['group']}: {asked['from']} hands over")
        session.sleep(POLL)


def newest(client: ManagerClient, store: str) -> int:
    """The sequence of the newest event of a store; 0 without any."""
    found = ask(client, "GET", f"/events?newest=1&store={quote(store, safe='')}")["events"]
    return int(found[-1]["sequence"]) if found else 0


def _why_not(client: ManagerClient, store: str, group: str, after: int) -> str:
    """The reason as the domain's log has it."""
    events = client.events(after, store)
    failed = [e for e in events if e["kind"] == "group.switchover_failed" and e["subject"] == f"group {store}/{group}"]
    return str(failed[-1]["because"]) if failed else f"it was not done within {SWITCHED_WITHIN:g} s"


def _said(one: Json) -> str:
    if one["reason"]:
        return f"{one['group']}: {one['from']} still leads: {one['reason']}."
    return f"{one['group']}: {one['from']} -> {one['to']} in {one['seconds']:.2f} s"


# Restart -----------------------------------------------------------------------------------------------------------


@restart.command("database", help="Replace every process of a database; with --rolling while it serves.")
@DB_NAME
@click.option("--rolling", is_flag=True, help="one process after the other; leaders hand over first")
@click.option("--force", is_flag=True, help="writes may stop where a group has no copy to spare; without --rolling: kill")
@click.option("--stop", is_flag=True, help="end a restart that is under way")
@click.option("--no-wait", is_flag=True, help="do not wait until it is done")
@PLAN
@MANAGERS
@OUTPUT
@click.pass_obj
def restart_database(
    screen: Screen, *, db_name: str, rolling: bool, force: bool, stop: bool, no_wait: bool, plan: bool,
    managers: str | None, output: str,
) -> int:  # fmt: skip
    """Begin or end a restart; the domain does it, this command only watches and may be interrupted."""
    screen.as_json = output == "json"
    body = {"rolling": rolling, "force": force}
    if stop:
        return _planned_or_done(screen, plan, lambda session: end_restart(session, managers, db_name))
    return _planned_or_done(screen, plan, lambda session: restart_now(session, managers, db_name, body, no_wait))


def end_restart(session: Session, managers: str | None, db_name: str) -> int:
    """End a restart where it stands."""
    ask(client_of(session, managers), "DELETE", f"{store_path(db_name)}/restart")
    told = {"store": db_name, "result": "Stopped"}
    return _tell(session.screen, told, f"The restart of {db_name} was ended where it stood.")


def restart_now(session: Session, managers: str | None, db_name: str, body: Json, no_wait: bool) -> int:
    """Begin a restart and watch it to its end; `body` is what the manager is told."""
    screen, client = session.screen, client_of(session, managers)
    since, begun = newest(client, db_name), session.clock()
    count = ask(client, "POST", f"{store_path(db_name)}/restart", body)["processes"]
    if no_wait:
        told = {"store": db_name, "result": "Restarting", "processes": count}
        return _tell(screen, told, f"{count} processes of {db_name} are being restarted.")
    last = _watched(session, client, db_name, since)
    if last["kind"] == "database.restarted" and not body["rolling"]:
        _once_running(session, client, db_name)
    facts = {"store": db_name, "result": last["kind"].partition(".")[2], "reason": last["because"],
             "seconds": round(session.clock() - begun, 3)}  # fmt: skip
    _tell(screen, facts, f"{db_name}: {last['because']}.")
    return DONE if last["kind"] == "database.restarted" else FAILED


def _tell(screen: Screen, facts: Json, words: str) -> int:
    if screen.as_json:
        screen.data(facts)
    else:
        screen.line(words)
    return DONE


def _watched(session: Session, client: ManagerClient, name: str, since: int) -> Json:
    """Say each new thing the restart does or waits for, until it has ended; the event of its end."""
    said = ""
    while (view := client.store(name))["restart"]:
        said = _news(session.screen, view["restart"], said)
        session.sleep(POLL)
    ends = [e for e in client.events(since, name) if e["kind"] in ("database.restarted", "database.restart_stopped")]
    return ends[-1] if ends else {"kind": "", "because": "what became of it is not in the log any more"}


def _news(screen: Screen, restart: Json, said: str) -> str:
    done = f"{restart['replaced']} of {restart['processes']} replaced"
    now = f"{done}; {restart['waitsFor']}: {restart['reason']}"
    if now != said and not screen.as_json:
        screen.progress(now)
    return now


def _once_running(session: Session, client: ManagerClient, name: str) -> None:
    ends = session.clock() + STOPPED_WITHIN
    while session.clock() < ends and not all(g["serving"] for g in client.store(name)["groups"]):
        session.screen.progress(f"{name} starts")
        session.sleep(POLL)


VERBS = (switchover, restart)
