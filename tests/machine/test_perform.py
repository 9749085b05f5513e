"""One step carried out on the engines, and what is reported of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from dkv.control.submit import RequestKey, View
from dkv.domain import facts
from dkv.domain.command import Command
from dkv.domain.decision import Accepted, Refused
from dkv.domain.model import PositionReport
from dkv.engine.contract import ArchiveRefused, ByteRangeDigest, Cause, EngineUnreachable, ExitSeen, Identity, PeerNode, Position
from dkv.machine import steps as s
from dkv.machine.handlers import Dropped
from dkv.machine.observation import ProbeResult
from dkv.machine.perform import Performer
from dkv.machine.plan import engine_spec
from dkv.machine.tail.steps import CheckTail
from dkv.store.memory import MemoryStore
from tests.machine.fakes import Fake, FakeEngines, FakeWorld
from tests.machine.stage import Stage, me


class RecordingSubmitter:
    """A submitter that records its commands; `state` is what a fresh read shows."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.submitted: list[Command] = []
        self.reads = 0
        self.at_read: Callable[[int], None] = lambda number: None

    async def submit(self, command: Command, key: RequestKey | None = None) -> Accepted | Refused:
        self.submitted.append(command)
        return Accepted(self.stage.state, ())

    async def view(self) -> View:
        self.reads += 1
        self.at_read(self.reads)
        return View(1, self.stage.state)


class Harness:
    """A performer for s1, whose archive 0 has a loaded engine."""

    def __init__(self) -> None:
        self.stage = Stage().request(0, 1)
        self.stage.rise(0).rise(1)
        self.world = FakeWorld()
        self.engines = FakeEngines(self.world, "s1")
        self.submitter = RecordingSubmitter(self.stage)
        self.still = True
        self.now = 1.0
        self.store = MemoryStore()
        self.performer = Performer(
            "s1",
            engines=self.engines,
            submitter=self.submitter,
            store=self.store,
            still=self._still,
            token=lambda: "0123456789abcdef",
            probe=self._probe,
            monotonic=lambda: self.now,
        )
        state = self.stage.state
        self.spec = engine_spec(state, me("s1"), state.processes[0], state.archives[0])

    async def _still(self, step: s.Step) -> bool:
        return self.still

    async def _probe(self, host: str, port: int) -> bool:
        return host == "10.0.0.2"

    def runs(self) -> Fake:
        """The engine of archive 0 runs."""
        self.world.engines[0] = Fake(self.spec)
        return self.world.engines[0]

    def lead(self, takeover: bool = True, unfence: bool = True) -> s.Lead:
        return s.Lead(self.spec.directory, 0, self.spec.directory, "orders", "UNPARTITIONED", 1, 1, takeover, unfence)


def play(scenario: Callable[[Harness], Awaitable[None]]) -> None:
    asyncio.run(scenario(Harness()))


# Taking over ---------------------------------------------------------------------------------------------------------


def test_a_leader_takes_over_marks_admits_and_serves_in_this_order() -> None:
    async def scenario(harness: Harness) -> None:
        harness.stage.open()
        engine = harness.runs()
        await harness.performer.perform(harness.lead())
        assert harness.engines.calls == ["take_over", "mark", "confirm_initialised", "admit", "unfence", "take_clients", "survey"]
        assert engine.leads
        (fact,) = harness.submitter.submitted
        assert isinstance(fact, facts.LeaderServing)
        assert (fact.term, fact.epoch) == (1, 101)

    play(scenario)


def supersede(stage: Stage) -> None:
    """The leader's process ends elsewhere: the group has another term."""
    stage.ends(0)


def test_after_takeover_nobody_is_admitted_until_a_fresh_read_still_names_the_leader() -> None:
    """V9: a TAKEOVER that a frozen machine executes late must not make the true leader resync from it."""

    async def scenario(harness: Harness) -> None:
        harness.stage.open()
        engine = harness.runs()
        harness.submitter.at_read = lambda number: supersede(harness.stage)
        with pytest.raises(Dropped):
            await harness.performer.perform(harness.lead())
        assert harness.engines.calls == ["take_over", "fence"]  # whoever waited would wait for nothing
        assert (engine.admits, engine.fenced) == (False, True)
        assert harness.submitter.submitted == []
        assert harness.submitter.reads == 1

    play(scenario)


