"""Create: how long from nothing to a store that takes writes, beside redis-cli making a cluster of bare servers.

The store: New-DkvStore and Start-DkvStore, two processes of the command line one after the other, three groups of two
copies on two managers that run already. The peer: six valkey-server processes, started all at once, then
`redis-cli --cluster create` with one replica each. The clock starts before the first process and stops when every
group took a write, and when every copy is in sync (the peer: every replica's link is up). Rounds alternate.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from dkv.playground.domain import lacks
from kit import plot
from kit.peer import Peer
from kit.record import Raw, Recorder, Table, of, progress
from kit.resp import SLOTS, Line, Refused, tag_in
from kit.stage import DKV, PATIENT, Stage, arguments, staged, until
from kit.stats import interval, percentile, verdict

GROUPS = 3
TARGETS = {"first_ms": 1000.0, "whole_ms": 2500.0}  # p95
WORDS = {"first_ms": "first write in every group", "whole_ms": "all copies in sync"}
Group = tuple[str, list[str]]  # a hash tag, and who may lead it


def main() -> None:
    """Measure, record, print."""
    wish = arguments(__doc__, rounds=(20, 2, "rounds of each side"))
    recorder = Recorder("create", wish.quick, vars(wish))
    with staged(2, GROUPS) as stage:
        for number in range(wish.rounds):
            recorder.add("round", side="dkv", number=number, **make_store(stage, f"b{number}"))
            recorder.add("round", side="redis-cli", number=number, **make_cluster(stage, f"peer-{number}"))
            progress(f"round {number + 1} of {wish.rounds}")
    draw(recorder)
    recorder.finish(tables)


def make_store(stage: Stage, name: str) -> dict[str, float]:
    """One store from nothing, and away again."""
    shape = ["-InstanceCount", str(GROUPS), "-ReplicationFactor", "2", *stage.ports()]
    new = ["New-DkvStore", "-Name", name, "-InstancePrefix", name, *shape]
    created: list[float] = []

    def command() -> None:
        stage.cmdlet(*new)
        created.append(time.monotonic())
        stage.cmdlet("Start-DkvStore", "-Name", name)

    began = time.monotonic()
    thread = threading.Thread(target=command)
    thread.start()
    until(lambda: created or None, PATIENT, "New-DkvStore", 0.002)
    times = clocked(began, store_groups(stage.store(name)), lambda: not lacks(stage.store(name)) or None)
    thread.join()
    stage.cmdlet("Stop-DkvStore", "-Name", name)
    remove = [DKV, "Remove-DkvStore", "-Name", name]
    until(lambda: subprocess.run(remove, env=stage.environ, capture_output=True).returncode == 0 or None, PATIENT, "Remove", 0.2)
    return {"created_ms": 1000 * (created[0] - began), **times}


def store_groups(store: Raw) -> list[Group]:
    """Where a write of each group may go."""
    return [
        (
            tag_in(*group["slots"][0]),
            [f"{i['host']}:{i['clientPort']}" for i in store["instances"] if i["group"] == group["name"]],
        )
        for group in store["groups"]
    ]


def make_cluster(stage: Stage, name: str) -> dict[str, float]:
    """One cluster of bare servers from nothing, and away again."""
    peer = Peer(stage, name, 2 * GROUPS)
    began = time.monotonic()
    with peer:
        created = time.monotonic()
        thread = threading.Thread(target=peer.create_by_redis_cli)
        thread.start()
        # redis-cli gives the primaries to the first nodes, a third of the slots each.
        third = SLOTS // GROUPS
        groups = [(tag_in(i * third + 10, i * third + 1000), [node.endpoint]) for i, node in enumerate(peer.nodes[:GROUPS])]
        times = clocked(began, groups, lambda: _all_linked(peer))
        thread.join()
    return {"created_ms": 1000 * (created - began), **times}


def _all_linked(peer: Peer) -> bool | None:
    # A replica that was not told yet still looks like a primary: there have to be as many replicas as groups.
    return (peer.replicas() == GROUPS and peer.linked()) or None


def clocked(began: float, groups: Sequence[Group], whole: Callable[[], bool | None]) -> dict[str, float]:
    """Milliseconds from `began` to a write in every group, and to a whole store."""
    any_at = first_at = 0.0
    left: Mapping[str, list[str]] = dict(groups)
    ends = time.monotonic() + PATIENT
    while left:
        left = {tag: at for tag, at in left.items() if not any(accepts(endpoint, tag) for endpoint in at)}
        first_at = time.monotonic()
        any_at = any_at or (first_at if len(left) < len(groups) else 0.0)
        if first_at > ends:
            raise RuntimeError(f"no write was taken within {PATIENT:g} s for {sorted(left)}")
        time.sleep(0.002)
    until(whole, PATIENT, "all copies in sync", 0.03)
    moments = {"any_ms": any_at, "first_ms": first_at, "whole_ms": time.monotonic()}
    return {name: 1000 * (at - began) for name, at in moments.items()}


def accepts(endpoint: str, tag: str) -> bool:
    """Whether a write is taken there now."""
    try:
        with Line(endpoint, 0.5) as line:
            return bool(line.ask("SET", f"{tag}:first", "1") == "OK")
    except (OSError, Refused):
        return False


# Results -----------------------------------------------------------------------------------------------------------


def tables(raw: Sequence[Raw]) -> list[Table]:
    """Both moments, both sides."""
    rows = []
    for what, words in WORDS.items():
        times = {side: [r[what] for r in of(raw, "round", side=side)] for side in ("dkv", "redis-cli")}
        if not all(times.values()):
            continue
        base = percentile(times["dkv"], 0.95)
        for side, values in times.items():
            p95, (low, high) = percentile(values, 0.95), interval(values)
            judged = f"{TARGETS[what]:.0f} ms {verdict(p95, TARGETS[what])}" if side == "dkv" else ""
            rows.append(
                (
                    words,
                    side,
                    str(len(values)),
                    f"{percentile(values, 0.5):.0f} [{low:.0f}, {high:.0f}]",
                    f"{p95:.0f}",
                    f"{p95 / base:.2f}",
                    judged,
                )
            )
    header = ("until", "side", "rounds", "p50 ms [95 %]", "p95 ms", "ratio of p95", "target p95")
    return [Table("From nothing to 3 groups of 2 copies", header, rows)]


def draw(recorder: Recorder) -> None:
    """The distributions."""
    raw = recorder.raw()
    series = {
        f"{side}: {WORDS[what]}": [r[what] for r in of(raw, "round", side=side)]
        for what in WORDS
        for side in ("dkv", "redis-cli")
    }
    plot.distributions(recorder.path.with_suffix(".svg"), "From nothing to 3 groups of 2 copies", series)


if __name__ == "__main__":
    main()
