"""Hot copies of a running store on real engines: one moment through all groups, and a store that begins with it."""

from __future__ import annotations

import random
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import valkey

from dkv.client import Json
from tests.e2e.local_domain import LocalDomain, local_domain, wait_for
from tests.e2e.nuocmd import Nuocmd
from tests.e2e.writers import key_in

START = 1_000_000
OVER = ("completed", "failed", "cancelled")


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDomain]:
    with local_domain(tmp_path_factory.mktemp("hotcopy"), 2) as running_domain:
        yield running_domain


def ask(domain: LocalDomain, method: str, path: str, body: Json | None = None) -> Json:
    return domain.client.request(method, f"/admin/v1/stores{path}", body).object()


def serves(domain: LocalDomain, name: str, in_sync: int) -> bool:
    groups = domain.client.store(name)["groups"]
    return all(g["serving"] and len(g["inSync"]) == in_sync for g in groups)


def line_to(endpoint: str) -> valkey.Valkey:
    host, _, port = endpoint.rpartition(":")
    return valkey.Valkey(host, int(port), socket_timeout=20, decode_responses=True)


# -- a bank ------------------------------------------------------------------------------------------------------------


@dataclass
class Step:
    """Half a transfer: money leaves one group, or arrives in another. Times are on this process's clock."""

    group: int
    key: str
    amount: int
    sent: float
    answered: float = 0.0


@dataclass
class Clerk:
    """Moves money between groups, one half after the other; each half writes its line of the ledger with it."""

    name: str
    tags: list[str]
    leaders: list[str]
    steps: list[Step] = field(default_factory=list)
    troubles: list[Exception] = field(default_factory=list)

    def run(self, ended: threading.Event) -> None:
        chance = random.Random(self.name)
        lines = [line_to(leader) for leader in self.leaders]
        try:
            for number in range(1_000_000):
                if ended.is_set():
                    return
                giver, taker = chance.sample(range(len(self.tags)), 2)
                amount = chance.randrange(1, 100)
                self.half(lines, giver, f"out:{self.name}:{number}", -amount)
                self.half(lines, taker, f"in:{self.name}:{number}", amount)
        except Exception as trouble:
            self.troubles.append(trouble)
        finally:
            for line in lines:
                line.close()

    def half(self, lines: list[valkey.Valkey], group: int, name: str, amount: int) -> None:
        tag = self.tags[group]
        step = Step(group, f"{tag}:{name}", amount, time.monotonic())
        self.steps.append(step)
        batch = lines[group].pipeline(transaction=True)
        batch.incrby(tag, amount).set(step.key, amount).execute()
        step.answered = time.monotonic()


@contextmanager
def at_work(clerks: list[Clerk]) -> Iterator[None]:
    ended = threading.Event()
    threads = [threading.Thread(target=clerk.run, args=(ended,)) for clerk in clerks]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def everything(store: Json, tags: list[str]) -> list[dict[str, str]]:
    """All that each group's leader holds."""
    values = []
    for group, tag in zip(store["groups"], tags, strict=True):
        line = line_to(group["leaderEndpoint"])
        keys = sorted(line.keys("*"))
        assert tag in keys
        values.append(dict(zip(keys, line.mget(keys), strict=True)))
        line.close()
    return values


def restore(domain: LocalDomain, name: str, store: Json, parts: list[Json]) -> Json:
    """A store of the same groups that begins with these copies, one for each group."""
    number = len(domain.client.stores())
    instances = [
        {
            "instanceName": f"{name}-{n}",
            "server": part["server"],
            "group": part["group"],
            "path": part["path"],
            "restored": True,
            "clustronPort": 7811 + 20 * number + n,
            "clientPort": 7861 + 20 * number + n,
        }
        for n, part in enumerate(parts)
    ]
    groups = [{"name": g["name"], "slots": g["slots"]} for g in store["groups"]]
    ask(domain, "POST", "", {"name": name, "groups": groups, "instances": instances})
    for instance in instances:
        ask(domain, "POST", f"/{name}/instances/{instance['instanceName']}/start")
    wait_for(f"{name} serves", lambda: serves(domain, name, 1))
    return domain.client.store(name)


