"""Client: how a request reaches a manager and what its answer means: endpoints, deadlines, refusals.

Nothing is imported here that takes long: a whole cold start of the command line may take 150 ms.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from dkv.address import endpoint_text, is_loopback
from dkv.client import own_socket
from dkv.client.credentials import BadCredentials, Credentials
from dkv.client.errors import ClientError
from dkv.client.exchange import Exchange, NotHttp
from dkv.client.own_socket import OwnSocket
from dkv.constants import MANAGER_PORT, WARNING_HEADER
from dkv.hints import Hint, from_json

Json = dict[str, Any]

UNAUTHENTICATED = 401
UNSPECIFIED = ("0.0.0.0", "::", "::0", "[::]", "[::0]")


class BadEndpoint(ClientError):
    """A manager's address that cannot be one. `hint` is how to write it."""

    exit_code = 2


class ManagerUnreachable(ClientError):
    """No usable answer came. `maybe_done` is true when a change may have been taken before the line broke."""

    def __init__(self, endpoint: str, why: str, maybe_done: bool = False, hint: str = "") -> None:
        unsure = " Whether the change was made is not known." if maybe_done else ""
        super().__init__(f"The manager at {endpoint} is not reachable: {why}.{unsure}", hint)
        self.endpoint = endpoint
        self.why = why
        self.maybe_done = maybe_done


class ManagerRefused(ClientError):
    """The manager refused. The fields are those of its problem document; `status` is the HTTP status."""

    def __init__(self, code: str, message: str, hint: str | Hint, status: int) -> None:
        super().__init__(message, hint)
        self.code = code
        self.status = status
        self.exit_code = 2 if status in (400, 422) else 1


class UnknownAuthority(ClientError):
    """It is not known here who signs for managers; `shown` has the SHA-256 of each authority that the manager says is its own."""

    def __init__(self, endpoint: Endpoint, shown: Sequence[str]) -> None:
        which = f" The manager names the one with the SHA-256 {' or '.join(shown)}." if shown else ""
        login = f"dkv login {endpoint.uri} --ca-sha256 {shown[0] if shown else 'HEX'}"
        super().__init__(
            f"The authority that signs for the manager at {endpoint} is not known here; nothing was sent.{which}",
            f"Compare that with what dkv get ca prints on the manager's own machine, then: {login}.",
        )
        self.shown = list(shown)


class NoManagerAnswered(ClientError):
    """None of several managers answered; `errors` has what each one's failure was, in the order they were asked."""

    def __init__(self, errors: Sequence[ClientError]) -> None:
        super().__init__("No manager answered. " + " ".join(str(error) for error in errors))
        self.errors = list(errors)


class Endpoint(NamedTuple):
    """Where a manager listens. Without a `scheme` it is https off loopback and http on it; one that differs from that is named.
    `str()` gives `host:port`, after such a scheme."""

    host: str
    port: int
    scheme: str = ""

    @property
    def secured(self) -> bool:
        """Whether TLS is spoken there."""
        return (self.scheme or _usual_scheme(self.host)) == "https"

    @property
    def uri(self) -> str:
        """The whole address, with its scheme."""
        return f"{'https' if self.secured else 'http'}://{endpoint_text(self.host, self.port)}"

    def __str__(self) -> str:
        return f"{self.scheme}://" * bool(self.scheme) + endpoint_text(self.host, self.port)


class Request(NamedTuple):
    """One HTTP request: `target` is the path with its query, `body` the JSON bytes or None. A `question` changes nothing
    although its method is not GET."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None = None
    question: bool = False

    def changes(self) -> bool:
        """Whether a manager that takes it may do something."""
        return self.method != "GET" and not self.question


class Reply(NamedTuple):
    """One HTTP answer, header names in lower case. `endpoint` is who gave it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    endpoint: Endpoint | None = None

    def value(self) -> Any:
        """The JSON of the answer; None for an empty one. Raises ManagerRefused if it is no JSON."""
        try:
            return json.loads(self.body) if self.body.strip() else None
        except ValueError as error:
            raise not_a_manager(self) from error

    def object(self) -> Json:
        """The JSON object of the answer. Raises ManagerRefused if it is none."""
        value = loads(self.body)
        if value is None:
            raise not_a_manager(self)
        return value


class Transport(Protocol):
    """Carries requests to managers; tests have their own."""

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        """Answer within `timeout` seconds or raise ManagerUnreachable."""
        ...

    def stream(self, endpoint: Endpoint, request: Request, timeout: float) -> Iterator[str]:
        """Yield the lines of an endless answer; `timeout` is the longest silence in seconds."""
        ...


