"""CLI: how a command waits: it polls within a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    look: Callable[[], T],
    done: Callable[[T], bool],
    within: float,
    *,
    pause: float = 0.1,
    longest_pause: float = 0.0,
    report: Callable[[T, float], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Poll `look` until `done` holds for its value, which is returned; or the last value when `within` seconds are over.

    `report` is called with each value that is not done and the seconds that are left. The pause between two looks doubles
    up to `longest_pause` seconds. What `look` raises ends the waiting.
    """
    deadline = clock() + within
    while True:
        value = look()
        remaining = deadline - clock()
        if done(value) or remaining <= 0:
            return value
        if report is not None:
            report(value, remaining)
        sleep(min(pause, max(0.0, deadline - clock())))
        pause = max(pause, min(2 * pause, longest_pause))
