"""Importing: one connection to a server of the Redis protocol; the only door to the `valkey` library here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from valkey import exceptions
from valkey.connection import Connection as PlainConnection
from valkey.connection import SSLConnection
from valkey.crc import key_slot

from dkv.errors import HintedError

ANSWERS_WITHIN = 60.0  # s: a value of 500 MB takes seconds
CONNECTS_WITHIN = 5.0  # s

CODES = {
    exceptions.OutOfMemoryError: "OOM",
    exceptions.BusyLoadingError: "LOADING",
    exceptions.ReadOnlyError: "READONLY",
    exceptions.NoPermissionError: "NOPERM",
    exceptions.AuthenticationError: "WRONGPASS",
}

_plain: Callable[..., Any] = PlainConnection  # the library has no types
_encrypted: Callable[..., Any] = SSLConnection
Command = Sequence[bytes | str | int]


class ImportFailed(HintedError):
    """The import cannot go on; what was copied stays until it is begun again."""


class ConnectionLost(Exception):
    """A connection ended, or was not made."""


class ErrorReply(Exception):
    """The server answered with an error."""


@dataclass(frozen=True)
class ServerAddress:
    """A server and how it is reached. `password` is shown nowhere."""

    host: str
    port: int
    user: str = ""
    password: str = ""
    tls: bool = False
    ca_file: str = ""  # of the authorities of a TLS server; "" the system's
    ca_data: str = ""

    def __repr__(self) -> str:
        return f"{self.host}:{self.port}"

    __str__ = __repr__

    def at(self, host: str, port: int) -> ServerAddress:
        """Another server of the same cluster."""
        return replace(self, host=host or self.host, port=port)


class Connection:
    """One connection. Raises ConnectionLost, and ErrorReply where it cannot log in."""

    def __init__(self, address: ServerAddress, database: int = 0) -> None:
        self.address = address
        options: dict[str, Any] = {
            "host": address.host,
            "port": address.port,
            "socket_timeout": ANSWERS_WITHIN,
            "socket_connect_timeout": CONNECTS_WITHIN,
            "lib_name": None,
            "lib_version": None,
        }
        if address.tls:
            trust = {"ssl_ca_data": address.ca_data} if address.ca_data else {"ssl_ca_certs": address.ca_file or None}
            self._link = _encrypted(**options, **trust)
        else:
            self._link = _plain(**options)
        try:
            self._link.connect()
        except (OSError, exceptions.ValkeyError) as error:
            raise ConnectionLost(str(error)) from error
        self._log_in(database)

    def _log_in(self, database: int) -> None:
        address = self.address
        if address.password:
            self.execute("AUTH", *((address.user,) if address.user else ()), address.password)
        if database:
            self.execute("SELECT", database)

    def pipeline(self, *commands: Command) -> list[Any]:
        """Send all at once and read all answers; an error is an ErrorReply in the list."""
        try:
            self._link.send_packed_command(self._link.pack_commands(commands), check_health=False)
            return [self._answer() for _ in commands]
        except (OSError, exceptions.ConnectionError, exceptions.TimeoutError) as error:
            self.close()
            raise ConnectionLost(str(error)) from error

    def execute(self, *command: bytes | str | int) -> Any:
        """The answer of one command. Raises ErrorReply, ConnectionLost."""
        (answer,) = self.pipeline(command)
        if isinstance(answer, ErrorReply):
            raise answer
        return answer

    def send(self, *command: bytes | str | int) -> None:
        """Send without reading: the answers of a subscription come one after the other."""
        try:
            self._link.send_packed_command(self._link.pack_commands([command]), check_health=False)
        except (OSError, exceptions.ValkeyError) as error:
            raise ConnectionLost(str(error)) from error

    def next_message(self) -> Any:
        """What comes next on a subscription, None if nothing came for a minute."""
        try:
            return self._link.read_response(disable_decoding=True, disconnect_on_error=False)
        except exceptions.TimeoutError:
            return None
        except (OSError, exceptions.ValkeyError, ValueError, AttributeError) as error:  # it was closed meanwhile
            raise ConnectionLost(str(error)) from error

    def close(self) -> None:
        """Whatever the other side does."""
        with suppress(OSError, exceptions.ValkeyError):
            self._link.disconnect()

    def _answer(self) -> Any:
        try:
            return self._link.read_response(disable_decoding=True)
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            if isinstance(error, (exceptions.BusyLoadingError, exceptions.AuthenticationError)):
                return ErrorReply(_with_code(error))
            raise
        except exceptions.ValkeyError as error:
            return ErrorReply(_with_code(error))


def _with_code(error: exceptions.ValkeyError) -> str:
    """The library takes the codes of these errors away."""
    code = next((code for kind, code in CODES.items() if isinstance(error, kind)), "")
    return f"{code} {error}".strip()


def slot_of(key: bytes) -> int:
    """The hash slot of a key."""
    return int(key_slot(key))


def info_of(text: bytes) -> dict[str, str]:
    """INFO as a dictionary."""
    lines = text.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
