"""The checks of what a chaos run showed to wait: each passes what is true, and can fail."""

from __future__ import annotations

from typing import Any

from tests.chaos import waits
from tests.chaos.checks import Blow

GROUP, REFUSES = "group One/g1", "1 of 2 copies are in sync, so writes are refused"
SERVERS = {"one-1": "server-1"}


def item(subject: str, reason: str = REFUSES, hint: str = "") -> dict[str, Any]:
    return {"subject": subject, "reason": reason, "hint": hint, "blocksWrites": subject.startswith("group")}


def sample(at: float, *waiting: dict[str, Any]) -> dict[str, Any]:
    return {"at": at, "groups": [{"store": "One", "name": "g1", "leader": "one-1"}], "waiting": list(waiting)}


def test_a_group_that_accepts_while_it_is_shown_to_refuse_is_named() -> None:
    shown = [sample(t / 2, *([item(GROUP)] if 10 <= t <= 20 else [])) for t in range(40)]  # 5 to 10 s
    assert waits.untrue_refusals(shown, {GROUP: [4.0, 5.5, 9.5, 12.0]}) == [], "what is shown is as old as a manager's view"
    (fault,) = waits.untrue_refusals(shown, {GROUP: [7.0, 8.0]})
    assert fault == f"{GROUP} accepted a write at 7.0, and was shown to wait: {REFUSES}"
    assert waits.untrue_refusals(shown, {"group One/g2": [7.0]}) == []
    one_reason_each = [sample(t / 2, item(GROUP, f"reason {t}")) for t in range(40)]
    assert waits.untrue_refusals(one_reason_each, {GROUP: [7.0]}) == []
    old = [sample(t / 2, item(GROUP), item("the domain", "no change can be committed")) for t in range(40)]
    assert waits.untrue_refusals(old, {GROUP: [7.0]}) == [], "and is said to be old"


def test_an_outage_that_nothing_shown_explains_is_named_once() -> None:
    accepted = {GROUP: [1.0, 20.0]}

    def faults(*waiting: dict[str, Any]) -> list[str]:
        return waits.unnamed_outages([sample(t / 2, *waiting) for t in range(60)], accepted, SERVERS)

    (fault,) = faults(item("group One/g2"), item("process 3 (one-2)"), item("server server-2"))
    assert "group One/g1 accepted no write from 1.0 to 20.0, and was not shown to wait at 7.0" in fault
    for names in (GROUP, "process 1 (one-1)", "server server-1", "the domain"):
        assert faults(item(names)) == []
    assert waits.unnamed_outages([sample(t / 2) for t in range(60)], {GROUP: [1.0, 6.5]}, SERVERS) == []
    late = [sample(t / 2, *([item(GROUP)] if t < 37 else [])) for t in range(60)]
    assert waits.unnamed_outages(late, accepted, SERVERS) == [], "clients need a moment to find that it works again"


def test_an_outage_counts_while_managers_answer_and_the_state_does() -> None:
    back = [sample(t, *([item("the domain")] if t < 16 else [])) for t in range(30)]
    assert waits.unnamed_outages(back, {GROUP: [1.0, 21.0]}, SERVERS) == [], "what counts begins once the state is back"
    (fault,) = waits.unnamed_outages(back, {GROUP: [1.0, 28.0]}, SERVERS)
    assert "was not shown to wait at 22.0" in fault
    shown = [sample(t) if t % 5 else {"at": t, "trouble": "no answer"} for t in range(30)]
    assert waits.unnamed_outages(shown, {GROUP: [1.0, 28.0]}, SERVERS) == []


def test_a_server_that_is_shown_as_away_was_struck() -> None:
    away = item("server server-2", "its lease ended; archives on it: 5, processes: 5", "Start the manager of server server-2.")
    shown = [sample(t, *([away] if t > 10 else [])) for t in range(15)]
    assert waits.servers_not_away(shown, [Blow("kill manager", 8, 9, ("server-2",))]) == []
    for other in (Blow("kill manager", 8, 9, ("server-1",)), Blow("kill engine", 8, 9, ("server-2",))):
        (fault,) = waits.servers_not_away(shown, [other])
        assert "nothing had struck server-2" in fault
    (fault,) = waits.servers_not_away([*shown, sample(40, away)], [Blow("kill manager", 8, 9, ("server-2",))])
    assert fault.startswith("40.0: server server-2 waits: its lease ended")
