"""Confirm: the client, which finds the leader of a write and repeats what an engine refused to execute."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from valkey.crc import key_slot

from dkv.client import ManagerPool, parse_endpoint
from dkv.confirm.judge import FRESH, ConfirmError, Kind, Outcome
from dkv.confirm.pipeline import PATIENCE, LeaderPipeline, NotDone
from dkv.confirm.views import Refresher, View

ASK_WITHIN = 1.0  # s a manager has to answer
PAUSE = 0.02  # s between two tries
NO_LEADER = "no leader is known"


class ConfirmingClient:
    """Writes to a store; the result of each write is whether it is confirmed. What threads and
    coroutines write at the same time is sent and confirmed together, so that a command that blocks holds all of them up.

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
        self._pipelines: dict[str, LeaderPipeline] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> ConfirmingClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and stop reading the view."""
        self._views.close()
        with self._lock:
            for pipeline in self._pipelines.values():
                pipeline.close()

    def set(self, key: str | bytes, value: str | bytes, timeout: float = 5.0) -> Outcome:
        """SET, judged; takes at most about `timeout` seconds."""
        return self.execute("SET", key, value, timeout=timeout)

    def execute(self, *command: Any, key: str | bytes | None = None, timeout: float = 5.0) -> Outcome:
        """One command, judged. `key` names its slot when that is not its first argument. Raises ConfirmError."""
        slot, until, why = _slot(command, key), self._clock() + timeout, NO_LEADER
        while self._clock() < until:
            try:
                return self._pipeline(self._view(until), slot).write(command, slot, until)
            except NotDone as refused:
                why = str(refused)
                self._views.hurry()
                time.sleep(PAUSE)
        return Outcome(Kind.FAILED, f"not done within {timeout:g} s: {why}")

    async def execute_async(self, *command: Any, key: str | bytes | None = None, timeout: float = 5.0) -> Outcome:
        """The same for coroutines, of which many may wait at a time. Raises ConfirmError."""
        slot, until, why = _slot(command, key), self._clock() + timeout, NO_LEADER
        while self._clock() < until:
            try:
                view = self._views.latest()
                if view.asked_at < self._clock() - FRESH:
                    view = await asyncio.to_thread(self._view, until)
                return await self._pipeline(view, slot).write_async(command, slot, until)
            except NotDone as refused:
                why = str(refused)
                self._views.hurry()
                await asyncio.sleep(PAUSE)
        return Outcome(Kind.FAILED, f"not done within {timeout:g} s: {why}")

    def _view(self, until: float) -> View:
        """A fresh view, or an old one where managers are away."""
        now = self._clock()
        return self._views.newer_than(now - FRESH, min(until, now + PATIENCE)) or self._views.latest()

    def _pipeline(self, view: View, slot: int) -> LeaderPipeline:
        """That to the leader of a slot's group. Raises NotDone."""
        if not view.groups:
            raise NotDone(f"no manager gave the state of the store ({self._views.problem})")
        group = view.group_of(slot)
        if group is None or group.leader is None:
            raise NotDone(f"the group of slot {slot} has no leader")
        endpoint = group.leader.endpoint
        with self._lock:
            if endpoint not in self._pipelines:
                self._pipelines[endpoint] = LeaderPipeline(endpoint, self._views, self._clock, self._login)
            return self._pipelines[endpoint]


def _slot(command: Sequence[Any], key: str | bytes | None) -> int:
    if key is None and len(command) < 2:
        raise ConfirmError("A command without a key belongs to no slot; say key=.")
    return slot_of(command[1] if key is None else key)


def login_of(user: str | None = None, password: str | None = None) -> dict[str, str]:
    """How a client of valkey-py is told a database user: the one given, else that of the environment; nothing for none."""
    environ = os.environ
    user, password = user or environ.get("DKV_DATABASE_USER"), password or environ.get("DKV_DATABASE_PASSWORD")
    return {"username": user, "password": password} if user and password else {}


def slot_of(key: str | bytes) -> int:
    """The hash slot of a key (CRC16; only what stands between braces counts)."""
    return int(key_slot(key.encode() if isinstance(key, str) else key))
