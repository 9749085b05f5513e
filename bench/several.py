"""Several: what the loss of a whole host and the state on etcd cost, beside stock Valkey and stock etcd on the same hosts.

Three hosts with addresses of their own (network namespaces), and a fourth for the clients. A store of one group with a copy on
each takes a plain writer whose sockets wait 0.5 s, as operations.md tells clients, and a confirmed writer. Again and again the
host of its leader is lost, in turns by power (everything on it is killed, its cable is out) and by its cable alone; it comes
back, the store is whole again, and what was promised is read. The peer is a stock cluster of three primaries and three replicas
on the same hosts, with append-only files fsynced always, node timeout 5 s and as it comes. Its replicas fail over by themselves.

Then: the leader's engine killed while the host lives, with the state on etcd and in one SQLite file; a host that joins; confirmed
writes on two copies beside puts of stock etcd on three hosts; domain commits; an idle manager with a member; and ten minutes in
which things stand still or are restarted and nothing may fail over. Only root can make the hosts.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

import domain_commits
from dkv.store.etcd import EtcdStore
from idle import cpu_seconds
from kit.hosts import HostPeer, Hosts, bare_etcd, on_hosts, proven, why_none
from kit.peer import DURABLE, Peer
from kit.record import Raw, Recorder, Table, of, progress, say
from kit.resp import SLOTS, Line, Refused, slot_of, tag_in
from kit.stage import PATIENT, arguments, leader_pid, until
from kit.stats import interval, percentile, verdict
from kit.writer import CONFIRMED, HASTY, SURE
from kit.written import Writer
from tests.contract.etcd_cluster import cluster

STORE = "bench"
INSECURE = ("-InsecureEngineTraffic", "yes")  # stock Valkey speaks plain too
POWER, CABLE = "power", "cable"
TIMEOUTS = {"valkey 5 s": 5_000, "valkey default": 15_000}
AFTER = 100  # answers awaited after a loss
SETTLE = (0.5, 2.0)  # s between a whole store and the next loss
OUTAGE, ENGINE_RATIO, CONFIRMED_RATIO, JOIN, IDLE = 6.0, 1.3, 5.0, 5.0, 1.0  # s, -, -, s, % of a core
HERE = Path(__file__).parent


def main() -> None:
    """Measure, record, print."""
    wish = arguments(
        __doc__,
        list(STEPS),
        losses=(100, 2, "losses of the leader's host"),
        peer_losses=(20, 1, "the same of the peer, node timeout 5 s"),
        default_losses=(10, 1, "the same of the peer, default node timeout"),
        kills=(40, 2, "kills of the leader's engine, with the state on etcd and in a file"),
        joins=(10, 1, "joins of a host"),
        loads=(3, 1, "loads of many clients, for each number of clients and side"),
        seconds=(10, 2, "length of each load of many clients"),
        idle=(60, 3, "length of each of three windows of an idle manager, s"),
        engines=(20, 4, "engines of the idle manager"),
        calm=(600, 10, "length of the time in which nothing may fail over, s"),
        keys=(20_000, 5_000, "keys of each writer"),
        rate=(500, 500, "writes a second of each writer"),
    )
    if why := why_none():
        sys.exit(f"Hosts cannot be had: {why}.")
    recorder = Recorder("several", wish.quick, vars(wish))
    for name in wish.only:
        say(f"{time.strftime('%H:%M:%S')} {name}")
        try:
            STEPS[name](recorder, wish)
        except Exception as trouble:  # noqa: BLE001  what one step meets must not take the others' numbers with it
            recorder.add("gave_up", step=name, why=f"{type(trouble).__name__}: {trouble}")
            say(f"gave up: {trouble}")
    recorder.finish(tables)


# The store ------------------------------------------------------------------------------------------------------------


def on_etcd(recorder: Recorder, wish: Namespace) -> None:
    """Losses of hosts, kills of engines and a calm time, in one domain."""
    with on_hosts(3, restart_budget="1000") as stage:
        stage.make(STORE, "-ReplicationFactor", "3", *INSECURE)
        writers = start_writers(stage, wish)
        try:
            lose_hosts(stage, recorder, wish, writers)
            kill_engines(stage, recorder, wish.kills, writers, "etcd")
            if wish.calm:
                stay_calm(stage, recorder, wish.calm, writers[0])
        finally:
            for writer in writers:
                writer.stop()
        for writer in writers:
            recorder.add("proof", side="dkv", writer=writer.kind, at_end=True, **proven(writer, at_end=True))


def start_writers(stage: Hosts, wish: Namespace) -> tuple[Writer, Writer]:
    """A plain one whose sockets wait 0.5 s, and a confirmed one."""
    endpoints = [f"{i['host']}:{i['clientPort']}" for i in stage.store(STORE)["instances"]]
    tag = tag_in(0, SLOTS - 1)
    managers = ",".join(stage.domain.managers)
    plain = Writer(stage, HASTY, tag=tag, keys=wish.keys, rate=wish.rate, endpoints=endpoints)
    more = [STORE, managers]
    return plain, Writer(stage, CONFIRMED, tag=tag, keys=wish.keys, rate=wish.rate, endpoints=endpoints, more=more)


def lose_hosts(stage: Hosts, recorder: Recorder, wish: Namespace, writers: Sequence[Writer]) -> None:
    """Lose the leader's host and prove, again and again."""
    plain, confirmed = writers
    for number in range(wish.losses):
        how = (POWER, CABLE)[number % 2]
        stage.whole(STORE)
        answered(writers, time.monotonic())
        time.sleep(random.uniform(*SETTLE))
        server = stage.leading(STORE)
        lost = time.monotonic()
        stage.lose(server, power=how == POWER)
        answered(writers, lost + 1.0)
        over = time.monotonic()
        stage.bring_back(server, STORE)
        whole = time.monotonic()
        outages = {"plain_ms": plain.outage(lost, over), "confirmed_ms": confirmed.outage(lost, over, SURE)}
        recorder.add("loss", side="dkv", how=how, number=number, whole_ms=1000 * (whole - lost), **outages)
        answered(writers, whole)
        for writer in writers:
            recorder.add("proof", side="dkv", writer=writer.kind, how=how, at_end=False, **proven(writer))
        progress(f"loss {number + 1} of {wish.losses}")


