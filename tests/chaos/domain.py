"""The domain of a chaos run: managers on hosts, each with a disk of its own and a service manager that starts it again."""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import shutil
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dkv import files
from dkv.cli.errors import CliError
from dkv.cli.output import Screen
from dkv.client import ClientError, Json, ManagerClient, parse_endpoint
from dkv.kernel import command_line
from dkv.members.place import MEMBERS, members_in
from dkv.playground.addresses import Place, Record
from dkv.playground.domain import lacks
from dkv.playground.hosts import Host
from dkv.playground.hosts_domain import HostsDomain, site_of
from tests.chaos import launch
from tests.chaos.disks import Disk

STORES: dict[str, tuple[int, int, int]] = {"One": (1, 3, 2), "Two": (2, 2, 1), "Three": (3, 2, 1)}
"""Groups, copies of each, and minInSync of every store."""
FIRST_PORTS = {"One": (7811, 7861), "Two": (7821, 7871), "Three": (7831, 7881)}
SERVICE_PAUSE = 1.0  # s after which a service manager starts a manager that ended by itself
WHOLE_WITHIN = 120.0  # s that everything may take to be whole again once nothing strikes any more
ROOT = Path(__file__).parents[2]


def servers_for(nodes: int, servers: int) -> int:
    """Over how many of so many servers the nodes of a store are spread, each with as many as the others."""
    return max(count for count in range(1, servers + 1) if nodes % count == 0)


