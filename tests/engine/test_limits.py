"""One client stops neither the others nor the manager: unread replies, leaked connections, one huge command."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dkv.engine.config import COMMAND_MOST, client_limits
from dkv.engine.contract import Cause, EngineFull, EngineUnreachable
from tests.contract.engine_harness import ValkeyMachine, ended, following, leading, seen

MB = 1 << 20
SLOW = "for i = 1, 50000000 do end"  # some tenths of a second
MOST = int(client_limits(64 * MB)["maxclients"])  # the harness gives each engine 64 MB


def connected(machine: ValkeyMachine, start_id: int = 1) -> socket.socket:
    record = machine._record(start_id)
    return socket.create_connection((record.address, record.client_port), timeout=30)


def request(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


@contextmanager
def leaked(machine: ValkeyMachine) -> Iterator[list[socket.socket]]:
    """Somebody takes every connection there is and does nothing with it."""
    held: list[socket.socket] = []
    try:
        while True:
            held.append(connected(machine))
            held[-1].sendall(request(b"PING"))
            answer = held[-1].recv(200)
            if answer != b"+PONG\r\n":
                assert b"max number of clients" in answer
                break
        assert MOST // 2 < len(held) <= MOST + 1
        yield held
    finally:
        for connection in held:
            connection.close()


class Other:
    """A client that writes and reads all the time on a connection of its own; what went wrong, and its longest wait."""

    def __init__(self, machine: ValkeyMachine) -> None:
        self._stream = connected(machine)
        self.errors: list[bytes] = []
        self.slowest = 0.0
        self._ended = asyncio.Event()

    async def work(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._ended.is_set():
            began = loop.time()
            for ask, right in ((request(b"SET", b"other", b"1"), b"+OK\r\n"), (request(b"GET", b"other"), b"$1\r\n1\r\n")):
                answer = await asyncio.to_thread(self._ask, ask)
                if answer != right:
                    self.errors.append(answer)
            self.slowest = max(self.slowest, loop.time() - began)
            await asyncio.sleep(0.005)
        self._stream.close()

    def _ask(self, ask: bytes) -> bytes:
        self._stream.sendall(ask)
        return self._stream.recv(200)

    def end(self) -> None:
        self._ended.set()


async def beside_another(machine: ValkeyMachine, harm: Callable[[], Awaitable[None]]) -> None:
    """Do harm while another client works and the manager looks; neither may notice more than a pause."""
    other = Other(machine)
    working = asyncio.create_task(other.work())
    harming = asyncio.ensure_future(harm())
    while not harming.done():
        survey = await machine.engines.survey()
        assert [engine.answering for engine in survey.engines] == [True], survey
        await asyncio.sleep(0.02)
    other.end()
    await working
    await harming
    assert other.errors == []
    assert other.slowest < 5.0


def test_a_client_that_does_not_read_its_replies_is_dropped(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        await machine.say(1, "EVAL", "for i = 1, 200 do server.call('RPUSH', 'list', string.rep('x', 10000)) end", "0")

        def ask_and_never_read() -> None:
            with connected(machine) as greedy:
                greedy.settimeout(20)
                ask = request(b"LRANGE", b"list", b"0", b"-1")
                with pytest.raises(ConnectionError):
                    greedy.sendall(ask * 1_000_000)

        await beside_another(machine, lambda: asyncio.to_thread(ask_and_never_read))
        assert (await seen(machine, 1)).role == "leader"

    ValkeyMachine(tmp_path).play(scenario)


def test_one_huge_command_is_refused_by_name(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))

        def send() -> None:
            with connected(machine) as huge:
                huge.sendall(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$100000000\r\n")
                assert b"invalid bulk length" in huge.recv(200)

        await beside_another(machine, lambda: asyncio.to_thread(send))

    ValkeyMachine(tmp_path).play(scenario)


def test_the_largest_command_reaches_a_follower_without_a_new_copy(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        leader, follower = machine.spec(1, 1), machine.spec(2, 2)
        await leading(machine, leader)
        await following(machine, follower, leader)
        before = await machine.engines._known(1).valkey.do(("INFO", "stats"))
        largest = "x" * int(client_limits(64 * MB)["proto-max-bulk-len"])
        assert await machine.write(1, "big", largest) == "+OK"
        assert await machine.wait(1, 1, 30) == 1
        after = await machine.engines._known(1).valkey.do(("INFO", "stats"))
        assert full_copies(after[0]) == full_copies(before[0])

    ValkeyMachine(tmp_path).play(scenario)


def full_copies(info: bytes) -> str:
    return next(line for line in info.decode().splitlines() if line.startswith("sync_full"))


def test_leaked_connections_keep_no_manager_out(tmp_path: Path) -> None:
    """The manager's own connection stays, also after a question that it gave up; what it orders is done."""

    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        driver = machine.engines._known(1).valkey

        with leaked(machine):
            with pytest.raises(EngineUnreachable):
                await driver.exchange(("EVAL", SLOW, 0), timeout=0.01)
            engine = await seen(machine, 1, lambda engine: engine.answering and not engine.busy)
            assert engine.role == "leader"
            await machine.engines.fence(1)
            await seen(machine, 1, lambda engine: engine.writes.fenced)
            await machine.engines.ask_followers(1)
            assert await driver.make_room(3600) == 0
        await machine.engines.unfence(1)
        assert await machine.write(1, "key", "value") == "+OK"

    ValkeyMachine(tmp_path).play(scenario)


