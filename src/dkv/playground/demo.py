"""Playground: `dkv playground --once`: every process is killed once, and every promised key is verified."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from typing import TYPE_CHECKING

from dkv.cli.errors import CliError
from dkv.cli.output import Screen
from dkv.cli.waiting import until
from dkv.kernel import started
from dkv.playground import render
from dkv.playground.domain import STORE, Domain, leader_of
from dkv.playground.verify import AUTHORS, Writers, outage
from dkv.playground.writer import PLAIN

if TYPE_CHECKING:
    from dkv.wire import schemas

KILLS = 20
WHOLE_WITHIN = 60.0  # s a group has to be whole and in sync again
AT_RANDOM = 0.4  # s within which a kill comes, once the group is whole
MANAGER_AWAY = 1.0  # s a killed manager stays away
PAUSE = 0.3  # s writers write on between two steps


class Demo:
    """One run of the demo on a domain whose managers are ready. Each step raises CliError if a promise did not hold."""

    def __init__(self, domain: Domain, screen: Screen, create: list[str], began: float) -> None:
        self._domain = domain
        self._screen = screen
        self._create = create
        self._began = began
        self._random = random.Random()
        self._kills = int(os.environ.get("DKV_TEST_KILLS") or KILLS)

    def run(self) -> None:
        """All steps, in order."""
        self._cmdlet("New-DkvStore", *self._create)
        self._domain.make_user()
        self._cmdlet("Start-DkvStore", "-Name", STORE)
        writers = Writers(self._domain)
        try:
            writers.await_promises(20)
            self._kill_leaders(writers)
            self._kill_manager(writers)
            self._kill_everything(writers)
        finally:
            writers.stop()
        self._prove(writers, "after everything was killed")
        self._tombstones()
        self._stop_and_start(writers)
        self._cmdlet("Stop-DkvStore", "-Name", STORE)
        self._cmdlet("Remove-DkvStore", "-Name", STORE)
        self._say("all of it held")

    # -- steps --------------------------------------------------------------------------------------------------

    def _kill_leaders(self, writers: Writers) -> None:
        self._say(f"two writers write; the leader's engine gets SIGKILL {self._kills} times")
        killed: list[tuple[str, float]] = []
        for n in range(self._kills):
            store = self._domain.await_whole(WHOLE_WITHIN)
            leader = leader_of(store, self._random.choice(store["groups"]))
            time.sleep(self._random.random() * AT_RANDOM)
            process = leader["process"]
            assert process is not None and process["pid"] is not None, leader  # the store was whole
            self._kill_engine(process["pid"])
            killed.append((leader["instanceName"], time.monotonic()))
            self._screen.progress(f"kill {n + 1} of {self._kills}: {leader['instanceName']}")
            writers.await_promises(1, since=time.monotonic())
            self._await_reported(process["startId"])
        self._domain.await_whole(WHOLE_WITHIN)
        self._show_outages(writers, killed)

    def _kill_engine(self, pid: int) -> None:
        if not started(pid):
            raise CliError(f"The domain has pid {pid} as its leader's engine, but there is no such process.")
        os.kill(pid, signal.SIGKILL)

    def _await_reported(self, start_id: int) -> None:
        """Wait until the domain has an end on record; before that a store may still look whole."""
        instances = until(
            lambda: self._domain.store()["instances"], lambda instances: not _runs(instances, start_id), WHOLE_WITHIN, pause=0.05
        )
        if _runs(instances, start_id):
            raise CliError(f"The domain has not recorded the end of process {start_id} after {WHOLE_WITHIN:g} s.")

    def _show_outages(self, writers: Writers, killed: list[tuple[str, float]]) -> None:
        ends = [at for _, at in killed[1:]] + [time.monotonic()]
        for writer in writers.all:
            lines = writer.promised()
            gaps = [(name, outage(lines, at, end)) for (name, at), end in zip(killed, ends, strict=True)]
            times = [ms for _, ms in gaps]
            if writer.kind == PLAIN:
                self._screen.line()
                for line in render.outages(gaps):
                    self._screen.line(line)
            summary = f"p50 {statistics.median(times):.0f} ms, max {max(times):.0f} ms, {len(times)} kills"
            self._screen.line(f"outage for {AUTHORS[writer.kind]}: {summary}")

    def _kill_manager(self, writers: Writers) -> None:
        store = self._domain.await_whole(WHOLE_WITHIN)
        server = leader_of(store, store["groups"][0])["server"]
        place = next(p for p in self._domain.site.places if p.server_id == server)
        self._say(f"the manager of {server}, which hosts a leader, gets SIGKILL and comes back")
        since = time.monotonic()
        self._domain.kill_manager(place)
        time.sleep(MANAGER_AWAY)
        self._domain.start_managers()
        self._domain.await_whole(WHOLE_WITHIN)
        until = time.monotonic()
        writers.await_promises(1, since=until)
        errors = [error for writer in writers.all for error in writer.errors(since, until)]
        if errors:
            raise CliError(f"Clients had errors while a manager was killed: {errors[0].reason}")
        gap = outage(writers.of(PLAIN).promised(), since, until)
        self._screen.line(f"manager away {until - since:.1f} s: 0 errors, longest wait for an answer {gap:.0f} ms")

    def _kill_everything(self, writers: Writers) -> None:
        time.sleep(PAUSE)
        self._say("SIGKILL for all managers and all engines at once, while the writers write")
        count = self._domain.kill_everything()
        self._domain.start_managers()
        self._cmdlet("Start-DkvStore", "-Name", STORE)
        self._domain.await_whole(WHOLE_WITHIN)
        writers.await_promises(1, since=time.monotonic())
        self._screen.line(f"{count} processes were killed at once; the store runs again")

    def _prove(self, writers: Writers, when: str) -> None:
        self._say(f"reading every promised key {when}")
        proofs = writers.prove()
        self._screen.line()
        for line in render.proofs(proofs):
            self._screen.line(line)
        lost = [(proof, key) for proof in proofs for key in proof.lost]
        if lost:
            proof, key = lost[0]
            raise CliError(
                f"{len(lost)} promised keys are lost {when}; the first is {key}, {proof.promise} to {proof.author}.",
                f"The writers' logs are in {self._domain.record.directory}.",
            )
        if not any(proof.keys for proof in proofs):
            raise CliError("No write was promised, so there is nothing to verify.")

    def _tombstones(self) -> None:
        self._screen.line()
        for line in render.tombstones(self._domain.ask(lambda client: client.tombstones(STORE))):
            self._screen.line(line)

    def _stop_and_start(self, writers: Writers) -> None:
        self._say("a planned stop, then a start")
        self._cmdlet("Stop-DkvStore", "-Name", STORE)
        self._cmdlet("Start-DkvStore", "-Name", STORE)
        self._domain.await_whole(WHOLE_WITHIN)
        self._prove(writers, "after the planned stop")

    # -- output ------------------------------------------------------------------------------------------------

    def _cmdlet(self, name: str, *words: str) -> None:
        self._screen.line()
        if self._domain.cmdlet(name, *words) != 0:
            raise CliError(f"{name} did not succeed.", f"The managers' logs are in {self._domain.record.directory}.")

    def _say(self, text: str) -> None:
        self._screen.note(f"[{time.monotonic() - self._began:5.1f} s] {text}")


def _runs(instances: list[schemas.Instance], start_id: int) -> bool:
    """Whether one of the instances still has that process."""
    return any(instance["process"] and instance["process"]["startId"] == start_id for instance in instances)