def test_a_guarded_step_that_is_not_wanted_any_more_touches_no_engine() -> None:
    async def scenario(harness: Harness) -> None:
        harness.runs()
        harness.still = False
        peer = PeerNode("f" * 40, "10.0.0.2", 1, 2, "", "g", leads=True)
        guarded: list[s.Step] = [
            harness.lead(),
            s.Replicate("k", 0, peer),
            s.MarkJoiner("k", 0, "orders", "g", 1, 1, 1),
            s.Mark("k", 0, 1, 1),
            s.Unfence("k", 0),
            s.Admit("k", 0),
            s.Failover("k", 0, "/d", 1),
            s.Rewrite("k", 0, "lease", None),
        ]
        for step in guarded:
            with pytest.raises(Dropped):
                await harness.performer.perform(step)
        assert harness.engines.calls == []

    play(scenario)


def test_takeover_replicate_failover_and_markers_are_guarded() -> None:
    for kind in (s.Lead, s.Replicate, s.Failover, s.MarkJoiner, s.Mark, s.Rewrite, s.Admit, s.Unfence):
        assert kind.guarded, kind
    assert not s.Fence.guarded
    assert s.Fence.blindly


def test_a_takeover_without_an_answer_is_looked_at_again() -> None:
    async def scenario(harness: Harness) -> None:
        harness.stage.open()
        harness.runs()
        harness.engines.refuses = {"take_over": EngineUnreachable("killed")}
        with pytest.raises(EngineUnreachable):
            await harness.performer.perform(harness.lead())
        assert harness.submitter.submitted == []

    play(scenario)


def test_a_leader_below_min_in_sync_serves_fenced() -> None:
    async def scenario(harness: Harness) -> None:
        harness.stage.open()
        engine = harness.runs()
        await harness.performer.perform(harness.lead(unfence=False))
        assert harness.engines.calls[:5] == ["take_over", "mark", "confirm_initialised", "fence", "admit"]
        assert (engine.leads, engine.fenced) == (True, True)
        assert [type(fact) for fact in harness.submitter.submitted] == [facts.LeaderServing]

    play(scenario)


def test_a_leader_that_lost_its_role_meanwhile_does_not_serve() -> None:
    async def scenario(harness: Harness) -> None:
        harness.stage.open()
        engine = harness.runs()

        async def demoted() -> None:
            engine.leads = False

        harness.engines.before["confirm_initialised"] = demoted
        with pytest.raises(Dropped):
            await harness.performer.perform(harness.lead())
        assert harness.submitter.submitted == []

    play(scenario)


# Starting and ending -------------------------------------------------------------------------------------------------


def test_a_taken_archive_is_reported_with_its_position() -> None:
    async def scenario(harness: Harness) -> None:
        harness.world.disks["/d"] = Position(3, 4, "n", 50, initialised=True)
        await harness.performer.perform(s.PrepareArchive("/d", 0, "/d", harness.spec.identity, fresh=True))
        (fact,) = harness.submitter.submitted
        assert isinstance(fact, facts.ProcessStarted)
        assert fact.report == PositionReport(3, 4, "n", 50)
        assert harness.performer.prepared == {"/d"}

    play(scenario)


@pytest.mark.parametrize("cause", [Cause.ARCHIVE_LOCKED, Cause.ARCHIVE_FOREIGN, Cause.CORRUPT_ARCHIVE])
@pytest.mark.parametrize("where", ["prepare", "launch"])
def test_a_refused_archive_ends_its_process_with_that_cause_and_holds_no_lock(where: str, cause: Cause) -> None:
    async def scenario(harness: Harness) -> None:
        harness.engines.refuses = {where: ArchiveRefused(cause, "because")}
        directory = harness.spec.directory
        step = (
            s.PrepareArchive(directory, 0, directory, harness.spec.identity, True)
            if where == "prepare"
            else s.Launch(directory, harness.spec, fresh=True)
        )
        await harness.performer.perform(step)
        (fact,) = harness.submitter.submitted
        assert isinstance(fact, facts.ProcessExited)
        assert (fact.cause, fact.detail, fact.planned, fact.reaped) == (cause, "because", False, True)
        assert not harness.engines.locks
        assert not harness.performer.prepared

    play(scenario)


