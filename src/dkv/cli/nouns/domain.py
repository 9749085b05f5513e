"""CLI: the domain as a whole: its servers, databases and processes; what waits, and what happened."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE, Usage
from dkv.cli.nouns.common import DB_NAME, SHARED, dialect, native
from dkv.cli.nouns.printing import (
    connected,
    database_line,
    engine_line,
    lines,
    process_line,
    say_transport,
    say_waiting,
    server_line,
    write_json,
)
from dkv.cli.output import Screen, moment, waiting_lines
from dkv.cli.session import Session
from dkv.client import ClientError, Json, ManagerClient, ManagerUnreachable
from dkv.client.dialect import Query

if TYPE_CHECKING:
    from dkv.wire import schemas

NUMBERED = re.compile(r"\b(?:archive|process) [0-9]+\b")
RECONNECT = 0.5  # s until events are followed again after a broken connection
ONE_STORE = DB_NAME._replace(required=False, help="only this store or database")

VERBS = (
    Cmdlet(
        "show domain",
        "Shows servers, databases and processes.",
        "nouns.domain:show_domain",
        (
            Param("--client-token", "text", "a text that each manager writes into its log, as a mark"),
            Param("--include-tombstone-databases", "switch", "also show deleted databases", default=False),
            *SHARED,
        ),
    ),
    Cmdlet(
        "capture domain-state",
        "Writes the whole domain state to a file, for support.",
        "nouns.domain:capture",
        (Param("--output", "text", "the file; -: standard output", default="-"), *SHARED),
    ),
    Cmdlet(
        "show waiting",
        "Shows everything that waits: for what, since when, why, and a hint.",
        "nouns.domain:show_waiting",
        (ONE_STORE, *SHARED),
    ),
    Cmdlet(
        "show events",
        "Shows events: what happened, why, on whose request, and the event it follows from; --why N shows a chain.",
        "nouns.domain:show_events",
        (
            ONE_STORE,
            Param("--by", "text", "only what this principal ordered or reported, such as: user ann; ann; s1"),
            Param("--limit", "number", "number of newest events", default=50, high=10_000),
            Param("--follow", "switch", "also show new events, until Ctrl-C", default=False),
            Param("--why", "number", "show the event of this number and the chain of events it follows from", high=10**11),
            *SHARED,
        ),
    ),
)


def show_domain(session: Session, bound: Bound) -> int:
    """Servers, databases and processes, in nuocmd's layout."""
    client = dialect(session, bound)
    token = bound["--client-token"] or _token()
    head: Json = client.ask("/diagnostics/log", {"message": f"show domain, client token: {token}"})
    queries = Query("/peers", "id"), Query("/databases", "name"), Query("/processes", "startId")
    servers, databases, processes = client.at_once(*queries)
    if not bound["--include-tombstone-databases"]:
        databases = [database for database in databases if database["state"] != "TOMBSTONE"]
    states = {server["id"]: connected(server) for server in servers}

    def text() -> Iterator[str]:
        yield f"server version: {head['serverVersion']}, server license: {head.get('licenseType')}"
        yield f"server time: {local_time(head['serverTimeMillis'])}, client token: {token}"
        yield "Servers:"
        yield from (f"  {server_line(server)}" for server in servers)
        yield "Databases:"
        for database in databases:
            yield f"  {database_line(database)}"
            own = (process for process in processes if process["dbName"] == database["name"])
            yield from (f"    {process_line(process, states)}" for process in own)

    lines(session, {**head, "clientToken": token, "servers": servers, "databases": databases, "processes": processes}, text())
    for server in servers:
        session.screen.note(engine_line(server))
    if members := state_line(servers):
        session.screen.note(members)
    for database in databases:
        say_transport(session, database)
        say_waiting(session, database)
    return DONE


def state_line(servers: Sequence[Json]) -> str:
    """The etcd members of the domain state, and what their loss means; "" where the managers run none."""
    voters = [server["id"] for server in servers if server.get("stateMember") == "voter"]
    learners = [f"{server['id']} does not vote yet" for server in servers if server.get("stateMember") == "learner"]
    if not voters and not learners:
        return ""
    losses = (len(voters) - 1) // 2
    survives = f"{losses} of them may be lost" if losses else f"while {' or '.join(voters)} is away nothing can be changed"
    return f"domain state: etcd on {', '.join([*voters, *learners])}; {survives}; data is served without it"


def _token() -> str:
    return os.urandom(20).hex()  # as long as nuocmd's, which hashes the time; hashlib would cost 4 ms of imports


