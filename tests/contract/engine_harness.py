"""The workbench of the engine contract: a test sees the `Engines` protocol and the few things a world can do to it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from dkv.access.certificates import Owner, new_authority, new_leaf, reachable
from dkv.engine.binary import find_binary
from dkv.engine.contract import (
    Cause,
    Engines,
    EngineSeen,
    EngineSpec,
    ExitSeen,
    GroupSlots,
    Identity,
    PeerNode,
    Position,
    RunOptions,
    Secrets,
    Survey,
    TeSpec,
    TlsFiles,
)
from dkv.engine.engines import ValkeyEngines
from dkv.engine.positions import incremental_files
from dkv.kernel import boot_id
from tests.contract.forged import heard, ping
from tests.contract.ports import free_port
from tests.contract.stranger import STRANGER as STRANGER
from tests.contract.stranger import Stranger
from tests.tls import client, now
from tests.tls_program import tls_program

LIMIT = 90.0  # seconds for one scenario; every wait inside returns early
SHARD = "5a" * 20
ALL_SLOTS = (GroupSlots("g0", SHARD, ((0, 16383),)),)


class Machine(Protocol):
    """What a world must offer besides its engines. The simulated world gets a class of the same shape."""

    engines: Engines

    def play(self, scenario: Callable[[Any], Awaitable[None]]) -> None: ...
    def directory(self, archive_id: int) -> str: ...
    def spec(self, start_id: int, archive_id: int, peers: tuple[PeerNode, ...] = ()) -> EngineSpec: ...
    async def pause(self, seconds: float) -> None: ...
    async def write(self, start_id: int, key: str, value: str, group: str = "") -> str: ...
    async def read(self, start_id: int, key: str, group: str = "") -> str: ...
    async def dbsize(self, start_id: int) -> int: ...
    async def wait(self, start_id: int, count: int, seconds: float) -> int: ...
    async def add_distinct(self, start_id: int, key: str) -> str: ...
    async def count_distinct(self, start_id: int, key: str) -> str: ...
    async def run_script(self, start_id: int, key: str, seconds: int = 4) -> Callable[[], Awaitable[None]]: ...
    def kill_from_outside(self, start_id: int, group: str = "") -> None: ...
    def freeze(self, start_id: int, group: str = "") -> None: ...
    def thaw(self, start_id: int, group: str = "") -> None: ...
    async def slow_down_resyncs(self, start_id: int) -> None: ...
    async def load_in_silence(self, start_id: int) -> None: ...
    async def break_link(self, start_id: int) -> None: ...
    async def restart_manager(self) -> None: ...
    def another_manager(self) -> Engines: ...
    async def restart_machine(self) -> None: ...
    def tear(self, directory: str) -> None: ...
    def swap(self, engine: str, other: str) -> None: ...
    def empty(self, directory: str, identity_too: bool) -> None: ...
    def lose_identity(self, directory: str) -> None: ...
    async def let_strangers_in(self, start_id: int) -> None: ...
    async def stranger_meets(self, start_id: int, epoch: int) -> None: ...
    async def forge_epoch(self, start_id: int, sender: EngineSpec, epoch: int) -> None: ...


def identity(archive_id: int) -> Identity:
    return Identity("domain-1", "orders", archive_id, "incarnation-1", "g0")


def node_id(archive_id: int) -> str:
    return f"{archive_id:040x}"


def peer(spec: EngineSpec, leader: EngineSeen | None = None) -> PeerNode:
    """That engine as others are told of it; with a glance at it, as their living leader."""
    return PeerNode(
        spec.node_id,
        spec.address,
        spec.client_port,
        spec.cluster_port,
        SHARD,
        spec.group,
        leads=leader is not None,
        epoch=leader.cluster.epoch if leader else 0,
    )


# -- short words for scenarios -------------------------------------------------------------------------------------------


async def until(machine: Machine, holds: Callable[[Survey], bool], within: float = 30.0) -> Survey:
    """Look until it holds."""
    waited = 0.0
    while True:
        survey = await machine.engines.survey()
        if holds(survey):
            return survey
        assert waited < within, f"never held; last seen: {survey}"
        await machine.pause(0.01)
        waited += 0.01


def of(survey: Survey, start_id: int, group: str = "") -> EngineSeen | None:
    """The engine of an archive, or of a memory-only process the one of a group."""
    memory = (engine for process in survey.memory for engine in process.engines)
    return next(
        (engine for engine in (*survey.engines, *memory) if engine.start_id == start_id and group in ("", engine.group)), None
    )


def memory_only(spec: EngineSpec, *more: EngineSpec) -> TeSpec:
    """A memory-only process with the engines of these specs, each in a directory below the first one's."""
    engines = tuple(
        replace(engine, start_id=spec.start_id, memory_only=True, directory=f"{spec.directory}/group-{engine.group}")
        for engine in (spec, *more)
    )
    return TeSpec(spec.start_id, spec.directory, engines)


