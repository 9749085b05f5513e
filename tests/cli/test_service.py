"""`dkv service`: the unit that systemd is given, and what a service manager is told."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from dkv.cli import service
from dkv.cli.binding import bind, from_argv
from dkv.cli.cmdlets import find_cmdlet
from dkv.cli.errors import CliError
from dkv.cli.programs import refuse_elsewhere
from dkv.notify import ServiceManager
from tests.cli.dialect import Dialect

ANALYZE = shutil.which("systemd-analyze")


def unit(*words: str) -> str:
    return service.unit(bind(find_cmdlet("service install"), from_argv(words), {}), ["/opt/dkv/bin/dkv"])


def test_only_the_manager_is_ended_and_restarted() -> None:
    lines = unit().splitlines()
    assert "ExecStart=/opt/dkv/bin/dkv manager run --data-dir /var/lib/dkv" in lines
    assert {"User=dkv", "StateDirectory=dkv", "WantedBy=multi-user.target"} <= set(lines)
    for line in ("Type=notify", "KillMode=process", "OOMPolicy=continue", "Restart=on-failure", "WatchdogSec=60"):
        assert line in lines


def test_settings_that_are_given_go_into_the_unit_and_paths_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = unit("--bind", "10.0.0.11", "--data-dir", "a b%", "--config", "dkv.toml", "--run-as", "ann", "--peer", "10.0.0.12")
    assert (
        f"ExecStart=/opt/dkv/bin/dkv manager run --config {tmp_path}/dkv.toml --bind 10.0.0.11"
        f' --data-dir "{tmp_path}/a b%%" --join 10.0.0.12\n'
    ) in text
    assert "User=ann\n" in text
    assert "StateDirectory" not in text


def test_a_users_own_service_asks_for_nothing_that_only_root_may_give() -> None:
    text = unit("--user")
    assert "ExecStart=/opt/dkv/bin/dkv manager run\n" in text
    assert "WantedBy=default.target" in text
    assert not any(word in text for word in ("User=", "LimitNOFILE", "CapabilityBoundingSet", "Protect", "network-online"))


@pytest.mark.skipif(ANALYZE is None, reason="there is no systemd-analyze here")
@pytest.mark.parametrize("words", [(), ("--user",), ("--data-dir", "/srv/a b%")])
def test_systemd_reads_the_unit_without_a_word(tmp_path: Path, words: tuple[str, ...]) -> None:
    text = unit(*words).replace("/opt/dkv/bin/dkv", "/bin/true")
    (tmp_path / service.NAME).write_text(text, encoding="utf-8")
    command = [str(ANALYZE), "verify", *(["--user"] if "--user" in words else []), str(tmp_path / service.NAME)]
    environ = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)
    about_it = [line for line in (ended.stdout + ended.stderr).splitlines() if "dkv" in line]
    assert not about_it, ended.stderr


def test_the_unit_is_printed_and_bad_settings_are_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    shown = Dialect().runs(tmp_path, "service install --print --bind 10.0.0.11")
    assert shown.code == 0
    assert shown.out.startswith(service.HEAD)
    refused = Dialect().runs(tmp_path, "service install --print --port 99999")
    assert refused.code == 2
    assert "port cannot be '99999'" in refused.err
    assert refused.out == ""


def test_what_somebody_else_wrote_is_neither_overwritten_nor_removed(tmp_path: Path) -> None:
    foreign = tmp_path / "systemd" / "user" / service.NAME
    foreign.parent.mkdir(parents=True)
    foreign.write_text("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(CliError, match="was not made by dkv service install"):
        service._refuse_foreign(str(foreign))
    assert Dialect().runs(tmp_path, "service remove --user").code == 1
    assert foreign.exists()


def test_a_user_who_cannot_run_the_program_is_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="There is no user nobody-of-that-name"):
        service.refuse_user("nobody-of-that-name", ["/bin/sh"])
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "dkv").write_text("")
    (closed / "dkv").chmod(0o755)
    with pytest.raises(CliError, match=r"The user nobody cannot run .*/closed/dkv"):
        service.refuse_user("nobody", [str(closed / "dkv")])
    service.refuse_user("nobody", ["/bin/sh"])
    service.refuse_user("root", [str(closed / "dkv")])


# What a service manager is told ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("abstract", [False, True])
def test_a_service_manager_is_told_that_it_is_ready_works_and_ends(tmp_path: Path, abstract: bool) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        address = f"@{tmp_path.name}-{os.getpid()}" if abstract else str(tmp_path / "notify")
        listening.bind(f"\0{address[1:]}" if abstract else address)
        listening.settimeout(5)
        environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "PATH": "/bin"}
        told = ServiceManager(environ)
        assert environ == {"PATH": "/bin"}, "its variables are not for engines"
        assert told.sign_every == 1.5
        told.ready("server s1")
        told.works()
        told.pauses()
        told.ends()
        assert [listening.recv(200).decode().split("\n") for _ in range(4)] == [
            ["READY=1", "STATUS=server s1", "WATCHDOG_USEC=3000000"],
            ["WATCHDOG=1"],
            ["STATUS=the domain state is being moved", "WATCHDOG_USEC=600000000"],
            ["STOPPING=1"],
        ]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "/nonexistent/notify"},
        {"NOTIFY_SOCKET": "/nonexistent/notify", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "3000000"},
    ],
)
def test_without_one_or_with_one_that_is_gone_nothing_is_said_and_no_sign_is_wanted(environ: dict[str, str]) -> None:
    told = ServiceManager(environ)
    told.ready("server s1")
    assert told.sign_every is None


# Where it runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "library", "said"),
    [("darwin", "", "on Linux only"), ("linux", "", "needs the GNU C library"), ("linux", "musl", "needs the GNU C library")],
)
def test_where_no_manager_can_run_one_sentence_says_so(platform: str, library: str, said: str) -> None:
    with pytest.raises(CliError, match=said) as refused:
        refuse_elsewhere(platform, library)
    assert str(refused.value.hint)


def test_here_one_can() -> None:
    refuse_elsewhere()
