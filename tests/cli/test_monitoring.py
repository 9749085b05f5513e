"""The rules and the dashboard that come with dkv: they name only metrics that there are, and each rule fires when it should."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from dkv.api import domain_metrics, engine_metrics
from dkv.api.exposition import Metric
from dkv.cli.nouns import monitoring
from tests.cli.dialect import Dialect
from tests.promtool import needs_promtool, promtool

FILES = Path(monitoring.FILES)
RULES = FILES / "alerts.yml"
NAME = re.compile(r"\b(?:dkv|redis|process)_[a-z_]+")
G, S, A = '{store="s",group="g"}', '{store="s"}', '{store="s",group="g",archive="s-1",server="m"}'
RUNS = {f"dkv_store_started{S}": "1+0x4400"}


def written() -> Iterator[Metric]:
    """Every metric that a manager writes."""
    for module in (domain_metrics, engine_metrics):
        for value in vars(module).values():
            if isinstance(value, Metric):
                yield value
            if isinstance(value, Mapping):
                for metrics in value.values():
                    yield from metrics if isinstance(metrics, tuple) else [metrics] if isinstance(metrics, Metric) else []


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def expressions(part: Any) -> Iterator[str]:
    """The expressions of a dashboard."""
    for name, inside in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        if name in ("expr", "definition"):
            yield inside
        else:
            yield from expressions(inside)


def test_rules_and_dashboard_name_only_metrics_that_there_are() -> None:
    known = {metric.name for metric in written()}
    known |= {f"{metric.name}_{part}" for metric in written() for part in ("bucket", "sum", "count")}
    texts = [str(rule["expr"]) for rule in rules()]
    texts += expressions(json.loads((FILES / "dashboard.json").read_text(encoding="utf-8")))
    named = {name for text in texts for name in NAME.findall(text)}
    assert len(named) > 30
    assert named <= known, named - known


PUBLIC = """
    redis_up redis_uptime_in_seconds redis_connected_clients redis_blocked_clients redis_memory_used_bytes redis_memory_max_bytes
    redis_commands_total redis_commands_duration_seconds_total redis_keyspace_hits_total redis_keyspace_misses_total
    redis_net_input_bytes_total redis_net_output_bytes_total redis_db_keys redis_db_keys_expiring redis_expired_keys_total
    redis_evicted_keys_total redis_connected_slaves redis_instance_info redis_mem_fragmentation_ratio redis_memory_used_rss_bytes
    redis_rdb_last_save_timestamp_seconds redis_rejected_connections_total redis_connections_received_total
    redis_commands_processed_total redis_master_last_io_seconds_ago redis_config_maxclients redis_total_system_memory_bytes
    redis_cluster_state redis_cluster_slots_fail redis_cluster_slots_pfail redis_master_link_up
