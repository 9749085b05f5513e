"""The manager as a program: one per data directory and per port, REST beside the loop, engines left running.

It only composes: settings, lock, state backend, engines, Manager, API. `run` is `dkv manager run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import secrets
import signal
import socket
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dkv import files
from dkv.access.certificate_files import DIRECTORY, CertificateFiles
from dkv.access.certificates import Owner, new_authority, new_leaf, reachable
from dkv.access.contexts import Contexts, why_handshake_failed
from dkv.access.crypto import Malformed
from dkv.access.domain_key import DOMAIN_KEY, KeyFiles, beside
from dkv.access.passwords import Verifier
from dkv.address import endpoint_text, is_same_machine
from dkv.api.access import AccessControl, Reporter
from dkv.api.app import create_app
from dkv.api.context import (
    EngineLook,
    EngineStatistics,
    LocalMachine,
    LogFile,
    ManagerContext,
    Numbers,
    Peers,
    Signing,
    StatePlace,
    StreamLimits,
)
from dkv.api.nuodb.bundle import without_credentials
from dkv.backend import (
    OWN,
    etcd_port,
    follow_moved,
    founding_state,
    has_state,
    member_process,
    members_of,
    move_to_members,
    open_state,
    start_member,
    state_at_members,
    state_file,
    why_no_member,
)
from dkv.client import Endpoint, Request
from dkv.config import Settings, default_state
from dkv.control.certificates import CertificatePlaces
from dkv.control.refused_requests import report_refused
from dkv.control.submit import view_of
from dkv.data_dir import DataDir, is_secured, local_socket, lock_data_dir, refuse_open_bind, remember_domain, with_real_data_dir
from dkv.domain.admission import StateHome, judge_state_home
from dkv.domain.decision import Refused
from dkv.domain.identities import registered_certificates
from dkv.domain.model import DatabaseOptions, Process, State
from dkv.domain.state_members import MemberRules
from dkv.engine.archive import unfit
from dkv.engine.binary import find_binary, release_of
from dkv.engine.config import FENCE, FENCED
from dkv.engine.contract import Announced, ArchiveRefused, EngineError
from dkv.engine.engines import ValkeyEngines
from dkv.engine.supervisor import KEPT_LOG, LOG
from dkv.engine.tls import speaks_tls
from dkv.errors import HintedError
from dkv.guarding import LOG as GUARD_LOG
from dkv.guarding import GuardKeeper
from dkv.joining import MOVING, Joining, Membership, join, membership_of
from dkv.kernel import bind_error, boot_id, boottime
from dkv.listening import LOCAL, Secured, Server, limits
from dkv.log import FILE, KEPT, keep_in, logger, set_up
from dkv.machine.observation import LocalServer, directory_of, node_id, te_node_id
from dkv.machine.steps import Step
from dkv.machine_facts import facts_of
from dkv.manager import Manager, ManagerError, ManagerHooks
from dkv.notify import ServiceManager
from dkv.other_managers import ON_LOOPBACK, OtherManagers, get_json
from dkv.store.contract import Moved, StoreError

log = logger("manager")
DESCRIPTORS = 65_536  # a manager and each of its engines may open, where the machine allows it
PROBE_WITHIN = 1.0  # s a machine has to answer a connection


def run(settings: Settings, joining: Joining | None = None) -> int:
    """Run the manager in the foreground until SIGTERM or SIGINT; the exit code. With `joining` it joins that domain first."""
    service = ServiceManager(os.environ)  # before anything is started that would inherit its variables
    os.umask(0o077)  # files of this manager and of its engines are for its user only
    set_up(settings.log_level)
    is_state_chosen = settings.state != default_state(settings.data_dir)
    settings = with_real_data_dir(settings)
    refuse_open_bind(settings)
    refuse_no_engine(settings)
    raise_descriptor_limit()
    with lock_data_dir(settings) as data_dir:
        keep_in(data_dir.path)
        membership = membership_in(settings, data_dir, joining)
        if membership and not is_state_chosen:
            settings = replace(settings, state=membership.state)
        with listening_sockets(settings) as listening, local_sockets(settings) as local:
            domain = membership.domain if membership else data_dir.domain
            guard = GuardKeeper(data_dir.path, ("CONFIG", "SET", FENCE, str(FENCED)))
            return serve_domain(settings, data_dir, Doors(listening, local, service, guard), domain)


def serve_domain(settings: Settings, data_dir: DataDir, doors: Doors, domain: str) -> int:
    """Serve until a signal comes: first where the state is, then, whenever it moved, where it is by then. Engines and sockets
    stay. Raises ManagerError.
    """
    try:
        settings = state_at_members(settings)
        founding = settings.state == OWN and not has_state(settings)
        move = StateMove(wanted=founding)
        settings = founding_state(settings) if founding else settings
        while True:
            if settings.state == OWN and (members := members_of(settings)):
                domain = members.domain  # no second one is founded where its state is not whole yet
            try:
                domain = asyncio.run(serve(settings, data_dir, doors, domain, move)) or domain
            except Moved as moved:
                move.wanted = False
                settings = asyncio.run(follow_moved(settings, data_dir.uid, moved))
                continue
            if not move.wanted:
                return 0
            settings = moved_settings(settings, data_dir, domain, move, required=founding)
    except StoreError as error:
        hint = error.hint or f"Look at {without_credentials(settings.state)}."
        raise ManagerError(f"The domain state cannot be used: {error.detail}.", hint) from error


def moved_settings(settings: Settings, data_dir: DataDir, domain: str, move: StateMove, *, required: bool) -> Settings:
    """The settings with which the manager goes on after a move of the state: the same if it failed, and is not `required`. Raises
    ManagerError, StoreError.
    """
    move.wanted = False
    try:
        settings = asyncio.run(move_to_members(settings, data_dir.uid, domain))
        log.info("the domain state moved to etcd members of the managers", domain=domain)
    except (StoreError, ManagerError) as error:
        if required:
            raise
        move.failed(error)
    return settings


class StateMove:
    """That the domain state is to move to an etcd member of this server: `want` ends what serves, so that it can."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.trouble = ""  # why the last attempt failed, as a sentence
        self.failed_at = 0.0  # and when, s
        self.end: Callable[[], None] = lambda: None

    def want(self) -> None:
        """Begin the move."""
        self.wanted, self.trouble = True, ""
        self.end()

    def stop(self) -> None:
        """End what serves, for good."""
        self.wanted = False
        self.end()

    def failed(self, error: HintedError | StoreError) -> None:
        """The state stayed where it is."""
        self.trouble, self.failed_at = str(error), boottime()
        log.warning("the domain state could not be moved to etcd", error=str(error))


