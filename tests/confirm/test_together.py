"""Writes that wait at the same time are sent and confirmed together; what becomes of one does not harm the others."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dkv.confirm import ConfirmError, ConfirmingClient, Kind, Outcome
from tests.confirm.leaders import FOLLOWER, Leader, led

WITHIN = 20.0  # s: machines are busy


def until(true: Callable[[], bool]) -> None:
    """Wait for it."""
    ends = time.monotonic() + WITHIN
    while not true():
        assert time.monotonic() < ends, "it did not become true"
        time.sleep(0.002)


class Writers:
    """Threads of one client, each with one write to a key of its own."""

    def __init__(self, client: ConfirmingClient) -> None:
        self._client = client
        self._threads: dict[str, threading.Thread] = {}
        self.outcomes: dict[str, Outcome | BaseException] = {}

    def start(self, *keys: str, timeout: float = WITHIN) -> None:
        """Begin to write."""
        for key in keys:
            self._threads[key] = threading.Thread(target=self._write, args=(key, timeout))
            self._threads[key].start()

    def _write(self, key: str, timeout: float) -> None:
        try:
            self.outcomes[key] = self._client.set(key, "1", timeout=timeout)
        except BaseException as interrupted:
            self.outcomes[key] = interrupted

    def kind(self, key: str) -> Kind:
        """How a write ended; waits for it."""
        self._threads[key].join(WITHIN)
        outcome = self.outcomes[key]
        assert isinstance(outcome, Outcome), outcome
        return outcome.kind

    def waiting(self) -> int:
        """How many writes wait for the next round."""
        return sum(len(pipeline._waiting) for pipeline in self._client._pipelines.values())


@contextlib.contextmanager
def held(*keys: str) -> Iterator[tuple[Leader, Writers]]:
    """A leader that does not answer the round of a first write, and writers of these keys that wait for the next one."""
    leader = Leader()
    with led(leader) as (client, _):
        writers = Writers(client)
        leader.answering.clear()
        writers.start("first")
        until(lambda: leader.rounds == [1])
        for key in keys:
            writers.start(key)
        until(lambda: writers.waiting() == len(keys))
        yield leader, writers


def test_what_threads_write_during_a_round_makes_one_round_and_is_confirmed_by_its_two_answers() -> None:
    keys = [f"k{number}" for number in range(8)]
    with held(*keys) as (leader, writers):
        leader.answering.set()
        assert {writers.kind(key) for key in ("first", *keys)} == {Kind.CONFIRMED}
        assert leader.rounds == [1, 8]


def test_coroutines_share_rounds_with_each_other() -> None:
    leader = Leader()
    with led(leader) as (client, _):

        async def write_all() -> list[Outcome]:
            leader.answering.clear()
            first = asyncio.create_task(client.execute_async("SET", "first", "1", timeout=WITHIN))
            while leader.rounds != [1]:
                await asyncio.sleep(0.002)
            others = [asyncio.create_task(client.execute_async("SET", f"k{n}", "1", timeout=WITHIN)) for n in range(8)]
            await asyncio.sleep(0)
            leader.answering.set()
            return await asyncio.gather(first, *others)

        assert all(outcome.confirmed for outcome in asyncio.run(write_all()))
        assert leader.rounds == [1, 8]


def test_a_write_that_is_not_on_the_followers_disk_when_its_round_ends_is_not_confirmed_by_the_others() -> None:
    """The follower has what it has: each write is held against the offset that was read after it."""
    with held("k0") as (leader, writers):
        leader.offset = 8  # k0 will be written at 8; the follower stays at 7
        leader.answering.set()
        assert writers.kind("first") is Kind.CONFIRMED
        until(lambda: len(leader.rounds) > 3)
        assert "k0" not in writers.outcomes
        leader.acked = 8
        assert writers.kind("k0") is Kind.CONFIRMED
        assert leader.sets == 2, "it was asked again, not written again"


def test_a_driver_whose_time_is_over_leaves_the_others_waiting_for_their_copies() -> None:
    leader = Leader()
    with led(leader) as (client, _):
        writers = Writers(client)
        leader.acked = 6
        writers.start("hasty", timeout=0.2)
        until(lambda: leader.sets == 1)
        writers.start("patient")
        assert writers.kind("hasty") is Kind.ACKNOWLEDGED
        hasty = writers.outcomes["hasty"]
        assert isinstance(hasty, Outcome) and FOLLOWER in hasty.reason
        leader.acked = 7
        assert writers.kind("patient") is Kind.CONFIRMED


def test_a_refused_write_is_repeated_or_fails_alone() -> None:
    with held("moved", "wrong", "right") as (leader, writers):
        leader.refusals = {b"moved": b"-MOVED 1 127.0.0.13:7861\r\n", b"wrong": b"-WRONGTYPE not a string\r\n"}
        leader.answering.set()
        assert [writers.kind(key) for key in ("right", "wrong", "moved")] == [Kind.CONFIRMED, Kind.FAILED, Kind.CONFIRMED]
        assert leader.sets == 5


def test_all_writes_of_a_round_whose_connection_breaks_are_in_doubt_and_none_is_repeated() -> None:
    with held("k0", "k1") as (leader, writers):
        leader.hang_up()
        leader.answering.set()
        assert writers.kind("first") is Kind.FAILED
        assert {writers.kind("k0"), writers.kind("k1")} == {Kind.CONFIRMED}, "they were not sent yet"
        assert leader.sets == 3


def test_an_interrupted_driver_gives_its_turn_away() -> None:
    with held("k0", "k1") as (leader, writers):
        for pipeline in writers._client._pipelines.values():
            pipeline._clock.interrupts = KeyboardInterrupt  # type: ignore[attr-defined]  # when the driver judges
        leader.answering.set()
        until(lambda: "first" in writers.outcomes)
        assert isinstance(writers.outcomes["first"], KeyboardInterrupt)
        assert {writers.kind("k0"), writers.kind("k1")} == {Kind.CONFIRMED}


def test_a_cancelled_write_that_was_not_sent_is_not_sent_later() -> None:
    leader = Leader()
    with led(leader) as (client, _):

        async def cancel_one() -> Outcome:
            leader.answering.clear()
            first = asyncio.create_task(client.execute_async("SET", "first", "1", timeout=WITHIN))
            while leader.rounds != [1]:
                await asyncio.sleep(0.002)
            second = asyncio.create_task(client.execute_async("SET", "second", "1", timeout=WITHIN))
            await asyncio.sleep(0)
            second.cancel()
            await asyncio.wait([second])
            leader.answering.set()
            return await first

        assert asyncio.run(cancel_one()).confirmed
        assert client.set("third", "1").confirmed
        assert leader.sets == 2


def test_a_command_that_cannot_be_sent_harms_no_other() -> None:
    with held("k0") as (leader, writers):
        with pytest.raises(ConfirmError, match="cannot be sent"):
            writers._client.execute("SET", "bad", object())
        leader.answering.set()
        assert {writers.kind("first"), writers.kind("k0")} == {Kind.CONFIRMED}
