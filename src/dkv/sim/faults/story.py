"""Simulation: which of a run's strikes come to pass, so that one which fails can be told without those it does not need.

A strike has a name: "f" and its number among those that chance alone drew, "m" and its number among those aimed at a moment,
"tails" for all that strike a dead leader's tail. Whatever is left out, the others draw the same chance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

TAILS = "tails"


@dataclass
class Story:
    """The strikes of one run, in their order."""

    only: frozenset[str] | None = None  # None: all
    told: dict[str, str] = field(default_factory=dict)  # name of each strike that came to pass -> what it was

    def has(self, name: str, what: str) -> bool:
        """Whether a strike comes to pass; noted if it does."""
        if self.only is not None and name not in self.only:
            return False
        self.told.setdefault(name, what)
        return True