def end(survey: Survey, start_id: int) -> ExitSeen | None:
    return next((seen for seen in survey.exits if seen.start_id == start_id), None)


async def seen(machine: Machine, start_id: int, holds: Callable[[EngineSeen], bool] = lambda _: True) -> EngineSeen:
    """The engine, as soon as it lives and that holds of it."""
    survey = await until(machine, lambda all: (engine := of(all, start_id)) is not None and holds(engine))
    engine = of(survey, start_id)
    assert engine is not None
    return engine


async def ended(machine: Machine, start_id: int) -> ExitSeen:
    """The engine's end, as soon as it is known and its process group is gone."""
    survey = await until(machine, lambda all: (engine := end(all, start_id)) is not None and engine.reaped)
    exit = end(survey, start_id)
    assert exit is not None
    return exit


def ready(engine: EngineSeen) -> bool:
    return engine.answering and not engine.loading and engine.cluster.state_ok


async def started(machine: Machine, spec: EngineSpec, fresh: bool = True) -> EngineSeen:
    """An engine that has loaded and waits for its role."""
    await machine.engines.prepare(spec.directory, spec.identity, fresh)
    await machine.engines.launch(spec)
    return await seen(machine, spec.start_id, ready)


async def leading(machine: Machine, spec: EngineSpec, fresh: bool = True, term: int = 1) -> EngineSeen:
    """A leader that accepts writes and whose marker is on its disk."""
    await started(machine, spec, fresh)
    await machine.engines.take_over(spec.start_id)
    await machine.engines.mark(spec.start_id, term, 1, "0a1b2c3d")
    await machine.engines.admit(spec.start_id)
    await machine.engines.unfence(spec.start_id)
    await machine.engines.take_clients(spec.start_id)
    engine_seen = await seen(machine, spec.start_id, lambda engine: engine.role == "leader" and engine.files.marker is not None)
    await machine.engines.confirm_initialised(spec.directory)
    return engine_seen


async def following(machine: Machine, spec: EngineSpec, leader: EngineSpec, fresh: bool = True) -> EngineSeen:
    """A follower whose link is up."""
    leads = await seen(machine, leader.start_id)
    known = peer(leader, leads)
    await started(machine, replace(spec, peers=(known,)), fresh)
    await machine.engines.meet(leader.start_id, peer(spec))
    await machine.engines.replicate(spec.start_id, known)
    await seen(machine, spec.start_id, lambda engine: engine.replication.link_up and not engine.replication.resyncing)
    await machine.engines.take_clients(spec.start_id)
    return await seen(machine, spec.start_id, lambda engine: engine.takes_clients)


async def known_as_follower(machine: Machine, leader: EngineSpec, follower: EngineSpec) -> None:
    """Return once the leader was told on the cluster bus that this engine follows it, as a handover waits for too.

    A link does not say so. Valkey 9.1.2 takes the TAKEOVER of an engine that it only shook hands with for another shard's: it
    stays a primary, without slots, for ever, and deletes its keys.
    """
    await seen(
        machine,
        leader.start_id,
        lambda engine: any((node.node_id, node.follows) == (follower.node_id, leader.node_id) for node in engine.cluster.nodes),
    )


