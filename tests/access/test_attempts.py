"""Refused requests: all counted, told of seldom, and a flood of them from many addresses takes bounded memory and few reports."""

from __future__ import annotations

from dkv.access.attempts import MOST_PEERS, MOST_REPORTS, TOLD_EVERY, Attempts, Report


def refuse(attempts: Attempts, *peers: str) -> None:
    for peer in peers:
        attempts.refused(peer, "unauthenticated", f"the last of {peer}")


def test_the_first_is_told_at_once_and_the_next_ones_together_a_minute_later() -> None:
    attempts = Attempts()
    assert attempts.next_at() is None
    assert attempts.refused("a", "unauthenticated", "one")
    assert attempts.due(5.0) == [Report("a", 1, "one")]
    assert attempts.next_at() is None
    assert attempts.refused("a", "unauthenticated", "two")
    assert not attempts.refused("a", "not_allowed", "three")
    assert attempts.next_at() == 5.0 + TOLD_EVERY
    assert attempts.due(4.9 + TOLD_EVERY) == []
    assert attempts.due(5.0 + TOLD_EVERY) == [Report("a", 2, "three")]
    assert attempts.counted == {"unauthenticated": 2, "not_allowed": 1}


def test_another_peer_is_told_of_at_once() -> None:
    attempts = Attempts()
    refuse(attempts, "a")
    attempts.due(0.0)
    refuse(attempts, "a", "b")
    assert attempts.due(1.0) == [Report("b", 1, "the last of b")]


def test_many_peers_share_ten_reports_a_minute_and_no_request_is_forgotten() -> None:
    attempts, reports = Attempts(), []
    now, sent = 0.0, 0
    for number in range(600):
        refuse(attempts, f"peer {number % 300}")
        sent += 1
        reports += [(now, report) for report in attempts.due(now)]
        now += 1.0
    while (at := attempts.next_at()) is not None:
        reports += [(at, report) for report in attempts.due(at)]
    assert sum(report.count for _, report in reports) == sent == attempts.counted.total()
    moments = [moment for moment, _ in reports]
    assert all(sum(start <= at < start + TOLD_EVERY for at in moments) <= MOST_REPORTS for start in moments)
    assert any(report.peer.endswith(" addresses") for _, report in reports)


def test_a_flood_of_addresses_takes_bounded_memory() -> None:
    attempts = Attempts()
    for number in range(20 * MOST_PEERS):
        refuse(attempts, f"peer {number}")
        attempts.due(number * 0.1)
    collections = [vars(attempts)[name] for name in ("_untold", "_told", "_reports", "counted")]
    assert all(len(part) <= MOST_PEERS + 1 for part in collections)
    assert attempts.counted.total() == 20 * MOST_PEERS