def test_a_restarted_manager_takes_the_lock_again_before_it_launches() -> None:
    async def scenario(harness: Harness) -> None:
        await harness.performer.perform(s.Launch(harness.spec.directory, harness.spec, fresh=True))
        assert harness.engines.calls == ["prepare", "launch"]
        assert [type(fact) for fact in harness.submitter.submitted] == [facts.ProcessConfigured]

    play(scenario)


@pytest.mark.parametrize("locked", [True, False])
def test_an_engine_that_vanished_is_no_graceful_stop_and_its_lock_is_the_proof(locked: bool) -> None:
    async def scenario(harness: Harness) -> None:
        harness.world.identities.add("/d")
        if locked:
            harness.engines.refuses = {"prepare": ArchiveRefused(Cause.ARCHIVE_LOCKED, "in use by pid 5")}
        await harness.performer.perform(s.ReportVanished("/d", 0, "/d", harness.spec.identity))
        (fact,) = harness.submitter.submitted
        assert isinstance(fact, facts.ProcessExited)
        assert (fact.planned, fact.reaped, fact.cause) == (False, not locked, Cause.EXITED)
        assert not harness.engines.locks
        harness.stage.submit(fact)
        restarted = harness.stage.process(0)
        assert restarted.request.restart_of == 0

    play(scenario)


def test_an_end_is_reported_before_its_record_is_dropped() -> None:
    async def scenario(harness: Harness) -> None:
        ended = ExitSeen(0, "/d", Cause.OUT_OF_MEMORY, "the kernel killed it", 137, 9, ("last",), reaped=False)

        async def reported_already() -> None:
            assert harness.submitter.submitted

        harness.engines.before["forget_exit"] = reported_already
        await harness.performer.perform(s.ReportExit("/d", ended))
        (fact,) = harness.submitter.submitted
        assert isinstance(fact, facts.ProcessExited)
        assert (fact.cause, fact.wait_status, fact.last_words) == (Cause.OUT_OF_MEMORY, 9, ("last",))
        assert (fact.planned, fact.reaped) == (False, False)
        assert harness.engines.calls == ["forget_exit"]

    play(scenario)


def test_nothing_is_kept_of_an_engine_that_ended() -> None:
    async def scenario(harness: Harness) -> None:
        harness.runs()
        harness.world.marker = Position(1, 5, "n")
        await harness.performer.perform(s.Rewrite("k", 0, "rewrite/g", None))
        await harness.performer.perform(s.Failover("k", 0, harness.spec.directory, 1))
        assert (len(harness.performer.rewrite_leases), len(harness.performer.failovers)) == (1, 1)
        ended = ExitSeen(0, harness.spec.directory, Cause.KILLED_BY_SIGNAL, "", 137, 9, (), reaped=True)
        await harness.performer.perform(s.ReportExit("k", ended))
        assert (harness.performer.rewrite_leases, harness.performer.failovers) == ({}, {})

    play(scenario)


@pytest.mark.parametrize("cause", [Cause.GRACEFUL_STOP, Cause.OPERATOR_KILL])
def test_only_what_somebody_asked_for_is_planned(cause: Cause) -> None:
    async def scenario(harness: Harness) -> None:
        await harness.performer.perform(s.ReportExit("/d", ExitSeen(0, "/d", cause, "", 0, None, (), True)))
        (fact,) = harness.submitter.submitted
        assert isinstance(fact, facts.ProcessExited)
        assert fact.planned

    play(scenario)


