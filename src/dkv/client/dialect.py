"""Client: the NuoDB dialect (`/api/1`) as calls to the first manager of a pool that answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dkv.client.manager import query_of, quoted
from dkv.client.pool import ManagerPool
from dkv.client.transport import Json, ManagerRefused, Reply, not_a_manager
from dkv.hints import from_json

DIALECT = "/api/1"


class Query(NamedTuple):
    """An object or a whole list: its path below /api/1, the field a list is ordered by, the patterns that fields have to
    match (a dot in a field's name is written `__`), and further parameters."""

    path: str
    order: str = ""
    filters: Mapping[str, object] = {}
    also: Mapping[str, object] = {}

    def parameters(self) -> dict[str, object]:
        """The parameters of its address."""
        filters = {name.replace("__", "."): value for name, value in self.filters.items() if value is not None}
        return {"orderBy": self.order or None, "filterBy": list(filters), **filters, **self.also}


class DialectClient:
    """The dialect of a pool. `on_change` is called with each change before it is sent. Every call raises ManagerRefused for
    a refusal; ManagerUnreachable, or NoManagerAnswered when several were asked."""

    def __init__(self, pool: ManagerPool, on_change: Callable[[str], None]) -> None:
        self.pool = pool
        self._on_change = on_change

    def get(self, path: str, **query: object) -> Any:
        """The JSON at a path below /api/1; None for an empty answer."""
        return self.request("GET", path, query=query).value()

    def ask(self, path: str, body: Json) -> Any:
        """A question that is sent as a POST and changes nothing."""
        return self.pool.first(lambda client: client.request("POST", DIALECT + path, body, question=True)).value()

    def change(self, method: str, path: str, body: Json | None = None, **query: object) -> Any:
        """Send a change; the JSON of the answer, None for an empty one."""
        self._on_change(f"{method} {path}")
        return self.request(method, path, body, query).value()

    def items(self, path: str, order: str = "", also: Mapping[str, object] | None = None, **filters: object) -> list[Json]:
        """A whole list, page by page; the parameters are those of Query."""
        parameters = Query(path, order, filters, also or {}).parameters()
        items: list[Json] = []
        while True:
            reply = self.request("GET", path, query={"offset": len(items)} | parameters)
            page = reply.value()
            if not isinstance(page, dict) or not isinstance(page.get("data"), list):
                raise not_a_manager(reply)
            items += page["data"]
            if not page.get("hasNext") or not page["data"]:
                return items

    def at_once(self, *queries: Query) -> list[Any]:
        """Objects and lists as they all were at one moment: one request, for which the manager reads its state once."""
        steps = [{"method": "GET", "path": DIALECT + query.path + query_of(query.parameters())} for query in queries]
        body = {"steps": steps}
        reply = self.pool.first(lambda client: client.request("POST", "/admin/v1/plan", body, question=True))
        answers = reply.object().get("steps")
        if not isinstance(answers, list) or len(answers) != len(steps):
            raise not_a_manager(reply)
        return [_answer(reply, step) for step in answers]

    def of_database(self, name: str | None, items: list[Json]) -> list[Json]:
        """The items of a database. Raises ManagerRefused if there are none because there is no such database."""
        if name and not items:
            self.get(f"/databases/{quoted(name)}")
        return items

    def request(self, method: str, path: str, body: Json | None = None, query: Mapping[str, object] | None = None) -> Reply:
        """One request to the first manager that answers."""
        target = DIALECT + path + query_of(query or {})
        return self.pool.first(lambda client: client.request(method, target, body), repeatable=method == "GET")


def _answer(reply: Reply, step: Json) -> Any:
    """The answer to one of several requests."""
    status, answer = step.get("status"), step.get("answer")
    if not isinstance(status, int) or not isinstance(answer, dict) or answer.get("hasNext"):
        raise not_a_manager(reply)
    if status >= 400:
        hint = from_json(answer.get("hint"), answer.get("hintParts"))
        raise ManagerRefused(str(answer.get("reason", "")), str(answer.get("detail", "")), hint, status)
    return answer.get("data", answer)


def exactly(value: object) -> str:
    """A filter that matches this value and no other: filters are patterns."""
    import re  # only the few filtered lists pay for it

    return re.escape(str(value))
