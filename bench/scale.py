"""Scale: what one decision, one look and one watch cost in a domain of 10 to 10,000 processes.

One database in groups of four archives on 4 to 1,000 servers, all of it serving, and one archive beside them that is
started and stopped again and again. No process and no disk: the pure functions and the codec on a store in memory.
Measured are `decide` of orders, facts and ticks, `plan` for one server, encoding a commit, decoding what a watch brings
after one change, and the memory of one view.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from dkv.control.submit import view_of
from dkv.domain import facts, orders
from dkv.domain.command import Command
from dkv.domain.decide import decide
from dkv.domain.decision import Accepted
from dkv.domain.model import (
    Archive,
    ArchiveState,
    Database,
    DatabaseOptions,
    DatabaseState,
    EngineState,
    Group,
    PositionReport,
    Process,
    ProcessRole,
    ProcessState,
    Server,
    State,
    Tombstone,
)
from dkv.domain.phases import Open
from dkv.engine.contract import EngineSeen, Survey
from dkv.machine.observation import ConditionHistory, LocalServer, Observation
from dkv.machine.plan import plan
from dkv.store import codec
from dkv.store.memory import MemoryDomain
from kit.record import Raw, Recorder, Table, of, progress
from kit.stage import arguments
from kit.stats import percentile, verdict

DATABASE, COPIES = "bench", 4
SIZES = (10, 100, 1_000, 10_000)
TARGETS = {1_000: 1.0, 10_000: 3.0}  # ms at the median, for a decision and a tick
JUDGED = ("decide StartProcess", "decide LoadingProgressed", "decide PositionReported", "decide ProcessExited", "tick")


def main() -> None:
    """Measure, record, print."""
    wish = arguments(__doc__, rounds=(40, 3, "lives of one process at each size"), largest=(10_000, 100, "processes at most"))
    recorder = Recorder("scale", wish.quick, vars(wish))
    for size in (size for size in SIZES if size <= wish.largest):
        measure(recorder, size, wish.rounds)
    recorder.finish(tables)


# The domain --------------------------------------------------------------------------------------------------------


def whole(processes: int) -> State:
    """A database of that many processes, rounded up to whole groups, all serving; archive 0 is the one that does not run.

    Every process had one before it, of which the newest 900 are remembered.
    """
    groups = -(-processes // COPIES)
    servers = [f"s{number}" for number in range(max(COPIES, min(1_000, processes // 10)))]
    archives = [_archive(0, "g0", servers[0], ArchiveState.NOT_RUNNING)]
    archives += [_archive(n, f"g{(n - 1) // COPIES}", servers[n % len(servers)]) for n in range(1, groups * COPIES + 1)]
    ended = [Tombstone(_process(a, a.archive_id), 1, 0, "it ended", "signal", 137, 9, 1) for a in archives[-900:] if a.archive_id]
    live = [_process(archive, archive.archive_id + len(archives)) for archive in archives[1:]]
    return State(
        uid="d" * 32,
        next_archive_id=len(archives),
        next_start_id=2 * len(archives),
        servers={name: Server(name, f"u{name}", f"10.0.0.{n}", 7801, 8888, "b") for n, name in enumerate(servers)},
        databases={DATABASE: _database(len(live))},
        groups={(DATABASE, f"g{number}"): _group(number, groups, len(archives)) for number in range(groups)},
        archives={archive.archive_id: archive for archive in archives},
        processes={process.start_id: process for process in live},
        tombstones={tombstone.process.start_id: tombstone for tombstone in ended},
    )


def _database(processes: int) -> Database:
    options = DatabaseOptions(replication_factor=COPIES, min_in_sync=2)
    state = DatabaseState.AWAITING_ARCHIVE_HISTORIES_INC
    return Database(DATABASE, "u0", "s", options, state, major=1, next_node_id=processes + 1, numbered=True)


def _archive(number: int, group: str, server: str, state: ArchiveState = ArchiveState.RUNNING) -> Archive:
    ports = (20_000 + number % 20_000, 40_000 + number % 20_000)
    return Archive(number, DATABASE, "u0", group, server, f"{DATABASE}-{number}", "", *ports, state)


def _process(archive: Archive, start_id: int) -> Process:
    return Process(
        start_id=start_id,
        database=DATABASE,
        role=ProcessRole.SM,
        server_id=archive.server_id,
        archive_id=archive.archive_id,
        group=archive.group,
        state=ProcessState.MONITORED,
        engine_state=EngineState.RUNNING,
        pid=10_000 + archive.archive_id,
        node_id=archive.archive_id,
        running_at=1,
    )


def _group(number: int, groups: int, shift: int) -> Group:
    """`shift`: by how much the start id of a process is above the id of its archive."""
    first = number * COPIES + 1
    members = tuple(range(first, first + COPIES))
    slots = (number * 16_384 // groups, (number + 1) * 16_384 // groups - 1)
    return Group(
        DATABASE,
        f"g{number}",
        f"{number:040x}",
        (slots,),
        Open(leader=first, leader_process=first + shift, serving=True),
        term=1,
        in_sync=members,
        required=members[1:],
        last_leader=first,
        suspects=(first + shift,),
    )


# Measuring ---------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """One size: the store, the newest state, and where times go."""

    recorder: Recorder
    size: int
    domain: MemoryDomain
    state: State
    now: int = 1_000_000

    def timed(self, name: str, act: Callable[[], Any]) -> Any:
        """What it gives; how long it took is recorded."""
        began = time.perf_counter()
        answer = act()
        self.recorder.add("time", size=self.size, what=name, ms=1000 * (time.perf_counter() - began))
        return answer

    def decide(self, command: Command, name: str = "", keep: bool = True) -> State:
        """Decide it; unless it is only asked about: write it down, and see it through a watch. Raises RuntimeError."""
        self.now += 1_000
        state, timed = self.state, replace(command, now=self.now)
        decision = self.timed(name or f"decide {type(command).__name__}", lambda: decide(state, timed))
        if not isinstance(decision, Accepted):
            raise RuntimeError(f"{type(command).__name__}: {decision.message}")
        if keep and decision.state is not state:
            writes = self.timed("encode a commit", lambda: codec.diff(state, decision.state))
            revision = self.domain.snapshot.revision
            self.domain.commit(revision, writes, [], str(revision))
            self.state = self.timed("decode a watch", lambda: view_of(self.domain.snapshot)).state
        return decision.state


def measure(recorder: Recorder, size: int, rounds: int) -> None:
    """Many lives of one process, a tick here and there, and each time what one manager does about it."""
    domain = MemoryDomain()
    domain.commit(0, codec.encode(whole(size)), [], "first")
    gc.collect()
    tracemalloc.start()
    state = view_of(domain.snapshot).state
    recorder.add("memory", size=size, mb=tracemalloc.get_traced_memory()[0] / 2**20)
    tracemalloc.stop()
    run = Run(recorder, size, domain, state)
    me = LocalServer("s0", "uid", "10.0.0.0", 7801, 8888, "boot", "/data", 8 << 30)
    for number in range(rounds):
        progress(f"{size} processes, round {number + 1} of {rounds}")
        for command in life(run):
            run.decide(command)
        lead(run, number)
        run.timed("plan", lambda: plan(run.state, me, seen(run.state)))


def life(run: Run) -> Iterator[Command]:
    """Archive 0 is started, loads, and ends; time passes while it waits."""
    yield orders.StartProcess(database=DATABASE, role=ProcessRole.SM, archive_id=0)
    start_id = max(run.state.processes)
    fact: dict[str, Any] = {"server_id": "s0", "start_id": start_id}
    yield facts.ProcessStarted(**fact, report=PositionReport(1, 1, "n", 10, 10))
    run.decide(facts.Tick(clock=run.state.clock + 200), "tick")
    yield facts.ProcessConfigured(**fact, pid=99)
    yield facts.LoadingProgressed(**fact, percent=50)
    yield facts.ProcessExited(**fact, cause="stopped", detail="it ended", exit_code=0, planned=True)
    run.decide(facts.Tick(clock=run.state.clock + 200), "tick")


def lead(run: Run, number: int) -> None:
    """A leader ends: a follower answers with its position and is assigned. Only asked about; all goes on as before."""
    groups = sorted(run.state.groups)
    group = run.state.groups[groups[number % len(groups)]]
    leader, follower = (run.state.processes[start_id] for start_id in _two(run.state, group))
    before = run.state
    fact: dict[str, Any] = {"server_id": leader.server_id, "start_id": leader.start_id}
    killed = facts.ProcessExited(**fact, detail="killed", cause="signal", exit_code=137)
    run.state = run.decide(killed, "decide ProcessExited of a leader", keep=False)
    report = PositionReport(1, 1, "n", 10, 10)
    fact = {"server_id": follower.server_id, "start_id": follower.start_id, "term": 1, "report": report}
    run.state = run.decide(facts.PositionReported(**fact), keep=False)
    run.decide(facts.Tick(clock=run.state.clock + 200), "tick", keep=False)
    run.state = before


def _two(state: State, group: Group) -> tuple[int, int]:
    """The processes of its leader and of one follower, by start id."""
    assert group.leader_process is not None
    on = {p.archive_id: p.start_id for p in state.processes.values() if p.group == group.name}
    return group.leader_process, on[group.required[0]]


def seen(state: State) -> Observation:
    """What a manager of server s0 sees: its engines run."""
    mine = [p for p in state.processes.values() if p.server_id == "s0"]
    engines = [EngineSeen(p.start_id, f"/data/{p.start_id}", f"{p.start_id:040x}", p.pid or 0, True) for p in mine]
    return Observation(Survey(tuple(engines)), 3.0, ConditionHistory())


# Results -----------------------------------------------------------------------------------------------------------


def tables(raw: Sequence[Raw]) -> list[Table]:
    """Times and memory by size."""
    sizes = sorted({r["size"] for r in of(raw, "memory")})
    names = sorted({r["what"] for r in of(raw, "time")})
    rows = [[name, *(_cell(raw, name, size) for size in sizes)] for name in names]
    memory = [f"{of(raw, 'memory', size=size)[0]['mb']:.1f} MB" for size in sizes]
    header = ["ms, p50 / p99", *(f"{size} processes" for size in sizes)]
    return [Table("What a decision costs", header, [*rows, ["memory of a view", *memory]])]


def _cell(raw: Sequence[Raw], name: str, size: int) -> str:
    values = [r["ms"] for r in of(raw, "time", what=name, size=size)]
    target = TARGETS.get(size) if name in JUDGED else None
    judged = f" ({target:g} ms {verdict(median(values), target)})" if target else ""
    return f"{percentile(values, 0.5):.3f} / {percentile(values, 0.99):.3f}{judged}"


if __name__ == "__main__":
    main()
