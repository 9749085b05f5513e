"""What connections that hold something on the server see when leadership moves: docs/clients.md says it, this shows it.

Plain sockets, one for each session, so that no library hides what the server says.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from tests.e2e.local_domain import PATIENCE, LocalDomain, local_domain, wait_for

STORE = "Sessions"
CLOSED = "(closed)"


class Session:
    """One connection of a client: words out, lines in."""

    def __init__(self, at: tuple[str, int]) -> None:
        self._socket = socket.create_connection(at, timeout=5)
        self._said = b""

    def close(self) -> None:
        self._socket.close()

    def send(self, *words: str) -> None:
        text = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        try:
            self._socket.sendall(text.encode())
        except OSError:
            pass  # the next read says so

    def received(self, within: float = 0.0) -> str:
        """All that came within that time and was not returned yet, on one line; the end of the connection too."""
        ends = time.monotonic() + within
        closed = False
        while not closed:
            self._socket.settimeout(max(0.05, ends - time.monotonic()))
            try:
                block = self._socket.recv(1 << 16)
                closed, self._said = not block, self._said + block
            except TimeoutError:
                break
            except OSError:
                closed = True
            if self._said and time.monotonic() > ends:
                break
            if self._said and within:
                ends = min(ends, time.monotonic() + 0.1)
        lines = [line for line in self._said.decode().split("\r\n") if line and line[0] not in "*$>%~"]
        self._said = b""
        return " ".join([*lines, *([CLOSED] if closed else [])])

    def ask(self, *words: str) -> str:
        self.send(*words)
        return self.received(5.0)


@dataclass
class Sessions:
    """One of each kind, at the leader; and subscribers at the follower."""

    blocked: Session
    watching: Session
    queueing: Session
    subscribed: Session
    subscribed_at_follower: Session
    subscribed_to_shard: Session
    subscribed_to_shard_at_follower: Session
    tracking: Session


def place(domain: LocalDomain, name: str) -> tuple[str, int]:
    instance = domain.instance(STORE, name)
    return str(instance["host"]), int(instance["clientPort"])


def both(domain: LocalDomain) -> tuple[tuple[str, int], tuple[str, int]]:
    """The leader's place, and the follower's."""
    leader = str(domain.group(STORE)["leader"])
    other = next(
        str(instance["instanceName"])
        for instance in domain.client.store(STORE)["instances"]
        if instance["instanceName"] != leader
    )
    return place(domain, leader), place(domain, other)


@contextmanager
def sessions(domain: LocalDomain) -> Iterator[Sessions]:
    leader, follower = both(domain)
    with ExitStack() as stack:

        def session(at: tuple[str, int]) -> Session:
            session = Session(at)
            stack.callback(session.close)
            return session

        at_leader = [session(leader) for _ in range(6)]
        at_follower = [session(follower) for _ in range(2)]
        blocked, watching, queueing, subscribed, to_shard, tracking = at_leader
        opened = Sessions(blocked, watching, queueing, subscribed, at_follower[0], to_shard, at_follower[1], tracking)
        assert tracking.ask("SET", "tracked", "1") == "+OK"
        blocked.send("BLPOP", "empty", "0")
        assert watching.ask("WATCH", "watched") == "+OK"
        assert queueing.ask("MULTI") == "+OK"
        assert queueing.ask("SET", "queued", "1") == "+QUEUED"
        for subscriber in (subscribed, at_follower[0]):
            assert subscriber.ask("SUBSCRIBE", "news") == "subscribe news :1"
        assert to_shard.ask("SSUBSCRIBE", "shard") == "ssubscribe shard :1"
        assert at_follower[1].ask("SSUBSCRIBE", "shard") == "ssubscribe shard :1"
        assert "server" in tracking.ask("HELLO", "3")
        assert tracking.ask("CLIENT", "TRACKING", "ON") == "+OK"
        assert tracking.ask("GET", "tracked") == "1"
        yield opened


def write(domain: LocalDomain, *words: str) -> str:
    """By a new connection to whoever leads, once somebody does."""

    def once() -> str | None:
        if not domain.group(STORE)["serving"]:
            return None
        with ExitStack() as stack:
            session = Session(both(domain)[0])
            stack.callback(session.close)
            reply = session.ask(*words)
            return reply if reply and reply[0] != "-" and CLOSED not in reply else None

    reply = wait_for(f"{words} done", once)
    assert reply is not None
    return reply


def whole(domain: LocalDomain) -> None:
    wait_for("the store is whole", lambda: domain.group(STORE)["serving"] and len(domain.group(STORE)["inSync"]) == 2)


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("sessions"), servers=2) as running_domain:
        running_domain.create(STORE, "-ReplicationFactor", "2")
        yield running_domain


def test_a_switchover_ends_no_connection(domain: LocalDomain) -> None:
    """What waits or queues is answered MOVED, which libraries follow; subscriptions stay, but for those of a shard."""
    whole(domain)
    with sessions(domain) as held:
        _, (host, port) = both(domain)
        domain.do("switchover", "database", "--db-name", STORE)
        there = rf" \d+ {re.escape(host)}:{port}"
        assert re.fullmatch(f"-MOVED{there}", held.blocked.received(PATIENCE))
        assert held.watching.ask("MULTI") == "+OK"
        assert re.fullmatch(f"-MOVED{there}", held.watching.ask("SET", "watched", "2"))
        assert held.watching.ask("EXEC").startswith("-EXECABORT")
        assert re.fullmatch(f"-MOVED{there}", held.queueing.ask("EXEC"))
        assert write(domain, "SET", "tracked", "2") == "+OK"
        assert held.tracking.received(PATIENCE) == "invalidate tracked"
        for session in (held.subscribed_to_shard, held.subscribed_to_shard_at_follower):
            assert session.received(PATIENCE) == "sunsubscribe shard :0", "it has to subscribe again"
        write(domain, "PUBLISH", "news", "first")
        for session in (held.subscribed, held.subscribed_at_follower):
            assert session.received(PATIENCE) == "message news first"


def test_a_killed_leader_takes_its_connections_with_it_and_no_others(domain: LocalDomain) -> None:
    whole(domain)
    with sessions(domain) as held:
        os.kill(domain.pid(STORE, str(domain.group(STORE)["leader"])), signal.SIGKILL)
        for session in (held.blocked, held.watching, held.queueing, held.tracking, held.subscribed, held.subscribed_to_shard):
            assert session.received(PATIENCE) == CLOSED
        wait_for("the death is known", lambda: not domain.group(STORE)["serving"] or len(domain.group(STORE)["inSync"]) < 2)
        whole(domain)
        write(domain, "PUBLISH", "news", "first")
        write(domain, "SPUBLISH", "shard", "second")
        assert held.subscribed_at_follower.received(PATIENCE) == "message news first"
        assert held.subscribed_to_shard_at_follower.received(PATIENCE) == "smessage shard second"
