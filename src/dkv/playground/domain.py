"""Playground: the playground's own domain: its managers as child processes, and requests to them."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from dkv.cli.binding import from_argv
from dkv.cli.cmdlets import run_cmdlet
from dkv.cli.errors import CliError
from dkv.cli.output import Screen
from dkv.cli.session import Session
from dkv.cli.waiting import until
from dkv.client import ClientError, ManagerClient, ManagerPool, parse_endpoint
from dkv.constants import NUODB_PORT
from dkv.playground.addresses import Place, Record, Site
from dkv.playground.writer import Target

if TYPE_CHECKING:
    from dkv.wire import schemas

T = TypeVar("T")
READY_WITHIN = 30.0  # s a manager has to answer and to reach the domain
END_WITHIN = 15.0  # s a manager has to end
STORE = USER = "demo"
LOGIN_VARIABLES = ("DKV_DATABASE_USER", "DKV_DATABASE_PASSWORD")  # of the writers; no manager and no engine needs them
BROKEN_OFTEN = {"DKV_RESTART_BUDGET": "1000"}
"""A process that dies is restarted at once here: a playground is for breaking. By default it is held back after three deaths."""


class Domain:
    """Managers on a site, sharing one SQLite state. Every process started is in the record at once."""

    def __init__(self, site: Site, record: Record, screen: Screen) -> None:
        self.site = site
        self.record = record
        self.screen = screen
        self._managers: dict[str, subprocess.Popen[bytes]] = {}
        self._pool = ManagerPool(map(parse_endpoint, self.managers), timeout=5.0)

    @property
    def managers(self) -> list[str]:
        """The managers' addresses."""
        return [place.manager for place in self.site.places]

    # -- managers -----------------------------------------------------------------------------------------------

    def start_managers(self) -> None:
        """Start those that do not run, and wait until all are ready. Raises CliError."""
        idle = [place for place in self.site.places if place.server_id not in self._managers]
        for place in idle:
            self._start(place)
        for place in idle:
            self._await_ready(place)

    def _start(self, place: Place) -> None:
        with (self.record.directory / f"{place.server_id}.log").open("ab") as log:
            # A session of its own: Ctrl-C on the terminal is for the playground, which then stops its managers.
            child = subprocess.Popen(
                self._command(place),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.record.directory,
                env=self._environment(place),
            )
        self._managers[place.server_id] = child
        self.record.add(child.pid)

    def _environment(self, place: Place) -> dict[str, str]:
        """The environment of a manager."""
        return {name: text for name, text in os.environ.items() if name not in LOGIN_VARIABLES} | BROKEN_OFTEN

    def _command(self, place: Place) -> list[str]:
        """How a manager is started."""
        return [
            sys.executable,
            "-m",
            "dkv.cli.main",
            "manager",
            "run",
            "--server-id",
            place.server_id,
            "--bind",
            place.host,
            "--port",
            str(place.port),
            "--nuodb-port",
            "0" if place.host == "127.0.0.1" else str(NUODB_PORT),
            "--data-dir",
            str(place.directory),
            "--state",
            f"sqlite:{self.record.directory / 'domain.sqlite'}",
        ]

    def _await_ready(self, place: Place) -> None:
        client = ManagerClient(parse_endpoint(place.manager), timeout=1.0)
        child = self._managers[place.server_id]
        if until(client.ready, lambda ready: ready or child.poll() is not None, READY_WITHIN, pause=0.03):
            return
        log = self.record.directory / f"{place.server_id}.log"
        failure = "ended at once" if child.poll() is not None else "did not become ready"
        raise CliError(f"The manager of {place.server_id} {failure}.", f"Its log is {log}: {_last_line(log)}")

    def kill_manager(self, place: Place) -> None:
        """SIGKILL one manager."""
        child = self._managers.pop(place.server_id)
        child.kill()
        child.wait()

    def kill_everything(self) -> int:
        """SIGKILL all managers, then all engines; how many processes that were."""
        from dkv.playground.addresses import engines, kill_all

        for child in self._managers.values():
            child.kill()
        count = len(self._managers) + kill_all(engines(self.record.directory))
        for child in self._managers.values():
            child.wait()
        self._managers.clear()
        return count

    def stop_managers(self) -> None:
        """SIGTERM all managers; their engines keep running."""
        for child in self._managers.values():
            child.send_signal(signal.SIGTERM)
        for child in self._managers.values():
            try:
                child.wait(END_WITHIN)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._managers.clear()

    # -- requests -------------------------------------------------------------------------------------------------

    def cmdlet(self, name: str, *words: str, quiet: bool = False) -> int:
        """Run a cmdlet as `dkv NAME WORDS` does, against this domain; its exit code."""
        screen = Screen(out=open(os.devnull, "w")) if quiet else self.screen  # noqa: SIM115  closed with the process
        if not quiet:
            screen.line(f"$ dkv {' '.join([name, *words])}")
        session = Session(screen, {**os.environ, "DKV_MANAGERS": ",".join(self.managers)})
        return run_cmdlet(session, name, from_argv(list(words)))

    def ask(self, call: Callable[[ManagerClient], T]) -> T:
        """The answer of the first manager that gives one. Raises CliError."""
        try:
            return self._pool.first(call)
        except ClientError as error:
            raise CliError(f"No manager answered: {error}", f"Their logs are in {self.record.directory}.") from error

    def store(self) -> schemas.Store:
        """The store as it is now."""
        return self.ask(lambda client: client.store(STORE))

    def target(self) -> Target:
        """Where the store's clients connect; the authorities of engines that speak TLS are in a file from now on."""
        store, file = self.store(), self.record.directory / "authorities.pem"
        if not store["transport"]["tls"]:
            return Target(endpoints(store))
        file.write_text(store["transport"]["authorities"], encoding="ascii")
        return Target(endpoints(store), str(file))

    def make_user(self) -> None:
        """Make the store's user, as which the clients of this process and of its children log in. Its password is made once for a
        directory. Raises CliError."""
        file = self.record.directory / "password"
        if not file.exists():
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as out:
                out.write(secrets.token_urlsafe(16))
        os.environ["DKV_DATABASE_USER"], os.environ["DKV_DATABASE_PASSWORD"] = USER, file.read_text(encoding="ascii")
        body = {"name": USER, "password": os.environ["DKV_DATABASE_PASSWORD"]}
        self.ask(lambda client: client.change("POST", f"/stores/{STORE}/users", body))

    def has_store(self) -> bool:
        """Whether an earlier playground in the same directory made it."""
        return any(store["name"] == STORE for store in self.ask(lambda client: client.stores()))

    def await_whole(self, within: float) -> schemas.Store:
        """The store, once every instance runs and is in sync. Raises CliError saying what is missing."""
        store = until(
            self.store,
            lambda store: not lacks(store),
            within,
            pause=0.05,
            report=lambda store, _: self.screen.progress(f"waiting: {'; '.join(lacks(store))}"),
        )
        if lacks(store):
            raise CliError(f"After {within:g} s the store is not whole: {'; '.join(lacks(store))}.")
        return store


def lacks(store: schemas.Store) -> list[str]:
    """Phrases for everything that a store lacks to be whole and in sync."""
    missing = [f"{i['instanceName']} is {i['state']}" for i in store["instances"] if i["state"] != "Running"]
    for group in store["groups"]:
        members = [i["instanceName"] for i in store["instances"] if i["group"] == group["name"]]
        if not group["serving"]:
            missing.append(f"{group['name']} has no leader")
        elif sorted(group["inSync"]) != sorted(members) or group["joining"]:
            missing.append(f"{group['name']} has {len(group['inSync'])} of {len(members)} copies in sync")
    return missing


def endpoints(store: schemas.Store) -> list[str]:
    """Where clients connect."""
    return [f"{i['host']}:{i['clientPort']}" for i in store["instances"]]


def leader_of(store: schemas.Store, group: schemas.Group) -> schemas.Instance:
    """The instance that leads a group."""
    return next(i for i in store["instances"] if i["instanceName"] == group["leader"])


def _last_line(log: os.PathLike[str]) -> str:
    with open(log, encoding="utf-8", errors="replace") as file:
        lines: Sequence[str] = file.read().splitlines()
    return lines[-1] if lines else "it is empty"
