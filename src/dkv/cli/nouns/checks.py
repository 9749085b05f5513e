"""CLI: the checks scripts rely on: silent and 0 when it is so, one sentence and 1 when it is not.

What each looks at is nuocmd's (docs/reference/nuodb.md#flows).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED
from dkv.cli.nouns.databases import only_one
from dkv.cli.nouns.dialect_client import DB_NAME, SHARED, DialectClient, exactly, part
from dkv.cli.nouns.processes import START_ID
from dkv.cli.nouns.shapes import connected
from dkv.cli.session import Session
from dkv.client import ClientError, Json, ManagerRefused

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0  # s between two looks; doubled each time

WAITS = (
    Param("--timeout", "number", "seconds to wait for it", default=0, low=0, high=10**6),
    Param("--wait-forever", "switch", "wait without limit", default=False),
)
RUNNING = Param("--check-running", "switch", "it has to run", default=False)
LIVENESS = Param("--check-liveness", "number", "seconds since which each has to have been heard", low=0, high=10**6)
CONNECTED = Param("--check-connected", "switch", "it has to be reachable", default=False)
ACTIVE = Param("--check-active", "switch", "it has to take part", default=False)
CONVERGED = Param("--check-converged", "switch", "it has to know what the leader knows", default=False)
ACKS = Param("--wait-for-acks", "switch", "who was never heard of does not count as alive", default=False)

VERBS = (
    Cmdlet(
        "check database",
        "Whether a database and its processes are as they should be.",
        "nouns.checks:database",
        (
            DB_NAME,
            *WAITS,
            RUNNING,
            Param("--check-syncing", "switch", "each runs or is being copied to", default=False),
            Param("--num-processes", "number", "so many processes have to run", low=0, high=10**6),
            LIVENESS,
            ACKS,
            Param("--fail-on-process-exit", "switch", "give up when a process ends meanwhile", default=False),
            *SHARED,
        ),
    ),
    Cmdlet(
        "check process",
        "Whether a process runs, or has ended.",
        "nouns.checks:process",
        (
            START_ID,
            *WAITS,
            RUNNING,
            Param("--check-exited", "switch", "it has to have ended", default=False),
            LIVENESS,
            Param("--wait-for-ack", "switch", "never heard of does not count as alive", default=False),
            *SHARED,
        ),
    ),
    Cmdlet(
        "check server",
        "Whether the server that is asked takes part in its domain.",
        "nouns.checks:server",
        (*WAITS, ACTIVE, CONNECTED, CONVERGED, *SHARED),
    ),
    Cmdlet(
        "check servers",
        "Whether all servers take part in one domain.",
        "nouns.checks:servers",
        (
            *WAITS,
            ACTIVE,
            CONNECTED,
            CONVERGED,
            Param("--check-leader", "switch", "all name one leader", default=False),
            Param("--num-servers", "number", "there have to be so many", low=0, high=10**6),
            LIVENESS,
            ACKS,
            *SHARED,
        ),
    ),
)


WAIT_OR_LOOK = "Give --timeout SECONDS to wait for it; dkv show domain tells more."


class Never(Exception):
    """It is not so and waiting cannot make it so. `str()` is the sentence."""


def until(session: Session, bound: Bound, look: Callable[[], str]) -> int:
    """Look until there is nothing to say against it, or the time is over."""
    ends, pause = session.clock() + bound["--timeout"], FIRST_PAUSE
    while True:
        hint = WAIT_OR_LOOK
        try:
            said = look()
        except Never as never:
            return _no(session, str(never))
        except ManagerRefused as refused:
            if refused.status not in (404, 503):
                raise
            said, hint = refused.message, refused.hint or hint
        except ClientError as trouble:
            said = str(trouble)
        if not said:
            if session.screen.as_json:
                session.screen.data({"ok": True})
            return DONE
        left = ends - session.clock()
        if left <= 0 and not bound["--wait-forever"]:
            return _no(session, said, hint)
        session.screen.progress(said)
        session.sleep(min(pause, left) if not bound["--wait-forever"] else pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _no(session: Session, said: str, hint: str = WAIT_OR_LOOK) -> int:
    if session.screen.as_json:
        session.screen.data({"ok": False, "reason": said})
    session.screen.error(said, hint)
    return FAILED


# A database and its processes ------------------------------------------------------------------------------------


def database(session: Session, bound: Bound) -> int:
    """The database's state, its processes' states, how long ago each was heard."""
    only_one(bound, "--timeout", "--wait-forever")
    only_one(bound, "--check-running", "--check-syncing")
    door, name = DialectClient(session, bound), bound["--db-name"]
    first: list[tuple[int, int]] = []

    def look() -> str:
        found: Json = door.get(f"/databases/{part(name)}")
        if found["state"] == "TOMBSTONE":
            raise Never(f"The database {name} was deleted.")
        _same_incarnation(found, first, bound)
        processes = door.items("/processes", "startId", dbName=exactly(name))
        said = _against_database(found, processes, bound) or silent(processes, bound)
        return said or (_held(found) if bound["--check-running"] else "")

    return until(session, bound, look)


def _same_incarnation(found: Json, first: list[tuple[int, int]], bound: Bound) -> None:
    now = (found["incarnation"]["major"], found["incarnation"]["minor"])
    if not first:
        first += [now, (now[0] + 1, 0)] if found["state"] == "NOT_RUNNING" else [now]
    if bound["--fail-on-process-exit"] and now not in first:
        raise Never(f"A process of {found['name']} ended: its incarnation is {now}.")


def _against_database(found: Json, processes: Sequence[Json], bound: Bound) -> str:
    wanted = bound["--num-processes"]
    if wanted is not None and len(processes) != wanted:
        return f"{found['name']} has {len(processes)} processes and should have {wanted}."
    if not bound["--check-running"] and not bound["--check-syncing"] and wanted is None:
        return ""
    if bound["--check-running"] and found["state"] != "RUNNING":
        return f"The database {found['name']} is {found['state']}."
    fine = ("RUNNING", "SYNCING") if bound["--check-syncing"] else ("RUNNING",)
    return next((said for one in processes if (said := _against_process(one, fine))), "")


def _held(found: Json) -> str:
    """Why clients' writes are not taken, or nobody knows whether they are, although all that is written looks well."""
    held = [one for one in found.get("waiting") or () if one.get("blocksWrites") or one["kind"] == "server"]
    return " ".join(f"{one['subject']}: {one['reason']}." + (f" Fix: {one['fix']}" if one["fix"] else "") for one in held)


