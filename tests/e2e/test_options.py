"""Options of a store that serves: set on its running engines, on those that come later, and what lacks one is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import valkey

from dkv.engine.config import MANAGER
from tests.e2e.local_domain import LocalDomain, local_domain, wait_for
from tests.e2e.test_memory_only import running

STORE = "Tuned"
MB = 1 << 20
FAR_TOO_MUCH = 1 << 50


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("options"), servers=2) as running_domain:
        running_domain.create(STORE, "-InstanceCount", "1", "-ReplicationFactor", "2")
        running(running_domain, STORE, "s2")
        yield running_domain


PASSED_ON = {"maxmemory-policy": "volatile-lru", "notify-keyspace-events": "AKE", "maxclients": "500"}


def places(domain: LocalDomain) -> Iterator[tuple[int, str, str, bool]]:
    """Each engine of each living process: start id, directory, the manager's password, whether it is memory only."""
    for process in domain.client.processes():
        data = next(m.data_dir for m in domain.managers if m.server_id == process["server"])
        record = json.loads((data / "run" / str(process["startId"]) / "record.json").read_text())
        for place in [part["directory"] for part in record["parts"]] or [record["directory"]]:
            yield process["startId"], place, record["secret"], bool(record["parts"])


def administrated(directory: str, secret: str) -> valkey.Valkey:
    """An engine as its manager has it."""
    return valkey.Valkey(unix_socket_path=f"{directory}/admin.sock", username=MANAGER, password=secret, decode_responses=True)


def runs_with(domain: LocalDomain) -> dict[int, set[tuple[str, str]]]:
    """CONFIG GET of each engine of each living process: maxmemory and appendfsync ("-" for a TE, which has no file)."""
    options: dict[int, set[tuple[str, str]]] = {}
    for start_id, directory, secret, memory_only in places(domain):
        with administrated(directory, secret) as engine:
            config = engine.config_get("maxmemory", "appendfsync")
        options.setdefault(start_id, set()).add((config["maxmemory"], "-" if memory_only else config["appendfsync"]))
    return options


def configured(domain: LocalDomain, *names: str) -> list[dict[str, str]]:
    """CONFIG GET of these on each engine of each living process."""
    configurations = []
    for _, directory, secret, _ in places(domain):
        with administrated(directory, secret) as engine:
            configurations.append(engine.config_get(*names))
    return configurations


def all_run_with(domain: LocalDomain, memory: int, fsync: str) -> bool:
    processes = {p["startId"]: p["type"] for p in domain.client.processes()}
    wanted = {start_id: {(str(memory), "-" if kind == "TE" else fsync)} for start_id, kind in processes.items()}
    return len(processes) == 3 and runs_with(domain) == wanted


def lacking(domain: LocalDomain) -> list[int]:
    return [engine["startId"] for engine in domain.client.store(STORE)["options"]["lacking"]]


def test_an_option_reaches_every_running_engine_and_one_that_is_killed_afterwards(domain: LocalDomain) -> None:
    output = domain.do(
        "update",
        "database-options",
        "--db-name",
        STORE,
        "--default-options",
        "max-memory",
        "256MB",
        "append-fsync",
        "everysec",
        "mem",
        "1g",
        "maxmemory-policy",
        "volatile-lru",
        "notify-keyspace-events",
        "KEA",
        "max-clients",
        "500",
    )
    assert "max-memory: set on every running engine at once" in output.out
    assert "mem: an option of NuoDB, kept as it was written and ignored: max-memory sets the memory of engines" in output.out
    wait_for("all engines have it", lambda: all_run_with(domain, 256 * MB, "everysec"))
    wait_for("the domain knows", lambda: not lacking(domain))
    name = domain.group(STORE)["leader"]
    old = domain.instance(STORE, name)["process"]["startId"]
    domain.dkv("shutdown", "process", "--start-id", str(old), "--kill")
    domain.dkv("Start-DkvStore", STORE, name)
    domain.wait_state(STORE, name, "Running")
    domain.wait_in_sync(STORE, *(i["instanceName"] for i in domain.client.store(STORE)["instances"]))
    assert all_run_with(domain, 256 * MB, "everysec")
    config = Path(domain.archive(STORE, name), "valkey.conf").read_text()
    assert "maxmemory 268435456\n" in config
    assert "appendfsync everysec\n" in config
    assert "maxmemory-policy volatile-lru\n" in config
    wait_for("all engines have the others", lambda: configured(domain, *PASSED_ON) == 3 * [PASSED_ON])


def test_what_somebody_changed_on_engines_is_set_again(domain: LocalDomain) -> None:
    for _, directory, secret, _ in places(domain):
        with administrated(directory, secret) as engine:
            engine.config_set("maxmemory-policy", "allkeys-random")
    wait_for("it is set again", lambda: configured(domain, *PASSED_ON) == 3 * [PASSED_ON])


def test_who_was_out_of_reach_gets_it_later_and_is_named_until_then(domain: LocalDomain) -> None:
    second = domain.managers[1]
    far = {p["startId"] for p in domain.client.processes() if p["server"] == "s2"}
    second.kill()
    output = domain.do(
        "Set-DkvStore", STORE, "-MaxMemory", "300MB", "-AppendFsync", "always", "-Managers", f"{domain.managers[0].host}:7801"
    )
    assert "append-fsync: set on every running engine at once" in output.out
    wait_for("only the far ones lack it", lambda: set(lacking(domain)) == far)
    assert domain.client.store(STORE)["appendFsync"] == "everysec", "not more is promised than every copy keeps"
    waiting = domain.do("show", "waiting", "--db-name", STORE).out
    assert all(f"process {start_id}" in waiting for start_id in far)
    assert "still runs with max-memory 268435456 instead of 314572800" in waiting
    assert "still runs with" in domain.dkv("show", "database", "--db-name", STORE).err
    second.restart()
    wait_for("the far ones have it too", lambda: all_run_with(domain, 300 * MB, "always") and not lacking(domain))
    assert domain.client.store(STORE)["appendFsync"] == "always"


def test_what_only_a_restart_takes_away_is_named_with_the_command_that_does_it(domain: LocalDomain) -> None:
    domain.do("update", "database-options", "--db-name", STORE, "--default-options", "max-memory", str(FAR_TOO_MUCH))
    wait_for("all engines have it", lambda: all_run_with(domain, FAR_TOO_MUCH, "always") and not lacking(domain))
    command = f"dkv restart database --db-name {STORE} --rolling"
    output = domain.do("update", "database-options", "--db-name", STORE, "--replace-all")
    assert f"keeps it until it is restarted; hint: Restart them: {command}." in output.out
    assert len(set(lacking(domain))) == 3
    assert f"hint: {command}" in domain.dkv("show", "database", "--db-name", STORE).err
    domain.do(*command.split()[1:])
    assert not lacking(domain)
    assert not any(str(FAR_TOO_MUCH) in memory for run in runs_with(domain).values() for memory, _ in run)


def test_a_wrong_option_changes_nothing(domain: LocalDomain) -> None:
    with domain.unchanged():
        for words in (
            ("max-memory", "1000"),
            ("max-memory", "much"),
            ("append-fsync", "often"),
            ("min-in-sync", "9"),
            ("maxmemory-policy", "lru"),
            ("max-clients", "9"),
        ):
            output = domain.dkv("update", "database-options", "--db-name", STORE, "--default-options", *words)
            assert output.code == 2, output
            assert "hint: " in output.err
        assert domain.dkv("Set-DkvStore", STORE).code == 2
        assert "There is no store" in domain.dkv("Set-DkvStore", "Nobody", "-MinInSync", "1").err
