"""Every subcommand of the unmodified nuocmd once, in one long scenario: it works, or is refused in a clear sentence.

Which subcommands there are is asked of nuocmd itself, so that none is missing. The rows need each other, in their order.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.api.nuodb.test_registry import CERTIFICATE
from tests.e2e.local_domain import LocalDomain, local_domain, wait_for
from tests.e2e.nuocmd_forked import DIAGNOSE_REFUSED, Nuocmd

WORKS = ""
Row = tuple[str, str]  # the command, and what it prints if it works or, after "!", in which words it is refused

BEFORE: list[Row] = [
    ("create archive --db-name test --server-id s1 --archive-path {root}/one", "state=PROVISIONED"),
    ("create archive --db-name test --server-id s2 --archive-path {root}/two", "id=1"),
    ("create database --db-name test --dba-user dba --dba-password secret --te-server-ids s2", "STARTING"),
    ("check database --db-name test --check-running --num-processes 3 --timeout 60", WORKS),
    ("start process --db-name test --engine-type TE --server-id s1", "durable_state=REQUESTED"),
    ("check process --start-id 3 --check-running --timeout 60", WORKS),
    ("check server --check-active --check-connected --check-converged", WORKS),
    ("check servers --check-active --check-connected --check-leader --num-servers 2 --timeout 30", WORKS),
    ("check sql-connection --db-name test", WORKS),
]
LOOKS: list[Row] = [
    ("show domain", "[state = RUNNING]"),
    ("show database --db-name test", "MONITORED:RUNNING"),
    ("show archives --db-name test", "] RUNNING"),
    ("show storage-groups --db-name test", "[state = Available]"),
    ("show regions --db-name test", "[region = Default]"),
    ("show database-versions --db-name test", "effective version"),
    ("show hotcopy-info --db-name test", WORKS),
    ("get archives", "id=0"),
    ("get database --db-name test", "state=RUNNING"),
    ("get databases", "name=test"),
    ("get processes --db-name test", "start_id=0"),
    ("get servers", "id=s1"),
    ("get server-config --this-server", "ThisServerId"),
    ("get server-logs --output {root}", WORKS),
    ("get diagnose-info --output-dir {root}", f"{DIAGNOSE_REFUSED} for s1"),  # it shows its credentials only once
    ("get sql-connection --db-name test", "engine_type=TE"),
    ("get storage-groups --db-name test", "UNPARTITIONED"),
    ("get certificate-info", WORKS),
    ("get kubernetes-config", "stateful"),
    ("get effective-license", "NONE"),
    ("get startplan --db-name test --output-file {root}/plan.json", WORKS),
    ("capture database --db-name test --capture-file {root}/captured.json", WORKS),
    ("capture domain-state", '"records"'),
    ("enforce database --capture-file {root}/captured.json --incremental", "SKIPPING"),
    ("log message --message hello", WORKS),
]
KEPT: list[Row] = [
    ("set value --key k --value v", WORKS),
    ("get value --key k", "v"),
    ("create role --name r --method GET --url /api/1/*", WORKS),
    ("add role-privileges --name r --method GET --url /x", "/x"),
    ("remove role-privileges --name r --method GET --url /x", "r"),
    ("add role-templates --name r --accessor", "log"),
    ("remove role-templates --name r --accessor", "r"),
    ("get roles", "r"),
    ("create user --name u --roles r --password p", WORKS),
    ("get users", "name=u"),
    ("update user-roles --name u --roles-to-remove r", "roles=[]"),
    ("update user-credentials --name u --password q", "u"),
    ("delete user --name u", WORKS),
    ("delete role --name r", WORKS),
    ("create region --name east", "id=1"),
    ("get regions", "east"),
    ("add region-assignment --db-name test --region-id 1 --server-ids s1", WORKS),
    ("remove region-assignment --db-name test --server-ids s1", WORKS),
    ("delete region --region-id 1", WORKS),
    ("set load-balancer --policy-name near --lb-query random(any)", WORKS),
    ("get load-balancers", "near"),
    ("delete load-balancer --policy-name near", WORKS),
    ("set load-balancer-config --is-global --default random(any)", WORKS),
    ("get load-balancer-config", "random(any)"),
    ("add trusted-certificate --alias ours --cert {root}/ours.pem --timeout 10", WORKS),
    ("create domain-truststore --truststore {root}/trust.jks --truststore-password secret1", WORKS),
    ("remove trusted-certificate --alias ours", WORKS),
    ("update database-options --db-name test --default-options mem 1g", WORKS),
    ("upgrade database-version --db-name test --max-version", WORKS),
    ("connect database --db-name test --server-id s1 --user dba --password x --nuosql-cmd /bin/true", WORKS),
]
NOT_MEANT: list[Row] = [
    ("add storage-group --db-name test --sg-name g --archive-ids 0", "!belongs to one group"),
    ("remove storage-group --db-name test --sg-name g --archive-ids 0", "!belongs to one group"),
    ("delete storage-group --db-name test --sg-name g", "!cannot be deleted"),
    ("set archive --archive-id 0 --passive", "!only observe"),
    ("check data-encryption --db-name test --password x", "!are not supported"),
    ("update data-encryption --db-name test --new-password x --is-initial-password", "!are not supported"),
    ("handoff report-timestamp --db-name test --archive-ids 0", "!is not supported"),
    ("handoff reset-state --db-name test --commits 1 --epoch 1 --leaders 1 0", "!is not supported"),
    ("handoff database --db-name test --archive-ids 0", "!not observers"),
    ("check license --license-file {root}/licence", "!dkv has none"),
    ("set license --license-file {root}/licence", "!dkv has none"),
]
ENDS: list[Row] = [
    (
        "hotcopy database --db-name test --type simple --backup-dirs 0 {root}/copies --partial-storage-groups --timeout 60",
        "status=completed",
    ),
    ("get hotcopy-info --db-name test", "completed"),
    ("get hotcopy-status --coordinator-start-id {coordinator} --hotcopy-id {copy}", "completed"),
    ("cancel hotcopy --coordinator-start-id {coordinator} --hotcopy-id {copy}", "completed"),
    ("shutdown process --start-id 3 --timeout 30", WORKS),
    ("delete server --server-id s2", "!renews its lease"),
    ("delete server-state --server-id s2", "!renews its lease"),
    ("shutdown server-processes --server-id s2 --timeout 30", WORKS),
    ("shutdown database --db-name test", WORKS),
    ("check process --start-id 0 --check-exited --timeout 60", WORKS),
    ("start database --db-name test", "STARTING"),
    ("check database --db-name test --check-running --timeout 60", WORKS),
    ("shutdown database --db-name test", WORKS),
    ("check process --start-id 4 --check-exited --timeout 60", WORKS),
    ("delete database --db-name test", WORKS),
    ("delete archive --archive-id 1 --purge", WORKS),
    ("shutdown server --server-id s2", WORKS),
]
SCENARIO = [*BEFORE, *LOOKS, *KEPT, *NOT_MEANT, *ENDS]

ENGINES_OWN = """check archiving; diagnose database; diagnose process; get archiving; get core-file; get database-connectivity;
get log-messages; get stats; pause archiving; pause transactions; resume archiving; resume transactions;
show database-connectivity;
show log-messages"""
"""Those speak NuoDB's own engine protocol and never ask a manager for anything but where an engine is."""
LOCAL = "create keypair; generate documentation; import certificate; show certificate; show raftlog; sign certificate"
"""Those ask nobody."""


