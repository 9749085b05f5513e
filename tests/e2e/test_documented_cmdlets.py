"""The documented cmdlet examples on three real managers: each line as printed there, and the other ways to write it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.local_domain import LocalDomain, local_domain, refused

SCRIPT = Path(__file__).parents[1] / "cli" / "documented.ps1"


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("documented")) as running_domain:
        yield running_domain


def script_for(domain: LocalDomain, text: str) -> str:
    return text.replace("127.0.0.", f"{domain.net}.")


def test_every_documented_example_line(domain: LocalDomain, tmp_path: Path) -> None:
    script = tmp_path / "documented.ps1"
    script.write_text(script_for(domain, SCRIPT.read_text()))
    output = domain.dkv("shell", "--file", str(script), managers="")

    rows = output.rows()
    assert output.code == 0, output
    assert not [row for row in rows if row[2] not in ("SUCCESS", "OK")], output.out
    first, two = (f"{domain.net}.1{i}:7801" for i in (1, 2))
    for row in (
        (first, "CreateStore", "SUCCESS", "Created"),
        (two, "CreateStore", "SUCCESS", "Created"),
        (first, "CreateStore", "SUCCESS", "Already exists"),
        (first, "StartInstance:orders-1", "SUCCESS", "Started"),
        (two, "StartInstance:orders-2", "SUCCESS", "Started"),
        (first, "StartInstance:orders-1", "SUCCESS", "Already running"),
        (first, "StopInstance:orders-1", "SUCCESS", "Stopped"),
        (first, "StopInstance:orders-1", "SUCCESS", "Already stopped"),
        (two, "RemoveStore", "SUCCESS", "Removed"),
        (first, "TestStore", "OK", "Running | Instances:2 Running:2 Stopped:0"),
        (first, "TestStore", "OK", "Stopped | Instances:2 Running:0 Stopped:2"),
    ):
        assert row in rows, (row, output.out)
    header = next(line for line in output.out.splitlines() if line.startswith("Manager"))
    assert re.fullmatch(r"Manager +Action +Result +Message", header)
    assert domain.client.stores() == []


def test_the_literal_error_without_managers(domain: LocalDomain) -> None:
    output = domain.dkv("Start-DkvStore", "-Name", "OrdersStore", managers="")
    assert output.code == 1
    assert output.err.splitlines()[0] == "No managers connected. Use Connect-DkvManager or specify -Managers."
    assert output.out == ""


def test_one_shot_forms_the_context_file_and_dkv_managers(domain: LocalDomain) -> None:
    """Connect in one process, use in the next; DKV_MANAGERS is stronger; names by position, parameters by prefix."""
    first, last = domain.managers[0], domain.managers[2]
    domain.dkv("Connect-DkvManager", "-Managers", f"{first.host},{domain.managers[1].host}", managers="")

    output = domain.dkv("new-dkvstore", "OneShot", "one", "-wh", managers="")
    assert (output.code, output.out.count("client:")) == (0, 2), output
    assert "nothing was changed" in output.err
    assert domain.client.stores() == []

    only_last = f"{last.host}:7801"
    assert domain.dkv("New-DkvStore", "OneShot", "one", managers=only_last).rows() == [
        (only_last, "CreateStore", "SUCCESS", "Created")
    ]
    refused(domain.dkv("Start-DkvStore", "oneshot", "-man", only_last, managers=""), "Did you mean OneShot?")
    output = domain.dkv("Start-DkvStore", "OneShot", "-man", only_last, managers="")
    assert output.rows() == [(only_last, "StartInstance:one-1", "SUCCESS", "Started")], output

    listed = domain.dkv("Get-DkvStore", "-o", "json", managers="")
    facts = json.loads(listed.out)
    assert [f["manager"] for f in facts] == [f"http://{m.host}:7801" for m in domain.managers[:2]]
    assert {(f["storeName"], f["storeStatus"], f["runningInstances"]) for f in facts} == {("OneShot", "Running", 1)}

    # The connected managers do not own the node: the sentence says who does.
    refused(domain.dkv("Stop-DkvStore", "OneShot", managers=""), "None of the targeted managers owns one-1", only_last)
    assert domain.dkv("Stop-DkvStore", "OneShot", "one-1", managers=only_last).code == 0
    assert domain.dkv("Remove-DkvStore", "OneShot", managers="").code == 0
    domain.dkv("Disconnect-DkvManager", managers="")
    assert domain.dkv("Get-DkvStore", managers="").err.startswith("No managers connected.")


def test_parallel_and_fail_fast(domain: LocalDomain) -> None:
    """A node that cannot start fails its row; with -FailFast the nodes after it are not asked for, or not waited for."""
    domain.create("Pair", "-Parallel", start=False)
    blocked = domain.client.store("Pair")["instances"][0]
    archives = domain.managers[0].data_dir / "archives"
    archives.mkdir(exist_ok=True)
    (archives / "Pair").write_text("in the way")
    try:
        output = domain.dkv("Start-DkvStore", "Pair", "-FailFast", "-TimeoutSec", "20")
        rows = {row[1]: row for row in output.rows()}
        failed = rows[f"StartInstance:{blocked['instanceName']}"]
        assert output.code == 1
        assert failed[2] == "FAILED", output.out
        assert "directory not usable" in failed[3] or "Not a directory" in failed[3], output.out
        assert all(row[2] in ("SUCCESS", "SKIPPED") for key, row in rows.items() if row is not failed), output.out
    finally:
        (archives / "Pair").unlink()
    output = domain.dkv("Start-DkvStore", "Pair", "-Parallel")
    assert [row[2] for row in output.rows()] == ["SUCCESS"] * 3, output
    assert output.code == 0
    output = domain.dkv("Stop-DkvStore", "Pair", "-Parallel")
    assert [row[3] for row in output.rows()] == ["Stopped"] * 3, output
    domain.remove("Pair")


def test_the_add_instance_example_with_a_variable(domain: LocalDomain) -> None:
    """The documented Add-DkvInstance lines: one node, and several through `@( )` of `@{ }`."""
    domain.do("New-DkvStore", "DevStore", "node")
    text = """
    Add-DkvInstance -StoreName DevStore -InstanceName node4 -ClustronPort 7814 -ClientPort 7864
    $nodes = @(
        @{ InstanceName="node5"; ClustronPort=7815; ClientPort=7865 },
        @{ InstanceName="node6"; ClustronPort=7816; ClientPort=7866 }
    )
    Add-DkvInstance -StoreName DevStore -Nodes $nodes
    """
    output = domain.dkv("shell", "-c", text)
    assert (output.code, [row[3] for row in output.rows()]) == (0, ["Instance added"] * 6), output
    placed = {i["instanceName"]: i["server"] for i in domain.client.store("DevStore")["instances"]}
    assert sorted(placed.values()) == ["s1", "s1", "s2", "s2", "s3", "s3"], placed
    output = domain.dkv("Start-DkvStore", "DevStore")
    assert (output.code, len(output.rows())) == (0, 6), output
    domain.remove("DevStore")


def test_watch_prints_pictures_and_ends(domain: LocalDomain) -> None:
    domain.create("Seen", "-ReplicationFactor", "1")
    output = domain.dkv("Watch-DkvStoreMetrics", "Seen", "-Count", "2")
    assert output.code == 0, output
    assert output.out.count("Store: Seen") == 2
    assert "Put" in output.out
    domain.remove("Seen")
