"""TLS: throughput of a store over TLS beside plain and beside Valkey with TLS started by hand; the outage of a kill in both.

One domain, one program (with TLS), on loopback. A store of one copy over TLS, one without, and a bare server with the settings of
the first one's engine take the same load in turns, so that all meet the same machine: redis-benchmark, SET and GET, 50
connections, 100 byte values, pipelines of 1 and 16. Then the leaders of two stores of two copies, one of each kind, are killed in
turns while a client of each writes: the outage is the longest time without an answer around a kill. What a new connection takes
is measured too.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import data
from dkv.client import Json
from kit.peer import Peer
from kit.record import Raw, Recorder, Table, of, progress
from kit.resp import SLOTS, Line, Refused, tag_in
from kit.stage import PATIENT, Stage, arguments, leader_pid, staged, until
from kit.stats import interval, middle, percentile, verdict

VARIABLE = "DKV_TEST_VALKEY_TLS"  # where the program is, as for tests
SIDES = ("tls", "plain", "bare tls")
LOADS = data.LOADS
TO_BARE = 0.95
TO_PLAIN = {"SET -P 1": 0.75, "GET -P 1": 0.65}
OUTAGE = 1.3  # of the median outage of plain
LEAF = ("tls-cert-file", "tls-key-file", "tls-ca-cert-file")


def main() -> None:
    """Measure, record, print."""
    wish = arguments(
        __doc__,
        rounds=(10, 2, "interleaved rounds of each load"),
        percent=(100, 5, "size of a round in percent"),
        kills=(20, 2, "kills of each store's leader"),
        connections=(300, 30, "new connections in a round"),
    )
    recorder = Recorder("tls", wish.quick, vars(wish))
    with staged(2, 2, restart_budget="1000", valkey_server=program()) as stage:
        measure_rates(stage, recorder, wish)
        measure_kills(stage, recorder, wish)
    recorder.finish(tables)


def program() -> str:
    """The server program with TLS. Raises RuntimeError where none is named."""
    named = os.environ.get(VARIABLE)
    if not named:
        raise RuntimeError(f"name a Valkey server that has TLS: {VARIABLE}=/path/to/valkey-server ./dev bench tls")
    return named


# Throughput ----------------------------------------------------------------------------------------------------------


def measure_rates(stage: Stage, recorder: Recorder, wish: Namespace) -> None:
    """All loads on the three sides, in turns."""
    ports = {"tls": 0, "plain": 10}
    stores = {side: made(stage, side, "1", ports[side]) for side in ports}
    authority = kept_authority(stage, stores["tls"])
    at = {
        side: (str(store["groups"][0]["leaderEndpoint"]), authority if side == "tls" else None) for side, store in stores.items()
    }
    with bare(stage) as endpoint:
        at["bare tls"] = (endpoint, directory_of(stage) / "authorities.pem")
        for number in range(-1, wish.rounds):  # the first warms up and fills the keys
            for load in LOADS:
                for side in SIDES if number % 2 else SIDES[::-1]:
                    rate = throughput(*at[side], load, wish.percent)
                    if number >= 0:
                        recorder.add("rate", load=load, side=side, number=number, per_second=rate)
            for side in SIDES[:2]:
                if number >= 0:
                    recorder.add("connect", side=side, number=number, ms=connect_ms(*at[side], wish.connections))
            progress(f"round {number + 1} of {wish.rounds}")
    for store in stores.values():
        stage.cmdlet("Stop-DkvStore", "-Name", str(store["name"]))


def made(stage: Stage, side: str, copies: str, shift: int) -> Json:
    """A store of that kind that runs, on ports of its own."""
    site = stage.domain.site
    words = ("-ReplicationFactor", copies, "-EngineTls", "on" if side == "tls" else "off")
    ports = ("-ClustronPort", str(site.cluster_port + shift), "-ClientPort", str(site.client_port + shift))
    name = f"{side}{copies}"
    targets = ("-Managers", stage.domain.managers[0]) if copies == "1" else ()
    stage.cmdlet("New-DkvStore", "-Name", name, "-InstancePrefix", name, *words, *ports, *targets)
    stage.cmdlet("Start-DkvStore", "-Name", name)
    return stage.whole(name)


def kept_authority(stage: Stage, store: Json) -> Path:
    """A file with what the store's clients believe."""
    path = stage.directory / f"{store['name']}-authorities.pem"
    path.write_text(str(store["transport"]["authorities"]), encoding="utf-8")
    return path


