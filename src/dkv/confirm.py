"""The confirm room: confirmed writes over valkey-py, judged by name (design section 5, "Confirmed is judged by name").

A confirmed write is on the disk of every member of the in-sync set. WAIT cannot say that, because it counts whoever
is attached (safety-model.md V1, V2), so a write is sent as `write, ROLE, WAIT, ROLE` on one connection to the engine
that the store's view names as leader, and `judge`, a pure function, compares names and offsets with a fresh view.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from valkey import exceptions
from valkey.connection import Connection
from valkey.crc import key_slot

from dkv.client import ClientTrouble, Endpoint, Json, ManagerClient, parse_endpoint

FRESH = 0.5
"""Seconds a view may be old when a write is confirmed with it."""
REFRESH_EVERY = 0.15      # s between two reads of the view while somebody writes
HURRY = 0.04              # s between two reads while a write waits for the next one
IDLE_AFTER = 3.0          # s without a write after which nobody reads the view any more
ASK_WITHIN = 1.0          # s a manager has to answer before another one is asked
PAUSE = 0.02              # s between two tries
PATIENCE = 0.3            # s one try waits for a fresh view
WAIT_MS = 60              # ms the engine may wait for its replicas; only a hint, it makes them acknowledge now


class ConfirmTrouble(Exception):
    """Root of everything this room raises: a command that cannot be routed to one slot."""


class Kind(StrEnum):
    """What is known of a write when its time is over."""

    CONFIRMED = "confirmed"         # on the disk of every member of the in-sync set
    ACKNOWLEDGED = "acknowledged"   # in the leader's archive; nothing is known of the others
    FAILED = "failed"               # refused, or no answer came: it may or may not have been done


@dataclass(frozen=True)
class Outcome:
    """How a write ended: what is known, the engine's reply, and why it is not more than that."""

    kind: Kind
    reason: str = ""
    reply: Any = None

    @property
    def confirmed(self) -> bool:
        """Whether it survives the loss of all machines of the in-sync set but one."""
        return self.kind is Kind.CONFIRMED


# Judging: pure -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Engine:
    """One run of one engine as leader: nothing else may ever be meant by the same three facts."""

    endpoint: str
    term: int
    start_id: int


@dataclass(frozen=True)
class GroupView:
    """One storage group as a view of the store told it. `required` are the addresses that must have a write."""

    slots: tuple[tuple[int, int], ...]
    leader: Engine | None
    in_sync: int
    required: tuple[str, ...]
    min_in_sync: int


@dataclass(frozen=True)
class Role:
    """An answer to ROLE. `replicas` tells how far each address acknowledged; offsets are bytes of one history."""

    leads: bool
    offset: int
    replicas: Mapping[str, int]


def judge(first: Role, second: Role, view: GroupView, age: float, written_to: Engine) -> Outcome:
    """Whether a write is confirmed: `first` was read after it on its connection to `written_to`, `second` later.

    `age` is in seconds since the view was asked for. Whatever is not known is not confirmed.
    """
    if age >= FRESH:
        return _only(f"no manager told within {FRESH:g} s how the store is")
    if view.leader != written_to:
        return _only(f"{written_to.endpoint} is not the leader of the newest term any more")
    if not (first.leads and second.leads):
        return _only(f"{written_to.endpoint} does not lead any more")
    if view.in_sync < view.min_in_sync:
        return _only(f"{view.in_sync} of {view.min_in_sync} copies are in sync")
    late = [address for address in view.required if second.replicas.get(address, -1) < first.offset]
    if late:
        return _only(f"not yet on the disk of {', '.join(late)}")
    return Outcome(Kind.CONFIRMED)


def _only(reason: str) -> Outcome:
    return Outcome(Kind.ACKNOWLEDGED, reason)


def read_role(answer: Any) -> Role:
    """ROLE's answer. Of two connections from one address the one that is less far counts."""
    if not isinstance(answer, list) or answer[0] not in (b"master", "master"):
        return Role(False, 0, {})
    replicas: dict[str, int] = {}
    for host, port, offset in answer[2]:
        address = str(Endpoint(host.decode() if isinstance(host, bytes) else host, int(port)))
        replicas[address] = min(replicas.get(address, int(offset)), int(offset))
    return Role(True, int(answer[1]), replicas)


def read_groups(store: Json) -> tuple[GroupView, ...]:
    """The groups of a store as the managers' API tells them."""
    return tuple(_group(group, int(store["minInSync"])) for group in store["groups"])


def _group(group: Json, min_in_sync: int) -> GroupView:
    leader = None
    if group["open"] and group["serving"] and group["leaderEndpoint"]:
        leader = Engine(str(group["leaderEndpoint"]), int(group["term"]), int(group["leaderStartId"]))
    slots = tuple((int(low), int(high)) for low, high in group["slots"])
    return GroupView(slots, leader, len(group["inSync"]), tuple(group["requiredEndpoints"]), min_in_sync)


