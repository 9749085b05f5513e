"""A domain of three managers with access control: who started them works as before, and nobody else does without a credential."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest

from dkv.client import Credentials, Endpoint, HttpTransport, Request
from dkv.constants import MANAGER_SOCKET
from tests.e2e.local_domain import DKV, LocalDomain, local_domain, marked, wait_for
from tests.e2e.nuocmd import Nuocmd
from tests.strangers import does, needs_root

GET = Request("GET", "/admin/v1/stores", {})
REVOKED_WITHIN = 1.0  # s after the answer to its deletion


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    root = tmp_path_factory.mktemp("access")
    with local_domain(root, 3) as domain:
        yield domain


def token(domain: LocalDomain, role: str, *words: str) -> str:
    """The secret of a new token."""
    return domain.do("create", "token", "--role", role, *words).out.strip()


def token_id(secret: str) -> str:
    return secret.split("_")[1]


def statuses(domain: LocalDomain, secret: str) -> list[int]:
    """What each manager answers to a look with that token."""
    transport = HttpTransport(Credentials({"DKV_TOKEN": secret}))
    return [transport.send(Endpoint(manager.host, port), GET, 10).status for manager in domain.managers for port in (7801, 8888)]


def test_who_started_the_managers_works_as_before(domain: LocalDomain, tmp_path: Path) -> None:
    home = {"XDG_CONFIG_HOME": str(tmp_path)}
    one, two, three = (manager.host for manager in domain.managers)
    lines = [
        f"Connect-DkvManager {one},{two},{three}",
        "New-DkvStore Seen seen",
        "Start-DkvStore Seen",
        "Get-DkvStore",
        "Get-DkvStore Seen",
        "Add-DkvInstance Seen seen-4 -ClustronPort 7821 -ClientPort 7871",
        "Start-DkvStore Seen seen-4",
        "Watch-DkvStoreMetrics Seen -Count 2",
        "Set-DkvStore Seen -MaxMemory 64MB",
        "show domain",
        "show waiting",
        "get databases",
        "get server-config --server-id s2",
        "switchover database --db-name Seen",
        "Stop-DkvStore Seen seen-4",
        "Remove-DkvInstance Seen seen-4",
        "Stop-DkvStore Seen",
        "Remove-DkvStore Seen",
        "Disconnect-DkvManager",
    ]
    for line in lines:
        output = domain.dkv(*line.split(), managers="", env=home)
        assert output.code == 0, (line, output)
    by = [(event["actor"], event["entry"]) for event in domain.client.events() if event["command"] == "CreateDatabase"]
    assert by and set(by) == {(f"local uid {os.geteuid()}", "socket of s1")}
    shown = domain.do("show", "events", "--by", f"local uid {os.geteuid()}").out.splitlines()
    assert any("CreateDatabase by local uid" in line and line.endswith("through socket of s1)") for line in shown)
    assert all("by local uid" in line for line in shown)
    assert domain.do("show", "events", "--by", "ann").err == "No events.\n"


@needs_root
def test_another_user_is_refused_at_the_port_and_at_the_socket(domain: LocalDomain) -> None:
    first = domain.managers[0]
    at_port = """
import socket
s = socket.create_connection((sys.argv[1], 7801), 30)
s.sendall(b"GET /admin/v1/stores HTTP/1.0\\r\\nHost: " + sys.argv[1].encode() + b"\\r\\n\\r\\n")
print(s.makefile("rb").read().decode())
"""
    answer = does(at_port, first.host)
    problem = json.loads(answer.partition("\n\n")[2])
    assert " 401 " in answer.splitlines()[0] and problem["detail"] == "The request shows no credentials."
    assert "root" in problem["hint"] and "token" in problem["hint"]
    at_socket = """
import errno, socket
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
except OSError as error:
    print(errno.errorcode[error.errno])