class ChaosDomain(HostsDomain):
    """Some hosts, three stores. With `clocks` the wall clock of a manager can be moved; `plant` is a bug that each has."""

    def __init__(
        self, record: Record, hosts: Sequence[Host], disks: dict[Path, Disk], *, clocks: bool = False, plant: str = ""
    ) -> None:
        super().__init__(site_of(record.directory, hosts), record, Screen(out=sys.stderr), hosts)
        self.disks = {place.server_id: disks[place.directory] for place in self.site.places}
        self.held: set[str] = set()  # servers whose manager nothing starts now
        self.ended_alone: list[tuple[float, str, int]] = []  # s, server, exit code
        self.clocks = clocks
        self._plant = plant
        self._service = threading.Thread(target=self._serve, daemon=True)
        self._closing = threading.Event()
        self._starting = threading.Lock()

    def place(self, server_id: str) -> Place:
        """The place of a server."""
        return next(place for place in self.site.places if place.server_id == server_id)

    # -- begin and end ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start everything, and wait until all stores are whole. Raises CliError."""
        self.start_managers()
        self.await_voters(3)
        os.environ["DKV_DATABASE_USER"], os.environ["DKV_DATABASE_PASSWORD"] = "chaos", secrets.token_urlsafe(16)
        for name, (groups, copies, least) in STORES.items():
            self._create(name, groups, copies, least)
        for name in STORES:
            self.await_all(name)
        self._service.start()

    def _create(self, name: str, groups: int, copies: int, least: int) -> None:
        nodes = groups * copies
        managers = self.managers[: servers_for(nodes, len(self.managers))]
        ports = FIRST_PORTS[name]
        words = ["-Name", name, "-InstancePrefix", name.lower(), "-InstanceCount", str(nodes // len(managers))]
        words += ["-ReplicationFactor", str(copies), "-MinInSync", str(least), "-InsecureEngineTraffic", "yes"]
        words += ["-ClustronPort", str(ports[0]), "-ClientPort", str(ports[1]), "-Managers", ",".join(managers)]
        if self.cmdlet("New-DkvStore", *words, quiet=True) != 0:
            raise CliError(f"The store {name} could not be made.")
        body = {"name": os.environ["DKV_DATABASE_USER"], "password": os.environ["DKV_DATABASE_PASSWORD"]}
        self.ask(lambda client: client.change("POST", f"/stores/{name}/users", body))
        self.cmdlet("Start-DkvStore", "-Name", name, quiet=True)

    def await_all(self, name: str, within: float = WHOLE_WITHIN) -> Json:
        """The store, once every copy runs and is in sync. Raises CliError saying what is missing."""
        ends, missing = time.monotonic() + within, ["no manager answered"]
        while time.monotonic() < ends:
            with contextlib.suppress(CliError):
                store = self.ask(lambda client: client.store(name))
                missing = lacks(store)
                if not missing:
                    return dict(store)
            time.sleep(0.2)
        raise CliError(f"After {within:g} s the store {name} is not whole: {'; '.join(missing)}.")

    def end(self) -> list[str]:
        """Stop everything as operators do; what is left on the hosts afterwards, which has to be nothing: processes, sockets, and
        files that were being written.
        """
        self._closing.set()
        self._service.join()
        for name in STORES:
            self.cmdlet("Stop-DkvStore", "-Name", name, quiet=True)
        self.stop_managers()
        ends = time.monotonic() + 15
        while (left := self._left()) and time.monotonic() < ends:
            time.sleep(0.2)
        return left + self._left_files()

    def abandon(self) -> None:
        """SIGKILL all that is left."""
        self._closing.set()
        self.record.kill_everything()
        for host in self.hosts.values():
            host.kill_all()

    def _left(self) -> list[str]:
        """What runs on the hosts besides etcd members, which go on when a manager ends."""
        running = [(server, pid) for server, host in self.hosts.items() for pid in host.processes()]
        return [f"{server}: {command_line(pid)}" for server, pid in running if _program(pid) != "etcd"]

    def _left_files(self) -> list[str]:
        """The sockets in the servers' directories, and what a file is called before it is whole."""
        paths = [path for place in self.site.places for path in place.directory.rglob("*")]
        return [str(path) for path in paths if path.is_socket() or path.name.startswith(files.FRESH)]

    # -- managers ---------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """What systemd does on each host: a manager that ended is started again."""
        due: dict[str, float] = {}
        while not self._closing.wait(0.1):
            for place in self.site.places:
                child = self._managers.get(place.server_id)
                if place.server_id in self.held or (child is not None and child.poll() is None):
                    due.pop(place.server_id, None)
                elif child is not None and place.server_id not in due:
                    self.ended_alone.append((time.monotonic(), place.server_id, int(child.returncode)))
                    due[place.server_id] = time.monotonic() + SERVICE_PAUSE
                elif time.monotonic() >= due.get(place.server_id, 0.0):
                    self.relaunch_manager(place.server_id)

    def relaunch_manager(self, server_id: str) -> None:
        """Start a manager, without waiting for it."""
        with self._starting:
            child = self._managers.get(server_id)
            if child is None or child.poll() is not None:
                self._joining = ""
                self._start(self.place(server_id))

    def end_manager(self, server_id: str) -> int:
        """SIGKILL a manager, which nothing starts until `held` has it no more; its pid, 0 if it ran not."""
        with self._starting:
            self.held.add(server_id)
            child = self._managers.pop(server_id, None)
            if child is None:
                return 0
            child.kill()
            child.wait()
            return child.pid

    def manager_pid(self, server_id: str) -> int:
        """The pid of a manager; 0 if it does not run."""
        child = self._managers.get(server_id)
        return child.pid if child is not None and child.poll() is None else 0

    def set_clock(self, server_id: str, jump: int) -> None:
        """Move the wall clock of a manager, by seconds from the machine's."""
        self._clock_file(server_id).write_text(f"{jump:+d}\n")

    def _clock_file(self, server_id: str) -> Path:
        return self.record.directory / f"clock-{server_id}"

    def _environment(self, place: Place) -> dict[str, str]:
        environ = super()._environment(place)
        if self._is_launched:
            environ["PYTHONPATH"] = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
            environ[launch.CLOCK] = str(self._clock_file(place.server_id))
            environ[launch.PLANT] = self._plant
        return environ

    def _command(self, place: Place) -> list[str]:
        words = super()._command(place)
        return ["tests.chaos.launch" if self._is_launched and word == "dkv.cli.main" else word for word in words]

    @property
    def _is_launched(self) -> bool:
        return self.clocks or bool(self._plant)

    # -- looking ------------------------------------------------------------------------------------------------------

    def member_pid(self, server_id: str) -> int:
        """The pid of a server's etcd member; 0 if none runs."""
        return next((pid for pid in self.hosts[server_id].processes() if _program(pid) == "etcd"), 0)

    def engine_pids(self, server_id: str) -> list[int]:
        """The pids of the engines on a host."""
        return [pid for pid in self.hosts[server_id].processes() if _program(pid).startswith("valkey")]

    def state_leader(self) -> str:
        """The server whose etcd member leads; "" if none says so."""
        return next((place.server_id for place in self.site.places if self._leads_state(place)), "")

    def _leads_state(self, place: Place) -> bool:
        certificates = place.directory / "certificates"
        try:
            clients = members_in((place.directory / MEMBERS).read_text()).clients
            port = next(int(url.rpartition(":")[2]) for url in clients if f"//{place.host}:" in url)
            context = ssl.create_default_context(cafile=str(certificates / "authorities.pem"))
            context.check_hostname = False
            context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
            line = http.client.HTTPSConnection(place.host, port, timeout=1.0, context=context)
            line.request("GET", "/metrics")
            return b"etcd_server_is_leader 1" in line.getresponse().read()
        except (OSError, ValueError, StopIteration, http.client.HTTPException):
            return False


def _program(pid: int) -> str:
    return os.path.basename(command_line(pid).partition(" ")[0])


class Watcher:
    """Looks at the whole domain twice a second, through whichever manager answers, and keeps what it saw."""

    def __init__(self, managers: Sequence[str], seen: Callable[[Json], None]) -> None:
        self.stores: dict[str, Json] = {}  # the newest view of each
        self._clients = [ManagerClient(parse_endpoint(manager), timeout=1.5) for manager in managers]
        self._seen = seen
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            at = time.monotonic()
            try:
                stores = self._clients[0].stores()
                waiting = self._clients[0].waiting()
            except ClientError as error:
                self._clients.append(self._clients.pop(0))
                self._seen({"at": at, "trouble": str(error)})
                self._ended.wait(0.1)
                continue
            self.stores = {store["name"]: dict(store) for store in stores}
            self._seen(
                {"at": at, "groups": [_group(s, g) for s in stores for g in s["groups"]], "waiting": [dict(w) for w in waiting]}
            )
            self._ended.wait(0.5)


def _group(store: Any, group: Any) -> Json:
    kept = ("name", "term", "open", "serving", "leader", "inSync")
    return {"store": store["name"]} | {name: group[name] for name in kept}


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def why_no_etcd() -> str:
    """Why there can be no domain of several hosts here; "" when there can."""
    return "" if shutil.which("etcd") else "the program etcd is missing (Debian: apt install etcd-server)"