def local_time(at: int) -> str:
    """Wall-clock ms as nuocmd prints them: this machine's time zone, to the millisecond."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(at / 1000))}.{at % 1000:03d}"


def capture(session: Session, bound: Bound) -> int:
    """The replicated state as JSON."""
    write_json(session, bound["--output"], dialect(session, bound).get("/diagnostics/captureDomainState"))
    return DONE


# What waits ----------------------------------------------------------------------------------------------------------


def show_waiting(session: Session, bound: Bound) -> int:
    """One line for each thing that is not where it belongs."""
    screen, client, name = session.screen, native(session, bound), bound["--db-name"]
    if name:
        client.store(name)  # refused when there is none of that name
    waiting = client.waiting(name)
    if screen.as_json:
        screen.data(waiting)
    for line in [] if screen.as_json else waiting_lines(screen, waiting):
        screen.line(line)
    if not waiting:
        screen.note("Nothing waits.")
    return DONE


# Events --------------------------------------------------------------------------------------------------------------


def show_events(session: Session, bound: Bound) -> int:
    """The log of the domain, or one chain of it."""
    if bound["--why"] and (bound["--follow"] or bound["--db-name"] or bound["--by"]):
        raise Usage("--why takes no --follow, --db-name or --by: a chain is one event's.", "Leave them out.")
    client = native(session, bound)
    return (
        _show_chain(session.screen, client, client.event_chain(bound["--why"]))
        if bound["--why"]
        else _show_log(session, client, bound)
    )


def _show_log(session: Session, client: ManagerClient, bound: Bound) -> int:
    screen, name, limit = session.screen, bound["--db-name"], bound["--limit"]
    if name:
        client.store(name)  # refused when there is none of that name
    log = client.newest_events(limit, name, bound["--by"])
    events = log["events"]
    if bound["--follow"]:
        _follow(session, client, events, bound)
    if screen.as_json:
        screen.data(events)
        return DONE
    names, sentences = Names(client), [logged(event) for event in events]
    names.look_up(sentences)
    for sentence in sentences:
        screen.line(names.put_into(sentence))
    if len(events) < limit and log["oldest"] > 1:
        screen.note(f"Events before #{log['oldest']} are no longer kept.")
    if not events:
        screen.note("No events.")
    return DONE


def _show_chain(screen: Screen, client: ManagerClient, chain_view: schemas.Chain) -> int:
    if screen.as_json:
        screen.data(chain_view)
        return DONE
    names, lines_of_chain = Names(client), list(chain(chain_view["events"], chain_view["trimmed"]))
    names.look_up(lines_of_chain)
    for line in lines_of_chain:
        screen.line(names.put_into(line))
    return DONE


def _follow(session: Session, client: ManagerClient, events: list[schemas.Event], bound: Bound) -> None:
    """Print what there is and what comes, without end; after a broken connection from whichever manager is ready."""
    after, names = 0, Names(client)
    for event in events:
        after = _print(session.screen, names, event)
    while True:
        with suppress(ManagerUnreachable):
            for event in client.follow_events(after, bound["--db-name"], bound["--by"]):
                after = _print(session.screen, names, event)
        session.sleep(RECONNECT)
        client = native(session, bound)


def _print(screen: Screen, names: Names, event: schemas.Event) -> int:
    if screen.as_json:
        screen.data(event, indent=None)
    else:
        screen.line(names.put_into(logged(event)))
    return int(event["sequence"])


class Names:
    """What people call the archives and processes of events; read when the first is met, and again for an unknown one."""

    def __init__(self, client: ManagerClient) -> None:
        self._client = client
        self._names: dict[str, str | None] = {}

    def put_into(self, sentence: str) -> str:
        """The sentence with names in front of numbers: `orders-3 (process 18)`."""
        self.look_up([sentence])
        return NUMBERED.sub(lambda match: _named(match[0], self._names[match[0]]), sentence)

    def look_up(self, sentences: Iterable[str]) -> None:
        """Read once for all of them: a long log has the numbers of many that nobody knows any more."""
        numbers = {number for sentence in sentences for number in NUMBERED.findall(sentence)}
        if numbers - self._names.keys():
            self._read()
            self._names.update((number, None) for number in numbers - self._names.keys())

    def _read(self) -> None:
        with suppress(ClientError):
            for store in self._client.stores():
                for instance in store["instances"]:
                    self._names[f"archive {instance['archiveId']}"] = instance["instanceName"]
            for process in (*self._client.processes(), *self._client.tombstones()):
                self._names[f"process {process['startId']}"] = process["instanceName"]


def _named(number: str, name: str | None) -> str:
    return f"{name} ({number})" if name else number


def logged(event: schemas.Event) -> str:
    """`#41 TIME group orders/g1 OPEN -> VACANT because process 1, its leader, ended (ProcessExited by server0; from #40)`."""
    moved = event["change"] and not event["change"].startswith("(new)")
    sentence = f"{event['subject']} {event['change']}" if moved else _event_text(event)
    because = _because(event, sentence)
    return f"#{event['sequence']} {moment(event['at'])} {sentence}{because and f' because {because}'} ({_origin(event)})"


def chain(events: Sequence[schemas.Event], trimmed: bool) -> list[str]:
    """The newest event first, then what it happened because of, and where that began."""
    lines = [f"{'  because ' if n else ''}{_sentence(event)}" for n, event in enumerate(events)]
    last = events[-1]
    if trimmed:
        return [*lines, f"The log no longer has what #{last['sequence']} followed from."]
    if not last["actor"]:
        return [*lines, f"Root cause: {last['command']}, actor not known."]
    verb = "ordered" if last["ordered"] else "reported"
    return [*lines, f"Root cause: {last['command']}, {verb} by {last['actor']}{_entry(last)}."]


def _sentence(event: schemas.Event) -> str:
    sentence = _event_text(event)
    because = _because(event, sentence).removeprefix("it ended: ")
    return f"#{event['sequence']} {moment(event['at'])} {sentence}{because and f': {because}'}"


def _because(event: schemas.Event, sentence: str) -> str:
    """The reason, unless the sentence has it already."""
    because = str(event["because"])
    return "" if sentence.endswith(because.removeprefix("it ")) else because


def _event_text(event: schemas.Event) -> str:
    """The manager's sentence about an event, without its reason; the change or kind from a version that sends no sentence."""
    return str(event.get("text") or f"{event['subject']} {event['change'] or event['kind']}")


def _origin(event: schemas.Event) -> str:
    by = f"{event['command']} by {event['actor']}" if event["actor"] else str(event["command"])
    by += _entry(event)
    if event["cause"] is None:
        return by
    return f"{by}; from #{event['cause']}" if event["cause"] > 0 else f"{by}; from before this log"


def _entry(event: schemas.Event) -> str:
    """` through port 7801 of s1`; nothing for what a manager saw itself, and from a version that does not say it."""
    return f" through {event['entry']}" if event.get("entry") else ""
