"""What Prometheus reads of a manager: its own page, its engines' pages, and where they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from dkv.api.context import EngineLook, EngineStatistics
from dkv.api.engine_metrics import write_engine
from dkv.api.exposition import Metric, Page, labels
from dkv.domain.facts import ProcessExited, ProcessStarted, ServerLost
from tests.api.test_looking import two_started
from tests.api.world import World, scenario
from tests.promtool import needs_promtool, promtool

INFO: Mapping[str, str] = {
    "redis_version": "7.2.4",
    "server_mode": "cluster",
    "valkey_version": "9.1.2",
    "tcp_port": "7861",
    "uptime_in_seconds": "90",
    "connected_clients": "3",
    "maxclients": "10000",
    "used_memory": "1048576",
    "maxmemory": "2097152",
    "maxmemory_policy": "noeviction",
    "aof_last_write_status": "err",
    "latest_fork_usec": "1500",
    "role": "master",
    "slave0": "ip=127.0.0.12,port=7861,state=online,offset=980,lag=1",
    "master_repl_offset": "1000",
    "keyspace_hits": "12",
    "cmdstat_config|get": "calls=4,usec=2000000,usec_per_call=500000.00,rejected_calls=1,failed_calls=2",
    "latency_percentiles_usec_config|get": "p50=1.003,p99=9.023,p99.9=9.023",
    "errorstat_NOPERM": "count=5",
    "db0": "keys=7,expires=2,avg_ttl=1500,subexpiry=0",
    "cluster_state": "ok",
    "mem_allocator": "jemalloc-5.3.0",
}
FOLLOWER: Mapping[str, str] = {
    "role": "slave",
    "master_host": "127.0.0.11",
    "master_port": "7861",
    "master_link_status": "up",
    "master_last_io_seconds_ago": "0",
}


def samples(text: str) -> dict[str, str]:
    """The samples of a page: name and labels to value."""
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    read = {name: value for name, _, value in lines}
    assert len(read) == len(lines), "two samples have one name and one set of labels"
    return read


async def page(world: World, address: str, server: str = "s1") -> dict[str, str]:
    async with world.at(server) as client:
        answer = await client.get(address)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.text)


def test_a_family_stands_together_and_labels_are_escaped() -> None:
    page, first, second = Page(), Metric("dkv_a", "gauge", "A."), Metric("dkv_b", "counter", "B\\C.")
    page.add(first, 1, labels({"name": 'a"b\\c\nd', "empty": ""}))
    page.add(second, 0.5)
    page.add(first, 2)
    assert page.text().splitlines() == [
        "# HELP dkv_a A.",
        "# TYPE dkv_a gauge",
        'dkv_a{name="a\\"b\\\\c\\nd"} 1',
        "dkv_a 2",
        "# HELP dkv_b B\\\\C.",
        "# TYPE dkv_b counter",
        "dkv_b 0.5",
    ]


@scenario
async def test_a_manager_says_what_the_domain_and_it_itself_do(world: World) -> None:
    start, _ = await two_started(world)
    await world.submit(ProcessStarted(server_id="s1", start_id=start))
    await world.submit(ServerLost(server_id="s2", uid="uid-of-s2"))
    world.engine_looks["s1"] = [EngineLook(start, True, 100, 900)]
    read = await page(world, "/metrics")
    assert read['dkv_build_info{version="dkv",server="s1"}'] == "1"
    assert (read["dkv_domain_reachable"], read["dkv_domain_ticks"]) == ("1", "1")
    assert (read['dkv_server_up{server="s1"}'], read['dkv_server_up{server="s2"}']) == ("1", "0")
    group = 'store="OrdersStore",group="UNPARTITIONED"'
    assert read[f"dkv_group_copies{{{group}}}"] == "2"
    assert read[f"dkv_group_takes_writes{{{group}}}"] == "0"
    assert read[f'dkv_group_can_lose{{{group},promise="confirmed"}}'] == "0"
    archive = f'{group},archive="orders-1",server="s1"'
    assert read[f'dkv_instance_state{{{archive},state="Starting"}}'] == "1"
    assert (read[f"dkv_engine_fenced{{{archive}}}"], read[f"dkv_archive_bytes{{{archive}}}"]) == ("1", "100")
    assert read[f"dkv_archive_free_bytes{{{archive}}}"] == "900"
    assert any(name.startswith('dkv_waiting{kind="server",subject="server s2"') for name in read)
    assert read['dkv_commands_total{command="ProcessStarted",result="accepted"}'] == "1"
    assert int(read["dkv_commit_duration_seconds_count"]) > 0
    assert int(read['dkv_http_requests_total{code="201"}']) == 1
    assert float(read["process_resident_memory_bytes"]) > 1e6


@scenario
async def test_ends_are_counted_by_their_cause(world: World) -> None:
    start, _ = await two_started(world)
    await world.submit(ProcessStarted(server_id="s1", start_id=start))
    await world.submit(ProcessExited(server_id="s1", start_id=start, cause="killed by signal", detail="9", exit_code=137))
    assert (await page(world, "/metrics"))['dkv_process_ends_total{store="OrdersStore",cause="killed by signal"}'] == "1"


@scenario
async def test_without_the_domain_a_manager_says_so_and_nothing_of_it(world: World) -> None:
    await two_started(world)
    world.ready, world.away = "waiting for the domain", True
    read = await page(world, "/metrics")
    assert read["dkv_domain_reachable"] == "0"
    assert not [name for name in read if name.startswith(("dkv_group", "dkv_server", "dkv_store"))]
    assert "process_open_fds" in read


@scenario
async def test_an_engine_is_scraped_by_the_address_that_clients_use(world: World) -> None:
    start, _ = await two_started(world)
    world.statistics["s1"] = [EngineStatistics(start, "UNPARTITIONED", INFO)]
    read = await page(world, "/scrape?target=redis://127.0.0.11:7861")
    assert await page(world, "/scrape?target=127.0.0.11:7861/") | {"redis_exporter_last_scrape_duration_seconds": ""} == (
        read | {"redis_exporter_last_scrape_duration_seconds": ""}
    )
    assert (read["redis_up"], read["redis_exporter_last_scrape_error"]) == ("1", "0")
    (info,) = [name for name in read if name.startswith("redis_instance_info{")]
    assert 'role="master",redis_version="7.2.4",redis_mode="cluster"' in info
    assert read["redis_start_time_seconds"] == str(world.now // 1000 - 90)
    assert (read["redis_memory_max_bytes"], read["redis_config_maxmemory"]) == ("2097152", "2097152")
    assert (read["redis_config_maxclients"], read["redis_keyspace_hits_total"]) == ("10000", "12")
    assert (read["redis_aof_last_write_status"], read["redis_cluster_state"]) == ("0", "1")
    assert read["redis_latest_fork_seconds"] == "0.0015"
    replica = 'slave_ip="127.0.0.12",slave_port="7861",slave_state="online"'
    assert read[f"redis_connected_slave_offset_bytes{{{replica}}}"] == "980"
    command = 'cmd="config|get"'
    assert (read[f"redis_commands_total{{{command}}}"], read[f"redis_commands_duration_seconds_total{{{command}}}"]) == (
        "4",
        "2.0",
    )
    assert read[f'redis_latency_percentiles_usec{{{command},quantile="99.9"}}'] == "9.023"
    assert read['redis_errors_total{err="NOPERM"}'] == "5"
    assert (read['redis_db_keys{db="db0"}'], read['redis_db_avg_ttl_seconds{db="db0"}']) == ("7", "1.5")


def engines_page(first: Mapping[str, str], second: Mapping[str, str]) -> str:
    page = Page()
    write_engine(page, first, 'pod="orders-1"', 1_767_225_600)
    write_engine(page, second, 'pod="orders-2"', 1_767_225_600)
    return page.text()


def test_a_page_of_engines_is_as_it_always_was_whatever_was_written_before() -> None:
    always = (Path(__file__).parent / "engines_page.txt").read_text(encoding="utf-8")
    changed = {
        **{name: text for name, text in INFO.items() if name != "slave0"},
        "used_memory": "7",
        "maxmemory": "no number",
        "cmdstat_config|get": "calls=5,usec=3000000,usec_per_call=1.00,rejected_calls=0,failed_calls=0",
        "latency_percentiles_usec_config|get": "p50=2.003",
        "cmdstat_get": "calls=1,usec=1,usec_per_call=1.00,rejected_calls=0,failed_calls=0",
        "redis_version": "7.2.5",
    }
    assert engines_page(INFO, FOLLOWER) == always
    other = engines_page(changed, FOLLOWER).splitlines()
    assert 'redis_memory_used_bytes{pod="orders-1"} 7' in other and 'redis_commands_total{pod="orders-1",cmd="get"} 1' in other
    assert not [
        line
        for line in other
        if line.startswith(("redis_memory_max_bytes{", "redis_connected_slave", "redis_commands_failed_calls_total{"))
    ]
    assert [line for line in other if "quantile" in line] == [
        'redis_latency_percentiles_usec{pod="orders-1",cmd="config|get",quantile="50"} 2.003'
    ]
    assert any('redis_version="7.2.5"' in line for line in other)
    assert engines_page(INFO, FOLLOWER) == always


@scenario
async def test_of_an_engine_that_does_not_answer_only_that_is_said(world: World) -> None:
    await two_started(world)
    read = await page(world, "/scrape?target=127.0.0.11:7861")
    assert read["redis_up"] == "0"
    assert read['redis_exporter_last_scrape_error{err="the engine does not answer"}'] == "1"


@scenario
async def test_an_engine_of_another_server_or_of_nobody_is_refused_and_said_where_it_is(world: World) -> None:
    await two_started(world)
    async with world.at() as client:
        other = await client.get("/scrape?target=redis://127.0.0.12:7861")
        stranger = await client.get("/scrape?target=redis://192.0.2.1:6379")
    assert (other.status_code, other.json()["code"]) == (404, "unknown_target")
    assert other.json()["detail"] == "127.0.0.12:7861 is an engine of server s2."
    assert other.json()["hint"] == "Ask its manager at 127.0.0.12:7801."
    assert stranger.status_code == 404
    assert stranger.json()["detail"] == "No engine of this domain is reached at 192.0.2.1:6379."


@scenario
async def test_without_a_target_all_engines_of_the_server_are_on_one_page(world: World) -> None:
    _, other = await two_started(world)
    world.statistics["s2"] = [EngineStatistics(other, "UNPARTITIONED", FOLLOWER)]
    labelled = (
        'instance="127.0.0.12:7861",namespace="OrdersStore",pod="orders-2",store="OrdersStore",group="UNPARTITIONED",'
        'archive="orders-2",server="s2"'
    )
    read = await page(world, "/scrape", "s2")
    assert {name for name in read if name.startswith("redis_up")} == {f"redis_up{{{labelled}}}"}
    assert read[f'redis_master_link_up{{{labelled},master_host="127.0.0.11",master_port="7861"}}'] == "1"
    assert read[f'redis_master_last_io_seconds_ago{{{labelled},master_host="127.0.0.11",master_port="7861"}}'] == "0"


@scenario
async def test_engines_are_discovered_with_the_labels_that_dashboards_choose_by(world: World) -> None:
    await two_started(world)
    async with world.at() as client:
        own = (await client.get("/discover-cluster-nodes")).json()
        every = (await client.get("/discover-cluster-nodes?all=true")).json()
    assert own == [
        {
            "targets": ["redis://127.0.0.11:7861"],
            "labels": {
                "namespace": "OrdersStore",
                "pod": "orders-1",
                "store": "OrdersStore",
                "group": "UNPARTITIONED",
                "archive": "orders-1",
                "server": "s1",
                "__meta_dkv_manager": "127.0.0.11:7801",
            },
        }
    ]
    assert [entry["labels"]["server"] for entry in every] == ["s1", "s2"]
    assert every[1]["labels"]["__meta_dkv_manager"] == "127.0.0.12:7801"


@needs_promtool
@scenario
async def test_promtool_finds_nothing_wrong_with_a_managers_page_and_reads_an_engines(world: World) -> None:
    start, _ = await two_started(world)
    world.engine_looks["s1"] = [EngineLook(start, False, 100, 900)]
    world.statistics["s1"] = [EngineStatistics(start, "UNPARTITIONED", INFO)]
    async with world.at() as client:
        pages = [(await client.get(address)).text for address in ("/metrics", "/scrape")]
    assert promtool("check", "metrics", text=pages[0]) == (0, "")
    code, said = promtool("check", "metrics", text=pages[1])
    assert code in (0, 3), said  # the names are redis_exporter's, which break conventions
    assert not re.search(r"error", said), said
