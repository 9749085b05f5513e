"""Playground: `dkv playground --hosts 3 --once`: a host is lost and comes back, one is cut off, every confirmed key is
verified.
"""

from __future__ import annotations

import time

from dkv.cli.errors import CliError
from dkv.cli.output import Screen
from dkv.confirm import Kind
from dkv.playground import render
from dkv.playground.demo import PAUSE, WHOLE_WITHIN, Demo
from dkv.playground.domain import STORE, leader_of
from dkv.playground.hosts_domain import HostsDomain
from dkv.playground.verify import AUTHORS, Proved, Writers, outage

CUT_OFF = 12.0  # s a host is cut off from the others
RETURNS_WITHIN = 120.0  # s a host that was lost has to be whole again


class HostsDemo(Demo):
    """One run of the demo on hosts. Each step raises CliError if a promise did not hold."""

    def __init__(self, domain: HostsDomain, screen: Screen, create: list[str], began: float) -> None:
        super().__init__(domain, screen, create, began)
        self._on_hosts = domain

    def run(self) -> None:
        """All steps, in order."""
        servers = len(self._on_hosts.hosts)
        self._say(f"{servers} servers joined; the domain state is on etcd members that they run")
        voting = self._on_hosts.await_voters(3 if servers >= 3 else 1)
        self._say(f"{', '.join(voting)} vote")
        self._cmdlet("New-DkvStore", *self._create)
        self._domain.make_user()
        self._cmdlet("Start-DkvStore", "-Name", STORE)
        writers = Writers(self._domain)
        try:
            writers.await_promises(20)
            self._lose_a_host(writers)
            self._cut_a_host_off(writers)
        finally:
            writers.stop()
        self._prove_confirmed(writers)
        self._tombstones()
        self._cmdlet("Stop-DkvStore", "-Name", STORE)
        self._say("all of it held")

    def _leading(self) -> str:
        """The server of the first group's leader, once the store is whole."""
        store = self._domain.await_whole(WHOLE_WITHIN)
        return leader_of(store, store["groups"][0])["server"]

    def _lose_a_host(self, writers: Writers) -> None:
        server_id = self._leading()
        self._say(f"the host of {server_id}, which leads, loses its power: every process on it and its cable are gone")
        since = time.monotonic()
        count = self._on_hosts.lose(server_id)
        writers.await_promises(20, since=since + PAUSE)
        self._show_outages_since(writers, since)
        self._say(f"{count} processes are gone; the host comes back, with its disk")
        self._on_hosts.hosts[server_id].plug()
        self._on_hosts.start_managers()
        self._domain.await_whole(RETURNS_WITHIN)
        self._say(f"{server_id} has its copies and its vote again")

    def _cut_a_host_off(self, writers: Writers) -> None:
        server_id = self._leading()
        self._say(f"the host of {server_id}, which leads, loses its cable for {CUT_OFF:g} s; everything on it runs on")
        host, since = self._on_hosts.hosts[server_id], time.monotonic()
        host.unplug()
        time.sleep(CUT_OFF)
        host.plug()
        writers.await_promises(20, since=time.monotonic())
        self._show_outages_since(writers, since)
        self._domain.await_whole(RETURNS_WITHIN)

    def _show_outages_since(self, writers: Writers, since: float) -> None:
        until = time.monotonic()
        for writer in writers.all:
            longest = outage(writer.promised(), since, until)
            self._screen.line(f"outage for {AUTHORS[writer.kind]}: {longest:.0f} ms")

    def _prove_confirmed(self, writers: Writers) -> None:
        """Read everything back: no confirmed key may be missing; acknowledged ones may be, and are counted."""
        self._say("reading every promised key")
        proofs = writers.prove()
        self._screen.line()
        for line in render.proofs(proofs):
            self._screen.line(line)
        for proof in proofs:
            if proof.lost and proof.promise == Kind.CONFIRMED:
                raise CliError(
                    f"{len(proof.lost)} confirmed keys are lost; the first is {proof.lost[0]}.",
                    f"The writers' logs are in {self._domain.record.directory}.",
                )
        if not _confirmed(proofs):
            raise CliError("No write was confirmed, so there is nothing to verify.")


def _confirmed(proofs: list[Proved]) -> int:
    return sum(proof.keys for proof in proofs if proof.promise == Kind.CONFIRMED)
