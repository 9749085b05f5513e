"""Whenever clients' writes are refused or wait for seconds, every view says so, with cause and cure: never "all is well" wrongly.

One store of two copies; what each test breaks it puts right again.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator

import pytest
import valkey

from dkv.client import Json
from tests.e2e.house import Manager, wait_for
from tests.e2e.test_busy import as_manager
from tests.e2e.watched import Watched, watched

STORE = "Seen"
SCRIPT = "redis.call('set', KEYS[1], 'half') while true do end"
SOON = 15.0   # s until all views say so; 4 where nobody else works


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("view"), STORE, 2, {"DKV_RESTART_BUDGET": "1000"}) as found:
        yield found


def fetched(manager: Manager, path: str) -> Json:
    """What a manager answers there, whether it says yes or no."""
    return dict(json.loads(manager.client.fetch("GET", path).body))


def every_view(home: Watched, manager: Manager, *words: str) -> Json:
    """What the four views of one manager have to say while writes are not taken; the entry itself."""
    only = f"{manager.host}:{manager.port}"

    def said() -> Json | None:
        found = fetched(manager, "/admin/v1/waiting")["waiting"]
        return next((one for one in found if one["blocksWrites"] and all(w in one["reason"] + one["fix"] for w in words)), None)

    one = wait_for(f"{words} waits", said, SOON)
    assert one is not None
    shown = home.dkv("show", "waiting", managers=only)
    assert all(word in shown.out for word in words), shown
    checked = home.dkv("check", "database", "--db-name", STORE, "--check-running", managers=only)
    assert checked.code == 1, checked
    rows = home.dkv("Get-DkvStore", managers=only)
    assert "Partial |" in rows.out, rows
    assert all(word in rows.out for word in words), rows
    whole = home.dkv("Get-DkvStore", "-Name", STORE, managers=only)
    assert all(word in whole.out for word in words), whole
    assert "without losing confirmed data, 0 without losing the ability to write" in whole.out, whole
    return one


def all_is_well(home: Watched) -> None:
    """And when it is over no view says anything any more."""
    home.wait_whole()
    only = f"{home.managers[0].host}:{home.managers[0].port}"
    wait_for("nothing waits", lambda: "Nothing waits" in home.dkv("show", "waiting", managers=only).err)
    assert home.dkv("check", "database", "--db-name", STORE, "--check-running", managers=only).code == 0
    assert "Running | Instances:2 Running:2" in home.dkv("Get-DkvStore", managers=only).out
    ready = fetched(home.managers[0], "/readyz")
    assert (ready["status"], ready["waiting"]) == ("ready", [])
    store = home.client.store(STORE)
    assert [group["canLoseForWrites"] for group in store["groups"]] == [1]


def leader(home: Watched) -> str:
    return str(home.led()["leader"])


def endless(home: Watched, name: str, script: str) -> threading.Thread:
    """A client whose script never ends, with an engine that says BUSY early."""
    with as_manager(home, name) as engine:
        engine.config_set("busy-reply-threshold", 200)

    def run() -> None:
        with contextlib.suppress(valkey.exceptions.ValkeyError), home.engine(STORE, name) as client:
            client.connection_pool.connection_kwargs["socket_timeout"] = 60
            client.eval(script, 1, "k")

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_an_endless_script_that_wrote_is_told_and_ended_as_the_view_says(home: Watched) -> None:
    all_is_well(home)
    name = leader(home)
    with home.engine(STORE, name) as client:
        client.set("k", "whole")
    script = endless(home, name, SCRIPT)
    start_id = home.instance(STORE, name)["process"]["startId"]
    one = every_view(home, home.managers[0], "busy with a script", "SCRIPT KILL")
    cure = f"dkv shutdown process --start-id {start_id} --kill"
    assert cure in one["fix"]
    ready = fetched(home.managers[0], "/readyz")
    assert ready["waiting"] == [one]
    with home.engine(STORE, name) as client, pytest.raises(valkey.exceptions.ResponseError, match="UNKILLABLE"):
        client.execute_command("SCRIPT", "KILL")
    home.do(*cure.split()[1:])
    script.join(30)
    home.do("Start-DkvStore", "-Name", STORE, "-InstanceName", name)
    all_is_well(home)
    with home.engine(STORE, leader(home)) as client:
        assert client.get("k") == b"whole", "what the script wrote was acknowledged to nobody"


def test_a_script_that_wrote_nothing_ends_by_script_kill(home: Watched) -> None:
    all_is_well(home)
    name, before = leader(home), home.led()["term"]
    script = endless(home, name, "while true do end")
    every_view(home, home.managers[0], "busy with a script")
    with home.engine(STORE, name) as client:
        assert client.execute_command("SCRIPT", "KILL")
    script.join(30)
    all_is_well(home)
    assert home.led()["term"] == before


@contextlib.contextmanager
def writing(client: valkey.Valkey, value: str) -> Iterator[None]:
    """Somebody writes such values all the time and is refused at last."""
    over = threading.Event()

    def run() -> None:
        number = 0
        while not over.wait(0.05):
            with contextlib.suppress(valkey.exceptions.OutOfMemoryError):
                client.set(f"large-{number}", value)
                number += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_leader_whose_memory_is_full_says_so(home: Watched) -> None:
    all_is_well(home)
    home.do("update", "database-options", "--db-name", STORE, "--default-options", "max-memory", "20MB")
    name = leader(home)
    with as_manager(home, name) as manager:
        wait_for("the limit", lambda: manager.config_get("maxmemory")["maxmemory"] == str(20 << 20))
    with home.engine(STORE, name) as client:
        with writing(client, "x" * 1_000_000):
            every_view(home, home.managers[0], "its memory is full", "max-memory")
        client.flushall()
    home.do("update", "database-options", "--db-name", STORE, "--default-options", "max-memory", "200MB")
    all_is_well(home)


def test_a_leader_that_takes_no_more_clients_says_so_and_a_pause_that_nobody_needs_is_lifted(home: Watched) -> None:
    all_is_well(home)
    name = leader(home)
    with as_manager(home, name) as manager:
        limit = int(manager.config_get("maxclients")["maxclients"])
        manager.config_set("maxclients", len(manager.client_list()) + 8)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(valkey.exceptions.ValkeyError):
                for _ in range(60):
                    stack.enter_context(home.engine(STORE, name)).ping()
            every_view(home, home.managers[0], "maxclients", "CLIENT LIST")
        manager.config_set("maxclients", limit)
        all_is_well(home)
        manager.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
        with home.engine(STORE, name) as client:
            assert client.set("k", "it waited less than ten seconds")
    all_is_well(home)


def test_instances_of_a_manager_that_is_away_are_not_counted_as_running(home: Watched) -> None:
    all_is_well(home)
    away = home.manager_of(home.names(leader(home))[0])
    away.kill()
    try:
        asked = f"{home.managers[-1].host}:{home.managers[-1].port}"
        wait_for("Running:1", lambda: "Partial | Instances:2 Running:1" in home.dkv("Get-DkvStore", managers=asked).out, SOON)
        checked = home.dkv("check", "database", "--db-name", STORE, "--check-running", managers=asked)
        assert checked.code == 1
        assert f"Start the manager of server {away.server_id}" in checked.err, checked
    finally:
        away.restart()
    all_is_well(home)
