"""Machine room: what every step of a manager is: something to do, on something, at its pace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Step:
    """One thing to do. `key` names what it works on: one step at a time per key. `rest_ms` parts two equal steps."""

    key: str

    guarded: ClassVar[bool] = False
    blindly: ClassVar[bool] = False
    rest_ms: ClassVar[int] = 0
