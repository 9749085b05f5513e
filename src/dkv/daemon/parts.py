"""Daemon: a manager on real state and real engines, and what it knows of its machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator
from importlib.metadata import version

from dkv.access.certificate_files import DIRECTORY, CertificateFiles
from dkv.access.certificates import Owner, new_authority, new_leaf, reachable
from dkv.access.domain_key import DOMAIN_KEY, KeyFiles, beside
from dkv.backend import etcd_port, open_state, state_file
from dkv.config import Settings
from dkv.control.certificates import CertificatePlaces
from dkv.data_dir import DataDir
from dkv.engine.binary import find_binary, release_of
from dkv.engine.contract import Announced, ArchiveRefused, EngineError
from dkv.engine.engines import ValkeyEngines
from dkv.engine.tls import speaks_tls
from dkv.kernel import boot_id, boottime
from dkv.log import logger
from dkv.machine.observation import LocalServer
from dkv.machine.steps import Step
from dkv.manager import Manager, ManagerError, ManagerHooks
from dkv.store.contract import StoreError

log = logger("manager")
PROBE_WITHIN = 1.0  # s a machine has to answer a connection


def is_controlled(settings: Settings) -> bool:
    """Whether this manager authenticates its callers."""
    return settings.access_control != "off"


def program_of(settings: Settings) -> str | None:
    return str(settings.valkey_server) if settings.valkey_server else None


def refuse_no_engine(settings: Settings) -> None:
    """Raise ManagerError if no engine could be started: now, not when a store is started."""
    try:
        find_binary(program_of(settings))
    except ArchiveRefused as refused:
        hint = "Install Valkey 9.1, or set valkey_server (DKV_VALKEY_SERVER) to its program."
        raise ManagerError(f"There is no Valkey to run: {refused.detail}.", hint) from refused


def local_server(settings: Settings, data_dir: DataDir) -> LocalServer:
    """The server that this manager runs on."""
    program = find_binary(program_of(settings))
    return LocalServer(
        server_id=data_dir.server_id,
        uid=data_dir.uid,
        host=settings.bind,
        port=settings.port,
        nuodb_port=settings.nuodb_port,
        boot_id=boot_id(),
        data_dir=str(settings.data_dir.absolute()),
        memory=settings.max_memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        hang_timeout=settings.engine_hang_timeout_ms,
        engine_release=release_of(program),
        engine_tls=has_tls(program),
        etcd_port=etcd_port(settings),
        labels=tuple(sorted(settings.labels.items())),
        dkv_release=version("dkv"),
        announced=Announced(settings.announce_ipv4 or "", settings.announce_ipv6 or "", settings.announce_port_offset),
    )


def certificate_places(settings: Settings, server_uid: str) -> CertificatePlaces:
    """Where this manager keeps its certificate and the domain's key, and under which address its leaf says it is reached."""
    own = CertificateFiles(settings.data_dir.absolute() / DIRECTORY)
    state = state_file(settings)
    keys = KeyFiles(own.directory / DOMAIN_KEY, beside(state) if state else None)
    return CertificatePlaces(own, keys, reachable(server_uid, settings.bind))


def has_tls(program: str) -> bool:
    """Whether the engines' program has TLS: it is started with a certificate made for that."""
    owner, now = Owner("probe"), wall_clock()
    pair = new_leaf(new_authority(owner, now), owner, reachable("probe"), now)
    return speaks_tls(program, pair.certificate, pair.key)


@contextlib.asynccontextmanager
async def manager_of(settings: Settings, data_dir: DataDir, domain: str) -> AsyncIterator[Manager]:
    """A manager that has joined its domain, on real state and real engines."""
    store = await open_state(settings)
    engines = ValkeyEngines(settings.data_dir, binary=program_of(settings))
    places = certificate_places(settings, data_dir.uid)
    hooks = ManagerHooks(
        monotonic=boottime,
        wall=wall_clock,
        token=lambda: uuid.uuid4().hex,
        probe=probe,
        accepts=accepts,
        on_event=lambda e: log.info(e.kind, subject=e.subject, change=e.change, because=e.because, database=e.database),
        on_error=log_error,
        warn=log.warning,
        certificates=places if is_controlled(settings) else None,
        engine_certificates=places,
        domain=domain,
    )
    manager = Manager(local_server(settings, data_dir), store, engines, hooks)
    engines.refused = lambda peer, kind, last, count: manager.refused(peer, kind, last, count)
    try:
        await manager.join()
        yield manager
    finally:
        engines.close()
        await store.close()


def wall_clock() -> int:
    """The time of day in ms."""
    return time.time_ns() // 1_000_000


def log_error(step: Step | None, error: Exception, times: int) -> None:
    """Log what went wrong, and how often since the last line about it; with a traceback if it is a mistake of dkv."""
    mistake = not isinstance(error, (EngineError, StoreError, OSError))
    subject: dict[str, object] = {"step": type(step).__name__, "key": step.key} if step else {"step": "look"}
    if times > 1:
        subject["times"] = times
    log.warning("step failed", error=str(error) or type(error).__name__, exc_info=error if mistake else None, **subject)


async def probe(host: str, port: int) -> bool:
    """Whether a machine answers: a refused connection is an answer (its manager is being restarted)."""
    return await _connect(host, port) is not None


async def accepts(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    return bool(await _connect(host, port))


async def _connect(host: str, port: int) -> bool | None:
    """True: accepted; False: refused, so the machine lives; None: no answer at all."""
    try:
        async with asyncio.timeout(PROBE_WITHIN):
            _, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return False
    except (OSError, TimeoutError):
        return None
    writer.close()
    return True
