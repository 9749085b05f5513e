"""API: from the body of a new store or of new instances to a command, and the listening sockets of this machine."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dkv.address import endpoint_text
from dkv.api.bodies import InstanceBody, InstancesBody, StoreBody
from dkv.api.context import ManagerContext
from dkv.api.dependencies import find_instance
from dkv.api.problems import refuse
from dkv.database_options import TABLE
from dkv.domain.model import Archive, Endpoint, State
from dkv.domain.orders import CreateArchives, CreateDatabase, NewArchive, NewGroup
from dkv.domain.refusals import nearest
from dkv.domain.rules.databases import UNPARTITIONED
from dkv.domain.rules.texts import is_printable
from dkv.hints import Hint, action, hint

FREE_BASES_TRIED = 200


def create_command(manager: ManagerContext, state: State, body: StoreBody, *, is_open: bool) -> CreateDatabase:
    """The command that makes the store of this body. Raises Refusal for a server the domain does not know."""
    uid = manager.new_id()
    only = body.groups[0].name if len(body.groups) == 1 else "" if body.groups else UNPARTITIONED
    return CreateDatabase(
        name=body.name,
        uid=uid,
        secret=manager.new_id(),
        options=replace(manager.options, **_options(body)),
        groups=tuple(
            NewGroup(
                name=group.name,
                shard_id=hashlib.sha1(f"{uid}/{group.name}".encode(), usedforsecurity=False).hexdigest(),
                slots=tuple((low, high) for low, high in group.slots),
            )
            for group in body.groups
        ),
        archives=_archives(state, body.instances, only, ""),
        open=is_open,
    )


def _options(body: StoreBody) -> dict[str, Any]:
    """The options that a body gives, by field; letters of events in the order in which they are kept."""
    given = {option: getattr(body, option.field) for option in TABLE if option.field in StoreBody.model_fields}
    return {
        option.field: (option.read(value) if option.kind == "events" else None) or value
        for option, value in given.items()
        if value is not None
    }


def add_command(manager: ManagerContext, state: State, store: str, body: InstancesBody) -> CreateArchives:
    """The command that adds these instances; one that names no server goes to the manager that was asked."""
    archives = _archives(state, body.instances, "", manager.server_id)
    return CreateArchives(database=store, archives=archives)


def _archives(state: State, bodies: Sequence[InstanceBody], group: str, server: str) -> tuple[NewArchive, ...]:
    return tuple(
        NewArchive(
            server_id=_server_id(state, body, f"instances[{index}]", server),
            name=body.instance_name,
            group=body.group or group,
            cluster_port=body.clustron_port,
            client_port=body.client_port,
            path=body.path,
            restored=body.restored,
        )
        for index, body in enumerate(bodies)
    )


def _server_id(state: State, body: InstanceBody, where: str, default: str) -> str:
    managers = {endpoint_text(s.host, s.port).lower(): s.server_id for s in state.servers.values()}
    if body.server:
        return body.server  # whether it exists is the domain's to say
    if body.manager and body.manager.lower() not in managers:
        message = f"No server of this domain has its manager at {body.manager}."
        raise refuse("unknown_server", message, nearest(body.manager, managers))
    if body.manager:
        return managers[body.manager.lower()]
    if not default:
        raise refuse("bad_value", f"{where} names no server.", "Give manager as host:port, or server.")
    return default


# Sockets -----------------------------------------------------------------------------------------------------


async def check_directories(manager: ManagerContext, archives: Sequence[NewArchive]) -> None:
    """Refuse at once what can be seen from here: directories on this machine that no archive may have. Raises Refusal."""
    for new in archives:
        if new.path.startswith("/") and is_printable(new.path) and new.server_id == manager.server_id:
            trouble = await asyncio.to_thread(manager.machine.unfit, new.path, new.restored)
            if trouble:
                raise refuse(
                    "unfit_directory",
                    f"That directory cannot be an archive's: {trouble}.",
                    "Give an empty directory of the manager's user, or one that does not exist.",
                )


def check_sockets(manager: ManagerContext, state: State, store: str, wanted: Sequence[NewArchive]) -> None:
    """Raises Refusal if something listens on a port of a new instance of this machine. Known instances are not new,
    nor are those of a store whose name differs in case only: that name is what will be refused. A port that the domain
    knows is no other program's: the domain's refusal says whose it is."""
    known = next((d.name for d in state.databases.values() if d.name.casefold() == store.casefold()), store)
    own = [a for a in wanted if a.server_id == manager.server_id and not find_instance(state, known, a.name)]
    server = state.servers.get(manager.server_id)
    if server is None:
        return
    ports = _ports_known(state, server.host)
    for archive in own:
        for port in (archive.cluster_port, archive.client_port):
            if port not in ports and manager.machine.port_in_use(server.host, port):
                message = f"Port {port} on {server.host}, wanted for {archive.name}, is in use by another program."
                raise refuse("port_conflict", message, _free_bases(manager, state, server.host, own))


def _ports_known(state: State, host: str) -> set[int]:
    """The ports of every instance and TE on a host; not those of a deleted one, which may be anybody's by now."""
    hosts = {s.server_id for s in state.servers.values() if s.host == host}
    nodes: list[Archive | Endpoint] = [a for a in state.archives.values() if a.server_id in hosts and not a.removed]
    nodes += [e for p in state.processes.values() if p.server_id in hosts for e in p.endpoints]
    return {port for node in nodes for port in (node.cluster_port, node.client_port)}


def _free_bases(manager: ManagerContext, state: State, host: str, wanted: Sequence[NewArchive]) -> Hint:
    """A hint that moves all wanted ports of this machine by the smallest step to where nothing is."""
    known = _ports_known(state, host)
    ports = [p for a in wanted for p in (a.cluster_port, a.client_port)]
    for step in range(1, FREE_BASES_TRIED):
        moved = [port + step for port in ports]
        if max(moved) > 65535:
            break
        if not known & set(moved) and not any(manager.machine.port_in_use(host, port) for port in moved):
            bases = min(a.cluster_port for a in wanted) + step, min(a.client_port for a in wanted) + step
            return hint("Free on that server: ", action("usePorts", clusterPort=bases[0], clientPort=bases[1]), ".")
    return hint("Choose other ports.")