def answered(writers: Sequence[Writer], since: float) -> None:
    """Wait until each writer was answered, the confirmed one confirmed."""
    for writer in writers:
        writer.await_answers(AFTER, since, SURE if writer.kind == CONFIRMED else "a")


def kill_engines(stage: Hosts, recorder: Recorder, kills: int, writers: Sequence[Writer], state: str) -> None:
    """Kill the leader's engine, whose host lives."""
    for number in range(kills):
        before = stage.whole(STORE)
        answered(writers, time.monotonic())
        time.sleep(random.uniform(*SETTLE))
        killed = stage.kill(leader_pid(stage.store(STORE)))
        term = before["groups"][0]["term"]
        until(lambda old=term: _serves_after(stage, old), PATIENT, "a leader", 0.1)
        stage.whole(STORE)
        over = time.monotonic()
        answered(writers, over)
        recorder.add("kill", state=state, number=number, plain_ms=writers[0].outage(killed, over))
        for writer in writers:
            recorder.add("proof", side=f"kill {state}", writer=writer.kind, at_end=False, **proven(writer))
        progress(f"{state}: kill {number + 1} of {kills}")


def _serves_after(stage: Hosts, term: int) -> bool | None:
    group = stage.store(STORE)["groups"][0]
    return (group["term"] > term and group["serving"]) or None


