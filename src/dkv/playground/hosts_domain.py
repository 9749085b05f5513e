"""Playground: a domain on hosts of a network: each server joins with a token, and the state is on etcd members of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dkv.cli.errors import CliError
from dkv.cli.output import Screen
from dkv.cli.waiting import until
from dkv.constants import FIRST_CLIENT_PORT, FIRST_CLUSTER_PORT, MANAGER_PORT
from dkv.playground.addresses import Place, Record, Site
from dkv.playground.domain import READY_WITHIN, Domain
from dkv.playground.hosts import Host

FIRST_ADDRESS = 11  # the last byte of 10.0.0.x
DESK = "10.0.0.10"  # where the playground itself is, and its clients
VOTE_WITHIN = 60.0  # s the members of the domain state have to become voters
CREDENTIALS = ("DKV_TOKEN", "DKV_CA_FILE")  # of the desk; no manager needs them
JOIN_TOKEN = "DKV_JOIN_TOKEN"


def addresses(hosts: int) -> list[str]:
    """The addresses of so many hosts of the domain."""
    return [f"10.0.0.{FIRST_ADDRESS + number}" for number in range(hosts)]


def site_of(directory: Path, hosts: Sequence[Host]) -> Site:
    """One server on each host."""
    places = [
        Place(f"server-{number}", host.address, MANAGER_PORT, directory / f"server-{number}")
        for number, host in enumerate(hosts, 1)
    ]
    return Site(tuple(places), FIRST_CLUSTER_PORT, FIRST_CLIENT_PORT)


class HostsDomain(Domain):
    """Managers that each run on a host. The first founds the domain; the others join it, which moves its state to etcd."""

    def __init__(self, site: Site, record: Record, screen: Screen, hosts: Sequence[Host]) -> None:
        super().__init__(site, record, screen)
        self.hosts = {place.server_id: host for place, host in zip(site.places, hosts, strict=True)}
        self._joining = ""  # the join token of the manager that is started next

    def start_managers(self) -> None:
        """Start those that do not run, one after the other; one that is new joins. Raises CliError."""
        for place in self.site.places:
            if place.server_id not in self._managers:
                self.start_manager(place)

    def start_manager(self, place: Place) -> None:
        """Start one and wait until it is ready. Raises CliError."""
        self._joining = self._join_token() if self._is_new(place) else ""
        self._start(place)
        if "DKV_TOKEN" not in os.environ:
            self._log_in()
        self._await_ready(place)

    def await_voters(self, count: int) -> list[str]:
        """The servers whose members vote, once there are so many. Raises CliError."""

        def voters() -> list[str]:
            servers = self.ask(lambda client: client.domain())["servers"]
            return [server["serverId"] for server in servers if server["stateMember"] == "voter"]

        voting = until(voters, lambda voting: len(voting) >= count, VOTE_WITHIN, pause=0.2)
        if len(voting) < count:
            raise CliError(f"After {VOTE_WITHIN:g} s only {', '.join(voting) or 'no server'} voted.")
        return voting

    def lose(self, server_id: str) -> int:
        """Kill everything on the host of a server and take its cable out; how many processes that were."""
        host = self.hosts[server_id]
        host.unplug()
        count = host.kill_all()
        self._managers.pop(server_id).wait()
        return count

    @property
    def _first(self) -> Place:
        return self.site.places[0]

    def _is_new(self, place: Place) -> bool:
        return place is not self._first and not (place.directory / "joined.json").exists()

    def _join_token(self) -> str:
        return self.on_host(self._first, "create", "join-token", "--managers", self._first.host).strip()

    def _log_in(self) -> None:
        """Have the clients of this process show a token and believe the domain's authority, once the first manager serves.
        Raises CliError.
        """
        bundle = self._first.directory / "certificates" / "authorities.pem"
        until(bundle.exists, lambda exists: exists, READY_WITHIN, pause=0.05)
        token = self.on_host(self._first, "create", "token", "--role", "admin", "--managers", self._first.host)
        os.environ["DKV_TOKEN"], os.environ["DKV_CA_FILE"] = token.strip(), str(bundle)

    def on_host(self, place: Place, *words: str) -> str:
        """Run `dkv WORDS` on a host, as its administrator; what it printed. Raises CliError."""
        command = [*self.hosts[place.server_id].inside, sys.executable, "-m", "dkv.cli.main", *words]
        environ = {name: text for name, text in os.environ.items() if name not in CREDENTIALS}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise CliError(f"dkv {' '.join(words)} failed on {place.host}: {done.stderr.strip()}")
        return done.stdout

    def _environment(self, place: Place) -> dict[str, str]:
        environ = super()._environment(place)
        given = {name: text for name, text in environ.items() if name not in CREDENTIALS}
        return given | ({JOIN_TOKEN: self._joining} if self._joining else {})

    def _command(self, place: Place) -> list[str]:
        words = super()._command(place)
        words = words[: words.index("--state")]
        peer = ["--join", self._first.host] if self._joining else []
        return [*self.hosts[place.server_id].inside, *words, *peer]
