"""Switchover: how long writes stop when leadership is handed over as planned, beside Valkey's own CLUSTER FAILOVER.

A store of one group and two copies on two managers takes a plain writer and one with the library's cluster client.
Again and again it is asked to hand its leadership over; the next time waits until the group is whole. The gap is the
longest time without an answer to the plain writer around a switchover. An error is an exception of the library after
its retries, or a plain write whose answer was lost. Every write acknowledged since the last proof is read back.

The peer runs in the same program, from the same binary, with the same writers: two servers started by hand, append-only
files fsynced always, CLUSTER FAILOVER at the replica.
"""

from __future__ import annotations

import random
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from kit import plot
from kit.peer import DURABLE, Node, Peer
from kit.record import Raw, Recorder, Table, of, progress
from kit.resp import SLOTS, Line, info, tag_in
from kit.stage import PATIENT, Stage, arguments, staged, until
from kit.stats import interval, percentile, verdict
from kit.writer import DOUBT, LIBRARY, PLAIN
from kit.written import Writer

STORE = "bench"
P99 = 200.0  # ms, the target
SETTLE = (0.2, 1.0)  # s between a whole group and the next switchover
AFTER = {PLAIN: 100, LIBRARY: 20}  # answers awaited after a switchover before the proof
DKV, PEER = "dkv", "CLUSTER FAILOVER"


def main() -> None:
    """Measure, record, print."""
    wish = arguments(
        __doc__,
        switchovers=(60, 3, "switchovers of the store"),
        peer_switchovers=(40, 3, "CLUSTER FAILOVERs of the peer"),
        keys=(20000, 20000, "keys of each writer"),
        rate=(1000, 1000, "writes a second of the plain writer"),
        library_rate=(100, 100, "writes a second of the library's client"),
    )
    recorder = Recorder("switchover", wish.quick, vars(wish))
    with staged(2, 1) as stage:
        measure_store(stage, recorder, wish)
        measure_peer(stage, recorder, wish)
    draw(recorder)
    recorder.finish(tables)


