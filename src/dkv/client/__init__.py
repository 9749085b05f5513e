"""Client: a synchronous HTTP client of the managers, the one way every outside program talks to them.

It speaks `/admin/v1` and, in the NuoDB words, `/api/1`; it carries plain dicts:
what is in them is the managers' business.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence

from dkv.client.transport import (
    BadEndpoint,
    ClientError,
    Endpoint,
    HttpTransport,
    Json,
    ManagerRefused,
    ManagerUnreachable,
    Reply,
    Request,
    Transport,
    judge,
    loads,
    not_a_manager,
    parse_endpoint,
)

__all__ = [
    "BadEndpoint",
    "ClientError",
    "Endpoint",
    "HttpTransport",
    "Json",
    "ManagerClient",
    "ManagerRefused",
    "ManagerUnreachable",
    "Reply",
    "Request",
    "Transport",
    "new_key",
    "parse_endpoint",
    "read_events",
]


class ManagerClient:
    """All calls to one manager. Each takes at most `timeout` seconds and raises ManagerUnreachable or ManagerRefused.

    Every change carries an Idempotency-Key. When the line breaks after a change was sent, it is sent once more with
    the same key: the manager answers the same to both, so asking again is never doing twice.
    """

    def __init__(self, endpoint: Endpoint, transport: Transport | None = None, timeout: float = 30.0) -> None:
        self.endpoint = endpoint
        self._transport = transport or HttpTransport()
        self._timeout = timeout

    # -- looking ------------------------------------------------------------------------------------------------

    def healthy(self) -> bool:
        """Whether the manager's process answers (`/healthz`)."""
        return self._is_ok("/healthz")

    def ready(self) -> bool:
        """Whether the manager can read and change the domain state (`/readyz`)."""
        return self._is_ok("/readyz")

    def domain(self) -> Json:
        """The domain: uid, revision and servers; the answering one has `isLocal`."""
        return self._json("GET", "/admin/v1/domain")

    def stores(self) -> list[Json]:
        """All stores, with their instances."""
        return list(self._json("GET", "/admin/v1/stores")["stores"])

    def store(self, name: str) -> Json:
        """One store; refused with `unknown_store` when there is none of that name."""
        return self._json("GET", _store(name))

    def metrics(self, window_sec: int = 5) -> Json:
        """Rates over the last `window_sec` seconds and totals of all stores (docs/reference/cmdlets.md#metrics)."""
        return self._json("GET", f"/admin/v1/metrics?windowSec={window_sec}")

    def processes(self) -> list[Json]:
        """Every process the domain knows."""
        return list(self._json("GET", "/admin/v1/processes")["processes"])

    def tombstones(self, store: str | None = None) -> list[Json]:
        """What is kept of processes that ended, with their causes."""
        return list(self._json("GET", "/admin/v1/tombstones" + _query(store=store))["tombstones"])

    def events(self, after: int = 0, store: str | None = None) -> list[Json]:
        """The events with a sequence above `after`, oldest first."""
        return list(self._json("GET", "/admin/v1/events" + _query(after=after, store=store))["events"])

    def follow_events(self, after: int = 0, store: str | None = None, silence: float = 60.0) -> Iterator[Json]:
        """Events as they happen, for ever. After a broken line call again with the last `sequence` seen."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        request = Request("GET", "/admin/v1/events" + _query(after=after, store=store), headers)
        yield from read_events(self._transport.stream(self.endpoint, request, silence))

    # -- changing -----------------------------------------------------------------------------------------------

    def check_store(self, body: Json) -> None:
        """Ask whether `create_store` would be accepted; writes nothing. Raises ManagerRefused when not."""
        self._json("POST", "/admin/v1/stores?check=true", body)

    def create_store(self, body: Json, key: str | None = None) -> tuple[bool, Json]:
        """Create a store. True with it when it is new, False when an identical one was there."""
        reply = self._send("POST", "/admin/v1/stores", body, key)
        return reply.status == 201, self._parsed(reply)

    def delete_store(self, name: str, key: str | None = None) -> None:
        """Delete a stopped store with its archives."""
        self._send("DELETE", _store(name), None, key)

    def stop_store(self, name: str, force: bool = False, key: str | None = None) -> Json:
        """Announce the stop of a whole store to the domain."""
        return self._json("POST", f"{_store(name)}/stop" + _query(force=force or None), None, key)

    def set_options(self, name: str, options: Mapping[str, str], key: str | None = None) -> Json:
        """Change options of a store while it runs; `effects` says what comes of each."""
        return self._json("POST", f"{_store(name)}/options", {"options": dict(options)}, key)

    def add_instances(self, name: str, instances: Sequence[Json], key: str | None = None) -> Json:
        """Add instances; gives the store as it is then."""
        return self._json("POST", f"{_store(name)}/instances", {"instances": list(instances)}, key)

    def remove_instance(self, name: str, instance: str, key: str | None = None) -> None:
        """Remove one stopped instance with its archive."""
        self._send("DELETE", _instance(name, instance), None, key)

    def start_instance(self, name: str, instance: str, key: str | None = None) -> Json:
        """Request the start of one instance; returns at once, `result` says what was done."""
        return self._json("POST", f"{_instance(name, instance)}/start", None, key)

    def stop_instance(self, name: str, instance: str, force: bool = False, key: str | None = None) -> Json:
        """Request the stop of one instance; `force` skips the graceful checks."""
        return self._json("POST", f"{_instance(name, instance)}/stop" + _query(force=force or None), None, key)

    def leader_bound(self, name: str, group: str, archive_id: int) -> Json:
        """What `enforce_leader` could cost at most; changes nothing."""
        return dict(self._json("GET", _leader(name, group) + _query(archiveId=archive_id))["bound"])

    def enforce_leader(self, name: str, group: str, archive_id: int, allowed: bool, reason: str) -> Json:
        """Make an archive lead although it may lack writes; refused unless `allowed` with a reason."""
        body = {"archiveId": archive_id, "allowDataLoss": allowed, "reason": reason}
        return self._json("POST", _leader(name, group), body)

    def state(self) -> Json:
        """The whole domain state as records, secrets included: for a backup."""
        return self._json("GET", "/admin/v1/state")

    def fetch(self, method: str, target: str, body: Json | None = None, key: str | None = None) -> Reply:
        """One request to any address, such as one of the NuoDB dialect."""
        return self._send(method, target, body, key)

    def fetch_object(self, method: str, target: str, body: Json | None = None) -> Json:
        """The same, and the JSON object that is the answer."""
        return self._json(method, target, body)

    def strange(self, reply: Reply) -> ManagerRefused:
        """What to raise for an answer that no manager would give."""
        return not_a_manager(self.endpoint, reply.status)

    # -- carrying -----------------------------------------------------------------------------------------------

    def _is_ok(self, path: str) -> bool:
        try:
            return self._transport.send(self.endpoint, Request("GET", path, {}), self._timeout).status == 200
        except ManagerUnreachable:
            return False

    def _json(self, method: str, target: str, body: Json | None = None, key: str | None = None) -> Json:
        return self._parsed(self._send(method, target, body, key))

    def _send(self, method: str, target: str, body: Json | None, key: str | None) -> Reply:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if method != "GET":
            headers["Idempotency-Key"] = key or new_key()
        data = None if body is None else json.dumps(body).encode()
        reply = self._twice(Request(method, target, headers, data))
        judge(self.endpoint, reply)
        return reply

    def _twice(self, request: Request) -> Reply:
        ends = time.monotonic() + self._timeout
        try:
            return self._transport.send(self.endpoint, request, self._timeout)
        except ManagerUnreachable as trouble:
            left = ends - time.monotonic()
            if not trouble.maybe_done or left < 0.05:
                raise
        return self._transport.send(self.endpoint, request, left)

    def _parsed(self, reply: Reply) -> Json:
        found = loads(reply.body)
        if found is None:
            raise not_a_manager(self.endpoint, reply.status)
        return found


def new_key() -> str:
    """A fresh Idempotency-Key."""
    return os.urandom(16).hex()  # uuid would cost each change 8 ms of imports


def read_events(lines: Iterator[str]) -> Iterator[Json]:
    """The JSON bodies of a server-sent event stream; comments and keep-alives are skipped."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[len("data:") :].removeprefix(" "))
        elif not line and data:
            found = loads("\n".join(data).encode())
            data = []
            if found is not None:
                yield found


def _store(name: str) -> str:
    return f"/admin/v1/stores/{_quoted(name)}"


def _leader(name: str, group: str) -> str:
    return f"{_store(name)}/groups/{_quoted(group)}/leader"


def _instance(name: str, instance: str) -> str:
    return f"{_store(name)}/instances/{_quoted(instance)}"


def _quoted(name: str) -> str:
    from urllib.parse import quote  # a look at everything does not pay for it

    return quote(name, safe="")


def _query(**values: object) -> str:
    kept = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in values.items() if v is not None}
    if not kept:
        return ""
    from urllib.parse import urlencode

    return f"?{urlencode(kept)}"