def membership_in(settings: Settings, data_dir: DataDir, joining: Joining | None) -> Membership | None:
    """The domain that this server joined, or joins now; None where it founds one. Raises ManagerError."""
    if joining is None:
        return membership_of(data_dir.path)
    if not is_controlled(settings):
        hint = 'Set access_control = "on" (DKV_ACCESS_CONTROL=on), as the other managers of the domain have it.'
        raise ManagerError("A server joins with a join token only where access control is on.", hint)
    try:
        here = asyncio.run(domain_at(settings)) if has_state(settings) else ""
    except StoreError as error:
        raise ManagerError(f"The domain state cannot be used: {error.detail}.", error.hint) from error
    return join(settings, data_dir, joining, here, wall_clock, why_no_member=why_no_member(settings))


async def domain_at(settings: Settings) -> str:
    """The uid of the domain whose state is kept there; "" for one that is empty. Raises ManagerError, StoreError."""
    if members := members_of(settings):
        return members.domain
    store = await open_state(settings)
    try:
        return view_of(await store.read()).state.uid
    finally:
        await store.close()


@dataclass(frozen=True)
class Doors:
    """What stays while a manager serves, wherever its state is: the listening sockets of its ports, with access control its own
    in the data directory, the service manager that started it, and what keeps its guard."""

    ports: list[socket.socket]
    local: list[socket.socket]
    service: ServiceManager
    guard: GuardKeeper


