"""The checks of a chaos run: each passes what is right, and can fail."""

from __future__ import annotations

import pytest

from tests.chaos import checks
from tests.chaos.checks import Blow, Operation, Place, Term
from tests.lint.repository import ROOT


def operation(kind: str, value: object, sent: float, answered: float, mark: str = "confirmed", *, key: str = "k") -> Operation:
    return Operation("One", kind, key, str(value), sent, answered, mark)


def blow(kind: str, began: float, ended: float, server: str = "s1", *pids: int) -> Blow:
    return Blow(kind, began, ended, (server,), pids)


# -- writes -------------------------------------------------------------------------------------------------------------


def test_a_write_that_is_gone_or_another_is_missing() -> None:
    there, other, gone = (operation("confirmed", 1, 0, 1, key=key) for key in ("a", "b", "c"))
    failed = operation("confirmed", 1, 0, 1, "failed", key="d")
    assert checks.missing([there, other, gone, failed], {"One": {"a": "1", "b": "2"}}, ["confirmed"]) == [other, gone]


def test_a_register_that_is_lower_than_what_was_confirmed_is_missing() -> None:
    write = operation("register", 5, 0, 1)
    assert checks.missing_registers([write], {"One": {"k": "6"}}) == []
    assert checks.missing_registers([write], {"One": {"k": "4"}}) == [write]
    assert checks.missing_registers([write], {"One": {}}) == [write]


HERE = Place("One/g1", "s1")


def test_an_acknowledged_write_is_explained_only_by_what_struck_its_leader_near_it() -> None:
    write = operation("valkey", 1, 100, 100.1, "acknowledged")

    def line(*blows: Blow) -> str:
        return checks.excuse(write, blows, HERE)

    assert "cut off" in line(blow("unplug host", 98, 104))
    assert line(blow("unplug host", 98, 104, "s2")) == ""
    assert line(blow("unplug host", 40, 50)) == "" == line(blow("unplug host", 120, 125))
    assert line(blow("freeze engine", 99, 101)) == ""
    assert "more than 3 s" in line(blow("freeze engine", 99, 103))
    assert line(blow("kill member", 99, 99), blow("kill manager", 99, 103)) == ""


def test_a_server_is_cut_off_while_all_others_are_away_each_for_a_reason_of_its_own() -> None:
    write, place = operation("valkey", 1, 100, 100.1, "acknowledged"), Place("One/g1", "s1", ("s2", "s3"))
    lost, cut = blow("lose host", 98, 108, "s2"), Blow("cut one way", 97, 106, ("s3", "s1"))
    assert checks.alone("s1", ("s2", "s3"), [lost, cut]) == [Blow(checks.ALL_OTHERS, 98, 106, ("s1",))]
    assert "cut off" in checks.excuse(write, [lost, blow("unplug host", 97, 106, "s3")], place)
    assert checks.excuse(write, [lost], place) == "", "a majority is left"
    assert checks.excuse(write, [lost, blow("unplug host", 109, 112, "s3")], place) == "", "not at one time"
    assert checks.excuse(write, [lost, Blow("cut one way", 97, 106, ("s3", "s2"))], place) == "", "it reaches the leader"
    assert checks.alone("s1", (), [lost]) == []


def test_a_killed_leader_explains_nothing_by_itself() -> None:
    write = operation("valkey", 1, 100, 100.1, "acknowledged")
    kill = blow("kill engine", 100.2, 100.2)._replace(group="One/g1")
    assert checks.excuse(write, [kill], HERE) == ""
    assert "failoverGrace" in checks.excuse(write, [kill, blow("freeze manager", 101, 104)], HERE)
    assert checks.excuse(write, [kill, blow("freeze manager", 101, 102)], HERE) == ""
    assert checks.excuse(write, [kill._replace(group="One/g2"), blow("freeze manager", 101, 104)], HERE) == ""
    assert "three times" in checks.excuse(write, [kill, kill, kill], HERE)


@pytest.mark.parametrize("known", [*checks.EXCUSES, *checks.TWO_LEADERS], ids=lambda known: known.line[:30])
def test_every_explanation_is_a_line_of_the_critiques(known: checks.Excuse) -> None:
    assert known.line in (ROOT / "docs" / "critiques.md").read_text(encoding="utf-8")


# -- registers ----------------------------------------------------------------------------------------------------------


def test_reads_that_fit_some_order_are_right() -> None:
    history = [
        operation("register", 1, 0, 1),
        operation("register", 2, 2, 6, "failed"),  # done or not
        operation("read", 1, 1, 3),
        operation("read", 2, 3, 5),
        operation("read", 2, 6, 7),
        operation("read", 0, 0, 0.5),
    ]
    assert checks.register_faults(history) == []


@pytest.mark.parametrize(
    ("read", "why"),
    [
        (operation("read", 0, 1.5, 2), "showed 0 after 1 was confirmed or read"),
        (operation("read", 1, 8, 9), "showed 1 after 2 was confirmed or read"),
        (operation("read", 3, 8, 9), "showed 3, but no more than 2 was written"),
        (operation("read", 2, 1.2, 1.9), "showed 2, but no more than 1 was written"),
    ],
)
def test_a_read_that_fits_no_order_is_named(read: Operation, why: str) -> None:
    history = [operation("register", 1, 0, 1), operation("register", 2, 2, 6, "failed"), operation("read", 2, 6, 7)]
    assert checks.register_faults(history) == []
    (fault,) = checks.register_faults([*history, read])
    assert why in fault


