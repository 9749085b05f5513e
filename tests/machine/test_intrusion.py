"""Tests of the machine: a stranger on the cluster bus, as each manager sees and ends it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dkv.domain.facts import DeletionsKept, SlotsLost, SlotsOwned
from dkv.domain.status import can_lose
from dkv.engine.contract import EPOCHS, Cause, EngineSeen, NodeSeen
from dkv.machine.intrusion import PACKETS_DROPPED, STUCK
from dkv.machine.steps import Forget, Kill, Reclaim, RestartEpochs, RollBack, SaveDeletions, TakePackets
from tests.machine.stage import Stage, changed, facts, kinds

ALL = ((0, 16383),)
STRANGER = NodeSeen("f" * 40, "10.6.6.6", 7003, "leader", None, False, False, 9_000, ALL)
BY = {"by": "a stranger", "all": True}


def robbed(stage: Stage, *, gone: bool = False, **changes: object) -> EngineSeen:
    """The leader's engine without its slots; the stranger in its table, or forgotten."""
    nodes = stage.nodes() if gone else (*stage.nodes(), STRANGER)
    return stage.engine(0, nodes=nodes, **({"slots": ()} | changes))


def lost(stage: Stage) -> Stage:
    return stage.submit(SlotsLost(start_id=stage.process(0).start_id, **BY, **stage.quote()))


def test_a_leader_that_owns_its_slots_is_left_alone() -> None:
    stage = Stage().settled()
    assert stage.steps("s1", stage.engine(0, slots=((0, 8191), (8192, 16383)))) == []


def test_a_leader_without_its_slots_is_fenced_and_reported_and_the_stranger_forgotten() -> None:
    stage = Stage().settled()
    steps = stage.steps("s1", robbed(stage))
    assert kinds(steps) == ["Forget", "Fence", "SlotsLost"]
    (fact,) = [step.fact for step in steps if hasattr(step, "fact")]
    assert (fact.all, fact.by) == (True, "node ffffffff at 10.6.6.6:7003, which the domain does not know,")


def test_a_leader_that_lost_some_slots_says_so() -> None:
    stage = Stage().settled()
    engine = changed(robbed(stage), slots=((1, 16383),), nodes=(*stage.nodes(), replace(STRANGER, slots=((0, 0),))))
    (fact,) = [step.fact for step in stage.steps("s1", engine) if hasattr(step, "fact")]
    assert not fact.all


def test_no_copy_counts_as_in_sync_and_none_joins_while_the_slots_are_gone() -> None:
    stage = lost(Stage().settled())
    assert stage.group.in_sync == (0,)
    assert can_lose(stage.state, stage.group) == (0, 0)
    assert facts(stage.steps("s1", robbed(stage, fenced=True))) == []


@pytest.mark.parametrize("server", ["s1", "s2"])
def test_every_engine_forgets_the_stranger_whatever_it_does_otherwise(server: str) -> None:
    stage = lost(Stage().settled())
    number = int(server[1:]) - 1
    engine = stage.engine(number, nodes=(*stage.nodes(), STRANGER), link_up=False)
    assert any(isinstance(step, Forget) and step.node_id == STRANGER.node_id for step in stage.steps(server, engine))


@pytest.mark.parametrize("server", ["s1", "s2"])
def test_an_engine_forgets_a_follower_in_whose_name_somebody_said_that_it_leads_in_the_highest_epoch(server: str) -> None:
    stage = Stage(3).settled()
    nodes = [
        replace(node, role="leader", follows=None, epoch=2**64 - 1) if number == 2 else node
        for number, node in enumerate(stage.nodes())
    ]
    (step,) = stage.steps(server, stage.engine(int(server[1:]) - 1, nodes=tuple(nodes)))
    assert isinstance(step, Forget)
    assert step.node_id == nodes[2].node_id


def test_a_former_leader_that_is_only_late_is_not_forgotten_nor_is_the_leader() -> None:
    stage = Stage(3).settled()
    late = tuple(replace(node, role="leader", follows=None, epoch=stage.group.epoch) for node in stage.nodes())
    assert stage.steps("s2", stage.engine(1, nodes=late)) == []
    ahead = (replace(stage.nodes()[0], epoch=stage.group.epoch + 1), *stage.nodes()[1:])  # it settled a collision of epochs
    assert stage.steps("s2", stage.engine(1, nodes=ahead)) == []


