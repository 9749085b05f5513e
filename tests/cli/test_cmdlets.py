"""The cmdlets against a faithful fake of the managers: the documented tokens, order, and what was sent to whom."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dkv.cli.output import Screen
from dkv.cli.startstop import Node, waiting_text
from tests.cli.conftest import Maker, Person
from tests.cli.fake import FakeDomain, Problem

ONE, TWO = "127.0.0.11:7801", "127.0.0.12:7801"
LITERAL = "No managers connected. Use Connect-DkvManager or specify -Managers."


def changes(domain: FakeDomain) -> list[tuple[str, str]]:
    return [(manager, target) for manager, method, target in domain.log if method != "GET" and "check=true" not in target]


# -- connecting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "Start-DkvStore A",
        "Stop-DkvStore A",
        "Get-DkvStore",
        "Watch-DkvStoreMetrics A",
        "Remove-DkvStore A",
        "Add-DkvInstance A a-3 7813 -ClustronPort 1 -ClientPort 2",
    ],
)
def test_without_managers_the_literal_error_is_said(person: Person, command: str) -> None:
    output = person.types(command.replace(" 7813", ""))
    assert (output.code, output.out, output.err.splitlines()[0]) == (1, "", LITERAL)


def test_new_only_warns_and_names_no_parameter_it_does_not_document(person: Person) -> None:
    output = person.types("New-DkvStore A a")
    assert output.code == 1
    assert output.err == "warning: No managers connected. Use Connect-DkvManager.\n"
    assert not person.domain.log


def test_connect_prints_a_row_a_manager(person: Person) -> None:
    output = person.types("connect-dkvmanager -man 127.0.0.11,http://127.0.0.12:7801/")
    assert output.rows() == [[ONE, "Connect", "SUCCESS", "Connected"], [TWO, "Connect", "SUCCESS", "Connected"]]
    assert output.out.split()[:4] == ["Manager", "Action", "Result", "Message"]


def test_a_second_connect_needs_force_unless_it_is_the_same_list(connected: Person) -> None:
    assert connected.types("Connect-DkvManager 127.0.0.11,127.0.0.12").code == 0
    output = connected.types("Connect-DkvManager 127.0.0.11")
    assert output.code == 1
    assert "Already connected to" in output.err
    assert connected.types("Connect-DkvManager 127.0.0.11 -Force").code == 0
    assert connected.shell.managers() == [ONE]


def test_connect_remembers_nothing_when_one_manager_is_away(person: Person) -> None:
    person.domain.down.add(TWO)
    output = person.types("Connect-DkvManager 127.0.0.11,127.0.0.12")
    assert [row[2] for row in output.rows()] == ["SKIPPED", "FAILED"]
    assert output.code == 1
    assert person.types("Get-DkvStore").err.startswith(LITERAL)


def test_one_shot_commands_share_the_context_file_until_disconnect(person: Person) -> None:
    assert person.runs("Connect-DkvManager", "-Managers", "127.0.0.11,", "127.0.0.12").code == 0
    assert person.runs("Get-DkvStore").code == 0
    assert person.runs("Disconnect-DkvManager").code == 0
    assert person.runs("Get-DkvStore").err.startswith(LITERAL)


def test_a_variable_beats_the_context_file(person: Person) -> None:
    person.environ["DKV_MANAGERS"] = "127.0.0.12"
    person.runs("Get-DkvStore")
    assert [manager for manager, _, _ in person.domain.log] == [TWO]
    output = person.runs("Connect-DkvManager", "127.0.0.11")
    assert "DKV_MANAGERS is set and takes precedence" in output.err


def test_managers_of_two_domains_are_refused(person: Person) -> None:
    person.domain.uid[TWO] = "uid-2"
    output = person.types("Connect-DkvManager 127.0.0.11,127.0.0.12")
    assert output.code == 1
    assert "belong to different domains" in output.err


def test_the_same_server_under_two_names_is_refused(person: Person) -> None:
    output = person.types("Connect-DkvManager 127.0.0.11,localhost")
    assert output.code == 2
    assert "are the same server s1" in output.err


# -- creating -------------------------------------------------------------------------------------------------------


def test_new_sends_the_whole_topology_to_every_manager_with_one_key(connected: Person) -> None:
    connected.domain.keys.clear()
    output = connected.types("New-DkvStore -Name OrdersStore -InstancePrefix orders -InstanceCount 2")
    assert output.rows() == [[ONE, "CreateStore", "SUCCESS", "Created"], [TWO, "CreateStore", "SUCCESS", "Created"]]
    assert changes(connected.domain) == [(ONE, "/admin/v1/stores"), (TWO, "/admin/v1/stores")]
    assert len(set(connected.domain.keys[-2:])) == 1
    body = connected.domain.bodies[-1]
    assert [i["instanceName"] for i in body["instances"]] == ["orders-1", "orders-2", "orders-3", "orders-4"]
    assert [i["server"] for i in body["instances"]] == ["s1", "s1", "s2", "s2"]
    assert body["replicationFactor"] == 2
    assert [g["slots"] for g in body["groups"]] == [[[0, 8191]], [[8192, 16383]]]


def test_new_sends_the_options_that_are_given_and_no_others(connected: Person) -> None:
    line = "New-DkvStore Cache cache -MaxMemory 64MB -MaxmemoryPolicy allkeys-lru -NotifyKeyspaceEvents Ex -MaxClients 500"
    assert connected.types(f"{line} -Leaders stay -AppendFsync everysec").code == 0
    body = connected.domain.bodies[-1]
    assert {name: body[name] for name in body if name not in ("name", "instances", "groups", "replicationFactor")} == {
        "maxMemory": 64 << 20,
        "maxmemoryPolicy": "allkeys-lru",
        "notifyKeyspaceEvents": "xE",
        "maxClients": 500,
        "leaders": "stay",
        "appendFsync": "everysec",
    }
    refused = connected.types("New-DkvStore Other other -NotifyKeyspaceEvents q")
    assert refused.code == 2 and "-NotifyKeyspaceEvents cannot be 'q'." in refused.err and "such as Ex or KEA" in refused.err


def test_new_again_is_success_and_another_topology_is_refused(with_store: Person) -> None:
    again = with_store.types("New-DkvStore OrdersStore orders -Parallel")
    assert again.rows() == [[m, "CreateStore", "SUCCESS", "Already", "exists"] for m in (ONE, TWO)]
    assert again.code == 0
    other = with_store.types("New-DkvStore OrdersStore orders -InstanceCount 2")
    assert [row[2] for row in other.rows()] == ["FAILED", "FAILED"]
    assert other.code == 1


def test_fail_fast_skips_what_comes_after_a_failure(with_store: Person) -> None:
    output = with_store.types("New-DkvStore OrdersStore orders -InstanceCount 2 -FailFast")
    assert [row[2] for row in output.rows()] == ["FAILED", "SKIPPED"]


def test_nothing_is_written_when_a_manager_is_away_or_its_check_fails(connected: Person) -> None:
    connected.domain.down.add(TWO)
    output = connected.types("New-DkvStore A a")
    assert [row[2] for row in output.rows()] == ["SKIPPED", "FAILED"]
    connected.domain.down.clear()
    connected.domain.refusing[TWO] = Problem(409, "port_in_use", "Port 7811 is in use.", "Use 7821.")
    output = connected.types("New-DkvStore A a")
    assert "Port 7811 is in use. Use 7821." in output.out
    assert not connected.domain.stores
    assert not changes(connected.domain)


def test_a_second_store_on_the_same_ports_is_refused_with_a_free_base(with_store: Person) -> None:
    output = with_store.types("New-DkvStore Carts carts")
    assert output.code == 1
    assert "The cluster port 7811 of carts-1 on 127.0.0.11 is used by orders-1 of OrdersStore." in output.err
    assert "hint: Free there: -ClustronPort 7812 -ClientPort 7862." in output.err
    assert with_store.types("New-DkvStore Carts carts -ClustronPort 7812 -ClientPort 7862").code == 0


def test_what_if_prints_the_topology_and_changes_nothing(connected: Person) -> None:
    output = connected.types("New-DkvStore OrdersStore orders -InstanceCount 2 -WhatIf")
    assert [line.split() for line in output.out.splitlines()] == [
        ["orders-1", "127.0.0.11:7811", "client:7861", "group:g1"],
        ["orders-2", "127.0.0.11:7812", "client:7862", "group:g2"],
        ["orders-3", "127.0.0.12:7811", "client:7861", "group:g1"],
        ["orders-4", "127.0.0.12:7812", "client:7862", "group:g2"],
        ["g1", "slots", "0-8191"],
        ["g2", "slots", "8192-16383"],
    ]
    assert output.code == 0
    assert not changes(connected.domain)


def test_add_puts_a_node_on_the_emptiest_server_or_where_it_is_told(with_store: Person) -> None:
    add = "Add-DkvInstance -StoreName OrdersStore -ClustronPort {0} -ClientPort 1{0} -InstanceName {1}"
    output = with_store.types(add.format(7813, "orders-3"))
    assert output.rows() == [[m, "AddInstance", "SUCCESS", "Instance", "added"] for m in (ONE, TWO)]
    assert [i["server"] for i in with_store.domain.bodies[-1]["instances"]] == ["s1"]
    with_store.types(add.format(7814, "orders-4"))
    assert [i["server"] for i in with_store.domain.bodies[-1]["instances"]] == ["s2"]
    with_store.types(add.format(7815, "orders-5 -Server s2"))
    assert [i["server"] for i in with_store.domain.bodies[-1]["instances"]] == ["s2"]
    assert "Did you mean s2?" in with_store.types(add.format(7816, "orders-6 -Server s2x")).err


def test_copies_go_to_zones_that_have_none_and_the_view_shows_the_zones(person_with: Maker) -> None:
    person = person_with(4)
    person.domain.zones = {"s1": "a", "s2": "a", "s3": "b", "s4": "b"}
    assert person.types("Connect-DkvManager " + ",".join(person.domain.servers)).code == 0
    assert person.types("New-DkvStore OrdersStore orders -ReplicationFactor 2").code == 0
    made = person.domain.bodies[-1]["instances"]
    assert [(i["server"], i["group"]) for i in made] == [("s1", "g1"), ("s2", "g2"), ("s3", "g1"), ("s4", "g2")]
    person.types("Add-DkvInstance -StoreName OrdersStore -ClustronPort 7812 -ClientPort 7862 -InstanceName orders-5")
    assert [(i["server"], i["group"]) for i in person.domain.bodies[-1]["instances"]] == [("s2", "g1")]
    shown = person.types("Get-DkvStore -Name OrdersStore").out
    assert "Zone" in shown and ["orders-3", "127.0.0.13:7801", "b"] in [line.split()[:3] for line in shown.splitlines()]


def test_add_takes_several_instance_definitions(with_store: Person) -> None:
    output = with_store.types("""
        $nodes = @(
          [InstanceDefinition]@{ InstanceName='orders-3'; ClustronPort=7813; ClientPort=7863 },
          [InstanceDefinition]@{ InstanceName='orders-4'; ClustronPort=7814; ClientPort=7864 }
        )
        Add-DkvInstance -StoreName OrdersStore -Nodes $nodes
    """)
    assert output.code == 0
    assert [(i["instanceName"], i["server"]) for i in with_store.domain.bodies[-1]["instances"]] == [
        ("orders-3", "s1"),
        ("orders-4", "s2"),
    ]
    one_shot = with_store.runs(
        "Add-DkvInstance",
        "OrdersStore",
        "-Nodes",
        "@{InstanceName='orders-5'; ClustronPort=7815; ClientPort=7865}",
        "-Managers",
        "127.0.0.11",
    )
    assert one_shot.code == 0


def test_remove_deletes_a_stopped_store_and_refuses_a_running_one(with_store: Person) -> None:
    with_store.types("Start-DkvStore OrdersStore")
    output = with_store.types("Remove-DkvStore OrdersStore")
    assert output.code == 1
    assert "is running" in output.out
    with_store.types("Stop-DkvStore OrdersStore")
    assert with_store.types("Remove-DkvInstance OrdersStore orders2").rows()[0][1] == "RemoveInstance:orders-2"
    output = with_store.types("Remove-DkvStore OrdersStore")
    assert output.rows() == [[m, "RemoveStore", "SUCCESS", "Removed"] for m in (ONE, TWO)]
    assert with_store.types("Remove-DkvStore OrdersStore").code == 1


# -- starting and stopping ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", ["", "-Parallel"])
def test_start_prints_a_row_a_node_on_its_owner_and_posts_all_before_it_waits(with_store: Person, parallel: str) -> None:
    output = with_store.types(f"Start-DkvStore -Name OrdersStore {parallel}")
    assert output.rows() == [
        [ONE, "StartInstance:orders-1", "SUCCESS", "Started"],
        [TWO, "StartInstance:orders-2", "SUCCESS", "Started"],
    ]
    base = "/admin/v1/stores/OrdersStore"
    posts = {(ONE, "POST", f"{base}/instances/orders-1/start"), (TWO, "POST", f"{base}/instances/orders-2/start")}
    assert with_store.domain.log[0] == (ONE, "GET", base)
    assert set(with_store.domain.log[1:3]) == posts
    assert all(entry == (ONE, "GET", base) for entry in with_store.domain.log[3:])


def test_start_of_a_running_and_stop_of_a_stopped_node_are_success(with_store: Person) -> None:
    output = with_store.types("Stop-DkvStore OrdersStore")
    assert [row[2:] for row in output.rows()] == [["SUCCESS", "Already", "stopped"]] * 2
    with_store.types("Start-DkvStore OrdersStore")
    output = with_store.types("Start-DkvStore OrdersStore orders-1")
    assert output.rows() == [[ONE, "StartInstance:orders-1", "SUCCESS", "Already", "running"]]
    assert output.code == 0


def test_a_node_that_somebody_else_is_starting_is_waited_for(with_store: Person) -> None:
    with_store.domain.outcomes["orders-2"] = "hangs"
    assert with_store.types("Start-DkvStore OrdersStore -TimeoutSec 1").code == 1
    output = with_store.types("Start-DkvStore OrdersStore -TimeoutSec 1")
    assert output.rows()[0][2:] == ["SUCCESS", "Already", "running"]
    assert output.rows()[1][2] == "FAILED"


def test_a_whole_stop_announces_itself_first_and_one_node_does_not(with_store: Person) -> None:
    with_store.types("Start-DkvStore OrdersStore")
    with_store.domain.log.clear()
    output = with_store.types("Stop-DkvStore OrdersStore -Force")
    assert output.rows()[0] == [ONE, "StopInstance:orders-1", "SUCCESS", "Stopped"]
    base = "/admin/v1/stores/OrdersStore"
    assert changes(with_store.domain) == [
        (ONE, f"{base}/stop?force=true"),
        (ONE, f"{base}/instances/orders-1/stop?force=true"),
        (TWO, f"{base}/instances/orders-2/stop?force=true"),
    ]
    with_store.types("Start-DkvStore OrdersStore")
    with_store.domain.log.clear()
    with_store.types("Stop-DkvStore OrdersStore -InstanceName orders-2")
    assert changes(with_store.domain) == [(TWO, f"{base}/instances/orders-2/stop")]


def test_a_node_that_still_waits_at_the_end_names_the_archive(with_store: Person) -> None:
    with_store.domain.outcomes["orders-1"] = "waits for orders-2"
    output = with_store.types("Start-DkvStore OrdersStore orders-1 -TimeoutSec 5")
    assert output.rows()[0][:3] == [ONE, "StartInstance:orders-1", "FAILED"]
    assert "Not running after 5 s: Starting, it waits for orders-2: it was in sync last. Start it." in output.out
    assert output.code == 1
    assert 5 <= with_store.domain.clock.now < 6


def test_a_node_that_fails_says_why_and_the_other_one_goes_on(with_store: Person) -> None:
    with_store.domain.outcomes["orders-1"] = "fails: the append-only file is corrupt"
    output = with_store.types("Start-DkvStore OrdersStore")
    assert output.rows()[0][2:] == ["FAILED", "the", "append-only", "file", "is", "corrupt"]
    assert output.rows()[1][2:] == ["SUCCESS", "Started"]
    assert with_store.domain.clock.now < 3


def test_a_dead_owner_fails_its_own_rows_only(with_store: Person) -> None:
    with_store.domain.down.add(ONE)
    output = with_store.types("Start-DkvStore OrdersStore")
    assert [row[:3] for row in output.rows()] == [
        [ONE, "StartInstance:orders-1", "FAILED"],
        [TWO, "StartInstance:orders-2", "SUCCESS"],
    ]
    assert "connection refused" in output.out
    assert with_store.types("Start-DkvStore OrdersStore -FailFast").rows()[1][2] == "SKIPPED"


def test_a_late_node_says_its_state(with_store: Person) -> None:
    with_store.domain.outcomes["orders-2"] = "hangs"
    output = with_store.types("Start-DkvStore OrdersStore -TimeoutSec 2")
    assert "Not running after 2 s: Starting" in output.out


def test_only_nodes_of_the_targeted_managers_are_touched(with_store: Person) -> None:
    output = with_store.types("Start-DkvStore OrdersStore -Managers 127.0.0.12")
    assert output.rows() == [[TWO, "StartInstance:orders-2", "SUCCESS", "Started"]]
    assert f"left out orders-1: not on the targeted managers but on {ONE}" in output.err
    stopped = with_store.types("Stop-DkvStore OrdersStore -Managers 127.0.0.12")
    assert "/admin/v1/stores/OrdersStore/stop" not in {target for _, target in changes(with_store.domain)}
    assert stopped.code == 0
    only = with_store.types("Start-DkvStore OrdersStore orders-1 -Managers 127.0.0.12")
    assert (only.code, only.rows()) == (1, [])
    assert f"Use -Managers {ONE}." in only.err


def test_a_manager_written_by_another_name_still_owns_its_nodes(with_store: Person) -> None:
    output = with_store.types("Start-DkvStore OrdersStore -Managers localhost")
    assert output.rows() == [["localhost:7801", "StartInstance:orders-1", "SUCCESS", "Started"]]


def test_discovery_tries_the_managers_in_order(with_store: Person) -> None:
    with_store.domain.down.add(ONE)
    assert with_store.types("Start-DkvStore OrdersStore orders-2").code == 0
    with_store.domain.down.add(TWO)
    output = with_store.types("Start-DkvStore OrdersStore orders-2")
    assert output.err.startswith("No manager answered.")


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_ctrl_c_says_what_was_sent(with_store: Person, method: str) -> None:
    def strike(manager: str, verb: str, path: str) -> None:
        if verb == method and (manager == TWO or method == "GET"):
            raise KeyboardInterrupt

    with_store.domain.on_request = strike
    output = with_store.types("Start-DkvStore OrdersStore\nGet-DkvStore")
    assert output.code == 130
    if method == "GET":
        assert output.err == "Interrupted; nothing had been sent.\n"
    else:
        assert f"already sent and not taken back: StartInstance:orders-1 to {ONE}, StartInstance:orders-2 to {TWO}." in output.err


# -- looking --------------------------------------------------------------------------------------------------------


def test_get_prints_one_row_a_manager_and_store(with_store: Person) -> None:
    with_store.types("Start-DkvStore OrdersStore orders-1")
    output = with_store.types("Get-DkvStore")
    tail = ["OrdersStore", "OK", "Partial", "|", "Instances:2", "Running:1", "Stopped:1"]
    assert output.rows() == [[ONE, *tail], [TWO, *tail]]
    assert output.out.split()[:4] == ["Manager", "Store", "Result", "Message"]


def test_get_with_a_name_shows_groups_instances_and_endpoints(with_store: Person) -> None:
    with_store.domain.outcomes["orders-1"] = "waits for orders-2"
    with_store.types("Start-DkvStore OrdersStore orders-1 -TimeoutSec 1")
    output = with_store.types("Get-DkvStore OrdersStore")
    assert "UNPARTITIONED: waits for orders-2 since 2026-01-01 00:00:00Z: it was in sync last (Start it.)" in output.out
    assert "Endpoints: 127.0.0.11:7861, 127.0.0.12:7861" in output.out
    line = next(line for line in output.out.splitlines() if line.startswith("orders-2"))
    assert line.split() == ["orders-2", TWO, "7811", "7861", "UNPARTITIONED", "Created", "-", "-"]


def test_get_shows_a_manager_that_is_away_and_fails(with_store: Person) -> None:
    with_store.domain.down.add(TWO)
    output = with_store.types("Get-DkvStore")
    assert [row[2] for row in output.rows()] == ["OK", "FAILED"]
    assert output.code == 1


@pytest.mark.parametrize(
    ("command", "action", "message"),
    [
        ("Add-DkvInstance OrdersStore orders-3 -ClustronPort 7813 -ClientPort 7863", "AddInstance", "Instance added"),
        ("Remove-DkvInstance OrdersStore orders-1", "RemoveInstance:orders-1", "Removed"),
        ("Remove-DkvStore OrdersStore", "RemoveStore", "Removed"),
    ],
)
def test_a_change_is_made_where_a_manager_is_down_and_that_one_is_named(
    with_store: Person, command: str, action: str, message: str
) -> None:
    with_store.domain.down.add(TWO)
    with_store.domain.log.clear()
    stopped = with_store.types(f"{command} -FailFast")
    assert stopped.code == 1 and changes(with_store.domain) == [], "-FailFast: nothing is written"
    output = with_store.types(command)
    assert output.code == 1, "a script sees that one manager did not answer"
    assert [row[:3] for row in output.rows()] == [[ONE, action, "SUCCESS"], [TWO, action, "FAILED"]]
    assert message in output.out and f"The manager at {TWO} is not reachable" in output.out
    assert "reads the change in the domain once it is back" in output.err
    assert {manager for manager, _ in changes(with_store.domain)} == {ONE}
    with_store.domain.down.add(ONE)
    nobody = with_store.types("Add-DkvInstance OrdersStore orders-9 -ClustronPort 7819 -ClientPort 7869")
    assert [row[2] for row in nobody.rows()] == ["FAILED", "FAILED"]


def test_json_has_the_same_facts(with_store: Person) -> None:
    (first, _) = json.loads(with_store.types("Get-DkvStore -o json").out)
    assert first == {
        "manager": f"http://{ONE}",
        "storeName": "OrdersStore",
        "storeStatus": "Stopped",
        "instanceCount": 2,
        "runningInstances": 0,
        "stoppedInstances": 2,
        "participatingNodes": 2,
    }
    rows = json.loads(with_store.types("Start-DkvStore OrdersStore -o json").out)
    assert rows[1] == {"manager": TWO, "action": "StartInstance:orders-2", "result": "SUCCESS", "message": "Started"}
    named = json.loads(with_store.types("Get-DkvStore OrdersStore -o json").out)
    assert named[0]["store"]["instances"][0]["clientPort"] == 7861


def test_no_stores_is_said_and_is_no_failure(connected: Person) -> None:
    output = connected.types("Get-DkvStore")
    assert (output.code, output.rows()) == (0, [])
    assert "no stores yet" in output.err


def test_watch_draws_a_table_a_refresh(with_store: Person) -> None:
    row = {"store": "OrdersStore", "instanceName": "orders-1", "node": "127.0.0.11/5f7c1a92", "category": "DKV"}
    with_store.domain.metric_rows = [
        row | {"metric": "Get", "rate": 2341.2, "total": 134223},
        row | {"metric": "Count", "rate": None, "total": 1234},
        row | {"metric": "Get", "rate": 1.0, "total": 2, "store": "Other"},
    ]
    output = with_store.types("Watch-DkvStoreMetrics OrdersStore -Count 2 -RefreshSec 5")
    assert output.code == 0
    assert output.out.count("Store: OrdersStore    Updated: ") == 2
    assert ["DKV", "Get", "2,341/s", "(134,223)"] in [line.split() for line in output.out.splitlines()]
    assert ["DKV", "Count", "-", "(1,234)"] in [line.split() for line in output.out.splitlines()]
    assert "127.0.0.11/5f7c1a92" in output.out
    assert with_store.domain.clock.now == 5.0


def test_colours_only_where_wanted(with_store: Person, capsys: pytest.CaptureFixture[str]) -> None:
    with_store.shell.screen = Screen(colour=True)
    screen = with_store.shell.screen
    from dkv.cli.output import Row

    screen.rows([Row(ONE, "A", "FAILED", "why")])
    screen.progress("not a terminal")
    assert "\x1b[31mFAILED\x1b[0m" in capsys.readouterr().out


# -- the documented script ----------------------------------------------------------------------------------------------------


def test_every_example_line_of_the_seeds_runs(person_with: Maker) -> None:
    output = person_with(3).types(Path(__file__).with_name("documented.ps1").read_text())
    assert "FAILED" not in output.out
    assert (output.code, output.err) == (0, "")
    assert output.out.count("SUCCESS") > 40


# What is waited for ----------------------------------------------------------------------------------------------------


def node(name: str, state: str, loading: int | None) -> Node:
    process = None if loading is None else {"loadingPercent": loading}
    return Node({"instanceName": name, "state": state, "process": process}, "m")


def test_progress_says_the_deadline_as_one_and_how_far_it_is_only_of_what_loads() -> None:
    states = (("Starting", 40), ("Starting", 100), ("Stopping", 100), ("Starting", None))
    nodes = [node(f"a-{n}", *state) for n, state in enumerate(states, 1)]
    output = waiting_text(nodes, 29.7)
    assert output == "Waiting, at most 30 s more: a-1 Starting (40 % loaded), a-2 Starting, a-3 Stopping, a-4 Starting"
    assert waiting_text(nodes[2:3], -0.4) == "Waiting, at most 0 s more: a-3 Stopping"
