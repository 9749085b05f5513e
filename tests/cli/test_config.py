"""Settings: flag over variable over file over default, and the nearest known name for an unknown one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dkv.config import ConfigError, Settings, load_settings, parse_size


def env(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(tmp_path), **more}


def test_defaults_are_the_numbers_of_the_design(tmp_path: Path) -> None:
    settings = load_settings(environ=env(tmp_path))
    assert (settings.bind, settings.port, settings.nuodb_port) == ("127.0.0.1", 7801, 8888)
    assert settings.leader_assignment_timeout_ms == 10_000
    assert settings.data_dir == tmp_path / ".local/share/dkv"
    assert settings.state == f"sqlite:{settings.data_dir}/domain.sqlite"


def test_what_is_written_later_wins(tmp_path: Path) -> None:
    file = tmp_path / "dkv.toml"
    file.write_text('port = 1\nbind = "a"\nserver_id = "s1"\n[labels]\nzone = "z"\n')
    variables = env(tmp_path, DKV_CONFIG=str(file), DKV_PORT="2", DKV_BIND="b", DKV_MAX_MEMORY="64mb")
    settings = load_settings({"port": "3", "bind": None}, variables)
    assert (settings.port, settings.bind, settings.server_id) == (3, "b", "s1")
    assert (settings.labels, settings.max_memory) == ({"zone": "z"}, 64 << 20)


@pytest.mark.parametrize(
    ("text", "word", "hint"),
    [
        ("prot = 1", "'prot'", "Did you mean port?"),
        ("zzzzz = 1", "'zzzzz'", "Known: server_id"),
        ("port = 70000", "port cannot be 70000", "from 1 to 65535"),
        ("port = true", "port cannot be True", "whole number"),
        ("bind = 3", "bind must be a text", "bind ="),
        ('log_level = "loud"', "log_level cannot be 'loud'", "debug, info"),
        ('max_memory = "much"', "not an amount of memory", "512MB"),
        ("labels = 3", "labels cannot be 3", "zone"),
        ("voters = 2", "voters cannot be 2", "1, 3 or 5"),
        ("voters = true", "voters cannot be True", "1, 3 or 5"),
        ("port 3", "is not TOML", "port = 7801"),
        ('announce_ipv4 = "db.example"', "announce_ipv4 cannot be 'db.example'", "IPv4 address, such as 203.0.113.7"),
        ('announce_ipv6 = "10.0.0.1"', "announce_ipv6 cannot be '10.0.0.1'", "IPv6 address"),
        ('allowed_hosts = ["*.example.com"]', "allowed_hosts cannot have '*.example.com'", "without scheme, port or *"),
        ('allowed_hosts = "dkv.example:443"', "allowed_hosts cannot have 'dkv.example:443'", "one whole name"),
        ('allowed_hosts = "https://dkv.example"', "allowed_hosts cannot have", "one whole name"),
        ("allowed_hosts = 3", "allowed_hosts cannot be 3", "dkv.example.com"),
        ('allowed_hosts = "1.2.3"', "allowed_hosts cannot have '1.2.3'", "one whole name"),
        ("announce_port_offset = 70000", "announce_port_offset cannot be 70000", "whole number"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, word: str, hint: str) -> None:
    file = tmp_path / "dkv.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(environ=env(tmp_path), file=file)
    assert word in caught.value.message
    assert hint in str(caught.value.hint)


def test_a_bad_variable_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DKV_PROT"):
        load_settings(environ=env(tmp_path, DKV_PROT="1"))
    with pytest.raises(ConfigError, match="does not exist"):
        load_settings(environ=env(tmp_path, DKV_CONFIG=str(tmp_path / "no")))
    assert load_settings(environ=env(tmp_path, DKV_TEST_X="1", DKV_MANAGERS="a", DKV_LABELS="a=b,c=d")).labels == {
        "a": "b",
        "c": "d",
    }
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(environ=env(tmp_path), file=tmp_path)


def test_announced_addresses_are_kept_as_an_address_is_written(tmp_path: Path) -> None:
    given = {"DKV_ANNOUNCE_IPV4": "203.0.113.7", "DKV_ANNOUNCE_IPV6": "2001:DB8:0::7", "DKV_ANNOUNCE_PORT_OFFSET": "-100"}
    settings = load_settings(environ=env(tmp_path, **given))
    announced = (settings.announce_ipv4, settings.announce_ipv6, settings.announce_port_offset)
    assert announced == ("203.0.113.7", "2001:db8::7", -100)


def test_allowed_hosts_are_kept_as_a_request_names_them(tmp_path: Path) -> None:
    given = env(tmp_path, DKV_ALLOWED_HOSTS="DKV.Example.com, 203.0.113.7,[2001:DB8::7]")
    assert load_settings(environ=given).allowed_hosts == ("dkv.example.com", "203.0.113.7", "2001:db8::7")
    file = tmp_path / "dkv.toml"
    file.write_text('allowed_hosts = ["a-b.example", "console"]\n')
    assert load_settings(environ=env(tmp_path), file=file).allowed_hosts == ("a-b.example", "console")


def test_never_is_a_number_too(tmp_path: Path) -> None:
    assert load_settings(environ=env(tmp_path, DKV_TAIL_ABOVE_BYTES="-1")).tail_above_bytes == -1
    with pytest.raises(ConfigError, match="tail_above_bytes cannot be '-2'"):
        load_settings(environ=env(tmp_path, DKV_TAIL_ABOVE_BYTES="-2"))


def test_the_number_of_voters_is_a_number(tmp_path: Path) -> None:
    assert load_settings(environ=env(tmp_path)).voters is None
    assert load_settings(environ=env(tmp_path, DKV_VOTERS="3")).voters == 3


def test_sizes() -> None:
    assert [parse_size(text) for text in (1, "2", "3kb", "4 MB", "5GiB", "1t")] == [1, 2, 3072, 4 << 20, 5 << 30, 1 << 40]


def test_settings_are_all_documented_as_data() -> None:
    assert Settings().failover_limit is None
