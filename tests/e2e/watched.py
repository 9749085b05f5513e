"""A domain with one store that has a copy on each manager but the last, which can therefore be asked whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dkv.client import Json, ManagerClient
from tests.e2e.local_domain import LocalDomain, Manager, wait_for


class Watched(LocalDomain):
    """One such domain. Everything is asked of the last manager."""

    def __init__(
        self, root: Path, store: str, copies: int, settings: dict[str, str] | None = None, words: tuple[str, ...] = ()
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.store, self.copies, self._words = store, copies, words
        super().__init__(root, copies + 1, settings)

    @property
    def client(self) -> ManagerClient:
        """The manager that has no engine of the store."""
        return self.managers[-1].client

    def create_it(self) -> None:
        """Create the store, not started."""
        words = ("-ReplicationFactor", str(self.copies), "-Managers", self._others, *self._words)
        self.do("New-DkvStore", self.store, self.store.lower(), *words)

    def start_it(self) -> None:
        """Start all of it, and wait until it is whole."""
        self.do("Start-DkvStore", self.store, "-Managers", self._others)
        self.wait_whole()

    @property
    def _others(self) -> str:
        return ",".join(self.addresses.split(",")[:-1])

    def wait_whole(self) -> None:
        """Wait until it serves with every copy in sync."""
        wait_for(f"{self.store} whole", lambda: self.led()["serving"] and len(self.led()["inSync"]) == self.copies)

    def led(self) -> Json:
        """Its only group, which says who leads."""
        return self.group(self.store)

    def names(self, but: str = "") -> list[str]:
        """Its instances, without one."""
        instances = self.client.store(self.store)["instances"]
        return [str(instance["instanceName"]) for instance in instances if instance["instanceName"] != but]

    def manager_of(self, name: str) -> Manager:
        """The manager of the server that an instance is on."""
        server = self.instance(self.store, name)["server"]
        return next(manager for manager in self.managers if manager.server_id == server)

    def last_event(self) -> int:
        """The number of the newest event."""
        return max(int(event["sequence"]) for event in self.client.events())


@contextmanager
def watched(
    root: Path, store: str, copies: int, settings: dict[str, str] | None = None, words: tuple[str, ...] = ()
) -> Iterator[Watched]:
    """A domain that runs, its store, created with these words, whole; everything it started has ended when this ends."""
    domain = Watched(root, store, copies, settings, words)
    try:
        domain.start()
        domain.create_it()
        domain.start_it()
        yield domain
    finally:
        domain.close()