def measure_store(stage: Stage, recorder: Recorder, wish: Namespace) -> None:
    """Hand the store's leadership over and prove, again and again."""
    store = stage.make(STORE)
    endpoints = [f"{i['host']}:{i['clientPort']}" for i in store["instances"]]

    def hand_over() -> float:
        before = stage.store(STORE)["groups"][0]["leader"]
        began = time.monotonic()
        stage.domain.ask(lambda client: client.request("POST", f"/admin/v1/stores/{STORE}/switchover", {}))
        group = until(lambda: _settled(stage), PATIENT, "the switchover to end", 0.05)
        if group["leader"] == before:
            raise RuntimeError(f"{before} still leads: the switchover was given up (dkv show events tells why)")
        stage.whole(STORE)
        return began

    with writers(stage, wish, endpoints, tag_in(0, SLOTS // 2)) as both:
        measure(recorder, DKV, wish.switchovers, both, hand_over)


def _settled(stage: Stage) -> Raw | None:
    group: Raw = stage.store(STORE)["groups"][0]
    return None if group["switchover"] or group["handover"] or not group["serving"] else group


def measure_peer(stage: Stage, recorder: Recorder, wish: Namespace) -> None:
    """The same with two bare servers."""
    with Peer(stage, "peer", 2, DURABLE) as peer:
        peer.form_one_group()

        def hand_over() -> float:
            replica = next(node for node in peer.nodes if not _leads(node))
            began = time.monotonic()
            with Line(replica.endpoint) as line:
                line.ask("CLUSTER", "FAILOVER")
            until(lambda: _leads(replica) or None, PATIENT, "the replica to lead", 0.05)
            until(lambda: (peer.replicas() == 1 and peer.linked()) or None, PATIENT, "the peer to be whole", 0.1)
            return began

        with writers(stage, wish, peer.endpoints, tag_in(SLOTS // 2, SLOTS - 1)) as both:
            measure(recorder, PEER, wish.peer_switchovers, both, hand_over)


def _leads(node: Node) -> bool:
    return info(node.endpoint, "replication")["role"] == "master"


@contextmanager
def writers(stage: Stage, wish: Namespace, endpoints: Sequence[str], tag: str) -> Iterator[list[Writer]]:
    """The plain writer, and the library's."""
    with ExitStack() as stack:
        rates = {PLAIN: wish.rate, LIBRARY: wish.library_rate}
        yield [
            stack.enter_context(Writer(stage, kind, tag=tag, keys=wish.keys, rate=rate, endpoints=endpoints))
            for kind, rate in rates.items()
        ]


def measure(recorder: Recorder, side: str, count: int, both: Sequence[Writer], hand_over: Callable[[], float]) -> None:
    """Switch over, look at the gap, and prove."""
    for writer in both:
        writer.await_answers(AFTER[writer.kind], time.monotonic())
    for number in range(count):
        time.sleep(random.uniform(*SETTLE))
        began = hand_over()
        over = time.monotonic()
        for writer in both:
            writer.await_answers(AFTER[writer.kind], over)
        gaps = {f"{writer.kind}_ms": writer.outage(began, over) for writer in both}
        recorder.add("switchover", side=side, number=number, whole_ms=1000 * (over - began), **gaps)
        prove(recorder, side, both)
        progress(f"{side}: switchover {number + 1} of {count}")
    for writer in both:
        writer.stop()
    prove(recorder, side, both, at_end=True)


def prove(recorder: Recorder, side: str, both: Sequence[Writer], at_end: bool = False) -> None:
    """Read back and record what it showed, with the errors so far; at the end every key there is."""
    for writer in both:
        proof = writer.prove_all() if at_end else writer.prove()
        recorder.add("proof", side=side, writer=writer.kind, at_end=at_end, errors=writer.count(DOUBT), **vars(proof))


# Results -----------------------------------------------------------------------------------------------------------


def sides(raw: Sequence[Raw]) -> dict[str, list[float]]:
    """The plain writer's gaps in ms, of each side that was measured."""
    outages = {side: [r["plain_ms"] for r in of(raw, "switchover", side=side)] for side in (DKV, PEER)}
    return {side: gaps for side, gaps in outages.items() if gaps}


def tables(raw: Sequence[Raw]) -> list[Table]:
    """Gaps, and what was read back."""
    measured = sides(raw)
    if DKV not in measured:
        return []
    rows = []
    base = {share: percentile(measured[DKV], share) for share in (0.5, 0.99)}
    for side, gaps in measured.items():
        p50, p99, (low, high) = percentile(gaps, 0.5), percentile(gaps, 0.99), interval(gaps)
        judged = f"{P99:.0f} ms {verdict(p99, P99)}" if side == DKV else ""
        rows.append(
            (
                side,
                str(len(gaps)),
                f"{p50:.0f} [{low:.0f}, {high:.0f}]",
                f"{p99:.0f}",
                f"{max(gaps):.0f}",
                f"{p50 / base[0.5]:.2f}",
                f"{p99 / base[0.99]:.2f}",
                judged,
            )
        )
    header = ("side", "switchovers", "p50 ms [95 %]", "p99 ms", "max ms", "ratio of p50", "ratio of p99", "target p99")
    return [Table("Gap: longest time without an answer around a planned switchover", header, rows), losses(raw)]


def losses(raw: Sequence[Raw]) -> Table:
    """What reading back showed, and what clients saw."""
    rows = []
    for side in sides(raw):
        for kind in (PLAIN, LIBRARY):
            proofs = of(raw, "proof", side=side, writer=kind)
            acknowledged = sum(p["acknowledged"] for p in proofs if not p["at_end"])
            lost, overwritten = sum(p["lost_acknowledged"] for p in proofs), sum(p["overwritten"] for p in proofs)
            errors = max((p["errors"] for p in proofs), default=0)
            judged = f"0 and 0 {verdict(lost + errors, 0)}" if side == DKV else ""
            rows.append((side, kind, str(acknowledged), str(lost), str(errors), str(overwritten), judged))
    header = ("side", "writer", "acknowledged", "lost", "errors", "not proven (key used again)", "target lost and errors")
    return Table("Writes read back after every switchover, and all keys again at the end", header, rows)


def draw(recorder: Recorder) -> None:
    """The distribution of gaps."""
    plot.distributions(recorder.path.with_suffix(".svg"), "Gap around a planned switchover", sides(recorder.raw()), P99)


if __name__ == "__main__":
    main()