def stay_calm(stage: Hosts, recorder: Recorder, seconds: int, plain: Writer) -> None:
    """Engines stand still for up to a second or run a script of 5 s, managers and members are killed; nothing may fail over."""
    term, doubts = stage.whole(STORE)["groups"][0]["term"], (plain.look(), plain.count("d"))[1]
    ends, number = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        act, began = CALM[number % len(CALM)], time.monotonic()
        act(stage)
        time.sleep(5.0 if seconds > 60 else 1.0)
        plain.look()
        recorder.add("act", number=number, what=act.__name__.strip("_"), plain_ms=plain.outage(began, time.monotonic()))
        number += 1
    group = stage.whole(STORE)["groups"][0]
    plain.look()
    recorder.add("calm", seconds=seconds, acts=number, terms=group["term"] - term, unanswered=plain.count("d") - doubts)


def _engine_stands_still(stage: Hosts) -> None:
    pid = leader_pid(stage.store(STORE))
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.9)
    os.kill(pid, signal.SIGCONT)


def _script_of_five_seconds(stage: Hosts) -> None:
    # TIME stands still inside a script until Valkey takes it for slow (5 s): it may end only at the second such moment.
    script = "local t = redis.call('TIME') while redis.call('TIME')[1] - t[1] < 5 do end return 1"
    endpoint = stage.store(STORE)["groups"][0]["leaderEndpoint"]
    try:
        with Line(endpoint, 20.0) as line:
            line.ask("EVAL", script, 0)
    except (OSError, Refused) as why:
        say(f"the script was not run: {why}")


def _forks(stage: Hosts) -> None:
    for instance in stage.store(STORE)["instances"]:
        try:
            with Line(f"{instance['host']}:{instance['clientPort']}", 10.0) as line:
                line.ask("BGSAVE")
        except (OSError, Refused):
            continue


def _manager_killed(stage: Hosts) -> None:
    place = random.choice(stage.domain.site.places)
    stage.domain.kill_manager(place)
    stage.domain.start_managers()


def _member_killed(stage: Hosts) -> None:
    if pid := stage.member(random.choice(list(stage.network.hosts))):
        os.kill(pid, signal.SIGKILL)


CALM = (_engine_stands_still, _manager_killed, _forks, _script_of_five_seconds, _manager_killed, _member_killed)


def in_one_file(recorder: Recorder, wish: Namespace) -> None:
    """Kills of engines where the managers share one SQLite file, on hosts of the same kind."""
    with on_hosts(3, one_file=True, restart_budget="1000") as stage:
        stage.make(STORE, "-ReplicationFactor", "3", *INSECURE)
        writers = start_writers(stage, wish)
        try:
            kill_engines(stage, recorder, wish.kills, writers, "sqlite")
        finally:
            for writer in writers:
                writer.stop()


# Beside it ------------------------------------------------------------------------------------------------------------


def beside(recorder: Recorder, wish: Namespace) -> None:
    """Stock Valkey on the same hosts; the domain there has no store."""
    with on_hosts(3) as stage:
        for side, timeout in TIMEOUTS.items():
            try:
                lose_peer_hosts(stage, recorder, wish, (side, timeout))
            except RuntimeError as never:  # a peer that does not come back must not take the other numbers with it
                recorder.add("gave_up", step=side, why=str(never))


def lose_peer_hosts(stage: Hosts, recorder: Recorder, wish: Namespace, which: tuple[str, int]) -> None:
    """Lose the host of the primary that the writer writes to."""
    side, timeout = which
    losses = wish.peer_losses if timeout == 5_000 else wish.default_losses
    with HostPeer(stage, f"peer-{timeout}", [*DURABLE, f"cluster-node-timeout {timeout}"]) as peer:
        peer.create_by_redis_cli()
        until(peer.linked, PATIENT, "the peer to be whole", 0.1)
        tag = tag_in(0, 100)
        with Writer(stage, HASTY, tag=tag, keys=wish.keys, rate=wish.rate, endpoints=peer.endpoints) as writer:
            for number in range(losses):
                how = (POWER, CABLE)[number % 2]
                answered([writer], time.monotonic())
                time.sleep(random.uniform(*SETTLE))
                lose_primary(stage, peer, writer, recorder, (side, how, slot_of(tag)))
                progress(f"{side}: loss {number + 1} of {losses}")
            writer.stop()
            recorder.add("proof", side=side, writer=writer.kind, at_end=True, **proven(writer, at_end=True))


