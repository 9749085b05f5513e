"""The table of a database's options, and what the domain makes of each row."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from dkv.cli.cmdlets import find_cmdlet
from dkv.database_options import OF_NUODB, OPTIONS, TABLE, Effect, Option, parameters_of
from dkv.domain.decision import Refused
from dkv.domain.model import DatabaseOptions
from dkv.domain.options import applied, bad_values
from dkv.hints import KINDS

NUMBERS = [option for option in TABLE if option.kind in ("number", "bytes")]


def written(option: Option, text: str) -> DatabaseOptions | Refused:
    return applied(DatabaseOptions(replication_factor=100), {}, {option.name: text})


def test_each_field_of_the_domain_has_one_row_and_its_default() -> None:
    assert {option.field for option in TABLE} == {field.name for field in fields(DatabaseOptions)}
    assert len(OPTIONS) == len(TABLE)
    assert {option.field: option.default for option in TABLE} == vars(DatabaseOptions())
    assert bad_values(DatabaseOptions()) is None
    assert not OPTIONS.keys() & OF_NUODB.keys()


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
def test_a_number_is_bounded_and_its_special_value_is_taken(option: Option) -> None:
    good = {option.least, option.most, option.default} | ({option.special} - {None})
    bad = {option.least - 1, option.most + 1, -2} - good
    for value in good:
        assert getattr(written(option, str(value)), option.field) == value
    for value in bad:
        refused = written(option, str(value))
        assert isinstance(refused, Refused)
        assert (refused.code, str(refused.hint)) == ("bad_value", f"It is {option.allowed()}.")
        wrong = bad_values(replace(DatabaseOptions(replication_factor=100), **{option.field: value}))
        assert isinstance(wrong, Refused)
        assert wrong.code == "bad_value"


@pytest.mark.parametrize("text", ["", " 1", "1 ", "+1", "0x10", "1.5", "ten", "٣", "-0", "1" * 17, "-", "--1"])
def test_what_is_no_number_is_refused(text: str) -> None:
    for option in NUMBERS:
        assert isinstance(written(option, text), Refused), option.name


@pytest.mark.parametrize(
    ("text", "size"),
    [("64mb", 64 << 20), ("64M", 64 << 20), ("1GiB", 1 << 30), ("1g", 1 << 30), ("20000k", 20_000 << 10), ("33554432", 32 << 20)],
)
def test_memory_is_read_in_powers_of_1024(text: str, size: int) -> None:
    assert OPTIONS["max-memory"].read(text) == size


@pytest.mark.parametrize("text", ["1bb", "gb", "b", "1mm", "1 gb", "1x", "9999999999999999t"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    assert OPTIONS["max-memory"].read(text) is None


def test_a_word_is_one_of_its_choices() -> None:
    for choice in OPTIONS["append-fsync"].choices:
        assert OPTIONS["append-fsync"].read(choice) == choice
    assert OPTIONS["append-fsync"].read("Always") is None


@pytest.mark.parametrize(
    ("text", "letters"),
    [("", ""), ("KEA", "AKE"), ("Ex", "xE"), ("AEn", "AnE"), ("EtdK$", "$tdKE"), ("Kg$lshzxetdm", "AKm"), ("ExxE", "xE")],
)
def test_events_are_letters_in_the_order_in_which_an_engine_shows_them(text: str, letters: str) -> None:
    assert OPTIONS["notify-keyspace-events"].read(text) == letters


@pytest.mark.parametrize("text", ["x", "A", "Kq", "K E", "none", "KE\n"])
def test_events_that_reach_nobody_or_are_none_are_refused(text: str) -> None:
    assert OPTIONS["notify-keyspace-events"].read(text) is None
    refused = written(OPTIONS["notify-keyspace-events"], text)
    assert isinstance(refused, Refused)
    assert "with K or E among them" in str(refused.hint)


@pytest.mark.parametrize("cmdlet", sorted({cmdlet for option in TABLE for cmdlet in option.cmdlets}))
def test_a_cmdlet_has_the_parameters_that_the_table_names(cmdlet: str) -> None:
    parameters = {param.name: param for param in find_cmdlet(cmdlet).params}
    for option in parameters_of(cmdlet):
        assert parameters[option.parameter].help.startswith(option.summary())


def test_what_is_left_to_do_is_an_action_of_the_store() -> None:
    effects: list[Effect] = [effect for option in TABLE for effect in (option.effect, option.effect_of_special) if effect]
    for effect in effects:
        assert bool(effect.hint) == bool(effect.action)
        assert not effect.action or KINDS[effect.action].arguments == ("store",)
