"""Access: refused requests, counted by kind, and told of seldom: at most once a minute for each peer, and ten times in all.

A flood of refusals, from whatever number of addresses, takes bounded memory and few commits of the domain's state.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, replace

TOLD_EVERY = 60.0  # s between two reports of one peer
MOST_REPORTS = 10  # in that time, of all peers
MOST_PEERS = 1_000  # that are told apart; those beyond are one crowd
CROWD = "other addresses"


@dataclass(frozen=True)
class Report:
    """What is to be told now: how many requests of a peer were refused since it was told of, and the last of them."""

    peer: str
    count: int
    last: str


class Attempts:
    """What was refused. Times are seconds of one clock."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()  # by the code of the refusal
        self._untold: dict[str, Report] = {}
        self._told: dict[str, float] = {}  # peer to when it was last told of, oldest first
        self._reports: deque[float] = deque(maxlen=MOST_REPORTS)  # when the newest were made

    def refused(self, peer: str, code: str, last: str, count: int = 1) -> bool:
        """Count so many refused requests; `last` says which was the last and why it was refused, in one line. Whether there was
        nothing to tell of this peer before.
        """
        self.counted[code] += count
        if peer not in self._untold and len(self._untold) >= MOST_PEERS:
            peer = CROWD
        known = self._untold.get(peer)
        self._untold[peer] = Report(peer, (known.count if known else 0) + count, last)
        return known is None

    def next_at(self) -> float | None:
        """When something is to be told; None: nothing, as long as no more is refused."""
        if not self._untold:
            return None
        full = len(self._reports) == MOST_REPORTS
        free = self._reports[0] + TOLD_EVERY if full else float("-inf")
        return max(free, min(self._due_at(peer) for peer in self._untold))

    def due(self, now: float) -> list[Report]:
        """What is to be told now, and is told by that. Where more peers are due than may be told of, the rest is one report."""
        room = MOST_REPORTS - sum(now - at < TOLD_EVERY for at in self._reports)
        peers = [peer for peer in self._untold if now >= self._due_at(peer)] if room else []
        reports = [self._untold.pop(peer) for peer in peers]
        for peer in peers:
            self._remember(peer, now)
        if len(reports) > room:
            rest = reports[room - 1 :]
            merged = replace(rest[-1], peer=f"{len(rest)} addresses", count=sum(report.count for report in rest))
            reports = [*reports[: room - 1], merged]
        self._reports.extend(now for _ in reports)
        return reports

    def _due_at(self, peer: str) -> float:
        return self._told.get(peer, float("-inf")) + TOLD_EVERY

    def _remember(self, peer: str, now: float) -> None:
        self._told.pop(peer, None)
        while len(self._told) >= MOST_PEERS:
            del self._told[next(iter(self._told))]
        self._told[peer] = now
