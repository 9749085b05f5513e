"""CLI: what moves leadership or replaces processes on purpose: switchover, restart, and a leader that is enforced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED
from dkv.cli.nouns.archives import ARCHIVE_ID
from dkv.cli.nouns.common import CHANGES, DB_NAME, native
from dkv.cli.output import Screen, moment
from dkv.cli.session import Session
from dkv.cli.topology import UNPARTITIONED
from dkv.client import Json, ManagerClient, ManagerRefused

if TYPE_CHECKING:
    from dkv.wire import schemas

POLL = 0.05  # s between two looks
JOINING, IN_SYNC_WITHIN, AGAIN = "copy_joining", 60.0, 0.5  # s that a copy may take to be in sync, and between two requests
SWITCHED_WITHIN = 40.0  # s for each group, which are handed over one after the other: longer than a handover may take
STOPPED_WITHIN = 120.0  # s a whole stop and start is waited for
LEADS_WITHIN = 30.0  # s an enforced leader is waited for before the command prints why it does not lead
SAID_AFTER = 1.0  # s that a restart waits for the same before the line of progress says so

VERBS = (
    Cmdlet(
        "switchover database",
        "Hands the leadership of a database's groups over and waits until it is done.",
        "nouns.maintenance:switchover",
        (
            DB_NAME,
            Param("--group", "text", "only this storage group; default: all of them", default=""),
            Param(
                "--to",
                "number",
                "start id of the process that is to lead; default: the one with the most data",
                low=0,
                high=10**9,
            ),
            *CHANGES,
        ),
    ),
    Cmdlet(
        "rebalance leaders",
        "Spreads a database's leaders evenly over its servers by handovers and waits until it is done.",
        "nouns.maintenance:rebalance",
        (DB_NAME, *CHANGES),
    ),
    Cmdlet(
        "restart database",
        "Replaces every process of a database; with --rolling while it serves.",
        "nouns.maintenance:restart",
        (
            DB_NAME,
            Param("--rolling", "switch", "restart one process after the other; leaders hand over first", default=False),
            Param("--force", "switch", "go on where writes stop meanwhile; without --rolling: kill the engines", default=False),
            Param("--stop", "switch", "end the restart that is under way", default=False),
            Param("--no-wait", "switch", "return at once, without waiting for the end", default=False),
            *CHANGES,
        ),
    ),
    Cmdlet(
        "enforce leader",
        "Makes an archive lead although it may lack writes; prints first what may be lost.",
        "nouns.maintenance:enforce_leader",
        (
            DB_NAME,
            Param("--group", "text", "the storage group that gets a leader", default=UNPARTITIONED),
            ARCHIVE_ID._replace(help="the archive that is to lead"),
            Param("--allow-data-loss", "switch", "accept that the printed writes may be lost", default=False),
            Param("--reason", "any", "the reason, recorded permanently", default=""),
            *CHANGES,
        ),
    ),
)


# Switchover ----------------------------------------------------------------------------------------------------------


def switchover(session: Session, bound: Bound) -> int:
    """Request it, wait until it is done or given up in each group, and print old and new leader and how long it took."""
    return _hand_over(
        session, bound, "switchover", lambda client, name: client.switch_over(name, bound["--group"], bound["--to"])
    )


def rebalance(session: Session, bound: Bound) -> int:
    """The same for the groups that the domain chooses; how many each server leads, where nothing is to be moved."""
    return _hand_over(session, bound, "rebalancing of the leaders", lambda client, name: client.rebalance_leaders(name))


def _hand_over(session: Session, bound: Bound, what: str, request: Callable[[ManagerClient, str], list[str]]) -> int:
    screen, client, name = session.screen, native(session, bound), bound["--db-name"]
    leaders = {group["name"]: group["leader"] for group in client.store(name)["groups"]}
    newest = _newest_event(client, name)
    started = session.clock()
    session.sent.append(f"{what} of {name}")
    results = []
    for group in _once_in_sync(session, lambda: request(client, name), what):
        results.append(_switched(session, client, name, {"group": group, "from": leaders[group]}, started))
    for result in results:
        result["reason"] = _why_not(client, name, result["group"], newest) if result["from"] == result["to"] else ""
    if screen.as_json:
        screen.data(results)
    else:
        screen.block("\n".join([*map(_result_line, results), *([] if results else [_leaders_line(client, name)])]))
    return FAILED if any(result["reason"] for result in results) else DONE


def _once_in_sync(session: Session, request: Callable[[], list[str]], what: str) -> list[str]:
    """What the request answers. It is sent again for a while where a copy is on its way, as just after a store was created."""

    def sent() -> list[str] | ManagerRefused:
        try:
            return request()
        except ManagerRefused as refused:
            if refused.code != JOINING:
                raise
            return refused

    answer = session.until(
        sent,
        lambda answer: isinstance(answer, list),
        IN_SYNC_WITHIN,
        pause=AGAIN,
        progress=lambda answer: f"the {what} waits: {answer.message}" if isinstance(answer, ManagerRefused) else "",
    )
    if isinstance(answer, ManagerRefused):
        raise answer
    return answer


def _leaders_line(client: ManagerClient, name: str) -> str:
    """Where nothing was to be handed over."""
    store = client.store(name)
    server_of = {instance["instanceName"]: instance["server"] for instance in store["instances"]}
    leads = Counter(server_of[group["leader"]] for group in store["groups"] if group["leader"])
    counted = ", ".join(f"{server} leads {count}" for server, count in sorted(leads.items()))
    return f"The leaders of {name} are spread already: {counted or 'there are none'}."


def _switched(session: Session, client: ManagerClient, name: str, request: Json, started: float) -> Json:
    """Wait until the request is fulfilled or given up."""
    group = session.until(
        lambda: _group(client, name, request["group"]),
        lambda group: not group["switchover"] and not group["handover"],
        SWITCHED_WITHIN,
        pause=POLL,
        progress=lambda _: f"group {request['group']}: {request['from']} hands over",
    )
    return request | {"to": group["leader"], "seconds": round(session.clock() - started, 3)}


def _group(client: ManagerClient, store: str, name: str) -> Json:
    return next(dict(group) for group in client.store(store)["groups"] if group["name"] == name)


def _newest_event(client: ManagerClient, store: str) -> int:
    """The sequence of the newest event of a store; 0 without any."""
    events = client.newest_events(1, store)["events"]
    return int(events[-1]["sequence"]) if events else 0


def _why_not(client: ManagerClient, store: str, group: str, after: int) -> str:
    """The reason as the domain's log has it."""
    events = client.events(after, store)
    failed = [e for e in events if e["kind"] == "group.switchover_failed" and e["subject"] == f"group {store}/{group}"]
    return str(failed[-1]["because"]) if failed else f"it was not done within {SWITCHED_WITHIN:g} s"