def test_what_an_engine_was_started_to_follow_is_no_stranger() -> None:
    stage = Stage().settled()
    phantom = replace(STRANGER, epoch=0)
    steps = stage.steps("s2", stage.engine(1, nodes=(*stage.nodes(), phantom), follows=phantom.node_id))
    assert not any(isinstance(step, Forget) for step in steps)


def test_what_was_deleted_is_looked_for_first_then_the_engine_is_started_from_it() -> None:
    stage = lost(Stage().settled())
    (step,) = stage.steps("s1", robbed(stage, gone=True, fenced=True))
    assert isinstance(step, SaveDeletions)
    start_id = stage.process(0).start_id
    stage.submit(DeletionsKept(start_id=start_id, path="/kept", keys=300, **stage.quote()))
    (step,) = stage.steps("s1", robbed(stage, gone=True, fenced=True))
    assert isinstance(step, RollBack)
    assert step.path == "/kept"


def test_where_nothing_was_kept_the_slots_are_owned_again_once_the_stranger_is_forgotten() -> None:
    stage = lost(Stage().settled())
    stage.submit(DeletionsKept(start_id=stage.process(0).start_id, path="", keys=0, **stage.quote()))
    assert kinds(stage.steps("s1", robbed(stage, fenced=True))) == ["Forget"]
    (step,) = stage.steps("s1", robbed(stage, gone=True, fenced=True))
    assert isinstance(step, Reclaim)
    engine = stage.engine(0, fenced=True, epoch=9_001, slots=ALL)
    (fact,) = [step.fact for step in stage.steps("s1", engine) if hasattr(step, "fact")]
    assert isinstance(fact, SlotsOwned)
    stage.submit(fact)
    assert stage.group.epoch == 9_001
    assert "Unfence" in kinds(stage.steps("s1", engine))


@pytest.mark.parametrize("server", ["s1", "s2"])
def test_an_engine_whose_epochs_are_used_up_gets_one_above_all_of_its_database_and_drops_packets(server: str) -> None:
    stage = Stage().settled()
    engine = changed(stage.engine(int(server[1:]) - 1), current_epoch=EPOCHS - 1)
    (step,) = [step for step in stage.steps(server, engine) if isinstance(step, RestartEpochs)]
    assert step.epoch >= stage.group.epoch
    assert not any(isinstance(step, TakePackets) for step in stage.steps(server, changed(engine, takes_packets=False)))


def test_an_epoch_that_somebody_forged_is_not_what_an_engine_is_started_with_again() -> None:
    stage = lost(Stage().settled())
    stage.submit(DeletionsKept(start_id=stage.process(0).start_id, path="", keys=0, **stage.quote()))
    stage.submit(SlotsOwned(start_id=stage.process(0).start_id, epoch=EPOCHS - 1, **stage.quote()))
    (step,) = [step for step in stage.steps("s2", changed(stage.engine(1), current_epoch=EPOCHS - 1)) if hasattr(step, "epoch")]
    assert step.epoch < 10_000


def test_an_engine_takes_packets_again_when_all_others_had_time_to_be_restarted() -> None:
    stage = Stage().settled()
    dropping = changed(stage.engine(1), takes_packets=False)
    assert "TakePackets" not in kinds(stage.steps("s2", dropping, lasting=PACKETS_DROPPED - 1))
    assert kinds(stage.steps("s2", dropping, lasting=PACKETS_DROPPED + 1)) == ["TakePackets"]


def test_an_engine_of_which_nobody_knows_whether_it_takes_packets_is_told_to() -> None:
    stage = Stage().settled()
    assert kinds(stage.steps("s2", changed(stage.engine(1), takes_packets=None))) == ["TakePackets"]


def test_an_engine_that_keeps_the_last_epoch_is_started_again() -> None:
    stage = Stage().settled()
    last = changed(stage.engine(0), epoch=EPOCHS - 1, current_epoch=EPOCHS - 1, takes_packets=False)
    assert "Kill" not in kinds(stage.steps("s1", last, lasting=STUCK - 1))
    (step,) = [step for step in stage.steps("s1", last, lasting=STUCK + 1) if isinstance(step, Kill)]
    assert step.cause is Cause.EPOCHS_USED_UP
