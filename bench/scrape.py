"""Scrape: what it costs a manager to be scraped by Prometheus.

One manager with 20 engines (20 groups of one copy), each of which has run 22 kinds of commands. Measured: processor time of the
manager for its own page, for one page of all its engines, and for a page of each engine, over kept connections as Prometheus
has them; the rest of its work at the same time is measured before and taken off.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Sequence

import valkey
from valkey.crc import key_slot

from idle import cpu_seconds
from kit.record import Raw, Recorder, Table, of, progress
from kit.stage import Stage, arguments, staged
from kit.stats import verdict

STORE = "bench"
MOST = 10.0  # ms of processor time for a scrape of 20 engines
COMMANDS = (
    "SET {k} v; GET {k}; APPEND {k} w; STRLEN {k}; GETRANGE {k} 0 1; EXISTS {k}; TYPE {k}; TTL {k}; EXPIRE {k} 1000; PERSIST {k};"
    " DEL {k}; HSET {k} f v; HGET {k} f; HGETALL {k}; HLEN {k}; HDEL {k} f; RPUSH {k} a b; LRANGE {k} 0 -1; LPOP {k}; LLEN {k};"
    " PING; DBSIZE"
)


def main() -> None:
    """Measure, record, print."""
    wish = arguments(
        __doc__,
        engines=(20, 4, "engines of the one manager"),
        scrapes=(200, 5, "scrapes of each kind"),
        seconds=(20, 2, "idle before"),
    )
    recorder = Recorder("scrape", wish.quick, vars(wish))
    with staged(1, wish.engines, access_control="off") as stage:
        stage.make(STORE, "-InstanceCount", str(wish.engines), "-ReplicationFactor", "1")
        use(stage)
        time.sleep(wish.seconds)
        (pid, _), *_ = stage.domain.record.processes
        began, before = time.monotonic(), cpu_seconds(pid)
        time.sleep(wish.seconds)
        idle = (cpu_seconds(pid) - before) / (time.monotonic() - began)
        recorder.add("idle", percent=100 * idle)
        measure(stage, recorder, pid, idle, wish.scrapes)
    recorder.finish(tables)


def use(stage: Stage) -> None:
    """Run the commands on each engine, with a key of its own."""
    store = stage.store(STORE)
    slots = {group["name"]: group["slots"][0] for group in store["groups"]}
    for instance in store["instances"]:
        first, last = slots[instance["group"]]
        key = next(f"key{n}" for n in range(10_000_000) if first <= key_slot(f"key{n}".encode()) <= last)
        with valkey.Valkey(instance["host"], instance["clientPort"]) as client:
            for command in COMMANDS.split(";"):
                client.execute_command(*command.format(k=key).split())


def measure(stage: Stage, recorder: Recorder, pid: int, idle: float, scrapes: int) -> None:
    """Each kind of scrape, many times; what they answer is read whole."""
    host, _, port = stage.domain.managers[0].rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    targets = [found["targets"][0] for found in json.loads(fetched(connection, "/discover-cluster-nodes"))]
    kinds = {
        "/metrics": ["/metrics"],
        "/scrape": ["/scrape"],
        "/scrape?target= of each": [f"/scrape?target={target}" for target in targets],
    }
    for kind, addresses in kinds.items():
        sizes = [len(fetched(connection, address)) for address in addresses]
        began, before = time.monotonic(), cpu_seconds(pid)
        for _ in range(scrapes):
            for address in addresses:
                fetched(connection, address)
        took = time.monotonic() - began
        spent = cpu_seconds(pid) - before - idle * took
        recorder.add(
            "scrape", address=kind, scrapes=scrapes, requests=len(addresses), size=sum(sizes), cpu_ms=1000 * spent / scrapes,
            ms=1000 * took / scrapes,
        )  # fmt: skip
        progress(kind)
    connection.close()


def fetched(connection: http.client.HTTPConnection, address: str) -> bytes:
    """One page. Raises RuntimeError for anything else."""
    connection.request("GET", address)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{address}: {answer.status} {body[:200]!r}")
    return body


# Results -----------------------------------------------------------------------------------------------------------


def tables(raw: Sequence[Raw]) -> list[Table]:
    """One row a kind of scrape."""
    rows = []
    for line in of(raw, "scrape"):
        judged = f"{MOST:g} {verdict(line['cpu_ms'], MOST)}" if line["address"] == "/scrape" else ""
        share = f"{line['cpu_ms'] / 150:.2f}"  # of a core, in percent, at one scrape in 15 s
        rows.append(
            (
                str(line["address"]),
                str(line["requests"]),
                f"{line['size'] / 1000:.0f}",
                f"{line['cpu_ms']:.1f}",
                f"{line['ms']:.0f}",
                share,
                judged,
            )
        )
    header = ("scrape", "requests", "KB", "processor ms", "ms", "% of a core, every 15 s", "target ms")
    return [Table("A scrape of a manager with 20 engines", header, rows)] if rows else []


if __name__ == "__main__":
    main()
