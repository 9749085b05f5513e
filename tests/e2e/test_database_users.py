"""A domain with access control: its stores let in their own users only, on every engine, and stay so whatever happens."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import valkey

from dkv.confirm import ConfirmingClient, Kind
from tests.e2e.local_domain import LocalDomain, local_domain, wait_for

STORE = "Closed"
REPAIRED_WITHIN = 5.0  # s
BUSY = 4  # times as long where other tests run


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    root = tmp_path_factory.mktemp("users")
    with local_domain(root, 2, {"DKV_ACCESS_CONTROL": "on"}) as domain:
        domain.create(STORE)
        yield domain


def ports(domain: LocalDomain, store: str = STORE) -> list[tuple[str, int]]:
    """Where every engine of the store is, those of TEs too."""
    processes = [process for process in domain.client.processes() if process["store"] == store]
    at = [place["address"].rpartition(":") for process in processes for place in process["endpoints"]]
    return [(host, int(port)) for host, _, port in at]


def answer(at: tuple[str, int], user: str | None, password: str | None, *command: str) -> str:
    """What an engine answers to one command of a new connection."""
    try:
        with valkey.Valkey(host=at[0], port=at[1], username=user, password=password, socket_timeout=10) as client:
            return str(client.execute_command(*(command or ("PING",))))
    except valkey.exceptions.ResponseError as error:
        return str(error)
    except valkey.exceptions.AuthenticationError as error:
        return str(error)


def lets_in(domain: LocalDomain, user: str | None, password: str | None) -> list[bool]:
    """Whether each engine takes these credentials."""
    return [answer(at, user, password) in ("True", "b'PONG'", "PONG") for at in ports(domain)]


def settled(domain: LocalDomain) -> None:
    """Wait until no engine lacks a change of users."""
    wait_for(
        "all engines have their users", lambda: not [w for w in domain.client.store(STORE)["waiting"] if w["kind"] == "users"]
    )


def make(domain: LocalDomain, name: str, *words: str) -> str:
    """A new user's password."""
    made = domain.do("create", "database-user", "--db-name", STORE, "--name", name, *words)
    settled(domain)
    return made.out.strip()


def test_nobody_is_let_in_without_a_user_and_a_user_is_by_every_engine_also_by_later_ones(domain: LocalDomain) -> None:
    assert domain.client.store(STORE)["open"] is False
    assert all("Authentication required" in answer(at, None, None, "GET", "k") for at in ports(domain))
    password = make(domain, "app")
    assert lets_in(domain, "app", password) == [True, True]
    assert lets_in(domain, "app", password + "x") == [False, False]
    domain.do("start", "process", "--db-name", STORE, "--engine-type", "TE", "--server-id", "s2")
    wait_for("the TE is let in", lambda: lets_in(domain, "app", password) == [True, True, True])
    domain.do("Add-DkvInstance", STORE, "later", "-ClustronPort", "7821", "-ClientPort", "7871")
    domain.do("Start-DkvStore", STORE, "later")
    wait_for("the new instance is let in", lambda: lets_in(domain, "app", password) == [True] * 4)
    assert all("invalid username-password" in answer(at, "app", "no") for at in ports(domain))
    events = domain.client.events(store=STORE)
    assert [event["subject"] for event in events if event["kind"] == "user.created"] == [f"user {STORE}/app"]
    assert password not in json.dumps(events)


def altered(domain: LocalDomain) -> list[str]:
    """Why each event says that users were altered."""
    return [str(event["because"]) for event in domain.client.events(store=STORE) if event["kind"] == "process.users_altered"]


def as_manager(domain: LocalDomain) -> valkey.Valkey:
    """A connection to the leader's engine as whoever has the domain's state and the engine's directory."""
    leader = next(i for i in domain.client.store(STORE)["instances"] if i["role"] == "leader")
    record = json.loads(domain.client.read("/state")["records"][f"database/{STORE}"])
    path = str(domain.archive(STORE, leader["instanceName"]) / "admin.sock")
    return valkey.Valkey(unix_socket_path=path, username="dkv-manager", password=record["secret"])


def test_what_is_altered_on_an_engine_is_undone_and_an_event_says_so(domain: LocalDomain) -> None:
    password = make(domain, "ada")
    with as_manager(domain) as manager:

        def is_on(name: str) -> bool:
            return any(line.startswith(f"user {name} on ".encode()) for line in manager.execute_command("ACL", "LIST"))

        for words, name, wanted in (
            (("SETUSER", "mallory", "on", "nopass", "~*", "+@all"), "mallory", False),
            (("DELUSER", "ada"), "ada", True),
            (("SETUSER", "default", "on", "nopass", "~*", "+@all"), "default", False),
        ):
            manager.execute_command("ACL", *words)
            assert is_on(name) is not wanted
            began = time.monotonic()
            wait_for(f"{words} is undone", lambda name=name, wanted=wanted: is_on(name) is wanted)  # type: ignore[misc]
            assert time.monotonic() - began < REPAIRED_WITHIN * BUSY
            wait_for("it was said", lambda name=name: any(f": {name};" in because for because in altered(domain)))  # type: ignore[misc]
    assert set(lets_in(domain, "ada", password)) == {True}


