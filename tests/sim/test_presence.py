"""What managers know of one another, however much time passes between two things that they read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from dkv.control.liveness import LEADER, RENEW_EVERY, SERVER_TTL, Liveness
from dkv.control.submit import Submitter, View
from dkv.domain.facts import ServerJoined
from dkv.sim.loop import SimLoop
from dkv.store.contract import Lease, Snapshot, Unavailable
from dkv.store.memory import MemoryDomain, MemoryStore

FIRST = ServerJoined(server_id="s1", uid="u1", host="10.0.0.1", port=7801, nuodb_port=8888, boot_id="b1")
SECOND = replace(FIRST, server_id="s2", uid="u2", host="10.0.0.2")


class Interrupted(MemoryStore):
    """A backend on a machine so slow that something happens just before the domain state is read; `away`: no answers;
    `lease_takes` and `look_takes`: s until the leader lease, and all leases, are answered.
    """

    def __init__(self, domain: MemoryDomain) -> None:
        super().__init__(domain)
        self.before_read: Callable[[], Awaitable[None]] | None = None
        self.away = False
        self.lease_takes = self.look_takes = 0.0

    async def acquire(self, name: str, holder: str, ttl: float, value: str = "") -> bool:
        await asyncio.sleep(self.lease_takes if name == LEADER else 0)
        return await super().acquire(name, holder, ttl, value)

    async def read(self) -> Snapshot:
        happens, self.before_read = self.before_read, None
        if happens is not None:
            await happens()
        return await super().read()

    async def leases(self) -> Sequence[Lease]:
        if self.away:
            raise Unavailable("away")
        await asyncio.sleep(self.look_takes)
        return await super().leases()


class Pair:
    """Two managers of one domain. Nothing happens by itself: each takes the steps that a test has it take."""

    def __init__(self, loop: SimLoop) -> None:
        domain = MemoryDomain(clock=loop.time)
        self.now = loop.time
        self.store = Interrupted(domain)
        self.submitter = self._submitter(self.store, loop)
        self.first = Liveness(self.store, self.submitter, FIRST, loop.time)
        second = MemoryStore(domain)
        self.second = Liveness(second, self._submitter(second, loop), SECOND, loop.time)

    def _submitter(self, store: MemoryStore, loop: SimLoop) -> Submitter:
        return Submitter(store, lambda: int(loop.time() * 1000), lambda: str(loop.time()))

    async def first_leads(self) -> None:
        """Its access to the backend has lasted long enough for it to judge others."""
        for _ in range(int(SERVER_TTL / RENEW_EVERY) + 2):
            await self.first.renew()
            await self.first.judge()
            await self.first.join()
            await asyncio.sleep(RENEW_EVERY)

    async def second_joins(self) -> None:
        await self.second.renew()
        await self.second.join()

    async def alive(self) -> set[str]:
        view: View = await self.submitter.view()
        return {server.server_id for server in view.state.servers.values() if server.alive}


def play(scenario: Callable[[Pair], Awaitable[None]]) -> None:
    loop = SimLoop(1)  # type: ignore[abstract]

    async def main() -> None:
        pair = Pair(loop)
        await pair.first_leads()
        await scenario(pair)

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def test_a_server_that_has_just_joined_is_heard_by_whoever_sees_it_alive() -> None:
    async def scenario(pair: Pair) -> None:
        await pair.first.judge()
        await pair.second_joins()
        assert await pair.alive() == {"s1", "s2"}
        assert (await pair.first.lease_ages())["s2"] == 0, "without another look at the leases in between"

    play(scenario)


def test_what_was_heard_ages_where_the_backend_does_not_answer() -> None:
    async def scenario(pair: Pair) -> None:
        await pair.second_joins()
        await pair.first.judge()
        pair.store.away = True
        await asyncio.sleep(2)
        assert (await pair.first.lease_ages())["s2"] == 2000
        assert await pair.first.leader() == "s1"

    play(scenario)


def test_what_a_manager_knows_is_in_its_lease_while_that_holds() -> None:
    async def scenario(pair: Pair) -> None:
        pair.second._here = replace(SECOND, level=7)
        await pair.second.renew()
        await pair.first.judge()
        assert pair.first.levels == {"s1": FIRST.level, "s2": 7}
        await asyncio.sleep(SERVER_TTL + 1)
        await pair.first.judge()
        assert not any(pair.first.levels.values())

    play(scenario)


def test_whoever_took_the_lead_is_named_at_once() -> None:
    async def scenario(pair: Pair) -> None:
        assert await pair.first.leader() == "s1"
        await pair.first.leave()
        assert await pair.first.leader() == ""
        await pair.second.renew()
        assert await pair.first.leader() == "s2"

    play(scenario)


def test_a_server_that_joins_while_others_are_judged_is_not_lost() -> None:
    async def scenario(pair: Pair) -> None:
        pair.store.before_read = pair.second_joins
        await pair.first.judge()  # reads the leases, then the state, in which there is one more server by then
        assert await pair.alive() == {"s1", "s2"}

    play(scenario)


def test_a_server_whose_lease_ended_is_lost() -> None:
    async def scenario(pair: Pair) -> None:
        await pair.second_joins()
        for _ in range(int(SERVER_TTL / RENEW_EVERY) + 1):
            await asyncio.sleep(RENEW_EVERY)
            await pair.first.renew()
        await pair.first.judge()
        assert await pair.alive() == {"s1"}

    play(scenario)


@pytest.mark.parametrize("offset", [0.0, 0.2, 0.4, 0.6])
def test_a_server_is_lost_when_its_lease_ends_not_at_the_next_renewal_of_the_judge(offset: float) -> None:
    async def scenario(pair: Pair) -> None:
        await pair.second_joins()
        state = (await pair.submitter.view()).state
        judge = asyncio.create_task(pair.first.run(lambda: state))
        await asyncio.sleep(offset)
        await pair.second.renew()
        ends = pair.now() + SERVER_TTL
        while "s2" in await pair.alive():
            await asyncio.sleep(0.01)
        judge.cancel()
        assert 0 <= pair.now() - ends < 0.05

    play(scenario)


@pytest.mark.parametrize("offset", [0.0, 0.2, 0.4, 0.6])
def test_a_lost_leader_of_the_domain_is_followed_and_judged_when_its_leases_end(offset: float) -> None:
    async def scenario(pair: Pair) -> None:
        await pair.second_joins()
        state = (await pair.submitter.view()).state
        heir = asyncio.create_task(pair.second.run(lambda: state))
        for pause in [RENEW_EVERY] * 5 + [offset]:
            await asyncio.sleep(pause)
            await pair.first.renew()
        ends = pair.now() + SERVER_TTL
        while "s1" in await pair.alive():
            await asyncio.sleep(0.01)
        heir.cancel()
        assert 0 <= pair.now() - ends < 0.05

    play(scenario)


def test_a_lease_that_was_renewed_holds_although_the_next_answer_does_not_come_in_time() -> None:
    async def scenario(pair: Pair) -> None:
        pair.store.lease_takes = SERVER_TTL
        for _ in range(3):
            await pair.first.renew()
            assert pair.first.lease_left() == SERVER_TTL / 2, "the time that was waited for the leader lease"
            assert not pair.first.leads

    play(scenario)


def test_a_server_joins_again_although_all_leases_take_long_to_read() -> None:
    async def scenario(pair: Pair) -> None:
        pair.store.look_takes = SERVER_TTL / 2
        third = Liveness(pair.store, pair.submitter, replace(FIRST, server_id="s3", uid="u3", host="10.0.0.3"), pair.now)
        running = asyncio.create_task(third.run(lambda: None))
        await asyncio.sleep(1.0)
        assert await pair.alive() == {"s1", "s3"}
        running.cancel()

    play(scenario)


def test_a_copy_of_a_data_directory_at_another_address_gets_no_lease_until_the_others_has_ended() -> None:
    async def scenario(pair: Pair) -> None:
        copy = Liveness(pair.store, pair.submitter, replace(FIRST, host="10.0.0.9"), pair.now)
        await pair.first.renew()
        await copy.renew()
        assert copy.is_taken and not copy.leads and copy.lease_left() < 0
        assert copy.trouble == "another manager holds the lease of this server"
        ends = await copy.lease_ends()
        await asyncio.sleep(RENEW_EVERY)
        await pair.first.renew()
        assert await copy.lease_ends() == ends + RENEW_EVERY, "the other one goes on renewing it"
        await asyncio.sleep(SERVER_TTL)
        await copy.renew()
        assert not copy.is_taken and copy.lease_left() > 0
        await pair.first.renew()
        assert pair.first.is_taken and pair.first.lease_left() <= 0, (
            "a manager that stood still for that long does not go on beside it"
        )

    play(scenario)
