"""Confirm: one pipeline to each leader: writes that threads make at the same time are sent, and confirmed, together.

A round is `write, ..., write, ROLE, WAIT, ROLE` on one connection. The first ROLE is read after every write of the round, so the
same two answers judge each of them, and two syncs of two disks serve them all. One of the threads that wait carries a round out;
what comes meanwhile waits for the next one (docs/decisions/0085).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from valkey import exceptions
from valkey.connection import Connection, SSLConnection

from dkv.client import parse_endpoint
from dkv.confirm.judge import FRESH, ConfirmError, Engine, Kind, Outcome, Role, judge, read_role
from dkv.confirm.views import Refresher, View

ASK_WITHIN = 1.0  # s an engine has to answer
PATIENCE = 0.3  # s one try waits for a fresh view
WAIT_MS = 60  # ms the engine may wait for its replicas; only a hint, it makes them acknowledge now
ROUND_WRITES, ROUND_BYTES = 256, 256_000  # most of one round; a larger write goes alone
GATHER = 0.000_05  # s a round waits for the writers of the last one, who were woken just now; again while more of them come
PAUSE = 0.02  # s between two looks

NOT_DONE = ("MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "NOREPLICAS", "BUSY")
"""Refusals after which a command was certainly not executed and may be sent again."""

UNSAID = "the engine did not say what its replicas have"

_connection: Callable[..., Any] = Connection  # the library has no types
_tls_connection: Callable[..., Any] = SSLConnection


_packer = _connection()  # is never connected


def packed(command: Sequence[Any]) -> bytes:
    """A command as it is sent. Raises ConfirmError."""
    try:
        return b"".join(_packer.pack_command(*command))
    except exceptions.DataError as error:
        raise ConfirmError(f"The command cannot be sent: {error}") from error


ROLE = packed(("ROLE",))


class NotDone(Exception):
    """The command was not executed; it may be tried again."""


@dataclass
class EngineConnection:
    """A connection to one engine that a view named before it was opened, at `opened_at`, and has to name after it."""

    engine: Engine
    connection: Any
    opened_at: float

    def ended(self) -> bool:
        """Whether the engine closed the connection, or sent something unasked: a command sent now would have no answer."""
        try:
            return bool(self.connection.can_read(timeout=0))
        except (exceptions.ValkeyError, OSError):
            return True

    def send(self, packed: bytes) -> None:
        """Send it. Raises ValkeyError, OSError."""
        self.connection.send_packed_command([packed])

    def answer(self) -> Any:
        """The next reply; an error reply is returned, not raised. Raises ValkeyError, OSError."""
        try:
            return self.connection.read_response()
        except exceptions.ResponseError as error:
            return error


@dataclass(eq=False)
class Write:
    """A command on its way. `first` is the ROLE that was read after it; it ends with an outcome, or was not done."""

    command: bytes  # as it is sent
    slot: int
    until: float
    reply: Any = None
    first: Role | None = None
    result: Outcome | NotDone | None = None
    future: asyncio.Future[None] | None = None  # what its coroutine awaits; None: a thread waits for `woken`
    woken: threading.Lock = field(default_factory=threading.Lock)  # free: it has a result, or its thread is the driver

    def __post_init__(self) -> None:
        self.woken.acquire()


class LeaderPipeline:
    """The writes of all threads to the leader at one address. `login` are arguments of the library's connection.

    One of the waiting threads, the driver, carries rounds out until its own write has a result; then another one does.
    """

    def __init__(self, endpoint: str, views: Refresher, clock: Callable[[], float], login: Mapping[str, str]) -> None:
        self._endpoint = endpoint
        self._views = views
        self._clock = clock
        self._login = login
        self._mutex = threading.Lock()  # of `_waiting` and `_driver`; everything else is the driver's
        self._waiting: list[Write] = []  # not sent yet
        self._driver: Write | None = None
        self._unsettled: list[Write] = []  # acknowledged on the present connection, neither confirmed nor given up
        self._line: EngineConnection | None = None
        self._ended_at = float("-inf")  # when the connection was found ended: older views may name an engine that is gone
        self._copies = 0  # most replicas that the last round saw
        self._last = 0  # writes of the last round
        self._ended: list[Write] = []  # have a result since the round began
        self._pool = ThreadPoolExecutor(1, "dkv-confirm")  # drives for coroutines; has a thread when one wrote

    def write(self, command: Sequence[Any], slot: int, until: float) -> Outcome:
        """Have a command done and judged, in this thread or in that of the driver. Raises NotDone, ConfirmError."""
        write = Write(packed(command), slot, until)
        try:
            if self._enqueued(write):
                write.woken.release()
            write.woken.acquire()
            while write.result is None:
                self._round()
        finally:
            self._leave(write)
        return _returned(write)

    async def write_async(self, command: Sequence[Any], slot: int, until: float) -> Outcome:
        """The same for a coroutine: a thread of this pipeline drives for it. Raises NotDone, ConfirmError."""
        write = Write(packed(command), slot, until, future=asyncio.get_running_loop().create_future())
        assert write.future is not None
        if self._enqueued(write):
            self._pool.submit(self._drive, write)
        try:
            await write.future
        finally:
            if write.result is None:  # the coroutine was cancelled
                with self._mutex:
                    self._withdraw(write)
        return _returned(write)

    def close(self) -> None:
        """Close the connection when no write is under way any more."""
        while self._driver is not None:
            time.sleep(PAUSE)
        self._pool.shutdown()
        self._drop("the client was closed")

    # Whose turn it is -----------------------------------------------------------------------------------------------------

    def _enqueued(self, write: Write) -> bool:
        """Let a write wait for the next round; whether it is the driver, as there was none."""
        with self._mutex:
            self._waiting.append(write)
            if self._driver is None:
                self._driver = write
            return self._driver is write

    def _drive(self, write: Write) -> None:
        try:
            while write.result is None:
                self._round()
        finally:
            self._leave(write)

    def _leave(self, write: Write) -> None:
        """The caller of a write, which may have been interrupted, waits no more: the next one drives, if this one did."""
        with self._mutex:
            if write.result is None:
                self._withdraw(write)
            if self._driver is not write:
                return
            following = next((other for other in (*self._unsettled, *self._waiting) if other.result is None), None)
            self._driver = following
            if following is not None and following.future is None:
                following.woken.release()
            elif following is not None:
                self._pool.submit(self._drive, following)

    def _withdraw(self, write: Write) -> None:
        """What was not sent is not sent any more."""
        self._waiting = [other for other in self._waiting if other is not write]
        write.result = NotDone("its caller was interrupted")

    # A round --------------------------------------------------------------------------------------------------------------

    def _round(self) -> None:
        """Send what waits, and ask again about what is not settled."""
        batch = self._taken()
        try:
            self._carry_out(batch)
        except (exceptions.ValkeyError, OSError) as broken:
            self._drop(f"the connection to the leader broke after it acknowledged: {broken}")
            self._end(batch, Outcome(Kind.FAILED, f"no answer came, it may or may not have been done: {broken}"))
        except BaseException as why:  # the thread is interrupted: the others must not wait for it
            self._drop(f"its connection was closed: {why!r}")
            self._end(batch, Outcome(Kind.FAILED, f"its connection was closed, it may or may not have been done: {why!r}"))
            raise
        finally:
            ended, self._ended = self._ended, []
            _wake(ended)

    def _taken(self) -> list[Write]:
        """The writes of the next round. It waits some tens of microseconds for the writers that the last one has just woken."""
        before = 0
        while before < (now := len(self._waiting)) < self._last:
            before = now
            time.sleep(GATHER)
        with self._mutex:
            waiting = self._waiting
            count, size = 0, 0
            while count < min(len(waiting), ROUND_WRITES) and (not count or size + len(waiting[count].command) <= ROUND_BYTES):
                size += len(waiting[count].command)
                count += 1
            self._waiting = waiting[count:]
        self._last = count
        return waiting[:count]

    def _carry_out(self, batch: Sequence[Write]) -> None:
        """Raises ValkeyError, OSError."""
        if self._unsettled and self._line:
            moment = max(self._line.opened_at, self._clock() - FRESH / 2)
            self._views.newer_than(moment, min(max(write.until for write in self._unsettled), self._clock() + PATIENCE))
        copies = self._copies if self._unsettled else 0
        try:
            sent, required = self._routed(batch)
        except NotDone as why:
            self._end(batch, why)
            sent, required = [], 0
        if self._line is None or not (sent or self._unsettled):
            return
        refused = self._ask(self._line, sent, max(copies, required))
        if refused:
            self._drop(f"{self._endpoint} refused another write: {refused}")

    def _routed(self, batch: Sequence[Write]) -> tuple[list[Write], int]:
        """Connect to the leader: the writes that belong to it, and how many copies they need. Raises NotDone."""
        if not batch:
            return [], 0
        view = self._view(max(write.until for write in batch))
        sent, engine, required = [], None, 0
        for write in batch:
            group = view.group_of(write.slot)
            if group is None or group.leader is None:
                self._end([write], NotDone(f"the group of slot {write.slot} has no leader"))
            elif group.leader.endpoint != self._endpoint:
                self._end(
                    [write], NotDone(f"slot {write.slot} is led at {group.leader.endpoint}, not at {self._endpoint} any more")
                )
            else:
                sent.append(write)
                engine, required = group.leader, max(required, len(group.required))
        if engine is not None:
            self._connect(engine, view.authorities)
        return sent, required

    def _view(self, until: float) -> View:
        """A fresh view, or an old one where managers are away: it is good for writing, not for confirming."""
        now = self._clock()
        since = max(now - FRESH, self._ended_at)
        view = self._views.newer_than(since, min(until, now + PATIENCE)) or self._views.latest()
        if not view.groups:
            raise NotDone(f"no manager gave the state of the store ({self._views.problem})")
        return view

    def _ask(self, line: EngineConnection, sent: Sequence[Write], copies: int) -> str:
        """Send writes and questions, and judge with the answers. Returned is why one was refused so that the connection is of no
        use, or "". Raises ValkeyError, OSError."""
        after = ROLE if sent else b""
        line.send(b"".join([*(write.command for write in sent), after, packed(("WAIT", copies, WAIT_MS)), ROLE]))
        for write in sent:
            try:
                write.reply = line.answer()
            except exceptions.BusyLoadingError:
                self._end([write], NotDone("the engine is loading"))
                raise
        first = line.answer() if sent else None
        line.answer()
        second = line.answer()
        refused = self._sorted(sent, first)
        self._settle(line, second)
        return refused

    def _sorted(self, sent: Sequence[Write], first: Any) -> str:
        """End what was refused, and count what was acknowledged among the unsettled; see `_ask` for what is returned."""
        refused = ""
        role = None if first is None or isinstance(first, Exception) else read_role(first)
        for write in sent:
            if isinstance(write.reply, exceptions.ResponseError):
                text = str(write.reply)
                if text.startswith(NOT_DONE) or isinstance(write.reply, exceptions.ReadOnlyError):
                    refused = text
                    self._end([write], NotDone(text))
                else:
                    self._end([write], Outcome(Kind.FAILED, text, write.reply))
            elif role is None:
                self._end([write], Outcome(Kind.ACKNOWLEDGED, UNSAID, write.reply))
            else:
                write.first = role
                self._unsettled.append(write)
        return refused

    def _settle(self, line: EngineConnection, answer: Any) -> None:
        """Judge what is not settled: it is confirmed, cannot become so, is out of time, or stays for the next round."""
        unsettled = [write for write in self._unsettled if write.result is None]
        self._unsettled = []
        if isinstance(answer, Exception):
            for write in unsettled:
                self._end([write], Outcome(Kind.ACKNOWLEDGED, UNSAID, write.reply))
            return
        second = read_role(answer)
        self._copies = len(second.replicas)
        view = self._views.latest()
        now = self._clock()
        # A view older than the connection does not show which run of the engine was reached.
        age = now - view.asked_at if view.asked_at >= line.opened_at else float("inf")
        for write in unsettled:
            group = view.group_of(write.slot)
            if group is None:
                self._end([write], Outcome(Kind.ACKNOWLEDGED, "the store's view does not name its group any more", write.reply))
                continue
            assert write.first is not None
            outcome = judge(write.first, second, group, age, line.engine)
            over = group.leader is not None and group.leader != line.engine
            if outcome.confirmed or over or not second.leads or now >= write.until:
                self._end([write], Outcome(outcome.kind, outcome.reason, write.reply))
            else:
                self._unsettled.append(write)

    # The connection -------------------------------------------------------------------------------------------------------

    def _connect(self, engine: Engine, authorities: str) -> None:
        """Have the connection to this run of this engine, opened after a view named it. Raises NotDone."""
        line = self._line
        if line is not None and line.engine == engine:
            if not line.ended():
                return
            self._drop("the leader hung up after it acknowledged")
            self._ended_at = self._clock()
            raise NotDone(f"the leader {engine.endpoint} hung up")
        self._drop(f"{engine.endpoint} is not the leader of the newest term any more")
        at = parse_endpoint(engine.endpoint)
        within = {"socket_timeout": ASK_WITHIN, "socket_connect_timeout": ASK_WITHIN}
        tls = {"ssl_ca_data": authorities, "ssl_check_hostname": True} if authorities else {}
        kind = _tls_connection if authorities else _connection
        connection = kind(host=at.host, port=at.port, **within, **tls, **self._login)
        try:
            connection.connect()
        except exceptions.AuthenticationError as refused:
            raise NotDone(f"the leader {engine.endpoint} does not let this client in: {refused}") from refused
        except (exceptions.ValkeyError, OSError) as broken:
            raise NotDone(f"the leader {engine.endpoint} cannot be reached: {broken}") from broken
        self._line = EngineConnection(engine, connection, self._clock())

    def _drop(self, why: str) -> None:
        """Close the connection; what is unsettled on it stays acknowledged."""
        line, self._line = self._line, None
        unsettled, self._unsettled = self._unsettled, []
        for write in unsettled:
            self._end([write], Outcome(Kind.ACKNOWLEDGED, why, write.reply))
        if line is not None:
            line.connection.disconnect()

    def _end(self, writes: Sequence[Write], result: Outcome | NotDone) -> None:
        """The result of those of the writes that have none."""
        for write in writes:
            if write.result is None:
                write.result = result
                self._ended.append(write)


def _returned(write: Write) -> Outcome:
    if isinstance(write.result, NotDone):
        raise write.result
    assert write.result is not None
    return write.result


def _wake(writes: Sequence[Write]) -> None:
    """Wake who waits for them: threads one by one, the coroutines of a loop together."""
    futures: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for write in writes:
        if write.future is None:
            write.woken.release()
        else:
            futures.setdefault(write.future.get_loop(), []).append(write.future)
    for loop, awaited in futures.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed, and its coroutines with it
            loop.call_soon_threadsafe(_resolve, awaited)


def _resolve(futures: Sequence[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():  # it may have been cancelled
            future.set_result(None)