def test_a_retired_archive_is_reported_with_its_new_name() -> None:
    async def scenario(harness: Harness) -> None:
        await harness.performer.perform(s.Retire("/d", 5, "/d", Identity("d", "orders", 5, "u", "g")))
        assert harness.submitter.submitted == [
            facts.ArchiveRetired(server_id="s1", actor="s1", archive_id=5, path="/d.deleted-1")
        ]

    play(scenario)


# Positions, markers, tails -------------------------------------------------------------------------------------------


def test_an_engine_found_leading_is_fenced_before_its_position_is_read() -> None:
    async def scenario(harness: Harness) -> None:
        engine = harness.runs()
        engine.fenced = False
        await harness.performer.perform(s.ReportPosition("k", 0, harness.spec.directory, 1, True, 10, "h"))
        assert harness.engines.calls == ["fence", "read_position"]
        assert engine.fenced

    play(scenario)


def test_an_unreadable_position_is_an_answer_too() -> None:
    async def scenario(harness: Harness) -> None:
        harness.engines.refuses = {"read_position": ArchiveRefused(Cause.DISK_ERROR, "EIO")}
        await harness.performer.perform(s.ReportPosition("k", 0, "/d", 1, False, 10, "h"))
        (fact,) = harness.submitter.submitted
        assert isinstance(fact, facts.PositionReported)
        assert fact.report.order == (0, 0, 0)

    play(scenario)


@pytest.mark.parametrize(
    ("found", "durable"),
    [(Position(1, 7, "n"), True), (Position(1, 8, "later"), True), (Position(1, 6, "old"), False), (Position(), False)],
)
def test_a_marker_is_durable_when_it_or_a_later_one_is_on_the_joiners_disk(found: Position, durable: bool) -> None:
    async def scenario(harness: Harness) -> None:
        harness.runs()
        harness.world.marker = found
        await harness.performer.perform(s.CheckMarker("k", 0, harness.spec.directory, 1, 7, "n"))
        assert [type(fact) for fact in harness.submitter.submitted] == ([facts.JoinDurable] if durable else [])

    play(scenario)


def test_no_failover_to_an_archive_without_the_terms_marker() -> None:
    async def scenario(harness: Harness) -> None:
        harness.runs()
        harness.world.marker = Position(1, 3, "n")
        for term, after in ((2, 0), (1, 3)):
            with pytest.raises(Dropped):
                await harness.performer.perform(s.Failover("k", 0, harness.spec.directory, term=term, after=after))
        assert harness.engines.calls == ["read_position"] * 2
        assert harness.performer.failovers == {}
        await harness.performer.perform(s.Failover("k", 0, harness.spec.directory, term=1, after=2))
        assert harness.engines.calls[2:] == ["read_position", "unfence", "failover"]
        assert list(harness.performer.failovers) == [0]

    play(scenario)


def test_a_tail_is_set_aside_before_the_resync_that_would_wipe_it_and_only_once() -> None:
    async def scenario(harness: Harness) -> None:
        harness.runs()
        peer = PeerNode("f" * 40, "10.0.0.2", 1, 2, "", "g", leads=True)
        step = s.Replicate("k", 0, peer, Position(1, 1, "n", 5))
        await harness.performer.perform(step)
        assert harness.engines.calls == ["set_aside", "replicate"]
        assert [type(fact) for fact in harness.submitter.submitted] == [facts.TailSetAside]
        await harness.performer.perform(step)
        assert harness.engines.calls == ["set_aside", "replicate", "replicate"]
        await harness.performer.perform(s.Replicate("k", 0, peer, Position(4, 1, "n", 5)))
        assert harness.engines.calls.count("set_aside") == 2

    play(scenario)


def test_a_joiners_marker_is_written_before_it_is_reported() -> None:
    async def scenario(harness: Harness) -> None:
        harness.runs()
        await harness.performer.perform(s.MarkJoiner("k", 0, "orders", "UNPARTITIONED", 1, 4, 1))
        (fact,) = harness.submitter.submitted
        assert isinstance(fact, facts.JoinMarked)
        assert (fact.sequence, fact.nonce) == (4, harness.world.marker.nonce)

    play(scenario)


