"""Where a manager's domain state is kept: the backend that `--state` names, opened for the manager.

`etcd` alone means members that the managers run themselves. A domain begins on SQLite and moves there, once.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dkv import files
from dkv.access.certificate_files import DIRECTORY as CERTIFICATES
from dkv.access.certificate_files import CertificateFiles
from dkv.config import Settings, default_state
from dkv.constants import PEERS_ABOVE
from dkv.manager import ManagerError
from dkv.members.child import DIRECTORY as MEMBER
from dkv.members.child import MemberProcess, MemberSpec
from dkv.members.place import Members, members_in, read_members
from dkv.members.program import program, unfit
from dkv.store import codec
from dkv.store.contract import Moved, Store, Unavailable, Unusable

if TYPE_CHECKING:
    from dkv.store.etcd import EtcdStore

OWN = "etcd"
KINDS = "Write --state sqlite:PATH, --state etcd, or --state etcd:https://HOST:2379,..."
MEMBERS_ANSWER_WITHIN = 30.0  # s a majority of the members has, when a manager starts
PAUSE = 0.2  # s between two tries
ATTEMPT = 0.5  # s one member of the managers' own has to answer: an election takes as long, and a lease is renewed within 1.5 s
PREFIX = "/dkv/"  # of every key in a cluster of the managers' own


async def open_state(settings: Settings) -> Store:
    """Open the state backend `sqlite:PATH`, `etcd` or `etcd:URL,...`. Raises ManagerError, StoreError; Moved for a file
    whose state is somewhere else by now.
    """
    kind, _, place = settings.state.partition(":")
    if kind == "sqlite" and place:
        return await _open_sqlite(place)
    if settings.state == OWN:
        return await _open_members(settings)
    if kind == "etcd" and place:
        return await _open_etcd(settings, place)
    named = kind if "@" in place else settings.state  # what stands before an @ may be a password
    raise ManagerError(f"The state backend {named!r} is not known.", KINDS)


def state_file(settings: Settings) -> Path | None:
    """The file of a state on this machine; None for one that several machines share."""
    kind, _, place = settings.state.partition(":")
    return files.without_links(Path(place)) if kind == "sqlite" else None


def has_state(settings: Settings) -> bool:
    """Whether there is a state to be looked at; none is made for that. Raises Unusable."""
    kind, _, path = settings.state.partition(":")
    if settings.state == OWN:
        return read_members(settings.data_dir) is not None
    return kind != "sqlite" or Path(path).exists()


async def _open_sqlite(path: str) -> Store:
    from dkv.store.sqlite import SqliteStore

    try:
        with files.directory(files.without_links(Path(path).parent), make=True):
            pass
    except OSError as error:
        hint = "Choose another --state, or make room and rights."
        raise ManagerError(f"The domain state cannot be kept at {path}: {error.strerror}.", hint) from error
    return await SqliteStore.open(path)


async def _open_etcd(settings: Settings, place: str) -> Store:
    store = etcd_store()
    from dkv.store.etcd_address import EtcdAddress, normal_prefix, parse

    endpoints, tls = parse(place)
    address = EtcdAddress(
        endpoints,
        tls=tls,
        prefix=normal_prefix(settings.etcd_prefix),
        authorities=settings.etcd_authorities_file,
        certificate=settings.etcd_certificate_file,
        key=settings.etcd_key_file,
        user=settings.etcd_user or "",
        password_file=settings.etcd_password_file,
    )
    return await store.open(address)


def etcd_store() -> type[EtcdStore]:
    """What opens a state on etcd: imported when it is needed, since a manager whose domain is in SQLite does not pay for grpc.
    Raises ManagerError where packages are missing.
    """
    try:
        from dkv.store.etcd import EtcdStore
    except ImportError as error:
        sentence = f"A domain state on etcd needs the package {(error.name or 'grpcio').partition('.')[0]}."
        raise ManagerError(sentence, "Install it: pip install 'dkv[etcd]'") from error
    return EtcdStore


# Members of the managers' own -------------------------------------------------------------------------------------------


def why_no_member(settings: Settings) -> str:
    """Why this server can run no etcd member for the domain state, as a sentence with what helps; "" when it can."""
    if settings.access_control == "off":
        return "access control is off, so a member would let in everybody: set access_control"
    if not _etcd_port(settings):
        return "its etcd_port is 0"
    return unfit()


def _etcd_port(settings: Settings) -> int:
    if settings.etcd_port is not None:
        return settings.etcd_port
    return settings.port + PEERS_ABOVE if settings.port <= 65_535 - 2 * PEERS_ABOVE else 0


def etcd_port(settings: Settings) -> int:
    """The client port of the member that this server may run; 0 where it can run none."""
    return 0 if why_no_member(settings) else _etcd_port(settings)


def member_process(settings: Settings, server_uid: str) -> MemberProcess:
    """The etcd member that this server runs, or may run."""
    data_dir = settings.data_dir.absolute()
    certificates = CertificateFiles(data_dir / CERTIFICATES)
    spec = MemberSpec(server_uid, settings.bind, _etcd_port(settings), data_dir / MEMBER, certificates)
    return MemberProcess(spec, program())


async def open_members(settings: Settings, clients: tuple[str, ...], cluster: int = 0) -> EtcdStore:
    """The state at the members with these client URLs, of the cluster with that id; 0: whichever answers first. Raises
    ManagerError, StoreError.
    """
    store = etcd_store()
    from dkv.store.etcd_address import EtcdAddress, parse

    certificates = CertificateFiles(settings.data_dir.absolute() / CERTIFICATES)
    endpoints, tls = parse(",".join(clients))
    address = EtcdAddress(
        endpoints,
        tls=tls,
        prefix=PREFIX,
        authorities=certificates.bundle,
        certificate=certificates.leaf,
        key=certificates.key,
        cluster=cluster,
        attempt=ATTEMPT,
    )
    return await store.open(address)


async def _open_members(settings: Settings) -> Store:
    """The state at the members that this data directory knows, once a majority answers."""
    members = members_of(settings)
    if members is None:
        raise ManagerError(f"{settings.data_dir} knows no etcd member of the domain state.", "Start it as it was started before.")
    give_up = time.monotonic() + MEMBERS_ANSWER_WITHIN
    while True:
        try:
            store = await open_members(settings, members.clients, members.cluster)
            if await has_domain(store, members.domain):
                return store
            raise Unavailable(f"the state of the domain {members.domain} is not at its members", "Is a manager moving it there?")
        except Unavailable:
            if time.monotonic() > give_up:
                raise
        await asyncio.sleep(PAUSE)


async def has_domain(store: EtcdStore, domain: str) -> bool:
    """Whether a state is that of the domain with that uid; one that is not is closed. Raises StoreError."""
    is_there = False
    try:
        text = (await store.read()).records.get(codec.DOMAIN)
        is_there = text is not None and json.loads(text).get("uid") == domain
    finally:
        if not is_there:
            await store.close()
    return is_there


def members_of(settings: Settings) -> Members | None:
    """The members that this data directory knows; None if its domain's state was never there. Raises Unusable."""
    return read_members(settings.data_dir.absolute())


