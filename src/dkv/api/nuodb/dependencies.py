"""API: what the routes of the NuoDB dialect have in common: finding things, and saying no to what dkv is not."""

from __future__ import annotations

from collections.abc import Mapping

from dkv.api.context import ManagerContext
from dkv.api.problems import Refusal, refuse
from dkv.control.submit import View
from dkv.domain.decision import Refused
from dkv.domain.model import Archive, Database, State
from dkv.domain.refusals import living_database, unknown_archive


def database_of(state: State, name: str, deleted: bool = False) -> Database:
    """The database of that name; with `deleted` also one of which only the name is left. Raises Refusal."""
    if deleted and name in state.databases:
        return state.databases[name]
    database = living_database(state.databases, name)
    if isinstance(database, Refused):
        raise Refusal(database)
    return database


def archive_of(state: State, archive_id: int, removed: bool) -> Archive:
    """The archive of that id: of those in use, or of the removed ones that are kept. Raises Refusal."""
    archive = state.archives.get(archive_id)
    if archive is None or archive.removed != removed or (removed and not archive.kept):
        raise Refusal(unknown_archive(archive_id))
    return archive


async def lease_ages(manager: ManagerContext, view: View) -> Mapping[str, int]:
    """ms since each manager last renewed its lease, read now, after `view` was read; a server that is away is left out."""
    ages = await manager.peers.lease_ages()
    alive = (server.server_id for server in view.state.servers.values() if server.alive)
    return {
        server_id: 0 if server_id == manager.server_id else ages[server_id]
        for server_id in alive
        if server_id in ages or server_id == manager.server_id
    }


def pairs(texts: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    """Options or labels in the domain's form."""
    return tuple(sorted((texts or {}).items()))


def not_supported(what: str, instead: str) -> Refusal:
    """Something NuoDB has and dkv is not."""
    return refuse("not_supported", what, instead)


def external(what: str = "This process") -> Refusal:
    """Engines are started by managers only."""
    return not_supported(
        f"{what} cannot be started from outside: engines are started by the manager of their server.",
        "Leave --is-external and --nuodb-cmd out.",
    )
