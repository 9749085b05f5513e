"""Playground: where a playground's servers listen, and the records by which a killed one is found again.

A record is a file beside those of the user's other playgrounds. It names processes by pid and start time, because a
pid alone may belong to another process by now.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dkv.cli.errors import CliError
from dkv.cli.waiting import until
from dkv.constants import FIRST_CLIENT_PORT, FIRST_CLUSTER_PORT, MANAGER_PORT
from dkv.kernel import bind_error, boot_id, is_alive, started

FIRST_HOST, LAST_HOST = 11, 250  # the last byte of 127.0.0.x
GONE_WITHIN = 10.0  # s a killed process has to disappear


@dataclass(frozen=True)
class Place:
    """Where one server of the playground is. `port` is its manager's."""

    server_id: str
    host: str
    port: int
    directory: Path

    @property
    def manager(self) -> str:
        """The manager's address."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Site:
    """All places of one playground, and the first ports of its nodes on each host."""

    places: tuple[Place, ...]
    cluster_port: int
    client_port: int


# Choosing ------------------------------------------------------------------------------------------------------------


def choose(directory: Path, servers: int, instances: int) -> Site:
    """Free addresses 127.0.0.11, .12, ... or, where such addresses do not work, free ports of 127.0.0.1."""
    if not os.environ.get("DKV_TEST_NO_ADDRESSES") and bindable(f"127.0.0.{FIRST_HOST}", 0):
        wanted = [MANAGER_PORT, *(base + i for base in (FIRST_CLUSTER_PORT, FIRST_CLIENT_PORT) for i in range(instances))]
        for first in range(FIRST_HOST, LAST_HOST - servers, max(10, servers)):
            hosts = [f"127.0.0.{first + i}" for i in range(servers)]
            if all(bindable(host, port) for host in hosts for port in wanted):
                return _site(directory, [(host, MANAGER_PORT) for host in hosts], FIRST_CLUSTER_PORT, FIRST_CLIENT_PORT)
        raise CliError("Every address from 127.0.0.11 on is in use.", "Stop another playground first.")
    ports = _free_run(MANAGER_PORT, servers)
    cluster = _free_run(max(FIRST_CLUSTER_PORT, ports + servers), servers * instances)
    client = _free_run(max(FIRST_CLIENT_PORT, cluster + servers * instances), servers * instances)
    return _site(directory, [("127.0.0.1", ports + i) for i in range(servers)], cluster, client)


def _site(directory: Path, where: list[tuple[str, int]], cluster: int, client: int) -> Site:
    places = [Place(f"server-{i}", host, port, directory / f"server-{i}") for i, (host, port) in enumerate(where, 1)]
    return Site(tuple(places), cluster, client)


def _free_run(start: int, length: int) -> int:
    for base in range(start, 60000, 10):
        if all(bindable("127.0.0.1", base + i) for i in range(length)):
            return base
    raise CliError(f"No {length} free ports in a row were found on 127.0.0.1.", "Stop what listens there.")


def bindable(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    return bind_error(host, port) == 0


# Processes -----------------------------------------------------------------------------------------------------------


def kill_all(processes: Iterator[tuple[int, int]] | list[tuple[int, int]]) -> int:
    """SIGKILL those that live, wait until they are gone, and count them."""
    living = [(pid, start) for pid, start in processes if is_alive(pid, start)]
    for pid, _ in living:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if until(lambda: any(is_alive(pid, start) for pid, start in living), lambda left: not left, GONE_WITHIN, pause=0.01):
        raise CliError("A killed process does not end.", "Look at it with ps.")
    return len(living)


def end_groups(leaders: list[tuple[int, int]]) -> int:
    """As kill_all, each with the process group it leads: the engines of a TE are in that of their launcher."""
    living = [(pid, start) for pid, start in leaders if is_alive(pid, start)]
    members = [member for pid, _ in living for member in _group(pid)]
    for pid, _ in living:
        with contextlib.suppress(ProcessLookupError):  # it is not yet the leader of a group
            os.killpg(pid, signal.SIGKILL)
    kill_all([*living, *members])
    return len(living)


def _group(leader: int) -> list[tuple[int, int]]:
    """Pid and start time of every process in the group of that number."""
    members = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(int(name)) == leader:
                    members.append((int(name), started(int(name))))
    return members


def engines(directory: Path) -> list[tuple[int, int]]:
    """Pid and start time of every engine ever started below a playground's directory, as their parents wrote it."""
    processes = []
    for born in directory.glob("server-*/run/*/born"):
        with contextlib.suppress(OSError, ValueError):
            pid, start = born.read_text().split()
            processes.append((int(pid), int(start)))
    return processes


# Records -------------------------------------------------------------------------------------------------------------


@dataclass
class Record:
    """The record of a playground: its directory, and the processes that it started besides engines."""

    file: Path
    directory: Path
    temporary: bool
    processes: list[tuple[int, int]] = field(default_factory=list)

    def add(self, pid: int) -> None:
        """Remember a process; written down before anything else happens."""
        self.processes = [p for p in self.processes if is_alive(*p)] + [(pid, started(pid))]
        self.write()

    def write(self) -> None:
        """Write the record as a whole."""
        text = json.dumps(
            {
                "boot": boot_id(),
                "pid": os.getpid(),
                "start": started(os.getpid()),
                "directory": str(self.directory),
                "temporary": self.temporary,
                "processes": self.processes,
            }
        )
        fresh = self.file.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.file)

    def kill_everything(self) -> None:
        """SIGKILL managers and writers first, so that no engine is restarted, then the engines."""
        kill_all(list(self.processes))
        end_groups(engines(self.directory))

    def remove(self) -> None:
        """Forget the playground."""
        self.file.unlink(missing_ok=True)


@contextlib.contextmanager
def registry() -> Iterator[Path]:
    """The directory of this user's records, held alone, so that two playgrounds never choose the same addresses."""
    place = Path(tempfile.gettempdir(), f"dkv-playgrounds-{os.getuid()}")
    place.mkdir(mode=0o700, exist_ok=True)
    if place.is_symlink() or place.stat().st_uid != os.getuid():
        raise CliError(f"{place} belongs to another user.", "Set TMPDIR to a directory of yours.")
    with (place / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield place


def stop_leftovers(place: Path) -> list[tuple[Path, int]]:
    """Stop what playgrounds that were killed left behind: (their directory, how many processes) of each."""
    stopped_playgrounds = []
    for file in sorted(place.glob("*.json")):
        try:
            record = json.loads(file.read_text())
            directory, processes = Path(record["directory"]), [(int(p), int(s)) for p, s in record["processes"]]
            owner, boot = (int(record["pid"]), int(record["start"])), str(record["boot"])
        except (OSError, ValueError, KeyError, TypeError):
            file.unlink(missing_ok=True)
            continue
        if boot == boot_id() and is_alive(*owner):
            continue
        stopped = 0
        if boot == boot_id():
            stopped = kill_all(processes) + end_groups(engines(directory))
        if record.get("temporary"):
            discard(directory)
        file.unlink(missing_ok=True)
        stopped_playgrounds.append((directory, stopped))
    return stopped_playgrounds


def owner_of(place: Path, directory: Path) -> int | None:
    """The pid of the living playground that uses a directory."""
    for file in place.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = json.loads(file.read_text())
            if record["directory"] == str(directory) and is_alive(int(record["pid"]), int(record["start"])):
                return int(record["pid"])
    return None


def discard(directory: Path) -> None:
    """Remove a temporary directory that a playground made itself."""
    import shutil

    if directory.name.startswith("dkv-playground-"):
        shutil.rmtree(directory, ignore_errors=True)
