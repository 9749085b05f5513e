"""API: whether the machines of the domain are fit for it, each as its own manager sees it and as the one that is asked does."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request

from dkv.api.context import Context, ManagerContext
from dkv.api.routing import Router
from dkv.domain import machine_checks
from dkv.domain.machine_checks import Finding, MachineFacts, Port
from dkv.domain.model import Server, State
from dkv.wire import schemas

log = logging.getLogger("dkv.api")

router = Router(tags=["domain"])

CONNECT_WITHIN = 1.0  # s
AT_ONCE = 32  # connections
PATIENCE = 8.0  # s another manager has to answer: it connects to many ports, and writes to a disk that may be slow


class Examination:
    """Of this machine, one at a time: whoever asks meanwhile gets the same."""

    def __init__(self) -> None:
        self._running: asyncio.Task[schemas.Machine] | None = None

    async def of(self, manager: ManagerContext, state: State) -> schemas.Machine:
        """What this manager sees of its machine, and which ports of the others it reaches."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(_examined(manager, state))
        return await asyncio.shield(self._running)


@router.get("/admin/v1/machines")
async def machines(request: Request, context: Context, local: bool = False) -> schemas.Machines:
    """Every machine, what is wrong there and what mends it; with `local` only the one that is asked, without comparing clocks."""
    state = context.state
    own = await request.app.state.api.examination.of(context.manager, state)
    if local:
        return {"machines": [own]}
    others = [server for name, server in sorted(state.servers.items()) if name != context.manager.server_id]
    rows = await asyncio.gather(*(_of_other(context.manager, server) for server in others))
    return {"machines": sorted([own, *rows], key=lambda row: row["serverId"])}


async def _examined(manager: ManagerContext, state: State) -> schemas.Machine:
    limit = asyncio.Semaphore(AT_ONCE)
    ports = machine_checks.ports_to_reach(state, manager.server_id)
    facts, reasons = await asyncio.gather(
        asyncio.to_thread(manager.machine.facts), asyncio.gather(*(_why_unreached(port, limit) for port in ports))
    )
    unreached = [machine_checks.unreached(port, why) for port, why in zip(ports, reasons, strict=True) if why]
    server = state.servers.get(manager.server_id)
    row = _row(manager.server_id, server.host if server else manager.address, facts)
    row["clock"], row["reached"] = manager.clock(), len(ports) - len(unreached)
    row["findings"] = _findings([*machine_checks.findings(facts), *unreached])
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


async def _why_unreached(port: Port, limit: asyncio.Semaphore) -> str:
    """Why nothing can be connected to there; "" if it can."""
    async with limit:
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                _, writer = await asyncio.open_connection(port.host, port.port)
        except TimeoutError:
            return f"no answer within {CONNECT_WITHIN:g} s"
        except OSError as error:
            return os.strerror(error.errno).lower() if error.errno else str(error)
        writer.close()
        return ""


async def _of_other(manager: ManagerContext, server: Server) -> schemas.Machine:
    """What the manager of another server answers, with its clock compared; it may have been asked in vain."""
    began, at = time.monotonic(), manager.clock()
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await manager.peers.fetch(server, "/admin/v1/machines?local=true", PATIENCE)
        return _compared(answer["machines"][0], at, (time.monotonic() - began) * 1000)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        log.info("nothing of the machine of %s: %r", server.server_id, error)
        reason = f"no answer within {PATIENCE:g} s" if isinstance(error, TimeoutError) else str(error) or repr(error)
        return {**_row(server.server_id, server.host, None), "findings": _findings([machine_checks.away(reason)])}


def _compared(row: Mapping[str, Any], asked_at: int, took: float) -> schemas.Machine:
    """Its clock was read at some time while the question was under way: an offset within that is none."""
    ahead = int(row["clock"]) - asked_at
    offset = min(ahead, 0) if ahead < 0 else max(0, ahead - int(took))
    compared: Any = {**row, "clockOffset": offset}
    compared["findings"] = [*row["findings"], *_findings(machine_checks.clock_findings(offset))]
    return compared  # type: ignore[no-any-return]


def _findings(findings: Sequence[Finding]) -> list[schemas.MachineFinding]:
    return [{"problem": finding.problem, "text": finding.text, "fix": finding.fix} for finding in findings]
