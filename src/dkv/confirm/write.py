"""Confirm: the client: one connection to each leader that a view named, and what is known of each write."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from valkey import exceptions
from valkey.connection import Connection, SSLConnection
from valkey.crc import key_slot

from dkv.client import ManagerPool, parse_endpoint
from dkv.confirm.judge import FRESH, ConfirmError, Engine, Kind, Outcome, Role, acknowledged, judge, read_role
from dkv.confirm.views import Refresher, View

ASK_WITHIN = 1.0  # s a manager or an engine has to answer
PAUSE = 0.02  # s between two tries
PATIENCE = 0.3  # s one try waits for a fresh view
WAIT_MS = 60  # ms the engine may wait for its replicas; only a hint, it makes them acknowledge now

NOT_DONE = ("MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY")
"""Refusals after which a command was certainly not executed and may be sent again."""


class _NotDone(Exception):
    """The command was not executed; it may be tried again."""


_connection: Callable[..., Any] = Connection  # the library has no types
_tls_connection: Callable[..., Any] = SSLConnection


@dataclass
class _EngineConnection:
    """A connection to one engine that a view named before it was opened, at `opened_at`, and has to name after it."""

    engine: Engine
    connection: Any
    opened_at: float

    def ask(self, *commands: Sequence[Any]) -> list[Any]:
        """Send all at once and read every answer; an error reply stands in the list. Raises ValkeyError."""
        connection = self.connection
        connection.send_packed_command(connection.pack_commands(commands))
        return [self._answer() for _ in commands]

    def ended(self) -> bool:
        """Whether the engine closed the connection, or sent something unasked: a command sent now would have no answer."""
        try:
            return bool(self.connection.can_read(timeout=0))
        except (exceptions.ValkeyError, OSError):
            return True

    def _answer(self) -> Any:
        try:
            return self.connection.read_response()
        except exceptions.ResponseError as error:
            return error
        except exceptions.BusyLoadingError as error:
            raise _NotDone("the engine is loading") from error


class ConfirmingClient:
    """Writes to a store; the result of each write is whether it is confirmed. Threads take turns.

    `managers` are addresses of managers as the cmdlets take them, `store` is the store's name, `user` and `password` are those
    of one of its users: by default what the environment has (DKV_DATABASE_USER, DKV_DATABASE_PASSWORD); an open store needs none.
    A write that is sent again by itself is always one that an engine refused to execute; when no answer came the outcome is
    FAILED and the caller decides. Raises BadEndpoint.
    """

    def __init__(
        self,
        managers: Sequence[str],
        store: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        pool = ManagerPool(map(parse_endpoint, managers), timeout=ASK_WITHIN)
        self._clock = clock
        self._login = login_of(user, password)
        self._views = Refresher(pool, store, clock)
        self._connections: dict[str, _EngineConnection] = {}
        self._ended_at = float("-inf")  # when a line was last found ended: older views may name an engine that is gone
        self._lock = threading.Lock()

    def __enter__(self) -> ConfirmingClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and stop reading the view."""
        self._views.close()
        with self._lock:
            for endpoint in list(self._connections):
                self._drop(endpoint)

    def set(self, key: str | bytes, value: str | bytes, timeout: float = 5.0) -> Outcome:
        """SET, judged; takes at most about `timeout` seconds."""
        return self.execute("SET", key, value, timeout=timeout)

    def execute(self, *command: Any, key: str | bytes | None = None, timeout: float = 5.0) -> Outcome:
        """One command, judged. `key` names its slot when that is not its first argument."""
        if key is None and len(command) < 2:
            raise ConfirmError("A command without a key belongs to no slot; say key=.")
        slot = slot_of(command[1] if key is None else key)
        until = self._clock() + timeout
        why = "no leader is known"
        with self._lock:
            while self._clock() < until:
                try:
                    return self._once(command, slot, until)
                except _NotDone as refused:
                    why = str(refused)
                    self._views.hurry()
                    time.sleep(PAUSE)
        return Outcome(Kind.FAILED, f"not done within {timeout:g} s: {why}")

    def _once(self, command: Sequence[Any], slot: int, until: float) -> Outcome:
        view = self._view(until)
        group = view.group_of(slot)
        if group is None or group.leader is None:
            raise _NotDone(f"the group of slot {slot} has no leader")
        leader = self._connection_to(group.leader, view.authorities)
        try:
            reply, first, _, second = leader.ask(command, ("ROLE",), ("WAIT", len(group.required), WAIT_MS), ("ROLE",))
        except (exceptions.ValkeyError, OSError) as broken:
            self._drop(leader.engine.endpoint)
            return Outcome(Kind.FAILED, f"no answer came, it may or may not have been done: {broken}")
        except _NotDone:
            self._drop(leader.engine.endpoint)
            raise
        if isinstance(reply, exceptions.ResponseError):
            return self._refused(leader, reply)
        if isinstance(first, Exception) or isinstance(second, Exception):
            return Outcome(Kind.ACKNOWLEDGED, "the engine did not say what its replicas have", reply)
        outcome = self._settle(leader, slot, (read_role(first), read_role(second)), until)
        return Outcome(outcome.kind, outcome.reason, reply)

    def _view(self, until: float) -> View:
        """A fresh view, or an old one where managers are away: it is good for writing, not for confirming."""
        now = self._clock()
        since = max(now - FRESH, self._ended_at)
        view = self._views.newer_than(since, min(until, now + PATIENCE)) or self._views.latest()
        if not view.groups:
            raise _NotDone(f"no manager gave the state of the store ({self._views.problem})")
        return view

    def _refused(self, leader: _EngineConnection, error: exceptions.ResponseError) -> Outcome:
        text = str(error)
        if text.startswith(NOT_DONE) or isinstance(error, exceptions.ReadOnlyError):
            self._drop(leader.engine.endpoint)
            raise _NotDone(text)
        return Outcome(Kind.FAILED, text, error)

    def _settle(self, leader: _EngineConnection, slot: int, roles: tuple[Role, Role], until: float) -> Outcome:
        """Judge, and judge again with another ROLE or a newer view, until it is confirmed or cannot become so."""
        first, second = roles
        while True:
            view = self._views.latest()
            group = view.group_of(slot)
            if group is None:
                return acknowledged("the store's view does not name its group any more")
            # A view older than the connection does not show which run of the engine was reached.
            age = self._clock() - view.asked_at if view.asked_at >= leader.opened_at else float("inf")
            outcome = judge(first, second, group, age, leader.engine)
            over = group.leader is not None and group.leader != leader.engine
            if outcome.confirmed or over or not second.leads or self._clock() >= until:
                return outcome
            self._views.newer_than(max(leader.opened_at, self._clock() - FRESH / 2), min(until, self._clock() + PATIENCE))
            waiting = ("WAIT", max(len(second.replicas), len(group.required)), WAIT_MS)
            try:
                _, answer = leader.ask(waiting, ("ROLE",))
            except (exceptions.ValkeyError, OSError, _NotDone) as broken:
                self._drop(leader.engine.endpoint)
                return acknowledged(f"the connection to the leader broke after it acknowledged: {broken}")
            if isinstance(answer, Exception):
                return outcome
            second = read_role(answer)

    def _connection_to(self, engine: Engine, authorities: str) -> _EngineConnection:
        """The connection to this run of this engine, opened after a view named it."""
        known = self._connections.get(engine.endpoint)
        if known is not None and known.engine == engine:
            if not known.ended():
                return known
            self._drop(engine.endpoint)
            self._ended_at = self._clock()
            raise _NotDone(f"the leader {engine.endpoint} hung up")
        self._drop(engine.endpoint)
        at = parse_endpoint(engine.endpoint)
        within = {"socket_timeout": ASK_WITHIN, "socket_connect_timeout": ASK_WITHIN}
        tls = {"ssl_ca_data": authorities, "ssl_check_hostname": True} if authorities else {}
        kind = _tls_connection if authorities else _connection
        connection = kind(host=at.host, port=at.port, **within, **tls, **self._login)
        try:
            connection.connect()
        except exceptions.AuthenticationError as refused:
            raise _NotDone(f"the leader {engine.endpoint} does not let this client in: {refused}") from refused
        except (exceptions.ValkeyError, OSError) as broken:
            raise _NotDone(f"the leader {engine.endpoint} cannot be reached: {broken}") from broken
        self._connections[engine.endpoint] = _EngineConnection(engine, connection, self._clock())
        return self._connections[engine.endpoint]

    def _drop(self, endpoint: str) -> None:
        dropped = self._connections.pop(endpoint, None)
        if dropped is not None:
            dropped.connection.disconnect()


def login_of(user: str | None = None, password: str | None = None) -> dict[str, str]:
    """How a client of valkey-py is told a database user: the one given, else that of the environment; nothing for none."""
    environ = os.environ
    user, password = user or environ.get("DKV_DATABASE_USER"), password or environ.get("DKV_DATABASE_PASSWORD")
    return {"username": user, "password": password} if user and password else {}


def slot_of(key: str | bytes) -> int:
    """The hash slot of a key (CRC16; only what stands between braces counts)."""
    return int(key_slot(key.encode() if isinstance(key, str) else key))