def slot_of(key: str | bytes) -> int:
    """The hash slot of a key (CRC16; only what stands between braces counts)."""
    return int(key_slot(key.encode() if isinstance(key, str) else key))


# The view, kept fresh ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """A store as one linearizable read told it; `asked_at` (monotonic seconds) is when the read began."""

    groups: tuple[GroupView, ...]
    asked_at: float

    def group_of(self, slot: int) -> GroupView | None:
        """The group that owns a slot."""
        return next((g for g in self.groups if any(low <= slot <= high for low, high in g.slots)), None)


class Refresher:
    """Reads the store again and again in a thread of its own while it is wanted, from whichever manager answers."""

    def __init__(self, clients: Sequence[ManagerClient], store: str, clock: Callable[[], float]) -> None:
        self._clients = list(clients)
        self._store = store
        self._clock = clock
        self._view = View((), float("-inf"))
        self._wanted_at = float("-inf")
        self._closed = self._hurried = False
        self._told = threading.Condition()
        self.trouble = "no manager was asked yet"
        self._thread = threading.Thread(target=self._run, name="dkv-view", daemon=True)
        self._thread.start()

    def latest(self) -> View:
        """The newest view there is, fresh or not."""
        with self._told:
            self._want()
            return self._view

    def newer_than(self, moment: float, until: float) -> View | None:
        """A view asked for at or after `moment`; None if none came until `until`."""
        with self._told:
            self._want()
            if self._view.asked_at < moment:
                self.hurry()
                self._told.wait_for(lambda: self._view.asked_at >= moment or self._closed, until - self._clock())
            return self._view if self._view.asked_at >= moment else None

    def hurry(self) -> None:
        """Read again soon: somebody waits for it, or what the newest view says did not hold."""
        with self._told:
            self._hurried = True
            self._told.notify_all()

    def close(self) -> None:
        """End the thread."""
        with self._told:
            self._closed = True
            self._told.notify_all()
        self._thread.join()

    def _want(self) -> None:
        if self._clock() - self._wanted_at > IDLE_AFTER:
            self._told.notify_all()
        self._wanted_at = self._clock()

    def _run(self) -> None:
        while True:
            with self._told:
                self._hurried = False
                while not self._closed and self._clock() - self._wanted_at > IDLE_AFTER:
                    self._told.wait()
                if self._closed:
                    return
            if self._read():
                time.sleep(HURRY)
                with self._told:
                    self._told.wait_for(lambda: self._hurried or self._closed, REFRESH_EVERY - HURRY)
            else:
                self._clients.append(self._clients.pop(0))  # the next one may answer
                time.sleep(PAUSE)

    def _read(self) -> bool:
        asked_at = self._clock()
        try:
            view = View(read_groups(self._clients[0].store(self._store)), asked_at)
        except (ClientTrouble, KeyError, TypeError, ValueError) as trouble:
            self.trouble = str(trouble)
            return False
        with self._told:
            self._view = view
            self._told.notify_all()
        return True


# Writing -----------------------------------------------------------------------------------------------------------

NOT_DONE = ("MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY")
"""Refusals after which a command was certainly not executed and may be sent again."""


class _NotDone(Exception):
    """The command was not executed; it may be tried again."""


_connection: Callable[..., Any] = Connection  # the library has no types


