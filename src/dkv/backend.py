"""Where a manager's domain state is kept: the backend that `--state` names, opened for the manager."""

from __future__ import annotations

from pathlib import Path

from dkv import files
from dkv.config import Settings
from dkv.manager import ManagerError
from dkv.store.contract import Store

KINDS = "Write --state sqlite:PATH, or --state etcd:https://HOST:2379,..."


async def open_state(settings: Settings) -> Store:
    """Open the state backend `sqlite:PATH` or `etcd:URL,...`. Raises ManagerError, StoreError."""
    kind, _, place = settings.state.partition(":")
    if kind == "sqlite" and place:
        return await _open_sqlite(place)
    if kind == "etcd" and place:
        return await _open_etcd(settings, place)
    named = kind if "@" in place else settings.state  # what stands before an @ may be a password
    raise ManagerError(f"The state backend {named!r} is not known.", KINDS)


def state_file(settings: Settings) -> Path | None:
    """The file of a state on this machine; None for one that several machines share."""
    kind, _, place = settings.state.partition(":")
    return files.without_links(Path(place)) if kind == "sqlite" else None


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
    try:  # a manager whose domain is in SQLite does not pay for grpc
        from dkv.store.etcd import EtcdStore
    except ImportError as error:
        sentence = f"A domain state on etcd needs the package {(error.name or 'grpcio').partition('.')[0]}."
        raise ManagerError(sentence, "Install it: pip install 'dkv[etcd]'") from error
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
    return await EtcdStore.open(address)
