"""The confirming client: a leader that hangs up between two writes leaves none in doubt; an old view confirms nothing."""

from __future__ import annotations

from collections.abc import Iterator

from dkv.client import Endpoint, ManagerPool, Reply, Request
from dkv.confirm import Kind
from dkv.confirm.views import Refresher
from tests.confirm.leaders import Clock, Leader, led


def test_a_write_after_the_leader_hung_up_goes_to_the_next_leader() -> None:
    first, second = Leader(), Leader()
    with led(first, second) as (client, views):
        assert client.set("before", "1").confirmed

        def next_term() -> None:
            views.term, views.endpoint = 2, second.endpoint

        views.when_wanted = next_term
        first.hang_up()
        assert client.set("after", "1").confirmed, "no write was under way, so none is in doubt"
        assert (first.sets, second.sets) == (1, 1), "each was sent once"


def test_a_leader_that_only_ended_the_connection_is_asked_again() -> None:
    only = Leader()
    with led(only) as (client, _):
        assert client.set("before", "1").confirmed
        only.hang_up()
        assert client.set("after", "1").confirmed
        assert only.sets == 2


def test_a_write_is_only_acknowledged_while_the_newest_view_is_half_a_second_old() -> None:
    only = Leader()
    with led(only) as (client, views):
        assert client.set("before", "1").confirmed
        views._clock.skipped = 10.0
        views.asked_at = views._clock() - 0.5
        output = client.set("after", "1", timeout=0.1)
        assert output.kind is Kind.ACKNOWLEDGED
        assert "no manager gave the state of the store within 0.5 s" in output.reason
        views.asked_at = None
        assert client.set("fresh", "1").confirmed


def test_a_view_asked_for_before_the_connection_was_made_confirms_nothing_on_it() -> None:
    """It may have named another run of the engine at that address."""
    only = Leader()
    with led(only) as (client, views):
        views.asked_at = views._clock()
        assert client.set("k", "1", timeout=0.1).kind is Kind.ACKNOWLEDGED
        views.asked_at = None
        assert client.set("k", "2").confirmed


class SlowManager:
    """A transport to a manager whose answer takes 0.4 s of the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.reads: list[tuple[float, float]] = []  # before and after

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        """A store without groups."""
        before = self._clock()
        self._clock.skipped += 0.4
        self.reads.append((before, self._clock()))
        return Reply(200, {}, b'{"groups": [], "minInSync": 1}')

    def stream(self, endpoint: Endpoint, request: Request, timeout: float) -> Iterator[str]:
        raise NotImplementedError


def test_a_view_is_as_old_as_the_question_not_as_the_answer() -> None:
    clock = Clock()
    manager = SlowManager(clock)
    views = Refresher(ManagerPool([Endpoint("127.0.0.11", 7801)], manager), "Sure", clock)
    try:
        view = views.newer_than(clock(), clock() + 20)
        assert view is not None
        assert any(view.asked_at <= before < after - 0.3 for before, after in manager.reads)
        assert view.asked_at <= manager.reads[-1][0]
    finally:
        views.close()