def is_controlled(settings: Settings) -> bool:
    """Whether this manager authenticates its callers."""
    return settings.access_control != "off"


@contextlib.contextmanager
def local_sockets(settings: Settings) -> Iterator[list[socket.socket]]:
    """The manager's own socket, with access control: over it root and the manager's user administrate."""
    if not is_controlled(settings):
        yield []
        return
    with local_socket(settings.data_dir.absolute()) as listening:
        yield [listening]


def raise_descriptor_limit() -> None:
    """Let this manager and the engines it starts open as many files as the machine allows: the usual 1,024 are for programs
    that use select, and an engine accepts no more clients than it has descriptors for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _program(settings: Settings) -> str | None:
    return str(settings.valkey_server) if settings.valkey_server else None


def refuse_no_engine(settings: Settings) -> None:
    """Raise ManagerError if no engine could be started: now, not when a store is started."""
    try:
        find_binary(_program(settings))
    except ArchiveRefused as refused:
        hint = "Install Valkey 9.1, or set valkey_server (DKV_VALKEY_SERVER) to its program."
        raise ManagerError(f"There is no Valkey to run: {refused.detail}.", hint) from refused


@contextlib.contextmanager
def listening_sockets(settings: Settings) -> Iterator[list[socket.socket]]:
    """The listening sockets: the manager's own, and that of the NuoDB dialect unless its port is 0 or the same."""
    with contextlib.ExitStack() as stack:
        listening = [stack.enter_context(contextlib.closing(listen(settings, settings.port, "--port")))]
        if settings.nuodb_port not in (0, settings.port):
            second = listen(settings, settings.nuodb_port, "--nuodb-port")
            listening.append(stack.enter_context(contextlib.closing(second)))
        yield listening


