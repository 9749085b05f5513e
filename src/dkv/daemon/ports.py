"""Daemon: the ports and sockets that a manager listens at, and what else stays while it serves, wherever its state is."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from dkv.client import Endpoint, Request
from dkv.config import Settings
from dkv.daemon.parts import is_controlled
from dkv.daemon.reload import Reload
from dkv.data_dir import local_socket
from dkv.guarding import GuardKeeper
from dkv.manager import ManagerError
from dkv.notify import ServiceManager
from dkv.other_managers import ON_LOOPBACK, get_json

DESCRIPTORS = 65_536  # a manager and each of its engines may open, where the machine allows it


@dataclass(frozen=True)
class ProcessResources:
    """What stays while a manager serves, wherever its state is: the listening sockets of its ports, with access control its own
    in the data directory, the service manager that started it, what keeps its guard, and how its settings are read again."""

    ports: list[socket.socket]
    local: list[socket.socket]
    service: ServiceManager
    guard: GuardKeeper
    reload: Reload


@contextlib.contextmanager
def local_sockets(settings: Settings) -> Iterator[list[socket.socket]]:
    """The manager's own socket, with access control: over it root and the manager's user administrate."""
    if not is_controlled(settings):
        yield []
        return
    with local_socket(settings.data_dir.absolute()) as listening:
        yield [listening]


def raise_descriptor_limit() -> None:
    """Let this manager and the engines it starts open as many files as the machine allows: the usual 1,024 are for programs
    that use select, and an engine accepts no more clients than it has descriptors for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextlib.contextmanager
def listening_sockets(settings: Settings) -> Iterator[list[socket.socket]]:
    """The listening sockets: the manager's own, and that of the NuoDB dialect unless its port is 0 or the same."""
    with contextlib.ExitStack() as stack:
        listening = [stack.enter_context(contextlib.closing(listen(settings, settings.port, "--port")))]
        if settings.nuodb_port not in (0, settings.port):
            second = listen(settings, settings.nuodb_port, "--nuodb-port")
            listening.append(stack.enter_context(contextlib.closing(second)))
        yield listening


def listen(settings: Settings, port: int, flag: str) -> socket.socket:
    """A listening socket of the REST API. Raises ManagerError naming who has the port, and the flag that chooses it."""
    listening = socket.socket(socket.AF_INET6 if ":" in settings.bind else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit it. asyncio sets it itself only where a socket names its protocol, and without it each
    # answer over TLS waits twice for a delayed acknowledgement, 40 ms each.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listening.bind((settings.bind, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        hint = f"Choose another {flag}, or stop the other one."
        raise ManagerError(_port_sentence(settings, port, error), hint) from error
    return listening


def _port_sentence(settings: Settings, port: int, error: OSError) -> str:
    with contextlib.suppress(OSError):
        first = get_json(ON_LOOPBACK, Endpoint(settings.bind, port), Request("GET", "/admin/v1/identity", {}), 1.0)
        if first.get("product") == "dkv":
            return f"Manager {first.get('serverId', 'of another user')} runs on {settings.bind}:{port} already."
    return f"Port {port} on {settings.bind} cannot be used: {error.strerror}."