def parse_endpoint(text: str, port: int = MANAGER_PORT) -> Endpoint:
    """Read a host, an address, host:port or a URI of http or https. Raises BadEndpoint."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, rest = "", scheme
    host, own = _split(rest.rstrip("/"))
    if host.lower() in UNSPECIFIED:
        raise BadEndpoint(f"{text} is not the address of a manager but of every interface.", "Name one address.")
    if scheme.lower() not in ("", "http", "https") or not host or any(c in host for c in " /?#@\\,'\"") or not host.isascii():
        raise BadEndpoint(f"'{text}' is not a manager's address.", "Write host, host:port or https://host:port.")
    if own is not None and (not own.isdigit() or not 1 <= int(own) <= 65535):
        raise BadEndpoint(f"'{own}' in '{text}' is not a port.", "A port is a number from 1 to 65535.")
    unusual = "" if scheme.lower() == _usual_scheme(host) else scheme.lower()
    return Endpoint(host, port if own is None else int(own), unusual)


def _usual_scheme(host: str) -> str:
    return "http" if is_loopback(host) else "https"


def _split(rest: str) -> tuple[str, str | None]:
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        return host, tail[1:] if tail.startswith(":") else None
    if rest.count(":") > 1:
        return rest, None
    host, colon, port = rest.partition(":")
    return host, port if colon else None


Secure = Callable[[socket.socket, Endpoint], socket.socket]
"""Makes TLS of a connection with a manager that it has verified. Raises OSError, ClientError."""


class HttpTransport:
    """Real sockets, one connection a request, so that threads never share one. The one place that shows credentials: those of
    the environment; else none, over the manager's own socket where it is this user's; else those that `dkv login` kept. None is
    sent before the manager is verified, and none off loopback without TLS.

    `secure` makes TLS where https is spoken, for a manager that asks another one; else it is made with the authorities of the
    user's credentials. `warn` takes what an answer has to say beside what was asked for.
    """

    def __init__(
        self,
        credentials: Credentials | None = None,
        secure: Secure | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._credentials = Credentials(os.environ) if credentials is None else credentials
        self._secure = secure
        self._warn = warn
        self._own: dict[Endpoint, OwnSocket | None] = {}

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        remaining = _remaining(time.monotonic() + timeout)
        reply = self._reply(endpoint, request, remaining, timeout)
        if reply.status == UNAUTHENTICATED and self._finds_own(endpoint):
            return self._reply(endpoint, request, remaining, timeout)  # what was refused did nothing
        return reply

    def _reply(self, endpoint: Endpoint, request: Request, remaining: Callable[[], float], timeout: float) -> Reply:
        connection = None
        try:
            connection, headers = self._open(endpoint, remaining)
            _ask(connection, endpoint, request, headers)
            if warning := connection.headers.get(WARNING_HEADER):
                self._warn(warning)
            return Reply(connection.status, connection.headers, b"".join(connection.body()))
        except (OSError, NotHttp) as error:
            self._own.pop(endpoint, None)  # a manager that is being started has its socket in a moment
            maybe_done = connection is not None and request.method != "GET"
            raise _unreachable(endpoint, error, timeout, maybe_done) from error
        finally:
            if connection is not None:
                connection.close()

    def stream(self, endpoint: Endpoint, request: Request, timeout: float) -> Iterator[str]:
        connection = None
        try:
            connection, headers = self._open(endpoint, lambda: timeout)
            _ask(connection, endpoint, request, headers)
            if connection.status == UNAUTHENTICATED and self._finds_own(endpoint):
                connection.close()
                connection, headers = self._open(endpoint, lambda: timeout)
                _ask(connection, endpoint, request, headers)
            if connection.status != 200:
                judge(Reply(connection.status, connection.headers, b"".join(connection.body()), endpoint))
            yield from _lines(connection.body())
        except (OSError, NotHttp) as error:
            raise _unreachable(endpoint, error, timeout) from error
        finally:
            if connection is not None:
                connection.close()

    def _open(self, endpoint: Endpoint, remaining: Callable[[], float]) -> tuple[Exchange, Mapping[str, str]]:
        """A connection, and the header fields that say who asks. Raises OSError, ClientError."""
        shown = self._credentials.from_environment()
        may_be_own = self._secure is None and (endpoint.secured or not shown)
        if may_be_own and (own := self._own_connection(endpoint, remaining(), shown)):
            return Exchange(own, remaining), {"Authorization": shown} if shown else {}
        shown = shown or self._kept_for(endpoint)
        if shown and not endpoint.secured and not is_loopback(endpoint.host):
            raise BadCredentials(
                f"No credentials are sent to {endpoint}: without TLS they could be read on the way.",
                f"Write https://{endpoint_text(endpoint.host, endpoint.port)}.",
            )
        connection = socket.create_connection((endpoint.host, endpoint.port), remaining())
        if endpoint.secured:
            # The request follows the end of the handshake: it must not wait for that to be acknowledged.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = self._secured(connection, endpoint)
        return Exchange(connection, remaining), {"Authorization": shown} if shown else {}

    def _kept_for(self, endpoint: Endpoint) -> str:
        """What `dkv login` kept. In clear it goes to a manager of root, of this user, or of the user who listened at the login:
        any other user of this machine can take the port of a manager that is down. Raises BadCredentials.
        """
        shown = self._credentials.kept()
        if not shown or endpoint.secured:
            return shown
        strangers = own_socket.listeners(endpoint.host, endpoint.port) - {0, os.geteuid()} - self._credentials.listeners()
        if strangers:
            raise BadCredentials(
                f"At {endpoint} the user with uid {min(strangers)} listens, who did not when you logged in; nothing was sent.",
                "If that is a manager of yours, run dkv login again.",
            )
        return shown

    def _own_connection(self, endpoint: Endpoint, timeout: float, shown: str) -> socket.socket | None:
        """One over the manager's own socket, if it is this user's. Root may use those of all users, but whoever listens there as
        another user is sent no credential: only TLS proves to be the manager that was meant.
        """
        if endpoint not in self._own:
            self._own[endpoint] = own_socket.find(endpoint.host, endpoint.port)
        if (own := self._own[endpoint]) and not (shown and own.uid != os.geteuid()):
            try:
                return own_socket.connect(own, timeout)
            except OSError:
                self._own[endpoint] = None  # that manager ended: its port says what is there now
        return None

    def _secured(self, connection: socket.socket, endpoint: Endpoint) -> socket.socket:
        try:
            if self._secure is not None:
                return self._secure(connection, endpoint)
            from dkv.client import secured  # a command line without https does not pay for TLS

            authorities = self._credentials.authorities()
            if not authorities:
                connection.close()
                raise UnknownAuthority(endpoint, secured.fingerprints(endpoint.host, endpoint.port, connection.gettimeout() or 0))
            return secured.secure(connection, endpoint.host, authorities)
        except BaseException:
            connection.close()
            raise

    def _finds_own(self, endpoint: Endpoint) -> bool:
        """Whether the manager, found to be none of ours before, has a socket for this user now."""
        if self._own.get(endpoint, self) is not None:
            return False
        self._own[endpoint] = own_socket.find(endpoint.host, endpoint.port)
        return self._own[endpoint] is not None


def _ask(connection: Exchange, endpoint: Endpoint, request: Request, headers: Mapping[str, str]) -> None:
    fields = {"Host": endpoint_text(endpoint.host, endpoint.port), **request.headers, **headers}
    connection.ask(request.method, request.target, fields, request.body or b"")


def _remaining(deadline: float) -> Callable[[], float]:
    """The seconds that are left of a deadline; calling it afterwards raises TimeoutError."""

    def left() -> float:
        seconds = deadline - time.monotonic()
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


def _unreachable(endpoint: Endpoint, error: Exception, timeout: float, maybe_done: bool = False) -> ManagerUnreachable:
    if endpoint.secured:
        from dkv.client.secured import failure

        why, hint = failure(error)
        if why:
            return ManagerUnreachable(str(endpoint), why, maybe_done, hint)
    hint = ""
    if isinstance(error, ConnectionResetError) and not endpoint.secured:
        hint = f"If it speaks TLS, write https://{endpoint_text(endpoint.host, endpoint.port)}."
    return ManagerUnreachable(str(endpoint), _why(error, timeout), maybe_done, hint)


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


def judge(reply: Reply) -> None:
    """Raise ManagerRefused if the manager refused: as a problem document, or in the NuoDB dialect's own shape."""
    if reply.status < 300:
        return
    problem = loads(reply.body)
    if problem is None or "code" not in problem:
        raise not_a_manager(reply)
    sentences = ": ".join(map(str, problem.get("messages") or ()))
    message = str(problem.get("detail") or sentences or problem.get("message") or problem.get("title") or problem["code"])
    code = str(problem.get("reason") or problem["code"])
    raise ManagerRefused(code, message, from_json(problem.get("hint"), problem.get("hintParts")), reply.status)


def not_a_manager(reply: Reply) -> ManagerRefused:
    """The refusal of an answer that no manager gives."""
    message = f"{reply.endpoint} answered with status {reply.status}, but not the way a dkv manager does."
    return ManagerRefused("not_a_manager", message, "Check the address and the port.", reply.status)


def loads(body: bytes) -> Json | None:
    """The JSON object of a body, or None if it is no JSON object."""
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
