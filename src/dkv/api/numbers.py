"""API: the numbers that the live view draws, of the engines of one server: counts, memory, percentiles, who hears whom.

Read from the engines when they are asked for, never stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dkv.api.context import Manager, ManagerContext
from dkv.api.routing import Router
from dkv.wire import schemas

router = Router(tags=["looking"])

OF_MANAGERS = frozenset(
    "acl auth client cluster command commandlog config debug echo exec hello info latency multi ping psync quit readonly "
    "replconf script select slowlog sync wait waitaof watch".split()
)
"""Commands that managers and engines send each other, or that touch no data."""


@router.get("/admin/v1/numbers")
async def numbers(manager: Manager) -> schemas.Numbers:
    """The engines of this server now: work, memory, percentiles, and how leaders and followers hear each other."""
    return await own_numbers(manager)


async def own_numbers(manager: ManagerContext) -> schemas.Numbers:
    """The engines of this manager's server; one that does not answer is left out."""
    counted = {int(counters["start_id"]): counters for counters in await manager.machine.counters()}
    fields: dict[int, Mapping[str, str]] = {}
    for statistics in await manager.machine.numbers.statistics(None):
        fields.setdefault(statistics.start_id, statistics.fields)
    engines = [engine_numbers(counters, fields.get(start_id, {})) for start_id, counters in sorted(counted.items())]
    return {"server": manager.server_id, "at": manager.clock(), "engines": engines}


def engine_numbers(counted: Mapping[str, Any], fields: Mapping[str, str]) -> schemas.EngineNumbers:
    """One process, of its counters and the fields of its engine's INFO."""
    command = _busiest(fields)
    percentiles = dict(_QUANTILES.findall(fields.get(f"latency_percentiles_usec_{command}", "")))
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
        "command": command,
        "p50": float(percentiles["50"]) if "50" in percentiles else None,
        "p99": float(percentiles["99"]) if "99" in percentiles else None,
        "linkUp": None if link is None else link == "up",
        "leaderHeard": heard if link is not None and heard >= 0 else None,
        "followers": list(_followers(fields)),
    }


_QUANTILES = re.compile(r"p(50|99)=([0-9.]+)")
_CALLS = re.compile(r"calls=(\d+)")
_FOLLOWER = re.compile(r"slave\d+")


def _busiest(fields: Mapping[str, str]) -> str:
    """The data command that was called most; "" before the first."""
    calls = {
        name.removeprefix("cmdstat_"): int(match[1])
        for name, text in fields.items()
        if name.startswith("cmdstat_") and "|" not in name and (match := _CALLS.match(text))
    }
    return max((name for name in calls if name not in OF_MANAGERS), key=lambda name: calls[name], default="")


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