def _result_line(result: Json) -> str:
    if result["reason"]:
        return f"{result['group']}: {result['from']} still leads: {result['reason']}."
    return f"{result['group']}: {result['from']} -> {result['to']} in {result['seconds']:.2f} s"


# Restart -------------------------------------------------------------------------------------------------------------


def restart(session: Session, bound: Bound) -> int:
    """Begin or end a restart; the domain does it, this command only watches and may be interrupted."""
    client, name = native(session, bound), bound["--db-name"]
    if not bound["--stop"]:
        return _begin(session, client, bound)
    session.sent.append(f"end of the restart of {name}")
    client.end_restart(name)
    return _print(session.screen, {"store": name, "result": "Stopped"}, f"The restart of {name} was ended where it stood.")


def _begin(session: Session, client: ManagerClient, bound: Bound) -> int:
    """Begin a restart and watch it to its end."""
    screen, name, rolling = session.screen, bound["--db-name"], bound["--rolling"]
    newest, started = _newest_event(client, name), session.clock()
    session.sent.append(f"restart of {name}")
    count = client.begin_restart(name, rolling=rolling, force=bound["--force"])["processes"]
    if bound["--no-wait"]:
        facts = {"store": name, "result": "Restarting", "processes": count}
        return _print(screen, facts, f"{count} processes of {name} are being restarted.")
    kind, because = _watch_to_end(session, client, name, newest)
    if kind == "database.restarted" and not rolling:
        session.until(
            lambda: client.store(name)["groups"],
            lambda groups: all(group["serving"] for group in groups),
            STOPPED_WITHIN,
            pause=POLL,
            progress=lambda _: f"{name} starts",
        )
    facts = {"store": name, "result": kind.partition(".")[2], "reason": because, "seconds": round(session.clock() - started, 3)}
    _print(screen, facts, f"{name}: {because}.")
    return DONE if kind == "database.restarted" else FAILED


