"""CLI: what support asks for: logs, a marker in them, and everything there is to know in one archive file."""

from __future__ import annotations

import io
import re
from pathlib import Path

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE, CliError
from dkv.cli.nouns.dialect_client import SHARED, DialectClient, part
from dkv.cli.session import Session
from dkv.client import ClientError, Json, Reply

SINCE = Param("--modified-after", "text", "only files changed after this time, in seconds since 1970")
SENSITIVE = Param("--include-sensitive-files", "switch", "also configuration with secrets", default=False)

VERBS = (
    Cmdlet(
        "get server-logs",
        "Fetches the logs of the server that is asked, as a ZIP file.",
        "nouns.support:logs",
        (
            Param("--output", "text", "the file, or the directory with --unpack"),
            Param("--dump-threads", "switch", "also what it does right now", default=False),
            Param("--unpack", "switch", "unpack it", default=False),
            SINCE,
            SENSITIVE,
            *SHARED,
        ),
    ),
    Cmdlet(
        "get diagnose-info",
        "Collects logs, configuration and state of all servers in one directory.",
        "nouns.support:diagnose",
        (
            Param("--output-dir", "text", "the directory", default="."),
            Param("--db-name", "text", "only this database"),
            SINCE,
            SENSITIVE,
            *SHARED,
        ),
    ),
    Cmdlet(
        "log message",
        "Writes a line into the log of the server that is asked.",
        "nouns.support:message",
        (Param("--message", "text", "the line", required=True), *SHARED),
    ),
)


def logs(session: Session, bound: Bound) -> int:
    """The ZIP file of one server's logs."""
    reply = _logs(DialectClient(session, bound), bound, threads=bound["--dump-threads"])
    if bound["--unpack"]:
        session.screen.line(str(_unpack(reply, Path(bound["--output"] or "."))))
        return DONE
    target = Path(bound["--output"] or _file_name(reply))
    _write(target, reply.body)
    session.screen.line(str(target))
    return DONE


def _logs(door: DialectClient, bound: Bound, *, threads: bool) -> Reply:
    after = bound["--modified-after"]
    if after is not None and not after.isdigit():
        raise CliError(f"--modified-after cannot be '{after}'.", "It is seconds since 1970, such as 1767225600.")
    query = {
        "includeThreadDump": threads,
        "includeCoreFiles": False,
        "modifiedAfterEpochSec": after,
        "excludeSensitiveFiles": not bound["--include-sensitive-files"],
    }
    return door.fetch("GET", "/diagnostics/logs", query=query)


def _file_name(reply: Reply) -> str:
    found = re.search(r"filename=\"?([A-Za-z0-9_.-]+)", reply.headers.get("content-disposition", ""))
    return found[1] if found else "server-logs.zip"


def _write(target: Path, data: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    except OSError as error:
        raise CliError(f"{target} cannot be written: {error.strerror}.", "Name another place.") from error


def _unpack(reply: Reply, where: Path) -> Path:
    import zipfile  # only here

    try:
        with zipfile.ZipFile(io.BytesIO(reply.body)) as packed:
            packed.extractall(where)
    except (OSError, zipfile.BadZipFile) as error:
        raise CliError(f"The logs cannot be unpacked into {where}: {error}.", "Name another place.") from error
    return where


def diagnose(session: Session, bound: Bound) -> int:
    """Everything, server by server; a server that does not answer is noted, not waited for."""
    import json
    import time

    door = DialectClient(session, bound)
    where = Path(bound["--output-dir"]) / time.strftime("diagnose-%Y%m%dT%H%M%S")
    name = bound["--db-name"]
    whole = {
        "domain": door.get("/diagnostics/captureDomainState"),
        "servers": door.items("/peers", "id"),
        "databases": [door.get(f"/databases/{part(name)}")] if name else door.items("/databases", "name"),
        "processes": door.items("/processes", "startId"),
        "archives": door.items("/archives", "id"),
        "exited": door.items("/processes/exited", "process.startId"),
        "events": door.native().events(),
    }
    for title, found in whole.items():
        _write(where / f"{title}.json", json.dumps(found, indent=2, sort_keys=True).encode())
    for server in whole["servers"]:
        _of_server(session, bound, server, where)
    session.screen.line(str(where))
    return DONE


def _of_server(session: Session, bound: Bound, server: Json, where: Path) -> None:
    import json

    door = DialectClient(session, bound | {"--managers": [server["address"]]})
    try:
        config = door.get("/diagnostics/config")
        _write(where / server["id"] / "config.json", json.dumps(config, indent=2, sort_keys=True).encode())
        _unpack(_logs(door, bound, threads=True), where)
    except ClientError as trouble:
        session.screen.note(f"warning: {server['id']} is left out: {trouble}")
        _write(where / server["id"] / "left-out.txt", f"{trouble}\n".encode())


def message(session: Session, bound: Bound) -> int:
    """One line in a log."""
    DialectClient(session, bound).ask("/diagnostics/log", {"message": bound["--message"]})
    return DONE
