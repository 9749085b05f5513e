"""Every engine of a store is asked all the time who it knows, through everything that happens to one: no made-up node, ever."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dkv.client import Json
from tests.e2e.local_domain import PATIENCE, LocalDomain, local_domain, wait_for

QUESTIONS = ("CLUSTER SLOTS", "CLUSTER SHARDS", "CLUSTER NODES", "SET k v", "GET k")
ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
SLOTS = 16384


class Prober(threading.Thread):
    """Asks one address everything, each question on a connection of its own and once more on one that is kept."""

    def __init__(self, at: tuple[str, int], real: set[tuple[str, int]]) -> None:
        super().__init__(daemon=True)
        self.at, self.real = at, real
        self.ended = threading.Event()
        self.asked = 0
        self.covered = False  # whether it was told of every slot once
        self.wrong: list[str] = []
        self._kept: dict[str, socket.socket] = {}

    def run(self) -> None:
        while not self.ended.is_set():
            for question in QUESTIONS:
                self._judge(question, self._ask(question, kept=False))
                self._judge(question, self._ask(question, kept=True))
            time.sleep(0.002)
        for line in self._kept.values():
            line.close()

    def _ask(self, question: str, kept: bool) -> list[str]:
        """The lines of the answer; none when nobody answers."""
        line = self._kept.pop(question, None) if kept else None
        try:
            line = line or socket.create_connection(self.at, timeout=1.0)
            line.settimeout(20.0)
            line.sendall(f"{question}\r\nECHO the-end\r\n".encode())
            said = b""
            while not said.endswith(b"the-end\r\n"):
                block = line.recv(1 << 16)
                if not block:
                    raise ConnectionError
                said += block
        except OSError:
            if line is not None:
                line.close()
            return []
        if kept:
            self._kept[question] = line
        else:
            line.close()
        return said.decode().split("\r\n")[:-3]

    def _judge(self, question: str, said: list[str]) -> None:
        if not said:
            return
        self.asked += 1
        found = {"SLOTS": named_in_slots, "SHARDS": named_in_shards, "NODES": named_in_nodes}.get(question[8:])
        named = found(said) if found else named_by_error(said)
        if unreal := named - self.real:
            self.wrong.append(f"{self.at} answered {question} with {sorted(unreal)}: {said}")
        if question == "CLUSTER SLOTS":
            self._judge_coverage(said)

    def _judge_coverage(self, said: list[str]) -> None:
        covered = sum(last - first + 1 for first, last in ranges(said))
        if not covered or (self.covered and covered != SLOTS):
            self.wrong.append(f"{self.at} told of {covered} slots: {said}")
        self.covered = self.covered or covered == SLOTS


def ranges(said: list[str]) -> list[tuple[int, int]]:
    """CLUSTER SLOTS: the first and the last slot of each entry. Ports are integers too, and come after an address."""
    found = []
    for index, line in enumerate(said[:-1]):
        if line.startswith(":") and said[index + 1].startswith(":") and not said[index - 1][:1].isdigit():
            found.append((int(line[1:]), int(said[index + 1][1:])))
    return found


def named_in_slots(said: list[str]) -> set[tuple[str, int]]:
    return {(line, int(said[i + 1][1:])) for i, line in enumerate(said) if ADDRESS.fullmatch(line)}


def named_in_shards(said: list[str]) -> set[tuple[str, int]]:
    ports = [int(said[i + 1][1:]) for i, line in enumerate(said) if line == "port"]
    places = [said[i + 2] for i, line in enumerate(said) if line == "endpoint"]
    return set(zip(places, ports, strict=True))


def named_in_nodes(said: list[str]) -> set[tuple[str, int]]:
    places = [line.split()[1].partition("@")[0] for text in said[1:] for line in text.split("\n") if len(line.split()) > 7]
    return {(place.rpartition(":")[0], int(place.rpartition(":")[2] or 0)) for place in places}


def named_by_error(said: list[str]) -> set[tuple[str, int]]:
    moved = re.match(r"-(?:MOVED|ASK) \d+ (.*):(\d+)", said[0])
    return {(moved[1], int(moved[2]))} if moved else set()


@contextmanager
def probed(store: Json) -> Iterator[list[Prober]]:
    """Everything is asked while the block runs; then nothing wrong was said."""
    real = {(str(one["host"]), int(one["clientPort"])) for one in store["instances"]}
    probers = [Prober(at, real) for at in sorted(real)]
    for prober in probers:
        prober.start()
    try:
        yield probers
    finally:
        for prober in probers:
            prober.ended.set()
        for prober in probers:
            prober.join(PATIENCE)
    wrong = [text for prober in probers for text in prober.wrong]
    assert not wrong, wrong[:5]
    assert all(prober.asked > 100 and prober.covered for prober in probers)


def test_no_engine_ever_names_a_node_that_does_not_exist(tmp_path: Path) -> None:
    with local_domain(tmp_path, servers=2) as domain:
        domain.create("Told", "-InstanceCount", "2", "-ReplicationFactor", "2", start=False)
        with probed(domain.client.store("Told")) as probers:
            domain.do("Start-DkvStore", "Told")
            whole(domain, probers)
            for kill in (leaders, followers, everybody):
                for name in kill(domain):
                    os.kill(domain.pid("Told", name), signal.SIGKILL)
                wait_for("somebody is missing", lambda: not all_in_sync(domain), within=10)
                whole(domain, probers)
            domain.do("switchover", "database", "--db-name", "Told")
            domain.managers[1].kill()
            domain.managers[1].restart()
            os.kill(domain.pid("Told", leaders(domain)[0]), signal.SIGKILL)
            whole(domain, probers)
            domain.do("Stop-DkvStore", "Told")
            domain.do("Start-DkvStore", "Told")
            whole(domain, probers)


def leaders(domain: LocalDomain) -> list[str]:
    return [str(group["leader"]) for group in domain.client.store("Told")["groups"]]


def everybody(domain: LocalDomain) -> list[str]:
    return [str(one["instanceName"]) for one in domain.client.store("Told")["instances"]]


def followers(domain: LocalDomain) -> list[str]:
    return [name for name in everybody(domain) if name not in leaders(domain)]


def all_in_sync(domain: LocalDomain) -> bool:
    return all(group["serving"] and len(group["inSync"]) == 2 for group in domain.client.store("Told")["groups"])


def whole(domain: LocalDomain, probers: list[Prober]) -> None:
    """Every copy is in sync, and every engine tells of every slot."""
    wait_for("every copy in sync", lambda: all_in_sync(domain), within=60)
    wait_for("every engine tells of every slot", lambda: all(prober.covered for prober in probers))
