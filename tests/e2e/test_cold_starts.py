"""Everything killed at once under load, and started again: nothing acknowledged is lost, and only open terms accept writes."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import valkey

from dkv.client import Json
from tests.e2e.local_domain import PATIENCE, LocalDomain, local_domain, marked, wait_for
from tests.e2e.writers import Client, at_work, clients_of

OFTEN = {"DKV_RESTART_BUDGET": "1000"}  # a test kills more often than a sick engine is worth restarting


@dataclass(frozen=True)
class Shape:
    """A store: so many groups with so many copies each."""

    name: str
    servers: int
    per_server: int
    copies: int
    groups: int


SHAPES = [
    Shape("OneByOne", 1, 1, 1, 1),
    Shape("OneByTwo", 2, 1, 2, 1),
    Shape("OneByThree", 3, 1, 3, 1),
    Shape("ThreeByTwo", 3, 2, 2, 3),
]


def make(domain: LocalDomain, shape: Shape) -> None:
    """Create and start a store on ports of its own; all its copies in sync."""
    index = SHAPES.index(shape)
    managers = ",".join(domain.addresses.split(",")[: shape.servers])
    ports = ("-ClustronPort", str(7811 + 5 * index), "-ClientPort", str(7861 + 5 * index))
    domain.do(
        "New-DkvStore",
        shape.name,
        shape.name.lower(),
        "-InstanceCount",
        str(shape.per_server),
        "-ReplicationFactor",
        str(shape.copies),
        "-Managers",
        managers,
        *ports,
    )
    domain.do("Start-DkvStore", shape.name, "-Managers", managers)
    assert len(domain.client.store(shape.name)["groups"]) == shape.groups
    wait_whole(domain, shape)


def serving_again(domain: LocalDomain, name: str, seen: int) -> bool:
    """Every group said so after that event: a view taken before the first exit was reported shows the old world."""
    serving = {e["subject"] for e in domain.client.events(after=seen, store=name) if e["kind"] == "group.serving"}
    return len(serving) == len(domain.client.store(name)["groups"])


def wait_whole(domain: LocalDomain, shape: Shape) -> None:
    wait_for(f"{shape.name} whole", lambda: whole(domain.client.store(shape.name)))


def whole(store: Json) -> bool:
    """Every group serves, with all its copies in sync."""
    members = {group["name"]: 0 for group in store["groups"]}
    for instance in store["instances"]:
        members[instance["group"]] += 1
    return all(group["serving"] and len(group["inSync"]) == members[group["name"]] for group in store["groups"])


def kill_everything(domain: LocalDomain) -> None:
    """Managers, engines and their waiting parents, by SIGKILL."""
    for pid in marked(domain.root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for manager in domain.managers:
        assert manager.process is not None
        manager.process.wait(PATIENCE)
        manager.process = None
    wait_for("nothing left", lambda: not marked(domain.root))


def cold_start(domain: LocalDomain, shapes: list[Shape]) -> None:
    """Load, kill everything, start the managers, and look at what every node did meanwhile."""
    stores = [domain.client.store(shape.name) for shape in shapes]
    seen = max(event["sequence"] for event in domain.client.events())
    writers = [client for store in stores for _ in range(3) for client in clients_of(store, f"w{_}", leaders_only=True, pace=0)]
    with at_work(writers):
        wait_for("a load", lambda: all(writer.acknowledged >= 20 for writer in writers))
        kill_everything(domain)
    probers = [client for store in stores for client in clients_of(store, "probe", leaders_only=False, pace=0.005)]
    with at_work(probers):
        for manager in domain.managers:
            manager.start()
        for manager in domain.managers:
            manager.wait_ready()
        for shape in shapes:
            wait_for(f"{shape.name} reported to serve", lambda name=shape.name: serving_again(domain, name, seen))  # type: ignore[misc]
            wait_whole(domain, shape)
        wait_for(
            "a write to each leader",
            lambda: leaders(domain, shapes) <= {prober.archive_id for prober in probers if prober.accepted},
        )
        assert all(prober.accepted or prober.refused for prober in probers), "a node that was never heard proves nothing"
    events = domain.client.events(after=seen)
    for each in probers:
        accepted_only_by_leaders(each, events)
    for shape in shapes:
        held_by_its_leader(domain.client.store(shape.name), writers)


def leaders(domain: LocalDomain, shapes: list[Shape]) -> set[int]:
    """The archives that lead now."""
    stores = [domain.client.store(shape.name) for shape in shapes]
    leading = {group["leader"] for store in stores for group in store["groups"]}
    return {instance["archiveId"] for store in stores for instance in store["instances"] if instance["instanceName"] in leading}


def accepted_only_by_leaders(client: Client, events: list[Json]) -> None:
    """What a node accepted, it accepted after its own term was opened and before another's was."""
    mine = next((e for e in events if e["kind"] == "process.requested" and e["archiveId"] == client.archive_id), None)
    assert mine is not None, f"archive {client.archive_id} was not started again"
    group = {e["subject"] for e in events if e["kind"] == "group.opened" and e["archiveId"] == client.archive_id}
    opened = [(e["at"] / 1000, e["archiveId"]) for e in events if e["kind"] == "group.opened" and e["subject"] in group]
    for answer in client.accepted:
        leading = [archive for at, archive in opened if at <= answer.got]
        assert leading, f"archive {client.archive_id} accepted a write at {answer.got} before any term was open: {opened}"
        assert client.archive_id in (leading[-1], *[a for at, a in opened if answer.sent <= at <= answer.got]), (client, opened)


def held_by_its_leader(store: Json, writers: list[Client]) -> None:
    """Every acknowledged write is on the leader of its group now."""
    for group in store["groups"]:
        members = {instance["archiveId"] for instance in store["instances"] if instance["group"] == group["name"]}
        leader = next(instance for instance in store["instances"] if instance["instanceName"] == group["leader"])
        with valkey.Valkey(leader["host"], leader["clientPort"], socket_timeout=10) as client:
            for writer in writers:
                if writer.archive_id in members:
                    value = int(client.get(writer.key) or 0)
                    assert writer.acknowledged <= value <= writer.sent, (writer.key, writer.acknowledged, value)


def test_every_shape_comes_back_after_everything_was_killed(tmp_path: Path) -> None:
    with local_domain(tmp_path, 3, OFTEN) as domain:
        for shape in SHAPES:
            make(domain, shape)
        cold_start(domain, SHAPES)


@pytest.mark.full
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_ten_cold_starts(tmp_path: Path, shape: Shape) -> None:
    with local_domain(tmp_path, shape.servers, OFTEN) as domain:
        make(domain, shape)
        for _ in range(10):
            cold_start(domain, [shape])
