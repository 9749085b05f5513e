"""CLI: servers: list them, shut one down, take one out of the domain, see how one is configured."""

from __future__ import annotations

from dkv.cli.binding import Bound, Call, Cmdlet, Param
from dkv.cli.errors import DONE, CliError, nearest
from dkv.cli.nouns.dialect_client import CHANGES, SERVER_ID, SHARED, DialectClient, part
from dkv.cli.nouns.processes import THIS_SERVER, server_of
from dkv.cli.session import Session

PATH = "/peers/{--server-id}"

VERBS = (
    Cmdlet("get servers", "Lists the servers.", "", SHARED, Call("GET", "/peers?orderBy=id", "Server", many=True)),
    Cmdlet(
        "shutdown server",
        "Ends a server's manager; its engines go on.",
        "nouns.servers:shutdown",
        (
            SERVER_ID._replace(required=False),
            THIS_SERVER,
            Param("--evict-local", "switch", "its processes leave first", default=False),
            *CHANGES,
        ),
    ),
    Cmdlet("delete server", "Takes a server that is away out of the domain.", "", (SERVER_ID, *CHANGES), Call("DELETE", PATH)),
    Cmdlet(
        "delete server-state",
        "Gives up the processes and archives of a server that will not come back.",
        "",
        (SERVER_ID, *CHANGES),
        Call("POST", PATH + "/removeDomainState"),
    ),
    Cmdlet(
        "get server-config",
        "How a server is configured.",
        "nouns.servers:config",
        (SERVER_ID._replace(required=False), THIS_SERVER, Param("--property-key", "text", "only this property"), *SHARED),
    ),
)


def shutdown(session: Session, bound: Bound) -> int:
    """End a manager."""
    door = DialectClient(session, bound)
    path = f"/peers/{part(server_of(door, bound))}/shutdown"
    door.change("POST", path, evictLocal=bound["--evict-local"])
    return DONE


def config(session: Session, bound: Bound) -> int:
    """The configuration of one server as JSON, or one property of it as text."""
    door = DialectClient(session, bound)
    path = "/diagnostics/config" + ("" if bound["--this-server"] else f"/{part(server_of(door, bound))}")
    found, key = door.get(path), bound["--property-key"]
    if not key:
        session.screen.data(found)
        return DONE
    if key not in found["properties"]:
        near = nearest(key, found["properties"], f"Known: {', '.join(sorted(found['properties']))}.")
        raise CliError(f"There is no property {key}.", near)
    session.screen.line(str(found["properties"][key]))
    return DONE
