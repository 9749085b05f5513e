"""Model: all states within bounds, and what must hold in each. Breadth first, so that a violation comes with a shortest story."""

from __future__ import annotations

import time
from dataclasses import dataclass

from dkv.sim.model.group import SERVING, Bounds, Key, State, first_state
from dkv.sim.model.rules import Clauses, Rules


@dataclass(frozen=True)
class Found:
    """What an exploration came to."""

    states: int
    complete: bool  # all states within the bounds were visited
    violation: str  # what does not hold; empty if everything holds
    story: tuple[str, ...]  # of the violation, from the first state on
    seconds: float
    deepest: int  # steps of the longest of the shortest stories


def violation(state: State) -> str:
    """What does not hold in a state, or nothing."""
    for write in range(1, state.written + 1):
        if state.confirmed >> write & 1:
            for i in state.members(state.in_sync):
                if not state.down[i] and write not in state.log[i]:
                    return f"write {write} is confirmed, and archive {i}, a member of S, does not have it"
        acknowledged = state.acknowledged >> write & 1 and not state.excused >> write & 1
        if acknowledged and state.phase == SERVING and not state.down[state.leader] and write not in state.log[state.leader]:
            return f"write {write} is acknowledged, and archive {state.leader}, which leads, does not have it"
    writing = state.writing
    if writing is not None and state.confirmed >> writing[1] & 1:
        return f"write {writing[1]} is confirmed twice"
    return ""


def explore(clauses: Clauses, bounds: Bounds, most: int = 10_000_000) -> Found:
    """Visit every state that can be reached, at most so many."""
    begun = time.monotonic()
    rules, first = Rules(clauses, bounds), first_state(bounds)
    came_from: dict[Key, tuple[Key, str] | None] = {first.key: None}
    edge, deepest = [first], 0
    while edge:
        following: list[State] = []
        for known in edge:
            key = known.key
            for words, state in rules.after(known):
                other = state.key
                if other in came_from:
                    continue
                came_from[other] = (key, words)
                broken = violation(state)
                if broken:
                    return Found(len(came_from), False, broken, _story(came_from, other), time.monotonic() - begun, deepest + 1)
                following.append(state)
            if len(came_from) > most:
                return Found(len(came_from), False, "", (), time.monotonic() - begun, deepest)
        edge, deepest = following, deepest + bool(following)
    return Found(len(came_from), True, "", (), time.monotonic() - begun, deepest)


def _story(came_from: dict[Key, tuple[Key, str] | None], key: Key) -> tuple[str, ...]:
    words: list[str] = []
    step = came_from[key]
    while step is not None:
        words.append(step[1])
        step = came_from[step[0]]
    return tuple(reversed(words))
