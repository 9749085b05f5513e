"""Daemon: manager and REST run side by side until a signal comes, one of them fails, or the domain state moves."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import ssl
from collections.abc import Iterator
from functools import partial
from typing import Any

from dkv.access.contexts import Contexts, why_handshake_failed
from dkv.access.crypto import Malformed
from dkv.access.passwords import Verifier
from dkv.address import endpoint_text
from dkv.api.access import AccessControl, Reporter
from dkv.api.app import create_app
from dkv.backend import OWN, member_process, members_of, start_member
from dkv.config import Settings
from dkv.control.refused_requests import report_refused
from dkv.daemon.api_context import context_of
from dkv.daemon.parts import PROBE_WITHIN, manager_of, wall_clock
from dkv.daemon.ports import ProcessResources
from dkv.daemon.state_move import StateMove
from dkv.data_dir import DataDir, is_secured, remember_domain
from dkv.domain.identities import registered_certificates
from dkv.domain.model import State
from dkv.domain.state_members import MemberRules
from dkv.engine.engines import ValkeyEngines
from dkv.guarding import GuardKeeper
from dkv.kernel import boottime
from dkv.listening import LOCAL, Secured, Server
from dkv.log import GREETING, logger
from dkv.manager import Manager, ManagerError
from dkv.notify import ServiceManager
from dkv.other_managers import OtherManagers
from dkv.store.contract import Moved

log = logger("manager")


def access_control(manager: Manager) -> AccessControl | None:
    """Who may do what at this manager; None without access control."""
    certificates = manager.certificates
    if certificates is None:
        return None
    return AccessControl(
        Verifier(secrets.token_bytes(32), boottime),
        administrators={0, os.geteuid()},
        domain_key=lambda: certificates.domain_key,
        report=partial(report_refused, manager.submitter, manager.server.server_id),
        monotonic=boottime,
    )


async def serve(settings: Settings, data_dir: DataDir, resources: ProcessResources, domain: str, move: StateMove) -> str:
    """Run manager and REST until a signal comes, a move of the state is wanted, or one of them fails; the domain's uid. Raises
    ManagerError, StoreError; Moved when the state is somewhere else by now.
    """
    ended = asyncio.Event()
    move.end = ended.set
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, move.stop)
    settings = resources.reload.applied(settings)
    if settings.state == OWN:
        start_member(settings, data_dir.uid)
    async with manager_of(settings, data_dir, domain) as manager:
        remember_domain(data_dir, manager.domain_uid)
        resources.reload.on_signal(loop, manager)
        if not move.wanted:
            await _serve(manager, settings, resources, ended, move)
        return manager.domain_uid


def contexts_of(settings: Settings, manager: Manager) -> Contexts | None:
    """The TLS contexts of this manager; None where its ports speak none. Raises ManagerError: nothing is answered in clear where
    TLS belongs."""
    if not is_secured(settings) or manager.certificates is None:
        return None
    contexts = Contexts(manager.certificates.files, log.warning)
    try:
        contexts.load()
    except Malformed as error:
        hint = f"End the manager, remove {manager.certificates.files.directory}, and start it: it makes the files anew."
        raise ManagerError(f"Cannot listen on {settings.bind}: {error}.", hint) from error
    manager.certificates.follow(contexts.load)
    return contexts


def secured_by(contexts: Contexts, manager: Manager, reporter: Reporter) -> Secured:
    """How handshakes are made: with the certificate files as they are, and the users' certificates as the domain has them."""
    records: object = None
    registered: tuple[bytes, ...] = ()

    def accepting() -> ssl.SSLContext:
        nonlocal records, registered
        view = manager.newest()
        if view is not None and view.state.records is not records:
            records, registered = view.state.records, registered_certificates(view.state)
        return contexts.accepting(registered)

    def failed(peer: str, error: Exception) -> None:
        why = why_handshake_failed(error)
        if why:
            reporter.refused(peer, "handshake", f"a connection that ended before a request: {why}")

    return Secured(accepting, failed)


async def _give_signs(service: ServiceManager) -> None:
    """Signs of life for the service manager, as long as this loop turns: one that stands still ends, and is begun anew."""
    while service.sign_every is not None:
        service.works()
        await asyncio.sleep(service.sign_every)


def malformed(reporter: Reporter | None, peer: str) -> None:
    """Count what was sent to a port and is no HTTP."""
    if reporter is not None:
        reporter.refused(peer, "malformed", "a request that is no HTTP")


