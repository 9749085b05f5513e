"""Whether machines are fit for the domain: what is measured, compared and connected to, and what mends what is wrong."""

from __future__ import annotations

import threading

from dkv.domain.machine_checks import MachineFacts
from tests.api.test_stores import led
from tests.api.world import World, scenario

PATH = "/admin/v1/machines"


@scenario
async def test_each_machine_is_shown_with_nothing_wrong(world: World) -> None:
    async with world.at() as client:
        first, second = (await client.get(PATH)).json()["machines"]
        assert (await client.get(PATH, params={"local": "true"})).json() == {"machines": [first]}
        world.facts["s2"] = MachineFacts(250.0, 65_536, 1, "madvise")
        assert (await client.get(PATH)).json()["machines"] == [first, second], "for some seconds it is not looked again"
    assert (first["serverId"], second["serverId"]) == ("s1", "s2")
    for row in (first, second):
        assert (row["answers"], row["fsync"], row["openFiles"], row["findings"]) == (True, 1.5, 65_536, [])


@scenario
async def test_what_is_wrong_is_said_with_what_mends_it(world: World) -> None:
    world.facts["s2"] = MachineFacts(250.0, 1_024, 0, "always")
    world.clock_ahead["s2"] = -90_000
    async with world.at() as client:
        _, second = (await client.get(PATH)).json()["machines"]
    assert [(finding["problem"], finding["text"].split(":")[0]) for finding in second["findings"]] == [
        (True, "a write takes 250 ms to be on its disk, and each acknowledged write waits for one"),
        (False, "a process may have 1024 files and connections open"),
        (False, "vm.overcommit_memory is 0"),
        (True, "its clock is 90.0 s behind"),
    ]
    assert all(finding["fix"] for finding in second["findings"])


@scenario
async def test_a_port_of_an_engine_that_cannot_be_connected_to_is_a_problem(world: World) -> None:
    await led(world)  # on s1, as the domain has it; nothing listens there
    async with world.at("s2") as client:
        (row,) = (await client.get(PATH, params={"local": "true"})).json()["machines"]
    assert row["reached"] == 0
    assert [finding["text"] for finding in row["findings"]] == [
        "it does not reach the cluster port of orders-1 on server s1, 127.0.0.11:7811: connection refused",
        "it does not reach the client port of orders-1 on server s1, 127.0.0.11:7861: connection refused",
    ]
    assert row["findings"][0]["fix"] == "let this machine through to port 7811 of 127.0.0.11"


@scenario
async def test_a_machine_whose_manager_does_not_answer_is_a_problem(world: World) -> None:
    del world.apps["s2"]
    async with world.at() as client:
        _, second = (await client.get(PATH)).json()["machines"]
    assert (second["serverId"], second["answers"]) == ("s2", False)
    assert [finding["problem"] for finding in second["findings"]] == [True]
    assert "its manager does not answer" in second["findings"][0]["text"]


@scenario
async def test_a_disk_that_never_answers_is_a_problem_and_holds_nobody_up(world: World) -> None:
    released = threading.Event()
    world.apps["s1"].examination.disk_within = 0.1
    world.hung["s1"] = released
    try:
        async with world.at() as client:
            (row,) = (await client.get(PATH, params={"local": "true"})).json()["machines"]
    finally:
        released.set()
    assert row["findings"][0]["problem"]
    assert "its disk did not answer within" in row["findings"][0]["text"]