def test_idle_connections_make_room_for_those_that_work(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        driver = machine.engines._known(1).valkey
        with leaked(machine) as held:
            waits = held[0]
            waits.sendall(request(b"BLPOP", b"nothing", b"0"))
            await asyncio.sleep(1.2)
            works = held[1]
            works.sendall(request(b"PING"))
            assert works.recv(100) == b"+PONG\r\n"
            assert await driver.make_room(1) > MOST // 2
            works.sendall(request(b"RPUSH", b"nothing", b"1"))
            assert works.recv(100) == b":1\r\n"
            assert b"nothing" in waits.recv(100), "who waits for an answer is not idle"
            assert await machine.write(1, "key", "value") == "+OK"

    ValkeyMachine(tmp_path).play(scenario)


def test_a_new_manager_is_told_that_there_is_no_room_and_kills_nothing(tmp_path: Path) -> None:
    """No room is an answer: the engine counts as busy, and what cannot be done is refused, not thought undone or silent."""

    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        pid = machine.pid(1)
        machine.engines.close()
        await asyncio.sleep(0.05)  # its connection is closed by the loop
        with leaked(machine):
            await machine.restart_manager()
            engine = await seen(machine, 1)
            assert (engine.answering, engine.busy, engine.silent_ms, engine.writes.refuses) == (True, True, 0, "MAXCLIENTS")
            with pytest.raises(EngineFull):
                await machine.engines.take_over(1)
            assert (await seen(machine, 1)).pid == pid
        engine = await seen(machine, 1, lambda engine: not engine.busy)
        assert (engine.role, engine.pid) == ("leader", pid)

    ValkeyMachine(tmp_path).play(scenario)


def test_an_engine_without_room_can_be_stopped(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine) -> None:
        await leading(machine, machine.spec(1, 1))
        with leaked(machine):
            await machine.engines.shut_down(1)
            end = await ended(machine, 1)
        assert (end.cause, end.exit_code) == (Cause.GRACEFUL_STOP, 0), end

    ValkeyMachine(tmp_path).play(scenario)


@pytest.mark.parametrize("memory", [0, 16 * MB, 64 * MB, 1 << 30, 1 << 36])
def test_limits_fit_one_another(memory: int) -> None:
    """Connections that do nothing never use up what clients may take; the largest command fits into what a follower may lag."""
    limits = client_limits(memory)
    command, machine = int(limits["proto-max-bulk-len"]), int(limits["maxmemory-clients"])
    assert int(limits["maxclients"]) * 10_000 <= max(machine, 2 * MB) * 0.6 + MB
    assert MB <= command <= COMMAND_MOST
    assert int(limits["client-query-buffer-limit"]) >= command + 1000
    words = limits["client-output-buffer-limit"].split()
    assert int(words[words.index("replica") + 1]) >= 2 * command


def test_an_engine_of_usual_size_takes_the_largest_value_that_valkey_takes() -> None:
    """An application that moves here from a bare Valkey keeps its values of several hundred megabytes."""
    assert int(client_limits(4 << 30)["proto-max-bulk-len"]) == 512 * MB