async def _serve(
    manager: Manager, settings: Settings, resources: ProcessResources, ended: asyncio.Event, move: StateMove
) -> None:
    contexts, control = contexts_of(settings, manager), access_control(manager)
    app = create_app(context_of(manager, settings, ended, contexts, move), control)
    if app.reporter:
        manager.refused = app.reporter.refused
    secured = secured_by(contexts, manager, app.reporter) if contexts and app.reporter else None
    servers = [(Server(app, secured=secured, malformed=partial(malformed, app.reporter)), again(resources.ports))]
    if resources.local:
        servers.append((Server(app, LOCAL, lifespan="off"), again(resources.local)))
    tasks = [
        asyncio.create_task(manager.run(), name="manager"),
        *members_kept(manager, settings, contexts),
        asyncio.create_task(guard_kept(manager, resources.guard), name="guard"),
        *(asyncio.create_task(rest.serve(sockets=sockets), name="rest") for rest, sockets in servers),
        asyncio.create_task(ended.wait(), name="signal"),
    ]
    server = manager.server
    address = endpoint_text(server.host, server.port)
    page = f"{'https' if contexts else 'http'}://{address}/"
    log.info(
        GREETING,
        server=server.server_id,
        address=address,
        domain=manager.domain_uid,
        console=page,
        documentation=f"{page}docs",
        ended_by="Ctrl-C or SIGTERM ends it; its engines go on.",
    )
    service = resources.service
    service.ready(f"server {server.server_id} at {address}, domain {manager.domain_uid}")
    signs = asyncio.create_task(_give_signs(service), name="signs of life")
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    if ended.is_set() and not move.wanted:
        service.ends()
    else:
        service.pauses()
    for rest, _ in servers:
        rest.end()
    for task in (*tasks, signs):
        if task.get_name() != "rest":
            task.cancel()
    await asyncio.gather(*tasks, signs, return_exceptions=True)
    log.info("manager ends; its engines go on", server=server.server_id)
    for task in done:
        if task is not tasks[-1]:
            result_of(task)


def again(sockets: list[socket.socket]) -> list[socket.socket]:
    """The same listening sockets, to be closed by who serves them; callers wait in the queue of the first ones meanwhile."""
    return [listening.dup() for listening in sockets]


def result_of(task: asyncio.Task[Any]) -> None:
    """Raise what ended a task; Moved alone where that is among what did."""
    try:
        task.result()
    except BaseExceptionGroup as group:
        for error in leaves(group):
            if isinstance(error, Moved):
                raise error from None
        raise


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The exceptions in a group and in the groups in it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error


async def guard_kept(manager: Manager, keeper: GuardKeeper) -> None:
    """Keep what fences this machine's leaders when it is cut off and this manager is dead, until cancelled."""
    engines = manager.engines
    assert isinstance(engines, ValkeyEngines)

    def newest() -> State | None:
        view = manager.newest() if manager.observed() else None
        return view.state if view else None

    def failed(why: str) -> None:
        log.warning("the guard of this manager could not be kept", error=why)

    await keeper.run(manager.server.server_id, newest, engines.guarded, failed)


def members_kept(manager: Manager, settings: Settings, contexts: Contexts | None) -> list[asyncio.Task[None]]:
    """The task that keeps this server's part in the etcd members of the managers; none where the state is elsewhere."""
    members = members_of(settings)
    if settings.state != OWN or members is None:
        return []
    from dkv.members.keeper import KeeperHooks, MemberKeeper
    from dkv.members.known import keep_known_state
    from dkv.store.etcd import EtcdStore

    assert isinstance(manager.store, EtcdStore)
    assert manager.certificates is not None  # `start_member` has refused a manager without access control
    others = OtherManagers(contexts, manager.domain_uid, wall_clock)
    hooks = KeeperHooks(
        server_id=manager.server.server_id,
        known=lambda: view.state if (view := manager.newest()) else None,
        leads=lambda: manager.liveness.leads,
        submit=manager.submitter.submit,
        wall=wall_clock,
        monotonic=boottime,
        warn=log.warning,
        trusted=manager.certificates.notice,
        identity=partial(others.identity, seconds=PROBE_WITHIN),
        rules=MemberRules(settings.voters or 0, settings.voter_replacement_after_ms),
    )
    process = member_process(settings, manager.server.uid) if manager.server.etcd_port else None
    keeper = MemberKeeper(manager.store, process, settings.data_dir.absolute(), members, hooks)
    manager.certificates.follow(keeper.refuse_untrusted, from_now=False)
    known = keep_known_state(manager.store, settings.data_dir.absolute(), members.domain)
    return [asyncio.create_task(keeper.run(), name="members"), asyncio.create_task(known, name="known state")]