def test_a_rewrite_waits_for_its_groups_lease() -> None:
    async def scenario(harness: Harness) -> None:
        harness.runs()
        await harness.store.acquire("rewrite/g", "s2/1", 60.0)
        await harness.performer.perform(s.Rewrite("k", 0, "rewrite/g", None))
        assert harness.engines.calls == []
        await harness.store.release("rewrite/g", "s2/1")
        assert harness.performer.rewrite_leases == {}
        await harness.performer.perform(s.Rewrite("k", 0, "rewrite/g", None))
        assert harness.engines.calls == ["rewrite"]
        assert harness.performer.rewrite_leases == {0: 1_000}

    play(scenario)


def test_the_result_of_a_probe_is_kept_with_its_time() -> None:
    async def scenario(harness: Harness) -> None:
        probed: list[tuple[str, int]] = []

        async def accepts(host: str, port: int) -> bool:
            probed.append((host, port))
            return port == 7861

        harness.performer._accepts = accepts
        await harness.performer.perform(s.ProbePeer("k", "10.0.0.2", 7801))
        await harness.performer.perform(s.ProbePeer("k", "10.0.0.9", 7801, 7862))
        harness.now = 4.0
        await harness.performer.perform(s.ProbePeer("k", "10.0.0.2", 7801, 7861))
        assert harness.performer.probes == {
            ("10.0.0.2", 7801, 0): ProbeResult(1_000, answers=True, accepts=False),
            ("10.0.0.9", 7801, 7862): ProbeResult(1_000, answers=False, accepts=False),
            ("10.0.0.2", 7801, 7861): ProbeResult(4_000, answers=True, accepts=True),
        }
        assert probed == [("10.0.0.9", 7862), ("10.0.0.2", 7861)], "an engine that can hear does not probe at another"
        assert harness.submitter.submitted == [], "what that means is judged by plan"

    play(scenario)


def test_what_was_missing_is_reported_to_be_there_once_it_was_seen_missing() -> None:
    """Who never saw it missing cannot know that it came back: such a process waits for its time."""

    async def scenario(harness: Harness) -> None:
        step = s.LookForLack("/a", 0, "/a", Cause.DISK_FULL, "127.0.0.1", (7811, 7861))
        await harness.performer.perform(step)
        assert harness.submitter.submitted == []
        harness.world.obstacle = "0 bytes are free"
        await harness.performer.perform(step)
        assert harness.submitter.submitted == []
        harness.world.obstacle = ""
        await harness.performer.perform(step)
        await harness.performer.perform(step)
        assert harness.submitter.submitted == [facts.LackEnded(start_id=0, server_id="s1", actor="s1")]

    play(scenario)


# A dead leader's tail --------------------------------------------------------------------------------------------------


class Rewritten(FakeEngines):
    """Archive 0's engine has rewritten its file: the marker from which everybody counts is not in it any more."""

    async def digest(self, directory: str, marker: tuple[int, int, str], upto: int | None = None) -> ByteRangeDigest:
        raise ArchiveRefused(Cause.CORRUPT_ARCHIVE, f"{directory} lacks the marker")


def test_a_follower_that_can_never_be_compared_gives_the_tail_up_at_once() -> None:
    """It was looked at again and again until the time for the tail was over, 62 s for 250 MB."""

    async def scenario(harness: Harness) -> None:
        engines = Rewritten(harness.world, "s1")
        performer = Performer(
            "s1",
            engines=engines,
            submitter=harness.submitter,
            store=harness.store,
            still=harness._still,
            token=lambda: "0123456789abcdef",
            probe=harness._probe,
            monotonic=lambda: harness.now,
        )
        fake = harness.runs()
        directory = harness.spec.directory
        await performer.perform(CheckTail(directory, 0, 2, directory, (1, 1, "n"), ByteRangeDigest(900, "all")))
        (fact,) = harness.submitter.submitted
        assert isinstance(fact, facts.TailBroken)
        assert (fact.start_id, fact.term, fact.reason) == (0, 2, f"{directory} lacks the marker")
        assert harness.world.engines[0] is fake, "nothing is wrong with what it holds"

    play(scenario)