def _against_process(one: Json, fine: Sequence[str] = ("RUNNING",)) -> str:
    if one["durableState"] == "MONITORED" and one.get("state") in fine:
        return ""
    return f"Process {one['startId']} is {one['durableState']}:{one.get('state') or 'UNKNOWN'}."


def silent(found: Sequence[Json], bound: Bound) -> str:
    """Which process was not heard of for too long; "" if none."""
    limit = bound["--check-liveness"]
    strict = bound.get("--wait-for-acks") or bound.get("--wait-for-ack")
    for one in found:
        heard = one.get("lastHeardFrom")
        if heard is None and strict:
            return f"Process {one['startId']} was never heard of."
        if limit is not None and heard is not None and heard > 1000 * limit:
            return f"Process {one['startId']} was last heard of {heard / 1000:.1f} s ago."
    return ""


def process(session: Session, bound: Bound) -> int:
    """One process: alive, running, or ended."""
    only_one(bound, "--timeout", "--wait-forever")
    only_one(bound, "--check-running", "--check-exited")
    door, start_id = DialectClient(session, bound), bound["--start-id"]

    def look() -> str:
        live = door.items("/processes", "startId", startId=exactly(start_id))
        if not live:
            return _ended(door, start_id, bound)
        if bound["--check-exited"]:
            return f"Process {start_id} has not ended: {live[0]['durableState']}."
        against = _against_process(live[0]) if bound["--check-running"] else ""
        return against or silent(live, bound)

    return until(session, bound, look)


