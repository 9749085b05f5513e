"""Playground: hosts of a network on one machine: network namespaces with addresses of their own, joined by a switch.

What runs in a host sees that host's interfaces only; files are the machine's. Only root can make them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from dkv.cli.errors import CliError

NOWHERE = "02:00:00:00:00:99"  # a hardware address that no host has
NETWORK_NAMESPACE = 0x40000000  # CLONE_NEWNET
PLACE = "/var/run/netns"  # where ip keeps names of namespaces


@dataclass(frozen=True)
class Host:
    """One host: its name, its address, and the switch and port that its cable is in."""

    name: str
    address: str
    switch: str
    port: str

    @property
    def inside(self) -> list[str]:
        """What a command begins with that runs there."""
        return ["ip", "netns", "exec", self.name]

    def processes(self) -> list[int]:
        """The pids of what runs there, but for this process itself."""
        listed = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=False)
        return [int(pid) for pid in listed.stdout.split() if int(pid) != os.getpid()]

    def kill_all(self) -> int:
        """SIGKILL everything that runs there, as when its power goes; how many processes that were."""
        pids = self.processes()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(pids)

    def unplug(self) -> None:
        """Take its cable out: nothing gets in or out, and nobody is told."""
        _ip("-n", self.switch, "link", "set", self.port, "down")

    def plug(self) -> None:
        """Put its cable in again."""
        _ip("-n", self.switch, "link", "set", self.port, "up")

    def cut_from(self, other: Host, *, one_way: bool = False) -> None:
        """Nothing that this host sends reaches the other any more, and nobody is told; unless `one_way`, nothing the other sends
        reaches this one either. Frames go to an address that no card has.
        """
        _ip("-n", self.name, "neigh", "replace", other.address, "lladdr", NOWHERE, "dev", "eth", "nud", "permanent")
        if not one_way:
            other.cut_from(self, one_way=True)

    def join_with(self, other: Host) -> None:
        """Undo every cut between this host and the other."""
        for here, there in ((self, other), (other, self)):
            with contextlib.suppress(subprocess.CalledProcessError):  # it was not cut that way
                _ip("-n", here.name, "neigh", "del", there.address, "dev", "eth")


def why_none() -> str:
    """Why this process can make no hosts, as a clause; "" when it can."""
    if os.geteuid() != 0:
        return "only root can make them"
    if not shutil.which("ip"):
        return "the program ip is missing (Debian: apt install iproute2)"
    name = f"dkv-{os.getpid()}-trial"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"the kernel gives none ({made.stderr.strip()})"
    _ip("netns", "del", name)
    return ""


@contextlib.contextmanager
def hosts(*addresses: str) -> Iterator[list[Host]]:
    """Hosts with these addresses of 10.0.0.0/24; nothing of them is left afterwards. Raises CliError."""
    prefix = f"dkv-{os.getpid()}"
    switch = f"{prefix}-switch"
    made = [Host(f"{prefix}-{number}", address, switch, f"port{number}") for number, address in enumerate(addresses)]
    try:
        _sweep()
        _connect(switch, made)
        yield made
    except subprocess.CalledProcessError as error:
        raise CliError(f"A host could not be made: {error.stderr.strip()}.") from error
    finally:
        for host in made:
            host.kill_all()
        for name in [*(host.name for host in made), switch]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _sweep() -> None:
    """Remove what a process that was killed left of its hosts."""
    for name in sorted(os.listdir(PLACE) if os.path.isdir(PLACE) else ()):
        prefix, _, rest = name.partition("-")
        pid = rest.partition("-")[0]
        if prefix == "dkv" and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            Host(name, "", "", "").kill_all()
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def _connect(switch: str, made: list[Host]) -> None:
    _ip("netns", "add", switch)
    _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
    _ip("-n", switch, "link", "set", "bridge", "up")
    for host in made:
        _ip("netns", "add", host.name)
        _ip("-n", switch, "link", "add", host.port, "type", "veth", "peer", "name", "eth", "netns", host.name)
        _ip("-n", switch, "link", "set", host.port, "master", "bridge", "up")
        _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth")
        _ip("-n", host.name, "link", "set", "eth", "up")
        _ip("-n", host.name, "link", "set", "lo", "up")


def enter(host: Host) -> None:
    """Have this thread, and what it starts from now on, run in a host. Raises CliError."""
    place = os.open(f"{PLACE}/{host.name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(place, NETWORK_NAMESPACE) != 0:
            raise CliError(f"The host {host.name} cannot be entered: {os.strerror(ctypes.get_errno())}.")
    finally:
        os.close(place)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
