"""API: whether the machines of the domain are fit for it, each as its own manager sees it and as the one that is asked does.

An examination writes to the disk and connects to every engine, so its result is given to all who ask within some seconds.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from fastapi import Request

from dkv.api.context import Context, ManagerContext
from dkv.api.routing import Router
from dkv.domain import machine_checks
from dkv.domain.machine_checks import Finding, MachineFacts, Port
from dkv.domain.model import Server, State
from dkv.wire import schemas

log = logging.getLogger("dkv.api")

router = Router(tags=["domain"])

CONNECT_WITHIN = 1.0  # s, each port
PORTS_WITHIN = 4.0  # s, all of them
DISK_WITHIN = 4.0  # s
PATIENCE = 8.0  # s another manager has to answer
AT_ONCE = 32  # connections
REUSED_FOR = 10.0  # s a result is given again

T = TypeVar("T")


class Shared(Generic[T]):
    """The result of something that is not done twice at once, nor again within some seconds."""

    def __init__(self) -> None:
        self._task: asyncio.Task[T] | None = None
        self._began = float("-inf")

    async def get(self, make: Callable[[], Awaitable[T]]) -> T:
        """Raises what `make` raises."""
        if self._task is None or (self._task.done() and (self._is_old() or self._task.cancelled() or self._task.exception())):
            self._began = time.monotonic()
            self._task = asyncio.ensure_future(make())
        assert self._task is not None
        return await asyncio.shield(self._task)

    def _is_old(self) -> bool:
        return time.monotonic() - self._began >= REUSED_FOR


class Examination:
    """What was found out last, of this machine and of all. The disk is asked in a thread of its own: it may never answer."""

    def __init__(self) -> None:
        self.own: Shared[schemas.Machine] = Shared()
        self.all: Shared[list[schemas.Machine]] = Shared()
        self.disk_within = DISK_WITHIN
        self._asked: asyncio.Future[MachineFacts] | None = None

    async def facts(self, read: Callable[[], MachineFacts]) -> MachineFacts:
        """What is read of this machine; that nothing can be, where that takes too long."""
        if self._asked is None or self._asked.done():
            self._asked = in_a_thread_of_its_own(read)
        try:
            async with asyncio.timeout(self.disk_within):
                return await asyncio.shield(self._asked)
        except TimeoutError:
            return MachineFacts(-1, -1, -1, "", f"its disk did not answer within {self.disk_within:g} s")


def in_a_thread_of_its_own(read: Callable[[], MachineFacts]) -> asyncio.Future[MachineFacts]:
    """Its result. One that never ends does not keep the process from ending, as the threads of an executor would."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[MachineFacts] = loop.create_future()

    def settle(settled: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: None if result.done() else settled())

    def run() -> None:
        try:
            facts = read()
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            raised = error
            settle(lambda: result.set_exception(raised))
        else:
            settle(lambda: result.set_result(facts))

    threading.Thread(target=run, name="machine", daemon=True).start()
    return result


@router.get("/admin/v1/machines")
async def machines(request: Request, context: Context, local: bool = False) -> schemas.Machines:
    """Every machine, what is wrong there and what mends it; with `local` only the one that is asked, without comparing clocks."""
    examination: Examination = request.app.state.api.examination
    manager, state = context.manager, context.state

    def own() -> Awaitable[schemas.Machine]:
        return examination.own.get(lambda: _examined(examination, manager, state))

    async def everything() -> list[schemas.Machine]:
        others = [server for name, server in sorted(state.servers.items()) if name != manager.server_id]
        rows = await asyncio.gather(own(), *(_of_other(manager, server) for server in others))
        return sorted(rows, key=lambda row: row["serverId"])

    if local:
        return {"machines": [{**await own(), "clock": manager.clock()}]}  # the rest may be some seconds old
    return {"machines": await examination.all.get(everything)}


