"""Bench kit: Valkey servers started by hand from the same binary, as the peer beside the product."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from dkv.engine.binary import find_binary
from dkv.playground.addresses import bindable
from kit.resp import SLOTS, Line, Refused, info
from kit.stage import PATIENT, Stage, until

HOST = "127.0.0.1"
FIRST_PORT = 21000
BUS = 10000  # Valkey's own distance of the bus port
DURABLE = ("appendonly yes", "appendfsync always")


def free_ports(count: int, start: int = FIRST_PORT) -> list[int]:
    """Client ports that are free together with their bus ports."""
    free = (port for port in range(start, 50000) if bindable(HOST, port) and bindable(HOST, port + BUS))
    return [next(free) for _ in range(count)]


class Node:
    """One bare Valkey server with a directory of its own."""

    def __init__(
        self,
        stage: Stage,
        directory: Path,
        port: int,
        settings: Sequence[str],
        *,
        program: str = "",
        plain: int = 0,
        host: str = HOST,
        inside: Sequence[str] = (),
    ) -> None:
        """`program` instead of the one that dkv finds; with a port for clients without TLS the other one has it. `inside` is
        what its command begins with where it runs on a host of a network."""
        self._stage, self._program, self._inside = stage, program or find_binary(), inside
        self.directory = directory
        self.port = port
        self.endpoint = f"{host}:{port}"
        directory.mkdir(parents=True)
        self.plain = f"{host}:{plain or port}"
        ports = [f"port {plain}", f"tls-port {port}"] if plain else [f"port {port}"]
        lines = [f"bind {host}", *ports, f"dir {directory}", f"cluster-port {port + BUS}", *settings]
        (directory / "valkey.conf").write_text("\n".join(lines) + "\n")
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again; does not wait."""
        with (self.directory / "log").open("ab") as log:
            self.child = subprocess.Popen(
                [*self._inside, self._program, str(self.directory / "valkey.conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._stage.adopt(self.child.pid)

    def answers(self) -> bool | None:
        """True once it answers PING; None before."""
        try:
            with Line(self.plain, 0.5) as line:
                return bool(line.ask("PING") == "PONG") or None
        except (OSError, Refused):
            return None

    def kill(self) -> float:
        """SIGKILL it; the moment in monotonic seconds."""
        assert self.child is not None
        at = time.monotonic()
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        return at


class Peer:
    """Several bare servers. Use as a context: at its end none of them runs."""

    def __init__(
        self, stage: Stage, name: str, count: int, settings: Sequence[str] = (), program: str = "", *, tls: bool = False
    ) -> None:
        """With `tls` each has a port with it beside one without, for its administration."""
        base = ["protected-mode no", "cluster-enabled yes", "cluster-config-file nodes.conf", *settings]
        self.directory = stage.directory / name
        ports = free_ports(2 * count)
        spare = ports[count:] if tls else [0] * count
        self.nodes = [
            Node(stage, self.directory / str(port), port, base, program=program, plain=plain)
            for port, plain in zip(ports[:count], spare, strict=True)
        ]

    def __enter__(self) -> Peer:
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            until(node.answers, PATIENT, f"{node.endpoint} to answer", 0.002)
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            if node.child and node.child.poll() is None:
                node.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def endpoints(self) -> list[str]:
        """Where clients connect."""
        return [node.endpoint for node in self.nodes]

    def create_by_redis_cli(self) -> None:
        """`redis-cli --cluster create` with one replica for each primary. Raises RuntimeError."""
        command = ["redis-cli", "--cluster", "create", *self.endpoints, "--cluster-replicas", "1", "--cluster-yes"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise RuntimeError(f"redis-cli --cluster create failed: {done.stdout[-500:]}{done.stderr}")

    def form_one_group(self) -> None:
        """The first node takes all slots, the others follow it; waits until they do."""
        first, others = self.nodes[0], self.nodes[1:]
        with Line(first.endpoint) as line:
            line.ask("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
            me = line.ask("CLUSTER", "MYID")
        for node in others:
            with Line(node.endpoint) as line:
                line.ask("CLUSTER", "MEET", HOST, first.port)
                until(lambda to=line: _replicates(to, me), PATIENT, "the follower to know its primary", 0.05)
        until(self.linked, PATIENT, "the bare servers to be in sync", 0.05)

    def linked(self) -> bool | None:
        """True once the cluster is ok everywhere and every replica's link is up; None before."""
        try:
            for endpoint in self.endpoints:
                replication = info(endpoint, "replication")
                if replication["role"] == "slave" and replication["master_link_status"] != "up":
                    return None
                with Line(endpoint) as line:
                    if b"cluster_state:ok" not in line.ask("CLUSTER", "INFO"):
                        return None
        except (OSError, Refused, KeyError):
            return None
        return True

    def replicas(self) -> int:
        """How many servers follow another one now."""
        return sum(info(endpoint, "replication").get("role") == "slave" for endpoint in self.endpoints)

    def primary_of(self, slot: int) -> Node | None:
        """The living primary of a slot, if it has a linked replica; None otherwise."""
        for node in self.nodes:
            try:
                with Line(node.endpoint) as line:
                    ranges = line.ask("CLUSTER", "SLOTS")
                range_of_slot = next(r for r in ranges if r[0] <= slot <= r[1])
                if range_of_slot[2][1] != node.port or info(node.endpoint, "replication").get("connected_slaves", "0") == "0":
                    continue
            except (OSError, Refused, StopIteration):
                continue
            return node
        return None


def _replicates(line: Line, primary: bytes) -> bool | None:
    try:
        line.ask("CLUSTER", "REPLICATE", primary)
    except Refused:
        return None
    return True
