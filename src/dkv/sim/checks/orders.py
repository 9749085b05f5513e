"""Simulation: what people ordered ends in time, and why it was not done is true.

- a request for another leader is not declined for the want of a copy, or of an answer, that is there;
- a request for another leader, and a handover that has begun, end within a bound where nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from dkv.domain.decision import Event
from dkv.domain.model import EngineState, Group, ProcessState, State
from dkv.domain.phases import HandingOver, Open
from dkv.machine import handover
from dkv.sim.checks.health import Health
from dkv.sim.engines.engine import SimEngine
from dkv.sim.world import Watcher, World

WELL = 3.0  # seconds both machines were well
SETTLED = 6.0  # seconds the copy was in sync and the leader led: by then each knows the other, and its manager has seen it
STEADY = 4.0  # seconds without a gap in what the leader sent
ACKNOWLEDGED = 1.2  # seconds since the copy's last acknowledgement; a handover needs one within 1.5 s
NO_COPY = ("no other copy acknowledges", "process ", handover.NOT_KNOWN, "no copy was ready to take over")
"""How sentences begin that name a copy as what is missing."""
NO_LEADER = (handover.IN_A_SCRIPT, handover.NO_ANSWER)
BEGINS_WITHIN = 20.0  # seconds a request may stand; in a restart of the database it stands for as long as that
ENDS_WITHIN = 20.0  # seconds a handover may take


class OrderChecks(Watcher):
    """Watches commits and time; failures go to the world, which keeps the trace."""

    def __init__(self, world: World, health: Health) -> None:
        self._world, self._health = world, health
        self._since: dict[Hashable, float] = {}  # since when each archive is in a group's S, and each group has its leader
        self._standing: dict[Hashable, float] = {}  # requests and handovers -> since when nothing was wrong around them

    def committed(self, before: State, after: State, events: Sequence[Event]) -> None:
        """One commit happened."""
        for event in events:
            if event.kind == "group.switchover_failed":
                self._declined(before, event)
        for key, group in after.groups.items():
            old = before.groups.get(key)
            if old is not group:
                known = set(old.in_sync) if old is not None else set()
                self._since |= {(key, archive_id): self._world.now() for archive_id in group.in_sync if archive_id not in known}
                if old is None or old.leader_process != group.leader_process:
                    self._since[key] = self._world.now()

    # -- refusals ---------------------------------------------------------------------------------------------------------

    def _declined(self, state: State, event: Event) -> None:
        """Whether what a sentence says is missing is really not there."""
        group = next((g for g in state.groups.values() if g.subject == event.subject), None)
        reason = event.because.partition(": ")[2]
        if group is None or not isinstance(group.phase, Open) or group.phase.switchover is None:
            return
        leader, wanted = state.leader_of(group), group.phase.switchover.to_process
        engine = self._health.engine_of(leader)
        if leader is None or engine is None or not self._long_enough(group.key, SETTLED):
            return
        if not self._health.well(leader.server_id, WELL):
            return
        if reason.startswith(NO_LEADER):
            self._world.fail(f"a switchover of {group.name} is declined, and its leader's engine answers: {reason}")
        elif reason.startswith(NO_COPY):
            fit = [a for a in group.in_sync if a != group.leader and self._could_lead(state, group, engine, a, wanted)]
            if fit:
                self._world.fail(f"a switchover of {group.name} is declined, and archive {fit[0]} could take over: {reason}")

    def _long_enough(self, key: Hashable, seconds: float) -> bool:
        return self._world.now() - self._since.get(key, self._world.now()) > seconds

    def _could_lead(self, state: State, group: Group, leader: SimEngine, archive_id: int, wanted: int | None) -> bool:
        """Whether a copy has followed steadily, is known to its leader's engine, and acknowledged a moment ago."""
        process, now = state.process_on(archive_id), self._world.now()
        engine = self._health.engine_of(process)
        if process is None or engine is None or process.leaving or wanted not in (None, process.start_id):
            return False
        runs = process.state is ProcessState.MONITORED and process.engine_state is EngineState.RUNNING
        if not runs or not self._long_enough((group.key, archive_id), SETTLED) or not self._health.well(process.server_id, WELL):
            return False
        known, replica = leader.known.get(engine.node_id), leader.replication.replicas.get(engine.node_id)
        if known is None or known.follows != leader.node_id or replica is None or not replica.online:
            return False
        steady = engine.replication.state == "up" and now - engine.replication.steady_since > STEADY
        return steady and now - replica.acked_at < ACKNOWLEDGED

    # -- bounds -----------------------------------------------------------------------------------------------------------

    def passed(self) -> None:
        """Some time has passed."""
        state, now = self._world.state, self._world.now()
        standing = {key: words for group in state.groups.values() for key, words in self._under_way(state, group)}
        self._standing = {key: self._standing.get(key, now) for key in standing}
        for key, (words, bound) in standing.items():
            if now - self._standing[key] > bound:
                self._world.fail(f"{words} for {bound:.0f} s, and nothing is wrong")

    def _under_way(self, state: State, group: Group) -> list[tuple[Hashable, tuple[str, float]]]:
        """What is under way in a group of whose machines all are well."""
        phase, servers = group.phase, {state.archives[a].server_id for a in group.in_sync if a in state.archives}
        if not all(self._health.well(server) for server in servers):
            return []
        if isinstance(phase, HandingOver):
            return [((group.key, phase.at), (f"{group.name} is being handed over", ENDS_WITHIN))]
        if isinstance(phase, Open) and phase.switchover is not None and state.databases[group.database].restart is None:
            return [((group.key, phase.switchover.at), (f"a switchover of {group.name} is requested", BEGINS_WITHIN))]
        return []
