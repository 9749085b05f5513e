"""Simulation: confirmed operations on a register have one order that fits all of them: they are linearizable.

A register only rises, since it is set by a script that compares first. So a confirmed read has to show what was confirmed or
read, confirmed, before it was sent, and nothing that nobody ever sent.
"""

from __future__ import annotations

from dkv.domain.model import Group
from dkv.sim.checks.writes import Checkers
from dkv.sim.clients import REGISTER, RegisterHistory, Sure
from dkv.sim.world import World

Key = tuple[str, str]  # of a group: database, name


class RegisterChecks:
    """Judges each confirmed operation when its client learns of it; failures go to the world."""

    def __init__(self, world: World, history: RegisterHistory) -> None:
        self._world, self._history = world, history
        self._known: dict[Key, list[tuple[float, Sure]]] = {}  # when each was confirmed, virtual seconds
        history.watch = self.sure

    def sure(self, key: Key, sure: Sure) -> None:
        """An operation was confirmed."""
        group, now = self._world.state.groups.get(key), self._world.now()
        if group is None:
            return
        least, most = self._least(group, sure.sent_at), self._history.highest.get(key, 0)
        if sure.reads and sure.term > _given_up(group):
            if sure.value < least:
                self._world.fail(f"a confirmed read of {group.name} showed {sure.value} after {least} was confirmed or read")
            if sure.value > most:
                self._world.fail(f"a confirmed read of {group.name} showed {sure.value}, but no more than {most} was written")
        if sure.waited:
            self._known.setdefault(key, []).append((now, sure))

    def _least(self, group: Group, before: float) -> int:
        """The largest value that a confirmed operation of then had shown or set, in a term that no operator gave up."""
        given_up = _given_up(group)
        known = (sure.value for at, sure in self._known.get(group.key, ()) if at <= before and sure.term > given_up)
        return max(known, default=0)

    def at_the_end(self, checkers: Checkers) -> None:
        """After everything was healed: the leaders hold what was confirmed last."""
        for group in self._world.state.groups.values():
            engine, least = checkers.leader_engine(group), self._least(group, self._world.now())
            if engine is not None and int(engine.read(REGISTER) or "0") < least:
                self._world.fail(
                    f"the register of {group.name} is {engine.read(REGISTER) or 0} after {least} was confirmed or read"
                )


def _given_up(group: Group) -> int:
    """The last term whose writes an operator allowed to be lost."""
    return max((enforcement.term for enforcement in group.enforcements), default=0)
