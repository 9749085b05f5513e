"""One chaos run: a domain begins, clients work, the schedule strikes, everything heals, and what has to hold is checked."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import valkey

from dkv.cli.errors import CliError
from dkv.client import Json
from dkv.confirm import login_of, slot_of
from dkv.playground.addresses import Record, registry, stop_leftovers
from dkv.playground.domain import endpoints
from dkv.playground.hosts import enter, hosts
from dkv.playground.hosts_domain import DESK, addresses
from tests.chaos import checks, picture, waits
from tests.chaos.checks import Blow, Operation
from tests.chaos.disks import disks
from tests.chaos.domain import STORES, ChaosDomain, Watcher
from tests.chaos.schedule import WORK, Stroke
from tests.chaos.strikes import Striker

WARM_UP = 3.0  # s clients work before the schedule begins
PROGRESS = 60.0  # s within which a write has to be confirmed in every store once everything is whole again
OPENED = ("group.opened", "group.handed_over")  # events with which a term begins
BATCH = 1000  # keys read at once
CLOCKS = 0.1  # s by which the clock of events may differ from that of clients


@dataclass
class Findings:
    """What a run came to: what failed, each as a sentence, and figures for people."""

    failures: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    rows: list[picture.Row] = field(default_factory=list)  # of the timeline
    length: float = 0.0  # s


@dataclass
class Course:
    """The files and times of a run. Times are monotonic seconds; the schedule's times count from `began`."""

    directory: Path
    began: float = 0.0
    healed: float = 0.0
    whole: float = 0.0
    ended: float = 0.0
    samples: list[Json] = field(default_factory=list)

    def saw(self, write: Callable[[Json], None]) -> Callable[[Json], None]:
        """Keeps a sample, and writes it."""

        def keep(sample: Json) -> None:
            self.samples.append(sample)
            write(sample)

        return keep

    @contextlib.contextmanager
    def lines(self, name: str) -> Iterator[Callable[[Json], None]]:
        """A file of JSON lines, each with the operating system when the call returns."""
        with (self.directory / name).open("w", encoding="utf-8") as file:

            def add(line: Json) -> None:
                file.write(json.dumps(line) + "\n")
                file.flush()

            yield add


def run(strokes: Sequence[Stroke], length: float, results: Path, *, servers: int = 3, plant: str = "") -> Findings:
    """Play a schedule on a domain of its own; nothing of it is left but the files in `results`. Raises CliError, OSError."""
    results.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as at_the_end:
        desk, *made = at_the_end.enter_context(hosts(DESK, *addresses(servers)))
        enter(desk)
        directory = Path(tempfile.mkdtemp(prefix="dkv-playground-chaos-"))
        places = [directory / f"server-{number}" for number, _ in enumerate(made, 1)]
        with registry() as place:
            stop_leftovers(place)
            record = Record(place / f"{os.getpid()}.json", directory, temporary=True)
            record.write()
        at_the_end.callback(_clean, record, results)
        mounted = at_the_end.enter_context(disks(places, directory / "images"))
        clocks = any(stroke.kind == "jump clock" for stroke in strokes)
        domain = ChaosDomain(record, made, mounted, clocks=clocks, plant=plant)
        at_the_end.callback(domain.abandon)
        return _on(domain, strokes, length, Course(results))


def _clean(record: Record, results: Path) -> None:
    for log in record.directory.glob("server-*.log"):
        shutil.copy(log, results)
    record.remove()
    shutil.rmtree(record.directory, ignore_errors=True)


