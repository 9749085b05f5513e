"""API: what the routes reach of the rest of a manager, as callables, so that tests can give their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request

from dkv import kernel
from dkv.api.origin import Attributed, Commands, origin_of
from dkv.control.certificates import Certificates
from dkv.control.submit import View
from dkv.control.tally import Tally
from dkv.domain.decision import Refused
from dkv.domain.machine_checks import MachineFacts
from dkv.domain.model import DatabaseOptions, Process, Server, State
from dkv.store.contract import StoredEvent, StoreError


class EventLog(Protocol):
    """What the API reads of the store beside the state; any of these may raise StoreError."""

    async def events(self, after: int, limit: int) -> Sequence[StoredEvent]:
        """Events with a sequence above `after`, oldest first."""
        ...

    async def newest(self) -> int:
        """The sequence of the newest event, 0 if there was none yet."""
        ...

    def watch(self) -> AsyncIterator[object]:
        """Something at once, then something after every commit."""
        ...


@dataclass(frozen=True)
class LogFile:
    """A file for a support bundle: `name` is its path there."""

    name: str
    path: Path


async def no_leases() -> Mapping[str, int]:
    """No manager holds a lease."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Peers:
    """The managers of the domain. `fetch` takes (server, target, seconds), `order` before them the principal that orders;
    they may raise OSError only.
    `leader_server` and `lease_ages` are called after the view was read that they are shown with: then they have every server
    that it shows alive."""

    fetch: Callable[[Server, str, float], Awaitable[Mapping[str, Any]]]  # the JSON that another manager answers
    order: Callable[[str, Server, str, float], Awaitable[Mapping[str, Any]]]  # as fetch, by POST
    leader_server: Callable[[], Awaitable[str]]  # id of the server that ticks; "" unknown
    lease_ages: Callable[[], Awaitable[Mapping[str, int]]] = no_leases  # ms since each manager renewed its lease
    patience: float = 1.0  # s another manager has to answer what is looked at here
    acts_within: float = 2.0  # s any manager has to do what a request answers best after, such as to look at a directory


@dataclass(frozen=True)
class EngineStatistics:
    """What one engine of this machine says of itself: the fields of INFO and CLUSTER INFO."""

    start_id: int
    group: str
    fields: Mapping[str, str]


@dataclass(frozen=True)
class EngineLook:
    """One engine of an archive at its manager's last look; `free_bytes` is of its file system, 0 unknown."""

    start_id: int
    fenced: bool
    archive_bytes: int
    free_bytes: int


async def no_statistics(start_id: int | None) -> Sequence[EngineStatistics]:
    """No engine answers."""
    return ()


Histogram = Mapping[int, int]
"""How many calls took at most so many microseconds, by these, ascending. A bound that no call ended at may be left out."""


async def no_latencies() -> Sequence[tuple[int, Mapping[str, Histogram]]]:
    """No engine answers."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What a manager reads where metrics are asked for. `statistics` are of the engines of one process, or of all; `latencies`
    are those of each engine's commands since it started, with the start id of its process.
    """

    statistics: Callable[[int | None], Awaitable[Sequence[EngineStatistics]]] = no_statistics
    latencies: Callable[[], Awaitable[Sequence[tuple[int, Mapping[str, Histogram]]]]] = no_latencies
    looks: Callable[[], Sequence[EngineLook]] = tuple
    usage: Callable[[], kernel.Usage] = kernel.usage
    tally: Tally = field(default_factory=lambda: Tally(lambda: 0.0))


@dataclass(frozen=True, kw_only=True)
class LocalMachine:
    """What a manager sees of the machine that it runs on, and of its engines there."""

    counters: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]  # engine contract Counters, as dicts
    port_in_use: Callable[[str, int], bool]  # whether something listens there
    unfit: Callable[[str, bool], str] = lambda path, restored: ""  # why a directory can be no archive's; "" for nothing
    engine_version: Callable[[], str] = lambda: ""  # of the engine program
    logs: Callable[[State], Sequence[LogFile]] = lambda state: ()  # of the manager and of the engines
    environment: Callable[[], Mapping[str, str]] = dict  # of the manager's process, as it is
    numbers: Numbers = Numbers()
    facts: Callable[[], MachineFacts] = lambda: MachineFacts(-1, -1, -1, "")  # takes a moment: it writes to the disk


