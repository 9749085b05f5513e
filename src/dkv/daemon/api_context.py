"""Daemon: the parts of a manager that the API uses."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dkv import files
from dkv.access.contexts import Contexts
from dkv.address import is_same_machine
from dkv.api.context import (
    EngineLook,
    EngineStatistics,
    Histogram,
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
from dkv.backend import OWN, members_of, why_no_member
from dkv.config import Settings
from dkv.daemon.parts import program_of, wall_clock
from dkv.daemon.state_move import StateMove
from dkv.domain.admission import StateHome, judge_state_home
from dkv.domain.decision import Refused
from dkv.domain.model import DatabaseOptions, Process, State
from dkv.engine.archive import unfit
from dkv.engine.binary import find_binary, release_of
from dkv.engine.supervisor import KEPT_LOG, LOG
from dkv.guarding import LOG as GUARD_LOG
from dkv.joining import MOVING
from dkv.kernel import bind_error, boottime
from dkv.listening import limits
from dkv.log import FILE, KEPT
from dkv.machine.observation import directory_of, node_id, te_node_id
from dkv.machine_facts import facts_of
from dkv.manager import Manager
from dkv.other_managers import OtherManagers


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
            engine_version=lambda: release_of(find_binary(program_of(settings))),
            numbers=numbers_of(manager),
            logs=lambda state: log_files(settings, server.server_id, state),
            environment=lambda: os.environ,
            facts=lambda: facts_of(server.data_dir, founds_none=bool(settings.domain)),
        ),
        node_id=engine_id,
        closing=ended.is_set,
        stop=move.stop,
        configured=lambda: settings_texts(replace(settings, labels=dict(manager.liveness.labels))),
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

    async def latencies() -> list[tuple[int, Mapping[str, Histogram]]]:
        return [(engine.start_id, engine.commands) for engine in await manager.engines.latencies()]

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

    return Numbers(statistics=statistics, latencies=latencies, looks=looks, tally=manager.submitter.tally)


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
    return texts | {
        "labels": ",".join(f"{name}={text}" for name, text in sorted(settings.labels.items())),
        "allowed_hosts": ",".join(settings.allowed_hosts),
    }


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