def _on(domain: ChaosDomain, strokes: Sequence[Stroke], length: float, course: Course) -> Findings:
    say(f"{len(domain.hosts)} servers, stores {', '.join(STORES)}; everything is in {course.directory}")
    domain.begin()
    course.began = time.monotonic() + WARM_UP

    def told(text: str) -> None:
        say(f"{time.monotonic() - course.began:6.1f} s  {text}")

    with contextlib.ExitStack() as stack:
        seen = stack.enter_context(course.lines("samples.jsonl"))
        watcher = stack.enter_context(Watcher(domain.managers, course.saw(seen)))
        clients = stack.enter_context(working(domain, course.directory))
        time.sleep(WARM_UP)
        striker = Striker(domain, watcher, told)
        striker.play(strokes, length)
        course.healed = time.monotonic()
        findings = Findings()
        try:
            striker.await_tasks()
            for name in STORES:
                domain.await_all(name)
            course.whole = time.monotonic()
            told("everything is whole again")
        except CliError as error:
            findings.failures.append(f"progress: {error}")
        silent = _await_progress(clients, course.whole) if course.whole else []
        findings.failures += [f"progress: {name} confirmed nothing within {PROGRESS:g} s after it was whole" for name in silent]
        clients.stop()
    course.ended = time.monotonic()
    with course.lines("journal.jsonl") as add:
        for struck in striker.journal:
            add(struck.to_json())
    _judge(domain, course, striker, clients, findings)
    lines = picture.rows(clients.history(), course.samples, [s.to_json() for s in striker.journal], (course.began, course.ended))
    findings.rows, findings.length = lines, course.ended - course.began
    return findings


def _await_progress(clients: Clients, since: float) -> list[str]:
    """The stores in which no write that was sent after a moment was confirmed in time."""
    ends = time.monotonic() + PROGRESS
    while True:
        served = {o.store for o in clients.history() if o.sent >= since and o.kind == checks.CONFIRMED and o.mark == checks.SURE}
        if len(served) == len(STORES) or time.monotonic() > ends:
            return sorted(STORES.keys() - served)
        time.sleep(0.5)


# -- clients ----------------------------------------------------------------------------------------------------------------


class Clients:
    """The client processes and their logs."""

    def __init__(self, domain: ChaosDomain, directory: Path) -> None:
        self.files = {kinds: directory / f"clients-{kinds}.tsv" for kinds in ("judged", "plain")}
        stores = json.dumps({name: _how(domain.ask(lambda client, name=name: client.store(name))) for name in STORES})
        self._children = []
        for kinds, file in self.files.items():
            words = [sys.executable, "-m", "tests.chaos.clients", str(file), kinds, stores, ",".join(domain.managers)]
            with file.with_suffix(".err").open("wb") as err:
                self._children.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=err))
            domain.record.add(self._children[-1].pid)

    def stop(self) -> None:
        """End them; raises CliError if one had ended by itself."""
        for child in self._children:
            if child.poll() is not None:
                raise CliError(
                    f"A client process ended by itself with code {child.returncode}.", "Look at the .err files beside its log."
                )
            child.send_signal(signal.SIGTERM)
        for child in self._children:
            child.wait(30)

    def kill(self) -> None:
        """End them at once."""
        for child in self._children:
            if child.poll() is None:
                child.kill()
                child.wait()

    def history(self) -> list[Operation]:
        """All that they did."""
        return [o for file in self.files.values() for o in checks.operations(file.read_text(encoding="utf-8"))]


@contextlib.contextmanager
def working(domain: ChaosDomain, directory: Path) -> Iterator[Clients]:
    """Clients that work while the block runs."""
    clients = Clients(domain, directory)
    try:
        yield clients
    finally:
        clients.kill()


def _how(store: Any) -> Json:
    """What the plain clients need of a store: its engines' addresses, and for each a key of its group."""
    slots = {group["name"]: group["slots"] for group in store["groups"]}
    probes = {f"{i['host']}:{i['clientPort']}": _key_in(slots[i["group"]], f"probe-{i['archiveId']}") for i in store["instances"]}
    return {"endpoints": endpoints(store), "probes": probes}


def _key_in(slots: Sequence[Sequence[int]], name: str) -> str:
    keys = (f"{{{number}}}{name}" for number in range(100_000))
    return next(key for key in keys if any(low <= slot_of(key) <= high for low, high in slots))


# -- checks -------------------------------------------------------------------------------------------------------------------


