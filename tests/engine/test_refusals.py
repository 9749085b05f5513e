"""What an engine's INFO says of the writes it would refuse, in the order in which Valkey asks."""

from __future__ import annotations

from typing import Any

import pytest

from dkv.domain.writes_refused import WRITE_REFUSALS
from dkv.engine import replies
from dkv.engine.replies import Answers

WELL = {
    "aof_last_write_status": "ok",
    "connected_clients": "3",
    "connected_slaves": "1",
    "cluster_connections": "4",
    "maxclients": "10000",
    "paused_reason": "none",
}
ROOM = {"used_memory": "90", "mem_not_counted_for_evict": "0", "maxmemory": "100", "maxmemory_policy": "noeviction"}


def answers(
    info: dict[str, str] | None = None,
    memory: dict[str, str] | None = None,
    state: str = "ok",
    fence: str = "0",
    follows: str | None = None,
) -> Answers:
    settings = {"min-replicas-to-write": fence}
    return Answers(
        WELL | (info or {}),
        {"cluster_state": state},
        (),
        "me",
        follows,
        fenced=fence == "99",
        admits=True,
        settings=settings,
        memory=ROOM | (memory or {}),
    )


SEEN: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"state": "fail"}, "CLUSTERDOWN"),
    ({"memory": {"used_memory": "101"}}, "OOM"),
    ({"memory": {"used_memory": "100"}}, ""),
    ({"memory": {"used_memory": "130", "mem_not_counted_for_evict": "40"}}, ""),
    ({"memory": {"used_memory": "130", "maxmemory": "0"}}, ""),
    ({"memory": {"used_memory": "130", "maxmemory_policy": "allkeys-lru"}}, ""),
    ({"info": {"aof_last_write_status": "err"}}, "MISCONF"),
    ({"fence": "99", "info": {"min_slaves_good_slaves": "1"}}, "NOREPLICAS"),
    ({"fence": "1", "info": {"min_slaves_good_slaves": "1"}}, ""),
    ({"follows": "another"}, "READONLY"),
    ({"info": {"connected_clients": "9995"}}, "MAXCLIENTS"),
    ({"info": {"connected_clients": "9994"}}, ""),
]


@pytest.mark.parametrize(("seen", "why"), SEEN)
def test_a_look_says_what_a_client_is_answered(seen: dict[str, Any], why: str) -> None:
    assert replies.refuses_writes(answers(**seen)) == why
    assert not why or why in WRITE_REFUSALS


def test_memory_is_read_from_two_sections_and_watched_closely_near_its_limit() -> None:
    text = b"# Memory\r\nused_memory:95\r\nused_memory_human:95B\r\nmaxmemory:100\r\n# Errorstats\r\nerrorstat_OOM:count=7\r\n"
    memory = replies.parse_memory(text)
    assert memory == {"used_memory": "95", "maxmemory": "100", "errorstat_OOM": "7"}
    assert replies.nearly_full(answers(memory=memory))
    assert not replies.nearly_full(answers())
    assert replies.refuses_writes(answers(memory=memory), lately_full=True) == "OOM"
