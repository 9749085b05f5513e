"""Confirmed reads of a register that have no order are found out, and those of a domain that is well have one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from dkv.sim.checks.registers import RegisterChecks
from dkv.sim.clients import REGISTER, RegisterClient, RegisterHistory, Sure
from dkv.sim.world import DATABASE
from tests.sim.test_scenarios import ScenarioRun

KEY = (DATABASE, "g1")


class RegisterRun(ScenarioRun):
    """A domain of three servers with a client that raises its register and one that reads it."""

    def __init__(self) -> None:
        super().__init__(3)
        self.history = RegisterHistory()
        self.checks = RegisterChecks(self.world, self.history)
        self.sure: list[Sure] = []
        judge = self.history.watch

        def noted(key: tuple[str, str], sure: Sure) -> None:
            self.sure.append(sure)
            judge(key, sure)

        self.history.watch = noted
        self.raises, self.reads = (RegisterClient(self.world, self.history, KEY, reads=reads) for reads in (False, True))

    def read(self, value: int) -> None:
        """A read that is sent now shows this."""
        self.history.sure(KEY, replace(self.sure[-1], value=value, sent_at=self.world.now(), reads=True))


Breach = Callable[[RegisterRun], Awaitable[None]]


def failures(breach: Breach) -> str:
    run = RegisterRun()

    async def after_some(_: ScenarioRun) -> None:
        for _ in range(6):
            await run.raises.operate()
            await run.reads.operate()
        assert [s.reads for s in run.sure].count(True) > 2, "reads were confirmed"
        await breach(run)

    return " / ".join(run.play(after_some))


def test_a_register_of_a_domain_that_is_well_only_rises() -> None:
    async def killed(run: RegisterRun) -> None:
        assert run.sure[-1].value == 6
        leader = run.group.leader_process
        assert leader is not None
        run.world.machines[run.leader()].hardware.end(leader)
        count = len(run.sure)
        while len(run.sure) < count + 4:
            await run.raises.operate()
            await run.reads.operate()
            await run.world.net.sleep(0.1)
        run.checks.at_the_end(run.checkers)

    assert failures(killed) == ""


async def an_old_value(run: RegisterRun) -> None:
    run.read(5)


async def a_value_that_nobody_wrote(run: RegisterRun) -> None:
    run.read(7)


async def a_value_that_is_gone(run: RegisterRun) -> None:
    engine = run.checkers.leader_engine(run.group)
    assert engine is not None
    engine.data[REGISTER] = "2"
    run.checks.at_the_end(run.checkers)


@pytest.mark.parametrize(
    ("breach", "words"),
    [
        (an_old_value, "showed 5 after 6 was confirmed or read"),
        (a_value_that_nobody_wrote, "showed 7, but no more than 6 was written"),
        (a_value_that_is_gone, "the register of g1 is 2 after 6"),
    ],
)
def test_what_has_no_order_is_found_out(breach: Breach, words: str) -> None:
    assert words in failures(breach)
