"""How the strokes of a schedule are carried out on a chaos domain, and taken back. What was struck is written down."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from dkv.client import Json
from tests.chaos.domain import ChaosDomain, Watcher
from tests.chaos.schedule import WORK, Stroke

STEP = 0.02  # s between two looks at the clock
AHEAD = 1.5  # s that followers get nothing before their leader ends
TASK_WITHIN = 180.0  # s a task of an operator may take


@dataclass
class Struck:
    """A stroke as it was carried out. Times are monotonic seconds; `pids` were killed; `note` is what became of it."""

    stroke: Stroke
    began: float
    ended: float = 0.0
    servers: list[str] = field(default_factory=list)
    group: str = ""  # "Two/g1", of a stroke that was meant for a group
    pids: list[int] = field(default_factory=list)
    note: str = ""

    def to_json(self) -> Json:
        """As the journal has it."""
        kept = {name: getattr(self, name) for name in ("began", "ended", "servers", "group", "pids", "note")}
        return {"at": self.stroke.at, "kind": self.stroke.kind, "target": self.stroke.target, "lasts": self.stroke.lasts} | kept


class Striker:
    """Carries a schedule out. What lasts is taken back from a list of (when, how); tasks run in threads."""

    def __init__(self, domain: ChaosDomain, watcher: Watcher, said: Callable[[str], None]) -> None:
        self.journal: list[Struck] = []
        self._domain = domain
        self._watcher = watcher
        self._said = said
        self._due: list[tuple[float, Callable[[], None], Struck]] = []
        self._tasks: list[threading.Thread] = []
        self._down: dict[str, int] = {}  # servers whose manager is held, by how many strokes

    def play(self, strokes: Sequence[Stroke], length: float) -> None:
        """All strokes at their times; then everything is taken back."""
        began = time.monotonic()
        left = list(strokes)
        while time.monotonic() < began + length:
            now = time.monotonic()
            while left and began + left[0].at <= now:
                self.strike(left.pop(0))
            self._take_back(now)
            time.sleep(STEP)
        self.heal()

    def strike(self, stroke: Stroke) -> None:
        """Carry one out."""
        struck = Struck(stroke, time.monotonic())
        self.journal.append(struck)
        try:
            if stroke.kind in WORK:
                self._begin_task(stroke, struck)
            else:
                getattr(self, "_" + stroke.kind.replace(" ", "_"))(stroke, struck)
        except (OSError, LookupError, subprocess.SubprocessError) as error:
            struck.note = f"not done: {type(error).__name__} {error}"
        if not struck.ended and not any(item[2] is struck for item in self._due) and stroke.kind not in WORK:
            struck.ended = time.monotonic()
        self._said(f"{stroke.kind} {stroke.target} {' '.join(struck.servers)} {struck.note}".rstrip())

    def heal(self) -> None:
        """Take everything back, whatever was forgotten too."""
        self._take_back(float("inf"))
        domain = self._domain
        for server, host in domain.hosts.items():
            host.plug()
            for other in domain.hosts.values():
                if other is not host:
                    host.join_with(other)
            domain.disks[server].speed_up()
            domain.disks[server].empty()
            domain.set_clock(server, 0)
            for pid in host.processes():
                _signal(pid, signal.SIGCONT)
        self._down.clear()
        domain.held.clear()

    def await_tasks(self) -> None:
        """Wait until the operators are done."""
        for task in self._tasks:
            task.join()

    def _take_back(self, now: float) -> None:
        for item in [item for item in self._due if item[0] <= now]:
            self._due.remove(item)
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                item[1]()
            item[2].ended = time.monotonic()

    def _later(self, struck: Struck, how: Callable[[], None]) -> None:
        self._due.append((time.monotonic() + struck.stroke.lasts, how, struck))

    # -- engines ------------------------------------------------------------------------------------------------------

    def _kill_engine(self, stroke: Stroke, struck: Struck) -> None:
        _, pid = self._engine(stroke, struck)
        self._kill(pid, struck)

    def _freeze_engine(self, stroke: Stroke, struck: Struck) -> None:
        _, pid = self._engine(stroke, struck)
        self._freeze([pid], struck)

    def _kill_engine_and_manager(self, stroke: Stroke, struck: Struck) -> None:
        server, pid = self._engine(stroke, struck)
        self._hold(server, struck)
        self._kill(pid, struck)

    def _kill_a_leader_ahead(self, stroke: Stroke, struck: Struck) -> None:
        server, pid = self._engine(stroke, struck)
        self._cut_followers_off(server, struck)
        time.sleep(AHEAD)
        self._kill(pid, struck)

    def _lose_a_leader_ahead(self, stroke: Stroke, struck: Struck) -> None:
        server, _ = self._engine(stroke, struck)
        self._cut_followers_off(server, struck)
        time.sleep(AHEAD)
        self._lose([server], struck)

    def _cut_followers_off(self, server: str, struck: Struck) -> None:
        """Nothing that the host of a leader sends reaches those of its followers. Stopping the followers would not do: what
        comes meanwhile stays in their sockets.
        """
        store, _, name = struck.group.partition("/")
        members = [i for i in self._watcher.stores[store]["instances"] if i["group"] == name and i["server"] != server]
        here, others = self._domain.hosts[server], [self._domain.hosts[i["server"]] for i in members]
        for other in others:
            here.cut_from(other, one_way=True)
        self._later(struck, lambda: [here.join_with(other) for other in others] and None)

    def _engine(self, stroke: Stroke, struck: Struck) -> tuple[str, int]:
        """The server and the pid of the engine that is meant now. Raises LookupError."""
        name, number, role = stroke.target.split("/")
        store = self._watcher.stores[name]
        group = store["groups"][int(number)]
        members = [i for i in store["instances"] if i["group"] == group["name"] and i["process"] and i["process"]["pid"]]
        wanted = [i for i in members if (i["instanceName"] == group["leader"]) == (role == "leader")]
        if not wanted:
            raise LookupError(f"no {role} runs")
        struck.servers, struck.group = [str(wanted[0]["server"])], f"{name}/{group['name']}"
        return str(wanted[0]["server"]), int(wanted[0]["process"]["pid"])

    def _kill(self, pid: int, struck: Struck) -> None:
        os.kill(pid, signal.SIGKILL)
        struck.pids.append(pid)

    def _freeze(self, pids: Sequence[int], struck: Struck) -> None:
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        self._later(struck, lambda: [_signal(pid, signal.SIGCONT) for pid in pids] and None)

    # -- managers and members -----------------------------------------------------------------------------------------

    def _kill_manager(self, stroke: Stroke, struck: Struck) -> None:
        struck.servers = [stroke.target]
        self._hold(stroke.target, struck)

    def _hold(self, server: str, struck: Struck) -> None:
        """SIGKILL a manager, and keep it away as long as the stroke lasts."""
        pid = self._domain.end_manager(server)
        self._down[server] = self._down.get(server, 0) + 1
        struck.pids += [pid] if pid else []
        self._later(struck, lambda: self._let_go(server))

    def _let_go(self, server: str) -> None:
        self._down[server] = self._down.get(server, 1) - 1
        if self._down[server] <= 0:
            self._domain.held.discard(server)

    def _freeze_manager(self, stroke: Stroke, struck: Struck) -> None:
        struck.servers = [stroke.target]
        self._freeze([_found(self._domain.manager_pid(stroke.target), "manager")], struck)

    def _kill_member(self, stroke: Stroke, struck: Struck) -> None:
        struck.servers = [stroke.target]
        self._kill(_found(self._domain.member_pid(stroke.target), "member"), struck)

    def _freeze_member(self, stroke: Stroke, struck: Struck) -> None:
        struck.servers = [stroke.target]
        self._freeze([_found(self._domain.member_pid(stroke.target), "member")], struck)

    def _kill_state_leader(self, _: Stroke, struck: Struck) -> None:
        leader = self._domain.state_leader()
        if not leader:
            raise LookupError("no member says that it leads")
        struck.servers = [leader]
        self._kill(_found(self._domain.member_pid(leader), "member"), struck)

    def _jump_clock(self, stroke: Stroke, struck: Struck) -> None:
        match = re.fullmatch(r"(.*?)([+-]\d+)", stroke.target)
        if match is None or not self._domain.clocks:
            raise LookupError("no clock can be moved")
        struck.servers = [match[1]]
        self._domain.set_clock(match[1], int(match[2]))
        self._later(struck, lambda: self._domain.set_clock(struck.servers[0], 0))

    # -- hosts --------------------------------------------------------------------------------------------------------

    def _lose_host(self, stroke: Stroke, struck: Struck) -> None:
        self._lose([stroke.target], struck)

    def _kill_everything(self, _: Stroke, struck: Struck) -> None:
        self._lose(list(self._domain.hosts), struck)

    def _lose(self, servers: Sequence[str], struck: Struck) -> None:
        struck.servers = list(servers)
        for server in servers:
            host = self._domain.hosts[server]
            host.unplug()
            struck.pids += host.processes()
        for server in servers:
            self._hold(server, struck)
            struck.pids += self._domain.hosts[server].processes()
            self._domain.hosts[server].kill_all()
            self._later(struck, self._domain.hosts[server].plug)

    def _freeze_host(self, stroke: Stroke, struck: Struck) -> None:
        struck.servers = [stroke.target]
        self._freeze(self._domain.hosts[stroke.target].processes(), struck)

    def _unplug_host(self, stroke: Stroke, struck: Struck) -> None:
        struck.servers = [stroke.target]
        host = self._domain.hosts[stroke.target]
        host.unplug()
        self._later(struck, host.plug)

    def _isolate_host(self, stroke: Stroke, struck: Struck) -> None:
        """Cut it from the other servers; clients reach all of them."""
        struck.servers = [stroke.target]
        here = self._domain.hosts[stroke.target]
        others = [host for server, host in self._domain.hosts.items() if server != stroke.target]
        for other in others:
            here.cut_from(other)
        self._later(struck, lambda: [here.join_with(other) for other in others] and None)

    def _cut_one_way(self, stroke: Stroke, struck: Struck) -> None:
        self._cut(stroke, struck, one_way=True)

    def _cut_both_ways(self, stroke: Stroke, struck: Struck) -> None:
        self._cut(stroke, struck, one_way=False)

    def _cut(self, stroke: Stroke, struck: Struck, *, one_way: bool) -> None:
        struck.servers = stroke.target.split(">")
        here, there = (self._domain.hosts[server] for server in struck.servers)
        here.cut_from(there, one_way=one_way)
        self._later(struck, lambda: here.join_with(there))

    def _fill_disk(self, stroke: Stroke, struck: Struck) -> None:
        struck.servers = [stroke.target]
        disk = self._domain.disks[stroke.target]
        disk.fill()
        self._later(struck, disk.empty)

    def _slow_disk(self, stroke: Stroke, struck: Struck) -> None:
        struck.servers = [stroke.target]
        disk = self._domain.disks[stroke.target]
        disk.slow_down()
        self._later(struck, disk.speed_up)

    # -- operators ----------------------------------------------------------------------------------------------------

    def _begin_task(self, stroke: Stroke, struck: Struck) -> None:
        task = threading.Thread(target=self._do_task, args=(stroke, struck))
        self._tasks.append(task)
        task.start()

    def _do_task(self, stroke: Stroke, struck: Struck) -> None:
        notes = []
        for words in self._commands(stroke):
            code, output = self._dkv(*words)
            notes.append(f"{words[0]}: {code}" + (f" {output}" if code else ""))
        struck.note = "; ".join(notes)
        struck.ended = time.monotonic()
        self._said(f"done: {stroke.kind} {stroke.target}: {struck.note}")

    def _commands(self, stroke: Stroke) -> Iterator[tuple[str, ...]]:
        """The commands of a task; the pause of one that lasts is in between."""
        name, _, more = stroke.target.partition(" ")
        if stroke.kind == "switch over":
            yield "switchover", "database", "--db-name", name
        elif stroke.kind == "rolling restart":
            yield "restart", "database", "--db-name", name, "--rolling"
        elif stroke.kind == "hot copy":
            place = f"/copy-{time.monotonic_ns()}"
            pairs = [w for server, d in self._copies(name) for w in (server, str(d) + place)]
            yield "hotcopy", "database", "--db-name", name, "--type", "simple", "--backup-dirs", *pairs, "--timeout", "60"
        elif stroke.kind == "set option":
            yield "update", "database-options", "--db-name", name, "--default-options", *more.split()
        else:
            instance, port = f"{name.lower()}-x{time.monotonic_ns() % 100000}", 8200 + 2 * (time.monotonic_ns() % 400)
            ports = ("-ClustronPort", str(port), "-ClientPort", str(port + 1))
            yield "Add-DkvInstance", "-StoreName", name, "-InstanceName", instance, *ports
            yield "Start-DkvStore", "-Name", name, "-InstanceName", instance
            time.sleep(stroke.lasts)
            self._remove(name, instance)

    def _remove(self, name: str, instance: str) -> None:
        """Stop and remove an instance, as soon as that is not refused any more; at once if it was never added."""
        ends = time.monotonic() + TASK_WITHIN
        while time.monotonic() < ends and any(i["instanceName"] == instance for i in self._watcher.stores[name]["instances"]):
            if self._dkv("Stop-DkvStore", "-Name", name, "-InstanceName", instance)[0] == 0:
                self._dkv("Remove-DkvInstance", "-StoreName", name, "-InstanceName", instance)
            time.sleep(1)

    def _copies(self, name: str) -> list[tuple[str, str]]:
        store = self._watcher.stores[name]
        directories = {place.server_id: str(place.directory) for place in self._domain.site.places}
        return [(str(i["archiveId"]), f"{directories[i['server']]}/copies-{i['archiveId']}") for i in store["instances"]]

    def _dkv(self, *words: str) -> tuple[int, str]:
        """One command of an operator at the desk: its exit code, and what it said."""
        environ = {**os.environ, "DKV_MANAGERS": ",".join(self._domain.managers)}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "dkv.cli.main", *words],
                env=environ,
                capture_output=True,
                text=True,
                timeout=TASK_WITHIN,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return -1, f"not over after {TASK_WITHIN:g} s"
        return done.returncode, " ".join((done.stdout + done.stderr).split())[-300:]


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _found(pid: int, what: str) -> int:
    if not pid:
        raise LookupError(f"no {what} runs")
    return pid
