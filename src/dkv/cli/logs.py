"""CLI: `dkv logs`: the newest lines of the log of a manager or of a process, and with -f those that come."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from dkv.cli.binding import Bound
from dkv.cli.errors import DONE, CliError, Usage
from dkv.cli.nouns.common import native, only_one
from dkv.cli.output import in_json
from dkv.cli.session import Session
from dkv.client import ManagerClient, ManagerUnreachable
from dkv.spelling import nearest

if TYPE_CHECKING:
    from dkv.wire import schemas

AGAIN = 1.0  # s until a followed log is looked at again
MOST = 10_000  # lines that one look at a followed log brings
BESIDE = ("timestamp", "level", "event", "package")  # fields of a manager's line that are not written as name=value


def logs(session: Session, bound: Bound) -> int:
    """Lines as they were written; those of a manager, which are JSON, as a person reads them."""
    only_one(bound, "--start-id", "--server-id")
    start_id, client = bound["--start-id"], _manager(session, bound)
    part = client.log_part(start_id, bound["--lines"])
    _print(session, part)
    if not part["lines"] and not bound["--follow"]:
        session.screen.note(f"{part['name']} of {part['server']} is empty.")
    while bound["--follow"]:
        session.sleep(AGAIN)
        with suppress(ManagerUnreachable):  # it is being restarted; its log goes on where it was
            part = client.log_part(start_id, MOST, part["next"])
            _print(session, part)
    return DONE


def _manager(session: Session, bound: Bound) -> ManagerClient:
    """The manager of the server that has the log. Raises CliError."""
    client = native(session, bound)
    server_id = bound["--server-id"]
    if bound["--start-id"] is not None:
        server_id = _server_of(client, bound["--start-id"])
    if server_id is None:
        return client
    servers = {server["serverId"]: server for server in client.domain()["servers"]}
    if server_id not in servers:
        raise Usage(f"There is no server {server_id}.", nearest(server_id, servers, f"There are: {', '.join(sorted(servers))}."))
    if servers[server_id]["isLocal"]:
        return client
    return session.pool([servers[server_id]["manager"]]).current


def _server_of(client: ManagerClient, start_id: int) -> str:
    """The server of a process that runs or ran. Raises CliError."""
    known: Iterable[schemas.Process | schemas.Tombstone] = [*client.processes(), *client.tombstones()]
    server = next((process["server"] for process in known if process["startId"] == start_id), None)
    if server is None:
        raise CliError(
            f"There is no process {start_id}, and no tombstone of one.", "dkv show domain lists processes by start id."
        )
    return str(server)


def _print(session: Session, part: schemas.LogPart) -> None:
    for line in part["lines"]:
        if session.screen.as_json:
            session.screen.data({"server": part["server"], "log": part["name"], "line": line}, indent=None)
        else:
            session.screen.line(readable(line))


def readable(line: str) -> str:
    """A line of a manager, which is a JSON object, as time, level, event and the rest; any other line as it is."""
    try:
        fields = json.loads(line) if line.startswith("{") else None
    except ValueError:
        return line
    if not isinstance(fields, dict) or "event" not in fields:
        return line
    rest = [f"{name}={_value(value)}" for name, value in fields.items() if name not in BESIDE and value not in ("", None)]
    head = f"{str(fields.get('timestamp', ''))[:19]}Z {fields.get('level', 'info'):<8}"
    return " ".join([f"{head}{fields['event']}", *rest])


def _value(value: object) -> str:
    text = value if isinstance(value, str) else in_json(value, indent=None)
    return f"'{text}'" if " " in text else text