def named(text: str) -> set[str]:
    return {name.strip() for name in text.split(";")}


def of_nuocmd() -> set[str]:
    """What nuocmd itself can do."""
    code = (
        "from pynuoadmin import nuocmd\nh = nuocmd.build_command_handler()\n"
        "for f in map(lambda n: getattr(h, n), dir(h)):\n"
        "    if getattr(f, '_is_subcommand', False): print(f._action, f._entity)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.splitlines())


def test_no_subcommand_of_nuocmd_is_missing() -> None:
    played = {" ".join(command.split()[:2]) for command, _ in SCENARIO}
    known = of_nuocmd()
    assert len(known) == 107
    assert played | named(ENGINES_OWN) | named(LOCAL) == known
    assert not played & (named(ENGINES_OWN) | named(LOCAL))


@dataclass
class Played:
    """One domain of two servers, and what its scenario so far made of it."""

    domain: LocalDomain
    nuocmd: Nuocmd
    names: dict[str, str]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with local_domain(tmp_path_factory.mktemp("all"), servers=2) as domain:
        (domain.root / "ours.pem").write_text(CERTIFICATE)
        (domain.root / "licence").write_text("x")
        first = domain.managers[0]
        nuocmd = Nuocmd(first.host, first.port, domain.root, domain.nuocmd_environ)
        yield Played(domain, nuocmd, {"root": str(domain.root)})
        nuocmd.close()


@pytest.mark.parametrize(("command", "expected"), SCENARIO, ids=[command for command, _ in SCENARIO])
def test_each_works_or_is_refused_in_a_sentence(played: Played, command: str, expected: str) -> None:
    code, out, err = played.nuocmd.run(*shlex.split(command.format(**played.names)))
    if expected.startswith("!"):
        assert code == 1, (command, out, err)
        assert expected[1:] in err, err
        assert "500" not in err
        return
    assert code == 0, (command, out, err)
    assert expected in out, out
    after(played, command)


def after(played: Played, command: str) -> None:
    """What later rows need to know, or to have come."""
    if command.startswith("hotcopy database"):
        (copies,) = played.nuocmd.json("--show-json get hotcopy-info --db-name test")["hotCopyStatuses"].values()
        played.names |= {"coordinator": copies[0]["coordinatorStartId"], "copy": copies[0]["hotCopyId"]}
    if command.startswith("shutdown database"):
        wait_for("it is stopped", lambda: "state=NOT_RUNNING" in played.nuocmd("get database --db-name test"))
    if command.startswith("shutdown server --"):
        gone = played.domain.managers[1].process
        assert gone is not None
        assert gone.wait(30) == 0
        played.domain.managers[1].process = None


def test_where_things_are_kept(played: Played) -> None:
    names = {path.name for path in Path(played.names["root"]).iterdir()}
    assert {"plan.json", "captured.json", "one", "copies"} <= names