def copied(domain: LocalDomain, name: str, body: Json) -> tuple[Json, float, float]:
    """A hot copy that completed; moments before it was asked for and after its cut was seen."""
    before = time.monotonic()
    copy_id = ask(domain, "POST", f"/{name}/hot-copies", body)["hotCopyId"]

    def look() -> Json | None:
        copy = ask(domain, "GET", f"/{name}/hot-copies/{copy_id}")
        return copy if copy["cutAt"] or copy["status"] in OVER else None

    wait_for("the cut", look)
    after = time.monotonic()
    done = wait_for("its end", lambda: (c := ask(domain, "GET", f"/{name}/hot-copies/{copy_id}"))["status"] in OVER and c)
    assert done
    assert done["status"] == "completed", done
    return done, before, after


def test_money_moves_between_groups_and_no_copy_ever_sees_it_twice_or_lost(domain: LocalDomain, tmp_path: Path) -> None:
    domain.create("Bank", "-InstanceCount", "3", "-ReplicationFactor", "2")
    wait_for("Bank in sync", lambda: serves(domain, "Bank", 2))
    store = domain.client.store("Bank")
    tags = [key_in(g["slots"], "account") for g in store["groups"]]
    leaders = [g["leaderEndpoint"] for g in store["groups"]]
    assert len(tags) == 3
    for leader, tag in zip(leaders, tags, strict=True):
        line_to(leader).set(tag, START)
    clerks = [Clerk(f"c{n}", tags, leaders) for n in range(4)]
    with at_work(clerks):
        wait_for("some transfers", lambda: all(len(clerk.steps) > 50 for clerk in clerks))
        body = {"defaultPath": str(tmp_path / "backup"), "shared": True}
        done, before, after = copied(domain, "Bank", body)
        seen = sum(len(clerk.steps) for clerk in clerks)
        wait_for("transfers afterwards", lambda: sum(len(clerk.steps) for clerk in clerks) > seen + 50)
    assert not [clerk.troubles for clerk in clerks if clerk.troubles]
    print("longest wait of a transfer's half, ms:", max(1000 * (s.answered - s.sent) for c in clerks for s in c.steps))
    parts = [[p for p in done["archives"] if p["group"] == g["name"]] for g in store["groups"]]
    assert all(len(two) == 2 for two in parts)
    contents = everything(restore(domain, "One", store, [two[0] for two in parts]), tags)
    other = everything(restore(domain, "Other", store, [two[1] for two in parts]), tags)
    assert contents == other
    audit(contents, clerks, tags, before, after)


def audit(held: list[dict[str, str]], clerks: list[Clerk], tags: list[str], before: float, after: float) -> None:
    """The cut is one moment: of each clerk's halves, in their order, it holds the first so many, and nothing else."""
    steps: list[Step] = []
    for clerk in clerks:
        there = [step.key in held[step.group] for step in clerk.steps]
        count = sum(there)
        assert there == [True] * count + [False] * (len(there) - count), f"{clerk.name} is cut at two moments"
        assert all(step.answered > before for step in clerk.steps[count:]), "a half answered before is missing"
        assert all(step.sent < after for step in clerk.steps[:count]), "a half sent afterwards is there"
        assert 0 < count < len(there)
        steps += clerk.steps[:count]
    for group, tag in enumerate(tags):
        mine = [step for step in steps if step.group == group]
        assert int(held[group][tag]) == START + sum(step.amount for step in mine)
        assert set(held[group]) == {tag, *(step.key for step in mine)}
    on_its_way = sum(step.amount for step in steps)
    assert sum(int(held[g][tag]) for g, tag in enumerate(tags)) == START * len(tags) + on_its_way
    assert -100 * len(clerks) < on_its_way <= 0


# -- the real nuocmd ---------------------------------------------------------------------------------------------------------


