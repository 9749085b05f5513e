"""Tests of the machine: a small domain, made by real commands, and what its managers see of their engines.

Archive 0 lives on s1, archive 1 on s2, archive 2 on s3; all are copies of one group. `Stage` submits to the domain what
happened; `see` and `steps` show one manager a glance in which everything has lasted for a while.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from dkv.domain.command import Command
from dkv.domain.decide import decide
from dkv.domain.decision import Accepted, Refused
from dkv.domain.facts import (
    HandoverBegun,
    JoinAnnounced,
    JoinCompleted,
    JoinDurable,
    JoinMarked,
    LeaderServing,
    OpenTerm,
    ProcessConfigured,
    ProcessExited,
    ProcessStarted,
    ProcessTracked,
    ServerJoined,
    ServerLost,
)
from dkv.domain.model import Archive, DatabaseOptions, Group, PositionReport, Process, ProcessRole, ProcessState, State
from dkv.domain.orders import CreateDatabase, NewArchive, ShutdownProcess, StartProcess
from dkv.engine.contract import (
    ClusterSeen,
    EngineOptions,
    EngineSeen,
    ExitSeen,
    FilesSeen,
    NodeSeen,
    Position,
    ReplicaSeen,
    ReplicationSeen,
    Survey,
    TeSeen,
    WritesSeen,
)
from dkv.machine.conditions import update_history
from dkv.machine.observation import (
    ConditionHistory,
    LocalServer,
    Observation,
    directory_of,
    node_id,
    te_directory,
    te_node_id,
    te_peers,
)
from dkv.machine.plan import plan
from dkv.machine.steps import Step

DATABASE = "orders"
GROUP = ("orders", "UNPARTITIONED")
HISTORY = "a" * 40
FRESH = 3.0  # seconds of a lease just renewed
LONG = 3_600_000.0  # ms


def host(server: str) -> str:
    return f"10.0.0.{server[1:]}"


def me(server: str) -> LocalServer:
    return LocalServer(server, f"uid-{server}", host(server), 7801, 8888, "b1", f"/data/{server}", 1 << 33)


def steps_of(state: State, server: LocalServer, seen: Observation) -> list[Step]:
    """The steps of a plan."""
    return list(plan(state, server, seen).steps)


def next_look_of(state: State, server: LocalServer, history: ConditionHistory | None = None) -> float:
    """When a server without engines is looked at again, in s."""
    return plan(state, server, Observation(Survey(), FRESH, history or ConditionHistory())).next_look


PARTS = {
    field.name: name
    for name, part in (
        ("replication", ReplicationSeen),
        ("cluster", ClusterSeen),
        ("files", FilesSeen),
        ("writes", WritesSeen),
        ("options", EngineOptions),
    )
    for field in fields(part)
}


def changed(engine: EngineSeen, **changes: Any) -> EngineSeen:
    """An engine but for `changes`: fields of its own, or of its replication, cluster, files, writes and options."""
    for name in changes.keys() & PARTS.keys():
        part = PARTS[name]
        engine = replace(engine, **{part: replace(getattr(engine, part), **{name: changes.pop(name)})})
    return replace(engine, **changes)


class Stage:
    """A domain that real commands are submitted to."""

    def __init__(self, copies: int = 2, **options: Any) -> None:
        self.state = State(uid="d0")
        self._tls = options.get("engine_tls") == "on"
        for number in range(1, copies + 1):
            self.server_joins(f"s{number}")
        archives = tuple(NewArchive(server_id=f"s{n}", cluster_port=7810 + n, client_port=7860 + n) for n in range(1, copies + 1))
        accepted = "no" if self._tls else "yes"
        chosen = DatabaseOptions(replication_factor=copies, **{"insecure_engine_traffic": accepted, **options})
        self.submit(CreateDatabase(name=DATABASE, uid="u1", secret="x", options=chosen, archives=archives))

    def offer(self, command: Command) -> Accepted | Refused:
        """Submit a command that may be refused."""
        decision = decide(self.state, command)
        if isinstance(decision, Accepted):
            self.state = decision.state
        return decision

    def submit(self, *commands: Command) -> Stage:
        """Submit commands that the domain has to accept."""
        for command in commands:
            decision = self.offer(command)
            assert isinstance(decision, Accepted), f"{command}: {decision}"
        return self

    # Reading --------------------------------------------------------------------------------------------------------

    @property
    def group(self) -> Group:
        return self.state.groups[GROUP]

    def process(self, archive_id: int) -> Process:
        process = self.state.process_on(archive_id)
        assert process is not None, f"archive {archive_id} has no process"
        return process

    def of(self, archive_id: int) -> dict[str, Any]:
        """What each fact about an archive's process says."""
        process = self.process(archive_id)
        return {"server_id": process.server_id, "start_id": process.start_id}

    def quote(self) -> dict[str, Any]:
        """What each fact of the leader's manager says."""
        leader = self.group.leader
        assert leader is not None
        return {"server_id": f"s{leader + 1}", "database": DATABASE, "group": GROUP[1], "term": self.group.term}

    # What happens -----------------------------------------------------------------------------------------------------

    def server_joins(self, server: str) -> Stage:
        here = ServerJoined(server_id=server, uid=f"uid-{server}", host=host(server), port=7801, nuodb_port=8888, boot_id="b1")
        return self.submit(replace(here, engine_tls=self._tls))

    def server_is_lost(self, server: str) -> Stage:
        return self.submit(ServerLost(server_id=server, uid=f"uid-{server}"))

    def request(self, *archive_ids: int) -> Stage:
        for archive_id in archive_ids:
            self.submit(StartProcess(database=DATABASE, role=ProcessRole.SM, archive_id=archive_id))
        return self

    def rise(self, archive_id: int, to: ProcessState = ProcessState.TRACKED) -> Stage:
        """Bring a process up to a state, one fact after the other."""
        order = list(ProcessState)
        facts: list[tuple[ProcessState, Command]] = [
            (ProcessState.STARTED, ProcessStarted(report=PositionReport(), **self.of(archive_id))),
            (ProcessState.CONFIGURED, ProcessConfigured(pid=4711, **self.of(archive_id))),
            (ProcessState.TRACKED, ProcessTracked(pid=4711, **self.of(archive_id))),
        ]
        for state, fact in facts:
            if order.index(self.process(archive_id).state) < order.index(state) <= order.index(to):
                self.submit(fact)
        return self

    def start_te(self, server: str, to: ProcessState = ProcessState.REQUESTED) -> int:
        """Request a TE and bring it up to a state; its start id. From TRACKED on it goes by itself once its groups are led."""
        self.submit(StartProcess(database=DATABASE, role=ProcessRole.TE, server_id=server))
        start_id = self.state.next_start_id - 1
        who: dict[str, Any] = {"server_id": server, "start_id": start_id}
        facts: list[tuple[ProcessState, Command]] = [
            (ProcessState.STARTED, ProcessStarted(**who)),
            (ProcessState.CONFIGURED, ProcessConfigured(pid=4711, **who)),
            (ProcessState.TRACKED, ProcessTracked(pid=4711, **who)),
        ]
        order = list(ProcessState)
        for state, fact in facts:
            if order.index(state) <= order.index(to):
                self.submit(fact)
        return start_id

    def open(self) -> Stage:
        return self.submit(OpenTerm(start_id=self.group.leader_process or 0, **self.quote()))

    def serve(self, epoch: int = 101) -> Stage:
        return self.submit(LeaderServing(start_id=self.group.leader_process or 0, epoch=epoch, history=HISTORY, **self.quote()))

    def led(self) -> Stage:
        """All archives are requested; archive 0 leads, the others are loaded and wait."""
        every = sorted(self.state.archives)
        self.request(*every)
        for archive_id in every:
            self.rise(archive_id)
        return self.open().serve()

    def announce(self, archive_id: int) -> Stage:
        return self.submit(JoinAnnounced(archive_id=archive_id, **self.quote()))

    def mark(self, archive_id: int, sequence: int = 2) -> Stage:
        return self.submit(JoinMarked(archive_id=archive_id, sequence=sequence, nonce="n", **self.quote()))

    def require(self, archive_id: int, sequence: int = 2) -> Stage:
        return self.submit(JoinDurable(term=self.group.term, sequence=sequence, nonce="n", **self.of(archive_id)))

    def join(self, archive_id: int) -> Stage:
        self.announce(archive_id).mark(archive_id).require(archive_id)
        return self.submit(JoinCompleted(archive_id=archive_id, **self.quote()))

    def settled(self) -> Stage:
        """Archive 0 leads and all copies are in sync."""
        self.led()
        for archive_id in sorted(self.state.archives):
            if archive_id != 0:
                self.join(archive_id)
        return self

    def stop(self, archive_id: int, **how: Any) -> Stage:
        return self.submit(ShutdownProcess(start_id=self.process(archive_id).start_id, **how))

    def hand_over(self, to: int, hasty: bool = False) -> Stage:
        return self.submit(HandoverBegun(to_archive=to, immediate=hasty, **self.quote()))

    def ends(self, archive_id: int, **how: Any) -> Stage:
        known: dict[str, Any] = {"cause": "killed by signal", "detail": "killed", "exit_code": 137}
        return self.submit(ProcessExited(**self.of(archive_id), **(known | how)))

    # What is seen -----------------------------------------------------------------------------------------------------

    def engine(self, archive_id: int, **changes: Any) -> EngineSeen:
        """An archive's engine as it should be in this state, but for `changes`."""
        process, archive, group = self.process(archive_id), self.state.archives[archive_id], self.group
        leads = group.leader == archive_id and group.open
        leader = None if leads or group.leader is None else node_id("d0", group.leader)
        joined = process.state in (ProcessState.MONITORED, ProcessState.REQUESTED_SHUTDOWN)
        linked = joined and leader is not None
        seen = EngineSeen(
            start_id=process.start_id,
            directory=directory_of(me(process.server_id).data_dir, archive),
            node_id=node_id("d0", archive_id),
            pid=4711,
            answering=True,
            role="leader" if leads else "follower",
            follows=leader,
            cluster=ClusterSeen(state_ok=True, epoch=group.epoch, nodes=self.nodes()),
            writes=WritesSeen(fenced=not leads),
            admits_replicas=leads,
            replication=ReplicationSeen(
                link_up=linked,
                link_silent_ms=0 if leads or linked else 10**9,
                offset=1_000,
                history=HISTORY,
                replicas=tuple(self.replica(a) for a in self.others(archive_id)) if leads else (),
            ),
            takes_clients=leads or linked,
            files=FilesSeen(free_bytes=1 << 40, marker=Position(group.term, 1, "n", initialised=True)),
        )
        return changed(seen, **changes)

    def memory(self, start_id: int, **changes: Any) -> TeSeen:
        """A TE's engines as they should be in this state, but for `changes` to each."""
        process = self.state.processes[start_id]
        directory = te_directory(me(process.server_id).data_dir, start_id)
        joined = process.state in (ProcessState.MONITORED, ProcessState.REQUESTED_SHUTDOWN)
        engines = []
        for endpoint in process.endpoints:
            leader = self.state.groups[(DATABASE, endpoint.group)].leader
            linked = joined and leader is not None
            seen = EngineSeen(
                start_id=start_id,
                directory=f"{directory}/{endpoint.group}",
                group=endpoint.group,
                pid=4711,
                node_id=te_node_id("d0", start_id, endpoint.group),
                answering=True,
                role="follower",
                cluster=ClusterSeen(state_ok=True, nodes=self.nodes()),
                follows=None if leader is None else node_id("d0", leader),
                writes=WritesSeen(fenced=True),
                replication=ReplicationSeen(link_up=linked),
                takes_clients=linked,
            )
            engines.append(changed(seen, **changes))
        return TeSeen(start_id, directory, 4711, tuple(engines))

    def others(self, archive_id: int) -> list[int]:
        return [a for a in sorted(self.state.archives) if a != archive_id and self.state.process_on(a)]

    def replica(self, archive_id: int, **changes: Any) -> ReplicaSeen:
        """How the leader sees another copy: attached and level."""
        archive = self.state.archives[archive_id]
        seen = ReplicaSeen(host(archive.server_id), archive.client_port, 1_000, online=True, silent_ms=0)
        return replace(seen, **changes)

    def followed_by(self, archive: Archive) -> str | None:
        """The node id of whom that archive's engine follows, as gossip has it once it is settled."""
        leader = self.group.leader
        return None if leader in (None, archive.archive_id) else node_id("d0", leader)

    def nodes(self) -> tuple[NodeSeen, ...]:
        archives = [a for a in self.state.archives.values() if not a.removed]
        return tuple(
            NodeSeen(
                node_id("d0", a.archive_id),
                host(a.server_id),
                a.client_port,
                "leader" if a.archive_id == self.group.leader else "follower",
                self.followed_by(a),
                False,
                False,
                0,
            )
            for a in archives
        ) + tuple(
            NodeSeen(p.node_id, p.address, p.client_port, "follower", None, False, False, 0)
            for p in te_peers(self.state, DATABASE)
        )

    def see(
        self, server: str, *engines: EngineSeen | TeSeen, exits: Iterable[ExitSeen] = (), lasting: float = 0, lease: float = FRESH
    ) -> Observation:
        """A glance of a manager that works since long, in which everything has lasted for so many ms."""
        alone = tuple(e for e in engines if isinstance(e, EngineSeen))
        survey = Survey(alone, tuple(exits), tuple(e for e in engines if isinstance(e, TeSeen)))
        begun = update_history(ConditionHistory(now=1_000), self.state, me(server), survey, 1_000)
        now = 1_000 + lasting
        return Observation(survey, lease, update_history(begun, self.state, me(server), survey, now))

    def steps(self, server: str, *engines: EngineSeen | TeSeen, **more: Any) -> list[Step]:
        """What that server's manager does at such a glance."""
        return steps_of(self.state, me(server), self.see(server, *engines, **more))


def facts(steps: list[Step]) -> list[str]:
    """The facts that would be reported, by the names of the commands."""
    return [type(step.fact).__name__ for step in steps if hasattr(step, "fact")]


def kinds(steps: list[Step]) -> list[str]:
    """The steps by name, a fact by the name of its command."""
    return [type(step.fact).__name__ if hasattr(step, "fact") else type(step).__name__ for step in steps]
