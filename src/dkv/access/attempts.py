"""Access: refused attempts, counted by kind and told of at most once a minute for each peer."""

from __future__ import annotations

from collections import Counter

TOLD_EVERY = 60.0  # s
MOST_PEERS = 1_000  # told of separately; with more of them the oldest are forgotten


class Attempts:
    """What was refused. Times are seconds of one clock."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()  # by the code of the refusal
        self._told: dict[str, float] = {}  # peer to when it was last told of, oldest first
        self._untold: Counter[str] = Counter()

    def refused(self, peer: str, code: str, now: float) -> int:
        """Count one. How many of this peer to tell of now, this one included; 0 while it was told of less than a minute ago."""
        self.counted[code] += 1
        last = self._told.get(peer)
        if last is not None and now - last < TOLD_EVERY:
            self._untold[peer] += 1
            return 0
        self._told.pop(peer, None)
        while len(self._told) >= MOST_PEERS:
            oldest = next(iter(self._told))
            del self._told[oldest]
            self._untold.pop(oldest, None)
        self._told[peer] = now
        return self._untold.pop(peer, 0) + 1