def listen(settings: Settings, port: int, flag: str) -> socket.socket:
    """A listening socket of the REST API. Raises ManagerError naming who has the port, and the flag that chooses it."""
    listening = socket.socket(socket.AF_INET6 if ":" in settings.bind else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Accepted connections inherit it. asyncio sets it itself only where a socket names its protocol, and without it each
    # answer over TLS waits twice for a delayed acknowledgement, 40 ms each.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listening.bind((settings.bind, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        hint = f"Choose another {flag}, or stop the other one."
        raise ManagerError(_port_sentence(settings, port, error), hint) from error
    return listening


def _port_sentence(settings: Settings, port: int, error: OSError) -> str:
    with contextlib.suppress(OSError):
        first = get_json(ON_LOOPBACK, Endpoint(settings.bind, port), Request("GET", "/admin/v1/identity", {}), 1.0)
        if first.get("product") == "dkv":
            return f"Manager {first.get('serverId', 'of another user')} runs on {settings.bind}:{port} already."
    return f"Port {port} on {settings.bind} cannot be used: {error.strerror}."


def local_server(settings: Settings, data_dir: DataDir) -> LocalServer:
    """The server that this manager runs on."""
    program = find_binary(_program(settings))
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
    engines = ValkeyEngines(settings.data_dir, binary=_program(settings))
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


# REST --------------------------------------------------------------------------------------------------------------


def options_of(settings: Settings) -> DatabaseOptions:
    """The options of a store created through this manager where its creation names no others."""
    return DatabaseOptions(
        leader_assignment_timeout=settings.leader_assignment_timeout_ms,
        failover_grace=settings.failover_grace_ms,
        failover_limit=settings.failover_limit or 0,
        tail_above=settings.tail_above_bytes,
        restart_budget=settings.restart_budget,
        min_in_sync=settings.min_in_sync,
        append_fsync=settings.appendfsync,
    )


class DomainAccess:
    """The domain as the API uses it: views as they are shown to people, commands judged by the stored state."""

    def __init__(self, manager: Manager) -> None:
        self.view = manager.shown
        self.submit = manager.submitter.submit
        self.answered = manager.submitter.answered
        self.check = manager.submitter.check
        self.snapshot = manager.submitter.snapshot


def context_of(
    manager: Manager, settings: Settings, ended: asyncio.Event, contexts: Contexts | None, move: StateMove
) -> ManagerContext:
    """The parts of this manager that the API uses."""
    server = manager.server
    store = manager.store
    within = limits()
    key = manager.certificates.domain_key if manager.certificates else None
    others = OtherManagers(contexts, manager.domain_uid, wall_clock, key)

    async def counters() -> list[Mapping[str, Any]]:
        return [asdict(counted) for counted in await manager.engines.count()]

    return ManagerContext(
        submitter=DomainAccess(manager),
        event_log=store,
        streams=StreamLimits(most=within.streams, each=within.streams_each),
        peers=Peers(
            fetch=others.fetch, order=others.order, leader_server=manager.liveness.leader, lease_ages=manager.liveness.lease_ages
        ),
        machine=LocalMachine(
            counters=counters,
            port_in_use=lambda host, port: bind_error(host, port) != 0,
            unfit=unfit,
            engine_version=lambda: release_of(find_binary(_program(settings))),
            numbers=numbers_of(manager),
            logs=lambda state: log_files(settings, server.server_id, state),
            environment=lambda: os.environ,
            facts=lambda: facts_of(server.data_dir),
        ),
        node_id=engine_id,
        closing=ended.is_set,
        stop=move.stop,
        configured=lambda: settings_texts(settings),
        new_id=lambda: uuid.uuid4().hex + uuid.uuid4().hex[:8],
        readiness=manager.readiness,
        clock=wall_clock,
        server_id=server.server_id,
        uid=server.uid,
        address=server.host,
        port=server.port,
        signing=signing_of(manager, settings, move),
        options=options_of(settings),
        version=version("dkv"),
    )


def numbers_of(manager: Manager) -> Numbers:
    """What the API's pages of metrics are made of."""

    async def statistics(start_id: int | None) -> list[EngineStatistics]:
        return [EngineStatistics(s.start_id, s.group, s.fields) for s in await manager.engines.statistics(start_id)]

    def looks() -> list[EngineLook]:
        seen = manager.observed()
        return [
            EngineLook(
                engine.start_id,
                engine.writes.fenced,
                engine.files.base_bytes + engine.files.incremental_bytes,
                engine.files.free_bytes,
            )
            for engine in (seen.survey.engines if seen else ())
        ]

    return Numbers(statistics=statistics, looks=looks, tally=manager.submitter.tally)


def signing_of(manager: Manager, settings: Settings, move: StateMove) -> Signing | None:
    """What this manager signs with, and where it says that the state is; None without access control."""
    if manager.certificates is None:
        return None
    return Signing(certificates=manager.certificates, state_for=partial(state_for, settings, move))


def state_for(settings: Settings, move: StateMove, host: str, why_not: str) -> StatePlace | Refused:
    """Where a server at `host` finds the domain state when it joins. A file is of this machine: for another one the state moves
    first. `why_not` is why the new server could run no etcd member.
    """
    if settings.state == OWN:
        members = members_of(settings)
        return StatePlace(OWN, members.text if members else "")
    home = StateHome(
        shared=not settings.state.startswith("sqlite:"),
        on_this_machine=is_same_machine(host, settings.bind),
        joiner=f"the server at {host}",
        joiner_cannot=why_not,
        this_cannot=why_no_member(settings),
        trouble=move.trouble,
        failed_ago=(boottime() - move.failed_at) * 1000,
    )
    refused = judge_state_home(home)
    if refused is None:
        return StatePlace(state_location(settings.state))
    if refused.code == MOVING:
        move.want()
    return refused


def state_location(state: str) -> str:
    """The setting of the state as it is right from any directory."""
    kind, _, path = state.partition(":")
    return f"{kind}:{Path(path).absolute()}" if kind == "sqlite" else state


def engine_id(state: State, process: Process) -> str:
    """The derived id of a process's engine, 40 hex; of a TE that of its first engine, "" before it has any."""
    if process.archive_id is not None:
        return node_id(state.uid, process.archive_id)
    return te_node_id(state.uid, process.start_id, process.endpoints[0].group) if process.endpoints else ""


def settings_texts(settings: Settings) -> dict[str, str]:
    """The settings as texts, "" where none is set. A password in an address is hidden."""
    texts = {name: "" if value is None else without_credentials(str(value)) for name, value in asdict(settings).items()}
    return texts | {"labels": ",".join(f"{name}={text}" for name, text in sorted(settings.labels.items()))}


def log_files(settings: Settings, server_id: str, state: State) -> list[LogFile]:
    """The log files of the manager and the engines of this server, and of the last engine before in each archive.

    Only names that dkv gives: a directory that a person chose may hold others.
    """
    data_dir = settings.data_dir.absolute()
    names = [FILE, *(f"{FILE}.{number}" for number in range(1, KEPT + 1)), GUARD_LOG]
    logs = [LogFile(name, data_dir / name) for name in names]
    runs = [name for name in files.names_in(data_dir / "run") if name.isdigit()]
    logs += [LogFile(f"engines/{run}/{LOG}", data_dir / "run" / run / LOG) for run in runs]
    archives = [a for a in state.archives.values() if a.server_id == server_id and not a.removed]
    places = {a.archive_id: Path(directory_of(str(data_dir), a), KEPT_LOG) for a in sorted(archives, key=lambda a: a.archive_id)}
    return logs + [LogFile(f"archives/{archive_id}/{KEPT_LOG}", path) for archive_id, path in places.items()]


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


async def serve(settings: Settings, data_dir: DataDir, doors: Doors, domain: str, move: StateMove) -> str:
    """Run manager and REST until a signal comes, a move of the state is wanted, or one of them fails; the domain's uid. Raises
    ManagerError, StoreError; Moved when the state is somewhere else by now.
    """
    ended = asyncio.Event()
    move.end = ended.set
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, move.stop)
    if settings.state == OWN:
        start_member(settings, data_dir.uid)
    async with manager_of(settings, data_dir, domain) as manager:
        remember_domain(data_dir, manager.domain_uid)
        if not move.wanted:
            await _serve(manager, settings, doors, ended, move)
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


