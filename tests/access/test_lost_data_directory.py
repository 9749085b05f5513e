"""A data directory that is empty, or was never of a domain: which server it may be of, and that it founds no second domain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dkv.cli.service import domain_in
from dkv.config import Settings, default_state
from dkv.daemon.program import domain_of
from dkv.data_dir import SERVER, DataDir, lock_data_dir
from dkv.joining import Membership
from dkv.manager import ManagerError


def settings(root: Path, domain: str | None = None, server_id: str | None = None) -> Settings:
    return Settings(data_dir=root, state=default_state(root), domain=domain, server_id=server_id)


def test_what_is_in_no_domain_yet_may_have_another_name_and_what_is_in_one_may_not(tmp_path: Path) -> None:
    with lock_data_dir(settings(tmp_path, server_id="s9")) as first:
        pass
    with lock_data_dir(settings(tmp_path, server_id="s3")) as renamed:
        assert (renamed.server_id, renamed.uid) == ("s3", first.uid)
    (tmp_path / "joined.json").write_text("{}")
    with pytest.raises(ManagerError, match="belongs to server s3, not s9"), lock_data_dir(settings(tmp_path, server_id="s9")):
        pass


def test_an_empty_data_directory_founds_no_domain_where_a_domain_is_set(tmp_path: Path) -> None:
    empty = DataDir(tmp_path, "s1", "u1")
    assert domain_of(settings(tmp_path), empty, None) == ""
    with pytest.raises(ManagerError, match=r"this server is in the domain d1, and .* has nothing of it") as refused:
        domain_of(settings(tmp_path, "d1"), empty, None)
    assert "dkv replace server" in str(refused.value.hint)
    (tmp_path / "domain.sqlite").write_text("put back by dkv rebuild state")
    assert domain_of(settings(tmp_path, "d1"), empty, None) == "d1"


def test_a_data_directory_of_another_domain_than_the_one_that_is_set_is_refused(tmp_path: Path) -> None:
    own = DataDir(tmp_path, "s1", "u1", "d1")
    assert domain_of(settings(tmp_path, "d1"), own, None) == "d1"
    assert domain_of(settings(tmp_path, "d2"), DataDir(tmp_path, "s1", "u1"), Membership("d2", "etcd", "1")) == "d2"
    with pytest.raises(ManagerError, match=r"names the domain d2, and .* is of the domain d1"):
        domain_of(settings(tmp_path, "d2"), own, None)


@pytest.mark.parametrize(
    ("written", "domain"),
    [({"domain": "0f" * 16}, "0f" * 16), ({}, ""), ({"domain": "a\nExecStart=/bin/sh"}, ""), ([], ""), (None, "")],
)
def test_a_unit_is_told_the_domain_that_a_data_directory_names(tmp_path: Path, written: object, domain: str) -> None:
    if written is not None:
        (tmp_path / SERVER).write_text(json.dumps(written))
    assert domain_in(str(tmp_path)) == domain
