"""Data path: throughput of a store's leader beside Valkey started by hand with the same settings.

A is the leader of a store (1x1, then 1x2), B a server started by hand from the same binary: the engine's own config
file without what belongs to its management (access rules, admin socket, fence), all slots on it, as many replicas.
Both run all the time and take turns; the order changes with every round, and the ratio is taken within a round.
redis-benchmark: GET and SET, 50 connections, 100 byte values, 100,000 keys, pipelines of 1 and 16. The mix is 70 % GET
and 30 % SET from three client processes with 17 connections each.
"""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from kit import mixer, plot
from kit.peer import Peer
from kit.record import Raw, Recorder, Table, of, progress
from kit.stage import Stage, arguments, staged
from kit.stats import interval, middle, verdict

TARGET = 0.95
CONNECTIONS, VALUE, KEYS = 50, 100, 100_000
MIXERS, MIX_CONNECTIONS = 3, 17
LOADS = {  # name: (test, pipeline, requests in a round)
    "SET -P 1": ("set", 1, 60_000),
    "GET -P 1": ("get", 1, 100_000),
    "SET -P 16": ("set", 16, 300_000),
    "GET -P 16": ("get", 16, 600_000),
}
MIX = "70/30 mix"
MANAGED = (
    "bind",
    "port",
    "dir",
    "unixsocket",
    "unixsocketperm",
    "aclfile",
    "cluster-port",
    "cluster-announce-ip",
    "replica-announce-ip",
    "cluster-config-file",
    "cluster-enabled",
    "protected-mode",
    "min-replicas-to-write",
    "masteruser",
    "masterauth",
    "logfile",
    "cluster-announce-port",
    "cluster-node-timeout",
    "hash-seed",
)
SIDES = ("dkv", "bare")


def main() -> None:
    """Measure, record, print."""
    wish = arguments(__doc__, rounds=(15, 2, "interleaved rounds of each shape"), percent=(100, 5, "size of a round in percent"))
    recorder = Recorder("data", wish.quick, vars(wish))
    for copies in (1, 2):
        with staged(copies, 1) as stage:
            measure(stage, recorder, wish, copies)
    draw(recorder)
    recorder.finish(tables)


def measure(stage: Stage, recorder: Recorder, wish: Namespace, copies: int) -> None:
    """All loads on one shape."""
    store = stage.make("bench", "-ReplicationFactor", str(copies))
    with Peer(stage, "peer", copies, settings_of(stage)) as peer:
        peer.form_one_group()
        at = {"dkv": str(store["groups"][0]["leaderEndpoint"]), "bare": peer.endpoints[0]}
        for endpoint in at.values():
            mixer.fill(endpoint)
        for number in range(-1, wish.rounds):  # the first warms up and fills the keys
            for load in (*LOADS, MIX):
                for side in SIDES if number % 2 else SIDES[::-1]:
                    rate = throughput(at[side], load, wish.percent)
                    if number >= 0:
                        recorder.add("rate", shape=f"1x{copies}", load=load, side=side, number=number, per_second=rate)
                progress(f"1x{copies}: round {number + 1} of {wish.rounds}, {load}")
        if stage.store("bench")["groups"][0]["leaderEndpoint"] != at["dkv"]:
            raise RuntimeError("the store's leader changed while it was measured")


def settings_of(stage: Stage) -> list[str]:
    """The engine's own settings without what belongs to its management."""
    conf = next(stage.directory.glob("server-1/archives/*/*/valkey.conf"))
    lines = conf.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and line.split()[0] not in MANAGED]


def throughput(endpoint: str, load: str, percent: int, more: Sequence[str] = ()) -> float:
    """Operations a second of one load on one side. `more` are further words for redis-benchmark."""
    if load == MIX:
        return mix(endpoint, 1.5 * percent / 100)
    test, pipeline, count = LOADS[load]
    host, _, port = endpoint.rpartition(":")
    command = [
        "redis-benchmark",
        "-h",
        host,
        "-p",
        port,
        "-t",
        test,
        "-P",
        str(pipeline),
        "-n",
        str(count * percent // 100),
        "-c",
        str(CONNECTIONS),
        "-d",
        str(VALUE),
        "-r",
        str(KEYS),
        "--csv",
        *more,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or "error" in done.stderr.lower() or not done.stdout.strip():
        raise RuntimeError(f"redis-benchmark failed: {done.stdout}{done.stderr}")
    return float(done.stdout.splitlines()[-1].split(",")[1].strip('"'))


def mix(endpoint: str, seconds: float) -> float:
    """Operations a second of all client processes together."""
    command = [sys.executable, str(Path(mixer.__file__)), endpoint, str(MIX_CONNECTIONS), str(seconds)]
    clients = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(MIXERS)]
    try:
        for client in clients:
            assert client.stdout and client.stdout.readline() == "ready\n"
        for client in clients:
            assert client.stdin
            client.stdin.write("go\n")
            client.stdin.flush()
        answers = [client.communicate()[0].split() for client in clients]
    finally:
        for client in clients:
            client.kill()
            client.wait()
    return sum(int(done) / float(took) for done, took in answers)


# Results -----------------------------------------------------------------------------------------------------------


def ratios(raw: Sequence[Raw], shape: str, load: str) -> list[float]:
    """dkv to bare, round by round."""
    rates = {side: {r["number"]: r["per_second"] for r in of(raw, "rate", shape=shape, load=load, side=side)} for side in SIDES}
    return [rates["dkv"][n] / rates["bare"][n] for n in sorted(rates["dkv"].keys() & rates["bare"].keys())]


def measured(raw: Sequence[Raw]) -> list[tuple[str, str]]:
    """(shape, load) of everything there is."""
    return [(s, load) for s in ("1x1", "1x2") for load in (*LOADS, MIX) if ratios(raw, s, load)]


def tables(raw: Sequence[Raw]) -> list[Table]:
    """Rates, ratios, intervals."""
    rows = []
    for shape, load in measured(raw):
        shares = ratios(raw, shape, load)
        rates = [median(r["per_second"] for r in of(raw, "rate", shape=shape, load=load, side=side)) for side in SIDES]
        low, high = interval(shares)
        open_still = low < TARGET <= median(shares) or median(shares) < TARGET <= high
        judged = verdict(median(shares), TARGET, at_most=False) + (", the interval spans it" if open_still else "")
        rows.append((shape, load, str(len(shares)), f"{rates[0]:,.0f}", f"{rates[1]:,.0f}", middle(shares), judged))
    header = ("shape", "load", "rounds", "dkv ops/s", "bare ops/s", "ratio, median [95 %]", f"target {TARGET}")
    return [Table("Throughput of a store's leader to Valkey started by hand with the same settings", header, rows)]


def draw(recorder: Recorder) -> None:
    """The ratios."""
    raw = recorder.raw()
    series = {f"{shape} {load}": ratios(raw, shape, load) for shape, load in measured(raw)}
    plot.ratios(recorder.path.with_suffix(".svg"), "Throughput to Valkey started by hand", series, TARGET)


if __name__ == "__main__":
    main()
