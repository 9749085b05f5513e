"""What a rebuilt database's engines do: the options that stand in the file they were started from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dkv.domain.model import DatabaseOptions
from dkv.engine.archive import write_identity
from dkv.engine.config import valkey_conf
from dkv.engine.contract import Identity, RunOptions
from dkv.recovery.find import find
from tests.engine.test_config import SPEC


def options_after(data_dir: Path, conf: str) -> DatabaseOptions:
    """The options that are found for an archive whose engine was started from this file."""
    place = data_dir / "archives" / "orders" / "orders-1-1"
    place.mkdir(parents=True, mode=0o700)
    (data_dir / "server.json").write_text('{"serverId": "s1", "uid": "u1"}')
    write_identity(str(place), Identity("d", "orders", 1, "u", "g0"), initialised=False)
    (place / "valkey.conf").write_text(conf)
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