def _judge(domain: ChaosDomain, course: Course, striker: Striker, clients: Clients, findings: Findings) -> None:
    history = clients.history()
    blows = [
        Blow(s.stroke.kind, s.began, s.ended, tuple(s.servers), tuple(s.pids), s.group)
        for s in striker.journal
        if s.stroke.kind not in WORK
    ]
    contents: dict[str, dict[str, str]] = {}
    stores = {name: dict(domain.ask(lambda client, name=name: client.store(name))) for name in STORES}
    for name, store in stores.items():
        copies = until_equal(store)
        contents[name] = {
            key: value for group in copies.values() for copy in list(group.values())[:1] for key, value in copy.items()
        }
        findings.failures += [
            f"contents: {name}/{group}: {line}" for group, c in copies.items() for line in checks.differences(c)
        ]
        _judge_leaders(domain, store, history, blows, findings)
        tombstones = domain.ask(lambda client, name=name: client.tombstones(name))
        (course.directory / f"tombstones-{name}.json").write_text(json.dumps(list(tombstones), indent=1))
        (course.directory / f"events-{name}.json").write_text(
            json.dumps(domain.ask(lambda client, name=name: client.events(store=name)), indent=0)
        )
        findings.failures += [f"death: {line}" for line in checks.wrong_deaths(tombstones, blows)]
        findings.figures[f"deaths of {name}"] = len(tombstones)
    _judge_writes(history, contents, blows, findings, Leading(stores, course.samples))
    findings.failures += [f"register: {line}" for line in checks.register_faults(history)]
    accepted, server_of = (
        _accepted(history, stores),
        {i["instanceName"]: i["server"] for s in stores.values() for i in s["instances"]},
    )
    findings.failures += [f"waiting: {line}" for line in waits.untrue_refusals(course.samples, accepted)]
    findings.failures += [f"waiting: {line}" for line in waits.unnamed_outages(course.samples, accepted, server_of)]
    findings.failures += [f"waiting: {line}" for line in waits.servers_not_away(course.samples, blows)]
    if course.whole:
        findings.figures["seconds until whole"] = round(course.whole - course.healed, 1)
    findings.figures["managers that ended by themselves"] = [
        (round(at - course.began, 1), s, c) for at, s, c in domain.ended_alone
    ]
    findings.failures += [
        f"waiting: at the end {item['subject']} waits: {item['reason']}" for item in domain.ask(lambda client: client.waiting())
    ]
    findings.failures += [f"left over: {line}" for line in domain.end()]


def _accepted(history: Sequence[Operation], stores: Mapping[str, Json]) -> dict[str, list[float]]:
    """When the engines of each group accepted the writes of probes, by the group's subject in what waits."""
    group_at = {(n, _at(i)): f"group {n}/{i['group']}" for n, store in stores.items() for i in store["instances"]}
    moments: dict[str, list[float]] = {subject: [] for subject in group_at.values()}
    for probe in history:
        if probe.kind == checks.PROBE and (probe.store, probe.value) in group_at:
            moments[group_at[probe.store, probe.value]].append(probe.answered)
    return {subject: sorted(each) for subject, each in moments.items()}


class Leading:
    """Who led the group of a write when that was answered, by the samples of the run."""

    def __init__(self, stores: Mapping[str, Json], samples: Sequence[Json]) -> None:
        self._stores = stores
        self._servers = {str(i["server"]) for store in stores.values() for i in store["instances"]}
        self._samples = [sample for sample in samples if "groups" in sample]
        self._times = [sample["at"] for sample in self._samples]

    def place(self, write: Operation) -> checks.Place:
        """The place of a write."""
        store, slot = self._stores[write.store], slot_of(write.key)
        group = next(g["name"] for g in store["groups"] if any(low <= slot <= high for low, high in g["slots"]))
        servers = {i["instanceName"]: str(i["server"]) for i in store["instances"]}
        for sample in reversed(self._samples[: bisect_right(self._times, write.answered)]):
            seen = next((g for g in sample["groups"] if (g["store"], g["name"]) == (write.store, group)), None)
            if seen and seen["serving"]:
                server = servers.get(str(seen["leader"]), "")
                return checks.Place(f"{write.store}/{group}", server, tuple(sorted(self._servers - {server})))
        return checks.Place(f"{write.store}/{group}", "")


