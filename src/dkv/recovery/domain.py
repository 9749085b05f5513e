"""Recovery: what `dkv recover domain` would do on a server that is left of a domain whose state has lost its majority."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

from dkv.backend import OWN, has_domain, keep_members, member_process, members_of, open_members, start_member, why_no_member
from dkv.config import Settings
from dkv.data_dir import lock_data_dir, with_real_data_dir
from dkv.domain import restore
from dkv.domain.decision import Event
from dkv.domain.model import State
from dkv.manager import ManagerError
from dkv.members.child import DATA, DIRECTORY
from dkv.members.known import KNOWN_STATE
from dkv.members.move import first_member
from dkv.members.place import Members, new_members
from dkv.recovery.backup import RecoveryError, read_backup, revision_of
from dkv.store import codec
from dkv.store.contract import StoreError

ANSWERS_WITHIN = 6.0  # s the members have to show that the domain is alive


@dataclass(frozen=True)
class RecoveryPlan:
    """A domain to be begun anew on this server alone. `path` is where its state will be."""

    settings: Settings
    server_uid: str
    path: Path
    state: State
    revision: int
    findings: tuple[str, ...]
    unknown: tuple[str, ...]
    because: str

    def write(self) -> None:
        """Make a first member of a new cluster with this state; what this server's member had before is laid aside. Raises
        RecoveryError.
        """
        try:
            with lock_data_dir(self.settings):
                _refuse_living(self.settings, self.server_uid)  # the others may have come back while somebody thought
                asyncio.run(self._write())
        except (StoreError, ManagerError, OSError) as error:
            raise RecoveryError(f"The domain could not be recovered: {error}.", "Cure that and repeat this.") from error

    async def _write(self) -> None:
        process = member_process(self.settings, self.server_uid)
        await process.end()
        process.set_aside()
        members = new_members(self.state.uid, process.spec.client)
        store = await first_member(process, members, lambda clients: open_members(self.settings, clients))
        try:
            event = Event(
                "domain.recovered", f"domain {self.state.uid}", self.because, actor="operator", at=time.time_ns() // 1_000_000
            )
            state = restore.recovered(self.state, uuid.uuid4().hex)
            records = dict(codec.encode(state))
            await store.take_over(records, self.revision, state.events, [codec.to_text(event)], uuid.uuid4().hex)
        finally:
            await store.close()
        keep_members(self.settings, members)


def plan_domain(settings: Settings, reason: str) -> RecoveryPlan:
    """The plan of recovering the domain on this server, whose manager has ended. Raises RecoveryError, ManagerError."""
    settings = replace(with_real_data_dir(settings), state=OWN)
    with lock_data_dir(settings) as data_dir:
        path = data_dir.path / KNOWN_STATE
        old, revision = read_backup(path), revision_of(path)
        _refuse_another_address(settings, old, data_dir.uid)
        _refuse_living(settings, data_dir.uid)
        seen_at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(path.stat().st_mtime))
        findings = (
            f"the newest state that this server has seen: revision {revision} of domain {old.uid}, written at {seen_at}",
            f"servers {', '.join(sorted(old.servers))}; the state is on {data_dir.server_id} alone afterwards",
            *(_group_line(old, database, name) for database, name in sorted(old.groups)),
        )
        unknown = (
            f"what was changed after revision {revision}: on the machines that are lost, another copy may lead by now, and "
            "others may be in sync",
            *restore.unknown(old),
            "whether lost machines come back: their managers end when they reach a manager of the recovered domain, and join it "
            "again with a join token; what their engines take until then is lost",
        )
        because = f"it was recovered on server {data_dir.server_id} from revision {revision}, because: {reason}"
        return RecoveryPlan(
            settings,
            data_dir.uid,
            data_dir.path / DIRECTORY / DATA,
            restore.restored(old),
            revision + 1,
            findings,
            unknown,
            because,
        )


def _group_line(state: State, database: str, name: str) -> str:
    group = state.groups[database, name]
    in_sync = ", ".join(state.archives[archive_id].name for archive_id in sorted(group.in_sync) if archive_id in state.archives)
    return f"store {database}, group {name}: term {group.term}, in sync {in_sync or 'nobody yet'}"


def _refuse_another_address(settings: Settings, old: State, uid: str) -> None:
    """The member is made where the others and this server's certificate have it."""
    server = next((server for server in old.servers.values() if server.uid == uid), None)
    if server is not None and (settings.bind, settings.port) != (server.host, server.port):
        raise RecoveryError(
            f"The manager of this server was at {server.host}:{server.port}, not at {settings.bind}:{settings.port}.",
            f"Give --bind {server.host} --port {server.port}, or the configuration file that it is started with.",
        )


def _refuse_living(settings: Settings, server_uid: str) -> None:
    """Raise RecoveryError where nothing has to be recovered, or nothing can be. This server's own member may be what a majority
    lacks, so it is started first.
    """
    try:
        members = members_of(settings)
        if members is not None:
            start_member(settings, server_uid)
    except StoreError as error:
        raise RecoveryError(f"The members of the domain state cannot be asked: {error.detail}.", error.hint) from error
    if members is None:
        raise RecoveryError(
            f"The state of this domain is not on etcd members of its managers, as far as {settings.data_dir} shows.",
            "For a state in a file: dkv restore state or dkv rebuild state.",
        )
    if why := why_no_member(settings):
        raise RecoveryError(f"This server can run no etcd member: {why}.", "Cure that and repeat this.")
    if asyncio.run(_answers(settings, members)):
        raise RecoveryError(
            f"The domain state answers: {', '.join(members.clients)} have a majority.", "Start the manager: nothing is lost."
        )


async def _answers(settings: Settings, members: Members) -> bool:
    """Whether a majority answers, and has the domain."""
    give_up = time.monotonic() + ANSWERS_WITHIN
    while True:
        try:
            store = await open_members(settings, members.clients, members.cluster)
            if await has_domain(store, members.domain):
                await store.close()
                return True
            return False
        except StoreError:
            if time.monotonic() > give_up:
                return False
        await asyncio.sleep(0.2)
