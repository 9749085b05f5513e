"""Simulation: what must hold for writes and for the whole, whatever goes wrong (docs/reference/safety.md#promises).

Confirmed: the write is on the disk of every member of S, always, and readable at the end. Acknowledged: it is there
at the end unless one of the reasons the product names applies. Leadership: no write is confirmed in a term after one
was confirmed in a later term, and none by a view that is too old. What must hold for the domain's own records stands in
checks/metadata.py.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence

from dkv.domain.database_users import lacks_users
from dkv.domain.decision import Event
from dkv.domain.held_back import rest_of
from dkv.domain.model import Archive, DatabaseState, Group, Process, ProcessState, State
from dkv.domain.options import lags
from dkv.domain.phases import HandingOver
from dkv.machine.observation import directory_of
from dkv.sim.clients import Ledger, Write
from dkv.sim.engines.disk import Disk
from dkv.sim.engines.engine import SimEngine
from dkv.sim.world import Watcher, World

GRACE = 2.0  # seconds of failoverGrace
WAIT_FOR_LEADER = 10.0  # seconds a dead leader is waited for
HEARS_OF_IT = 2.0  # seconds after which a machine that stood still has learnt, or its manager has, who leads now
OLDEST_VIEW = 0.5  # seconds a view may be old when it confirms; its own number, so that clients cannot move it
LEASE = "its server's lease was lost"


Key = tuple[str, str]  # of a group: database, name


class Checkers(Watcher):
    """Watches commits and confirmations; failures go to the world, which keeps the trace."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self._world = world
        self._ledger = ledger
        self.lost_for_good = ""  # a machine that never comes back
        self.excused: dict[str, str] = {}  # key of a write that was left behind -> the named reason
        self._late: dict[tuple[Key, int], tuple[int, float]] = {}  # group, archive left with its lease -> term, and when
        self._evicted: dict[int, list[tuple[float, float]]] = {}  # archive -> from when to when its engine was given up unproven
        self._given_up: set[str] = set()  # keys of confirmed writes that an operator allowed to be lost
        self.lost: Counter[str] = Counter()  # acknowledged writes missing at the end, by excuse
        self._newest_term: dict[Key, tuple[int, float]] = {}  # group -> newest term confirmed in, and since when
        self._since: dict[Key, tuple[tuple[object, ...], float]] = {}  # group -> what it waits in, and since when
        self._stalled: set[tuple[Key, int]] = set()
        self.nothing_stands_still = False  # every process that is waited for from now on works
        self._commits: list[tuple[int, float]] = []  # revision of each commit, and when it was made
        ledger.watch = self.confirmed

    # -- commits -----------------------------------------------------------------------------------------------------

    def committed(self, before: State, after: State, events: Sequence[Event]) -> None:
        """One commit happened."""
        self._commits.append((self._world.domain.snapshot.revision, self._world.now()))
        for archive_id, archive in before.archives.items():
            if not archive.removed and (archive_id not in after.archives or after.archives[archive_id].removed):
                self._deleted(before, archive)
        self._note_evicted(before, after)
        for key, group in after.groups.items():
            old = before.groups.get(key)
            if old is None:
                continue
            if group.leader is not None and (group.term, group.leader) != (old.term, old.leader):
                self._chosen(before, after, old, group)
            if len(group.enforcements) > len(old.enforcements):
                self._enforced(after, group)
            for archive_id in set(group.in_sync) - set(old.in_sync):
                self._complete(after, group, archive_id)
            self._note_phase(group)

    def _note_evicted(self, before: State, after: State) -> None:
        """A leader's process that is given up without proof may go on until its manager is back, which starts another there."""
        suspects = {start_id for group in after.groups.values() for start_id in group.suspects}
        for start_id in (before.processes.keys() - after.processes.keys()) & suspects:
            archive_id = before.processes[start_id].archive_id
            if archive_id is not None:
                self._evicted.setdefault(archive_id, []).append((self._world.now(), float("inf")))
        for start_id in after.processes.keys() - before.processes.keys():
            archive_id = after.processes[start_id].archive_id
            if archive_id in self._evicted and self._evicted[archive_id][-1][1] == float("inf"):
                self._evicted[archive_id][-1] = (self._evicted[archive_id][-1][0], self._world.now())

    def _note_phase(self, group: Group) -> None:
        phase = ("vacant",) if group.leader is None else ("assigned", group.term) if not group.open else ("open",)
        if self._since.get(group.key, ((), 0.0))[0] != phase:
            self._since[group.key] = (phase, self._world.now())
        if group.open:
            self._stalled = {(key, archive_id) for key, archive_id in self._stalled if key != group.key}

    def _deleted(self, before: State, archive: Archive) -> None:
        """What only a deleted archive held is gone with it, because an operator wanted that."""
        group = before.groups.get((archive.database, archive.group))
        others = [before.archives[a] for a in group.in_sync if a != archive.archive_id] if group else []
        copies = [self._disk(other).load() for other in others]
        left = [k for k in self._disk(archive).load() if not copies or any(k not in keys for keys in copies)]
        self.excused |= dict.fromkeys(left, "its archive was deleted")

    def _enforced(self, after: State, group: Group) -> None:
        """An operator allowed everything to be lost that the enforced archive lacks, confirmed writes too."""
        keys = self._disk(after.archives[group.enforcements[-1].archive_id]).load()
        lacking = [w for w in self._ledger.writes if w.group == group.key and w.key not in keys]
        self.excused |= dict.fromkeys((w.key for w in lacking), "an operator enforced another leader")
        self._given_up |= {w.key for w in lacking}

    def _chosen(self, before: State, after: State, old: Group, group: Group) -> None:
        """A leader was chosen: the last leader is left behind for a reason, or its writes must be here."""
        if group.last_leader is None or old.last_leader is None or old.last_leader == group.leader:
            return
        if isinstance(old.phase, HandingOver) and group.leader == old.phase.to_archive:
            return
        if old.enforced is not None:
            self._enforced(after, group)
            return
        for archive_id in sorted({old.last_leader, *old.contested} & set(after.archives)):
            why = self._why_left(after, old, archive_id)
            if why == LEASE:
                self._late[(group.key, archive_id)] = (old.term, self._world.now())
            if why and archive_id != group.leader and group.leader is not None:
                left = set(self._disk(after.archives[archive_id]).load())
                self.excused |= dict.fromkeys(left - set(self._disk(after.archives[group.leader]).load()), why)

    def _why_left(self, state: State, old: Group, archive_id: int) -> str:
        """The reason the product may give; nothing if it should have waited for that archive."""
        archive, process = state.archives[archive_id], state.process_on(archive_id)
        waited = self._world.now() - self._since.get(old.key, ((), 0.0))[1]
        if not state.server_alive(archive.server_id):
            return LEASE
        if archive.stopped_by_operator:
            return "an operator had stopped it"
        rest = rest_of(process)
        if rest is not None and (rest.lacks or rest.spent):
            return f"it could not be started again: {rest.lacks or 'it ended too often'}"
        if old.leader == archive_id and not old.open and waited >= GRACE:
            if self.nothing_stands_still:
                self._world.fail(f"archive {archive_id} was given up although its engine worked, on a machine that is well")
            self._stalled.add((old.key, archive_id))
        if (old.key, archive_id) in self._stalled:
            return "it made no progress within failoverGrace"
        if old.leader is None and waited >= WAIT_FOR_LEADER and (process is None or process.report is None):
            return "it did not answer within 10 s"
        return ""

    def _complete(self, state: State, group: Group, archive_id: int) -> None:
        """A new member of S holds every write that was confirmed so far."""
        keys = self._disk(state.archives[archive_id]).load()
        missing = [
            w.key
            for w in self._ledger.confirmed.get(group.key, [])
            if w.waited and w.key not in keys and w.key not in self._given_up
        ]
        if missing:
            self._world.fail(
                f"archive {archive_id} entered S of {group.name} without {len(missing)} confirmed "
                f"writes, the first is {missing[0]}"
            )

    # -- confirmations -----------------------------------------------------------------------------------------------

    def confirmed(self, write: Write, age: float) -> None:
        """A client got "confirmed": the disk of every member of S holds it now, and no later term confirms too."""
        state = self._world.state
        group = state.groups[write.group]
        age = max(age, self._outdated(write.view))
        if age >= OLDEST_VIEW:
            self._world.fail(f"{write.key} was called confirmed by a view that was {age:.3f} s old")
        newest, since = self._newest_term.get(write.group, (0, 0.0))
        if write.term > newest:
            self._newest_term[write.group] = (write.term, self._world.now())
        elif write.term < newest and write.executed_at > since:
            self._world.fail(
                f"{write.key} was carried out in term {write.term} of {group.name} and confirmed after "
                f"writes of term {newest} had been confirmed"
            )
        given_up = write.term <= max((e.term for e in group.enforcements), default=0)
        if given_up or not write.waited:
            return  # perhaps it got "confirmed" just after an operator gave that term up
        for archive_id in group.in_sync:
            if not self._holds(state.archives[archive_id], write):
                self._world.fail(
                    f"{write.key} was confirmed and is not on the disk of archive {archive_id}, "
                    f"a member of S of {group.database}/{group.name}"
                )

    def _outdated(self, revision: int) -> float:
        """Seconds since a view was the newest one, whatever its reader says of when it asked for it."""
        place = bisect_right(self._commits, (revision, float("inf")))
        return self._world.now() - self._commits[place][1] if place < len(self._commits) else 0.0

    def _holds(self, archive: Archive, write: Write) -> bool:
        disk = self._disk(archive)
        recent = (entry for file in reversed(disk.files) for entry in reversed(file))
        return any(entry.key == write.key for entry in recent) or write.key in disk.base

    def _disk(self, archive: Archive) -> Disk:
        hardware = self._world.machines[archive.server_id].hardware
        return hardware.disks.get(directory_of("/data", archive)) or Disk("")

    # -- the end -----------------------------------------------------------------------------------------------------

    def at_the_end(self) -> None:
        """After everything was healed: what was promised is readable on the leaders."""
        for group in self._world.state.groups.values():
            engine = self.leader_engine(group)
            if engine is None:
                self._world.fail(f"{group.name} has no leader at the end")
                continue
            missing = [
                w for w in self._ledger.writes if w.group == group.key and w.acked_at is not None and w.key not in engine.data
            ]
            complaints = [complaint for write in missing if (complaint := self._missing(write))]
            if complaints:
                self._world.fail(complaints[0] + (f"; and {len(complaints) - 1} more" if complaints[1:] else ""))
            self._same_on_all(group, engine)

    def _missing(self, write: Write) -> str:
        """Why an acknowledged write may not be missing; nothing if the product said that it might be."""
        if not write.waited:
            self.lost["its database does not wait for its disks"] += 1
            return ""
        if write.confirmed_at is not None and write.key not in self._given_up:
            return f"{write.key}, confirmed at {write.confirmed_at:.3f} in term {write.term}, is lost"
        if write.key in self.excused:
            self.lost[self.excused[write.key]] += 1
            return ""
        archive = self._world.state.archives.get(-1 if write.acked_by is None else write.acked_by)
        if archive is None or archive.removed:  # its process may have been given up, and went on until its manager was back
            self.lost["its archive was deleted"] += 1
            return ""
        if any(since <= write.executed_at <= until for since, until in self._evicted.get(archive.archive_id, ())):
            self.lost["its process was given up and not proven to have stopped"] += 1  # docs/critiques.md
            return ""
        term, left_at = self._late.get((write.group, -1 if write.acked_by is None else write.acked_by), (-1, 0.0))
        if write.term <= term and write.executed_at >= left_at and write.awake_for < HEARS_OF_IT:
            self.lost["its machine stood still, and answered once more when it went on"] += 1  # docs/critiques.md
            return ""
        return (
            f"{write.key}, acknowledged at {write.acked_at:.3f} by archive {write.acked_by}, is lost although its "
            "machine was there at every choice"
        )

    def _same_on_all(self, group: Group, leader: SimEngine) -> None:
        """Members of S hold what the leader holds, but for what is still on its way."""
        for archive_id in group.in_sync:
            process = self._world.state.process_on(archive_id)
            engine = self._engine(process) if process else None
            if engine is None:
                self._world.fail(f"archive {archive_id} is in S at the end and has no engine")
            else:
                self._same_contents(archive_id, leader.data, engine.data, "engine")
                self._same_contents(archive_id, leader.data, self._disk(self._world.state.archives[archive_id]).load(), "disk")

    def _same_contents(self, archive_id: int, led: dict[str, str], held: dict[str, str], where: str) -> None:
        """Contents are compared, because equal offsets are no evidence of equal data."""
        if led == held:
            return
        lacking, more = sorted(set(led) - set(held)), sorted(set(held) - set(led))
        other = sorted(key for key in set(led) & set(held) if led[key] != held[key])
        words = (("lacks", lacking), ("has what its leader has not", more), ("has another value", other))
        differences = "; ".join(f"{word}: {len(keys)}, such as {keys[0]}" for word, keys in words if keys)
        self._world.fail(f"archive {archive_id} is in S and its {where} differs from its leader's: {differences}")

    def leader_engine(self, group: Group) -> SimEngine | None:
        """The engine of a group's leader, if it leads."""
        process = self._world.state.processes.get(group.leader_process) if group.leader_process is not None else None
        engine = self._engine(process) if process else None
        return engine if engine is not None and engine.role == "leader" else None

    def _engine(self, process: Process) -> SimEngine | None:
        return self._world.machines[process.server_id].hardware.engines.get(process.start_id)

    def unhealthy(self) -> list[str]:
        """What keeps the domain from being whole; empty when all serve and all copies are back in S."""
        state, reasons, lost = self._world.state, [], self.lost_for_good
        for group in state.groups.values():
            engine = self.leader_engine(group)
            if not group.serving or engine is None or engine.fenced or engine.held:
                reasons.append(f"{group.database}/{group.name} does not serve (phase {group.phase.name}, term {group.term})")
            if isinstance(group.phase, HandingOver):
                reasons.append(f"{group.name} hands over to archive {group.phase.to_archive}")
            archives = {a.archive_id for a in self._world.archives_of(group) if a.server_id != lost}
            if archives - set(group.in_sync):
                reasons.append(f"{group.name}: archives {sorted(archives - set(group.in_sync))} are not in S")
        leaders: defaultdict[Key, list[int]] = defaultdict(list)
        for machine in self._world.machines.values():
            for start_id, running in machine.hardware.engines.items():
                if running.role == "leader":
                    leaders[(running.spec.identity.database, running.group)].append(start_id)
        reasons += [
            f"{name} is led by processes {start_ids}" for (_, name), start_ids in sorted(leaders.items()) if len(start_ids) > 1
        ]
        leaving = [p for p in state.processes.values() if p.state is ProcessState.REQUESTED_SHUTDOWN and p.server_id != lost]
        reasons += [f"process {p.start_id} is leaving" for p in leaving]
        reasons += [
            f"process {p.start_id} runs with {lag.option} {lag.runs}, not {lag.wanted}"
            for p in state.processes.values()
            for lag in lags(state.databases[p.database], p)
            if not lag.renews and p.server_id != lost
        ]
        lacking = [
            p for p in state.processes.values() if lacks_users(state, state.databases[p.database], p) and p.server_id != lost
        ]
        reasons += [f"process {p.start_id} does not let in its database's users" for p in lacking]
        if not lost:
            reasons += [f"{d.name} is {d.state}" for d in state.databases.values() if d.state is not DatabaseState.RUNNING]
        reasons += [f"server {s.server_id} is not alive" for s in state.servers.values() if not s.alive and s.server_id != lost]
        return reasons
