"""API: the numbers that the live view draws, of the engines of one server: counts, memory, percentiles, who hears whom.

Read from the engines when they are asked for, never stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import Request

from dkv.api.context import Manager, ManagerContext
from dkv.api.latencies import Latencies, Latency
from dkv.api.routing import Router
from dkv.wire import schemas

router = Router(tags=["looking"])


@router.get("/admin/v1/numbers")
async def numbers(request: Request, manager: Manager) -> schemas.Numbers:
    """The engines of this server now: work, memory, percentiles of the last ten seconds, and how leaders and followers hear each
    other.
    """
    return await own_numbers(manager, request.app.state.api.latencies)


async def own_numbers(manager: ManagerContext, latencies: Latencies) -> schemas.Numbers:
    """The engines of this manager's server; one that does not answer is left out."""
    counted = {int(counters["start_id"]): counters for counters in await manager.machine.counters()}
    fields: dict[int, Mapping[str, str]] = {}
    for statistics in await manager.machine.numbers.statistics(None):
        fields.setdefault(statistics.start_id, statistics.fields)
    took = await latencies.read()
    engines = [
        engine_numbers(counters, fields.get(start_id, {}), took.get(start_id, Latency()))
        for start_id, counters in sorted(counted.items())
    ]
    return {"server": manager.server_id, "at": manager.clock(), "engines": engines}


def engine_numbers(counted: Mapping[str, Any], fields: Mapping[str, str], latency: Latency) -> schemas.EngineNumbers:
    """One process, of its counters, the fields of its engine's INFO, and how long its commands took of late."""
    link = fields.get("master_link_status")
    heard = int(fields.get("master_last_io_seconds_ago", "-1"))
    return {
        "startId": int(counted["start_id"]),
        "gets": counted["gets"],
        "puts": counted["puts"],
        "removes": counted["removes"],
        "keys": counted["keys"],
        "clients": counted["clients"],
        "memory": counted["used_memory"],
        "maxMemory": int(fields.get("maxmemory", "0")),
        "command": latency.command,
        "p50": latency.p50,
        "p99": latency.p99,
        "linkUp": None if link is None else link == "up",
        "leaderHeard": heard if link is not None and heard >= 0 else None,
        "followers": list(_followers(fields)),
    }


_FOLLOWER = re.compile(r"slave\d+")


def _followers(fields: Mapping[str, str]) -> Iterator[schemas.Follower]:
    written = int(fields.get("master_repl_offset", "0"))
    for name, text in fields.items():
        if _FOLLOWER.fullmatch(name):
            follower = dict(pair.split("=", 1) for pair in text.split(",") if "=" in pair)
            yield {
                "address": f"{follower.get('ip', '')}:{follower.get('port', '')}",
                "state": follower.get("state", ""),
                "lagBytes": max(0, written - int(follower.get("offset", "0"))),
                "silentSeconds": int(follower.get("lag", "0")),
            }
