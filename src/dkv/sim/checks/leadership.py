"""Simulation: at most one leader takes writes, and managers order engines about only while they may.

All of it is judged by what is true in the simulated world, never by what the domain or a manager holds for true:
- nothing is assigned while another engine leads, takes writes, and is heard by a living member of the in-sync set;
- a leader that was replaced takes no writes any more, once its manager had time to fence it;
- no order that needs a fresh read comes from a manager whose lease has ended and which read nothing for as long;
- a leader that serves, and is acknowledged by all of its in-sync set, is not fenced;
- a server whose manager runs and reaches the backend is not called lost;
- engines of a whole domain at rest are ordered nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from dkv.control.liveness import server_lease
from dkv.domain.constants import SERVER_TTL
from dkv.domain.decision import Event
from dkv.domain.model import DatabaseState, Group, Process, ProcessState, State
from dkv.domain.phases import Assigned, HandingOver, Open
from dkv.sim.clients import Ledger, Write
from dkv.sim.engines.engine import SimEngine
from dkv.sim.world import Machine, Watcher, World

Key = tuple[str, str]  # of a group: database, name

GUARDED = frozenset(
    ("take over", "admit", "replicate", "mark", "unfence", "fail over", "hand over", "shun clients", "rewrite", "reclaim slots")
)
"""Orders that follow a fresh read in the same step (docs/reference/safety.md#orders-to-engines)."""
HARMLESS = frozenset(("ask followers", "rewrite", "set certificate"))  # what may be ordered in a domain at rest
HEARD = 1.5  # seconds in which a follower that is attached hears at least a ping
PROVEN = 4.0  # seconds of silence that prove an end, and one for its report
FENCED_WITHIN = SERVER_TTL + 1.0  # seconds a manager has to fence a leader that was replaced
LONGEST_STEP = 4.0  # seconds after its read in which a step may still give an order: REPLICATE is tried for 3
SETTLED = 3.0  # seconds nothing may have changed before a fence is called wrong


class LeadershipChecks(Watcher):
    """Watches commits, orders and acknowledgements; failures go to the world, which keeps the trace."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self._world = world
        self._open: dict[Key, tuple[int, float]] = {}  # group -> the archive that serves, and since when
        self._changed: dict[Hashable, float] = {}  # when a group's or a database's record changed last
        self.at_rest: list[str] | None = None  # orders since the domain came to rest
        ledger.acknowledged = self.acknowledged

    # -- commits ---------------------------------------------------------------------------------------------------------

    def committed(self, before: State, after: State, events: Sequence[Event]) -> None:
        """One commit happened."""
        now = self._world.now()
        for key, group in after.groups.items():
            old = before.groups.get(key)
            if old is group:
                continue
            self._changed[key] = now
            if isinstance(group.phase, Assigned) and (old is None or old.term != group.term):
                self._assigned(after, group, group.phase)
            if group.serving and group.leader is not None and self._open.get(key, (-1, 0.0))[0] != group.leader:
                self._open[key] = (group.leader, now)
        for name, database in after.databases.items():
            if before.databases.get(name) is not database:
                self._changed[name] = now
        for name, server in after.servers.items():
            if not server.alive and name in before.servers and before.servers[name].alive:
                self._called_lost(name)

    def _assigned(self, state: State, group: Group, phase: Assigned) -> None:
        """No other engine leads, as far as any member of S hears."""
        if phase.enforced is not None:
            return
        for machine in self._world.machines.values():
            for engine in machine.hardware.engines.values():
                if engine.start_id != phase.leader_process and self._takes_writes(engine, group):
                    hearer = self._hearer(state, group, engine)
                    if hearer is not None:
                        self._world.fail(
                            f"process {phase.leader_process} is to lead {group.name} in term {group.term} while the engine of "
                            f"process {engine.start_id} leads and takes writes, and archive {hearer} hears it"
                        )

    def _takes_writes(self, engine: SimEngine, group: Group) -> bool:
        mine = (engine.spec.identity.database, engine.group) == group.key and engine.role == "leader"
        shut = engine.fenced or engine.held or not engine.takes_clients or engine.robbed
        return mine and not shut and not engine.silent and self._world.now() - engine.went_on_at > PROVEN

    def _hearer(self, state: State, group: Group, leader: SimEngine) -> int | None:
        """A living member of S that has heard a leader all the time."""
        now = self._world.now()
        for archive_id in group.in_sync:
            process = state.process_on(archive_id)
            engine = self._engine_of(process) if process and state.server_alive(process.server_id) else None
            if engine is None or engine is leader or engine.stopped or now - engine.went_on_at < PROVEN:
                continue
            link = engine.replication
            heard = link.state == "up" and now - link.heard_at < HEARD and now - link.steady_since > PROVEN
            if heard and engine.follows == leader.node_id:
                return archive_id
        return None

    def _engine_of(self, process: Process | None) -> SimEngine | None:
        return self._world.machines[process.server_id].hardware.engines.get(process.start_id) if process else None

    def _called_lost(self, name: str) -> None:
        """Its lease ended although nothing kept its manager from renewing it."""
        machine, now = self._world.machines[name], self._world.now()
        if not self._moves(machine, 2 * SERVER_TTL) or machine.run is None:
            return
        if now - machine.run.store.troubled_at > 2 * SERVER_TTL:
            self._world.fail(f"server {name} is called lost, and its manager ran and reached the backend all the time")

    def _moves(self, machine: Machine, seconds: float) -> bool:
        """Whether its manager has run for so long without standing still."""
        runs = machine.run is not None and not machine.frozen and not machine.stands_still and not machine.down
        return runs and self._world.now() - machine.moving_since > seconds

    # -- writes ----------------------------------------------------------------------------------------------------------

    def acknowledged(self, write: Write) -> None:
        """A client got +OK: not from an engine that another replaced long ago."""
        archive_id, since = self._open.get(write.group, (None, 0.0))
        group = self._world.state.groups.get(write.group)
        target = group.phase.to_archive if group is not None and isinstance(group.phase, HandingOver) else None
        if archive_id is None or group is None or write.acked_by in (None, archive_id, group.leader, target):
            return
        replaced = write.executed_at - since
        archive = self._world.state.archives.get(-1 if write.acked_by is None else write.acked_by)
        if archive is None or replaced < FENCED_WITHIN or write.awake_for < FENCED_WITHIN:
            return
        if self._moves(self._world.machines[archive.server_id], FENCED_WITHIN):
            self._world.fail(
                f"{write.key} was acknowledged by archive {write.acked_by} although archive {archive_id} had led "
                f"{group.name} for {replaced:.1f} s, and the manager there had run all the time"
            )

    # -- orders ----------------------------------------------------------------------------------------------------------

    def ordered(self, machine: Machine, order: str, engine: SimEngine) -> None:
        """A manager sends an order to an engine of its machine."""
        if self.at_rest is not None and order not in HARMLESS:
            self.at_rest.append(f"{machine.name} orders process {engine.start_id}: {order}")
        if order in GUARDED:
            self._needs_a_lease(machine, order, engine)
        elif order == "fence":
            self._needs_a_reason(machine, engine)

    def _needs_a_lease(self, machine: Machine, order: str, engine: SimEngine) -> None:
        now, run = self._world.now(), machine.run
        if run is None or engine.silent or now - engine.went_on_at < PROVEN:  # a step that waited for its engine goes on
            return
        _, ends, _ = self._world.domain.leases.get(server_lease(machine.name), ("", 0.0, ""))
        read_ago = now - max(run.store.read_at, machine.moving_since)
        if ends < now and read_ago > LONGEST_STEP:
            self._world.fail(
                f"{machine.name} orders process {engine.start_id}: {order}; its lease ended {now - ends:.1f} s ago, and it read "
                f"nothing for {read_ago:.1f} s"
            )

    def _needs_a_reason(self, machine: Machine, engine: SimEngine) -> None:
        """A leader that serves and is acknowledged by all of S takes writes, whatever the backend does."""
        state, key = self._world.state, (engine.spec.identity.database, engine.group)
        group, database = state.groups.get(key), state.databases.get(key[0])
        if group is None or database is None or not isinstance(group.phase, Open) or group.leader_process != engine.start_id:
            return
        changed = max(self._changed.get(key, 0.0), self._changed.get(key[0], 0.0))
        whole = group.serving and group.intrusion is None and database.state is DatabaseState.RUNNING
        enough = len(group.in_sync) >= max(2, database.options.min_in_sync)
        calm = self._world.now() - max(changed, engine.went_on_at) > SETTLED and self._moves(machine, SETTLED)
        well = engine.disk is not None and engine.disk.drive.trouble is None and not engine.disk.drive.slow
        if whole and enough and calm and well and self._all_acknowledge(state, group, engine):
            self._world.fail(
                f"{machine.name} fences process {engine.start_id}, which leads {group.name} and is acknowledged by all"
            )

    def _all_acknowledge(self, state: State, group: Group, leader: SimEngine) -> bool:
        """Whether each other member of S has been attached all the time, and acknowledged a moment ago."""
        now = self._world.now()
        for archive_id in group.in_sync:
            process = state.process_on(archive_id)
            engine = self._engine_of(process)
            if engine is leader:
                continue
            leaves = process is None or process.kill or process.leaving or process.state is not ProcessState.MONITORED
            replica = leader.replication.replicas.get(engine.node_id) if engine else None
            steady = engine is not None and now - engine.replication.steady_since > PROVEN and not engine.silent
            if leaves or replica is None or not replica.online or now - replica.acked_at > HEARD or not steady:
                return False
        return True

    # -- the end ---------------------------------------------------------------------------------------------------------

    def at_the_end(self) -> None:
        """After a time without writes in a domain that is whole."""
        if self.at_rest:
            self._world.fail(f"the domain is at rest, and still {self.at_rest[0]}; and {len(self.at_rest) - 1} orders more")