def lose_primary(stage: Hosts, peer: HostPeer, writer: Writer, recorder: Recorder, what: tuple[str, str, int]) -> None:
    """One loss of the peer."""
    side, how, slot = what
    primary = until(lambda: Peer.primary_of(peer, slot), PATIENT, "the peer's primary", 0.05)
    host = next(host for host in stage.network.hosts.values() if primary in peer.on(host))
    lost = time.monotonic()
    peer.lose(host, power=how == POWER)
    answered([writer], lost + 1.0)
    over = time.monotonic()
    peer.bring_back(host)
    whole = time.monotonic()
    recorder.add("loss", side=side, how=how, whole_ms=1000 * (whole - lost), plain_ms=writer.outage(lost, over))
    answered([writer], whole)
    recorder.add("proof", side=side, writer=writer.kind, how=how, at_end=False, **proven(writer))


CLIENTS = (1, 16, 64)
SIDES = {"coroutines": "confirmed", "threads": "threads", "etcd": "etcd"}  # what `kit/load.py` calls them


def writes(recorder: Recorder, wish: Namespace) -> None:
    """Confirmed writes on two copies and puts of stock etcd on three hosts, in turns."""
    with on_hosts(3) as stage:
        two = ",".join(stage.domain.managers[:2])
        stage.cmdlet("New-DkvStore", "-Name", "pair", "-InstancePrefix", "pair", "-ReplicationFactor", "2", *INSECURE,
                     "-ClustronPort", "7911", "-ClientPort", "7961", "-Managers", two)  # fmt: skip
        stage.cmdlet("Start-DkvStore", "-Name", "pair")
        engines = [instance["process"]["pid"] for instance in stage.whole("pair")["instances"]]
        with bare_etcd(stage) as (endpoints, members):
            time.sleep(3)
            beside = {"etcd": ([",".join(endpoints)], members)}
            for number in range(wish.loads):
                for clients in CLIENTS:
                    for side in SIDES:
                        more, servers = beside.get(side, (["pair", two], engines))
                        made = load(SIDES[side], clients, wish.seconds, more, servers)
                        recorder.add("writes", side=side, clients=clients, number=number, **made)


def load(kind: str, clients: int, seconds: int, more: Sequence[str], servers: Sequence[int]) -> dict[str, float]:
    """How many writes of so many clients ended well each second, and the processor time of each on both sides."""
    words = [sys.executable, str(HERE / "kit" / "load.py"), kind, str(clients), str(seconds), *more]
    before = sum(map(cpu_seconds, servers))
    ended = subprocess.run(words, capture_output=True, text=True, check=True, timeout=seconds + 60)
    done, took = max(1, int(ended.stdout)), sum(map(cpu_seconds, servers)) - before
    return {"per_second": done / seconds, "client_us": 1000 * float(ended.stderr) / done, "servers_us": 1e6 * took / done}


def commits(recorder: Recorder, wish: Namespace) -> None:
    """Commits of the domain on three members, one writer and four, beside etcd's own guarded transaction."""
    with tempfile.TemporaryDirectory() as scratch, cluster(Path(scratch, "etcd"), 3) as members:
        recorder.add("commits", side="etcd alone", writers=1, per_second=asyncio.run(domain_commits.alone(members)))
        for writers in (1, 4):
            address = members.address(f"/w{writers}/")
            rate, lost = asyncio.run(domain_commits.measured(lambda address=address: EtcdStore.open(address), writers))
            recorder.add("commits", side="dkv", writers=writers, per_second=rate, lost_attempts=lost)


# Joining and idling ---------------------------------------------------------------------------------------------------


def joins(recorder: Recorder, wish: Namespace) -> None:
    """From the start of a new host's manager until it may be given an instance. The second host makes the state move to etcd."""
    for number in range(wish.joins):
        with on_hosts(3, begin=1) as stage:
            for name, place in zip(("second", "third"), stage.domain.site.places[1:], strict=True):
                recorder.add("join", host=name, number=number, ms=stage.join(place))
        progress(f"join {number + 1} of {wish.joins}")


