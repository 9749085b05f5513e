"""CLI: what verbs share: their common options, and how they reach the managers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dkv.cli.binding import Bound, Call, Param
from dkv.cli.errors import DONE, Usage
from dkv.cli.nouns.printing import show
from dkv.cli.session import Session
from dkv.client import Json, ManagerClient
from dkv.client.dialect import DialectClient
from dkv.client.manager import quoted

MANAGERS = Param(
    "--managers",
    "list",
    "the managers, separated by commas; default: the connected ones, else this machine's",
    aliases=("apiserver",),
)
OUTPUT = Param(
    "--output-format", "word", "the form of the output", default="text", aliases=("o",), choices=("text", "json", "table")
)
SHARED = (MANAGERS, OUTPUT)
"""What every verb takes."""

PLAN = Param("--plan", "switch", "print the commands and events that would follow, and change nothing", default=False)
CHANGES = (PLAN, *SHARED)
"""What every verb takes that changes something."""

DB_NAME = Param("--db-name", "text", "the database's name", required=True)
SERVER_ID = Param("--server-id", "text", "the server's id", required=True)
THIS_SERVER = Param("--this-server", "switch", "the server whose manager answers", default=False)
UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}  # ms
START_ID = Param("--start-id", "number", "the process's start id", required=True, low=0, high=10**9)


def dialect(session: Session, bound: Bound) -> DialectClient:
    """The NuoDB dialect of the command's managers. Changes are noted in `session.sent`."""
    return DialectClient(session.pool(bound["--managers"]), session.sent.append)


def native(session: Session, bound: Bound) -> ManagerClient:
    """The first of the command's managers that is ready, for what only the native API has."""
    return session.pool(bound["--managers"]).ready()


def only_one(bound: Bound, *names: str) -> None:
    """Refuse options that exclude each other. Raises Usage."""
    given = [name for name in names if bound[name]]
    if len(given) > 1:
        raise Usage(f"{' and '.join(given)} exclude each other.", "Give one of them.")


def server_of(client: DialectClient, bound: Bound) -> str:
    """The server a verb is for: the one it names, or the one that answers. Raises Usage."""
    server_id = bound["--server-id"]
    if bool(server_id) == bool(bound["--this-server"]):
        raise Usage("A server is required.", "Give either --server-id or --this-server.")
    return str(server_id or next(server["id"] for server in client.items("/peers", "id") if server.get("isLocal")))


def region_ids(client: DialectClient) -> dict[str, int]:
    """The id of each region by its name."""
    return {region["name"]: region["id"] for region in client.items("/regions", "id")}


def unknown_region(name: str, known: Mapping[str, int]) -> Usage:
    """No such region."""
    return Usage(f"There is no region '{name}'.", f"There are: {', '.join(sorted(known))}.")


def send(session: Session, bound: Bound, call: Call) -> int:
    """Send the one request that a verb is, and print the answer."""
    import re  # only these verbs pay for it

    client = dialect(session, bound)
    path = re.sub(r"\{(--[a-z-]+)\}", lambda option: quoted(bound[option[1]]), call.path)
    query: dict[str, Any] = {name: bound[option] for name, option in call.query}
    if call.many:
        address, _, order = path.partition("?orderBy=")
        show(session, call.shape, client.items(address, order))
        return DONE
    if call.method == "GET":
        answer: Any = client.get(path, **query)
    else:
        answer = client.change(call.method, path, _body(call, bound), **query)
    if call.shape == "json":
        session.screen.data(answer)
    elif call.shape:
        show(session, call.shape, answer)
    return DONE


def _body(call: Call, bound: Bound) -> Json | None:
    return {field: bound[option] for field, option in call.body} or None


def milliseconds(text: str) -> int:
    """A time such as 30m, 1h or 90d. Raises Usage."""
    number, unit = text[:-1], text[-1:].lower()
    if unit not in UNITS or not (number.isascii() and number.isdigit() and len(number) <= 6):
        raise Usage(f"'{text}' is not a time that a token is taken.", "Write a number and s, m, h or d: 30m, 1h, 90d.")
    return int(number) * UNITS[unit]
