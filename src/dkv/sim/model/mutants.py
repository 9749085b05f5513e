"""Model: what is explored, and which clause each mutant takes away. Each mutant must be found, or the search shows nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from dkv.sim.model.group import Bounds
from dkv.sim.model.rules import Clauses

ALL = frozenset(("crash", "manager", "lost", "cut", "freeze"))

EVICTING = Bounds(archives=2, writes=1, terms=2, faults=2, kinds=ALL, evictions=True, joins=False)

EXPLORED: Mapping[str, Bounds] = {
    "two archives, two faults of any kind": Bounds(archives=2, writes=1, terms=2, faults=2, kinds=ALL),
    "two archives, an operator evicts": EVICTING,
    "two archives, two writes": Bounds(archives=2, writes=2, terms=2, faults=1, kinds=ALL),
    "two archives, a handover": Bounds(archives=2, writes=1, terms=2, faults=1, kinds=ALL, handovers=1),
    "three archives, cuts": Bounds(archives=3, writes=1, terms=2, faults=1, kinds=frozenset(("cut",)), joins=False),
    "three archives, engines and machines end": Bounds(
        archives=3, writes=1, terms=2, faults=1, kinds=frozenset(("crash", "lost"))
    ),
}
"""What `./dev model` explores with all clauses on."""

SMALL = Bounds(archives=2, writes=1, terms=2, faults=1, kinds=ALL)
"""What is explored in every test run."""

NOT_SHOWN: Mapping[str, str] = {
    "fenced_before_reported": "writes after the reading are lost only with a crash of that engine: more faults than are explored",
    "fenced_by_own_clock": "what a leader acknowledges while it is cut off is excused, and a confirmed write needs the view",
    "takeover_after_open": "a term that is superseded before it opens and a third archive: more faults than are explored",
    "read_after_takeover": "three archives, three terms and two machines that are away: more than is explored",
    "marker_before_handover": "positions of torn and rewritten files are not modelled",
    "shared_history_stays": "a member with another history and a third archive: more than is explored",
    "in_sync_kept_at_assign": "costs only progress, which the model does not demand",
    "contested_are_asked": "the leader dies in a handover, and so does its target: more faults than are explored",
}
"""Clauses without which nothing was found within the bounds, and why: the schedules of tests/safety show most of them."""

MOST = 400_000  # states of one mutant


def mutants() -> dict[str, Clauses]:
    """One for each clause: its name, and all clauses but that one."""
    return {field.name: Clauses(**{field.name: False}) for field in fields(Clauses)}


WHERE: Mapping[str, Bounds] = {
    "silence_is_probed": EVICTING,
    "proven_before_assign": Bounds(archives=2, writes=1, terms=2, faults=1, kinds=frozenset(("manager",)), evictions=True),
    "confirm_by_name": Bounds(archives=3, writes=1, terms=2, faults=1, kinds=frozenset(("cut",))),
    "positions_after_a_handover": EXPLORED["two archives, a handover"],
}
"""The bounds within which a mutant is found, where they are others than the first of EXPLORED."""