def idle(recorder: Recorder, wish: Namespace) -> None:
    """Processor time of a manager with engines and of its member, beside a manager without engines."""
    with on_hosts(3) as stage:
        first = stage.domain.managers[0]
        words = ["-InstanceCount", str(wish.engines), "-ReplicationFactor", "1", *INSECURE, "-Managers", first]
        stage.make(STORE, *words)
        time.sleep(20.0 if wish.idle >= 10 else wish.idle)  # made-up nodes of the start are forgotten one by one
        pids = {"manager with engines": stage.manager("server-1"), "manager without": stage.manager("server-2")}
        pids |= {"its member": stage.member("server-1") or 0}
        for number in range(3):
            began, before = time.monotonic(), {what: cpu_seconds(pid) for what, pid in pids.items()}
            time.sleep(wish.idle)
            took = time.monotonic() - began
            for what, pid in pids.items():
                percent = 100 * (cpu_seconds(pid) - before[what]) / took
                recorder.add("idle", what=what, number=number, engines=wish.engines, percent=percent)


STEPS: dict[str, Callable[[Recorder, Namespace], None]] = {
    "commits": commits,
    "writes": writes,
    "peer": beside,
    "file": in_one_file,
    "etcd": on_etcd,
    "joins": joins,
    "idle": idle,
}


# Results --------------------------------------------------------------------------------------------------------------


def tables(raw: Sequence[Raw]) -> list[Table]:
    """What was measured, beside its peer."""
    made = (
        _losses(raw),
        _proofs(raw),
        _kills(raw),
        _calm(raw),
        _acts(raw),
        _writes(raw),
        _commits(raw),
        _joins(raw),
        _idle(raw),
        _gave_up(raw),
    )
    return [table for table in made if table.rows]


def spread(values: Sequence[float]) -> tuple[str, str, str]:
    """How many values, their median with its interval, and their p99."""
    low, high = interval(values)
    return str(len(values)), f"{median(values):.3g} [{low:.3g}, {high:.3g}]", f"{percentile(values, 0.99):.3g}"


def _losses(raw: Sequence[Raw]) -> Table:
    rows = []
    for side in ("dkv", *TIMEOUTS):
        for how in (POWER, CABLE):
            for field in ("plain_ms", "confirmed_ms"):
                seconds = [r[field] / 1000 for r in of(raw, "loss", side=side, how=how) if field in r]
                if seconds:
                    judged = f"p99 {OUTAGE:g} s {verdict(percentile(seconds, 0.99), OUTAGE)}" if side == "dkv" else ""
                    rows.append((side, how, field.removesuffix("_ms"), *spread(seconds), judged))
    header = ("side", "lost by", "writer", "losses", "median s [95 %]", "p99 s", "target")
    return Table("The leader's host lost: longest time without an answer", header, rows)


def _proofs(raw: Sequence[Raw]) -> Table:
    rows = []
    for side, writer in sorted({(r["side"], r["writer"]) for r in of(raw, "proof")}):
        proofs = of(raw, "proof", side=side, writer=writer)
        total = [sum(r[name] for r in proofs) for name in ("acknowledged", "lost_acknowledged", "confirmed", "lost_confirmed")]
        judged = f"0 confirmed lost {verdict(total[3], 0)}" if total[2] else ""
        rows.append((side, writer, *map(str, total), judged))
    header = ("side", "writer", "acknowledged", "of them lost", "confirmed", "of them lost", "target")
    return Table("What was promised, read back", header, rows)


def _kills(raw: Sequence[Raw]) -> Table:
    outages = {state: [r["plain_ms"] for r in of(raw, "kill", state=state)] for state in ("sqlite", "etcd")}
    rows = [(state, *spread(values), "") for state, values in outages.items() if values]
    if all(outages.values()):
        ratio = median(outages["etcd"]) / median(outages["sqlite"])
        rows.append(("etcd / sqlite", "", f"{ratio:.2f}", "", f"{ENGINE_RATIO:g} {verdict(ratio, ENGINE_RATIO)}"))
    header = ("state in", "kills", "median ms [95 %]", "p99 ms", "target")
    return Table("The leader's engine killed, its host alive: outage of the plain writer", header, rows)


