"""Whenever clients' writes are refused or wait for seconds, every view says so, with cause and cure: never "all is well" wrongly.

One store of two copies; what each test breaks it puts right again.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import valkey

from dkv.client import Json, ManagerRefused
from tests.disks import fill_up, small_disk
from tests.e2e.local_domain import PATIENCE, Manager, wait_for
from tests.e2e.test_busy import as_manager
from tests.e2e.watched import Watched, watched

STORE = "Seen"
SCRIPT = "redis.call('set', KEYS[1], 'half') while true do end"
SOON = PATIENCE  # s until all views say so; 4 on an idle machine


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("view"), STORE, 2, {"DKV_RESTART_BUDGET": "1000"}) as running_domain:
        yield running_domain


def fetched(manager: Manager, path: str) -> Json:
    """What a manager answers there, whether it says yes or no."""
    return dict(json.loads(manager.client.request("GET", path).body))


def every_view(domain: Watched, manager: Manager, *words: str) -> Json:
    """What the four views of one manager have to say while writes are not taken; the entry itself."""
    only = f"{manager.host}:{manager.port}"

    def line() -> Json | None:
        items = fetched(manager, "/admin/v1/waiting")["waiting"]
        return next(
            (item for item in items if item["blocksWrites"] and all(w in item["reason"] + item["hint"] for w in words)), None
        )

    item = wait_for(f"{words} waits", line, SOON)
    assert item is not None
    shown = domain.dkv("show", "waiting", managers=only)
    assert all(word in shown.out for word in words), shown
    checked = domain.dkv("check", "database", "--db-name", domain.store, "--check-running", managers=only)
    assert checked.code == 1, checked
    rows = domain.dkv("Get-DkvStore", managers=only)
    assert "Partial |" in rows.out, rows
    assert all(word in rows.out for word in words), rows
    whole = domain.dkv("Get-DkvStore", "-Name", domain.store, managers=only)
    assert all(word in whole.out for word in words), whole
    assert "keeps confirmed data through" in whole.out, whole
    assert "keeps taking writes through no further server failure" in whole.out, whole
    return item


def all_is_well(domain: Watched) -> None:
    """And when it is over no view says anything any more."""
    domain.wait_whole()
    only = f"{domain.managers[0].host}:{domain.managers[0].port}"
    check = ("check", "database", "--db-name", domain.store, "--check-running")
    wait_for(
        "nothing waits and the database runs",
        lambda: (
            "Nothing waits" in domain.dkv("show", "waiting", managers=only).err and domain.dkv(*check, managers=only).code == 0
        ),
    )
    assert "Running | Instances:2 Running:2" in domain.dkv("Get-DkvStore", managers=only).out
    ready = fetched(domain.managers[0], "/readyz")
    assert (ready["status"], ready["waiting"]) == ("ready", [])
    store = domain.client.store(domain.store)
    assert [group["canLoseForWrites"] for group in store["groups"]] == [1]


def leader(domain: Watched) -> str:
    return str(domain.led()["leader"])


def endless(domain: Watched, name: str, script: str) -> threading.Thread:
    """A client whose script never ends, with an engine that says BUSY early."""
    with as_manager(domain, name) as engine:
        engine.config_set("busy-reply-threshold", 200)

    def run() -> None:
        with contextlib.suppress(valkey.exceptions.ValkeyError), domain.engine(STORE, name) as client:
            client.connection_pool.connection_kwargs["socket_timeout"] = 60
            client.eval(script, 1, "k")

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_an_endless_script_that_wrote_is_told_and_ended_as_the_view_says(domain: Watched) -> None:
    all_is_well(domain)
    name = leader(domain)
    with domain.engine(STORE, name) as client:
        client.set("k", "whole")
    script = endless(domain, name, SCRIPT)
    start_id = domain.instance(STORE, name)["process"]["startId"]
    item = every_view(domain, domain.managers[0], "busy with a script", "SCRIPT KILL")
    cure = f"dkv shutdown process --start-id {start_id} --kill"
    assert f"kill process {start_id}" in item["hint"]
    assert {"startId": start_id} in [part["arguments"] for part in item["hintParts"] if part["action"] == "killProcess"]
    ready = fetched(domain.managers[0], "/readyz")
    assert ready["waiting"] == [item]
    with domain.engine(STORE, name) as client, pytest.raises(valkey.exceptions.ResponseError, match="UNKILLABLE"):
        client.execute_command("SCRIPT", "KILL")
    domain.do(*cure.split()[1:])
    script.join(30)
    domain.do("Start-DkvStore", "-Name", STORE, "-InstanceName", name)
    all_is_well(domain)
    with domain.engine(STORE, leader(domain)) as client:
        assert client.get("k") == b"whole", "what the script wrote was acknowledged to nobody"


def test_a_script_that_wrote_nothing_ends_by_script_kill(domain: Watched) -> None:
    all_is_well(domain)
    name, before = leader(domain), domain.led()["term"]
    script = endless(domain, name, "while true do end")
    every_view(domain, domain.managers[0], "busy with a script")
    with domain.engine(STORE, name) as client:
        assert client.execute_command("SCRIPT", "KILL")
    script.join(30)
    all_is_well(domain)
    assert domain.led()["term"] == before


def test_script_limit_has_the_manager_end_the_engine_of_a_script_that_wrote(domain: Watched) -> None:
    all_is_well(domain)
    refused = domain.dkv("update", "database-options", "--db-name", STORE, "--default-options", "script-limit", "9999")
    assert refused.code != 0
    assert "from 10000" in refused.err
    domain.do("update", "database-options", "--db-name", STORE, "--default-options", "script-limit", "10000")
    name = leader(domain)
    start_id = domain.instance(STORE, name)["process"]["startId"]
    script = endless(domain, name, SCRIPT)
    end = domain.end_of(STORE, start_id)
    assert (end["cause"], end["exitCode"]) == ("script ran too long", 137)
    script.join(30)
    domain.do("update", "database-options", "--db-name", STORE, "--default-options", "script-limit", "0")
    all_is_well(domain)


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


def test_a_leader_whose_memory_is_full_says_so(domain: Watched) -> None:
    all_is_well(domain)
    domain.do("update", "database-options", "--db-name", STORE, "--default-options", "max-memory", "20MB")
    name = leader(domain)
    with as_manager(domain, name) as manager:
        wait_for("the limit", lambda: manager.config_get("maxmemory")["maxmemory"] == str(20 << 20))
    with domain.engine(STORE, name) as client:
        with writing(client, "x" * 1_000_000):
            every_view(domain, domain.managers[0], "its memory is full", "max-memory")
        client.flushall()
    domain.do("update", "database-options", "--db-name", STORE, "--default-options", "max-memory", "200MB")
    all_is_well(domain)


def test_a_leader_that_takes_no_more_clients_says_so_and_a_pause_that_nobody_needs_is_lifted(domain: Watched) -> None:
    all_is_well(domain)
    name = leader(domain)
    with as_manager(domain, name) as manager:
        limit = int(manager.config_get("maxclients")["maxclients"])
        manager.config_set("maxclients", len(manager.client_list()) + 8)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(valkey.exceptions.ValkeyError):
                for _ in range(60):
                    stack.enter_context(domain.engine(STORE, name)).ping()
            every_view(domain, domain.managers[0], "maxclients", "CLIENT LIST")
        manager.config_set("maxclients", limit)
        all_is_well(domain)
        manager.execute_command("CLIENT", "PAUSE", 60_000, "WRITE")
        with domain.engine(STORE, name) as client:
            assert client.set("k", "it waited less than ten seconds")
    all_is_well(domain)


def test_instances_of_a_manager_that_is_away_are_not_counted_as_running(domain: Watched) -> None:
    all_is_well(domain)
    away = domain.manager_of(domain.names(leader(domain))[0])
    away.kill()
    try:
        manager = f"{domain.managers[-1].host}:{domain.managers[-1].port}"
        wait_for("Running:1", lambda: "Partial | Instances:2 Running:1" in domain.dkv("Get-DkvStore", managers=manager).out, SOON)
        checked = domain.dkv("check", "database", "--db-name", STORE, "--check-running", managers=manager)
        assert checked.code == 1
        assert f"Start the manager of server {away.server_id}" in checked.err, checked
    finally:
        away.restart()
    all_is_well(domain)


# -- the state's file -----------------------------------------------------------------------------------------------------


def stranger(domain: Watched, statement: str) -> sqlite3.Connection:
    """Somebody's sqlite shell on the state's file, inside a transaction."""
    path = domain.managers[0].state.removeprefix("sqlite:")
    shell = sqlite3.connect(path, isolation_level=None)
    shell.execute(statement)
    return shell


@contextlib.contextmanager
def shell_of_another_process(domain: Watched) -> Iterator[subprocess.Popen[bytes]]:
    """The same in a process of its own, which holds the write lock until it is killed."""
    path = domain.managers[0].state.removeprefix("sqlite:")
    code = (
        f"import sqlite3, time; c = sqlite3.connect({path!r}, isolation_level=None); c.execute('BEGIN IMMEDIATE'); "
        "print('held', flush=True); time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=domain.env) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"held\n"
        try:
            yield shell
        finally:
            shell.kill()


def test_whoever_holds_the_states_write_lock_is_named_while_a_leader_is_dead(domain: Watched) -> None:
    all_is_well(domain)
    name = leader(domain)
    pid, own = domain.pid(STORE, name), domain.manager_of(name)
    with shell_of_another_process(domain) as shell:
        held = f"pid {shell.pid} ({sys.executable} -c"
        for manager in domain.managers:  # before anybody has anything to write
            wait_for("it is named", lambda m=manager: held in ready_or_not(m), SOON)  # type: ignore[misc]
        os.kill(pid, signal.SIGKILL)
        item = every_view(domain, own, held, f"kill {shell.pid}")
        assert "s old" in item["reason"]
        assert "back up the domain state" in item["hint"]
        assert "dkv backup state" in domain.dkv("show", "waiting", managers=f"{own.host}:{own.port}").out
        every_view(domain, own, f"{name} led it and ended (killed by signal 9")
        only = f"{own.host}:{own.port}"
        shown = domain.dkv("show", "domain", managers=only)
        assert "EXITED(MONITORED:RUNNING)" not in shown.out
        assert sum("MONITORED:RUNNING" in line for line in shown.out.splitlines()) == 1, shown.out
        assert held in shown.err, shown
        store = next(s for s in own.client.stores() if s["name"] == STORE)
        assert {i["instanceName"]: i["state"] for i in store["instances"]} == {name: "Failed", domain.names(name)[0]: "Running"}
        assert (store["groups"][0]["leader"], store["groups"][0]["inSync"]) == (name, domain.led()["inSync"])
        every_view(domain, domain.managers[-1], held)  # one that saw nothing end cannot vouch for anything either
        assert f"the domain cannot be changed: {held}" in own.log.read_text()
    all_is_well(domain)
    assert "the domain can be changed again" in own.log.read_text()


def ready_or_not(manager: Manager) -> str:
    """What /readyz says when it says no."""
    try:
        return json.dumps(fetched(manager, "/readyz"))
    except ManagerRefused as refused:
        assert refused.status == 503
        return f"{refused.message} {refused.hint}"


def test_a_backup_that_reads_for_long_costs_no_failover(domain: Watched) -> None:
    """A reader's transaction stands, as of `.backup`, VACUUM INTO, cp or dkv backup state, while a leader dies."""
    all_is_well(domain)
    name = leader(domain)
    with contextlib.closing(stranger(domain, "BEGIN")) as shell:
        before = shell.execute("SELECT revision FROM head").fetchone()
        os.kill(domain.pid(STORE, name), signal.SIGKILL)
        wait_for("its end is written", lambda: any(t["instanceName"] == name for t in domain.client.tombstones(STORE)))
        all_is_well(domain)
        assert domain.client.store(STORE)["revision"] > before[0] == shell.execute("SELECT revision FROM head").fetchone()[0]


@pytest.mark.full
def test_a_full_disk_of_state_and_archives_is_told_by_the_manager_that_cannot_write(tmp_path: Path) -> None:
    """And goes away when space is made."""
    with small_disk(tmp_path / "small", "40m") as disk, watched(disk, "Full", 2) as domain:
        all_is_well(domain)
        name = str(domain.led()["leader"])
        own = domain.manager_of(name)
        ballast = fill_up(disk)
        with contextlib.suppress(valkey.exceptions.ValkeyError), domain.engine("Full", name) as client:
            for number in range(2_000):
                client.set(f"k{number}", "x" * 3_000)
        since = every_view(domain, own, "no space is left", "Free space there")["since"]
        assert every_view(domain, own, f"{name} led it and ended")["since"] == since, "it failed all the time"
        ballast.unlink()
        all_is_well(domain)