"""
    assert does(at_socket, first.data_dir / MANAGER_SOCKET).strip() == "EACCES"


def test_a_token_is_taken_at_every_manager_for_what_its_role_allows(domain: LocalDomain) -> None:
    viewer = token(domain, "viewer", "--name", "dashboard", "--expires", "1h")
    assert set(statuses(domain, viewer)) == {200}
    shown = domain.do("get", "tokens").out
    assert f"{token_id(viewer)}  role viewer, expires " in shown and "name dashboard" in shown and viewer not in shown
    environ = {"DKV_TOKEN": viewer}
    assert domain.dkv("show", "domain", env=environ).code == 0
    with domain.unchanged():
        refused = domain.dkv("create", "region", "--name", "north", env=environ)
    assert (
        refused.code == 1 and f"token {token_id(viewer)} may not POST /api/1/regions" in refused.err and "hint: " in refused.err
    )
    operator = token(domain, "operator")
    assert domain.dkv("New-DkvStore", "Named", "named", env={"DKV_TOKEN": operator}).code == 0
    actors = {event["actor"] for event in domain.client.events(store="Named") if event["command"] == "CreateDatabase"}
    assert actors == {f"token {token_id(operator)}"}
    domain.remove("Named")


def test_a_deleted_token_is_refused_at_every_manager_at_once(domain: LocalDomain) -> None:
    secret = token(domain, "viewer")
    assert set(statuses(domain, secret)) == {200}
    domain.client.delete_token(token_id(secret))
    deleted = time.monotonic()
    assert set(statuses(domain, secret)) == {401} and time.monotonic() - deleted < REVOKED_WITHIN
    output = domain.dkv("show", "domain", env={"DKV_TOKEN": secret})
    assert output.code == 1 and "it was deleted" in output.err and "hint: " in output.err
    assert domain.dkv("delete", "token", "--token-id", token_id(secret)).code == 1


def test_a_login_is_kept_for_who_has_no_socket_and_forgotten(domain: LocalDomain, tmp_path: Path) -> None:
    secret = token(domain, "viewer")
    home = {"XDG_CONFIG_HOME": str(tmp_path)}
    environ = domain.env | home | {"DKV_MANAGERS": domain.addresses}

    def login(text: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(DKV), *(words or ("login",))], env=environ, input=text, capture_output=True, text=True, timeout=90, check=False
        )

    wrong = login(secret[:-1] + ("x" if secret[-1] != "x" else "y"))
    assert wrong.returncode == 1 and "token is not known" in wrong.stderr and not (tmp_path / "dkv").exists()
    good = login(secret + "\n")
    assert good.returncode == 0 and good.stdout.startswith("Logged in at ") and secret not in good.stdout + good.stderr
    assert Credentials(home).kept() == f"Bearer {secret}"
    assert login("", "logout").stdout == "Logged out.\n" and Credentials(home).kept() == ""
    (tmp_path / "secret").write_text(secret)
    assert login("", "login", "--token-file", str(tmp_path / "secret")).returncode == 0
    again = login(secret, "Connect-DkvManager", domain.addresses, "-Token")
    assert again.returncode == 0 and "Connected" in again.stdout
    domain.do("create", "user", "--name", "ann", "--password", "a long password", "--roles", "viewer")
    assert login("another\n", "login", "--user", "ann").returncode == 1
    assert login("a long password\n", "login", "--user", "ann").returncode == 0
    assert Credentials(home).kept().startswith("Basic ")
    for manager in domain.managers:
        reply = HttpTransport(Credentials({"DKV_USER": "ann", "DKV_PASSWORD": "a long password"})).send(
            Endpoint(manager.host, manager.port), GET, 10
        )
        assert reply.status == 200


@dataclass
class Secrets:
    """What nobody may read who has no right to it: by name, and the names of the files that keep it, each for its owner only."""

    texts: dict[str, str]
    kept_in: dict[str, tuple[str, ...]]

    def found(self, where: str, content: bytes) -> list[str]:
        """Which of them stand in a file or an answer where they should not."""
        return [
            f"{name} in {where}"
            for name, text in self.texts.items()
            if text.encode() in content and not where.endswith(self.kept_in.get(name, ("\0",)))
        ]


STATE_FILES = ("domain.sqlite", "domain.sqlite-wal")


def made_secrets(domain: LocalDomain, tmp_path: Path) -> Secrets:
    """A token, a revoked one, passwords of a user, of a DBA and of a store's user, a join token, a store's own secret, keys."""
    operator, revoked = token(domain, "operator"), token(domain, "viewer")
    domain.do("delete", "token", "--token-id", token_id(revoked))
    domain.dkv("show", "domain", env={"DKV_TOKEN": revoked})
    (tmp_path / "secret").write_text(operator)
    domain.dkv("New-DkvStore", "Canary", "canary", env={"DKV_TOKEN_FILE": str(tmp_path / "secret")})
    domain.dkv("Start-DkvStore", "Canary", env={"DKV_TOKEN": operator})
    user, dba = secrets.token_hex(12), secrets.token_hex(12)
    for name, path, body in (
        ("PUT", "/api/1/policies/users/canary", {"roles": ["viewer"], "password": user}),
        ("PUT", "/api/1/databases/canaries", {"databaseDbaUser": "dba", "databaseDbaPassword": dba}),
    ):
        domain.client.request(name, path, body)
    wrong = secrets.token_hex(12)
    domain.dkv("show", "domain", env={"DKV_USER": "canary", "DKV_PASSWORD": wrong})
    client = domain.do("create", "database-user", "--db-name", "Canary", "--name", "app").out.strip()
    join = domain.do("create", "join-token").out.strip()
    state = domain.client.state()["records"]
    own = json.loads(state["database/Canary"])["secret"]
    directory = domain.managers[0].data_dir
    texts = {
        "token": operator.split("_", 2)[2],
        "revoked token": revoked.split("_", 2)[2],
        "password": user,
        "wrong password": wrong,
        "hash of a password": json.loads(json.loads(state["record/user/canary"])["value"])["password"],
        "password of the dba": dba,
        "password of a store's user": client,
        "join token": join.split(".")[3],
        "secret of a store": own,
        "domain key": (directory / "certificates" / "domain.key").read_text().strip(),
        "sealed key": json.loads(state["authority/managers"])["key"],
        "key of a certificate": (directory / "certificates" / "server.key").read_text().split("\n")[1],
    }
    kept_in = {
        "hash of a password": STATE_FILES,
        "password of the dba": STATE_FILES,
        "secret of a store": (*STATE_FILES, "users.acl", "record.json"),
        "sealed key": STATE_FILES,
        "domain key": ("domain.key", "domain.sqlite-key"),
        "key of a certificate": ("server.key",),
    }
    return Secrets(texts, kept_in)


def test_a_secret_is_where_it_belongs_and_in_no_log_event_bundle_command_line_or_environment(
    domain: LocalDomain, tmp_path: Path
) -> None:
    made = made_secrets(domain, tmp_path)
    living = marked(domain.root, domain.net)
    assert len(living) > 3  # engines too
    found = []
    for pid in living:
        for name in ("cmdline", "environ"):
            found += made.found(f"{pid} {name}", Path(f"/proc/{pid}/{name}").read_bytes())
    files = [path for path in domain.root.rglob("*") if path.is_file()]
    for path in files:
        with contextlib.suppress(FileNotFoundError):  # an engine replaces its files by new ones
            found += made.found(str(path), path.read_bytes())
    found += made.found("events", json.dumps([dict(event) for event in domain.client.events()]).encode())
    found += made.found("state for support", domain.do("capture", "domain-state").out.encode())
    domain.do("get", "diagnose-info", "--output-dir", str(tmp_path / "diagnose"))
    for path in (tmp_path / "diagnose").rglob("*"):
        pieces = {name: ZipFile(path).read(name) for name in ZipFile(path).namelist()} if path.suffix == ".zip" else {}
        pieces |= {"": path.read_bytes()} if path.is_file() and not pieces else {}
        for name, content in pieces.items():
            found += made.found(f"{path} {name}", content)
    holders = {name for names in made.kept_in.values() for name in names}
    modes = {str(path): path.stat().st_mode for path in files if path.name in holders}
    domain.remove("Canary")
    assert not found, "; ".join(found)
    assert modes and all(not mode & 0o077 for mode in modes.values()), modes


def test_a_backup_of_the_state_is_the_one_copy_with_secrets_and_only_its_owner_reads_it(
    domain: LocalDomain, tmp_path: Path
) -> None:
    domain.create("Copied", "-InstanceCount", "1", start=False)
    file = tmp_path / "backup"
    domain.do("backup", "state", str(file), "--managers", domain.managers[0].host)
    own = json.loads(domain.client.state()["records"]["database/Copied"])["secret"]
    assert own in file.read_text() and file.stat().st_mode & 0o777 == 0o600
    refused = domain.dkv("backup", "state", str(tmp_path / "other"), env={"DKV_TOKEN": token(domain, "operator")})
    assert refused.code == 1 and "right state" in refused.err and not (tmp_path / "other").exists()
    domain.remove("Copied")


def test_managers_pass_orders_on_and_a_server_is_drained_and_stopped(domain: LocalDomain) -> None:
    domain.create("Drained", "-InstanceCount", "1")
    silent = domain.client.metrics()["silentServers"]
    assert silent == []
    second, third = domain.managers[1], domain.managers[2]
    assert third.process is not None and second.process is not None
    domain.do("shutdown", "server", "--server-id", "s3", "--managers", domain.managers[0].host)
    wait_for("s3 ends", lambda: third.process is not None and third.process.poll() is not None)
    domain.do("manager", "stop", "--with-engines", "--data-dir", str(second.data_dir))
    assert second.process.wait(30) == 0
    left = [process for process in domain.client.processes() if process["server"] == "s2"]
    assert left == []
    for manager in (second, third):
        manager.restart()


def test_without_access_control_every_view_says_so(tmp_path: Path) -> None:
    """As somebody chose it: whoever reaches the manager commands it, and nobody who looks can miss that."""
    warning = "access control is off: every user of this machine is an administrator"
    with local_domain(tmp_path / "off", 1, {"DKV_ACCESS_CONTROL": "off"}) as domain:
        first = domain.managers[0]
        domain.create("Open", "-InstanceCount", "1")
        assert not (first.data_dir / MANAGER_SOCKET).exists()
        for line in ("Get-DkvStore", "Get-DkvStore Open", "show domain", "show waiting", "show events", "get databases"):
            output = domain.dkv(*line.split())
            assert output.code == 0 and output.err.splitlines()[-1] == f"warning: {warning}", (line, output)
        assert warning in domain.do("show", "domain").out and warning in Nuocmd(domain).do("show", "domain")
        with urllib.request.urlopen(f"http://{first.host}:7801/admin/v1/domain", timeout=30) as answer:
            assert json.load(answer)["accessControl"] == "off"
        nobody = Credentials({"DKV_TOKEN": "dkvt_000000000000_" + "x" * 43})
        assert HttpTransport(nobody).send(Endpoint(first.host, 7801), GET, 10).status == 200
        public = subprocess.run(
            [*domain.manager(9).command(), "--bind", "192.0.2.1"],
            env=first.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert public.returncode == 1 and "Cannot listen on 192.0.2.1" in public.stderr
        domain.remove("Open")


def test_with_access_control_no_view_warns(domain: LocalDomain) -> None:
    assert domain.client.domain()["accessControl"] == "on"
    for line in ("Get-DkvStore", "show domain", "show waiting"):
        assert "warning" not in domain.do(*line.split()).err
