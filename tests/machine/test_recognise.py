"""What an archive is to be restored from: read once by its own manager, and reported as it is."""

from __future__ import annotations

from typing import Any

from dkv.domain import facts, orders
from dkv.engine.contract import CopyLabel, Identity
from dkv.machine import steps as s
from dkv.machine.steps import Recognise
from tests.machine.stage import Stage
from tests.machine.test_perform import Harness, play


def test_what_an_archive_is_to_be_restored_from_is_read_once_by_its_own_manager() -> None:
    stage = Stage().settled()
    new = orders.NewArchive(server_id="s2", path="/backup/1", restored=True)
    stage.submit(orders.CreateArchives(database="bank", archives=(new,)))
    archive_id = max(stage.state.archives)
    assert not any(isinstance(step, Recognise) for step in stage.steps("s1", stage.engine(0, nodes=stage.nodes())))
    assert Recognise("/backup/1", archive_id, "/backup/1") in stage.steps("s2", stage.engine(1, nodes=stage.nodes()))
    stage.submit(facts.CopyRecognised(server_id="s2", archive_id=archive_id))
    assert not any(isinstance(step, Recognise) for step in stage.steps("s2", stage.engine(1, nodes=stage.nodes())))


def test_a_copy_is_reported_as_it_was_read_and_that_there_is_none_too() -> None:
    async def scenario(harness: Harness) -> None:
        made_of = Identity("domain", "db", 7, "d1", "left")
        harness.engines.world.copies["/d"] = CopyLabel("d1/3", made_of, ((0, 8191),), 0)
        await harness.performer.perform(s.Recognise("/d", 5, "/d"))
        await harness.performer.perform(s.Recognise("/e", 6, "/e"))
        who: dict[str, Any] = {"server_id": "s1", "actor": "s1"}
        assert harness.submitter.submitted == [
            facts.CopyRecognised(archive_id=5, cut="d1/3", group="left", slots=((0, 8191),), **who),
            facts.CopyRecognised(archive_id=6, **who),
        ]

    play(scenario)
