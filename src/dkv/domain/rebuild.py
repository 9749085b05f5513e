"""Domain: a lost state made anew from what archives say of themselves. Pure; dkv.recovery reads the disks.

The newest position of each group decides who may lead: a confirmed write was on every member of the in-sync set, and
the last leader's disk is never behind. Everything else that the state knew is begun anew and said to be unknown.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from dkv.constants import FIRST_CLIENT_PORT, FIRST_CLUSTER_PORT, SLOTS
from dkv.domain.access import DatabaseUser
from dkv.domain.constants import EPOCHS_OF_A_TERM
from dkv.domain.decision import Refused
from dkv.domain.model import (
    Archive,
    ArchiveState,
    ClientAccess,
    Database,
    DatabaseOptions,
    Group,
    PositionReport,
    Server,
    State,
    Transport,
)
from dkv.domain.refusals import no
from dkv.domain.restore import ARCHIVE_IDS, START_IDS, TERMS

Slots = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class NodesFile:
    """What the engine of an archive knew of its cluster last, as its nodes.conf says."""

    shard_id: str = ""
    epoch: int = 0  # the highest it knew
    led: bool = False  # it was a primary itself
    peers: tuple[tuple[str, str], ...] = ()  # (node id, address) of the others


@dataclass(frozen=True, kw_only=True)
class FoundArchive:
    """One archive directory. Empty, 0 or None is what could not be read; `report` is None with its `trouble`."""

    directory: str
    server_id: str
    name: str
    path: str  # empty where its manager derives it from its data directory
    domain_uid: str
    archive_id: int
    database: str
    database_uid: str
    group: str
    initialised: bool
    report: PositionReport | None = None
    trouble: str = ""
    cluster_port: int = 0
    client_port: int = 0
    options: DatabaseOptions = DatabaseOptions()  # as its engine ran
    slots: Slots = ()  # of its whole group, as its engine wrote them
    secret: str = ""  # of the managers' engine user, where a run record still has it
    node_id: str = ""
    nodes: NodesFile = NodesFile()

    @property
    def order(self) -> tuple[int, int, int]:
        """Sort key of its position; lower than any if it cannot be read."""
        return self.report.order if self.report else (-1, 0, 0)


@dataclass(frozen=True)
class Finds:
    """Everything that was found under the given data directories."""

    servers: tuple[Server, ...]
    archives: tuple[FoundArchive, ...]
    deleted: tuple[int, ...] = ()  # archive ids of directories that were laid aside
    start_ids: tuple[int, ...] = ()  # of runs that are still on disk
    users: tuple[DatabaseUser, ...] = ()  # whom engines let in, as their files say
    closed: tuple[str, ...] = ()  # names of the databases of which an engine let in nobody else


@dataclass(frozen=True)
class Rebuilt:
    """A state, what it was made of, and what is not known; one clause each."""

    state: State
    findings: tuple[str, ...]
    unknown: tuple[str, ...]


def rebuild(finds: Finds, fresh: str) -> Rebuilt | Refused:
    """The state that these archives belong to. `fresh` is a random word, of which lost passwords are made anew."""
    refused = _not_one_domain(finds) or _not_one_each(finds)
    if refused:
        return refused
    archives = _with_ports(finds.archives)
    groups: dict[tuple[str, str], Group] = {}
    for name in sorted({a.database for a in archives}):
        made = _groups([a for a in archives if a.database == name])
        if isinstance(made, Refused):
            return made
        groups |= {group.key: group for group in made}
    ids = [*(a.archive_id for a in archives), *finds.deleted]
    state = State(
        uid=archives[0].domain_uid,
        next_archive_id=max(ids) + 1 + ARCHIVE_IDS,
        next_start_id=max(finds.start_ids, default=-1) + 1 + START_IDS,
        servers={s.server_id: replace(s, alive=False) for s in finds.servers},
        databases={d.name: d for d in _databases(archives, fresh, finds.closed)},
        groups=groups,
        archives={a.archive_id: _archive(a) for a in archives},
        database_users={(user.database, user.name): user for user in finds.users},
    )
    return Rebuilt(state, tuple(_findings(finds, state)), tuple(_unknown(finds, state)))


# What cannot be one domain -------------------------------------------------------------------------------------------


def _not_one_domain(finds: Finds) -> Refused | None:
    if not finds.archives:
        return no("cannot_rebuild", "No archive was found there.", "Give the data directories of the managers.")
    uids = {a.domain_uid: a for a in finds.archives}
    if len(uids) > 1:
        first, second, *_ = uids.values()
        return no(
            "cannot_rebuild",
            f"{first.directory} and {second.directory} are of two different domains.",
            "Give the data directories of one domain, or move the other one away.",
        )
    return None


def _not_one_each(finds: Finds) -> Refused | None:
    servers: dict[str, Server] = {}
    for server in finds.servers:
        if servers.setdefault(server.server_id, server) is not server:
            return no(
                "cannot_rebuild",
                f"Two data directories say they are of server {server.server_id}.",
                "Give each data directory once, and none that is a copy.",
            )
    known: dict[int, FoundArchive] = {}
    uids: dict[str, FoundArchive] = {}
    for archive in finds.archives:
        first = known.setdefault(archive.archive_id, archive)
        if first is not archive:
            return no(
                "cannot_rebuild",
                f"{first.directory} and {archive.directory} both say they are archive {archive.archive_id}.",
                "One is a copy: move the older one away.",
            )
        first = uids.setdefault(archive.database, archive)
        if first.database_uid != archive.database_uid:
            return no(
                "cannot_rebuild",
                f"{first.directory} and {archive.directory} are of two stores that both were named {archive.database}.",
                "Move the archives of the deleted one away.",
            )
    return None


# Groups --------------------------------------------------------------------------------------------------------------


def _groups(archives: Sequence[FoundArchive]) -> list[Group] | Refused:
    """The groups of one database. Together they have to hold every slot once."""
    names = sorted({a.group for a in archives})
    parts = {name: _slots([a for a in archives if a.group == name]) for name in names}
    without = [name for name in names if not parts[name]]
    if len(without) == 1:
        parts[without[0]] = _rest(part for part in parts.values())
    if _rest(parts.values()) or sum(high - low + 1 for part in parts.values() for low, high in part) != SLOTS:
        return no(
            "cannot_rebuild",
            f"The storage groups found of {archives[0].database} ({', '.join(names)}) do not hold every hash slot once.",
            "Give the data directories that have its other groups too.",
        )
    return [_group([a for a in archives if a.group == name], parts[name]) for name in names]


def _slots(members: Sequence[FoundArchive]) -> Slots:
    known = [a for a in members if a.slots]
    return max(known, key=lambda a: a.nodes.epoch).slots if known else ()


def _rest(parts: Iterable[Slots]) -> Slots:
    """The slot ranges that no group holds."""
    held = {slot for part in parts for low, high in part for slot in range(low, high + 1)}
    left = [slot for slot in range(SLOTS) if slot not in held]
    starts = [s for s in left if s - 1 in held or s == 0]
    ends = [s for s in left if s + 1 in held or s == SLOTS - 1]
    return tuple(zip(starts, ends, strict=True))


def _group(members: Sequence[FoundArchive], slots: Slots) -> Group:
    first = members[0]
    shard = next((a.nodes.shard_id for a in members if a.nodes.shard_id), "")
    group = Group(first.database, first.group, shard or _word(first.domain_uid, first.database, first.group), slots)
    holders = [a for a in members if a.initialised]
    if not holders:
        return group
    epoch = max(a.nodes.epoch for a in members)
    seen = max(epoch // EPOCHS_OF_A_TERM, *(a.report.term for a in members if a.report), 0)
    newest = _newest(holders)
    last = min(newest, key=lambda a: (not a.nodes.led, -a.nodes.epoch, a.archive_id))
    return replace(
        group,
        term=seen + 1 + TERMS,
        epoch=epoch,
        last_leader=last.archive_id,
        in_sync=tuple(sorted(a.archive_id for a in newest)),
    )


def _newest(holders: Sequence[FoundArchive]) -> list[FoundArchive]:
    """Those that may lead: the newest position and its equals. Without any marker, whose engine led last."""
    best = max(a.order for a in holders)
    newest = [a for a in holders if a.order == best]
    if best[0] > 0:
        return newest
    led = [a for a in newest if a.nodes.led]
    return [max(led, key=lambda a: a.nodes.epoch)] if led else newest


# The rest ------------------------------------------------------------------------------------------------------------


def _databases(archives: Sequence[FoundArchive], fresh: str, closed: Sequence[str]) -> Iterable[Database]:
    for name in sorted({a.database for a in archives}):
        mine = [a for a in archives if a.database == name]
        copies = max(Counter(a.group for a in mine).values())
        secret = next((a.secret for a in mine if a.secret), "") or _word(fresh, name)
        options = replace(mine[0].options, replication_factor=copies)
        transport = Transport(tls=options.engine_tls == "on", insecure=options.insecure_engine_traffic == "yes")
        access = ClientAccess(name not in closed)
        yield Database(name, mine[0].database_uid, secret, options, access=access, transport=transport)


def _archive(archive: FoundArchive) -> Archive:
    state = ArchiveState.NOT_RUNNING if archive.initialised else ArchiveState.PROVISIONED
    return Archive(
        archive.archive_id,
        archive.database,
        archive.database_uid,
        archive.group,
        archive.server_id,
        archive.name,
        archive.path,
        archive.cluster_port,
        archive.client_port,
        state,
    )


def _with_ports(archives: Sequence[FoundArchive]) -> list[FoundArchive]:
    """An archive whose ports are not known, or that a later archive of its server has, gets the next free ones."""
    done: list[FoundArchive] = []
    taken = {a.archive_id for a in _without_ports(archives)}
    for archive in sorted(archives, key=lambda a: a.archive_id):
        if not archive.client_port or archive.archive_id in taken:
            mine = [a for a in (*archives, *done) if a.server_id == archive.server_id]
            used = {p for a in mine for p in (a.cluster_port, a.client_port)}
            cluster = next(p for p in range(FIRST_CLUSTER_PORT, 65536) if p not in used)
            client = next(p for p in range(FIRST_CLIENT_PORT, 65536) if p not in used and p != cluster)
            archive = replace(archive, cluster_port=cluster, client_port=client)
        done.append(archive)
    return done


def _without_ports(archives: Sequence[FoundArchive]) -> list[FoundArchive]:
    """Archives whose ports a later one of their server has: who was removed and kept had given them back."""
    held: set[tuple[str, int]] = set()
    without = []
    for archive in sorted(archives, key=lambda a: -a.archive_id):
        ports = {(archive.server_id, p) for p in (archive.cluster_port, archive.client_port) if p}
        if ports & held:
            without.append(archive)
        else:
            held |= ports
    return without


def _word(*parts: str) -> str:
    """40 hex characters made of these words."""
    return hashlib.sha1("/".join(parts).encode(), usedforsecurity=False).hexdigest()


# What is said --------------------------------------------------------------------------------------------------------


def _findings(finds: Finds, state: State) -> Iterable[str]:
    yield f"domain {state.uid}"
    for server in finds.servers:
        yield f"server {server.server_id} at {server.host}:{server.port}"
    for group in state.groups.values():
        slots = ", ".join(f"{low}-{high}" for low, high in group.slots)
        began = f"goes on in term {group.term}" if group.term else "never had data"
        yield f"{group.database}/{group.name}, slots {slots}: {began}"
        for archive in sorted(finds.archives, key=lambda a: a.archive_id):
            if (archive.database, archive.group) == group.key:
                yield f"archive {archive.archive_id}, {archive.name} on {archive.server_id}: {_standing(archive, group)}"


def _standing(archive: FoundArchive, group: Group) -> str:
    if not archive.initialised:
        return "no data yet"
    role = "may lead" if archive.archive_id in group.in_sync else "copies from the leader when it is started"
    if archive.report is None:
        return f"its position cannot be read ({archive.trouble}); {role}"
    if not archive.report.term:
        return f"data without a marker; {role}"
    return f"marker {archive.report.term}-{archive.report.sequence} and {archive.report.data_bytes} bytes after it; {role}"


def _unknown(finds: Finds, state: State) -> Iterable[str]:
    yield (
        "who was in sync and what was confirmed: of each group only the archives with the newest position found may "
        "lead. If a newer archive is elsewhere, what it alone has is lost"
    )
    yield from _missing(finds)
    yield from _doubtful(finds, state)
    yield (
        "options of the stores: copies as found; when writes reach the disk, what is done when memory is full, published events "
        "and connections as engines had them last; minInSync 1, memory and time limits at their defaults. A higher "
        "minInSync is not in force any more"
    )
    yield "instances that were never started, stores without any archive, labels, what was stopped by an operator"
    yield (
        "who may use the managers: users, roles and tokens are gone, so that root and the managers' user are left; all "
        "certificate authorities are made anew, and whoever trusted the old ones needs those"
    )
    yield "tombstones, events, incarnations and the record of enforced leaders: they begin anew"
    yield f"start ids in use: they go on at {state.next_start_id}, archive ids at {state.next_archive_id}"


def _missing(finds: Finds) -> Iterable[str]:
    """Engines that others knew and whose archive is not here."""
    known = {a.node_id for a in finds.archives}
    for node_id, (address, name) in sorted({n: (w, a.name) for a in finds.archives for n, w in a.nodes.peers}.items()):
        if node_id not in known:
            yield f"the archive of the engine at {address}, which {name} knew: it is not under these directories"


def _doubtful(finds: Finds, state: State) -> Iterable[str]:
    for archive in _without_ports(finds.archives):
        rebuilt = state.archives[archive.archive_id]
        yield (
            f"whether {archive.name} was removed and kept: another archive of {archive.server_id} has its ports, so it gets "
            f"{rebuilt.cluster_port} and {rebuilt.client_port}. If it was removed, remove it again"
        )
    for archive in finds.archives:
        group = state.groups[(archive.database, archive.group)]
        others = [state.archives[i].name for i in group.in_sync]
        if archive.initialised and archive.order[0] <= 0:
            yield f"how new {archive.name} is: it has no marker that can be read, so {', '.join(others)} may lead"
        if not archive.client_port:
            rebuilt = state.archives[archive.archive_id]
            yield f"the ports of {archive.name}: it gets {rebuilt.cluster_port} and {rebuilt.client_port}"
    for name in sorted(state.databases):
        if not any(a.secret for a in finds.archives if a.database == name):
            yield f"the engines' password of {name}: it gets a new one"
