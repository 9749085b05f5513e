"""API: what looking at the domain answers with, for the description of the native API; see answers.py."""

from __future__ import annotations

from typing import Literal

from dkv.api.schemas import Answer, BlockedItem, Incarnation, Ms, Run


class Server(Answer):
    """A server of the domain."""

    server_id: str
    manager: str
    host: str
    port: int
    alive: bool
    boot_id: str
    is_local: bool


class Domain(Answer):
    """The domain and its servers."""

    uid: str
    revision: int
    leader_server: str | None
    servers: list[Server]


class Address(Answer):
    """Where a process serves a group."""

    group: str
    address: str


class Process(Run):
    """A live process."""

    store: str
    instance_name: str | None
    server: str
    type: str
    group: str | None
    endpoints: list[Address]
    labels: dict[str, str]
    requester: str
    restart_of: int | None
    requested_at: Ms


class Processes(Answer):
    """Live processes, by start id."""

    processes: list[Process]


class Tombstone(Run):
    """A process that ended, and why. Without evidence the reason says so."""

    store: str
    instance_name: str | None
    server: str
    cause: str
    reason: str
    exit_code: int | None
    wait_status: int | None
    last_words: list[str]
    incarnation: Incarnation
    at: Ms
    parked: bool


class Tombstones(Answer):
    """Ended processes, newest first."""

    tombstones: list[Tombstone]


class Waiting(Answer):
    """Everything that waits."""

    waiting: list[BlockedItem]


class Identity(Answer):
    """Who a manager is; `domainUid` is null while it waits for the domain."""

    product: Literal["dkv"]
    server_id: str
    uid: str
    domain_uid: str | None


class Status(Answer):
    """The manager works."""

    status: Literal["ok"]


class Ready(Answer):
    """The manager can read and change the domain; and what keeps clients' writes from being taken in it."""

    status: Literal["ready"]
    waiting: list[BlockedItem]


class Metric(Answer):
    """One metric of one node; `rate` a second."""

    store: str
    instance_name: str | None
    node: str
    category: str
    metric: str
    rate: float | None
    total: int


class Metrics(Answer):
    """Rates and totals, and the servers that did not answer."""

    metrics: list[Metric]
    updated: Ms
    silent_servers: list[str]


class Event(Answer):
    """Something that happened, why, by which command, and who asked."""

    sequence: int
    revision: int
    at: Ms
    database: str
    subject: str
    kind: str
    text: str  # what happened, in words, without why
    because: str
    change: str
    command: str
    actor: str
    start_id: int | None
    archive_id: int | None
    cause: int | None  # sequence of the event it follows from; zero or less: told before this log began
    ordered: bool


class Events(Answer):
    """A page of the event log, oldest first, and the sequence of the oldest event that is kept."""

    events: list[Event]
    oldest: int


class Chain(Answer):
    """An event, the one it follows from, and so on; `trimmed`: it goes on with one that is not kept any more."""

    events: list[Event]
    trimmed: bool


class Records(Answer):
    """The domain's state as it is kept."""

    uid: str
    revision: int
    records: dict[str, str]
