"""CLI: the verbs of maintenance: switchover database, restart database. They ask, then wait for the domain."""

from __future__ import annotations

from urllib.parse import quote

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED
from dkv.cli.nouns.dialect_client import CHANGES, DB_NAME
from dkv.cli.nouns.native_client import ask, client_of, store_path
from dkv.cli.output import Screen
from dkv.cli.session import Session
from dkv.client import Json, ManagerClient

POLL = 0.05  # s between two looks
SWITCHED_WITHIN = 40.0  # s: longer than a handover may take from its wish to its deadline
STOPPED_WITHIN = 120.0  # s a whole stop and start is waited for

VERBS = (
    Cmdlet(
        "switchover database",
        "Hands the leadership of a database's groups over and waits until it is done.",
        "nouns.maintenance:switchover",
        (
            DB_NAME,
            Param("--group", "text", "only this storage group", default=""),
            Param("--to", "number", "start id of the process that has to lead; else the furthest", low=0, high=10**9),
            *CHANGES,
        ),
    ),
    Cmdlet(
        "restart database",
        "Replaces every process of a database; with --rolling while it serves.",
        "nouns.maintenance:restart",
        (
            DB_NAME,
            Param("--rolling", "switch", "one process after the other; leaders hand over first", default=False),
            Param("--force", "switch", "writes may stop where no copy is to spare; without --rolling: kill", default=False),
            Param("--stop", "switch", "end a restart that is under way", default=False),
            Param("--no-wait", "switch", "do not wait until it is done", default=False),
            *CHANGES,
        ),
    ),
)


# Switchover --------------------------------------------------------------------------------------------------------


def switchover(session: Session, bound: Bound) -> int:
    """Ask for it, wait until each group is done or has given up, and print from whom to whom and how long it took."""
    screen, client, name = session.screen, client_of(session, bound["--managers"]), bound["--db-name"]
    before = {g["name"]: g["leader"] for g in client.store(name)["groups"]}
    since = newest(session, client, name)
    begun = session.clock()
    body = {"group": bound["--group"]} | ({} if bound["--to"] is None else {"toStartId": bound["--to"]})
    asked = ask(session, client, "POST", f"{store_path(name)}/switchover", body)["groups"]
    told = [_once_done(session, client, name, {"group": group, "from": before[group]}, begun) for group in asked]
    for one in told:
        one["reason"] = _why_not(client, name, one["group"], since) if one["from"] == one["to"] else ""
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


def newest(session: Session, client: ManagerClient, store: str) -> int:
    """The sequence of the newest event of a store; 0 without any."""
    found = ask(session, client, "GET", f"/events?newest=1&store={quote(store, safe='')}")["events"]
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


def restart(session: Session, bound: Bound) -> int:
    """Begin or end a restart; the domain does it, this command only watches and may be interrupted."""
    client = client_of(session, bound["--managers"])
    return _end(session, client, bound["--db-name"]) if bound["--stop"] else _begin(session, client, bound)


def _end(session: Session, client: ManagerClient, name: str) -> int:
    """End a restart where it stands."""
    ask(session, client, "DELETE", f"{store_path(name)}/restart")
    return _tell(session.screen, {"store": name, "result": "Stopped"}, f"The restart of {name} was ended where it stood.")


def _begin(session: Session, client: ManagerClient, bound: Bound) -> int:
    """Begin a restart and watch it to its end."""
    screen, name, rolling = session.screen, bound["--db-name"], bound["--rolling"]
    since, begun = newest(session, client, name), session.clock()
    body = {"rolling": rolling, "force": bound["--force"]}
    count = ask(session, client, "POST", f"{store_path(name)}/restart", body)["processes"]
    if bound["--no-wait"]:
        told = {"store": name, "result": "Restarting", "processes": count}
        return _tell(screen, told, f"{count} processes of {name} are being restarted.")
    last = _watched(session, client, name, since)
    if last["kind"] == "database.restarted" and not rolling:
        _once_running(session, client, name)
    facts = {
        "store": name,
        "result": last["kind"].partition(".")[2],
        "reason": last["because"],
        "seconds": round(session.clock() - begun, 3),
    }
    _tell(screen, facts, f"{name}: {last['because']}.")
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
