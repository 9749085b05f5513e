"""Failover: how long writes stop when the leader's engine is killed, and what is lost, beside a stock Valkey cluster.

A store of one group and two copies on two managers takes a plain and a confirmed writer, and an ordinary application that
keeps its one client of a library with its defaults: what it sees is what a user sees. Again and again the leader's
engine is killed with SIGKILL at a random moment; the next kill waits until the group is whole. The outage is the
longest time without an answer around a kill. Then every write promised since the last proof is read back.

The peer runs in the same program, from the same binary, with the same plain writer on keys of one of its three
primaries: three primaries and three replicas made by redis-cli, append-only files fsynced always, everything else as
it comes, with the default node timeout and with 0.5 s. Its replicas fail over by themselves.
"""

from __future__ import annotations

import itertools
import random
import time
from argparse import Namespace
from collections.abc import Sequence

from kit import plot
from kit.peer import DURABLE, Peer
from kit.record import Raw, Recorder, Table, of, progress
from kit.resp import SLOTS, slot_of, tag_in
from kit.stage import PATIENT, Stage, arguments, leader_pid, staged, until
from kit.stats import interval, percentile, verdict
from kit.writer import CONFIRMED, LIBRARY, PLAIN, SURE
from kit.written import Writer

STORE = "bench"
P50, P99 = 300.0, 800.0  # ms, the targets
SETTLE = (0.2, 1.5)  # s between a whole group and the next kill
AFTER = 200  # answers awaited after a kill before the proof
AFTER_USERS, LIBRARY_RATE = 20, 200  # the same of the application with a library, and its writes a second
TIMEOUTS = {"valkey 0.5 s": 500, "valkey default": 15000}


def main() -> None:
    """Measure, record, print."""
    wish = arguments(
        __doc__,
        kills=(100, 5, "kills of the store's leader"),
        peer_kills=(20, 2, "kills of the peer, node timeout 0.5 s"),
        default_kills=(5, 1, "kills of the peer, default node timeout"),
        keys=(20000, 20000, "keys of each writer"),
        rate=(1000, 1000, "writes a second of each writer"),
    )
    recorder = Recorder("failover", wish.quick, vars(wish))
    # The budget of early restarts guards against engines that die again and again; here that is what we do to them.
    with staged(2, 1, restart_budget="1000") as stage:
        measure_store(stage, recorder, wish)
        for side, timeout in TIMEOUTS.items():
            kills = wish.peer_kills if timeout == 500 else wish.default_kills
            if kills:
                try:
                    measure_peer(stage, recorder, wish, side, (timeout, kills))
                except RuntimeError as never:  # a peer that does not come back must not take the other numbers with it
                    recorder.add("gave_up", side=side, why=str(never))
    draw(recorder)
    recorder.finish(tables)


def measure_store(stage: Stage, recorder: Recorder, wish: Namespace) -> None:
    """Kill the store's leader and prove, again and again."""
    store = stage.make(STORE)
    endpoints = [f"{i['host']}:{i['clientPort']}" for i in store["instances"]]
    tag = tag_in(0, SLOTS - 1)
    common = {"tag": tag, "keys": wish.keys, "rate": wish.rate, "endpoints": endpoints}
    more = [STORE, ",".join(stage.domain.managers)]
    with (
        Writer(stage, PLAIN, **common) as plain,
        Writer(stage, CONFIRMED, **common, more=more) as confirmed,
        Writer(stage, LIBRARY, **{**common, "rate": min(wish.rate, LIBRARY_RATE)}) as user,
    ):
        for number in range(wish.kills):
            began = time.monotonic()
            plain.await_answers(AFTER, began)
            confirmed.await_answers(AFTER, began, SURE)
            user.await_answers(AFTER_USERS, began)
            time.sleep(random.uniform(*SETTLE))
            before = stage.store(STORE)
            killed = stage.kill(leader_pid(before))
            until(lambda old=before: _elected(stage, old), PATIENT, "a leader", 0.1)
            after = stage.whole(STORE)
            over = time.monotonic()
            plain.await_answers(AFTER, over)
            confirmed.await_answers(AFTER, over, SURE)
            user.await_answers(AFTER_USERS, over)
            recorder.add(
                "kill",
                side="dkv",
                number=number,
                whole_ms=1000 * (over - killed),
                same=before["groups"][0]["leader"] == after["groups"][0]["leader"],
                plain_ms=plain.outage(killed, over),
                confirmed_ms=confirmed.outage(killed, over, SURE),
                library_ms=user.outage(killed, over),
            )
            prove(recorder, "dkv", [plain, confirmed, user])
            progress(f"kill {number + 1} of {wish.kills}")
        for writer in (plain, confirmed, user):
            writer.stop()
        prove(recorder, "dkv", [plain, confirmed, user], at_end=True)


def _elected(stage: Stage, old: Raw) -> bool | None:
    group, was = stage.store(STORE)["groups"][0], old["groups"][0]
    return (group["term"] > was["term"] and group["serving"]) or None


def prove(recorder: Recorder, side: str, writers: Sequence[Writer], at_end: bool = False) -> None:
    """Read back and record what it showed; at the end every key there is."""
    for writer in writers:
        proof = writer.prove_all() if at_end else writer.prove()
        recorder.add("proof", side=side, writer=writer.kind, at_end=at_end, **vars(proof))


