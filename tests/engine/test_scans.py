"""Cursors of the real engine: begun at one engine of a store and continued at another, or at the same one restarted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dkv.engine.contract import Cause
from tests.contract.engine_harness import (
    Machine,
    ValkeyMachine,
    ended,
    following,
    leading,
    memory_only,
    peer,
    ready,
    seen,
    started,
)
from tests.contract.handovers import handed_over

ITEMS, AT_ONCE = 4_000, 200  # far more than an encoding without a hash table holds
KEYS_ONLY = pytest.mark.xfail(
    strict=True, raises=AssertionError, reason="Valkey 9.1.2 applies hash-seed to the table of keys only"
)
COMMANDS = ["SCAN", *(pytest.param(name, marks=KEYS_ONLY) for name in ("HSCAN", "SSCAN", "ZSCAN"))]


class Scan:
    """One scan of a client: of all keys, or of one large hash, set or sorted set."""

    def __init__(self, machine: ValkeyMachine, command: str) -> None:
        self._machine, self._command = machine, command
        self._key = f"large-{command}"
        self.cursor, self.found = 0, set[bytes]()

    async def fill(self, start_id: int) -> None:
        words = {
            "SCAN": ("SET", "{i}", "1"),
            "HSCAN": ("HSET", self._key, "{i}", "1"),
            "SSCAN": ("SADD", self._key, "{i}"),
            "ZSCAN": ("ZADD", self._key, "1", "{i}"),
        }[self._command]
        await self._do(start_id, *(tuple(word.format(i=f"item-{number}") for word in words) for number in range(ITEMS)))

    async def go_on(self, start_id: int, calls: int) -> None:
        """So many calls, or to the end."""
        for _ in range(calls):
            where = () if self._command == "SCAN" else (self._key,)
            (answer,) = await self._do(start_id, (self._command, *where, self.cursor, "COUNT", AT_ONCE))
            self.cursor = int(answer[0])
            self.found |= set(answer[1])
            if not self.cursor:
                return

    async def _do(self, start_id: int, *commands: tuple[Any, ...]) -> list[Any]:
        known = self._machine.engines._known(start_id)
        engine = known.parts[0] if known.parts else known
        return list(await engine.valkey.do(("READONLY",), *commands))[1:]

    def missing(self) -> int:
        return sum(f"item-{number}".encode() not in self.found for number in range(ITEMS))


class Scans:
    """One of each command, on one machine."""

    def __init__(self, machine: ValkeyMachine) -> None:
        self.by_command = {command: Scan(machine, command) for command in ("SCAN", "HSCAN", "SSCAN", "ZSCAN")}

    async def fill(self, start_id: int) -> None:
        for scan in self.by_command.values():
            await scan.fill(start_id)

    async def go_on(self, start_id: int, calls: int) -> None:
        for scan in self.by_command.values():
            await scan.go_on(start_id, calls)


async def handed_on(machine: ValkeyMachine, scans: Scans) -> None:
    leader, follower = machine.spec(1, 1), machine.spec(2, 2)
    await leading(machine, leader)
    await scans.fill(1)
    await following(machine, follower, leader)
    await scans.go_on(1, 8)
    await handed_over(machine, 2)
    await scans.go_on(2, 1_000)


async def killed(machine: ValkeyMachine, scans: Scans) -> None:
    leader = machine.spec(1, 1)
    await leading(machine, leader)
    await scans.fill(1)
    await scans.go_on(1, 8)
    await machine.engines.kill(1, Cause.OPERATOR_KILL)
    await ended(machine, 1)
    await started(machine, machine.spec(2, 1), fresh=False)
    await machine.engines.take_over(2)
    await scans.go_on(2, 1_000)


async def read_at_a_te(machine: ValkeyMachine, scans: Scans) -> None:
    leader, te = machine.spec(1, 1), machine.spec(2, 2)
    await leading(machine, leader)
    await scans.fill(1)
    known = peer(leader, await seen(machine, 1))
    await machine.engines.launch_memory(memory_only(replace(te, peers=(known,))))
    await seen(machine, 2, ready)
    await machine.engines.replicate(2, known)
    await seen(machine, 2, lambda engine: engine.replication.link_up and not engine.replication.resyncing)
    await scans.go_on(1, 8)
    await scans.go_on(2, 1_000)


@pytest.fixture(scope="module", params=[handed_on, killed, read_at_a_te], ids=lambda happens: happens.__name__)
def scans(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scans:
    """All of them after something happened to their engine."""
    machine = ValkeyMachine(tmp_path_factory.mktemp("scans"))
    scans = Scans(machine)

    async def scenario(_: Machine) -> None:
        await request.param(machine, scans)

    machine.play(scenario)
    return scans


@pytest.mark.parametrize("command", COMMANDS)
def test_a_scan_that_goes_on_elsewhere_misses_nothing(scans: Scans, command: str) -> None:
    scan = scans.by_command[command]
    assert scan.cursor == 0 and len(scan.found) > ITEMS / 2
    assert scan.missing() == 0