async def _examined(examination: Examination, manager: ManagerContext, state: State) -> schemas.Machine:
    ports = machine_checks.ports_to_reach(state, manager.server_id)
    facts, (unreached, reached) = await asyncio.gather(examination.facts(manager.machine.facts), _tried(ports))
    server = state.servers.get(manager.server_id)
    row = _row(manager.server_id, server.host if server else manager.address, facts)
    row["clock"], row["reached"] = manager.clock(), reached
    row["findings"] = _findings(
        [
            *machine_checks.findings(facts),
            *machine_checks.founding_findings(state, facts),
            *machine_checks.member_findings(state, manager.server_id),
            *unreached,
        ]
    )
    return row


def _row(server_id: str, host: str, facts: MachineFacts | None) -> schemas.Machine:
    """One machine; without facts its manager does not answer."""
    known = facts or MachineFacts(fsync=-1, open_files=-1, overcommit=-1, huge_pages="")
    return {
        "serverId": server_id,
        "host": host,
        "answers": facts is not None,
        "clock": 0,
        "clockOffset": 0,
        "fsync": round(known.fsync, 2),
        "openFiles": known.open_files,
        "overcommitMemory": known.overcommit,
        "hugePages": known.huge_pages,
        "reached": 0,
        "findings": [],
    }


async def _tried(ports: Sequence[Port]) -> tuple[list[Finding], int]:
    """Which ports cannot be connected to, and how many can."""
    limit = asyncio.Semaphore(AT_ONCE)
    tries = {asyncio.create_task(_why_unreached(port, limit)): port for port in ports}
    if not tries:
        return [], 0
    done, pending = await asyncio.wait(tries, timeout=PORTS_WITHIN)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    findings = [machine_checks.unreached(port, task.result()) for task, port in tries.items() if task in done and task.result()]
    untried = [machine_checks.untried(len(pending), PORTS_WITHIN)] if pending else []
    return [*findings, *untried], len(done) - len(findings)


async def _why_unreached(port: Port, limit: asyncio.Semaphore) -> str:
    """Why nothing can be connected to there; "" if it can."""
    async with limit:
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                _, writer = await asyncio.open_connection(port.host, port.port)
        except TimeoutError:
            return f"no answer within {CONNECT_WITHIN:g} s"
        except socket.gaierror as error:
            return str(error.strerror)
        except OSError as error:
            return os.strerror(error.errno).lower() if error.errno else str(error)
        except ValueError as error:
            return str(error)
        writer.close()
        return ""


async def _of_other(manager: ManagerContext, server: Server) -> schemas.Machine:
    """What the manager of another server answers, with its clock compared. One without a lease is not asked."""
    away = _row(server.server_id, server.host, None)
    if not server.alive:
        return {**away, "findings": _findings([machine_checks.away("its lease has ended")])}
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await manager.peers.fetch(server, "/admin/v1/machines?local=true", PATIENCE)
        if "machines" in answer:
            return _compared(answer["machines"][0], manager.clock())
        reason = str(answer.get("detail") or "it answers something else")
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        log.info("nothing of the machine of %s: %r", server.server_id, error)
        reason = f"no answer within {PATIENCE:g} s" if isinstance(error, TimeoutError) else str(error) or repr(error)
    return {**away, "findings": _findings([machine_checks.away(reason)])}


def _compared(row: Mapping[str, Any], clock: int) -> schemas.Machine:
    """Its clock was read when it answered, this manager's when the answer arrived."""
    offset = int(row["clock"]) - clock
    compared: Any = {
        **row,
        "clockOffset": offset,
        "findings": [*row["findings"], *_findings(machine_checks.clock_findings(offset))],
    }
    return compared  # type: ignore[no-any-return]


def _findings(findings: Sequence[Finding]) -> list[schemas.MachineFinding]:
    return [{"problem": finding.problem, "text": finding.text, "fix": finding.fix} for finding in findings]
