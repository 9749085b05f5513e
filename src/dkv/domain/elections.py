"""Domain: what the engines' own election in a handover needs, read from the state alone. Pure.

The copy that is to take over asks the leaders of all groups of its database for votes. More than half of them must
agree, and each votes once in an epoch: of two elections that begin at the same moment one or both fail, and clients
wait for five seconds in vain (docs/reference/valkey.md#elections).
"""

from __future__ import annotations

from dkv.domain.model import Group, Reader
from dkv.domain.phases import HandingOver

LASTS = 12_000  # ms after which a handover is given up: one that is older waits for an engine or a manager, not for votes


def electing_elsewhere(state: Reader, group: Group, now: int | None = None) -> Group | None:
    """Another group of the same database whose leadership is being handed over, and has been for less than LASTS by the
    wall clock `now` (ms); None if there is none. Without `now`: however long.
    """
    for other in state.groups_of(group.database):
        phase = other.phase
        if isinstance(phase, HandingOver) and other.name != group.name and (now is None or abs(now - phase.at) < LASTS):
            return other
    return None


def lack_of_votes(state: Reader, group: Group) -> str:
    """Why an election in this group cannot be won; "" if enough leaders of its database could vote.

    A leader whose server is away may be dead, and is not counted on. Whether a group's own leader answers is known better by who
    would begin: the manager that sees its engine.
    """
    groups = state.groups_of(group.database)
    voting = [g for g in groups if g.key == group.key or _votes(state, g)]
    if len(voting) > len(groups) // 2:
        return ""
    return (
        f"more than half of the leaders of the {len(groups)} groups of {group.database} must vote for the copy that is to lead, "
        f"and {len(voting)} can"
    )


def _votes(state: Reader, group: Group) -> bool:
    leader = state.leader_of(group)
    return group.serving and leader is not None and not leader.health.silent_at and state.server_alive(leader.server_id)