def test_registers_of_other_keys_and_stores_are_apart() -> None:
    assert checks.register_faults([operation("register", 9, 0, 1, key="a"), operation("read", 0, 2, 3, key="b")]) == []


# -- leaders ------------------------------------------------------------------------------------------------------------


def accepted(*answers: tuple[str, float]) -> list[Operation]:
    return [operation("probe", leader, at, at + 0.01, "accepted") for leader, at in answers]


def terms(*leaders: str) -> list[Term]:
    return [Term(leader) for leader in leaders]


def test_leaders_that_accept_in_the_order_of_terms_are_right() -> None:
    assert checks.out_of_order(accepted(("a", 1), ("a", 2), ("b", 3), ("a", 4)), terms("a", "b", "a")) == []
    assert checks.out_of_order(accepted(("a", 1), ("c", 3)), terms("a", "b", "c")) == [], "one term took no write"


@pytest.mark.parametrize("leaders", [["a", "b"], ["a", "a", "b"]])
def test_a_leader_that_accepts_after_a_later_one_is_named(leaders: list[str]) -> None:
    (late,) = checks.out_of_order(accepted(("a", 1), ("b", 2), ("a", 3)), terms(*leaders))
    assert (late.value, late.sent) == ("a", 3)


def test_a_leader_that_accepts_before_its_next_term_began_is_named_and_nobody_for_it() -> None:
    probes = accepted(("a", 1), ("b", 2), ("a", 3), ("b", 4), ("a", 8))
    assert checks.out_of_order(probes, [Term("a", 0.5), Term("b", 1.5), Term("a", 7.5)]) == probes[2:3]
    assert checks.out_of_order(probes, terms("a", "b", "a")) == [probes[3]], "without times the order is all that is known"


def test_an_engine_that_never_led_is_named() -> None:
    assert checks.out_of_order(probes := accepted(("a", 1)), terms("b")) == probes


def test_answers_that_overlap_show_no_order() -> None:
    late = operation("probe", "a", 1.5, 4, "accepted")
    assert checks.out_of_order([*accepted(("a", 1), ("b", 2), ("b", 5)), late], terms("a", "b")) == []


def test_two_leaders_are_explained_only_by_what_struck_the_older_one() -> None:
    (late,) = accepted(("a", 10))
    cut, dead = blow("cut both ways", 5, 12), blow("kill manager", 4, 12)
    assert "no guard sees" in checks.leader_excuse(late, [cut, dead], HERE)
    assert "no guard sees" in checks.leader_excuse(late, [blow("isolate host", 5, 12), blow("freeze manager", 4, 12)], HERE)
    assert checks.leader_excuse(late, [blow("isolate host", 5, 12), dead], HERE) == "", "its guard fences it"
    assert checks.leader_excuse(late, [cut, dead], Place("One/g1", "s2")) == ""
    assert checks.leader_excuse(late, [cut], HERE) == "" == checks.leader_excuse(late, [dead], HERE)
    assert "more than 3 s" in checks.leader_excuse(late, [blow("freeze host", 6, 9.5)], HERE)


# -- deaths, what waits, contents ---------------------------------------------------------------------------------------


def tombstone(cause: str, pid: int = 7, server: str = "s1") -> dict[str, object]:
    return {"cause": cause, "pid": pid, "server": server, "startId": 1, "instanceName": "one-1", "reason": "because"}


@pytest.mark.parametrize(
    ("cause", "blows", "right"),
    [
        ("killed by signal", [blow("kill engine", 1, 1, "s1", 7)], True),
        ("killed by signal", [blow("kill engine", 1, 1, "s1", 8)], False),
        ("out of memory", [blow("kill engine", 1, 1, "s1", 7)], False),
        ("graceful stop", [], True),
        ("disk full", [blow("fill disk", 1, 2)], True),
        ("disk full", [blow("fill disk", 1, 2, "s2")], False),
        ("engine crashed", [blow("fill disk", 1, 2)], False),
        ("never answered", [], False),
    ],
)
def test_a_death_has_the_cause_that_the_harness_knows(cause: str, blows: list[Blow], right: bool) -> None:
    assert (checks.wrong_deaths([tombstone(cause)], blows) == []) is right


def test_copies_that_differ_are_named() -> None:
    assert checks.differences({"a": {"k": "1"}, "b": {"k": "1"}}) == []
    (fault,) = checks.differences({"a": {"k": "1"}, "b": {}, "c": {"k": "1"}})
    assert "b differs from a in 1 keys, such as k: None and 1" in fault


def test_outages_are_the_spans_without_an_answer() -> None:
    answers = [operation("valkey", n, at, at, "acknowledged") for n, at in enumerate((1, 2, 6))]
    assert checks.outages(answers, 0, 7, 1.5) == [(2, 6)]
    assert checks.outages([], 0, 7, 1.5) == [(0, 7)]


def test_a_log_is_read_but_for_the_line_that_was_not_ended() -> None:
    text = "One\tvalkey\tk\t1\t1.0\t2.0\tacknowledged\t\nOne\tread\tr\t\t3.0\t4.0\tfailed\tno answer\nOne\tread"
    first, second = checks.operations(text)
    assert first == Operation("One", "valkey", "k", "1", 1.0, 2.0, "acknowledged", "")
    assert (second.mark, second.more) == ("failed", "no answer")
