"""CLI: the checks scripts rely on: silent and 0 when it is so, one sentence and 1 when it is not.

What each looks at is nuocmd's (docs/reference/nuodb.md#flows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED
from dkv.cli.nouns.common import DB_NAME, SHARED, START_ID, dialect, native, only_one
from dkv.cli.nouns.printing import connected
from dkv.cli.output import Screen
from dkv.cli.session import Session
from dkv.client import ClientError, Json, ManagerRefused
from dkv.client.dialect import DialectClient, exactly
from dkv.client.manager import quoted
from dkv.hints import Hint

if TYPE_CHECKING:
    from dkv.wire import schemas

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # s between two looks; doubled each time

IN_STEP = 100  # ms that two clocks may differ
FEWEST_DAYS = 14  # that a certificate has to be valid yet

WAITS = (
    Param("--timeout", "number", "seconds to wait until the check holds", default=0, low=0, high=10**6),
    Param("--wait-forever", "switch", "wait without a limit until the check holds", default=False),
)
RUNNING = Param("--check-running", "switch", "it must be running", default=False)
LIVENESS = Param("--check-liveness", "number", "each must have reported within so many seconds", low=0, high=10**6)
CONNECTED = Param("--check-connected", "switch", "it must be reachable", default=False)
ACTIVE = Param("--check-active", "switch", "it must take part in the domain", default=False)
CONVERGED = Param("--check-converged", "switch", "it must have the newest revision of the domain state", default=False)
TLS = Param("--check-tls", "switch", "its engine program must have TLS", default=False)
ACKS = Param("--wait-for-acks", "switch", "a process or server that has never reported does not count as alive", default=False)

VERBS = (
    Cmdlet(
        "check database",
        "Checks the state of a database and its processes.",
        "nouns.checks:database",
        (
            DB_NAME,
            *WAITS,
            RUNNING,
            Param("--check-syncing", "switch", "each process must run or be synchronising", default=False),
            Param("--num-processes", "number", "number of processes that must run", low=0, high=10**6),
            LIVENESS,
            ACKS,
            Param("--fail-on-process-exit", "switch", "fail when a process ends meanwhile", default=False),
            *SHARED,
        ),
    ),
    Cmdlet(
        "check machines",
        "Checks that the machines of the domain reach each other and are fit for it; prints what is not so, and its fix.",
        "nouns.checks:machines",
        SHARED,
    ),
    Cmdlet(
        "check process",
        "Checks that a process runs or has ended.",
        "nouns.checks:process",
        (
            START_ID,
            *WAITS,
            RUNNING,
            Param("--check-exited", "switch", "it must have ended", default=False),
            LIVENESS,
            Param("--wait-for-ack", "switch", "a process that has never reported does not count as alive", default=False),
            *SHARED,
        ),
    ),
    Cmdlet(
        "check server",
        "Checks that the server whose manager answers takes part in its domain.",
        "nouns.checks:server",
        (*WAITS, ACTIVE, CONNECTED, CONVERGED, TLS, *SHARED),
    ),
    Cmdlet(
        "check servers",
        "Checks that all servers take part in one domain.",
        "nouns.checks:servers",
        (
            *WAITS,
            ACTIVE,
            CONNECTED,
            CONVERGED,
            Param("--check-leader", "switch", "all must have the same leader", default=False),
            Param("--num-servers", "number", "number of servers that the domain must have", low=0, high=10**6),
            LIVENESS,
            ACKS,
            *SHARED,
        ),
    ),
)


WAIT_OR_LOOK = "Give --timeout SECONDS to wait for it; see also dkv show domain."


class Never(Exception):
    """It is not so and waiting cannot make it so. `str()` is the sentence."""


def until_so(session: Session, bound: Bound, look: Callable[[], str]) -> int:
    """Look until there is no objection, or the time is over. `look` gives the objection as a sentence, "" without one."""
    hint: str | Hint = WAIT_OR_LOOK

    def objection() -> str:
        nonlocal hint
        hint = WAIT_OR_LOOK
        try:
            return look()
        except ManagerRefused as refused:
            if refused.status not in (404, 503):
                raise
            hint = refused.hint or hint
            return refused.message
        except ClientError as error:
            return error.message

    within = float("inf") if bound["--wait-forever"] else bound["--timeout"]
    try:
        last = session.until(
            objection, lambda last: not last, within, pause=FIRST_PAUSE, longest_pause=LONGEST_PAUSE, progress=lambda last: last
        )
    except Never as never:
        last = str(never)
    if session.screen.as_json:
        session.screen.data({"ok": False, "reason": last} if last else {"ok": True})
    if last:
        session.screen.error(last, hint)
    return FAILED if last else DONE


# A database and its processes ----------------------------------------------------------------------------------------


def database(session: Session, bound: Bound) -> int:
    """The database's state, its processes' states, how long ago each reported."""
    only_one(bound, "--timeout", "--wait-forever")
    only_one(bound, "--check-running", "--check-syncing")
    client, name = dialect(session, bound), bound["--db-name"]
    expected: list[tuple[int, int]] = []

    def look() -> str:
        database: Json = client.get(f"/databases/{quoted(name)}")
        if database["state"] == "TOMBSTONE":
            raise Never(f"The database {name} was deleted.")
        _check_incarnation(database, expected, bound)
        processes = client.items("/processes", "startId", dbName=exactly(name))
        objection = _against_database(database, processes, bound) or _silent(processes, bound)
        return objection or (_blocked(session.screen, database) if bound["--check-running"] else "")

    return until_so(session, bound, look)


def _check_incarnation(database: Json, expected: list[tuple[int, int]], bound: Bound) -> None:
    now = (database["incarnation"]["major"], database["incarnation"]["minor"])
    if not expected:
        expected += [now, (now[0] + 1, 0)] if database["state"] == "NOT_RUNNING" else [now]
    if bound["--fail-on-process-exit"] and now not in expected:
        raise Never(f"A process of {database['name']} ended: its incarnation is {now}.")


def _against_database(database: Json, processes: Sequence[Json], bound: Bound) -> str:
    name, count = database["name"], bound["--num-processes"]
    if count is not None and len(processes) != count:
        return f"{name} has {len(processes)} processes and should have {count}."
    if not bound["--check-running"] and not bound["--check-syncing"] and count is None:
        return ""
    if bound["--check-running"] and database["state"] != "RUNNING":
        return f"The database {name} is {database['state']}."
    states = ("RUNNING", "SYNCING") if bound["--check-syncing"] else ("RUNNING",)
    return next(filter(None, (_against_process(process, states) for process in processes)), "")


def _blocked(screen: Screen, database: Json) -> str:
    """Why clients' writes are refused, or may be, although all states look well."""
    items = [item for item in database.get("waiting") or () if item.get("blocksWrites") or item["kind"] == "server"]
    return " ".join(
        f"{item['subject']}: {item['reason']}." + (f" hint: {screen.hint_of(item)}" if item["hint"] else "") for item in items
    )


