"""The newest lines of the logs of a server, and what was added since."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from dkv.api.context import LogFile
from dkv.domain.facts import ProcessExited, ProcessStarted
from tests.api.test_looking import two_started
from tests.api.world import World, scenario

LOGS = "/admin/v1/logs"


@scenario
async def test_a_log_is_read_from_its_end_and_then_from_where_one_was(world: World) -> None:
    with TemporaryDirectory() as root:
        path = Path(root, "manager.log")
        world.logs = [LogFile("manager.log", path)]
        path.write_text("one\ntwo\nthree\nhalf", encoding="utf-8")
        async with world.at() as client:
            first = (await client.get(f"{LOGS}?lines=2")).json()
            assert (first["server"], first["name"], first["lines"]) == ("s1", "manager.log", ["two", "three"])
            again = (await client.get(f"{LOGS}?after={first['next']}")).json()
            assert again["lines"] == []
            with path.open("a", encoding="utf-8") as file:
                file.write(" a line\nfour token=abc\n")
            later = (await client.get(f"{LOGS}?after={first['next']}")).json()
            assert later["lines"] == ["half a line", "four token=(hidden)"]
            path.write_text("new\n", encoding="utf-8")  # it was cut
            assert (await client.get(f"{LOGS}?after={later['next']}")).json()["lines"] == ["new"]
            path.rename(f"{path}.1")
            path.write_text("another\n", encoding="utf-8")
            assert (await client.get(f"{LOGS}?after={later['next']}")).json()["lines"] == ["another"]
            path.unlink()
            gone = await client.get(LOGS)
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")


@scenario
async def test_of_a_log_that_is_very_long_the_end_is_read(world: World) -> None:
    with TemporaryDirectory() as root:
        path = Path(root, "manager.log")
        world.logs = [LogFile("manager.log", path)]
        path.write_text("".join(f"line {number:06}\n" for number in range(200_000)), encoding="utf-8")
        async with world.at() as client:
            part = (await client.get(f"{LOGS}?lines=3&after={path.stat().st_ino}-0")).json()
    assert part["lines"] == ["line 199997", "line 199998", "line 199999"]


@scenario
async def test_the_log_of_a_process_is_that_of_its_engine_and_then_of_its_archive(world: World) -> None:
    start, other = await two_started(world)
    with TemporaryDirectory() as root:
        live, kept = Path(root, "live"), Path(root, "kept")
        live.write_text("it runs\n", encoding="utf-8")
        kept.write_text("it ended\n", encoding="utf-8")
        world.logs = [LogFile("manager.log", live), LogFile(f"engines/{start}/engine.log", live)]
        async with world.at() as client:
            assert (await client.get(f"{LOGS}?startId={start}")).json()["lines"] == ["it runs"]
            elsewhere = (await client.get(f"{LOGS}?startId={other}")).json()
            assert elsewhere["detail"] == f"Process {other} belongs to server s2."
            assert (await client.get(f"{LOGS}?startId=4711")).json()["code"] == "unknown_process"
            await world.submit(ProcessStarted(server_id="s1", start_id=start))
            await world.submit(ProcessExited(server_id="s1", start_id=start, cause="exited", detail="x", exit_code=1))
            world.logs = [LogFile("manager.log", live), LogFile("archives/0/previous-engine.log", kept)]
            assert (await client.get(f"{LOGS}?startId={start}")).json()["lines"] == ["it ended"]
            world.logs = world.logs[:1]
            dropped = (await client.get(f"{LOGS}?startId={start}")).json()
    assert dropped["detail"] == f"The log of process {start} is not kept any more."
