"""Domain: the orders of maintenance: hand leadership over, enforce it, restart a database, drain a server;
and the facts that an engine stopped answering, or refuses writes."""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain.command import Command


@dataclass(frozen=True, kw_only=True)
class Switchover(Command):
    """Hand a group over to another member of its in-sync set. Without `group` every group of the database; without
    `to`, a start id, to the member that is furthest."""

    database: str
    group: str = ""
    to: int | None = None


@dataclass(frozen=True, kw_only=True)
class RestartDatabase(Command):
    """Replace every process of a database: one after the other while it serves (`rolling`), or by a whole stop and
    start. `force` accepts that writes stop where a group has no copy to spare, and stops processes at once."""

    name: str
    rolling: bool = False
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class StopRestart(Command):
    """Give a running restart up: what was replaced stays replaced, what is stopping comes back, the rest is left."""

    name: str


@dataclass(frozen=True, kw_only=True)
class DrainServer(Command):
    """End every process of a server, or those of one database. Refused where that would end the serving of a group or its
    writes, unless `force`, `kill` or `evict` (as of one process, ShutdownProcess) says that this is meant."""

    server_id: str
    database: str = ""
    kill: bool = False
    force: bool = False
    evict: bool = False


@dataclass(frozen=True, kw_only=True)
class EnforceLeader(Command):
    """Make an archive lead although it may lack confirmed writes; recorded for ever."""

    database: str
    group: str
    archive_id: int
    allow_data_loss: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class WritesRefused(Command):
    """The engine that leads a group has refused its clients' writes for some seconds, or takes them again: `why` is the
    error they are answered (domain/refusing.py lists them), "" when there is none. This only tells people."""

    server_id: str
    start_id: int
    why: str


@dataclass(frozen=True, kw_only=True)
class EngineSilent(Command):
    """An engine has answered nothing at all for 3 s, or answers again. Its manager, `server_id`, ends it after
    engineHangTimeout; this only tells people earlier."""

    server_id: str
    start_id: int
    silent: bool