def test_nuocmd_copies_looks_cancels_and_restores(domain: LocalDomain, tmp_path: Path) -> None:
    nuocmd = Nuocmd(domain)
    path = tmp_path / "shop"
    nuocmd.do("create", "archive", "--db-name", "shop", "--server-id", "s1", "--archive-path", path)
    nuocmd.do("create", "database", "--db-name", "shop", "--dba-user", "dba", "--dba-password", "secret")
    nuocmd.wait_running("shop", 1)
    line = line_to(domain.client.store("shop")["groups"][0]["leaderEndpoint"])
    chance = random.Random(1)  # what a rewrite cannot compress: the copy that is looked at below has to take its time
    line.mset({f"{{k}}{n}": chance.randbytes(50_000).hex() for n in range(120)})
    whole = tmp_path / "whole"
    done = nuocmd.json(
        "hotcopy", "database", "--db-name", "shop", "--type", "simple", "--default-backup-dir", whole, "--timeout", 60
    )[0]
    assert (done["status"], done["message"]) == ("completed", "Hot copy successfully completed")
    line.set("afterwards", 1)
    named = ("--coordinator-start-id", done["coordinatorStartId"], "--hotcopy-id", done["hotCopyId"])
    assert nuocmd.json("get", "hotcopy-status", *named)[0] == done
    assert f"{done['hotCopyId']} [completed]" in nuocmd.do("show", "hotcopy-info", "--db-name", "shop")
    assert done["hotCopyId"] in nuocmd.do("get", "hotcopy-info", "--db-name", "shop")
    slow_one_is_cancelled(nuocmd, tmp_path / "slow")
    refusals(nuocmd, whole)
    output = nuocmd.do("create", "archive", "--db-name", "again", "--server-id", "s2", "--archive-path", whole, "--restored")
    assert re.search(r"id=\d+", output)
    nuocmd.do("create", "database", "--db-name", "again", "--dba-user", "dba", "--dba-password", "secret")
    nuocmd.wait_running("again", 1)
    again = line_to(domain.client.store("again")["groups"][0]["leaderEndpoint"])
    assert sorted(again.keys("*")) == sorted(f"{{k}}{n}" for n in range(120))
    again.set("more", 1)


def test_nuocmd_restores_a_database_of_several_groups(domain: LocalDomain, tmp_path: Path) -> None:
    """There is no option for a group: each copy says which one it is of, and the new database gets the groups copied."""
    nuocmd = Nuocmd(domain)
    domain.create("Parts", "-InstanceCount", "2", "-ReplicationFactor", "2", "-ClustronPort", "7951", "-ClientPort", "7991")
    wait_for("Parts in sync", lambda: serves(domain, "Parts", 2))
    store = domain.client.store("Parts")
    tags = [key_in(g["slots"], "held") for g in store["groups"]]
    assert len(tags) == 2
    for group, tag in zip(store["groups"], tags, strict=True):
        line_to(group["leaderEndpoint"]).set(tag, group["name"])
    done, *_ = copied(domain, "Parts", {"defaultPath": str(tmp_path / "parts"), "shared": True})
    for name, wanted in (("whole", reversed(done["archives"])), ("half", done["archives"][:1])):
        for part in wanted:  # the last group's first: it is not the order that tells
            path = tmp_path / name / str(part["archiveId"])
            shutil.copytree(part["path"], path)
            nuocmd.do("create", "archive", "--db-name", name, "--server-id", part["server"], "--archive-path", path, "--restored")
    create = ("create", "database", "--dba-user", "dba", "--dba-password", "secret", "--db-name")
    assert "Create an archive from the copy of each group first." in nuocmd.refused(*create, "half", "--no-autostart")
    nuocmd.do(*create, "whole")
    nuocmd.wait_running("whole", 4)
    again = domain.client.store("whole")
    assert [(g["name"], g["slots"]) for g in again["groups"]] == [(g["name"], g["slots"]) for g in store["groups"]]
    held = everything(again, tags)
    assert [list(part.items()) for part in held] == [[(tag, g["name"])] for tag, g in zip(tags, store["groups"], strict=True)]


def slow_one_is_cancelled(nuocmd: Nuocmd, target: Path) -> None:
    """12 MB at 1 MB a second take long enough to be seen, refused beside, and cancelled."""
    words = ("hotcopy", "database", "--db-name", "shop", "--type", "full", "--default-backup-dir", target, "--max-rate", 1)
    begun = nuocmd.json(*words)[0]
    assert begun["status"] == "running"
    assert "is being made" in nuocmd.run(*words).err
    named = ("--coordinator-start-id", begun["coordinatorStartId"], "--hotcopy-id", begun["hotCopyId"])
    wait_for("it copies", lambda: nuocmd.json("get", "hotcopy-status", *named)[0]["stage"] == "copying")
    assert nuocmd.json("cancel", "hotcopy", *named)[0]["status"] == "cancelled"
    wait_for("nothing of it is left", lambda: not any(target.iterdir()))


def refusals(nuocmd: Nuocmd, taken: Path) -> None:
    words = ("hotcopy", "database", "--db-name", "shop", "--default-backup-dir")
    assert "type journal is not supported" in nuocmd.refused(*words, taken, "--type", "journal")
    assert "absolute" in nuocmd.refused(*words, "backup", "--type", "simple")
    for patience in ((), ("--timeout", 30)):
        failed = nuocmd.run(*words, taken, "--type", "simple", *patience)
        assert failed.code == 1
        assert "is not empty" in failed.out + failed.err