def _against_process(process: Json, states: Sequence[str] = ("RUNNING",)) -> str:
    if process["durableState"] == "MONITORED" and process.get("state") in states:
        return ""
    return f"Process {process['startId']} is {process['durableState']}:{process.get('state') or 'UNKNOWN'}."


def _silent(processes: Sequence[Json], bound: Bound) -> str:
    """The objection to the first process that has not reported for too long; "" without one."""
    limit = bound["--check-liveness"]
    strict = bound.get("--wait-for-acks") or bound.get("--wait-for-ack")
    for process in processes:
        silence_ms = process.get("lastHeardFrom")
        if silence_ms is None and strict:
            return f"Process {process['startId']} has never reported."
        if limit is not None and silence_ms is not None and silence_ms > 1000 * limit:
            return f"Process {process['startId']} last reported {silence_ms / 1000:.1f} s ago."
    return ""


def process(session: Session, bound: Bound) -> int:
    """One process: alive, running, or ended."""
    only_one(bound, "--timeout", "--wait-forever")
    only_one(bound, "--check-running", "--check-exited")
    client, start_id = dialect(session, bound), bound["--start-id"]

    def look() -> str:
        living = client.items("/processes", "startId", startId=exactly(start_id))
        if not living:
            return _ended(client, start_id, bound)
        if bound["--check-exited"]:
            return f"Process {start_id} has not ended: {living[0]['durableState']}."
        return (_against_process(living[0]) if bound["--check-running"] else "") or _silent(living, bound)

    return until_so(session, bound, look)


def _ended(client: DialectClient, start_id: int, bound: Bound) -> str:
    ended = client.items("/processes/exited", "process.startId", process__startId=exactly(start_id))
    if not ended:
        raise Never(f"There is no process {start_id}.")
    if bound["--check-exited"]:
        return ""
    raise Never(f"Process {start_id} ended: {ended[0].get('reason')} ({ended[0].get('exitCode')}).")


# Servers -------------------------------------------------------------------------------------------------------------


def server(session: Session, bound: Bound) -> int:
    """The server that answers."""
    only_one(bound, "--timeout", "--wait-forever")
    client = dialect(session, bound)

    def look() -> str:
        peers = client.items("/peers", "id")
        local = next((peer for peer in peers if peer.get("isLocal")), None)
        if local is None:
            return "The manager does not know which server it is."
        objection = _against_server(local, bound) or (_behind(local, peers) if bound["--check-converged"] else "")
        _say_days_left(session.screen, local, objection)
        return objection

    return until_so(session, bound, look)


def _against_server(peer: Json, bound: Bound) -> str:
    life = (peer.get("localRoleInfo") or {}).get("lifeCycle")
    if bound["--check-active"] and life != "ACTIVE":
        return f"The server {peer['id']} is {life}."
    if bound["--check-connected"] and connected(peer) != "Connected":
        return f"The server {peer['id']} is {connected(peer)}."
    days = peer.get("certificateDaysLeft")
    if days is not None and days < FEWEST_DAYS:
        return f"The certificate of the server {peer['id']} {f'ends in {days} days' if days >= 0 else 'has ended'}."
    engine = peer.get("engine") or {}
    days = engine.get("certificateDaysLeft")
    if days is not None and days < FEWEST_DAYS:
        return f"A certificate of the engines of server {peer['id']} {f'ends in {days} days' if days >= 0 else 'has ended'}."
    if bound.get("--check-tls") and not engine.get("tls"):
        return f"The engine program of server {peer['id']}, Valkey {engine.get('release') or 'unknown'}, has no TLS."
    return ""