def _print(screen: Screen, facts: Json, sentence: str) -> int:
    if screen.as_json:
        screen.data(facts)
    else:
        screen.line(sentence)
    return DONE


def _watch_to_end(session: Session, client: ManagerClient, name: str, newest: int) -> tuple[str, str]:
    """Show what the restart does or waits for until it has ended, however long that takes; the kind and reason of its end."""
    session.until(
        lambda: client.store(name)["restart"],
        lambda restart: not restart,
        float("inf"),
        pause=POLL,
        progress=RestartProgress(session.clock),
    )
    ends = [e for e in client.events(newest, name) if e["kind"] in ("database.restarted", "database.restart_stopped")]
    return (ends[-1]["kind"], ends[-1]["because"]) if ends else ("", "the log no longer has the event of its end")


class RestartProgress:
    """The line that is shown while a store is restarted. What one process waits for is said once that has lasted: most of it
    passes in a moment, and is read as trouble. `clock` is in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waits, self._since = "", 0.0

    def __call__(self, restart: schemas.Restart | None) -> str:
        if restart is None:
            return ""
        waits = f"{restart['waitsFor']}: {restart['reason']}"
        if waits != self._waits:
            self._waits, self._since = waits, self._clock()
        replaced = f"{restart['replaced']} of {restart['processes']} replaced"
        return f"{replaced}; {waits}" if self._clock() - self._since >= SAID_AFTER else replaced


# Enforcing a leader --------------------------------------------------------------------------------------------------


def enforce_leader(session: Session, bound: Bound) -> int:
    """Print the bound, then enforce if that was allowed, then wait until the archive leads."""
    client, archive_id = native(session, bound), bound["--archive-id"]
    lost = client.leader_bound(bound["--db-name"], bound["--group"], archive_id)
    facts: Json = {"store": bound["--db-name"], "group": bound["--group"], "archiveId": archive_id, "bound": lost}
    say = session.screen.note if bound["--plan"] else session.screen.line  # a plan prints what would be done and no more
    for line in [] if session.screen.as_json else bound_lines(lost):
        say(line)
    return _enforce(session, client, facts, bound)


def _enforce(session: Session, client: ManagerClient, facts: Json, bound: Bound) -> int:
    """Enforce, wait, and say what came of it."""
    screen, store, group, instance = session.screen, facts["store"], facts["group"], facts["bound"]["instanceName"]
    session.sent.append(f"enforce archive {facts['archiveId']}")
    try:
        client.enforce_leader(store, group, facts["archiveId"], bound["--allow-data-loss"], bound["--reason"])
    except ManagerRefused:
        if screen.as_json:
            screen.data({**facts, "enforced": False, "leads": False})
        raise
    view = session.until(
        lambda: _group(client, store, group),
        lambda view: bool(view["serving"]) and view["leader"] == instance,
        LEADS_WITHIN,
        progress=lambda _: f"waiting until {instance} leads",
    )
    leads = view["serving"] and view["leader"] == instance
    if screen.as_json:
        screen.data({**facts, "enforced": True, "leads": leads})
    elif leads:
        screen.line(f"{instance} leads {store}/{group} in term {view['term']}.")
    if leads:
        return DONE
    waiting = view["waitsFor"]
    reason = waiting["reason"] if waiting else "it has not taken over yet"
    screen.error(f"It is recorded, but {instance} does not lead yet: {reason}.", screen.hint_of(waiting or {}))
    return FAILED


def bound_lines(bound: schemas.Bound) -> list[str]:
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


def _position(position: schemas.Position | None) -> str:
    if position is None:
        return "nothing"
    if not position["term"]:
        return "data without a marker"
    return f"marker {position['term']}-{position['marker']} and {position['bytesAfter']} bytes after it"
