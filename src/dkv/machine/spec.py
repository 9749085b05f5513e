"""What an engine is started with, derived from what the domain says of its archive or process. Pure."""

from __future__ import annotations

from dataclasses import replace

from dkv.domain.access import hash_seed
from dkv.domain.constants import EPOCHS_OF_A_TERM
from dkv.domain.model import Archive, ArchiveState, Database, Endpoint, Group, Process, State
from dkv.engine.contract import (
    LAST_EPOCHS,
    EngineSpec,
    EngineUser,
    EngineUsers,
    GroupSlots,
    Identity,
    PeerNode,
    RunOptions,
    Secrets,
    TeSpec,
)
from dkv.machine.observation import LocalServer, directory_of, node_id, peer, share, te_directory, te_node_id, te_peers

NO_ARCHIVE = -1  # stands for the archive id of a memory-only engine, which has none


def identity_of(state: State, archive: Archive) -> Identity:
    """What the archive's directory must say of itself."""
    return Identity(state.uid, archive.database, archive.archive_id, archive.database_uid, archive.group)


def engine_spec(state: State, me: LocalServer, process: Process, archive: Archive) -> EngineSpec:
    """All that is needed to launch the engine of one archive."""
    database = state.databases[archive.database]
    groups = state.groups_of(database.name)
    others = [a for a in state.archives_of(database.name) if a.archive_id != archive.archive_id and not a.removed]
    return EngineSpec(
        start_id=process.start_id,
        directory=directory_of(me.data_dir, archive),
        identity=identity_of(state, archive),
        node_id=node_id(state.uid, archive.archive_id),
        group=archive.group,
        address=state.servers[archive.server_id].host,
        client_port=archive.client_port,
        cluster_port=archive.cluster_port,
        secrets=secrets_of(database),
        peers=(*(peer(state, a) for a in others), *te_peers(state, database.name)),
        groups=_slots(groups),
        current_epoch=current_epoch(groups),
        options=options_of(database, state.memoized(share, me)),
        led=_may_be_held_for_leader(state.groups[(archive.database, archive.group)], process, archive),
        restored=archive.restored and archive.state is ArchiveState.PROVISIONED,
        users=state.memoized(users_of, database.name),
        tls=database.transport.tls,
        announced=me.announced,
    )


def _may_be_held_for_leader(group: Group, process: Process, archive: Archive) -> bool:
    """Whether other engines may still name it to clients as the owner of its group's hash slots."""
    return archive.archive_id in (group.last_leader, *group.contested) or process.start_id in group.suspects


def te_spec(state: State, me: LocalServer, process: Process) -> TeSpec:
    """All that is needed to launch a TE: an engine for each group it was given ports for."""
    directory = te_directory(me.data_dir, process.start_id)
    return TeSpec(process.start_id, directory, tuple(_te_engine_spec(state, me, process, e) for e in process.endpoints))


def _te_engine_spec(state: State, me: LocalServer, process: Process, endpoint: Endpoint) -> EngineSpec:
    database = state.databases[process.database]
    groups = state.groups_of(database.name)
    own_id = te_node_id(state.uid, process.start_id, endpoint.group)
    archives = [peer(state, a) for a in state.archives_of(database.name) if not a.removed]
    peers: list[PeerNode] = [*archives, *(p for p in te_peers(state, database.name) if p.node_id != own_id)]
    return EngineSpec(
        start_id=process.start_id,
        directory=f"{te_directory(me.data_dir, process.start_id)}/group-{endpoint.group}",
        identity=Identity(state.uid, database.name, NO_ARCHIVE, database.uid, endpoint.group),
        node_id=own_id,
        group=endpoint.group,
        address=state.servers[process.server_id].host,
        client_port=endpoint.client_port,
        cluster_port=endpoint.cluster_port,
        secrets=secrets_of(database),
        peers=tuple(peers),
        groups=_slots(groups),
        current_epoch=current_epoch(groups),
        options=replace(options_of(database, share(state, me)), append_fsync=""),
        memory_only=True,
        users=state.memoized(users_of, database.name),
        tls=database.transport.tls,
        announced=me.announced,
    )


def options_of(database: Database, memory_share: int) -> RunOptions:
    """The options that an engine of a database starts with; `memory_share` in bytes, where the database sets none."""
    options = database.options
    return RunOptions(
        options.max_memory or memory_share,
        options.append_fsync,
        options.maxmemory_policy,
        options.notify_keyspace_events,
        options.max_clients,
    )


def secrets_of(database: Database) -> Secrets:
    """The managers' passwords that every engine of a database is to take."""
    change = database.secret_change
    return Secrets(database.secret, change.other_secret, change.hash_seed or hash_seed(database.secret))


def users_of(state: State, database: str) -> EngineUsers:
    """Whom every engine of a database is to let in."""
    users = [
        EngineUser(
            user.name, tuple(sorted(user.passwords)), user.read_only, user.keys, user.scripting, user.monitor, user.importing
        )
        for user in state.users_of(database)
    ]
    return EngineUsers(state.databases[database].access.open, tuple(users))


def _slots(groups: list[Group]) -> tuple[GroupSlots, ...]:
    return tuple(GroupSlots(g.name, g.shard_id, g.slots) for g in groups)


def current_epoch(groups: list[Group]) -> int:
    """Above every term, and every epoch that nobody forged; only ever `vars currentEpoch`, never a config epoch."""
    epochs = [group.epoch for group in groups if group.epoch < LAST_EPOCHS]
    return max([*epochs, *(EPOCHS_OF_A_TERM * group.term for group in groups)])
