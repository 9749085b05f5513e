"""Confirm: views of a store: read again and again while writes are made, so that a fresh one is at hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dkv.client import ClientError, ManagerPool
from dkv.confirm.judge import GroupView, read_authorities, read_groups

REFRESH_EVERY = 0.15  # s between two reads of the view while writes are made
HURRY = 0.04  # s between two reads while a write waits for the next one
IDLE_AFTER = 3.0  # s without a write after which the view is not read any more
PAUSE = 0.02  # s before another manager is asked


@dataclass(frozen=True)
class View:
    """A store as of one linearizable read; `asked_at` (monotonic seconds) is when the read began."""

    groups: tuple[GroupView, ...]
    asked_at: float
    authorities: str = ""  # PEM: whom engines that speak TLS have to prove themselves by; "": they speak plain

    def group_of(self, slot: int) -> GroupView | None:
        """The group that owns a slot."""
        for group in self.groups:
            for low, high in group.slots:
                if low <= slot <= high:
                    return group
        return None


class Refresher:
    """Reads the store again and again in a thread of its own while it is wanted, from whichever manager answers."""

    def __init__(self, managers: ManagerPool, store: str, clock: Callable[[], float]) -> None:
        self._managers = managers
        self._store = store
        self._clock = clock
        self._view = View((), float("-inf"))
        self._wanted_at = float("-inf")
        self._closed = self._hurried = False
        self._changed = threading.Condition()
        self.problem = "no manager was asked yet"
        self._thread = threading.Thread(target=self._run, name="dkv-view", daemon=True)
        self._thread.start()

    def latest(self) -> View:
        """The newest view there is, fresh or not."""
        with self._changed:
            self._want()
            return self._view

    def newer_than(self, moment: float, until: float) -> View | None:
        """A view asked for at or after `moment`; None if none came until `until`."""
        with self._changed:
            self._want()
            if self._view.asked_at < moment:
                self.hurry()
                self._changed.wait_for(lambda: self._view.asked_at >= moment or self._closed, until - self._clock())
            return self._view if self._view.asked_at >= moment else None

    def hurry(self) -> None:
        """Read again soon: a caller waits for it, or the newest view did not hold."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _want(self) -> None:
        if self._clock() - self._wanted_at > IDLE_AFTER:
            self._changed.notify_all()
        self._wanted_at = self._clock()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._hurried = False
                while not self._closed and self._clock() - self._wanted_at > IDLE_AFTER:
                    self._changed.wait()
                if self._closed:
                    return
            if self._read():
                time.sleep(HURRY)
                with self._changed:
                    self._changed.wait_for(lambda: self._hurried or self._closed, REFRESH_EVERY - HURRY)
            else:
                self._managers.rotate()  # the next one may answer
                time.sleep(PAUSE)

    def _read(self) -> bool:
        asked_at = self._clock()
        try:
            store = self._managers.current.store(self._store)
            view = View(read_groups(store), asked_at, read_authorities(store))
        except (ClientError, KeyError, TypeError, ValueError) as error:
            self.problem = str(error)
            return False
        with self._changed:
            self._view = view
            self._changed.notify_all()
        return True