def measure_peer(stage: Stage, recorder: Recorder, wish: Namespace, side: str, how: tuple[int, int]) -> None:
    """The same with a stock cluster; the killed server is started again as a supervisor would."""
    timeout, kills = how
    settings = [*DURABLE, f"cluster-node-timeout {timeout}"]
    with Peer(stage, f"peer-{timeout}", 6, settings) as peer:
        peer.create_by_redis_cli()
        until(peer.linked, PATIENT, "the peer to be whole", 0.1)
        tag = tag_in(0, 100)
        with Writer(stage, PLAIN, tag=tag, keys=wish.keys, rate=wish.rate, endpoints=peer.endpoints) as writer:
            for number in range(kills):
                writer.await_answers(AFTER, time.monotonic())
                time.sleep(random.uniform(*SETTLE))
                primary = until(lambda: peer.primary_of(slot_of(tag)), PATIENT, "the peer's primary", 0.05)
                killed = primary.kill()
                writer.await_answers(AFTER, killed + 0.05)
                primary.start()
                until(primary.answers, PATIENT, "the killed server to answer", 0.02)
                until(peer.linked, PATIENT, "the peer to be whole", 0.1)
                over = time.monotonic()
                writer.await_answers(AFTER, over)
                recorder.add(
                    "kill", side=side, number=number, whole_ms=1000 * (over - killed), plain_ms=writer.outage(killed, over)
                )
                prove(recorder, side, [writer])
                progress(f"{side}: kill {number + 1} of {kills}")
            writer.stop()
            prove(recorder, side, [writer], at_end=True)


# Results -----------------------------------------------------------------------------------------------------------


def sides(raw: Sequence[Raw]) -> list[tuple[str, str, list[float]]]:
    """(side, writer, outages in ms) of everything that was measured."""
    kills = of(raw, "kill", side="dkv")
    outages = [
        ("dkv", writer, [k[f"{writer}_ms"] for k in kills if f"{writer}_ms" in k]) for writer in (PLAIN, CONFIRMED, LIBRARY)
    ]
    outages += [(side, PLAIN, [k["plain_ms"] for k in of(raw, "kill", side=side)]) for side in TIMEOUTS]
    return [outage for outage in outages if outage[2]]


def tables(raw: Sequence[Raw]) -> list[Table]:
    """Outages, and losses."""
    rows = []
    measured = sides(raw)
    if not measured:
        return []
    base = percentile(measured[0][2], 0.5)
    for side, writer, times in measured:
        p50, p99, (low, high) = percentile(times, 0.5), percentile(times, 0.99), interval(times)
        judged = f"p50 {verdict(p50, P50)}, p99 {verdict(p99, P99)}" if (side, writer) == ("dkv", PLAIN) else ""
        rows.append(
            (
                side,
                writer,
                str(len(times)),
                f"{p50:.0f} [{low:.0f}, {high:.0f}]",
                f"{p99:.0f}",
                f"{max(times):.0f}",
                f"{p50 / base:.1f}",
                judged,
            )
        )
    rows += [(gone["side"], PLAIN, "gave up", gone["why"], "", "", "", "") for gone in of(raw, "gave_up")]
    header = ("side", "writer", "kills", "p50 ms [95 %]", "p99 ms", "max ms", "ratio of p50", f"target {P50:.0f}, {P99:.0f} ms")
    return [Table("Outage: time without an answer around a SIGKILL of the leader", header, rows), growth(raw), losses(raw)]


def growth(raw: Sequence[Raw]) -> Table:
    """The median outage in each quarter of the kills: an outage that grows with their number shows here."""
    kills = of(raw, "kill", side="dkv")
    bounds = [len(kills) * quarter // 4 for quarter in range(5)]
    rows = []
    for begin, end in itertools.pairwise(bounds):
        if begin < end:
            medians = [
                f"{percentile([kill[f'{w}_ms'] for kill in kills[begin:end]], 0.5):.0f}" for w in (PLAIN, CONFIRMED, LIBRARY)
            ]
            rows.append((f"{begin + 1} to {end}", *medians))
    return Table("Outage by the number of kills, dkv, p50 in ms", ("kills", PLAIN, CONFIRMED, LIBRARY), rows)


def losses(raw: Sequence[Raw]) -> Table:
    """What reading back showed."""
    rows = []
    for side, writer, _ in sides(raw):
        proofs = of(raw, "proof", side=side, writer=writer)
        rounds = [p for p in proofs if not p["at_end"]]
        total = {name: sum(p[name] for p in rounds) for name in ("acknowledged", "confirmed", "overwritten")}
        lost = {name: sum(p[name] for p in proofs) for name in ("lost_acknowledged", "lost_confirmed")}
        rows.append(
            (
                side,
                writer,
                str(total["acknowledged"]),
                str(lost["lost_acknowledged"]),
                str(total["confirmed"]),
                str(lost["lost_confirmed"]),
                str(total["overwritten"]),
            )
        )
    header = ("side", "writer", "acknowledged", "lost", "confirmed", "lost", "not proven (key used again)")
    return Table("Writes read back after every kill, and all keys again at the end", header, rows)


def draw(recorder: Recorder) -> None:
    """The distribution of outages."""
    series = {f"{side}, {writer}": times for side, writer, times in sides(recorder.raw())}
    plot.distributions(recorder.path.with_suffix(".svg"), "Outage around a SIGKILL of the leader", series, P50)


if __name__ == "__main__":
    main()