""".split()
"""What the dashboards 763, 11835 and 16056 of grafana.com and the rules for Redis that are widely used ask for."""


def test_what_public_dashboards_and_rules_ask_for_is_written() -> None:
    assert set(PUBLIC) <= {metric.name for metric in written()}


def test_every_rule_says_what_is_the_case_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]


@pytest.mark.parametrize(("verb", "file"), [("alerts", "alerts.yml"), ("dashboard", "dashboard.json")])
def test_both_are_printed_as_they_are(tmp_path: Path, verb: str, file: str) -> None:
    shown = Dialect().runs(tmp_path, f"show {verb}")
    assert (shown.code, shown.out) == (0, (FILES / file).read_text(encoding="utf-8"))


# What fires ----------------------------------------------------------------------------------------------------------

HEALTHY = {
    **RUNS,
    'dkv_store_started{store="stopped"}': "0+0x4400",
    'dkv_store_started{store="lone"}': "1+0x4400",
    **{
        f'{metric}{{store="s",group="g{number}"{more}}}': f"{value}+0x4400"
        for number in range(3)
        for metric, more, value in (
            ("dkv_group_takes_writes", "", 1),
            ("dkv_group_can_lose", ',promise="confirmed"', 1),
            ("dkv_group_copies", "", 2),
            ("dkv_group_in_sync", "", 2),
            ("dkv_group_term", "", 7),
            ("redis_instance_info", ',role="master",archive="a",job="one"', 1),
            ("redis_instance_info", ',role="master",archive="a",job="another"', 1),
            ("redis_instance_info", ',role="slave",archive="b"', 1),
            ("redis_connected_slaves", ',instance="1"', 1),
        )
    },
    'dkv_group_takes_writes{store="stopped",group="g"}': "0+0x4400",
    'dkv_group_can_lose{store="stopped",group="g",promise="confirmed"}': "0+0x4400",
    'dkv_group_copies{store="stopped",group="g"}': "2+0x4400",
    'dkv_group_in_sync{store="stopped",group="g"}': "1+0x4400",
    'dkv_group_can_lose{store="lone",group="g",promise="confirmed"}': "0+0x4400",
    'dkv_group_copies{store="lone",group="g"}': "1+0x4400",
    'dkv_instance_state{store="s",group="g0",archive="a",server="m",state="Running"}': "1+0x4400",
    'dkv_server_up{server="m",instance="cut off"}': "0+0x4400",
    'dkv_server_up{server="m",instance="another"}': "1+0x4400",
    "dkv_domain_reachable": "1+0x4400",
    'up{job="dkv"}': "1+0x4400",
    'dkv_process_ends_total{store="s",cause="operator kill"}': "0+1x4400",
    'dkv_archive_free_bytes{archive="a"}': "50000000000+0x4400",
    "redis_memory_max_bytes": "0+0x4400",
    "redis_memory_used_bytes": "1000+0x4400",
    "redis_up": "1+0x4400",
    "redis_connected_clients": "2+0x4400",
    "redis_max_clients": "10000+0x4400",
    "redis_aof_last_write_status": "1+0x4400",
}
"""A store of three groups of two copies, one that an operator stopped, and one that has a single copy, for three days."""

FIRES: list[tuple[str, str, Mapping[str, str]]] = [
    ("DkvGroupNotServing", "5m", {**RUNS, f"dkv_group_takes_writes{G}": "0+0x10"}),
    (
        "DkvMoreThanOneLeader",
        "5m",
        {f'redis_instance_info{{store="s",group="g",role="master",archive="{n}"}}': "1+0x10" for n in "ab"},
    ),
    ("DkvManagerDown", "5m", {'up{job="dkv",instance="m"}': "0+0x10"}),
    ("DkvServerAway", "5m", {f'dkv_server_up{{server="m",instance="{n}"}}': "0+0x10" for n in "ab"}),
    ("DkvDomainUnreachable", "5m", {"dkv_domain_reachable": "0+0x10"}),
    (
        "DkvCannotLoseAServer",
        "10m",
        {**RUNS, 'dkv_group_can_lose{store="s",group="g",promise="confirmed"}': "0+0x20", f"dkv_group_copies{G}": "2+0x20"},
    ),
    ("DkvCopyNotInSync", "10m", {**RUNS, f"dkv_group_in_sync{G}": "1+0x20", f"dkv_group_copies{G}": "2+0x20"}),
    ("DkvInstanceFailed", "5m", {'dkv_instance_state{store="s",group="g",archive="a",server="m",state="Failed"}': "1+0x10"}),
    ("DkvProcessEnds", "12m", {'dkv_process_ends_total{store="s",cause="killed by signal"}': "0+1x20"}),
    ("DkvLeaderChanges", "16m", {f"dkv_group_term{G}": "1+1x20"}),
    ("DkvWaitsLong", "15m", {'dkv_waiting_since_timestamp_seconds{kind="process",subject="process 3",store="s"}': "60+0x20"}),
    (
        "DkvCommitsSlow",
        "15m",
        {
            'dkv_commit_duration_seconds_bucket{instance="m",le="0.5"}': "0+0x20",
            'dkv_commit_duration_seconds_bucket{instance="m",le="1.0"}': "0+60x20",
            'dkv_commit_duration_seconds_bucket{instance="m",le="+Inf"}': "0+60x20",
        },
    ),
    ("DkvHotCopyOld", "49h", {f"dkv_hotcopy_last_success_timestamp_seconds{S}": "0+0x3000"}),
    ("DkvCertificateEnds", "30m", {'dkv_server_certificate_end_timestamp_seconds{server="m"}': "864000+0x40"}),
    ("DkvEngineDown", "5m", {'redis_up{instance="e"}': "0+0x10"}),
    (
        "DkvLagGrows",
        "10m",
        {
            f"redis_master_repl_offset{A}": "100000000+0x20",
            'redis_connected_slave_offset_bytes{store="s",group="g",archive="s-1",slave_ip="h",slave_port="1"}': "0+0x20",
        },
    ),
    ("DkvDiskFillsUp", "5h", {f"dkv_archive_free_bytes{A}": "40000000000-100000000x320"}),
    ("DkvDiskFull", "5m", {f"dkv_archive_free_bytes{A}": "500000000+0x10"}),
    ("DkvMemoryHigh", "10m", {f"redis_memory_used_bytes{A}": "95+0x20", f"redis_memory_max_bytes{A}": "100+0x20"}),
    ("DkvConnectionsHigh", "5m", {f"redis_connected_clients{A}": "9500+0x10", f"redis_max_clients{A}": "10000+0x10"}),
    ("DkvAofWriteFailed", "5m", {f"redis_aof_last_write_status{A}": "0+0x10"}),
    ("DkvFsyncSlow", "6m", {f"redis_aof_delayed_fsync{A}": "0+10x10"}),
]


def test_every_rule_has_a_case_in_which_it_fires() -> None:
    assert [alert for alert, _, _ in FIRES] == list(dict.fromkeys(rule["alert"] for rule in rules()))


def case(series: Mapping[str, str], at: str, *alerts: str) -> dict[str, Any]:
    """One test of promtool: of these series these alerts, and no other, fire at that time."""
    samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts]
    expr = 'group by (alertname) (ALERTS{alertstate="firing"})'
    return {
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": expr, "eval_time": at, "exp_samples": samples}],
    }


@needs_promtool
def test_each_rule_fires_when_it_should_and_none_of_a_healthy_store_for_three_days(tmp_path: Path) -> None:
    code, said = promtool("check", "rules", str(RULES))
    assert code == 0, said
    firing = [(at, case(series, at, alert)) for alert, at, series in FIRES]
    lasting = [("72h", case(HEALTHY, "72h")), *(item for item in firing if item[0].endswith("h"))]
    soon = [("10m", case(HEALTHY, "10m")), *(item for item in firing if item not in lasting)]
    for every, cases in (("30s", soon), ("10m", lasting)):
        file = tmp_path / f"{every}.yml"
        tests = [test | {"interval": "1m"} for _, test in cases]
        file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": every, "tests": tests}), encoding="utf-8")
        code, said = promtool("test", "rules", str(file))
        assert code == 0, said
