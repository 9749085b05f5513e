"""Busy is not dead: a leader that loads a few large values in silence, for longer than failoverGrace, is waited for."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path

from tests.e2e.local_domain import LocalDomain, local_domain, wait_for

STORE = "Values"
GRACE_MS = 1_000
LOADS = 3.0  # s that a quiet machine takes to load what is written here


def heavy(domain: LocalDomain, leader: str) -> None:
    """A few commands that take long, written as such: as an engine reports progress every 1,024 commands only, it says nothing
    of them while it loads. Together they are too short to be worth a rewrite, which would make the load short too."""
    with closing(domain.engine(STORE, leader)) as engine:
        for first in range(0, 15_000, 1_000):
            engine.zadd("{z}", {f"member-{number}": number for number in range(first, first + 1_000)})
        began = time.monotonic()
        while time.monotonic() - began < LOADS:
            engine.execute_command("ZUNIONSTORE", "{z}again", 1, "{z}")
        engine.set("{z}last", "acknowledged")


def test_a_leader_that_loads_in_silence_leads_again(tmp_path: Path) -> None:
    settings = {"DKV_FAILOVER_GRACE_MS": str(GRACE_MS), "DKV_TAIL_ABOVE_BYTES": "-1"}
    with local_domain(tmp_path, 2, settings) as domain:
        names = [instance["instanceName"] for instance in domain.create(STORE, "-ReplicationFactor", "2")["instances"]]
        domain.wait_in_sync(STORE, *names)
        leader, term = str(domain.group(STORE)["leader"]), int(domain.group(STORE)["term"])
        heavy(domain, leader)
        domain.wait_in_sync(STORE, *names)
        os.kill(domain.pid(STORE, leader), signal.SIGKILL)
        wait_for("a new term is served", lambda: domain.group(STORE)["serving"] and domain.group(STORE)["term"] > term)
        events = domain.client.events()
        assert not [event for event in events if event["kind"] == "group.superseded"], "it was given up while it worked"
        assert domain.group(STORE)["leader"] == leader
        with closing(domain.engine(STORE, leader)) as engine:  # its client port opens a moment after its term is served
            assert wait_for("its port is open", lambda: engine.get("{z}last")) == b"acknowledged"
