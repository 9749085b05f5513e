"""Maintenance of a store that serves: leadership is handed over and every process replaced, and no client notices."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.local_domain import LocalDomain, local_domain, refused, wait_for
from tests.e2e.test_memory_only import running
from tests.e2e.traffic import Traffic, traffic_to

STORE = "MaintStore"


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("maintenance"), servers=2) as running_domain:
        running_domain.create(STORE, "-InstanceCount", "2", "-ReplicationFactor", "2")
        running(running_domain, STORE, "s2")  # a TE
        yield running_domain


def traffic(domain: LocalDomain) -> Traffic:
    return traffic_to(domain, STORE)


def leaders(domain: LocalDomain) -> dict[str, str]:
    return {g["name"]: g["leader"] for g in domain.client.store(STORE)["groups"]}


def start_ids(domain: LocalDomain) -> set[int]:
    return {int(p["startId"]) for p in domain.client.processes()}


def leads(domain: LocalDomain) -> dict[str, int]:
    """How many groups each server leads."""
    return Counter(i["server"] for i in domain.client.store(STORE)["instances"] if i["role"] == "leader")


def test_the_leaders_of_a_new_store_are_spread_over_its_servers(domain: LocalDomain) -> None:
    assert leads(domain) == {"s1": 1, "s2": 1}


def test_a_switchover_right_after_a_store_was_started_waits_for_its_copy(domain: LocalDomain) -> None:
    ports = ("-ClustronPort", "7841", "-ClientPort", "7891")
    domain.do("New-DkvStore", "Fresh", "fresh", "-ReplicationFactor", "2", *ports)
    domain.do("Start-DkvStore", "Fresh")
    output = domain.do("switchover", "database", "--db-name", "Fresh")
    assert "fresh-1" in output.out and "fresh-2" in output.out
    domain.do("Stop-DkvStore", "Fresh")
    domain.do("Remove-DkvStore", "Fresh")


def test_every_group_is_handed_over_while_it_is_written_to(domain: LocalDomain) -> None:
    """Again and again: where all groups were handed over at the same moment, one time in eight failed."""
    with traffic(domain) as seen:
        for _ in range(5):
            before = leaders(domain)
            output = domain.do("switchover", "database", "--db-name", STORE)
            after = leaders(domain)
            assert all(after[group] != before[group] for group in before), (before, after)
            for group, leader in before.items():
                assert f"{group}: {leader} -> {after[group]} in " in output.out
            wait_for("both groups in sync", lambda: all(len(g["inSync"]) == 2 for g in domain.client.store(STORE)["groups"]))
    assert seen.errors == []
    seen.all_there()


def test_one_group_is_handed_over_to_the_process_that_was_named(domain: LocalDomain) -> None:
    store = domain.client.store(STORE)
    group = store["groups"][0]
    target = next(i for i in store["instances"] if i["group"] == group["name"] and i["instanceName"] != group["leader"])
    start_id = str(target["process"]["startId"])
    domain.do("switchover", "database", "--db-name", STORE, "--to", start_id)
    assert leaders(domain)[group["name"]] == target["instanceName"]
    again = domain.dkv("switchover", "database", "--db-name", STORE, "--to", start_id)
    assert (again.code, "leads group" in again.err) == (1, True)


def whole(domain: LocalDomain) -> None:
    """Everything that was stopped runs again, and every copy is in sync."""
    domain.do("Start-DkvStore", STORE)
    if all(p["type"] != "TE" for p in domain.client.processes()):
        running(domain, STORE, "s2")
    wait_for(
        "both groups whole", lambda: all(len(g["inSync"]) == 2 and g["serving"] for g in domain.client.store(STORE)["groups"])
    )


def test_a_leader_that_is_stopped_hands_over_first(domain: LocalDomain) -> None:
    group = domain.client.store(STORE)["groups"][0]
    with traffic(domain) as seen:
        domain.do("shutdown", "process", "--start-id", str(group["leaderStartId"]))
    after = next(g for g in domain.client.store(STORE)["groups"] if g["name"] == group["name"])
    assert (after["leader"] != group["leader"], after["serving"]) == (True, True)
    assert seen.errors == []
    whole(domain)  # first: the node it is given may be one that was stopped
    seen.all_there()


def test_a_server_is_drained_under_load_and_no_client_sees_an_error(domain: LocalDomain) -> None:
    busiest = max(
        ("s1", "s2"),
        key=lambda server: sum(i["server"] == server and i["role"] == "leader" for i in domain.client.store(STORE)["instances"]),
    )
    with traffic(domain) as seen:
        domain.do("shutdown", "server-processes", "--server-id", busiest)
    left = domain.client.processes()
    assert left
    assert all(p["server"] != busiest for p in left)
    assert all(g["serving"] and len(g["inSync"]) == 1 for g in domain.client.store(STORE)["groups"])
    assert seen.errors == []
    ends = [t for t in domain.client.tombstones(STORE) if t["server"] == busiest]
    assert {t["cause"] for t in ends} == {"graceful stop"}
    whole(domain)
    seen.all_there()


def test_leaders_are_spread_again_after_a_drain(domain: LocalDomain) -> None:
    assert sorted(leads(domain).values()) == [2]
    with traffic(domain) as seen:
        output = domain.do("rebalance", "leaders", "--db-name", STORE)
    assert len(output.out.splitlines()) == 1 and " in " in output.out, output
    assert leads(domain) == {"s1": 1, "s2": 1}
    assert seen.errors == []
    seen.all_there()
    again = domain.do("rebalance", "leaders", "--db-name", STORE)
    assert again.out == f"The leaders of {STORE} are spread already: s1 leads 1, s2 leads 1.\n"


def test_a_handover_whose_target_is_killed_ends_once_that_is_known(domain: LocalDomain) -> None:
    instances = {i["instanceName"]: i for i in domain.client.store(STORE)["instances"]}
    group = next(g for g in domain.client.store(STORE)["groups"] if instances[g["leader"]]["server"] == "s1")
    target = next(name for name in group["inSync"] if name != group["leader"])
    pid, manager = domain.pid(STORE, target), domain.managers[1].process
    assert manager is not None and instances[target]["server"] == "s2"

    def handover() -> bool:
        return bool(next(g for g in domain.client.store(STORE)["groups"] if g["name"] == group["name"])["handover"])

    words = ("switchover", "database", "--db-name", STORE, "--group", group["name"])
    asked = threading.Thread(target=domain.dkv, args=words)
    manager.send_signal(signal.SIGSTOP)  # so that its engine is not told to take over
    try:
        asked.start()
        wait_for("the handover began", handover)
        os.kill(pid, signal.SIGKILL)
    finally:
        manager.send_signal(signal.SIGCONT)
    wait_for("its end is known", lambda: (domain.instance(STORE, target)["process"] or {}).get("pid") != pid)
    known = time.monotonic()
    wait_for("the handover ended", lambda: not handover())
    assert time.monotonic() - known < 6, "not after the twelve seconds that a handover may last"
    asked.join()
    failed = [e for e in domain.client.events(0, STORE) if e["kind"] == "group.handover_failed"]
    assert "which was to lead, ended" in failed[-1]["because"]
    whole(domain)


def test_every_process_is_replaced_one_after_the_other_and_no_client_sees_an_error(domain: LocalDomain) -> None:
    old = start_ids(domain)
    with traffic(domain) as seen:
        output = domain.do("restart", "database", "--db-name", STORE, "--rolling")
    assert "5 processes were replaced one after the other" in output.out
    assert not start_ids(domain) & old
    assert len(start_ids(domain)) == 5
    assert seen.errors == []
    seen.all_there()
    ends = [t for t in domain.client.tombstones(STORE) if t["startId"] in old]
    assert {t["cause"] for t in ends} == {"graceful stop"}
    assert in_sync_when_they_ended(domain, old) == [], "S was without each copy before it ended"


def in_sync_when_they_ended(domain: LocalDomain, start_ids: set[int]) -> list[int]:
    """Which of these processes ended while the last word about their archive was that it is in sync."""
    words: dict[int, str] = {}
    members = []
    for event in domain.client.events(0, STORE):
        if event["kind"].startswith("in_sync.") and event["archiveId"] is not None:
            words[event["archiveId"]] = event["kind"]
        elif event["kind"] == "process.exited" and event["startId"] in start_ids and event["archiveId"] is not None:
            members += [event["startId"]] if words.get(event["archiveId"]) != "in_sync.shrunk" else []
    return members


def test_without_rolling_all_of_it_stops_and_starts_again(domain: LocalDomain) -> None:
    old = start_ids(domain)
    output = domain.do("restart", "database", "--db-name", STORE)
    assert "5 were requested again" in output.out
    assert not start_ids(domain) & old
    assert all(g["serving"] for g in domain.client.store(STORE)["groups"])
    assert domain.client.store(STORE)["incarnation"]["major"] == 2


def test_a_leader_is_stopped_at_once_while_too_few_leaders_could_vote_for_another(domain: LocalDomain) -> None:
    """Of two groups one has no leader. A handover would let writes wait in vain for five seconds."""
    whole(domain)
    seen = domain.client.events(0)[-1]["sequence"]
    stopped, other = domain.client.store(STORE)["groups"]
    for instance in domain.client.store(STORE)["instances"]:
        if instance["group"] == stopped["name"]:
            domain.do("shutdown", "process", "--start-id", str(instance["process"]["startId"]))
    request = domain.dkv("switchover", "database", "--db-name", STORE, "--group", other["name"])
    refused(request, "more than half of the leaders of the 2 groups", "and 1 can")
    domain.do("shutdown", "process", "--start-id", str(other["leaderStartId"]))
    assert not [e for e in domain.client.events(seen, STORE) if e["kind"] == "group.handover_failed"]
    wait_for("another leader", lambda: domain.client.store(STORE)["groups"][1]["serving"])
    assert domain.client.store(STORE)["groups"][1]["leader"] != other["leader"]
    whole(domain)
