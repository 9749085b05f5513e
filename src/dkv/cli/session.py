"""What a running command knows around it: the managers it may ask, the screen, the clock, what it has sent."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from dkv.cli.binding import Bound
from dkv.cli.context import ContextFile
from dkv.cli.errors import NothingSent, Usage
from dkv.cli.output import Screen
from dkv.client import BadEndpoint, Endpoint, ManagerClient, Transport, parse_endpoint

NO_MANAGERS = "No managers connected. Use Connect-DkvManager or specify -Managers."
"""Word for word as documented (docs/reference/cmdlets.md#rows)."""

HERE = "127.0.0.1:7801"
"""Whom a verb asks when no managers are connected: this machine's, as nuocmd asks localhost."""


class Session:
    """One shell, or one one-shot command. In a shell Connect-DkvManager stays in the shell (`in_shell`); outside it is
    kept in the context file. `sent` tells after Ctrl-C what had already left."""

    def __init__(
        self,
        screen: Screen,
        environ: Mapping[str, str] | None = None,
        transport: Transport | None = None,
        *,
        in_shell: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.screen = screen
        self.environ: Mapping[str, str] = os.environ if environ is None else environ
        self.transport = transport
        self.in_shell = in_shell
        self.sleep = sleep
        self.clock = clock
        self.sent: list[str] = []
        self.variables: dict[str, object] = {}
        self.connected: list[str] | None = None

    def managers(self) -> list[str]:
        """The connected managers: this shell's own, else DKV_MANAGERS, else the context file."""
        if self.connected is not None:
            return self.connected
        named = [part.strip() for part in self.environ.get("DKV_MANAGERS", "").split(",") if part.strip()]
        return named or ContextFile(self.environ).read()

    def own_managers(self) -> list[str]:
        """The managers a Connect-DkvManager of this session would replace."""
        return self.connected or [] if self.in_shell else ContextFile(self.environ).read()

    def remember(self, managers: Sequence[str]) -> None:
        """Keep the list for the next commands; an empty one forgets it."""
        if self.in_shell:
            self.connected = list(managers)
        elif managers:
            ContextFile(self.environ).write(managers)
        else:
            ContextFile(self.environ).clear()

    def targets(self, bound: Bound) -> list[Endpoint]:
        """The managers a command is for: `-Managers`, else the connected ones. Raises NothingSent or Usage."""
        texts = bound["Managers"] or self.managers()
        if not texts:
            raise NothingSent(NO_MANAGERS)
        return endpoints(texts, int(bound["Port"]))

    def client(self, endpoint: Endpoint, timeout: float) -> ManagerClient:
        """A client of one manager with the command's deadline for each request."""
        return ManagerClient(endpoint, self.transport, timeout)


def endpoints(texts: Sequence[str], port: int) -> list[Endpoint]:
    """Read addresses in the user's order. Raises Usage for a bad one and for one given twice."""
    found: list[Endpoint] = []
    for text in texts:
        try:
            endpoint = parse_endpoint(text, port)
        except BadEndpoint as bad:
            raise Usage(str(bad), bad.hint) from bad
        if endpoint in found:
            raise Usage(f"The manager {endpoint} is given twice.", "Name each manager once.")
        found.append(endpoint)
    return found


class Job(NamedTuple):
    """One call to one manager. Jobs of a manager are in one lane: with -Parallel lanes run side by side."""

    manager: str
    action: str
    call: Callable[[], object]
    changes: bool = True


class Outcome:
    """How a job ended: `value` is what its call gave, `trouble` what it raised; neither when it was skipped."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.value: object = None
        self.trouble: Exception | None = None
        self.skipped = True


def fan_out(session: Session, jobs: Sequence[Job], bound: Bound) -> list[Outcome]:
    """Run the jobs in order, or lanes side by side with -Parallel. With -FailFast nothing starts after a failure."""
    outcomes = [Outcome(job) for job in jobs]
    halt = threading.Event()

    def run(lane: Sequence[Outcome]) -> None:
        for outcome in lane:
            if halt.is_set():
                return
            _run(session, outcome)
            if outcome.trouble is not None and bound.get("FailFast"):
                halt.set()

    if not bound.get("Parallel"):
        run(outcomes)
        return outcomes
    by_manager: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_manager.setdefault(outcome.job.manager, []).append(outcome)
    # Daemon threads: Ctrl-C must end the command without waiting for a manager that does not answer.
    threads = [threading.Thread(target=run, args=(lane,), daemon=True) for lane in by_manager.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def _run(session: Session, outcome: Outcome) -> None:
    job = outcome.job
    outcome.skipped = False
    if job.changes:
        session.sent.append(f"{job.action} to {job.manager}")
    try:
        outcome.value = job.call()
    except Exception as trouble:  # noqa: BLE001  a thread's trouble becomes its row
        outcome.trouble = trouble
