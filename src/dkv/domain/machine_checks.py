"""Domain: whether the machines of a domain are fit for it: what each has to reach, and what its settings mean. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dkv.constants import PEERS_ABOVE
from dkv.domain.model import EngineState, ProcessState, Reader, State
from dkv.domain.state_members import trouble_fix, trouble_text

SLOW_FSYNC, BAD_FSYNC = 20.0, 200.0  # ms
FEW_FILES = 10_000
LITTLE_ROOM = 256 << 20  # bytes
SKEWED_CLOCK, WRONG_CLOCK = 1_000, 60_000  # ms; certificates are refused whose time has not come by a machine's clock


@dataclass(frozen=True)
class MachineFacts:
    """What a manager reads of its machine."""

    fsync: float  # ms that a small write to the data directory takes to be on the disk, the median of some; below 0: it failed
    open_files: int  # how many files and connections a process of this manager may have open at most
    overcommit: int  # vm.overcommit_memory, 0 to 2; below 0: unknown
    huge_pages: str  # of transparent huge pages: always, madvise, never; "": unknown
    no_write: str = ""  # why no write could be timed
    free: int = -1  # bytes left on the disk of the data directory; below 0: unknown
    founds_none: bool = True  # with an empty data directory its manager would found no domain: the setting domain is set


@dataclass(frozen=True)
class Port:
    """What a machine has to reach on another one."""

    server_id: str
    host: str
    port: int
    what: str  # in words


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be, and what mends it. A `problem` stops something; else it is advice."""

    problem: bool
    text: str
    fix: str


def ports_to_reach(state: Reader, server_id: str) -> list[Port]:
    """The ports of engines and of etcd members on other servers that are alive; managers are asked themselves. By server and
    port.
    """
    others = [process for process in state.processes.values() if process.server_id != server_id]
    engines = (port for process in others for port in _ports(state, process.start_id))
    return sorted([*engines, *_member_ports(state, server_id)], key=lambda port: (port.server_id, port.port))


def _member_ports(state: Reader, server_id: str) -> Iterator[Port]:
    """Every server calls the members of the domain state; those that have one call each other too."""
    here = state.servers.get(server_id)
    for server in state.servers.values():
        if server.server_id == server_id or not server.alive or not server.state_member:
            continue
        yield Port(server.server_id, server.host, server.etcd_port, "the client port of the domain state's etcd")
        if here is not None and here.state_member:
            peer = server.etcd_port + PEERS_ABOVE
            yield Port(server.server_id, server.host, peer, "the port between members of the domain state's etcd")


def _ports(state: Reader, start_id: int) -> Iterator[Port]:
    process = state.processes[start_id]
    server = state.servers.get(process.server_id)
    runs = process.state is ProcessState.MONITORED and process.engine_state is EngineState.RUNNING and not process.leaving
    if server is None or not server.alive or not runs or process.health.silent_at:
        return
    archive = state.archive_of(process)
    if archive:
        yield Port(server.server_id, server.host, archive.client_port, f"the client port of {archive.name}")
        yield Port(server.server_id, server.host, archive.cluster_port, f"the cluster port of {archive.name}")
    for endpoint in process.endpoints:
        yield Port(server.server_id, server.host, endpoint.client_port, f"a client port of process {start_id}")
        yield Port(server.server_id, server.host, endpoint.cluster_port, f"a cluster port of process {start_id}")


def unreached(port: Port, why: str) -> Finding:
    """A port that cannot be connected to."""
    place = f"{port.what} on server {port.server_id}, {port.host}:{port.port}"
    return Finding(True, f"it does not reach {place}: {why}", f"let this machine through to port {port.port} of {port.host}")


def untried(count: int, seconds: float) -> Finding:
    """Ports that there was no time for."""
    text = f"{count} ports on other machines were not tried within {seconds:g} s"
    return Finding(True, text, "mend what is named here first, then look again")


def away(reason: str) -> Finding:
    """A machine whose manager does not answer."""
    return Finding(True, f"its manager does not answer: {reason}", "start it, or let the other machines through to its port")


def findings(facts: MachineFacts) -> list[Finding]:
    """What is wrong with one machine by itself."""
    return [*_disk(facts), *_room(facts), *_kernel(facts)]


def clock_findings(offset: int) -> list[Finding]:
    """What is wrong with its clock. `offset` in ms: how far it is ahead of the clock of the machine that asks."""
    if abs(offset) <= SKEWED_CLOCK:
        return []
    text = f"its clock is {abs(offset) / 1000:.1f} s {'ahead' if offset > 0 else 'behind'}"
    return [Finding(abs(offset) > WRONG_CLOCK, text, "run chrony or systemd-timesyncd on both machines")]


def _disk(facts: MachineFacts) -> Iterator[Finding]:
    if facts.fsync < 0:
        text = f"nothing can be written to its data directory: {facts.no_write or 'nothing is known of it'}"
        yield Finding(True, text, "mend what it says: make room, repair the disk, or give the directory back to its user")
    elif facts.fsync > SLOW_FSYNC:
        text = f"a write takes {facts.fsync:.0f} ms to be on its disk, and each acknowledged write waits for one"
        yield Finding(facts.fsync > BAD_FSYNC, text, "put data directory and archives on a disk of their own, not over a network")


def member_findings(state: Reader, server_id: str) -> list[Finding]:
    """What its manager sees wrong with its etcd member of the domain state."""
    server = state.servers.get(server_id)
    if server is None or not server.member_trouble:
        return []
    fix = trouble_fix(server.member_trouble).rstrip(".")
    return [Finding(True, trouble_text(server.member_trouble), fix[:1].lower() + fix[1:])]


def founding_findings(state: State, facts: MachineFacts) -> list[Finding]:
    """Of a domain of several machines: that its manager would found a second one, if its data directory were empty."""
    if facts.founds_none or not any(server.state_member for server in state.servers.values()):
        return []
    text = "with an empty data directory, as of a disk that is not mounted, its manager would found a second domain"
    return [Finding(False, text, f'domain = "{state.uid}" in its dkv.toml; dkv service install writes that into the unit')]


def _room(facts: MachineFacts) -> Iterator[Finding]:
    if 0 <= facts.free < LITTLE_ROOM:
        text = f"the disk of its data directory has {facts.free >> 20} MB left: engines refuse writes once it is full"
        yield Finding(True, text, "make room there, or give data directory and archives a larger disk")


def _kernel(facts: MachineFacts) -> Iterator[Finding]:
    if 0 <= facts.open_files < FEW_FILES:
        text = f"a process may have {facts.open_files} files and connections open"
        yield Finding(False, text, f"LimitNOFILE={FEW_FILES} or more in the manager's unit, or ulimit -n")
    if facts.overcommit in (0, 2):
        text = f"vm.overcommit_memory is {facts.overcommit}: a large engine may not be able to fork for a rewrite"
        yield Finding(False, text, "sysctl vm.overcommit_memory=1")
