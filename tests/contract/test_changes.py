"""Tests of the store: a view made from the one before it is the view that all records tell, whoever skipped what."""

from __future__ import annotations

import random

from dkv.control.submit import view_of
from dkv.domain.decision import Accepted
from dkv.domain.model import State
from dkv.store import codec
from dkv.store.changes import KEPT, ChangeLog
from dkv.store.memory import MemoryDomain
from tests.domain.walks import walk


def test_views_along_a_history_are_what_all_their_records_tell() -> None:
    domain, chance, looked = MemoryDomain(), random.Random(7), 0
    domain.commit(0, codec.encode(State(uid="d0")), [], "first")
    for before, _, decision in walk((chance.randrange(2**16) for _ in range(600)), databases=2):
        if isinstance(decision, Accepted) and decision.state is not before:
            writes = codec.diff(before, decision.state)
            assert writes == codec.diff(codec.decode(domain.snapshot.records), decision.state), "nothing touched is left out"
            domain.commit(domain.snapshot.revision, writes, [], str(domain.snapshot.revision))
            if chance.random() < 0.7:  # a watch may skip views
                looked += 1
                assert view_of(domain.snapshot).state == decision.state == codec.decode(domain.snapshot.records)
    assert looked > 30


def test_a_log_knows_what_lies_between_two_of_its_views() -> None:
    log = ChangeLog()
    log.add(0, 2, ["a", "b"])
    log.add(2, 3, ["c"])
    assert log.between(0, 3) == {"a", "b", "c"}
    assert log.between(2, 3) == {"c"}
    assert log.between(3, 3) == set()
    assert log.between(1, 3) is None, "there was no view of revision 1"
    assert ChangeLog().between(0, 3) is None
    for revision in range(3, 3 + KEPT):
        log.add(revision, revision + 1, ["d"])
    assert log.between(2, 3 + KEPT) is None, "the oldest steps are forgotten"
    assert log.between(4, 3 + KEPT) == {"d"}