def directory_of(stage: Stage) -> Path:
    """The certificate files of the engine over TLS."""
    return next(stage.directory.glob("server-1/archives/tls1/*/tls/*"))


@contextmanager
def bare(stage: Stage) -> Iterator[str]:
    """A server started by hand with the settings of the engine over TLS; where it is."""
    conf = next(stage.directory.glob("server-1/archives/tls1/*/valkey.conf")).read_text(encoding="utf-8")
    own = directory_of(stage)
    managed = (*data.MANAGED, *LEAF, "tls-port", "cluster-announce-tls-port")
    lines = [line for line in conf.splitlines() if line.strip() and line.split()[0] not in managed]
    files = [f"tls-cert-file {own}/engine.pem", f"tls-key-file {own}/engine.key", f"tls-ca-cert-file {own}/authorities.pem"]
    with Peer(stage, "bare", 1, [*lines, *files], program(), tls=True) as peer:
        with Line(peer.nodes[0].plain) as line:
            line.ask("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
            until(lambda: b"cluster_state:ok" in line.ask("CLUSTER", "INFO") or None, PATIENT, "the bare server to serve", 0.05)
        yield peer.nodes[0].endpoint


def throughput(endpoint: str, authority: Path | None, load: str, percent: int) -> float:
    """Operations a second of one load on one side."""
    words = ["--tls", "--cacert", str(authority)] if authority else []
    return data.throughput(endpoint, load, percent, words)


def connect_ms(endpoint: str, authority: Path | None, count: int) -> float:
    """Milliseconds of a new connection with one PING, one after the other."""
    context = ssl.create_default_context(cafile=str(authority)) if authority else None
    began = time.monotonic()
    for _ in range(count):
        with Line(endpoint, context=context) as line:
            line.ask("PING")
    return 1000 * (time.monotonic() - began) / count


# Failover ------------------------------------------------------------------------------------------------------------


class Client:
    """Writes to whichever node takes it, and knows when it was answered. Use as a context."""

    def __init__(self, store: Json, authority: Path | None) -> None:
        self._endpoints = [f"{i['host']}:{i['clientPort']}" for i in store["instances"]]
        self._context = ssl.create_default_context(cafile=str(authority)) if authority else None
        self._key = tag_in(0, SLOTS - 1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answers: list[float] = []  # monotonic seconds

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)

    def _run(self) -> None:
        line: Line | None = None
        while not self._ended.is_set():
            try:
                line = line or Line(self._endpoints[0], 1.0, context=self._context)
                line.ask("SET", self._key, "x")
                self.answers.append(time.monotonic())
                time.sleep(0.002)
            except (OSError, Refused):
                if line:
                    line.close()
                line = None
                self._endpoints.append(self._endpoints.pop(0))
                time.sleep(0.002)

    def outage(self, since: float) -> float:
        """Milliseconds of the longest time without an answer from that moment on."""
        late = [at for at in self.answers if at > since - 0.05]
        return 1000 * max(after - before for before, after in pairwise(late))


def measure_kills(stage: Stage, recorder: Recorder, wish: Namespace) -> None:
    """Kill the leader of one store, then of the other, again and again."""
    stores = {"tls": made(stage, "tls", "2", 20), "plain": made(stage, "plain", "2", 30)}
    authority = kept_authority(stage, stores["tls"])
    with Client(stores["tls"], authority) as sealed, Client(stores["plain"], None) as open_client:
        clients = {"tls": sealed, "plain": open_client}
        for number in range(wish.kills):
            for side, client in clients.items():
                began = len(client.answers)
                until(lambda c=client, b=began: len(c.answers) > b + 50 or None, PATIENT, "answers", 0.05)
                before = stage.store(f"{side}2")
                killed = stage.kill(leader_pid(before))
                until(lambda old=before, name=f"{side}2": elected(stage, name, old), PATIENT, "a leader", 0.05)
                stage.whole(f"{side}2")
                seen = len(client.answers)
                until(lambda c=client, s=seen: len(c.answers) > s + 50 or None, PATIENT, "answers", 0.05)
                recorder.add("kill", side=side, number=number, ms=client.outage(killed))
            progress(f"kill {number + 1} of {wish.kills}")


def elected(stage: Stage, name: str, old: Json) -> bool | None:
    """True once a later term serves."""
    group, was = stage.store(name)["groups"][0], old["groups"][0]
    return (group["term"] > was["term"] and group["serving"]) or None


# Results -------------------------------------------------------------------------------------------------------------


def shares(raw: Sequence[Raw], load: str, side: str) -> list[float]:
    """The store over TLS to another side, round by round."""
    rates = {s: {r["number"]: r["per_second"] for r in of(raw, "rate", load=load, side=s)} for s in ("tls", side)}
    return [rates["tls"][n] / rates[side][n] for n in sorted(rates["tls"].keys() & rates[side].keys())]


def tables(raw: Sequence[Raw]) -> list[Table]:
    """Rates and ratios; connections; outages."""
    rows = []
    for load in LOADS:
        if not shares(raw, load, "plain"):
            continue
        rates = [f"{median(r['per_second'] for r in of(raw, 'rate', load=load, side=side)):,.0f}" for side in SIDES]
        bare_shares, plain_shares = shares(raw, load, "bare tls"), shares(raw, load, "plain")
        target = TO_PLAIN.get(load)
        judged = verdict(median(plain_shares), target, at_most=False) if target else ""
        to_bare = f"{middle(bare_shares)} {verdict(median(bare_shares), TO_BARE, at_most=False)}"
        rows.append((load, *rates, to_bare, middle(plain_shares), judged))
    header = ("load", "tls ops/s", "plain ops/s", "bare tls ops/s", f"to bare tls, target {TO_BARE}", "to plain", "target")
    return [Table("Throughput of a store over TLS", header, rows), connections(raw), outages(raw)]


def connections(raw: Sequence[Raw]) -> Table:
    """What a new connection takes."""
    times = {side: [r["ms"] for r in of(raw, "connect", side=side)] for side in SIDES[:2]}
    rows = [(side, f"{median(values):.2f}", middle(values)) for side, values in times.items() if values]
    return Table("A new connection with one PING, one after the other, ms", ("store", "median", "median [95 %]"), rows)


def outages(raw: Sequence[Raw]) -> Table:
    """Outages of both, and their ratio."""
    times = {side: [kill["ms"] for kill in of(raw, "kill", side=side)] for side in SIDES[:2]}
    rows = []
    for side, values in times.items():
        if values:
            low, high = interval(values)
            ratio = percentile(values, 0.5) / percentile(times["plain"], 0.5)
            judged = verdict(ratio, OUTAGE) if side == "tls" else ""
            rows.append(
                (side, str(len(values)), f"{percentile(values, 0.5):.0f} [{low:.0f}, {high:.0f}]", f"{ratio:.2f}", judged)
            )
    header = ("store", "kills", "p50 ms [95 %]", "to plain", f"target {OUTAGE}")
    return Table("Outage: time without an answer around a SIGKILL of the leader", header, rows)


if __name__ == "__main__":
    main()
