"""CLI: how a verb asks the domain: the NuoDB dialect of the first manager that answers (docs/reference/nuodb.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from dkv.cli.binding import Bound, Param
from dkv.cli.session import HERE, Session, endpoints
from dkv.client import Json, ManagerClient, ManagerRefused, ManagerUnreachable, Reply

ROOT = "/api/1"
MANAGERS = Param("--managers", "list", "the managers, with commas between; else the connected ones", aliases=("apiserver",))
OUTPUT = Param("--output-format", "word", "text or json", default="text", aliases=("o",), choices=("text", "json", "table"))
SHARED = (MANAGERS, OUTPUT)
"""What every verb takes."""

PLAN = Param("--plan", "switch", "print what would be done, and change nothing", default=False)
CHANGES = (PLAN, *SHARED)
"""What every verb takes that changes something."""

DB_NAME = Param("--db-name", "text", "the database", required=True)
SERVER_ID = Param("--server-id", "text", "the server", required=True)


class Look(NamedTuple):
    """An object or a whole list that is asked for: the address below /api/1, the field a list is ordered by, and what else as
    in `items`.
    """

    path: str
    order: str = ""
    filters: Mapping[str, object] = {}
    also: Mapping[str, object] = {}

    def target(self) -> str:
        """The address with its query."""
        return ROOT + self.path + _query({**_asking(self.order, self.filters), **self.also})


class DialectClient:
    """The dialect as calls. Raises ManagerUnreachable when nobody answers and ManagerRefused for a no."""

    def __init__(self, session: Session, bound: Bound) -> None:
        self.session = session
        texts = bound["--managers"] or session.managers() or [HERE]
        self._clients = [session.client(endpoint, 30.0) for endpoint in endpoints(texts, 7801)]

    def get(self, path: str, **query: object) -> Any:
        """What is at an address below /api/1; None for an empty answer."""
        return self.parsed(self.fetch("GET", path, query=query))

    def ask(self, path: str, body: Json) -> Any:
        """A question that is sent as a POST and changes nothing."""
        return self.parsed(self._asked(path, body))

    def _asked(self, path: str, body: Json, root: str = ROOT) -> Reply:
        try:
            return self.fetch("POST", path, body, root=root)
        except ManagerUnreachable as trouble:
            raise ManagerUnreachable(trouble.endpoint, trouble.why) from trouble  # there is no change to be unsure of

    def change(self, method: str, path: str, body: Json | None = None, **query: object) -> Any:
        """Send a change; what was answered, None for nothing."""
        self.session.sent.append(f"{method} {path}")
        return self.parsed(self.fetch(method, path, body, query))

    def items(self, path: str, order: str = "", also: Mapping[str, object] | None = None, **filters: object) -> list[Json]:
        """A whole list, page by page, ordered by a field; only what fits the filters, each the text of a field.

        A dot in a field's name is written `__`. `also` is whatever else the address takes.
        """
        query = {**_asking(order, filters), **(also or {})}
        found: list[Json] = []
        while True:
            reply = self.fetch("GET", path, query={"offset": len(found)} | query)
            page = self.parsed(reply)
            if not isinstance(page, dict) or not isinstance(page.get("data"), list):
                raise self.native().strange(reply)
            found += page["data"]
            if not page.get("hasNext") or not page["data"]:
                return found

    def at_once(self, *looks: Look) -> list[Any]:
        """Objects and lists as they all were at one moment: one request, for which the manager reads its state once."""
        steps = [{"method": "GET", "path": look.target()} for look in looks]
        reply = self._asked("/admin/v1/plan", {"steps": steps}, root="")
        told = self.parsed(reply)
        answers = told.get("steps") if isinstance(told, dict) else None
        if not isinstance(answers, list) or len(answers) != len(steps):
            raise self.native().strange(reply)
        return [self._seen(reply, one) for one in answers]

    def _seen(self, reply: Reply, told: Json) -> Any:
        """What one of several requests was answered with."""
        status, answer = told.get("status"), told.get("answer")
        if not isinstance(status, int) or not isinstance(answer, dict) or answer.get("hasNext"):
            raise self.native().strange(reply)
        if status >= 400:
            code, message, hint = (str(answer.get(name, "")) for name in ("reason", "detail", "hint"))
            raise ManagerRefused(code, message, hint, status)
        return answer.get("data", answer)

    def of_database(self, name: str | None, found: list[Json]) -> list[Json]:
        """What was found of a database. Raises ManagerRefused if that is nothing because there is no such database."""
        if name and not found:
            self.get(f"/databases/{part(name)}")
        return found

    def fetch(
        self, method: str, path: str, body: Json | None = None, query: Mapping[str, object] | None = None, root: str = ROOT
    ) -> Reply:
        """One request to the first manager that answers; the others are for when it is away."""
        target = root + path + _query(query or {})
        while True:
            client = self._clients[0]
            try:
                return client.fetch(method, target, body)
            except (ManagerUnreachable, ManagerRefused) as trouble:
                if len(self._clients) == 1 or not _nobody_there(trouble):
                    raise
                del self._clients[0]

    def parsed(self, reply: Reply) -> Any:
        """The JSON of an answer; None for an empty one. Raises ManagerRefused if it is none."""
        try:
            return json.loads(reply.body) if reply.body.strip() else None
        except ValueError as wrong:
            raise self.native().strange(reply) from wrong

    def native(self) -> ManagerClient:
        """The client of the manager that answered last, for what only the native API tells."""
        return self._clients[0]


def _asking(order: str, filters: Mapping[str, object]) -> dict[str, object]:
    """The query of a list: in which order, and what its objects have to be."""
    asked = {name.replace("__", "."): value for name, value in filters.items() if value is not None}
    return {"orderBy": order or None, "filterBy": list(asked), **asked}


def _nobody_there(trouble: Exception) -> bool:
    """Whether another manager may be asked instead: this one certainly did nothing."""
    if isinstance(trouble, ManagerUnreachable):
        return not trouble.maybe_done
    return isinstance(trouble, ManagerRefused) and trouble.status == 503


def part(name: object) -> str:
    """One part of an address."""
    return quote(str(name), safe="")


def exactly(value: object) -> str:
    """A filter that finds this value and no other: filters are patterns."""
    import re  # only the few filtered lists pay for it

    return re.escape(str(value))


def _query(values: Mapping[str, object]) -> str:
    kept: list[tuple[str, str]] = []
    for name, value in values.items():
        for one in value if isinstance(value, Sequence) and not isinstance(value, str) else [value]:
            if one is not None:
                kept.append((name, str(one).lower() if isinstance(one, bool) else str(one)))
    return f"?{urlencode(kept)}" if kept else ""
