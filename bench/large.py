"""Large groups: how long writes stop when the leader's engine is killed, with and without feeding its tail to a follower.

A store of one group and three copies holds more than the default threshold. Again and again the leader's engine is
killed under a plain writer, first with `tail_above_bytes` as it comes, then with -1: the dead leader is restarted and
has to load. The outage is the longest time without an answer around a kill. Every write promised is read back.
"""

from __future__ import annotations

import os
import random
import time
from argparse import Namespace
from collections.abc import Sequence

from kit.record import Raw, Recorder, Table, of, progress
from kit.resp import SLOTS, Line, tag_in
from kit.stage import PATIENT, Stage, arguments, leader_pid, staged, until
from kit.stats import percentile
from kit.writer import PLAIN
from kit.written import Writer

STORE = "bench"
SIDES = {"tail": "100000000", "restart": "-1"}
AFTER = 200  # answers awaited after a kill
BATCH, LENGTH = 2000, 100


def main() -> None:
    """Measure, record, print."""
    wish = arguments(
        __doc__,
        keys=(3_000_000, 20_000, "keys of 100 bytes in the store"),
        kills=(5, 1, "kills on each side"),
        rate=(1000, 1000, "writes a second"),
    )
    recorder = Recorder("large", wish.quick, vars(wish))
    for side, above in SIDES.items():
        with staged(3, 1, restart_budget="1000", tail_above_bytes="0" if wish.quick and side == "tail" else above) as stage:
            measure(stage, recorder, wish, side)
    recorder.finish(tables)


def measure(stage: Stage, recorder: Recorder, wish: Namespace, side: str) -> None:
    """Kill the leader and wait until all copies are in sync again, again and again."""
    store = stage.make(STORE, "-ReplicationFactor", "3")
    endpoints = [f"{i['host']}:{i['clientPort']}" for i in store["instances"]]
    fill(store["groups"][0]["leaderEndpoint"], wish.keys)
    with Writer(stage, PLAIN, tag=tag_in(0, SLOTS - 1), keys=20_000, rate=wish.rate, endpoints=endpoints) as writer:
        for number in range(wish.kills):
            writer.await_answers(AFTER, time.monotonic())
            time.sleep(random.uniform(0.2, 1.5))
            before = stage.whole(STORE)
            sequence = max(int(e["sequence"]) for e in stage.domain.ask(lambda client: client.events()))
            killed = stage.kill(leader_pid(before))
            until(lambda old=before: _elected(stage, old), PATIENT, "a leader", 0.05)
            members = len(stage.store(STORE)["groups"][0]["inSync"])
            writer.await_answers(AFTER, time.monotonic())
            after = stage.whole(STORE)
            over = time.monotonic()
            writer.await_answers(AFTER, over)
            recorder.add(
                "kill",
                side=side,
                number=number,
                outage_ms=writer.outage(killed, over),
                whole_ms=1000 * (over - killed),
                same=before["groups"][0]["leader"] == after["groups"][0]["leader"],
                kept=members,
                choices=choices(stage, sequence),
                **vars(writer.prove()),
            )
            progress(f"{side}: kill {number + 1} of {wish.kills}")
        writer.stop()
        recorder.add("proof", side=side, **vars(writer.prove_all()))


def fill(endpoint: str, keys: int) -> None:
    """Write all keys, with values that no compression makes small."""
    with Line(endpoint, 30) as line:
        for start in range(0, keys, BATCH):
            answers = line.ask_all([("SET", f"large:{n}", os.urandom(LENGTH // 2).hex()) for n in range(start, start + BATCH)])
            if any(answer != "OK" for answer in answers):
                raise RuntimeError("the keys could not be written")


def choices(stage: Stage, after: int) -> list[str]:
    """Why each leader was chosen, and what else happened to its group."""
    events = stage.domain.ask(lambda client: client.events(after=after))
    return [f"{e['at']} {e['kind']}: {e['because']}" for e in events if str(e["kind"]).startswith("group.")]


def _elected(stage: Stage, old: Raw) -> bool | None:
    group, was = stage.store(STORE)["groups"][0], old["groups"][0]
    return (group["term"] > was["term"] and group["serving"]) or None


def tables(raw: Sequence[Raw]) -> list[Table]:
    """Outages and losses of both sides."""
    rows = []
    for side in SIDES:
        kills = of(raw, "kill", side=side)
        if kills:
            outages, whole = [k["outage_ms"] for k in kills], [k["whole_ms"] for k in kills]
            lost = sum(k["lost_acknowledged"] for k in [*kills, *of(raw, "proof", side=side)])
            rows.append(
                (
                    side,
                    str(len(kills)),
                    f"{percentile(outages, 0.5):.0f}",
                    f"{max(outages):.0f}",
                    str(sum(not k["same"] for k in kills)),
                    f"{percentile(whole, 0.5):.0f}",
                    str(min(k["kept"] for k in kills)),
                    str(lost),
                )
            )
    header = ("side", "kills", "outage p50 ms", "max ms", "led by another", "whole again p50 ms", "fewest in S", "lost")
    return [Table("Outage of a large group around a SIGKILL of its leader", header, rows)]


if __name__ == "__main__":
    main()
