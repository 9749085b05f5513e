"""API: what Prometheus reads: a manager's own page, the pages of its engines in the names of redis_exporter, and where they are.

`/scrape` and `/discover-cluster-nodes` are redis_exporter's addresses. A manager reads its own engines only, over the sockets
that it has anyway, so that a scrape needs no password of an engine and reaches nothing but engines of the domain.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import PlainTextResponse, Response

from dkv.address import endpoint_text
from dkv.api.context import Context, Manager, ManagerContext
from dkv.api.domain_metrics import ManagerNumbers, engine_labels, write_domain, write_engines, write_manager
from dkv.api.engine_metrics import SCRAPE_ERROR, SCRAPE_SECONDS, write_engine, write_silent
from dkv.api.exposition import CONTENT_TYPE, Page, labels
from dkv.api.problems import refuse
from dkv.api.routing import Router
from dkv.domain.model import Process, State
from dkv.store.contract import StoreError
from dkv.wire import schemas

router = Router(tags=["looking"])

PAGE: dict[str, Any] = {"content": {"text/plain": {"schema": {"type": "string"}}}}
SILENT = "the engine does not answer"
LONGEST_TARGET = 500  # characters


@dataclass(frozen=True)
class Target:
    """One engine as it is scraped: where clients reach it, whose it is, and by which labels it is known."""

    address: str
    uri: str
    server_id: str
    process: Process
    group: str
    labels: Mapping[str, str]


def targets_of(state: State) -> Iterator[Target]:
    """The engines of all processes, by start id. A process whose server is gone has no address."""
    for _, process in sorted(state.processes.items()):
        server, archive = state.servers.get(process.server_id), state.archive_of(process)
        if server is None:
            continue
        places = [(archive.group, archive.client_port)] if archive else [(e.group, e.client_port) for e in process.endpoints]
        scheme = "rediss" if state.databases[process.database].transport.tls else "redis"
        for group, port in places:
            address = endpoint_text(server.host, port)
            yield Target(
                address, f"{scheme}://{address}", process.server_id, process, group, engine_labels(state, process, group)
            )


@router.get("/metrics", response_class=PlainTextResponse, responses={200: PAGE})
async def metrics(request: Request, manager: Manager) -> Response:
    """This manager and, where it can reach it, the domain, in Prometheus' text format; its engines are under /scrape."""
    page, reachable, view = Page(), manager.readiness() is None, None
    with suppress(StoreError):
        view = await manager.submitter.view() if reachable else None
    ages = await manager.peers.lease_ages()
    write_manager(page, await _numbers_of(request, manager, view is not None, ages))
    if view is not None:
        write_domain(page, view, ages, manager.clock())
        write_engines(page, view.state, manager.machine.numbers.looks())
    return PlainTextResponse(page.text(), media_type=CONTENT_TYPE)


async def _numbers_of(request: Request, manager: ManagerContext, reachable: bool, ages: Mapping[str, int]) -> ManagerNumbers:
    api = request.app.state.api
    age = ages.get(manager.server_id)
    return ManagerNumbers(
        version=manager.version,
        server_id=manager.server_id,
        reachable=reachable,
        seen_at=None if age is None else (manager.clock() - age) / 1000,
        ticks=await manager.peers.leader_server() == manager.server_id,
        tally=manager.machine.numbers.tally,
        answered=api.answered,
        refused=api.control.attempts.counted if api.control else {},
        usage=manager.machine.numbers.usage(),
    )


@router.get("/scrape", response_class=PlainTextResponse, responses={200: PAGE})
async def scrape(context: Context, target: Annotated[str, Query(max_length=LONGEST_TARGET)] = "") -> Response:
    """An engine of this server in the names and labels of redis_exporter; `target` is where clients reach it, such as
    10.0.0.11:7861, with or without a scheme. Without `target` all engines of this server on one page, whose samples carry the
    labels that /discover-cluster-nodes gives them, and their addresses as `instance`.
    """
    page, clock = Page(), asyncio.get_running_loop().time
    begun = clock()
    if target:
        await _write_one(page, context.manager, _target_at(context.manager, context.state, target))
    else:
        await _write_all(page, context.manager, context.state)
    page.add(SCRAPE_SECONDS, round(clock() - begun, 6))
    return PlainTextResponse(page.text(), media_type=CONTENT_TYPE)


async def _write_one(page: Page, manager: ManagerContext, target: Target) -> None:
    statistics = await manager.machine.numbers.statistics(target.process.start_id)
    fields = next((s.fields for s in statistics if s.group == target.group), None)
    if fields is None:
        write_silent(page, "", SILENT)
    else:
        write_engine(page, fields, "", manager.clock() / 1000)
        page.add(SCRAPE_ERROR, 0)


async def _write_all(page: Page, manager: ManagerContext, state: State) -> None:
    statistics = {(s.start_id, s.group): s.fields for s in await manager.machine.numbers.statistics(None)}
    for target in targets_of(state):
        if target.server_id != manager.server_id:
            continue
        common = labels({"instance": target.address, **target.labels})
        fields = statistics.get((target.process.start_id, target.group))
        if fields is None:
            write_silent(page, common, SILENT)
        else:
            write_engine(page, fields, common, manager.clock() / 1000)


def _target_at(manager: ManagerContext, state: State, text: str) -> Target:
    """The engine of this server that is meant. Raises Refusal."""
    address = re.sub(r"^rediss?://", "", text).rpartition("@")[2].rstrip("/").lower()
    found = next((target for target in targets_of(state) if target.address.lower() == address), None)
    if found is None:
        raise refuse(
            "unknown_target", f"No engine of this domain is reached at {address}.", "/discover-cluster-nodes lists this server's."
        )
    if found.server_id != manager.server_id:
        server = state.servers[found.server_id]
        where = endpoint_text(server.host, server.port)
        raise refuse("unknown_target", f"{address} is an engine of server {found.server_id}.", f"Ask its manager at {where}.")
    return found


@router.get("/discover-cluster-nodes")
async def discover(context: Context, whole: Annotated[bool, Query(alias="all")] = False) -> list[schemas.ScrapeTargets]:
    """The engines of this server, or with `all` those of the domain, as Prometheus' http_sd_configs reads them.

    `namespace` is the store and `pod` the instance, as public dashboards expect them; `__meta_dkv_manager` is the manager to ask.
    """
    state = context.state
    return [
        {"targets": [target.uri], "labels": {**target.labels, "__meta_dkv_manager": _manager_at(state, target.server_id)}}
        for target in targets_of(state)
        if whole or target.server_id == context.manager.server_id
    ]


def _manager_at(state: State, server_id: str) -> str:
    server = state.servers[server_id]
    return endpoint_text(server.host, server.port)
