"""A command is decided on the state at hand, which may be old: a commit proves that it was not; for all else it is read."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

from dkv.control.submit import RequestKey, Submitter
from dkv.domain.decision import Accepted, Refused
from dkv.domain.orders import PutRecord
from dkv.store.contract import Snapshot
from dkv.store.memory import MemoryDomain, MemoryStore


class Far(MemoryStore):
    """A store whose reads cost a round trip, and which has the snapshot of its last read or commit at hand."""

    def __init__(self, domain: MemoryDomain) -> None:
        super().__init__(domain)
        self.reads = 0
        self.at_hand: Snapshot | None = None

    def known(self) -> Snapshot | None:
        return self.at_hand

    async def read(self) -> Snapshot:
        self.reads += 1
        self.at_hand = await super().read()
        return self.at_hand

    async def commit(self, *arguments: object, **named: object) -> int:
        revision = await super().commit(*arguments, **named)  # type: ignore[arg-type]
        self.at_hand = await super().read()
        return revision


class Managers:
    """Two managers of one domain: `here` has the state at hand, `elsewhere` reads it each time."""

    def __init__(self) -> None:
        domain, count = MemoryDomain(), itertools.count(1)
        self.store = Far(domain)
        self.here = Submitter(self.store, lambda: next(count), lambda: f"here-{next(count)}")
        self.elsewhere = Submitter(MemoryStore(domain), lambda: next(count), lambda: f"elsewhere-{next(count)}")


def put(value: str) -> PutRecord:
    return PutRecord(actor="dba", kind="kvstore", key="k", value=value)


DELETE = PutRecord(actor="dba", kind="kvstore", key="k", expects=("1",))


def play(scene: Callable[[Managers], Awaitable[None]]) -> None:
    async def main() -> None:
        managers = Managers()
        await managers.here.create_domain("d")
        managers.store.reads = 0
        await scene(managers)

    asyncio.run(main())


def test_a_command_of_whoever_made_the_last_change_is_committed_without_a_read() -> None:
    async def scene(managers: Managers) -> None:
        for number in range(3):
            assert isinstance(await managers.here.submit(put(str(number))), Accepted)
        assert managers.store.reads == 0

    play(scene)


def test_a_refusal_by_an_old_state_is_not_given() -> None:
    async def scene(managers: Managers) -> None:
        await managers.elsewhere.submit(put("1"))
        assert isinstance(await managers.here.submit(DELETE), Accepted), "the state at hand has no such record"
        assert isinstance(await managers.here.submit(DELETE), Refused)
        assert managers.store.reads == 2

    play(scene)


def test_that_nothing_is_to_be_changed_is_not_believed_of_an_old_state() -> None:
    async def scene(managers: Managers) -> None:
        await managers.here.submit(put('"mine"'))
        await managers.elsewhere.submit(put('"yours"'))
        decision = await managers.here.submit(put('"mine"'))
        assert isinstance(decision, Accepted)
        state = (await managers.elsewhere.view()).state
        assert "mine" in str(state.records)

    play(scene)


def test_a_command_decided_on_an_old_state_is_decided_anew_and_the_next_one_is_read_for() -> None:
    async def scene(managers: Managers) -> None:
        await managers.here.submit(put("1"))
        await managers.elsewhere.submit(DELETE)
        assert isinstance(await managers.here.submit(DELETE), Refused), "it is gone already"
        assert managers.store.reads == 1
        await managers.here.submit(put("2"))
        assert managers.store.reads == 2, "another manager was faster a moment ago"
        await managers.here.submit(put("3"))
        assert managers.store.reads == 2

    play(scene)


def test_a_repeated_request_that_another_manager_answered_is_answered_by_it() -> None:
    async def scene(managers: Managers) -> None:
        key = RequestKey("key", "digest")
        first = await managers.elsewhere.submit(put("1"), key)
        await managers.elsewhere.submit(put("2"))
        again = await managers.here.submit(put("1"), key)
        assert isinstance(first, Accepted) and isinstance(again, Accepted)
        assert "2" in str((await managers.elsewhere.view()).state.records), "nothing was done again"

    play(scene)


def test_a_plan_is_bound_to_the_domains_revision_not_to_that_at_hand() -> None:
    async def scene(managers: Managers) -> None:
        old = managers.store.at_hand
        assert old is not None
        await managers.elsewhere.submit(put("1"))
        newest = (await managers.elsewhere.view()).revision
        bound = await managers.here.submit(put("2"), at_revision=old.revision)
        assert isinstance(bound, Refused) and bound.code == "domain_changed"
        managers.store.at_hand = old
        assert isinstance(await managers.here.submit(put("2"), at_revision=newest), Accepted)

    play(scene)
