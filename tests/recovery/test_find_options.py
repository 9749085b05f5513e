"""What a rebuilt database's engines do: the options that stand in the files of its archives."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.domain.model import DatabaseOptions
from dkv.engine.archive import write_identity
from dkv.engine.config import valkey_conf
from dkv.engine.config_files import keep_options
from dkv.engine.contract import Identity, RunOptions
from dkv.recovery.find import find
from tests.engine.test_config import SPEC


def archive_with(data_dir: Path, conf: str, number: int = 1) -> Path:
    """The directory of an archive whose engine was started from this file."""
    place = data_dir / "archives" / "orders" / f"orders-{number}-{number}"
    place.mkdir(parents=True, mode=0o700)
    (data_dir / "server.json").write_text('{"serverId": "s1", "uid": "u1"}')
    write_identity(str(place), Identity("d", "orders", number, "u", "g0"), initialised=False)
    (place / "valkey.conf").write_text(conf)
    return place


def options_after(data_dir: Path, conf: str) -> DatabaseOptions:
    """The options that are found for an archive whose engine was started from this file."""
    archive_with(data_dir, conf)
    (archive,) = find([data_dir]).archives
    return archive.options


@pytest.mark.parametrize("memory", [64 << 20, 1 << 30])
def test_what_engines_were_started_with_is_found(tmp_path: Path, memory: int) -> None:
    started = RunOptions(memory, "everysec", "allkeys-lru", "xE", 500)
    assert options_after(tmp_path, valkey_conf(replace(SPEC, options=started))) == DatabaseOptions(
        append_fsync="everysec", maxmemory_policy="allkeys-lru", notify_keyspace_events="xE", max_clients=500
    )


def test_what_follows_from_memory_is_no_option_and_neither_is_nonsense(tmp_path: Path) -> None:
    conf = valkey_conf(replace(SPEC, options=RunOptions(1 << 30)))
    assert options_after(tmp_path, conf.replace("maxmemory-policy noeviction", "maxmemory-policy all")) == DatabaseOptions()


def test_options_that_were_set_while_an_engine_ran_are_found_and_nothing_else_of_its_file_changes(tmp_path: Path) -> None:
    conf = valkey_conf(SPEC)
    place = archive_with(tmp_path, conf)
    keep_options(str(place), RunOptions(1 << 30, "no", "volatile-ttl", "xKE", 700))
    (archive,) = find([tmp_path]).archives
    assert archive.options == DatabaseOptions(
        append_fsync="no", maxmemory_policy="volatile-ttl", notify_keyspace_events="xKE", max_clients=700
    )
    keep_options(str(place), SPEC.options)
    assert sorted((place / "valkey.conf").read_text().splitlines()) == sorted(conf.splitlines())


def test_a_copy_that_was_away_when_an_option_was_set_does_not_bring_the_former_one_back(tmp_path: Path) -> None:
    away, there = archive_with(tmp_path, valkey_conf(SPEC), 1), archive_with(tmp_path, valkey_conf(SPEC), 2)
    os.utime(away / "valkey.conf", (1, 1))
    keep_options(str(there), replace(SPEC.options, maxmemory_policy="allkeys-lru"))
    assert {archive.options.maxmemory_policy for archive in find([tmp_path]).archives} == {"allkeys-lru"}
