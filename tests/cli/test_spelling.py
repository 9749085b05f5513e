"""What a misspelt word is answered: a guess where it is likely, else what there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkv.cli import nouns
from dkv.cli.binding import Usage
from dkv.cli.cmdlets import CMDLETS, ELSEWHERE, find_cmdlet
from dkv.domain.refusals import nearest
from dkv.spelling import distance, listed, meant

COMMANDS = [
    *nouns.VERB_WORDS,
    *(cmdlet.name for cmdlet in CMDLETS),
    "manager",
    "playground",
    "shell",
    "backup",
    "restore",
    "rebuild",
]


def test_what_other_programs_call_something_else_is_found() -> None:
    """Who types `dkv top` means `dkv watch`; no such word is a command here, and each leads to one."""
    for word, meant_command in ELSEWHERE.items():
        assert find_cmdlet(meant_command)
        with pytest.raises(Usage) as refused:
            find_cmdlet(word)
        assert str(refused.value.hint) == f"Did you mean {meant_command}?"


@pytest.mark.parametrize(
    ("word", "guess"),
    [
        ("strat", ["start"]),
        ("shwo", ["show"]),
        ("manger", ["manager"]),
        ("playgrund", ["playground"]),
        ("play", ["playground"]),
        ("startdkvstore", ["Start-DkvStore"]),
        ("Get-DkvStoer", ["Get-DkvStore"]),
        ("GET-DKVSTORE", ["Get-DkvStore"]),
        ("top", []),
        ("foo", []),
        ("x", []),
        ("", []),
        ("completion", []),
        ("version", []),
    ],
)
def test_a_command_is_guessed_only_where_it_is_a_misspelling(word: str, guess: list[str]) -> None:
    assert meant(word, COMMANDS) == guess


@pytest.mark.parametrize("word", ["orders-9", "orders-10", "orders9", "orders-", "orders", "g9", "12", "server3", "orders-1-6"])
def test_names_that_differ_in_a_number_are_listed_and_never_guessed(word: str) -> None:
    names = ["orders-1", "orders-2", "orders-6", "g1", "g3", "server0", "1", "2"]
    assert nearest(word, names) == "Known: 1, 2, g1, g3, orders-1, orders-2, orders-6, server0."


def test_a_name_with_its_number_right_is_guessed() -> None:
    assert nearest("ordesr-6", ["orders-1", "orders-6"]) == "Did you mean orders-6?"
    assert nearest("carts", ["cart", "card"]) == "Did you mean cart?"
    assert nearest("port", ["port1"]) == "Known: port1."
    assert nearest("rolee", ["role", "roles"]) == "Did you mean role or roles?"
    assert nearest("bart", ["cart", "dart", "part"]) == "Known: cart, dart, part.", "three are no guess"


def test_a_long_list_says_how_much_is_left_out_and_counts_as_people_do() -> None:
    assert listed([]) == ""
    assert listed(f"orders-{n}" for n in range(1, 16)).startswith("orders-1, orders-2, orders-3,")
    assert listed(f"orders-{n}" for n in range(1, 16)).endswith("orders-11, orders-12 and 3 more")


@given(st.text(max_size=12), st.text(max_size=12), st.integers(0, 12))
def test_the_distance_is_a_distance(word: str, other: str, bound: int) -> None:
    assert distance(word, word, bound) == 0
    assert distance(word, other, bound) == distance(other, word, bound)
    assert distance(word, other, bound) == min(distance(word, other, 12), bound + 1)


@given(st.lists(st.text(max_size=8), max_size=5), st.text(max_size=8))
def test_a_guess_is_always_a_known_word(known: list[str], word: str) -> None:
    assert set(meant(word, known)) <= set(known)
