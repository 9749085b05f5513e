"""The client room: a synchronous HTTP client of the managers, the one way every outside program talks to them.

It speaks `/admin/v1` (seeds 000, 001, 002; issue section 4) and carries plain dicts: what is in them is the
managers' business. The standard library's HTTP client is used on purpose: httpx costs about 160 ms to import,
which alone is more than a whole cold start of the command line may take (design section 8).
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode

Json = dict[str, Any]

DEFAULT_PORT = 7801
"""The managers' port of the seeds."""

UNSPECIFIED = ("0.0.0.0", "::", "::0", "[::]", "[::0]")


class ClientTrouble(Exception):
    """Root of everything this room raises."""


class BadEndpoint(ClientTrouble):
    """A manager's address that cannot be one. `hint` says how to write it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class ManagerUnreachable(ClientTrouble):
    """No usable answer came. `maybe_done` is true when a change may have been taken before the line broke."""

    def __init__(self, endpoint: str, why: str, maybe_done: bool = False) -> None:
        unsure = " Whether the change was made is not known." if maybe_done else ""
        super().__init__(f"The manager at {endpoint} is not reachable: {why}.{unsure}")
        self.endpoint = endpoint
        self.why = why
        self.maybe_done = maybe_done


class ManagerRefused(ClientTrouble):
    """The manager said no. The fields are those of its problem document; `status` is the HTTP status."""

    def __init__(self, code: str, message: str, hint: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status


class Endpoint(NamedTuple):
    """Where a manager listens. `str()` gives the `host:port` of the seeds' tables."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Request(NamedTuple):
    """One HTTP request: `target` is the path with its query, `body` the JSON bytes or None."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None = None


class Reply(NamedTuple):
    """One HTTP answer, header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """What carries requests; tests give their own."""

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        """Answer within `timeout` seconds or raise ManagerUnreachable."""
        ...

    def stream(self, endpoint: Endpoint, request: Request, timeout: float) -> Iterator[str]:
        """Yield the lines of an endless answer; `timeout` is the longest silence in seconds."""
        ...


def parse_endpoint(text: str, port: int = DEFAULT_PORT) -> Endpoint:
    """Read a host, host:port, address or http:// URI, the four forms of the seeds. Raises BadEndpoint."""
    rest = text.strip()
    if rest.lower().startswith("https://"):
        raise BadEndpoint(f"{text} asks for TLS, which managers do not speak yet.", "Write http://host:port.")
    if rest.lower().startswith("http://"):
        rest = rest[len("http://"):]
    rest = rest.rstrip("/")
    host, own = _split(rest)
    if host.lower() in UNSPECIFIED:
        raise BadEndpoint(f"{text} is not the address of a manager but of every interface.", "Name one address.")
    if not host or any(c in host for c in " /?#@\\,'\"") or not host.isascii():
        raise BadEndpoint(f"'{text}' is not a manager's address.", "Write host, host:port or http://host:port.")
    if own is None:
        return Endpoint(host, port)
    if not own.isdigit() or not 1 <= int(own) <= 65535:
        raise BadEndpoint(f"'{own}' in '{text}' is not a port.", "A port is a number from 1 to 65535.")
    return Endpoint(host, int(own))


def _split(rest: str) -> tuple[str, str | None]:
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        return host, tail[1:] if tail.startswith(":") else None
    if rest.count(":") > 1:
        return rest, None
    host, colon, port = rest.partition(":")
    return host, port if colon else None


class HttpTransport:
    """Real sockets, one connection a request, so that threads never share one."""

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        ends = time.monotonic() + timeout
        line = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=max(timeout, 0.001))
        sent = False
        try:
            line.connect()
            sent = True
            line.request(request.method, request.target, request.body, dict(request.headers))
            self._patience(line, ends)
            answer = line.getresponse()
            chunks: list[bytes] = []
            while chunk := answer.read(65536):
                chunks.append(chunk)
                self._patience(line, ends)
            return Reply(answer.status, _lower(answer.getheaders()), b"".join(chunks))
        except (OSError, http.client.HTTPException) as error:
            raise ManagerUnreachable(str(endpoint), _why(error, timeout), sent and request.method != "GET") from error
        finally:
            line.close()

    def stream(self, endpoint: Endpoint, request: Request, timeout: float) -> Iterator[str]:
        line = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=timeout)
        try:
            line.request(request.method, request.target, request.body, dict(request.headers))
            answer = line.getresponse()
            if answer.status != 200:
                _judge(endpoint, Reply(answer.status, _lower(answer.getheaders()), answer.read()))
            while raw := answer.readline():
                yield raw.decode("utf-8", "replace").rstrip("\r\n")
        except (OSError, http.client.HTTPException) as error:
            raise ManagerUnreachable(str(endpoint), _why(error, timeout)) from error
        finally:
            line.close()

    @staticmethod
    def _patience(line: http.client.HTTPConnection, ends: float) -> None:
        left = ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if line.sock is not None:
            line.sock.settimeout(left)


