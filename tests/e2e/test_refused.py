"""Bad input on real managers: each with a clear sentence, a hint, a non-zero exit, and a domain as it was before."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import apsw
import pytest

import dkv.daemon.program  # noqa: F401  imported before managers are forked
from dkv.cli.main import main
from dkv.client.credentials import basic
from dkv.engine import binary
from dkv.members.place import new_members, read_members
from tests.disks import small_disk
from tests.e2e.local_domain import DKV, LocalDomain, Manager, Said, local_domain, refused, wait_for


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("refused")) as running_domain:
        running_domain.create("Orders", "-ReplicationFactor", "3")
        yield running_domain


# Cmdlets -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        ("Start-DkvStore Nowhere", "no store or database named Nowhere", 1),
        ("Get-DkvStore Order", "Did you mean Orders?", 1),
        ("Stop-DkvStore Orders orders-7", "has no instance 'orders-7'", 1),
        ("Remove-DkvInstance Orders orders-7", "has no instance 'orders-7'", 1),
        ("Start-DkvStore Orders -Prallel", "Did you mean -Parallel?", 2),
        ("Start-DkvStore", "needs -Name", 2),
        ("Strat-DkvStore Orders", "Did you mean Start-DkvStore?", 2),
        ("New-DkvStore Orders orders -InstanceCount 2", "A different store named Orders exists already", 1),
        ("New-DkvStore orders orders", "A different store named Orders exists already", 1),
        ("New-DkvStore 1st one", "'1st' cannot be the store's name", 2),
        ("New-DkvStore First 1st", "'1st' cannot be the prefix of the nodes' names", 2),
        ("New-DkvStore First first -ClientPort 65536", "-ClientPort cannot be '65536'", 2),
        ("New-DkvStore First first -ClustronPort 65535 -ClientPort 9000 -InstanceCount 2", "above 65535", 2),
        ("New-DkvStore First first -ClustronPort 7900 -ClientPort 7902 -InstanceCount 5", "overlap", 2),
        ("New-DkvStore First first", "-ClustronPort 7812 -ClientPort 7862", 1),
        ("New-DkvStore First first -ReplicationFactor 4", "-ReplicationFactor 4 needs 4 nodes", 2),
        ("Remove-DkvStore Orders", "Stop it first", 1),
        ("Remove-DkvInstance Orders orders-1", "Stop it first", 1),
        ("Add-DkvInstance Orders orders-1 -ClustronPort 7950 -ClientPort 7960", "orders-1", 1),
        ("Add-DkvInstance Orders more -ClustronPort 7811 -ClientPort 7960", "port 7811", 1),
        ("Add-DkvInstance Orders more -ClustronPort 7950 -ClientPort 7960 -Server s9", "s9", 2),
    ],
)
def test_a_command_is_refused(domain: LocalDomain, words: str, says: str, code: int) -> None:
    with domain.unchanged():
        output = domain.dkv(*words.split())
    refused(output, says)
    assert output.code == code, output


def test_what_is_so_already_is_a_success_that_says_so(domain: LocalDomain) -> None:
    with domain.unchanged():
        again = domain.do("New-DkvStore", "Orders", "orders", "-ReplicationFactor", "3")
        assert [row[3] for row in again.rows()] == ["Already exists"] * 3
        again = domain.do("Start-DkvStore", "Orders")
        assert [row[3] for row in again.rows()] == ["Already running"] * 3
    domain.do("New-DkvStore", "Idle", "idle", "-ClustronPort", "7911", "-ClientPort", "7961")
    with domain.unchanged():
        again = domain.do("Stop-DkvStore", "Idle")
        assert [row[3] for row in again.rows()] == ["Already stopped"] * 3
    domain.remove("Idle")


def test_a_port_that_another_program_uses(domain: LocalDomain) -> None:
    second = domain.managers[1]
    with socket.socket() as other, domain.unchanged():
        other.bind((second.host, 7960))
        other.listen()
        output = domain.dkv("New-DkvStore", "First", "first", "-ClustronPort", "7910", "-ClientPort", "7960")
    refused(output, "Port 7960", second.host, "in use by another program", "-ClientPort 7961")
    assert [row[2] for row in output.rows()] == ["SKIPPED", "FAILED", "SKIPPED"]


def test_a_manager_that_is_away_is_found_before_anything_is_written(domain: LocalDomain) -> None:
    nobody = f"{domain.net}.99:7801"
    with domain.unchanged():
        output = domain.dkv("New-DkvStore", "First", "first", "-ClustronPort", "7950", managers=f"{domain.addresses},{nobody}")
        assert [row[2] for row in output.rows()] == ["SKIPPED"] * 3 + ["FAILED"]
        assert "is not reachable: nothing listens there" in output.out
        refused(domain.dkv("Get-DkvStore", managers=nobody), "is not reachable", "dkv manager run")
        refused(domain.dkv("Connect-DkvManager", "-Managers", f"{domain.addresses},{nobody}"), "is not reachable")
    assert output.code == 1


def test_managers_of_two_domains(domain: LocalDomain) -> None:
    other = domain.manager(8, state="other.sqlite")
    domain.managers.append(other)
    try:
        other.restart()
        first = domain.managers[0].host
        with domain.unchanged():
            for words in (
                ["Connect-DkvManager", "-Managers", f"{first},{other.host}"],
                ["New-DkvStore", "First", "first", "-ClustronPort", "7950", "-Managers", f"{first},{other.host}"],
            ):
                refused(domain.dkv(*words, managers=""), first, other.host, "belong to different domains")
        assert other.client.stores() == []
    finally:
        domain.managers.remove(other)
        if other.process:
            assert other.kill(signal.SIGTERM) == 0


def test_ctrl_c_in_the_middle_of_a_start(domain: LocalDomain) -> None:
    """The third manager does not answer: after Ctrl-C the output says what had been sent, and the domain stays whole."""
    domain.do("New-DkvStore", "Cut", "cut", "-ClustronPort", "7911", "-ClientPort", "7961")
    frozen = domain.managers[2].process
    assert frozen
    frozen.send_signal(signal.SIGSTOP)
    try:
        start = subprocess.Popen(
            [str(DKV), "Start-DkvStore", "Cut"],
            env=domain.env | {"DKV_MANAGERS": domain.addresses},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        wait_for("two starts", lambda: all(domain.instance("Cut", f"cut-{i}")["process"] for i in (1, 2)))
        start.send_signal(signal.SIGINT)
        err = start.communicate(timeout=30)[1]
    finally:
        frozen.send_signal(signal.SIGCONT)
    assert start.returncode == 130
    assert "Interrupted; already sent and not taken back:" in err
    assert "StartInstance:cut-1" in err
    assert "StartInstance:cut-2" in err
    assert "Traceback" not in err
    domain.do("Start-DkvStore", "Cut")
    domain.remove("Cut")


def test_a_web_page_cannot_drive_a_manager(domain: LocalDomain) -> None:
    host, shown = domain.managers[0].host, basic(*domain.credentials)

    def ask(headers: dict[str, str]) -> tuple[int, str, str]:
        line = http.client.HTTPConnection(host, 7801, timeout=10)
        line.request("DELETE", "/admin/v1/stores/Orders", headers=headers | {"Authorization": shown})
        answer = line.getresponse()
        response = answer.status, answer.headers["Content-Type"], answer.read().decode()
        line.close()
        return response

    with domain.unchanged():
        for headers in ({"Host": "evil.example:7801"}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
            status, kind, text = ask(headers)
            assert (status, kind) == (403, "application/problem+json"), text
            assert '"hint"' in text
        assert ask({"Origin": f"http://{host}:7801"})[0] == 409  # its own page may ask; the store still runs


# Managers that cannot begin ------------------------------------------------------------------------------------------


@pytest.fixture
def stranger(domain: LocalDomain, tmp_path: Path) -> Manager:
    """A manager of its own, with its own state, that a test may start once."""
    return Manager("x", f"{domain.net}.77", tmp_path / "x", f"sqlite:{tmp_path / 'x.sqlite'}", env=domain.env)


def begin(manager: Manager, *more: str, env: dict[str, str] | None = None) -> Said:
    """Run a manager that is expected to end by itself: the program as it is, forked so that its imports cost nothing."""
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            _become([*manager.command()[1:], *more], manager.env | (env or {}), output.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        text = output.read()
    assert "Traceback" not in text, text
    return Said(code, "", text)


def _become(words: list[str], env: dict[str, str], output: int) -> NoReturn:
    code = 70
    try:
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(env)
        signal.alarm(30)
        code = main(words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def test_a_second_manager_is_told_of_the_first(domain: LocalDomain, stranger: Manager) -> None:
    first = domain.managers[0]
    refused(
        begin(stranger, "--data-dir", str(first.data_dir), "--server-id", "s1"),
        "Manager s1",
        f"{first.host}:7801",
        "runs on",
        str(first.data_dir),
    )
    refused(begin(stranger, "--bind", first.host), "Manager s1 runs on", f"{first.host}:7801")
    with socket.socket() as other:
        other.bind((stranger.host, 7801))
        other.listen()
        refused(begin(stranger), f"Port 7801 on {stranger.host} cannot be used")


def test_a_copy_of_a_data_directory_is_refused_while_its_server_lives(domain: LocalDomain, stranger: Manager) -> None:
    first = domain.managers[0]
    stranger.data_dir.mkdir(mode=0o700)
    shutil.copytree(first.data_dir / "certificates", stranger.data_dir / "certificates")
    shutil.copy(first.data_dir / "server.json", stranger.data_dir)
    with domain.unchanged():
        again = begin(stranger, "--server-id", "s1", "--state", first.state)
        refused(again, f"Another manager runs as server s1 at {first.host}:7801", "If this one is a copy")
        refused(begin(stranger, "--server-id", "s2"), f"{stranger.data_dir} belongs to server s1, not s2")
        refused(begin(stranger, "--server-id", "s1"), "This server is in the domain", "is empty", "rebuild state")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("0.0.0.0", "one address of this one"),
        ("::", "one address of this one"),
        ("db-1.example", "one address of this one"),
        ("192.0.2.1", "access control is off"),
    ],
)
def test_only_loopback_is_listened_on_without_access_control(stranger: Manager, address: str, words: str) -> None:
    stranger.env = stranger.env | {"DKV_ACCESS_CONTROL": "off"}
    refused(begin(stranger, "--bind", address), f"Cannot listen on {address}", words)
    assert not stranger.data_dir.exists()


def test_tls_needs_access_control_which_makes_the_certificates(stranger: Manager) -> None:
    stranger.env = stranger.env | {"DKV_ACCESS_CONTROL": "off", "DKV_TLS": "on"}
    refused(begin(stranger), "without access control there is no certificate", "access_control")


def test_no_proxy_is_served_without_access_control(stranger: Manager) -> None:
    stranger.env = stranger.env | {"DKV_ACCESS_CONTROL": "off", "DKV_ALLOWED_HOSTS": "dkv.example"}
    refused(begin(stranger), "whoever reaches the proxy could command this manager", "access_control")
    assert not stranger.data_dir.exists()


@pytest.mark.parametrize("state", ["sqlite:/nowhere/domain.sqlite", "etcd:https://127.0.0.1:1"])
def test_a_data_directory_whose_domain_is_on_members_founds_no_second_one(stranger: Manager, state: str) -> None:
    stranger.data_dir.mkdir(mode=0o700)
    new_members("the-domain", "https://127.0.0.1:7901").write(stranger.data_dir)
    refused(begin(stranger, "--state", state), "domain the-domain is on etcd members of its managers", "without --state")
    assert not list(stranger.data_dir.glob("*.sqlite")) and read_members(stranger.data_dir)


def test_a_state_file_that_is_not_ours(stranger: Manager, tmp_path: Path) -> None:
    state = tmp_path / "x.sqlite"
    state.write_text("a letter to my aunt\n" * 500)
    refused(begin(stranger), "is not a dkv", str(state))
    assert state.read_text().startswith("a letter")

    state.unlink()
    with apsw.Connection(str(state)) as foreign:
        foreign.execute("CREATE TABLE aunts (name TEXT)")
    foreign.close()
    refused(begin(stranger), "is not a dkv", str(state))
    refused(begin(stranger, "--state", "oracle:everything"), "state backend 'oracle:everything' is not known", "sqlite:PATH")


def test_a_state_file_that_is_damaged_or_of_another_version(domain: LocalDomain, stranger: Manager, tmp_path: Path) -> None:
    state = tmp_path / "x.sqlite"
    stranger.restart()
    assert stranger.kill(signal.SIGTERM) == 0
    db = apsw.Connection(str(state))
    version = db.pragma("user_version")
    db.close()
    for other, words in ((version + 1, "a newer"), (version - 1, "an older")):
        db = apsw.Connection(str(state))
        db.pragma("user_version", other)
        db.close()
        before = state.read_bytes()
        refused(begin(stranger), f"written by {words} dkv (version {other}", str(state))
        assert state.read_bytes() == before

    state.write_bytes(before[:4096] + os.urandom(len(before) - 4096))
    refused(begin(stranger), str(state))
    state.write_bytes(b"")
    refused(begin(stranger), "is damaged (it is empty)")
    state.unlink()
    state.mkdir()
    refused(begin(stranger), "is a directory")


def test_a_data_directory_that_cannot_be_used(stranger: Manager, tmp_path: Path) -> None:
    stranger.data_dir.write_text("in the way")
    refused(begin(stranger), f"The data directory {stranger.data_dir} cannot be used")
    assert stranger.data_dir.read_text() == "in the way"
    below = tmp_path / "file"
    below.write_text("")
    refused(begin(stranger, "--data-dir", str(below / "dkv")), "cannot be used")
    other = tmp_path / "torn"
    other.mkdir()
    (other / "server.json").write_text("{")
    refused(begin(stranger, "--data-dir", str(other)), "server.json")


def test_a_data_directory_on_a_full_disk(stranger: Manager, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "256k") as disk:
        with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        refused(
            begin(stranger, "--data-dir", str(disk / "x")),
            f"The data directory {disk / 'x'} cannot be used",
            "No space left",
            "make room",
        )
        refused(begin(stranger, "--state", f"sqlite:{disk / 'x.sqlite'}"), "no space is left", str(disk / "x.sqlite"))
        (disk / "ballast").unlink()
        stranger.state = f"sqlite:{disk / 'x.sqlite'}"
        stranger.restart()
        assert stranger.kill(signal.SIGTERM) == 0


def test_settings_that_do_not_exist(stranger: Manager) -> None:
    refused(begin(stranger, env={"DKV_PROT": "7801"}), "'prot'", "Did you mean port?")
    refused(begin(stranger, "--port", "0"), "port cannot be '0'")


def test_no_valkey_is_said_before_anything_else(stranger: Manager, tmp_path: Path) -> None:
    """A configured path that does not exist is never replaced by another program."""
    gone = tmp_path / "no-valkey"
    refused(
        begin(stranger, env={"DKV_VALKEY_SERVER": str(gone)}),
        "There is no Valkey",
        str(gone),
        "not an executable file",
        "set valkey_server",
    )
    assert not stranger.data_dir.exists()


def test_without_path_and_without_the_bundled_one(stranger: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "bundled_binary", lambda: None)
    refused(begin(stranger, env={"PATH": str(tmp_path)}), "valkey-server is neither on PATH", "Install Valkey 9.1")


def test_a_valkey_that_vanishes_is_told_by_the_start_of_a_node(domain: LocalDomain, stranger: Manager, tmp_path: Path) -> None:
    program = tmp_path / "valkey-server"
    program.symlink_to(binary.find_binary())
    stranger.env = domain.env | {"DKV_VALKEY_SERVER": str(program)}
    stranger.restart()
    try:
        address = f"{stranger.host}:7801"
        assert domain.dkv("New-DkvStore", "None", "none", managers=address).code == 0
        program.unlink()
        refused(domain.dkv("Start-DkvStore", "None", managers=address), str(program), "is not an executable file")
        assert {t["cause"] for t in stranger.client.tombstones()} == {"no valkey-server binary"}
        program.symlink_to(binary.find_binary())
        assert domain.dkv("Start-DkvStore", "None", managers=address).code == 0
        assert domain.dkv("Stop-DkvStore", "None", managers=address).code == 0
    finally:
        assert stranger.kill(signal.SIGTERM) == 0