def state_at_members(settings: Settings) -> Settings:
    """The settings with which a manager goes on whose data directory knows members: at those, where its state file, which was of
    no use any more, is gone. Raises Unusable: the state that was asked for would be that of another domain.
    """
    members = members_of(settings)
    if members is None or settings.state == OWN:
        return settings
    file = state_file(settings)
    if file is not None and file.exists():
        return settings  # it says itself where its state is; or one was put back
    if file == files.without_links(Path(default_state(settings.data_dir).partition(":")[2])):
        return replace(settings, state=OWN)
    raise Unusable(
        f"the state of this server's domain {members.domain} is on etcd members of its managers, and the one that --state names "
        "would be of another domain",
        "Start the manager without --state; for another domain choose another --data-dir.",
    )


def start_member(settings: Settings, server_uid: str) -> None:
    """Have the member of this server run again, if it has one. Raises StoreError."""
    process = member_process(settings, server_uid)
    process.refuse_another_address()
    members = members_of(settings)
    if members and settings.access_control == "off":
        raise Unusable("the domain state is on etcd members that ask for certificates", "Set access_control as it was.")
    if members and process.has_data and process.running() is None:
        if why := why_no_member(settings):
            raise Unusable(f"this server has an etcd member of the domain state, and cannot run it: {why}")
        process.start({}, members.token, new=False)


async def move_to_members(settings: Settings, server_uid: str, domain: str) -> Settings:
    """Move the state of this domain from its file to a first member of this server, or end a move that broke off; the settings
    with which the manager goes on. Raises ManagerError, StoreError.
    """
    etcd_store()
    from dkv.members.move import move

    file = state_file(settings)
    if file is None:
        raise Unusable(
            f"the state at {settings.state} is in no file that could move", "Start the manager as it was started before."
        )
    if why := why_no_member(settings):
        raise Unusable(f"this server can run no etcd member of the domain state: {why}")
    process = member_process(settings, server_uid)
    members = await move(file, domain, process, lambda clients: open_members(settings, clients))
    return keep_members(settings, members)


def keep_members(settings: Settings, members: Members) -> Settings:
    """Remember the members in the data directory; the settings with which the manager goes on. Raises Unusable."""
    try:
        members.write(settings.data_dir.absolute())
    except OSError as error:
        raise Unusable(
            f"the data directory cannot keep where the state is ({error.strerror})", "Make room and rights."
        ) from error
    return replace(settings, state=OWN)


async def follow_moved(settings: Settings, server_uid: str, moved: Moved) -> Settings:
    """The settings with which a manager goes on whose state file says that its state moved. What this data directory knows of the
    domain's members is newer than what the file says. Raises ManagerError, StoreError.
    """
    known = members_of(settings)
    try:
        members = members_in(moved.place)
    except ValueError:
        raise Unusable(
            f"{settings.state} says that its state moved, and not where to", "Give --state what other managers have."
        ) from None
    if known is not None and known.domain == members.domain:
        return replace(settings, state=OWN)
    if member_process(settings, server_uid).spec.client in members.clients:
        return await move_to_members(settings, server_uid, members.domain)  # this server's own move, which may have broken off
    return keep_members(settings, members)


def founding_state(settings: Settings) -> Settings:
    """The settings with which a domain is founded: on a file, from which it moves."""
    return replace(settings, state=default_state(settings.data_dir))