def _lower(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}


def _why(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there (connection refused)"
    if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError | BrokenPipeError):
        return "it closed the connection without an answer"
    if isinstance(error, http.client.HTTPException):
        return "what listens there does not speak HTTP"
    strerror = getattr(error, "strerror", None)
    return str(strerror or error or type(error).__name__).lower()


class ManagerClient:
    """All calls to one manager. Each takes at most `timeout` seconds and raises ManagerUnreachable or ManagerRefused.

    Every change carries an Idempotency-Key. When the line breaks after a change was sent, it is sent once more with
    the same key: the manager answers the same to both, so asking again is never doing twice (issue section 4).
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
        """Rates over the last `window_sec` seconds and totals of all stores (cmdlets.md section 1.9)."""
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
        """Announce the stop of a whole store to the domain (design section 5)."""
        return self._json("POST", f"{_store(name)}/stop" + _query(force=force or None), None, key)

    def add_instances(self, name: str, instances: Sequence[Json], key: str | None = None) -> Json:
        """Add instances; gives the store as it is then."""
        return self._json("POST", f"{_store(name)}/instances", {"instances": list(instances)}, key)

    def remove_instance(self, name: str, instance: str, key: str | None = None) -> None:
        """Remove one stopped instance with its archive."""
        self._send("DELETE", _instance(name, instance), None, key)

    def start_instance(self, name: str, instance: str, key: str | None = None) -> Json:
        """Request the start of one instance; returns at once, `result` says what was done (seed 000)."""
        return self._json("POST", f"{_instance(name, instance)}/start", None, key)

    def stop_instance(self, name: str, instance: str, force: bool = False, key: str | None = None) -> Json:
        """Request the stop of one instance; `force` skips the graceful checks (seed 002)."""
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
        _judge(self.endpoint, reply)
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
        found = _loads(reply.body)
        if found is None:
            raise _not_a_manager(self.endpoint, reply.status)
        return found


def new_key() -> str:
    """A fresh Idempotency-Key."""
    import uuid  # only changes pay for it

    return str(uuid.uuid4())


def read_events(lines: Iterator[str]) -> Iterator[Json]:
    """The JSON bodies of a server-sent event stream; comments and keep-alives are skipped."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[len("data:"):].removeprefix(" "))
        elif not line and data:
            found = _loads("\n".join(data).encode())
            data = []
            if found is not None:
                yield found


def _judge(endpoint: Endpoint, reply: Reply) -> None:
    if reply.status < 400:
        return
    found = _loads(reply.body)
    if found is None or "code" not in found:
        raise _not_a_manager(endpoint, reply.status)
    said = str(found.get("detail") or found.get("title") or found["code"])
    raise ManagerRefused(str(found["code"]), said, str(found.get("hint") or ""), reply.status)


def _not_a_manager(endpoint: Endpoint, status: int) -> ManagerRefused:
    said = f"{endpoint} answered with status {status}, but not the way a dkv manager does."
    return ManagerRefused("not_a_manager", said, "Check the address and the port.", status)


def _loads(body: bytes) -> Json | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _store(name: str) -> str:
    return f"/admin/v1/stores/{quote(name, safe='')}"


def _leader(name: str, group: str) -> str:
    return f"{_store(name)}/groups/{quote(group, safe='')}/leader"


def _instance(name: str, instance: str) -> str:
    return f"{_store(name)}/instances/{quote(instance, safe='')}"


def _query(**values: object) -> str:
    kept = {k: str(v).lower() if isinstance(v, bool) else str(v) for k, v in values.items() if v is not None}
    return f"?{urlencode(kept)}" if kept else ""