def _ended(door: DialectClient, start_id: int, bound: Bound) -> str:
    ended = door.items("/processes/exited", "process.startId", process__startId=exactly(start_id))
    if not ended:
        raise Never(f"There is no process {start_id}.")
    if bound["--check-exited"]:
        return ""
    raise Never(f"Process {start_id} ended: {ended[0].get('reason')} ({ended[0].get('exitCode')}).")


# Servers ---------------------------------------------------------------------------------------------------------


def server(session: Session, bound: Bound) -> int:
    """The server that answers."""
    only_one(bound, "--timeout", "--wait-forever")
    door = DialectClient(session, bound)

    def look() -> str:
        peers = door.items("/peers", "id")
        local = next((one for one in peers if one.get("isLocal")), None)
        if local is None:
            return "The manager does not know which server it is."
        return _against_server(local, bound) or (_behind(local, peers) if bound["--check-converged"] else "")

    return until(session, bound, look)


def _against_server(one: Json, bound: Bound) -> str:
    life = (one.get("localRoleInfo") or {}).get("lifeCycle")
    if bound["--check-active"] and life != "ACTIVE":
        return f"The server {one['id']} is {life}."
    if bound["--check-connected"] and connected(one) != "Connected":
        return f"The server {one['id']} is {connected(one)}."
    return ""


def _behind(local: Json, peers: Sequence[Json]) -> str:
    """Why a server may not know what the leader knows; "" if it does. A leader needs more than half of the servers."""
    role = local.get("localRoleInfo") or {}
    leader = next((one for one in peers if one["id"] == role.get("leaderServerId")), None)
    if leader is None:
        return f"The server {local['id']} knows no leader."
    if _index(local, "commitIndex") < _index(leader, "commitIndex"):
        return f"The server {local['id']} is behind its leader {leader['id']}."
    voters = [one for one in peers if not one.get("isEvicted")]
    there = [one for one in voters if connected(one) == "Connected"]
    if leader is local and 2 * len(there) <= len(voters):
        return f"The leader {local['id']} reaches {len(there)} of {len(voters)} servers."
    return ""


def _index(one: Json, name: str) -> int:
    info = (one.get("localRoleInfo") or {}).get("localPeerTermIndexInfo") or {}
    return int(info.get(name) or 0)


def servers(session: Session, bound: Bound) -> int:
    """All servers, each as it sees itself."""
    only_one(bound, "--timeout", "--wait-forever")
    door = DialectClient(session, bound)

    def look() -> str:
        peers = [one for one in door.items("/peers", "id") if not one.get("isEvicted")]
        wanted = bound["--num-servers"]
        if wanted is not None and len(peers) != wanted:
            return f"There are {len(peers)} servers and there should be {wanted}."
        said = next((said for one in peers if (said := _against_server(one, bound) or _unheard(one, bound))), "")
        return said or _disagree(peers, bound)

    return until(session, bound, look)


def _unheard(one: Json, bound: Bound) -> str:
    limit, heard = bound["--check-liveness"], (one.get("connectedState") or {}).get("lastAckDeltaMillis", -1)
    if one.get("isLocal") or (heard < 0 and not bound["--wait-for-acks"]):
        return ""
    if heard < 0:
        return f"The server {one['id']} was never heard of."
    late = limit is not None and heard > 1000 * limit
    return f"The server {one['id']} was last heard of {heard / 1000:.1f} s ago." if late else ""


def _disagree(peers: Sequence[Json], bound: Bound) -> str:
    leaders = {(one.get("localRoleInfo") or {}).get("leaderServerId") for one in peers}
    if (bound["--check-leader"] or bound["--check-converged"]) and (len(leaders) != 1 or None in leaders):
        return f"The servers do not agree on one leader: {', '.join(sorted(str(one) for one in leaders))}."
    indexes = {(_index(one, "logLastTerm"), _index(one, "commitIndex")) for one in peers}
    if bound["--check-converged"] and len(indexes) != 1:
        return "The servers are not all at the same point of the domain's history."
    return ""
