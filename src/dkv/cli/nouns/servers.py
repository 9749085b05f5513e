"""CLI: servers: list, shut down and take them out of the domain; their configuration and logs, for support too."""

from __future__ import annotations

import io
import os
import re

from dkv.cli.binding import Bound, Call, Cmdlet, Param
from dkv.cli.errors import DONE, CliError
from dkv.cli.nouns.authority import EXPIRES
from dkv.cli.nouns.common import CHANGES, SERVER_ID, SHARED, THIS_SERVER, dialect, native, server_of
from dkv.cli.session import Session
from dkv.client import ClientError, Json, Reply
from dkv.client.dialect import DialectClient
from dkv.client.manager import quoted
from dkv.spelling import nearest

PATH = "/peers/{--server-id}"
SINCE = Param("--modified-after", "text", "only files changed after this time, in seconds since 1970-01-01 UTC")
SENSITIVE = Param("--include-sensitive-files", "switch", "also include configuration that holds secrets", default=False)

VERBS = (
    Cmdlet("get servers", "Lists the servers.", "", SHARED, Call("GET", "/peers?orderBy=id", "Server", many=True)),
    Cmdlet(
        "shutdown server",
        "Ends a server's manager; its engines keep running.",
        "nouns.servers:shutdown",
        (
            SERVER_ID._replace(required=False),
            THIS_SERVER,
            Param("--evict-local", "switch", "stop the server's processes first", default=False),
            *CHANGES,
        ),
    ),
    Cmdlet(
        "delete server",
        "Removes a server that is not reachable from the domain.",
        "",
        (SERVER_ID, *CHANGES),
        Call("DELETE", PATH),
    ),
    Cmdlet(
        "delete server-state",
        "Removes the processes and archives of a server that will not return.",
        "",
        (SERVER_ID, *CHANGES),
        Call("POST", PATH + "/removeDomainState"),
    ),
    Cmdlet(
        "replace server",
        "Makes a token with which another machine, or the same one with an empty disk, takes the place of a server that is away.",
        "nouns.authority:replace_server",
        (SERVER_ID, EXPIRES, *CHANGES),
    ),
    Cmdlet(
        "replace voter",
        "Has another server vote in the domain state's etcd in place of one that is away, without waiting any longer.",
        "nouns.servers:replace_voter",
        (SERVER_ID, *CHANGES),
    ),
    Cmdlet(
        "get server-config",
        "Shows how a server is configured.",
        "nouns.servers:config",
        (SERVER_ID._replace(required=False), THIS_SERVER, Param("--property-key", "text", "show only this property"), *SHARED),
    ),
    Cmdlet(
        "get server-logs",
        "Fetches the logs of the server whose manager answers, as a ZIP file.",
        "nouns.servers:logs",
        (
            Param("--output", "text", "the file; with --unpack the directory; default: the name that the manager gives"),
            Param("--dump-threads", "switch", "also include a stack trace of each thread", default=False),
            Param("--unpack", "switch", "unpack the ZIP file", default=False),
            SINCE,
            SENSITIVE,
            *SHARED,
        ),
    ),
    Cmdlet(
        "get diagnose-info",
        "Collects logs, configuration and state of all servers in one directory.",
        "nouns.servers:diagnose",
        (
            Param("--output-dir", "text", "the directory that a new directory is made in", default="."),
            Param("--db-name", "text", "only this database"),
            SINCE,
            SENSITIVE,
            *SHARED,
        ),
    ),
    Cmdlet(
        "log message",
        "Writes a line into the log of the manager that answers.",
        "nouns.servers:message",
        (Param("--message", "text", "the text of the line", required=True), *SHARED),
    ),
)


# Servers -------------------------------------------------------------------------------------------------------------


def shutdown(session: Session, bound: Bound) -> int:
    """End a manager."""
    client = dialect(session, bound)
    path = f"/peers/{quoted(server_of(client, bound))}/shutdown"
    client.change("POST", path, evictLocal=bound["--evict-local"])
    return DONE


def replace_voter(session: Session, bound: Bound) -> int:
    """Request it; the managers change the members within seconds, and events say so."""
    server_id = bound["--server-id"]
    answer = native(session, bound).replace_voter(server_id)
    if session.screen.as_json:
        session.screen.data(answer)
    else:
        session.screen.line(f"Server {answer['by']} is to vote in place of {server_id}.")
    return DONE


