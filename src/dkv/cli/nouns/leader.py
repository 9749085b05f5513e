"""CLI: enforce leader: make an archive lead that the rules would not choose. Says first what may be lost."""

from __future__ import annotations

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED
from dkv.cli.nouns.archives import ARCHIVE_ID
from dkv.cli.nouns.dialect_client import CHANGES, DB_NAME
from dkv.cli.nouns.native_client import client_of
from dkv.cli.output import moment
from dkv.cli.session import Session
from dkv.cli.topology import UNPARTITIONED
from dkv.client import Json, ManagerClient, ManagerRefused

LEADS_WITHIN = 30.0  # s an enforced leader is waited for before the command says what it waits for
POLL = 0.1  # s

VERBS = (
    Cmdlet(
        "enforce leader",
        "Makes an archive lead although it may lack writes; says first what may be lost.",
        "nouns.leader:enforce",
        (
            DB_NAME,
            Param("--group", "text", "its storage group", default=UNPARTITIONED),
            ARCHIVE_ID._replace(help="the archive that has to lead"),
            Param("--allow-data-loss", "switch", "what is said to be lost may be lost", default=False),
            Param("--reason", "any", "why, recorded for ever", default=""),
            *CHANGES,
        ),
    ),
)


def enforce(session: Session, bound: Bound) -> int:
    """Print the bound, then enforce if that was allowed, then wait until the archive leads."""
    client, archive_id = client_of(session, bound["--managers"]), bound["--archive-id"]
    lost = client.leader_bound(bound["--db-name"], bound["--group"], archive_id)
    told: Json = {"store": bound["--db-name"], "group": bound["--group"], "archiveId": archive_id, "bound": lost}
    say = session.screen.note if bound["--plan"] else session.screen.line  # a plan prints what would be done and no more
    for line in [] if session.screen.as_json else bound_lines(lost):
        say(line)
    return _enforced(session, client, told, bound)


def _enforced(session: Session, client: ManagerClient, told: Json, bound: Bound) -> int:
    """Enforce, wait, and say what came of it."""
    screen, lost, db_name, group = session.screen, told["bound"], told["store"], told["group"]
    session.sent.append(f"enforce archive {told['archiveId']}")
    try:
        client.enforce_leader(db_name, group, told["archiveId"], bound["--allow-data-loss"], bound["--reason"])
    except ManagerRefused:
        if screen.as_json:
            screen.data({**told, "enforced": False, "leads": False})
        raise
    view = _once_leading(session, client, db_name, group, lost["instanceName"])
    leads = view["serving"] and view["leader"] == lost["instanceName"]
    if screen.as_json:
        screen.data({**told, "enforced": True, "leads": leads})
    elif leads:
        screen.line(f"{lost['instanceName']} leads {db_name}/{group} in term {view['term']}.")
    if leads:
        return DONE
    waiting = view["waitsFor"] or {"reason": "it has not taken over yet", "help": ""}
    screen.error(f"It is recorded, but {lost['instanceName']} does not lead yet: {waiting['reason']}.", waiting["help"])
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