def has_marker(term: int, sequence: int) -> Callable[[EngineSeen], bool]:
    def holds(engine: EngineSeen) -> bool:
        marker: Position | None = engine.files.marker
        return marker is not None and (marker.term, marker.sequence) == (term, sequence)

    return holds


# -- the real world ----------------------------------------------------------------------------------------------------


class ValkeyMachine:
    """Real Valkey on loopback ports, in a directory of the test."""

    def __init__(self, path: Path, **machine: Any) -> None:
        self._path = path
        self._settings = machine
        self._boot = boot_id()
        self._ports: dict[int, tuple[int, int]] = {}
        self._specs: dict[int, EngineSpec] = {}
        self._stranger: Stranger | None = None
        self.engines = self._open()

    def _open(self) -> ValkeyEngines:
        return ValkeyEngines(self._path / "manager", boot_id=self._boot, **self._settings)

    def play(self, scenario: Callable[[Any], Awaitable[None]]) -> None:
        asyncio.run(self._play(scenario))

    async def _play(self, scenario: Callable[[Any], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(LIMIT):
                await scenario(self)
        finally:
            await self._clean_up()

    async def _clean_up(self) -> None:
        """No process may outlive its test, whatever the scenario did to boot ids and run directories."""
        if self._stranger is not None:
            await self._stranger.end()
        for boot in {self._boot, boot_id()}:
            self._boot = boot
            for again in (self.another_manager, self._open):
                self.engines.close()
                self.engines = again()
                await self._end_all()
        self.engines.close()

    async def _end_all(self) -> None:
        survey = await self.engines.survey()
        for running in (*survey.engines, *survey.memory):
            self.thaw(running.start_id)
            await self.engines.kill(running.start_id, Cause.OPERATOR_KILL)
        await until(self, lambda survey: not (survey.engines or survey.memory) and all(exit.reaped for exit in survey.exits))

    def directory(self, archive_id: int) -> str:
        return str(self._path / f"archive-{archive_id}")

    def spec(self, start_id: int, archive_id: int, peers: tuple[PeerNode, ...] = ()) -> EngineSpec:
        if archive_id not in self._ports:
            self._ports[archive_id] = (free_port(), free_port())
        client, cluster = self._ports[archive_id]
        return EngineSpec(
            start_id=start_id,
            directory=self.directory(archive_id),
            identity=identity(archive_id),
            node_id=node_id(archive_id),
            group="g0",
            address="127.0.0.1",
            client_port=client,
            cluster_port=cluster,
            secrets=Secrets("s3cret", hash_seed="5eed" * 16),
            peers=peers,
            groups=ALL_SLOTS,
            current_epoch=100 * start_id,
            options=RunOptions(64 << 20),
        )

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def _record(self, start_id: int, group: str = "") -> Any:
        known = self.engines._known(start_id)
        return next((part.run.record for part in known.parts if group in ("", part.run.record.group)), known.run.record)

    def pid(self, start_id: int, group: str = "") -> int:
        known = self.engines._known(start_id)
        if group:
            return next(pid for pid in living() if works_in(pid, self._record(start_id, group).directory))
        assert known.run.born is not None
        return known.run.born.pid

    async def connect(self, record: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As a client of that engine does it. Raises OSError."""
        return await asyncio.open_connection(record.address, record.client_port)

    async def say(self, start_id: int, *words: str, group: str = "", readonly: bool = True) -> str:
        """What a client of that engine is answered, one line or value; it may have said that a follower's answer will do."""
        record = self._record(start_id, group)
        try:
            reader, writer = await self.connect(record)
        except OSError as error:
            return f"-{error}"
        try:
            request = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            writer.write((b"READONLY\r\n" if readonly else b"READWRITE\r\n") + request.encode())
            await reader.readline()
            line = (await reader.readline()).decode().strip()
            if line.startswith("$") and line != "$-1":
                return (await reader.readexactly(int(line[1:]) + 2))[:-2].decode()
            return line
        except (OSError, asyncio.IncompleteReadError) as error:
            return f"-{error}"
        finally:
            writer.close()

    async def write(self, start_id: int, key: str, value: str, group: str = "") -> str:
        return await self.say(start_id, "SET", key, value, group=group)

    async def run_script(self, start_id: int, key: str, seconds: int = 4) -> Callable[[], Awaitable[None]]:
        """Sets a key and goes on until its engine answers BUSY, and until it leads no more or that time is over; returns once it
        answers BUSY, with a way to await its end.
        """
        await self.engines._running(start_id).valkey.set_options({"busy-reply-threshold": "100"})
        loop = (
            "server.call('SET', KEYS[1], 1) local t = server.call('TIME')[1] + ARGV[1] "
            "while server.call('TIME')[1] + 0 < t and server.call('INFO', 'replication'):find('role:master') do "
            "for _ = 1, 20000 do end end"  # an engine hears of others only each 100,000 instructions of a script
        )
        asking = asyncio.create_task(self.say(start_id, "EVAL", loop, "1", key, str(seconds)))
        await seen(self, start_id, lambda engine: engine.busy)

        async def ended() -> None:
            await asking

        return ended

    async def read(self, start_id: int, key: str, group: str = "") -> str:
        return await self.say(start_id, "GET", key, group=group)

    async def dbsize(self, start_id: int) -> int:
        """Of the engine itself, whether or not it takes clients."""
        (size,) = await self.engines._known(start_id).valkey.do(("DBSIZE",))
        return int(size)

    async def wait(self, start_id: int, count: int, seconds: float) -> int:
        """WAIT on the connection that wrote last, because it counts for its own writes only."""
        record = self._record(start_id)
        reader, writer = await self.connect(record)
        try:
            writer.write(f"SET waited 1\r\nWAIT {count} {int(seconds * 1000)}\r\n".encode())
            assert (await reader.readline()) == b"+OK\r\n"
            return int((await reader.readline()).strip().lstrip(b":"))
        finally:
            writer.close()

    async def add_distinct(self, start_id: int, key: str) -> str:
        return await self.say(start_id, "PFADD", key, "a")

    async def count_distinct(self, start_id: int, key: str) -> str:
        return await self.say(start_id, "PFCOUNT", key)

    def kill_from_outside(self, start_id: int, group: str = "") -> None:
        os.kill(self.pid(start_id, group), signal.SIGKILL)

    def freeze(self, start_id: int, group: str = "") -> None:
        os.kill(self.pid(start_id, group), signal.SIGSTOP)

    def thaw(self, start_id: int, group: str = "") -> None:
        try:
            os.kill(self.pid(start_id, group), signal.SIGCONT)
        except ProcessLookupError:
            pass

    async def slow_down_resyncs(self, start_id: int) -> None:
        """From now on a snapshot of this engine takes 10 ms a key."""
        await self.engines._known(start_id).valkey.do(("CONFIG", "SET", "rdb-key-save-delay", 10_000))

    async def load_in_silence(self, start_id: int) -> None:
        """From now on this archive's engines load for more than a second, in fewer commands than they report progress after."""
        valkey = self.engines._known(start_id).valkey
        members = "for i = 1, 60000, 1000 do local w = {} for k = i, i + 999 do w[#w + 1] = k; w[#w + 1] = 'member-' .. k end "
        await valkey.do(("EVAL", members + "server.call('ZADD', KEYS[1], unpack(w)) end", 1, "{z}"), timeout=30)
        began = time.monotonic()
        for _ in range(500):
            await valkey.do(("ZUNIONSTORE", "{z}again", 1, "{z}"), timeout=30)
            if time.monotonic() - began > 2:
                return

    async def break_link(self, start_id: int) -> None:
        """Cut every follower's link, as an overflow or a dropped connection does."""
        await self.engines._known(start_id).valkey.do(("CLIENT", "KILL", "TYPE", "replica"))

    async def restart_manager(self) -> None:
        self.engines.close()
        self.engines = self._open()

    def another_manager(self) -> ValkeyEngines:
        """A second one on the same disks, which knows nothing of the first one's engines."""
        return ValkeyEngines(self._path / "another manager", boot_id=self._boot, lock_wait=0.2)

    def tear(self, directory: str) -> None:
        """Cut the last record in two, as a kill in the middle of a write does."""
        file = last_file(directory)
        os.truncate(file, file.stat().st_size - 3)

    def swap(self, engine: str, other: str) -> None:
        os.rename(engine, f"{engine}.away")
        os.rename(other, engine)
        os.rename(f"{engine}.away", other)

    def empty(self, directory: str, identity_too: bool) -> None:
        shutil.rmtree(f"{directory}/appendonlydir")
        if identity_too:
            self.lose_identity(directory)

    def lose_identity(self, directory: str) -> None:
        os.unlink(f"{directory}/identity.json")

    async def let_strangers_in(self, start_id: int) -> None:
        """As an engine is before its manager's first glance at it, or for a moment after an order to meet somebody."""
        await self.engines._known(start_id).valkey.do(("DEBUG", "DROP-CLUSTER-PACKET-FILTER", -1))

    async def stranger_meets(self, start_id: int, epoch: int) -> None:
        """Somebody's own server claims every slot, and meets that engine. It ends with the test."""
        record = self._record(start_id)
        self._stranger = await Stranger.start(self._path / "stranger", find_binary(), epoch)
        cluster_port = next(cluster for client, cluster in self._ports.values() if client == record.client_port)
        await self._stranger.meet(record.address, record.client_port, cluster_port)

    async def forge_epoch(self, start_id: int, sender: EngineSpec, epoch: int) -> None:
        """One packet in the name of a node that leads, from whoever reaches the cluster port."""
        record = self._record(start_id)
        cluster_port = next(cluster for client, cluster in self._ports.values() if client == record.client_port)
        packet = ping(sender.node_id, sender.address, sender.client_port, sender.cluster_port, epoch=epoch, config_epoch=0)
        assert await asyncio.to_thread(heard, record.address, cluster_port, packet)

    async def restart_machine(self) -> None:
        """Everything dies at once, parents too, and the next boot has another name."""
        survey = await self.engines.survey()
        for running in (*survey.engines, *survey.memory):
            os.kill(parent_of(running.pid), signal.SIGKILL)
            os.killpg(running.pid, signal.SIGKILL)
        await self.begin_another_boot()

    async def begin_another_boot(self) -> None:
        """A manager finds run directories of an earlier boot; whoever has their process numbers now is a stranger."""
        self._boot = "the boot after"
        await self.restart_manager()


def last_file(directory: str) -> Path:
    """The incremental file that an archive's engine appends to."""
    return Path(directory, "appendonlydir", incremental_files(directory)[-1])


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def living() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def works_in(pid: int, directory: str) -> bool:
    """Whether a process has that working directory."""
    try:
        return os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(directory)
    except OSError:
        return False


class EncryptedMachine(ValkeyMachine):
    """The same, with engines that speak TLS to their clients, in replication and on the cluster bus."""

    def __init__(self, path: Path, **machine: Any) -> None:
        super().__init__(path, binary=tls_program(), **machine)
        self._authority = new_authority(OWNER, now())

    def spec(self, start_id: int, archive_id: int, peers: tuple[PeerNode, ...] = ()) -> EngineSpec:
        authority = self._authority.certificate
        leaf = new_leaf(self._authority, OWNER, reachable("s1", "127.0.0.1"), now())
        files = TlsFiles("trust", f"{start_id:02X}", authority, leaf.certificate, leaf.key)
        return replace(super().spec(start_id, archive_id, peers), tls=True, certificate=files)

    async def connect(self, record: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = client(self._authority.certificate)
        return await asyncio.open_connection(record.address, record.client_port, ssl=context)


OWNER = Owner("domain-1", "incarnation-1")
