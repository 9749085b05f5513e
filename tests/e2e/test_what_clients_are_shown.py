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
        self.covered = False  # whether it was shown every slot once
        self.wrong: list[str] = []
        self._kept: dict[str, socket.socket] = {}

    def run(self) -> None:
        while not self.ended.is_set():
            for question in QUESTIONS:
                self._judge(question, self._ask(question, keep=False))
                self._judge(question, self._ask(question, keep=True))
            time.sleep(0.002)
        for line in self._kept.values():
            line.close()

    def _ask(self, question: str, keep: bool) -> list[str]:
        """The lines of the answer; none when nobody answers."""
        line = self._kept.pop(question, None) if keep else None
        try:
            line = line or socket.create_connection(self.at, timeout=1.0)
            line.settimeout(20.0)
            line.sendall(f"{question}\r\nECHO the-end\r\n".encode())
            reply = b""
            while not reply.endswith(b"the-end\r\n"):
                block = line.recv(1 << 16)
                if not block:
                    raise ConnectionError
                reply += block
        except OSError:
            if line is not None:
                line.close()
            return []
        if keep:
            self._kept[question] = line
        else:
            line.close()
        return reply.decode().split("\r\n")[:-3]

    def _judge(self, question: str, reply: list[str]) -> None:
        if not reply:
            return
        self.asked += 1
        names = {"SLOTS": named_in_slots, "SHARDS": named_in_shards, "NODES": named_in_nodes}.get(question[8:])
        named = names(reply) if names else named_by_error(reply)
        if unreal := named - self.real:
            self.wrong.append(f"{self.at} answered {question} with {sorted(unreal)}: {reply}")
        if question == "CLUSTER SLOTS":
            self._judge_coverage(reply)

    def _judge_coverage(self, reply: list[str]) -> None:
        covered = sum(last - first + 1 for first, last in ranges(reply))
        if not covered or (self.covered and covered != SLOTS):
            self.wrong.append(f"{self.at} showed {covered} slots: {reply}")
        self.covered = self.covered or covered == SLOTS


def ranges(reply: list[str]) -> list[tuple[int, int]]:
    """CLUSTER SLOTS: the first and the last slot of each entry. Ports are integers too, and come after an address."""
    pairs = []
    for index, line in enumerate(reply[:-1]):
        if line.startswith(":") and reply[index + 1].startswith(":") and not reply[index - 1][:1].isdigit():
            pairs.append((int(line[1:]), int(reply[index + 1][1:])))
    return pairs


def named_in_slots(reply: list[str]) -> set[tuple[str, int]]:
    return {(line, int(reply[i + 1][1:])) for i, line in enumerate(reply) if ADDRESS.fullmatch(line)}


def named_in_shards(reply: list[str]) -> set[tuple[str, int]]:
    ports = [int(reply[i + 1][1:]) for i, line in enumerate(reply) if line == "port"]
    places = [reply[i + 2] for i, line in enumerate(reply) if line == "endpoint"]
    return set(zip(places, ports, strict=True))


def named_in_nodes(reply: list[str]) -> set[tuple[str, int]]:
    places = [line.split()[1].partition("@")[0] for text in reply[1:] for line in text.split("\n") if len(line.split()) > 7]
    return {(place.rpartition(":")[0], int(place.rpartition(":")[2] or 0)) for place in places}


def named_by_error(reply: list[str]) -> set[tuple[str, int]]:
    moved = re.match(r"-(?:MOVED|ASK) \d+ (.*):(\d+)", reply[0])
    return {(moved[1], int(moved[2]))} if moved else set()


@contextmanager
def probed(store: Json) -> Iterator[list[Prober]]:
    """Everything is asked while the block runs; then nothing wrong was said."""
    real = {(str(instance["host"]), int(instance["clientPort"])) for instance in store["instances"]}
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
    # One instance is killed three times within a minute: with the default restart budget it would be held back.
    with local_domain(tmp_path, servers=2, settings={"DKV_RESTART_BUDGET": "100"}) as domain:
        domain.create("Shown", "-InstanceCount", "2", "-ReplicationFactor", "2", start=False)
        with probed(domain.client.store("Shown")) as probers:
            domain.do("Start-DkvStore", "Shown")
            whole(domain, probers)
            for kill in (leaders, followers, everybody):
                for name in kill(domain):
                    os.kill(domain.pid("Shown", name), signal.SIGKILL)
                wait_for("somebody is missing", lambda: not all_in_sync(domain))
                whole(domain, probers)
            domain.do("switchover", "database", "--db-name", "Shown")
            domain.managers[1].kill()
            domain.managers[1].restart()
            os.kill(domain.pid("Shown", leaders(domain)[0]), signal.SIGKILL)
            wait_for("somebody is missing", lambda: not all_in_sync(domain))
            whole(domain, probers)
            domain.do("Stop-DkvStore", "Shown")
            domain.do("Start-DkvStore", "Shown")
            whole(domain, probers)


def leaders(domain: LocalDomain) -> list[str]:
    return [str(group["leader"]) for group in domain.client.store("Shown")["groups"]]


def everybody(domain: LocalDomain) -> list[str]:
    return [str(instance["instanceName"]) for instance in domain.client.store("Shown")["instances"]]


def followers(domain: LocalDomain) -> list[str]:
    return [name for name in everybody(domain) if name not in leaders(domain)]


def all_in_sync(domain: LocalDomain) -> bool:
    return all(group["serving"] and len(group["inSync"]) == 2 for group in domain.client.store("Shown")["groups"])


def whole(domain: LocalDomain, probers: list[Prober]) -> None:
    """Every copy is in sync, and every engine shows every slot."""
    wait_for("every copy in sync", lambda: all_in_sync(domain))
    wait_for("every engine shows every slot", lambda: all(prober.covered for prober in probers))