async def _serve(manager: Manager, settings: Settings, doors: Doors, ended: asyncio.Event, move: StateMove) -> None:
    contexts, control = contexts_of(settings, manager), access_control(manager)
    app = create_app(context_of(manager, settings, ended, contexts, move), control)
    if app.reporter:
        manager.refused = app.reporter.refused
    secured = secured_by(contexts, manager, app.reporter) if contexts and app.reporter else None
    servers = [(Server(app, secured=secured, malformed=partial(malformed, app.reporter)), again(doors.ports))]
    if doors.local:
        servers.append((Server(app, LOCAL, lifespan="off"), again(doors.local)))
    tasks = [
        asyncio.create_task(manager.run(), name="manager"),
        *members_kept(manager, settings, contexts),
        asyncio.create_task(guard_kept(manager, doors.guard), name="guard"),
        *(asyncio.create_task(rest.serve(sockets=sockets), name="rest") for rest, sockets in servers),
        asyncio.create_task(ended.wait(), name="signal"),
    ]
    server = manager.server
    log.info(
        "manager runs",
        server=server.server_id,
        address=f"{server.host}:{server.port}",
        domain=manager.domain_uid,
        documentation=f"{'https' if contexts else 'http'}://{endpoint_text(server.host, server.port)}/docs",
        ended_by="Ctrl-C or SIGTERM; its engines go on",
    )
    service = doors.service
    service.ready(f"server {server.server_id} at {server.host}:{server.port}, domain {manager.domain_uid}")
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
