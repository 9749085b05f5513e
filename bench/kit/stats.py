"""Bench kit: percentiles, and intervals by bootstrap. Standard library only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median

RESAMPLES = 5000


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; `share` is 0.5 for the median, 0.99 for the 99th."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 10_000) * len(ordered) // 10_000) - 1))]


def interval(values: Sequence[float], share: float = 0.5, seed: int = 1) -> tuple[float, float]:
    """A 95 % bootstrap interval of a percentile. Same values, same interval."""
    chance = random.Random(seed)
    resampled = sorted(percentile(chance.choices(values, k=len(values)), share) for _ in range(RESAMPLES))
    return resampled[int(0.025 * RESAMPLES)], resampled[int(0.975 * RESAMPLES)]


def middle(values: Sequence[float]) -> str:
    """Median with its interval, in words."""
    low, high = interval(values)
    return f"{median(values):.3g} [{low:.3g}, {high:.3g}]"


def verdict(value: float, target: float, at_most: bool = True) -> str:
    """Whether a target was met."""
    return "met" if (value <= target if at_most else value >= target) else "MISSED"
