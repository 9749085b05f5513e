"""CLI: the domain as a whole: show domain (docs/reference/nuodb.md#output), and what the managers agree on, as JSON."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE
from dkv.cli.nouns.dialect_client import SHARED, DialectClient, Look
from dkv.cli.nouns.printing import keep, lines, say_waiting
from dkv.cli.nouns.shapes import connected, database_line, process_line, server_line
from dkv.cli.session import Session
from dkv.client import Json

VERBS = (
    Cmdlet(
        "show domain",
        "Shows servers, databases and processes.",
        "nouns.domain:show_domain",
        (
            Param("--client-token", "text", "what is written into the managers' logs to find this moment again"),
            Param("--include-tombstone-databases", "switch", "also databases that were deleted", default=False),
            *SHARED,
        ),
    ),
    Cmdlet(
        "capture domain-state",
        "Writes down all that the managers agree on, for support.",
        "nouns.domain:capture",
        (Param("--output", "text", "the file; else it is printed", default="-"), *SHARED),
    ),
)


def show_domain(session: Session, bound: Bound) -> int:
    """Servers, databases, processes, in the documented layout (docs/reference/nuodb.md#output)."""
    door = DialectClient(session, bound)
    token = bound["--client-token"] or _token()
    told: Json = door.ask("/diagnostics/log", {"message": f"show domain, client token: {token}"})
    servers, databases, processes = door.at_once(Look("/peers", "id"), Look("/databases", "name"), Look("/processes", "startId"))
    if not bound["--include-tombstone-databases"]:
        databases = [one for one in databases if one["state"] != "TOMBSTONE"]
    here = {server["id"]: connected(server) for server in servers}

    def text() -> Iterator[str]:
        yield f"server version: {told['serverVersion']}, server license: {told.get('licenseType')}"
        yield f"server time: {local_time(told['serverTimeMillis'])}, client token: {token}"
        yield "Servers:"
        yield from (f"  {server_line(server)}" for server in servers)
        yield "Databases:"
        for database in databases:
            yield f"  {database_line(database)}"
            of_it = (one for one in processes if one["dbName"] == database["name"])
            yield from (f"    {process_line(process, here)}" for process in of_it)

    lines(session, {**told, "clientToken": token, "servers": servers, "databases": databases, "processes": processes}, text())
    for database in databases:
        say_waiting(session, database)
    return DONE


def _token() -> str:
    return os.urandom(20).hex()  # as long as nuocmd's, which hashes the time; hashlib would cost 4 ms of imports


def local_time(at: int) -> str:
    """Wall-clock ms as nuocmd prints them: this machine's time zone, to the millisecond."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(at / 1000))}.{at % 1000:03d}"


def capture(session: Session, bound: Bound) -> int:
    """The replicated state as JSON."""
    keep(session, bound["--output"], DialectClient(session, bound).get("/diagnostics/captureDomainState"))
    return DONE