@dataclass
class _Line:
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
        """Whether the engine hung up, or said something unasked: what is sent here now would have no answer."""
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
    """Writes to a store and says of each write whether it is confirmed. Threads take turns.

    `managers` are addresses of managers as the cmdlets take them, `store` is the store's name. A write that is
    sent again by itself is always one that an engine refused to execute; when no answer came the outcome is FAILED
    and the caller decides. Raises BadEndpoint.
    """

    def __init__(self, managers: Sequence[str], store: str, clock: Callable[[], float] = time.monotonic) -> None:
        clients = [ManagerClient(parse_endpoint(text), timeout=ASK_WITHIN) for text in managers]
        self._clock = clock
        self._views = Refresher(clients, store, clock)
        self._lines: dict[str, _Line] = {}
        self._ended_at = float("-inf")  # when a line was last found ended: older views may name an engine that is gone
        self._turn = threading.Lock()

    def __enter__(self) -> ConfirmingClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and stop reading the view."""
        self._views.close()
        with self._turn:
            for endpoint in list(self._lines):
                self._drop(endpoint)

    def set(self, key: str | bytes, value: str | bytes, timeout: float = 5.0) -> Outcome:
        """SET, judged; takes at most about `timeout` seconds."""
        return self.execute("SET", key, value, timeout=timeout)

    def execute(self, *command: Any, key: str | bytes | None = None, timeout: float = 5.0) -> Outcome:
        """One command, judged. `key` tells where it belongs when that is not its first argument."""
        if key is None and len(command) < 2:
            raise ConfirmTrouble("A command without a key belongs to no slot; say key=.")
        slot = slot_of(command[1] if key is None else key)
        until = self._clock() + timeout
        why = "no leader is known"
        with self._turn:
            while self._clock() < until:
                try:
                    return self._once(command, slot, until)
                except _NotDone as refused:
                    why = str(refused)
                    self._views.hurry()
                    time.sleep(PAUSE)
        return Outcome(Kind.FAILED, f"not done within {timeout:g} s: {why}")

    def _once(self, command: Sequence[Any], slot: int, until: float) -> Outcome:
        view = self._look(until)
        group = view.group_of(slot)
        if group is None or group.leader is None:
            raise _NotDone(f"nobody leads the group of slot {slot}")
        line = self._line(group.leader)
        try:
            reply, first, _, second = line.ask(command, ("ROLE",), ("WAIT", len(group.required), WAIT_MS), ("ROLE",))
        except (exceptions.ValkeyError, OSError) as broken:
            self._drop(line.engine.endpoint)
            return Outcome(Kind.FAILED, f"no answer came, it may or may not have been done: {broken}")
        except _NotDone:
            self._drop(line.engine.endpoint)
            raise
        if isinstance(reply, exceptions.ResponseError):
            return self._refused(line, reply)
        if isinstance(first, Exception) or isinstance(second, Exception):
            return Outcome(Kind.ACKNOWLEDGED, "the engine did not say what its replicas have", reply)
        outcome = self._settle(line, slot, (read_role(first), read_role(second)), until)
        return Outcome(outcome.kind, outcome.reason, reply)

    def _look(self, until: float) -> View:
        """A fresh view, or an old one where managers are away: it is good for writing, not for confirming."""
        now = self._clock()
        since = max(now - FRESH, self._ended_at)
        view = self._views.newer_than(since, min(until, now + PATIENCE)) or self._views.latest()
        if not view.groups:
            raise _NotDone(f"no manager tells how the store is ({self._views.trouble})")
        return view

    def _refused(self, line: _Line, error: exceptions.ResponseError) -> Outcome:
        text = str(error)
        if text.startswith(NOT_DONE) or isinstance(error, exceptions.ReadOnlyError):
            self._drop(line.engine.endpoint)
            raise _NotDone(text)
        return Outcome(Kind.FAILED, text, error)

    def _settle(self, line: _Line, slot: int, roles: tuple[Role, Role], until: float) -> Outcome:
        """Judge, and judge again with another ROLE or a newer view, until it is confirmed or cannot become so."""
        first, second = roles
        while True:
            view = self._views.latest()
            group = view.group_of(slot)
            if group is None:
                return _only("the store's view does not name its group any more")
            # A view older than the connection says nothing about which run of the engine it reached.
            age = self._clock() - view.asked_at if view.asked_at >= line.opened_at else float("inf")
            outcome = judge(first, second, group, age, line.engine)
            over = group.leader is not None and group.leader != line.engine
            if outcome.confirmed or over or not second.leads or self._clock() >= until:
                return outcome
            self._views.newer_than(max(line.opened_at, self._clock() - FRESH / 2), min(until, self._clock() + PATIENCE))
            waiting = ("WAIT", max(len(second.replicas), len(group.required)), WAIT_MS)
            try:
                _, answer = line.ask(waiting, ("ROLE",))
            except (exceptions.ValkeyError, OSError, _NotDone) as broken:
                self._drop(line.engine.endpoint)
                return _only(f"the connection to the leader broke after it acknowledged: {broken}")
            if isinstance(answer, Exception):
                return outcome
            second = read_role(answer)

    def _line(self, engine: Engine) -> _Line:
        """The connection to this run of this engine, opened after a view named it."""
        line = self._lines.get(engine.endpoint)
        if line is not None and line.engine == engine:
            if not line.ended():
                return line
            self._drop(engine.endpoint)
            self._ended_at = self._clock()
            raise _NotDone(f"the leader {engine.endpoint} hung up")
        self._drop(engine.endpoint)
        at = parse_endpoint(engine.endpoint)
        connection = _connection(host=at.host, port=at.port, socket_timeout=ASK_WITHIN, socket_connect_timeout=ASK_WITHIN)
        try:
            connection.connect()
        except (exceptions.ValkeyError, OSError) as broken:
            raise _NotDone(f"the leader {engine.endpoint} cannot be reached: {broken}") from broken
        self._lines[engine.endpoint] = _Line(engine, connection, self._clock())
        return self._lines[engine.endpoint]

    def _drop(self, endpoint: str) -> None:
        line = self._lines.pop(endpoint, None)
        if line is not None:
            line.connection.disconnect()
