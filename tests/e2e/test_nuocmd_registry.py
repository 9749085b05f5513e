"""The unmodified nuocmd and what a domain keeps for people: values, users, roles, regions, policies, certificates, logs,
servers that leave. One domain of two managers serves all these scenarios; the last one takes its second server away.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.api.nuodb.test_registry import CERTIFICATE
from tests.e2e.local_domain import LocalDomain, local_domain, wait_for
from tests.e2e.nuocmd_forked import Nuocmd


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    """Two managers and a store on the first."""
    with local_domain(tmp_path_factory.mktemp("registry"), servers=2, settings={"DKV_LABELS": "zone=a"}) as running_domain:
        running_domain.dkv("New-DkvStore", "Orders", "orders", managers=f"{running_domain.managers[0].host}:7801")
        running_domain.do("Start-DkvStore", "Orders")
        yield running_domain


@pytest.fixture(scope="module")
def nuocmd(domain: LocalDomain) -> Iterator[Nuocmd]:
    first = domain.managers[0]
    client = Nuocmd(first.host, first.port, domain.root, domain.nuocmd_environ)
    yield client
    client.close()


def test_values(nuocmd: Nuocmd) -> None:
    assert nuocmd("get value --key a/b%") == ""
    nuocmd("set value --key a/b% --value 1")
    nuocmd.refused("set value --key a/b% --value 2", "'set value' failed", "not what was expected")
    nuocmd("set value --key a/b% --value 2 --expected-value 1")
    nuocmd.refused("set value --key a/b% --value 3 --expected-value 1", "not what was expected")
    nuocmd("set value --key a/b% --unconditional --value", "vier Wörter, ein\nUmbruch")
    assert nuocmd("get value --key a/b%") == "vier Wörter, ein\nUmbruch\n"
    nuocmd("set value --key new --value 1 --expected-value", "")


def test_users_and_roles(nuocmd: Nuocmd) -> None:
    nuocmd("create role --name reader --method GET --url /api/1/*")
    nuocmd("create role --name dba --sub-roles reader")
    nuocmd("add role-templates --name dba --accessor --domain-admin --db-admin Orders --hotcopy-admin Orders")
    assert "/api/1/policies/*" in nuocmd("get roles")
    nuocmd("add role-privileges --name dba --any-method --url /api/1/regions --path-param-constraints dbName Orders")
    nuocmd("remove role-privileges --name dba --any-method --url /api/1/regions --path-param-constraints dbName Orders")
    shown = nuocmd("remove role-templates --name dba --accessor --domain-admin --db-admin Orders --hotcopy-admin Orders")
    assert "/api/1" not in shown
    nuocmd("create user --name eve --roles dba --password", "geheimes Wort")
    assert nuocmd("get users") == "User(name=eve, roles=[dba])\nUser(name=tester, roles=[admin])\n"
    assert "roles=[reader]" in nuocmd("update user-roles --name eve --roles-to-add reader --roles-to-remove dba")
    nuocmd("update user-credentials --name eve --password other")
    nuocmd.refused("create user --name eve --password x", "'create user' failed: There is a user named eve already.")
    nuocmd.refused("delete role --name reader", "held by user eve")
    nuocmd("delete user --name eve")
    nuocmd.refused("delete user --name eve", "no user named eve")
    nuocmd("delete role --name dba")
    nuocmd("delete role --name reader")
    assert nuocmd("get roles") == ""


def test_certificates(nuocmd: Nuocmd, tmp_path: Path) -> None:
    file, bad = tmp_path / "ours.pem", tmp_path / "bad.pem"
    file.write_text(f"who knows\n{CERTIFICATE}\n")
    bad.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    nuocmd(f"add trusted-certificate --alias ours --cert {file} --timeout 10")
    assert "CN=dkv test" in nuocmd("get certificate-info")
    nuocmd.refused(f"add trusted-certificate --alias bad --cert {bad} --no-wait", "not a certificate")
    nuocmd(f"create user --name carl --cert {file}")
    assert "user.carl" in nuocmd("get certificate-info")
    nuocmd(f"update user-credentials --name carl --cert {file}")
    nuocmd("remove trusted-certificate --alias user.carl")
    nuocmd("remove trusted-certificate --alias ours")
    nuocmd("delete user --name carl")
    assert "CN=" not in nuocmd("get certificate-info")


def test_regions(nuocmd: Nuocmd, domain: LocalDomain) -> None:
    assert nuocmd("create region --name east") == "Region(id=1, name=east)\n"
    nuocmd("add region-assignment --db-name Orders --region-name east --server-ids s1 s2")
    assert "region_name=east" in nuocmd("get processes --db-name Orders")
    shown = nuocmd("show regions --db-name Orders").splitlines()
    assert shown[:3] == ["[region = Default]", "[region = east]", "  [server_id = s1]"]
    nuocmd.refused("delete region --region-id 1", "'delete region' failed: Region east has servers of Orders.")
    nuocmd("remove region-assignment --db-name Orders --server-ids s1 s2")
    nuocmd("add region-assignment --db-name Orders --region-id 0 --server-ids s1")
    nuocmd("delete region --region-id 1")
    assert nuocmd("get regions") == "Region(id=0, name=Default)\n"


def test_load_balancers(nuocmd: Nuocmd) -> None:
    nuocmd("set load-balancer --policy-name near --lb-query", "random(label(zone a))")
    assert nuocmd("get load-balancers") == "LoadBalancerPolicy(lb_query=random(label(zone a)), policy_name=near)\n"
    nuocmd("set load-balancer-config --is-global --default random(any) --prefilter label(zone)")
    nuocmd("set load-balancer-config --db-name Orders --default round_robin(any)")
    assert len(nuocmd("get load-balancer-config").splitlines()) == 2
    nuocmd("set load-balancer-config --db-name Orders --unregister-default")
    nuocmd("set load-balancer-config --is-global --unregister-default --unregister-prefilter")
    assert nuocmd("get load-balancer-config") == ""
    nuocmd("delete load-balancer --policy-name near")
    nuocmd.refused("delete load-balancer --policy-name near", "no load-balancer policy named near")


def test_what_is_not_supported(nuocmd: Nuocmd, tmp_path: Path) -> None:
    licence = tmp_path / "licence"
    licence.write_text("x")
    assert "type=NONE" in nuocmd("get effective-license")
    for words in (f"set license --license-file {licence}", f"check license --license-file {licence}"):
        nuocmd.refused(words, "Licences are not supported, because dkv has none.")
    encrypt = "Storage passwords are not supported, because Valkey does not encrypt"
    nuocmd.refused("update data-encryption --db-name Orders --new-password x --is-initial-password", encrypt)
    nuocmd.refused("check data-encryption --db-name Orders --password x", encrypt)
    no_observer = "A handoff between centres is not supported, because no archive is a passive observer"
    nuocmd.refused("handoff report-timestamp --db-name Orders --archive-ids 0", no_observer)
    nuocmd.refused("handoff reset-state --db-name Orders --commits 1 --epoch 1 --leaders 1 0", no_observer)
    nuocmd.refused("handoff database --db-name Orders --archive-ids 0", "are not observers")


def test_versions(nuocmd: Nuocmd) -> None:
    shown = nuocmd("show database-versions --db-name Orders")
    release = re.search(r"effective version ID: \d+, effective version: (\d+[.]\d+[.]\d+),", shown)
    assert release, shown
    assert "[start_id = 0]" in shown
    nuocmd("upgrade database-version --db-name Orders --max-version")
    nuocmd.refused("upgrade database-version --db-name Orders --version 10.0.0", f"Valkey {release[1]}, not 10.0.0")


def test_what_a_server_says_of_itself(nuocmd: Nuocmd, domain: LocalDomain) -> None:
    nuocmd("log message --message", "the disks are changed")
    log = domain.managers[0].data_dir / "manager.log"
    wait_for("the message is in the log", lambda: "the disks are changed" in log.read_text())
    assert "ThisServerId = s1" in nuocmd("get server-config --this-server")
    shown = nuocmd("get server-config --server-id s2")
    assert "ThisServerId = s2" in shown
    assert "zone = a" in shown
    assert "nuodbPort = 8888" in nuocmd("get server-config --server-id s2 --property-key nuodbPort")
    nuocmd.refused("get server-config --server-id s3", "no server s3")
    assert "stateful sets:" in nuocmd("get kubernetes-config")
    state = nuocmd.json("capture domain-state")
    assert state["records"]["database/Orders"]["secret"] == "(hidden)"


def test_server_logs(nuocmd: Nuocmd, tmp_path: Path) -> None:
    nuocmd(f"get server-logs --output {tmp_path} --dump-threads --include-core-files --unpack")
    paths = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"s1/manager.log", "s1/engines/0/engine.log", "s1/domain-state.json", "s1/threads.txt"} <= paths
    assert "manager runs" in (tmp_path / "s1" / "manager.log").read_text()


def test_diagnose_info_without_access_control(tmp_path: Path) -> None:
    """It opens connections without the credentials that it was given, which access control refuses (test_nuocmd_all.py)."""
    with local_domain(tmp_path / "open", servers=2, settings={"DKV_ACCESS_CONTROL": "off"}) as domain:
        domain.create("Orders")
        first = domain.managers[0]
        client = Nuocmd(first.host, first.port, domain.root, domain.env)
        output = client(f"get diagnose-info --output-dir {tmp_path}")
        client.close()
    assert "Unable" not in output, output
    (file,) = tmp_path.glob("diagnose-*.zip")
    with zipfile.ZipFile(file) as packed:
        names = {name.partition("/")[2] for name in packed.namelist()}
        wanted = {
            "manager.log",
            "nuoadmin.conf",
            "show-domain.txt",
            "show-archives.txt",
            "show-databases.txt",
            "kubernetes-config.json",
            "processes.txt",
        }
        assert {f"admin/{server}/{name}" for server in ("s1", "s2") for name in wanted} <= names
        assert any(name.startswith("engine/Orders_") for name in names)


def test_a_server_is_stopped_given_up_and_taken_out(nuocmd: Nuocmd, domain: LocalDomain) -> None:
    """Last: the domain has one manager less afterwards."""
    nuocmd("create archive --db-name Orders --server-id s2 --archive-path", str(domain.root / "second"))
    nuocmd.refused("delete server --server-id s2", "its manager renews its lease")
    nuocmd.refused("delete server-state --server-id s2", "its manager renews its lease")
    nuocmd("shutdown server --server-id s2")
    second = domain.managers[1].process
    assert second is not None
    assert second.wait(30) == 0
    domain.managers[1].process = None
    wait_for("its lease has ended", is_away(nuocmd, "s2"))
    nuocmd.refused("delete server --server-id s2", "Server s2 still has archive 1", "delete the state of server s2")
    nuocmd.refused("get server-config --server-id s2", "The manager of s2")
    nuocmd("delete server-state --server-id s2")
    nuocmd("delete server --server-id s2")
    assert "s2" not in nuocmd("get servers")
    nuocmd.refused("delete server --server-id s2", "no server s2")
    deleted = domain.managers[1]
    deleted.start()  # its certificate is valid, and its server is not of the domain any more
    assert deleted.process is not None and deleted.process.wait(60) == 1
    deleted.process = None
    assert "Server s2 was deleted from this domain" in deleted.log.read_text()
    assert "s2" not in nuocmd("get servers")
    nuocmd.refused("shutdown server --server-id s3", "no server s3")


def is_away(nuocmd: Nuocmd, server: str) -> Callable[[], bool]:
    return lambda: "Disconnected" in next(line for line in nuocmd("show domain").splitlines() if f"[{server}]" in line)