def _say_days_left(screen: Screen, peer: Json, objection: str) -> None:
    if not objection and (days := peer.get("certificateDaysLeft")) is not None:
        screen.note(f"The certificate of the server {peer['id']} is valid for {days} days.")
    if not objection and (days := (peer.get("engine") or {}).get("certificateDaysLeft")) is not None:
        screen.note(f"The certificates of the engines of server {peer['id']} are valid for {days} days at least.")


def _behind(local: Json, peers: Sequence[Json]) -> str:
    """Why a server's state may be older than the leader's; "" if it is not. A leader needs more than half of the servers."""
    role = local.get("localRoleInfo") or {}
    leader = next((peer for peer in peers if peer["id"] == role.get("leaderServerId")), None)
    if leader is None:
        return f"The server {local['id']} has no leader."
    if _index(local, "commitIndex") < _index(leader, "commitIndex"):
        return f"The server {local['id']} is behind its leader {leader['id']}."
    voters = [peer for peer in peers if not peer.get("isEvicted")]
    reached = [peer for peer in voters if connected(peer) == "Connected"]
    if leader is local and 2 * len(reached) <= len(voters):
        return f"The leader {local['id']} reaches {len(reached)} of {len(voters)} servers."
    return ""


def _index(peer: Json, name: str) -> int:
    info = (peer.get("localRoleInfo") or {}).get("localPeerTermIndexInfo") or {}
    return int(info.get(name) or 0)


def servers(session: Session, bound: Bound) -> int:
    """All servers, each as it sees itself."""
    only_one(bound, "--timeout", "--wait-forever")
    client, count = dialect(session, bound), bound["--num-servers"]

    def look() -> str:
        peers = [peer for peer in client.items("/peers", "id") if not peer.get("isEvicted")]
        if count is not None and len(peers) != count:
            return f"There are {len(peers)} servers and there should be {count}."
        objections = (_against_server(peer, bound) or _silent_server(peer, bound) for peer in peers)
        return next(filter(None, objections), "") or _disagree(peers, bound)

    return until_so(session, bound, look)


def _silent_server(peer: Json, bound: Bound) -> str:
    limit, silence_ms = bound["--check-liveness"], (peer.get("connectedState") or {}).get("lastAckDeltaMillis", -1)
    if peer.get("isLocal") or (silence_ms < 0 and not bound["--wait-for-acks"]):
        return ""
    if silence_ms < 0:
        return f"The server {peer['id']} has never reported."
    late = limit is not None and silence_ms > 1000 * limit
    return f"The server {peer['id']} last reported {silence_ms / 1000:.1f} s ago." if late else ""


def _disagree(peers: Sequence[Json], bound: Bound) -> str:
    leaders = {(peer.get("localRoleInfo") or {}).get("leaderServerId") for peer in peers}
    if (bound["--check-leader"] or bound["--check-converged"]) and (len(leaders) != 1 or None in leaders):
        return f"The servers do not agree on one leader: {', '.join(sorted(map(str, leaders)))}."
    indexes = {(_index(peer, "logLastTerm"), _index(peer, "commitIndex")) for peer in peers}
    if bound["--check-converged"] and len(indexes) != 1:
        return "The servers are not all at the same point of the domain's history."
    return ""


# Machines ------------------------------------------------------------------------------------------------------------


def machines(session: Session, bound: Bound) -> int:
    """A line for each machine, and below it what is wrong there. Fails where something is stopped by it; advice does not."""
    rows = native(session, bound).machines()
    if session.screen.as_json:
        session.screen.data(rows)
    else:
        session.screen.block("\n".join(line for row in rows for line in _machine_lines(row)))
    return FAILED if any(finding["problem"] for row in rows for finding in row["findings"]) else DONE


def _machine_lines(row: schemas.Machine) -> Iterator[str]:
    yield f"{row['serverId']} {row['host']}: {_facts(row) if row['answers'] else 'does not answer'}"
    for finding in row["findings"]:
        yield f"  {'PROBLEM' if finding['problem'] else 'advice'}: {finding['text']}"
        yield f"    fix: {finding['fix']}"


def _facts(row: schemas.Machine) -> str:
    fsync = f"a synced write takes {row['fsync']:g} ms" if row["fsync"] >= 0 else "no write is possible"
    pages = f", huge pages: {row['hugePages']} (engines switch them off for themselves)" if row["hugePages"] == "always" else ""
    apart = abs(row["clockOffset"]) >= IN_STEP  # less may be the way of the answer
    clock = f"clock {row['clockOffset'] / 1000:+.1f} s" if apart else "clock in step"
    return f"{clock}, {fsync}, {row['openFiles']} open files, reaches {row['reached']} ports of engines{pages}"