@dataclass(frozen=True, kw_only=True)
class StreamLimits:
    """How many event streams a manager serves at once, and how many of them to one address."""

    most: int = 64
    each: int = 32


@dataclass(frozen=True)
class StatePlace:
    """Where the domain's state is: the setting of it, and for etcd members of the managers where those are, as their text."""

    state: str
    members: str = ""


@dataclass(frozen=True, kw_only=True)
class Signing:
    """What a manager signs certificates with. `state_for` says where a server at a host finds the domain's state when it joins,
    or why it cannot; its second argument is why that server can run no etcd member, "" if it can.
    """

    certificates: Certificates
    state_for: Callable[[str, str], StatePlace | Refused]


@dataclass(frozen=True, kw_only=True)
class ManagerContext:
    """One manager, as its API sees it."""

    submitter: Commands
    event_log: EventLog
    peers: Peers
    machine: LocalMachine
    node_id: Callable[[State, Process], str]  # the derived engine id, 40 hex
    new_id: Callable[[], str]  # random, 32 hex or more
    readiness: Callable[[], StoreError | None]  # None, or "waiting for the domain since T"
    clock: Callable[[], int]  # wall clock, ms
    server_id: str
    uid: str  # of this server's data directory
    address: str  # the bound host
    port: int
    streams: StreamLimits = StreamLimits()
    signing: Signing | None = None  # None without access control
    options: DatabaseOptions = DatabaseOptions()  # what a new store gets unless its body says else
    version: str = "dkv"  # of this program
    dry_run: bool = False  # a plan: nothing is committed, nothing to wait for
    configured: Callable[[], Mapping[str, str]] = dict  # this manager's settings by their names; no secrets
    stop: Callable[[], None] = lambda: None  # end this manager; its engines go on
    closing: Callable[[], bool] = lambda: False  # the manager ends: endless answers end too

    @property
    def opens_stores(self) -> bool:
        """Whether the engines of a new store let in every client, by this manager's settings."""
        return self.configured().get("access_control") != "on"

    @property
    def allowed_hosts(self) -> list[str]:
        """Further names that requests may have as Host, by this manager's settings, in small letters."""
        return [name for name in self.configured().get("allowed_hosts", "").split(",") if name]


DRY_RUN = "dkv.dry_run"
"""Where the scope of a request that is only planned carries its own ManagerContext (plan.py)."""


BOUND = "dkv.bound"
"""Where the scope of a request that changes something carries the revision to which its sender bound it (plan.py)."""


async def manager_of(request: Request) -> ManagerContext:
    """The manager of the application that serves this request, or that of a dry run; what it submits is this request's."""
    manager = request.scope.get(DRY_RUN) or request.app.state.api.manager
    assert isinstance(manager, ManagerContext)
    origin = origin_of(request.scope, manager.server_id)
    return replace(manager, submitter=Attributed(manager.submitter, origin, request.scope.get(BOUND)))


Manager = Annotated[ManagerContext, Depends(manager_of)]
"""What a route declares to reach the manager, without reading the domain."""


@dataclass(frozen=True)
class RequestContext:
    """One request: the manager that serves it, and the domain as it was when the request came, read once."""

    manager: ManagerContext
    view: View

    @property
    def state(self) -> State:
        """The state of the view."""
        return self.view.state


async def context_of(manager: Manager) -> RequestContext:
    """The context of a request. Raises StoreError."""
    return RequestContext(manager, await manager.submitter.view())


Context = Annotated[RequestContext, Depends(context_of)]
"""What a route declares to see the domain."""