def config(session: Session, bound: Bound) -> int:
    """The configuration of one server as JSON, or one property of it as text."""
    client = dialect(session, bound)
    path = "/diagnostics/config" + ("" if bound["--this-server"] else f"/{quoted(server_of(client, bound))}")
    configuration, key = client.get(path), bound["--property-key"]
    if not key:
        session.screen.data(configuration)
        return DONE
    properties = configuration["properties"]
    if key not in properties:
        raise CliError(f"There is no property {key}.", nearest(key, properties, f"Known: {', '.join(sorted(properties))}."))
    session.screen.line(str(properties[key]))
    return DONE


# Support -------------------------------------------------------------------------------------------------------------


def logs(session: Session, bound: Bound) -> int:
    """The ZIP file of one server's logs."""
    reply = _logs(dialect(session, bound), bound, threads=bound["--dump-threads"])
    if bound["--unpack"]:
        session.screen.line(_unpack(reply, bound["--output"] or "."))
        return DONE
    target = bound["--output"] or _file_name(reply)
    _write(target, reply.body)
    session.screen.line(target)
    return DONE


def _logs(client: DialectClient, bound: Bound, *, threads: bool) -> Reply:
    after = bound["--modified-after"]
    if after is not None and not after.isdigit():
        raise CliError(f"--modified-after cannot be '{after}'.", "It is seconds since 1970, such as 1767225600.")
    query = {
        "includeThreadDump": threads,
        "includeCoreFiles": False,
        "modifiedAfterEpochSec": after,
        "excludeSensitiveFiles": not bound["--include-sensitive-files"],
    }
    return client.request("GET", "/diagnostics/logs", query=query)


def _file_name(reply: Reply) -> str:
    match = re.search(r"filename=\"?([A-Za-z0-9_.-]+)", reply.headers.get("content-disposition", ""))
    return match[1] if match else "server-logs.zip"


def _write(target: str, data: bytes) -> None:
    try:
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        with open(target, "wb") as file:
            file.write(data)
    except OSError as error:
        raise CliError(f"{target} cannot be written: {error.strerror}.", "Name another place.") from error


def _unpack(reply: Reply, directory: str) -> str:
    import zipfile  # only here

    try:
        with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
            archive.extractall(directory)
    except (OSError, zipfile.BadZipFile) as error:
        raise CliError(f"The logs cannot be unpacked into {directory}: {error}.", "Name another place.") from error
    return directory


def diagnose(session: Session, bound: Bound) -> int:
    """Everything, server by server; a server that does not answer is noted, not waited for."""
    import time

    client = dialect(session, bound)
    directory = os.path.join(bound["--output-dir"], time.strftime("diagnose-%Y%m%dT%H%M%S"))
    name = bound["--db-name"]
    documents = {
        "domain": client.get("/diagnostics/captureDomainState"),
        "servers": client.items("/peers", "id"),
        "databases": [client.get(f"/databases/{quoted(name)}")] if name else client.items("/databases", "name"),
        "processes": client.items("/processes", "startId"),
        "archives": client.items("/archives", "id"),
        "exited": client.items("/processes/exited", "process.startId"),
        "events": client.pool.current.events(),
    }
    for title, document in documents.items():
        _write(os.path.join(directory, f"{title}.json"), _json(document))
    for server in documents["servers"]:
        _diagnose_server(session, bound, server, directory)
    session.screen.line(directory)
    return DONE


def _diagnose_server(session: Session, bound: Bound, server: Json, directory: str) -> None:
    client = dialect(session, bound | {"--managers": [server["address"]]})
    try:
        _write(os.path.join(directory, server["id"], "config.json"), _json(client.get("/diagnostics/config")))
        _unpack(_logs(client, bound, threads=True), directory)
    except ClientError as error:
        session.screen.note(f"warning: {server['id']} is left out: {error}")
        _write(os.path.join(directory, server["id"], "left-out.txt"), f"{error}\n".encode())


def _json(document: object) -> bytes:
    import json

    return json.dumps(document, indent=2, sort_keys=True).encode()


def message(session: Session, bound: Bound) -> int:
    """One line in a log."""
    dialect(session, bound).ask("/diagnostics/log", {"message": bound["--message"]})
    return DONE