def _judge_writes(
    history: Sequence[Operation], contents: Any, blows: Sequence[Blow], findings: Findings, leading: Leading
) -> None:
    for kind in checks.WRITES:
        findings.figures[kind] = checks.count(history, kind)
    sure = [o for o in history if o.kind == checks.CONFIRMED]
    findings.failures += [
        f"lost: confirmed {w.store} {w.key}, confirmed at {w.answered:.3f}" for w in checks.missing(sure, contents, [checks.SURE])
    ]
    findings.failures += [
        f"lost: {w.store} {w.key} = {w.value}, confirmed at {w.answered:.3f}" for w in checks.missing_registers(history, contents)
    ]
    met: dict[str, int] = {}
    for write in checks.missing([o for o in history if o.kind in checks.WRITES], contents, [checks.ACKNOWLEDGED]):
        line = checks.excuse(write, blows, leading.place(write))
        met[line] = met.get(line, 0) + 1
        if not line:
            findings.failures.append(
                f"lost: acknowledged {write.store} {write.key} at {write.answered:.3f}; no line of docs/critiques.md explains it"
            )
    findings.figures["acknowledged writes lost, by the line that explains them"] = met


def _judge_leaders(
    domain: ChaosDomain, store: Json, history: Sequence[Operation], blows: Sequence[Blow], findings: Findings
) -> None:
    events = domain.ask(lambda client: client.events(store=store["name"]))
    jumped = {server for blow in blows if blow.kind == "jump clock" for server in blow.servers}

    def moment(event: Json) -> float:
        """A monotonic time before which an event had not come, as far as the clock of its manager can be believed."""
        return -math.inf if event["actor"] in jumped else event["at"] / 1000 - (time.time() - time.monotonic()) - CLOCKS

    tombstones = domain.ask(lambda client: client.tombstones(store["name"]))
    at = {i["instanceName"]: _at(i) for i in store["instances"]}
    names = {t["startId"]: t["instanceName"] for t in tombstones}
    names |= {i["process"]["startId"]: i["instanceName"] for i in store["instances"] if i["process"]}
    for group in store["groups"]:
        opened = [e for e in events if e["kind"] in OPENED and e["subject"].endswith(f"/{group['name']}")]
        terms = [checks.Term(at.get(names.get(e["startId"]), "removed"), moment(e)) for e in opened]
        own = {at[i["instanceName"]]: i["server"] for i in store["instances"] if i["group"] == group["name"]}
        for late in checks.out_of_order([o for o in history if o.store == store["name"] and o.value in own], terms):
            name = f"{store['name']}/{group['name']}"
            what = f"{late.value} accepted a write of {name} at {late.answered:.3f} after a later leader had"
            line = checks.leader_excuse(late, blows, checks.Place(name, own[late.value]))
            if line:
                findings.figures.setdefault("two leaders", []).append(f"{what}: {line}")
            else:
                leaders = ", ".join(f"{term.leader} after {term.after:.3f}" for term in terms)
                findings.failures.append(f"leaders: {what}; leaders by term: {leaders}")


def until_equal(store: Json, within: float = 15.0) -> dict[str, dict[str, dict[str, str]]]:
    """The contents of every copy in sync, by group and address; read again until they are equal, or the time is over."""
    ends = time.monotonic() + within
    while True:
        copies = {
            g["name"]: {_at(i): _contents(_at(i)) for i in store["instances"] if i["instanceName"] in g["inSync"]}
            for g in store["groups"]
        }
        if time.monotonic() > ends or not any(checks.differences(group) for group in copies.values()):
            return copies
        time.sleep(0.5)


def _at(instance: Json) -> str:
    return f"{instance['host']}:{instance['clientPort']}"


def _contents(endpoint: str) -> dict[str, str]:
    host, _, port = endpoint.rpartition(":")
    with valkey.Valkey(host, int(port), socket_timeout=10, decode_responses=True, **login_of()) as client:
        connection = client.connection_pool.get_connection("SCAN")
        connection.send_command("READONLY")
        connection.read_response()
        keys, cursor = set[str](), "0"
        while True:
            connection.send_command("SCAN", cursor, "COUNT", BATCH)
            cursor, batch = connection.read_response()
            keys.update(batch)
            if str(cursor) == "0":
                break
        return dict(_values(connection, sorted(keys)))


def _values(connection: Any, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    for start in range(0, len(keys), BATCH):
        batch = keys[start : start + BATCH]
        connection.send_packed_command(connection.pack_commands([("GET", key) for key in batch]))
        for key in batch:
            yield key, connection.read_response()


def say(text: str) -> None:
    """One line for whoever watches."""
    print(text, flush=True)
