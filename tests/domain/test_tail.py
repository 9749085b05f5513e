"""The dead leader's tail: what the scenarios of tests/scenarios/tail_*.txt would notice if a clause were missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dkv.domain.draft import Draft
from dkv.domain.phases import Election
from dkv.domain.positions import TailRecipient, TailTransfer
from dkv.domain.rules import leadership, tail
from tests.domain.test_scenarios import replay

SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios").glob("tail_*.txt"))


def noticed() -> list[str]:
    """The scenarios that go another way now."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in SCENARIOS}
    names = []
    for name, text in texts.items():
        try:
            same = replay(text) == text
        except AssertionError:  # an invariant broke, or a line was refused
            same = False
        names += [] if same else [name]
    return names


def test_taking_the_heir_for_the_last_leader_before_it_has_everything_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assign = leadership.assign

    def early(draft: Draft, group: Any, process: Any, given: Any = None) -> None:
        assign(draft, group, process, given)
        if given:
            draft.put_group(draft.groups[group.key], last_leader=process.archive_id)

    assert noticed() == []
    monkeypatch.setattr(leadership, "assign", early)
    assert "tail_given_up" in noticed()


def test_keeping_in_s_whoever_was_named_but_not_compared_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def named(draft: Draft, group: Any, given: TailTransfer) -> tuple[int, ...]:
        return tuple(follower.archive_id for follower in given.fed if follower.archive_id != group.leader)

    monkeypatch.setattr(tail, "whole_members", named)
    assert "tail_given_up" in noticed()


def test_opening_before_the_heir_was_compared_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "is_whole", lambda *_: True)
    assert "tail_fed" in noticed()


def test_trying_again_after_it_was_given_up_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    source = tail.source

    def stubborn(draft: Draft, group: Any) -> Any:
        return source(draft, draft.put_phase(group, tail_abandoned=False) if isinstance(group.phase, Election) else group)

    monkeypatch.setattr(tail, "source", stubborn)
    assert noticed()


def test_what_is_fed_begins_above_every_offset_of_the_dead_leaders_history() -> None:
    fed = (TailRecipient(1, 11, offset=800, place=700, digest="seven"), TailRecipient(2, 12, offset=690, place=600, digest="six"))
    given = TailTransfer(0, 10, 1, 1, "n", "former", fed, size=900, digest="all", history="fresh")
    assert min(follower.place for follower in fed) + given.shift > max(follower.offset for follower in fed)
    assert given.end == 900 + given.shift
