"""The PowerShell subset: what the documented examples write, and sentences for everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkv.cli.powershell import (
    Assignment,
    Command,
    Incomplete,
    Parameter,
    Positional,
    parse,
    parse_value,
    settle,
)
from dkv.cli.trouble import CliTrouble, Usage


def one(text: str) -> Command:
    (found,) = parse(text)
    assert isinstance(found, Command)
    return found


def values(text: str, **variables: object) -> list[object]:
    return [settle(a.value, variables) for a in one(text).arguments if isinstance(a, Positional)]


def test_a_backtick_continues_the_line_even_with_blanks_behind_it() -> None:
    command = one("New-DkvStore `  \n  -Name OrdersStore `\n-InstancePrefix orders\n")
    assert [getattr(a, "name", None) or getattr(a, "value", None) for a in command.arguments] == [
        "Name", "OrdersStore", "InstancePrefix", "orders",
    ]


def test_commas_make_lists_and_may_end_a_line() -> None:
    assert values("Connect-DkvManager 10.0.0.11:7801, 10.0.0.12,\n http://b:1") == [["10.0.0.11:7801", "10.0.0.12", "http://b:1"]]


def test_quotes_keep_what_is_inside() -> None:
    assert values("X 'a, b''c' \"d `\"e`\" $who\" f`,g", who="me") == ["a, b'c", 'd "e" me', "f,g"]


def test_comments_and_semicolons() -> None:
    assert [s.line for s in parse("# one\nA b # two\n<# three\nfour #>\nC; D#e")] == [2, 5, 5]


def test_a_switch_may_be_turned_off() -> None:
    (argument,) = one("Connect-DkvManager -Force:$false").arguments
    assert isinstance(argument, Parameter)
    assert settle(argument.value or "", {}) is False


def test_instance_definitions_as_the_documentation_writes_them() -> None:
    script = """
    $nodes = @(
        [InstanceDefinition]@{ InstanceName = 'orders-3'; ClustronPort = 7813; ClientPort = 7863 },
        @{
            InstanceName = "orders-4"
            ClustronPort = 7814
            ClientPort = 7864
        }
    )
    Add-DkvInstance -StoreName OrdersStore -Nodes $nodes
    """
    first, second = parse(script)
    assert isinstance(first, Assignment)
    assert settle(first.value, {}) == [
        {"InstanceName": "orders-3", "ClustronPort": "7813", "ClientPort": "7863"},
        {"InstanceName": "orders-4", "ClustronPort": "7814", "ClientPort": "7864"},
    ]
    assert isinstance(second, Command)


def test_long_dashes_and_negative_numbers() -> None:
    assert one("A \u2013Name x").arguments[0] == Parameter("Name")
    assert one("A -5").arguments == (Positional("-5"),)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Get-DkvStore | more", "'|' is not supported"),
        ("Get-DkvStore )", "closes nothing"),
        ("A [foo]3", "[foo] is not known"),
        ("A -x (Get-DkvStore foo)", "Only a value"),
        ("A @{ b }", "has no value"),
        ("A @{ b=1; B=2 }", "twice"),
        ("$x", "cannot consist of $x"),
        ("A $", "without a name"),
        ("A , b", "not expected"),
        ("A b\nC |", "Line 2"),
    ],
)
def test_what_is_not_supported_is_refused_with_a_sentence_and_a_hint(text: str, word: str) -> None:
    with pytest.raises(Usage) as caught:
        parse(text)
    assert word in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("text", ["A 'b", 'A "b', "A @(", "A @{", "A @{ b = 1", "A b,", "A `", "A `\n", "<# a", "$x ="])
def test_what_is_not_finished_asks_for_more(text: str) -> None:
    with pytest.raises(Incomplete):
        parse(text)


def test_an_unknown_variable_is_named() -> None:
    with pytest.raises(Usage, match=r"\$nodes has no value"):
        settle(parse_value("$nodes"), {})


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_but_never_crashes(text: str) -> None:
    refused: CliTrouble | None = None
    try:
        parse(text)
    except CliTrouble as trouble:
        refused = trouble
    assert refused is None or (refused.message.endswith(".") and refused.hint)


@given(st.text(alphabet="aB-@({})=;,'\"`$[] \n#", max_size=40))
def test_any_mix_of_its_own_signs_is_read_or_refused(text: str) -> None:
    test_any_text_is_read_or_refused_but_never_crashes.hypothesis.inner_test(text)  # type: ignore[attr-defined]


@given(st.lists(st.text(max_size=12), min_size=1, max_size=5))
def test_single_quotes_give_back_any_texts(texts: list[str]) -> None:
    clean = [text.replace("\r\n", "\n") for text in texts]
    script = "A " + " ".join("'" + text.replace("'", "''") + "'" for text in clean)
    assert values(script) == clean


@given(st.text(alphabet=st.characters(codec="ascii", exclude_characters="\r"), max_size=20))
def test_double_quotes_with_every_sign_escaped_give_back_the_text(text: str) -> None:
    escaped = "".join(f"`{c}" if c in '`"$' else c for c in text)
    assert values(f'A "{escaped}"') == [text]
