"""Client: how a request reaches a manager and what its answer means: endpoints, deadlines, refusals.

Nothing is imported here that takes long: a whole cold start of the command line may take 150 ms.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from dkv.client.exchange import Exchange, NotHttp

Json = dict[str, Any]

DEFAULT_PORT = 7801
"""The documented port of managers (docs/reference/cmdlets.md#topology)."""

UNSPECIFIED = ("0.0.0.0", "::", "::0", "[::]", "[::0]")


class ClientError(Exception):
    """Root of everything this room raises."""


class BadEndpoint(ClientError):
    """A manager's address that cannot be one. `hint` says how to write it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class ManagerUnreachable(ClientError):
    """No usable answer came. `maybe_done` is true when a change may have been taken before the line broke."""

    def __init__(self, endpoint: str, why: str, maybe_done: bool = False) -> None:
        unsure = " Whether the change was made is not known." if maybe_done else ""
        super().__init__(f"The manager at {endpoint} is not reachable: {why}.{unsure}")
        self.endpoint = endpoint
        self.why = why
        self.maybe_done = maybe_done


class ManagerRefused(ClientError):
    """The manager said no. The fields are those of its problem document; `status` is the HTTP status."""

    def __init__(self, code: str, message: str, hint: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status


class Endpoint(NamedTuple):
    """Where a manager listens. `str()` gives `host:port`, as tables print it."""

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
    """Read a host, host:port, address or http:// URI, the four documented forms. Raises BadEndpoint."""
    rest = text.strip()
    if rest.lower().startswith("https://"):
        raise BadEndpoint(f"{text} asks for TLS, which managers do not speak yet.", "Write http://host:port.")
    if rest.lower().startswith("http://"):
        rest = rest[len("http://") :]
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
        line = None
        try:
            line = Exchange(endpoint.host, endpoint.port, _until(time.monotonic() + timeout))
            _ask(line, endpoint, request)
            return Reply(line.status, line.headers, b"".join(line.body()))
        except (OSError, NotHttp) as error:
            maybe_done = line is not None and request.method != "GET"
            raise ManagerUnreachable(str(endpoint), _why(error, timeout), maybe_done) from error
        finally:
            if line is not None:
                line.close()

    def stream(self, endpoint: Endpoint, request: Request, timeout: float) -> Iterator[str]:
        line = None
        try:
            line = Exchange(endpoint.host, endpoint.port, lambda: timeout)
            _ask(line, endpoint, request)
            if line.status != 200:
                judge(endpoint, Reply(line.status, line.headers, b"".join(line.body())))
            yield from _lines(line.body())
        except (OSError, NotHttp) as error:
            raise ManagerUnreachable(str(endpoint), _why(error, timeout)) from error
        finally:
            if line is not None:
                line.close()


def _ask(line: Exchange, endpoint: Endpoint, request: Request) -> None:
    line.ask(request.method, request.target, {"Host": str(endpoint), **request.headers}, request.body or b"")


def _until(ends: float) -> Callable[[], float]:
    """What is left of a deadline, in seconds."""

    def left() -> float:
        seconds = ends - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        return seconds

    return left


def _lines(pieces: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from (raw.decode("utf-8", "replace").rstrip("\r") for raw in whole)
    if rest:
        yield rest.decode("utf-8", "replace")


def _why(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there (connection refused)"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "it closed the connection without an answer"
    if isinstance(error, NotHttp):
        return "what listens there does not speak HTTP"
    strerror = getattr(error, "strerror", None)
    return str(strerror or error or type(error).__name__).lower()


def judge(endpoint: Endpoint, reply: Reply) -> None:
    """Raise ManagerRefused if the manager said no: as a problem document, or in the NuoDB dialect's own shape."""
    if reply.status < 300:
        return
    found = loads(reply.body)
    if found is None or "code" not in found:
        raise not_a_manager(endpoint, reply.status)
    several = ": ".join(str(one) for one in found.get("messages") or ())
    said = str(found.get("detail") or several or found.get("message") or found.get("title") or found["code"])
    raise ManagerRefused(str(found.get("reason") or found["code"]), said, str(found.get("hint") or ""), reply.status)


def not_a_manager(endpoint: Endpoint, status: int) -> ManagerRefused:
    """Something answered, but no manager would answer so."""
    said = f"{endpoint} answered with status {status}, but not the way a dkv manager does."
    return ManagerRefused("not_a_manager", said, "Check the address and the port.", status)


def loads(body: bytes) -> Json | None:
    """The JSON object of a body, or None if it is no JSON object."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
