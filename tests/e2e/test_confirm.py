"""Confirmed writes on real engines: a stalled copy, a dead leader, managers that are away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dkv.confirm import ConfirmingClient, Kind, Outcome
from tests.e2e.local_domain import LocalDomain, local_domain, wait_for

STORE = "Sure"


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("confirm"), servers=2) as running_domain:
        running_domain.create(STORE)
        yield running_domain


@pytest.fixture
def client(domain: LocalDomain) -> Iterator[ConfirmingClient]:
    domain.wait_in_sync(STORE, "sure-1", "sure-2")
    with ConfirmingClient(domain.addresses.split(","), STORE) as connected:
        assert connected.set("before", "1", timeout=20).confirmed
        yield connected


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that is frozen for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def follower_of(domain: LocalDomain) -> str:
    leader = domain.group(STORE)["leader"]
    return next(name for name in ("sure-1", "sure-2") if name != leader)


def test_a_stalled_copy_is_named_and_confirmed_without_once_it_left_the_set(
    domain: LocalDomain, client: ConfirmingClient
) -> None:
    late = domain.instance(STORE, follower_of(domain))
    with stopped(int(late["process"]["pid"])):
        outcome = client.set("stalled", "1", timeout=1.0)
        assert outcome.kind is Kind.ACKNOWLEDGED and outcome.reply == b"OK"
        assert f"{late['host']}:{late['clientPort']}" in outcome.reason
        assert client.set("alone", "1", timeout=30).confirmed, "after 3 s of silence the set is the leader alone"
        assert domain.group(STORE)["inSync"] == [domain.group(STORE)["leader"]]
    domain.wait_in_sync(STORE, "sure-1", "sure-2")


def test_threads_and_coroutines_that_write_at_once_share_rounds_and_each_is_confirmed(client: ConfirmingClient) -> None:
    async def all_of_them() -> list[Outcome]:
        return await asyncio.gather(*(client.execute_async("INCR", "counted", timeout=20) for _ in range(200)))

    with ThreadPoolExecutor(8) as threads:
        by_threads = [threads.submit(client.execute, "INCR", "counted", timeout=20) for _ in range(200)]
        outcomes = asyncio.run(all_of_them()) + [future.result() for future in by_threads]
    assert all(outcome.confirmed for outcome in outcomes)
    assert sorted(outcome.reply for outcome in outcomes) == list(range(1, 401)), "each has its own answer"


def test_a_dead_leader_is_left_and_found_again(domain: LocalDomain, client: ConfirmingClient) -> None:
    leader = str(domain.group(STORE)["leader"])
    os.kill(domain.pid(STORE, leader), signal.SIGKILL)
    outcomes: list[Outcome] = []
    wait_for("a confirmed write", lambda: outcomes.append(client.set("again", "1", timeout=5)) or outcomes[-1].confirmed)
    assert len(outcomes) <= 2, "at most the write that was under way has no answer"
    assert client.set("and again", "1", timeout=20).confirmed


def test_without_managers_writes_are_acknowledged_and_never_confirmed(domain: LocalDomain, client: ConfirmingClient) -> None:
    with contextlib.ExitStack() as all_of_them:
        for manager in domain.managers:
            assert manager.process is not None
            all_of_them.enter_context(stopped(manager.process.pid))
        time.sleep(0.6)  # longer than a view may be old: what is tested is this very age
        for n in range(3):
            outcome = client.set(f"unseen-{n}", "1", timeout=0.5)
            assert outcome.kind is Kind.ACKNOWLEDGED, outcome
            assert "no manager gave" in outcome.reason
    assert client.set("seen", "1", timeout=30).confirmed
