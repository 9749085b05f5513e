"""Real managers with certificates: a server joins by a token, and the authority changes while managers are killed."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from dkv.access import crypto
from dkv.client.secured import certificates_in
from dkv.kernel import command_line
from tests.e2e.local_domain import LocalDomain, Manager, local_domain, wait_for

ON = {"DKV_ACCESS_CONTROL": "on", "DKV_TLS": "on"}


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[LocalDomain]:
    with local_domain(tmp_path, 2, ON) as domain:
        yield domain


def files_of(manager: Manager) -> Path:
    return manager.data_dir / "certificates"


def fingerprints(manager: Manager) -> list[str]:
    """Of the authorities that a manager trusts."""
    return [crypto.read(text).fingerprint for text in certificates_in((files_of(manager) / "authorities.pem").read_text())]


def serial_shown(manager: Manager) -> str:
    """The certificate that a manager's port shows now, as its SHA-256."""
    return crypto.read(ssl.get_server_certificate((manager.host, manager.port), timeout=10)).fingerprint


def phase(domain: LocalDomain) -> str:
    return str(domain.client.authority()["phase"])


def test_a_third_server_joins_with_a_token_and_is_one_of_the_domain(domain: LocalDomain) -> None:
    first = domain.managers[0]
    made = domain.do("get", "token", "--expires", "10m", "--uses", "1")
    token = made.out.strip()
    assert token.startswith("dkv1.") and "is taken until" in made.err
    third = domain.manager(3, ON)
    domain.managers.append(third)
    third.words = ("--join", f"{first.host}:{first.port}", "--token", token)
    third.state = ""
    third.restart()
    assert third.process is not None
    shown = command_line(third.process.pid)
    assert "--token ****" in shown and token not in shown, "other users of the machine see the command line"
    servers = {server["serverId"]: server for server in domain.client.domain()["servers"]}
    assert set(servers) == {"s1", "s2", "s3"} and servers["s3"]["certificateDaysLeft"] in (None, 89, 90)
    assert fingerprints(third) == fingerprints(first)
    assert not (third.data_dir / "domain.sqlite").exists()
    assert "used 1 of 1 times" in domain.do("get", "join-tokens").out
    secret_part = token.split(".")[3]
    files = [path for path in domain.root.rglob("*") if path.is_file()]
    assert not [path for path in files if secret_part in path.read_bytes().decode("latin-1")]
    third.kill()
    third.restart()  # with the same words: what it joined is known, nothing is asked again
    third.kill()
    secret = domain.root / "token"
    secret.write_text(f"{token}\n")
    secret.chmod(0o600)
    third.words = ("--peer", f"{first.host}:{first.port}", "--join-file", str(secret))  # as a unit of an older release has it
    third.restart()
    third.kill()
    third.words = ()
    third.restart()
    fourth = domain.manager(4, ON)
    domain.managers.append(fourth)
    fourth.state = ""
    fourth.words = ("--peer", f"{first.host}:{first.port}", "--join", token)
    fourth.start()
    assert fourth.process is not None and fourth.process.wait(60) == 2
    fourth.process = None
    assert f"The join token {token.split('.')[2]} was used already" in fourth.log.read_text()
    assert secret_part not in fourth.log.read_text() + third.log.read_text() + first.log.read_text()


def test_the_authority_changes_although_managers_are_killed_in_every_phase(domain: LocalDomain) -> None:
    first, second = domain.managers
    before = fingerprints(first)
    leaf = serial_shown(first)
    second.kill()
    begun = domain.dkv("rotate", "ca", "--timeout", "1", env={"DKV_MANAGERS": first.host})
    assert begun.code == 1 and "waits for the managers of: s2" in begun.err
    assert phase(domain) == "PREPARED" and "the manager of s2" in domain.do("show", "waiting").out
    assert set(fingerprints(first)) > set(before)
    first.kill()
    first.restart()
    assert phase(domain) == "PREPARED"
    second.start()
    second.wait_ready()
    wait_for("all trust the new one", lambda: phase(domain) != "PREPARED")
    second.kill()
    first.kill()
    first.restart()
    second.restart()
    wait_for("the change is done", lambda: phase(domain) == "DONE")
    for manager in (first, second):
        wait_for("the former one is dropped", lambda manager=manager: len(fingerprints(manager)) == 1)
    assert fingerprints(first) == fingerprints(second) != before
    assert serial_shown(first) != leaf
    assert domain.do("show", "waiting").out == "" and domain.do("check", "server").code == 0
    former = domain.client.authority()["former"]
    assert [former] == before