def _calm(raw: Sequence[Raw]) -> Table:
    rows = [
        (str(r["seconds"]), str(r["acts"]), str(r["terms"]), str(r["unanswered"]), f"0 {verdict(r['terms'], 0)}")
        for r in of(raw, "calm")
    ]
    return Table("Nothing may fail over", ("s", "acts", "new terms", "writes without an answer", "target, terms"), rows)


def _acts(raw: Sequence[Raw]) -> Table:
    acts = [act for act in of(raw, "act") if "plain_ms" in act]
    outages = {what: [act["plain_ms"] for act in acts if act["what"] == what] for what in {act["what"] for act in acts}}
    rows = [(what.replace("_", " "), str(len(ms)), f"{median(ms):.0f}", f"{max(ms):.0f}") for what, ms in sorted(outages.items())]
    return Table("What each of these acts cost the plain writer", ("act", "times", "median ms", "longest ms"), rows)


def _writes(raw: Sequence[Raw]) -> Table:
    rows = []
    for clients in CLIENTS:
        made = {side: of(raw, "writes", side=side, clients=clients) for side in SIDES}
        if all(made.values()):
            rates = {side: median(r["per_second"] for r in made[side]) for side in SIDES}
            costs = {side: median(r["client_us"] + r["servers_us"] for r in made[side]) for side in SIDES}
            ratio = rates["coroutines"] / rates["etcd"]
            judged = f"{CONFIRMED_RATIO:g} {verdict(ratio, CONFIRMED_RATIO, False)}"
            numbers = [f"{rates[side]:.0f}" for side in SIDES]
            rows.append((str(clients), *numbers, f"{ratio:.2f}", f"{costs['coroutines']:.0f} / {costs['etcd']:.0f}", judged))
    header = (
        "clients",
        "confirmed /s, coroutines",
        "threads",
        "etcd put /s",
        "ratio",
        "processor us a write, dkv / etcd",
        "target ratio",
    )
    return Table("Writes on two disks and more", header, rows)


def _commits(raw: Sequence[Raw]) -> Table:
    rows = []
    for r in of(raw, "commits"):
        bar = domain_commits.BARS[r["writers"]] if r["side"] == "dkv" else None
        judged = f"{bar} {verdict(r['per_second'], bar, False)}" if bar else ""
        rows.append((r["side"], str(r["writers"]), f"{r['per_second']:.0f}", judged))
    return Table("Commits of the domain, three members on loopback", ("side", "writers", "per second", "target"), rows)


def _joins(raw: Sequence[Raw]) -> Table:
    rows = []
    for host in ("second", "third"):
        seconds = [r["ms"] / 1000 for r in of(raw, "join", host=host)]
        if seconds:
            rows.append((host, *spread(seconds), f"{JOIN:g} s {verdict(percentile(seconds, 0.99), JOIN)}"))
    header = ("host", "joins", "median s [95 %]", "p99 s", "target")
    return Table("A host joins, until it may be given an instance (the second makes the state move)", header, rows)


def _idle(raw: Sequence[Raw]) -> Table:
    rows = []
    for what in dict.fromkeys(r["what"] for r in of(raw, "idle")):
        percents = [r["percent"] for r in of(raw, "idle", what=what)]
        judged = f"{IDLE:g} {verdict(median(percents), IDLE)}" if what == "manager with engines" else ""
        rows.append((what, str(of(raw, "idle")[0]["engines"]), ", ".join(f"{p:.2f}" for p in percents), judged))
    return Table("Idle, state on three members", ("what", "engines", "% of a core in each window", "target"), rows)


def _gave_up(raw: Sequence[Raw]) -> Table:
    return Table("Steps that were given up", ("step", "why"), [(r["step"], r["why"]) for r in of(raw, "gave_up")])


if __name__ == "__main__":
    main()
