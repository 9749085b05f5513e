"""CLI: the session of a command: the managers it may ask, the screen, the clock, what it has sent."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from dkv.cli.binding import Bound
from dkv.cli.errors import DONE, FAILED, CliError, NothingSent, Usage
from dkv.cli.output import NARROW, SUCCESS, Row, Screen
from dkv.cli.waiting import until
from dkv.client import BadEndpoint, Endpoint, HttpTransport, ManagerPool, Transport, own_socket, parse_endpoint
from dkv.constants import MANAGER_PORT
from dkv.user_dirs import config_dir

T = TypeVar("T")

NO_MANAGERS = "No managers connected. Use Connect-DkvManager or specify -Managers."
"""Word for word as documented (docs/reference/cmdlets.md#rows)."""

HERE = f"127.0.0.1:{MANAGER_PORT}"
"""The manager that a verb uses when none is connected: this machine's, as nuocmd uses localhost."""


class ContextFile:
    """The managers a one-shot Connect-DkvManager remembered for the next command."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._path = os.path.join(config_dir(environ), "context.json")

    def read(self) -> list[str]:
        """The remembered `host:port` texts, in the user's order; empty when there are none."""
        try:
            with open(self._path, encoding="utf-8") as file:
                document = json.load(file)
            return [str(text) for text in document["managers"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "Delete the file, or run Connect-DkvManager -Force."
            raise CliError(f"The context file {self._path} cannot be read: {error}.", hint) from error

    def write(self, managers: Sequence[str]) -> None:
        """Replace the list; a crash leaves the old file or the new one."""
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            temporary = f"{self._path}.{os.getpid()}"
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(json.dumps({"managers": list(managers)}) + "\n")
            os.replace(temporary, self._path)
        except OSError as error:
            hint = "Make the directory writable, or set DKV_MANAGERS instead."
            raise CliError(f"The context file {self._path} cannot be written: {error}.", hint) from error

    def clear(self) -> None:
        """Forget the list."""
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise CliError(f"The context file {self._path} cannot be removed: {error}.", "Remove it.") from error


class Session:
    """One shell, or one one-shot command. In a shell Connect-DkvManager stays in the shell (`in_shell`); outside it is
    kept in the context file. `sent` has what was already sent, for the message after Ctrl-C."""

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
        self.warnings: set[str] = set()  # what managers have to say beside their answers
        self.transport = transport or HttpTransport(warn=self.warnings.add)
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
        listed = [part.strip() for part in self.environ.get("DKV_MANAGERS", "").split(",") if part.strip()]
        return listed or ContextFile(self.environ).read()

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
            raise NothingSent(NO_MANAGERS, hint_here(MANAGER_PORT))
        return endpoints(texts, int(bound["Port"]))

    def pool(self, managers: Sequence[str] | None) -> ManagerPool:
        """The managers a verb may ask: the given ones, else the connected ones, else this machine's. Raises Usage."""
        return ManagerPool(endpoints(managers or self.managers() or [here()], MANAGER_PORT), self.transport)

    def until(
        self,
        look: Callable[[], T],
        done: Callable[[T], bool],
        within: float,
        *,
        pause: float = 0.1,
        longest_pause: float = 0.0,
        progress: Callable[[T], str] | None = None,
    ) -> T:
        """Wait as in waiting.until, by the session's clock; `progress` gives the line that is shown meanwhile."""
        return until(
            look,
            done,
            within,
            pause=pause,
            longest_pause=longest_pause,
            report=None if progress is None else lambda value, _: self.screen.progress(progress(value)),
            clock=self.clock,
            sleep=self.sleep,
        )


def here() -> str:
    """The manager that is asked where none is connected: the one at the usual port of this machine's loopback address, else the
    only one that this user runs here."""
    if own_socket.listeners("127.0.0.1", MANAGER_PORT):
        return HERE
    return own_socket.only_one() or HERE


def hint_here(port: int) -> str:
    """How to use the manager of this machine, if one listens at that port or is known otherwise; "" if none is."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return f"Connect-DkvManager 127.0.0.1:{port}"
    other = own_socket.only_one()
    return f"Connect-DkvManager {other}" if other else ""


def endpoints(texts: Sequence[str], port: int) -> list[Endpoint]:
    """Read addresses in the user's order. Raises Usage for a bad one and for one given twice."""
    parsed: list[Endpoint] = []
    for text in texts:
        try:
            endpoint = parse_endpoint(text, port)
        except BadEndpoint as bad:
            raise Usage(str(bad), bad.hint) from bad
        if endpoint in parsed:
            raise Usage(f"The manager {endpoint} is given twice.", "Name each manager once.")
        parsed.append(endpoint)
    return parsed


class Job(NamedTuple):
    """One call to one manager. Jobs of a manager are in one lane: with -Parallel lanes run side by side."""

    manager: str
    action: str
    call: Callable[[], object]
    changes: bool = True


class Outcome:
    """How a job ended: `value` is what its call gave, `error` what it raised; neither when it was skipped."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.value: Any = None
        self.error: Exception | None = None
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
            if outcome.error is not None and bound.get("FailFast"):
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
    except Exception as error:  # noqa: BLE001  a thread's error becomes its row
        outcome.error = error


def finish(session: Session, rows: Sequence[Row], widths: tuple[int, int, int] = NARROW) -> int:
    """Print the rows; the exit code is 0 only if every one is SUCCESS."""
    session.screen.rows(rows, widths=widths)
    return DONE if all(row.result == SUCCESS for row in rows) else FAILED
