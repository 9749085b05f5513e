"""Machine: what every step of a manager is: something to do, on something, at its pace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Step:
    """One thing to do. `key` names what it works on: one step at a time per key. `rest_ms` parts two equal steps,
    `refused_rest_ms` the second from one that was dropped or refused and so did nothing.
    """

    key: str

    guarded: ClassVar[bool] = False
    blindly: ClassVar[bool] = False
    rest_ms: ClassVar[int] = 0
    refused_rest_ms: ClassVar[int | None] = None  # None: as rest_ms