def test_a_restarted_manager_and_a_restarted_engine_alter_nothing(domain: LocalDomain) -> None:
    password, before = make(domain, "stays"), altered(domain)
    for manager in domain.managers:
        manager.kill()
        manager.restart()
    domain.do("restart", "database", "--db-name", STORE, "--rolling")
    wait_for("the restart is over", lambda: domain.client.store(STORE)["restart"] is None)
    settled(domain)
    assert set(lets_in(domain, "stays", password)) == {True}
    assert altered(domain) == before


def test_a_password_is_changed_under_a_writer_without_an_error(domain: LocalDomain, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text('first "one" with ä\n', encoding="utf-8")
    first = 'first "one" with ä'
    make(domain, "writer", "--password-file", str(file))
    stopped, errors, counts = threading.Event(), list[str](), {"old": 0, "new": 0}

    def write(which: str, password: str) -> None:
        with ConfirmingClient(domain.addresses.split(","), STORE, user="writer", password=password) as client:
            while not stopped.is_set():
                outcome = client.set(f"{which}:{counts[which]}", "x", timeout=30)
                counts[which] += 1
                if outcome.kind is not Kind.CONFIRMED:
                    errors.append(f"{which}: {outcome.kind} {outcome.reason}")

    threads = [threading.Thread(target=write, args=("old", first))]
    threads[0].start()
    try:
        wait_for("it writes", lambda: counts["old"] > 20)
        second = domain.do("rotate", "database-user", "--db-name", STORE, "--name", "writer").out.strip()
        settled(domain)
        assert set(lets_in(domain, "writer", first)) == set(lets_in(domain, "writer", second)) == {True}
        threads.append(threading.Thread(target=write, args=("new", second)))
        threads[1].start()
        wait_for("both write", lambda: counts["new"] > 20)
        again = domain.dkv("rotate", "database-user", "--db-name", STORE, "--name", "writer")
        assert again.code == 1 and "has two passwords already" in again.err and "--drop-old" in again.err
        domain.do("rotate", "database-user", "--db-name", STORE, "--name", "writer", "--drop-old")
        settled(domain)
        reached = dict(counts)
        wait_for("both go on", lambda: all(counts[which] > reached[which] + 20 for which in counts))
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert set(lets_in(domain, "writer", first)) == {False} and set(lets_in(domain, "writer", second)) == {True}
    with ConfirmingClient(domain.addresses.split(","), STORE, user="writer", password=first) as client:
        outcome = client.set("k", "v", timeout=2)
    assert outcome.kind is Kind.FAILED and "invalid username-password pair" in outcome.reason


def test_users_are_shown_without_passwords_and_limits_hold_on_the_engine(domain: LocalDomain) -> None:
    password = make(domain, "limited", "--read-only", "--keys", "a:*", "--no-scripting")
    shown = domain.do("show", "database-users", "--db-name", STORE)
    line = next(line for line in shown.out.splitlines() if line.startswith("limited"))
    assert "read, no scripts" in line and "a:*" in line and password not in shown.out
    (at, *_) = ports(domain)
    for command in (("SET", "a:1", "x"), ("GET", "b"), ("EVAL", "return 1", "0"), ("CONFIG", "GET", "*")):
        assert "o permissions" in answer(at, "limited", password, *command), command
    watching = make(domain, "watch", "--monitor")
    assert "see numbers and logs" in domain.do("show", "database-users", "--db-name", STORE).out
    assert answer(at, "watch", watching, "SLOWLOG", "LEN").isdigit()
    assert "o permissions" in answer(at, "watch", watching, "GET", "a:1")
    both = domain.dkv("create", "database-user", "--db-name", STORE, "--name", "both", "--monitor", "--read-only")
    assert both.code != 0 and "A monitor uses no keys" in both.err
    for name in ("limited", "watch"):
        domain.do("delete", "database-user", "--db-name", STORE, "--name", name)
    settled(domain)
    assert set(lets_in(domain, "limited", password)) == {False}


@pytest.mark.parametrize("name", ["a b", "default", "dkv-manager", "x" * 201, "a\x1bb", "a/b", "a:b", ""])
def test_a_name_that_no_engine_can_have_is_refused_and_changes_nothing(domain: LocalDomain, name: str) -> None:
    with domain.unchanged():
        output = domain.dkv("create", "database-user", "--db-name", STORE, "--name", name)
    assert output.code != 0 and "hint: " in output.err and output.out == ""


def test_a_password_of_a_megabyte_is_refused(domain: LocalDomain, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("x" * 1_000_000)
    with domain.unchanged():
        output = domain.dkv("create", "database-user", "--db-name", STORE, "--name", "long", "--password-file", str(file))
    assert output.code != 0 and "hint: " in output.err


def test_a_store_is_open_only_on_purpose_and_every_view_says_so(domain: LocalDomain, tmp_path: Path) -> None:
    domain.do("New-DkvStore", "Wide", "wide", "-ClustronPort", "7831", "-ClientPort", "7881", "-Open")
    domain.do("Start-DkvStore", "Wide")
    assert domain.client.store("Wide")["open"] is True
    assert "Wide [RUNNING], open" in domain.do("show", "domain").out
    assert "open to every client" in domain.do("Get-DkvStore", "-Name", "Wide").out
    assert "Wide is open" in domain.do("Get-DkvStore").err
    assert answer(ports(domain, "Wide")[0], None, None, "PING") == "True"
    refused = domain.dkv("set", "database-access", "--db-name", "Wide", "--users-only")
    assert refused.code != 0 and "has no users" in refused.err
    domain.do("create", "database-user", "--db-name", "Wide", "--name", "app")
    domain.do("set", "database-access", "--db-name", "Wide", "--users-only")
    wait_for("it is closed", lambda: "Authentication required" in answer(ports(domain, "Wide")[0], None, None, "GET", "k"))
    domain.remove("Wide")
    assert domain.dkv("get", "database-users", "--db-name", "Wide").code == 1


def test_the_administrator_of_a_database_is_a_user_whose_password_nobody_is_told(domain: LocalDomain) -> None:
    words = ("--db-name", "ledger", "--dba-user", "dba", "--no-autostart")
    missing = domain.dkv("create", "database", *words)
    assert missing.code == 2 and "DKV_DBA_PASSWORD" in missing.err
    assert domain.dkv("create", "database", *words, env={"DKV_DBA_PASSWORD": "s3cret"}).code == 0
    assert [user["name"] for user in json.loads(domain.do("get", "database-users", "--db-name", "ledger").out)] == ["dba"]
    shown = domain.client.request("GET", "/api/1/databases/ledger?maskPassword=False").object()
    assert (shown["dbUser"], shown["dbPassword"]) == ("dba", None)
    assert "s3cret" not in json.dumps(domain.client.read("/state"))
    domain.do("delete", "database", "--db-name", "ledger", "--purge")


def secret_of(domain: LocalDomain) -> str:
    """The managers' password in use, as the domain's state has it."""
    return str(json.loads(domain.client.read("/state")["records"][f"database/{STORE}"])["secret"])


def takes_manager(domain: LocalDomain, secret: str) -> list[bool]:
    """Whether each engine of an archive lets the managers in with that password, over its port; shown by a command."""
    instances = [i for i in domain.client.store(STORE)["instances"] if i["process"]]
    return [answer((i["host"], i["clientPort"]), "dkv-manager", secret, "ACL", "WHOAMI") == "b'dkv-manager'" for i in instances]


def rotating(domain: LocalDomain) -> bool:
    record = json.loads(domain.client.read("/state")["records"][f"database/{STORE}"])
    return bool(record["secret_change"]["phase"] != "DONE") or any(
        item["kind"] == "users" for item in domain.client.store(STORE)["waiting"]
    )


def test_the_managers_password_is_changed_under_a_writer_although_managers_are_killed(domain: LocalDomain) -> None:
    password = make(domain, "busy")
    stopped, errors, count = threading.Event(), list[str](), [0]

    def write() -> None:
        with ConfirmingClient(domain.addresses.split(","), STORE, user="busy", password=password) as client:
            while not stopped.is_set():
                outcome = client.set(f"k:{count[0]}", "x", timeout=60)
                count[0] += 1
                if outcome.kind is not Kind.CONFIRMED:
                    errors.append(f"{outcome.kind} {outcome.reason}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_for("it writes", lambda: count[0] > 20)
        first = secret_of(domain)
        assert set(takes_manager(domain, first)) == {True}
        domain.do("rotate", "secret", "--db-name", STORE, "--timeout", "60")
        second = secret_of(domain)
        assert second != first
        assert set(takes_manager(domain, first)) == {False} and set(takes_manager(domain, second)) == {True}
        domain.do("rotate", "secret", "--db-name", STORE, "--timeout", "0")
        for manager in domain.managers:
            manager.kill()
            time.sleep(0.1)  # the other one goes on meanwhile
            manager.restart()
        wait_for("the second change is done", lambda: not rotating(domain))
        third = secret_of(domain)
        assert third not in (first, second)
        assert set(takes_manager(domain, second)) == {False} and set(takes_manager(domain, third)) == {True}
        domain.do("switchover", "database", "--db-name", STORE)
        reached = count[0]
        wait_for("it goes on", lambda: count[0] > reached + 50)
    finally:
        stopped.set()
        writer.join()
    assert errors == []
    domain.do("restart", "database", "--db-name", STORE, "--rolling")
    wait_for("the restart is over", lambda: domain.client.store(STORE)["restart"] is None)
    wait_for("every engine has its users", lambda: not rotating(domain))
    assert set(lets_in(domain, "busy", password)) == {True}
