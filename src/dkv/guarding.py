"""The guard of this manager: what it has to know, written anew when that changes, and its process (decision 0092).

The guard itself is `dkv.guard`, a program that imports nothing else of dkv.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import dkv.guard
from dkv import files, kernel
from dkv.address import is_same_machine
from dkv.domain.model import Group, State
from dkv.guard.duty import FILE, Duty, GuardedEngine, to_text
from dkv.guard.program import MANAGER as MANAGER_FD

RUN = "run"  # directory of the file, below the data directory
LOG = "guard.log"  # in the data directory
LOG_ROOM = 1 << 20  # bytes of a log that is gone on with; a larger one is begun anew
LOOK_EVERY = 0.5  # s; who joins an in-sync set has been in `joining` for longer
START_AGAIN = 5.0  # s after which a guard that ended while its manager lives is started again
PROGRAM = os.path.join(os.path.dirname(os.path.abspath(dkv.guard.__file__ or "")), "__main__.py")
_PASSED = ("LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")


def others(state: State, server_id: str) -> tuple[tuple[str, int], ...]:
    """Addresses and ports of the managers on other machines. Managers that share one cannot be cut off from each other."""
    return tuple(sorted((state.servers[name].host, state.servers[name].port) for name in _away(state, server_id)))


def guarded(state: State, server_id: str) -> frozenset[int]:
    """The processes of a server whose group another machine could lead: a copy there is in sync, or about to be. While their
    manager is dead no other copy comes to be, since only the leader's manager lets one in.
    """
    away = _away(state, server_id)
    processes = [process for process in state.processes_on(server_id) if process.archive_id is not None]
    return frozenset(p.start_id for p in processes if away & _led_from(state, state.groups[(p.database, p.group)]))


def _led_from(state: State, group: Group) -> set[str]:
    """The servers from which a group may be led."""
    return {state.archives[archive_id].server_id for archive_id in _may_lead(group) if archive_id in state.archives}


def _may_lead(group: Group) -> Iterator[int]:
    """The archives of a group that may be chosen to lead it, now or soon."""
    yield from group.in_sync
    yield from group.required
    yield from (joining.archive_id for joining in group.joining)


def _away(state: State, server_id: str) -> frozenset[str]:
    here = state.servers.get(server_id)
    servers = state.servers.values() if here else ()
    return frozenset(s.server_id for s in servers if here and s is not here and not is_same_machine(s.host, here.host))


class GuardKeeper:
    """Writes the duty of a guard, and keeps one guard running for as long as this manager lives. Only for who holds the data
    directory's lock. `fence` is the command by which an engine refuses writes.
    """

    def __init__(self, data_dir: Path, fence: tuple[str, ...]) -> None:
        self._data_dir = data_dir
        self._fence = fence
        self._manager = f"{os.getpid()}-{kernel.started(os.getpid())}"
        self._written: Duty | None = None
        self._pid = 0
        self._started_at = float("-inf")

    async def run(
        self,
        server_id: str,
        newest: Callable[[], State | None],
        engines: Callable[[Collection[int]], tuple[GuardedEngine, ...]],
        failed: Callable[[str], None],
    ) -> None:
        """Keep both right until cancelled. `newest` is the newest state, None until this manager acts on one: the guard of an
        earlier one stays in charge until then. `failed` is told, once each, why the file was not written or no guard started.
        """
        state: State | None = None
        start_ids, away, trouble = frozenset[int](), tuple[tuple[str, int], ...](), ""
        while True:
            known = newest()
            if known is not None and known is not state:
                state, start_ids, away = known, guarded(known, server_id), others(known, server_id)
            if state is not None:
                try:
                    self.look(Duty(self._manager, away, engines(start_ids), self._fence))
                    trouble = ""
                except OSError as error:
                    if str(error) != trouble:
                        trouble = str(error)
                        failed(trouble)
            await asyncio.sleep(LOOK_EVERY)

    def look(self, duty: Duty) -> None:
        """Write the duty if it has changed, and start a guard where one is needed and none runs. Raises OSError."""
        if duty != self._written:
            with files.directory(self._data_dir / RUN, make=True) as folder:
                files.write_new(FILE, to_text(duty), at=folder, lasting=False)
            self._written = duty
        if duty.is_needed and not self._runs() and kernel.boottime() - self._started_at > START_AGAIN:
            self._started_at = kernel.boottime()
            self._pid = self._spawn()

    def _runs(self) -> bool:
        if not self._pid:
            return False
        try:
            ended, _ = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            ended = self._pid
        if ended:
            self._pid = 0
        return not ended

    def _spawn(self) -> int:
        """Start it in a session of its own, so that nothing that ends this manager ends it too; its pid. Raises OSError."""
        command = [sys.executable, "-I", "-S", PROGRAM, str(self._data_dir / RUN / FILE), self._manager]
        manager = os.pidfd_open(os.getpid())
        try:
            log = self._log()
            try:
                return os.posix_spawn(
                    command[0],
                    command,
                    {"PATH": os.defpath} | {name: os.environ[name] for name in _PASSED if name in os.environ},
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_DUP2, log, 1),
                        (os.POSIX_SPAWN_DUP2, log, 2),
                        (os.POSIX_SPAWN_DUP2, manager, MANAGER_FD),
                    ],
                    setsid=True,
                    setsigdef=[signal.SIGPIPE],
                )
            finally:
                os.close(log)
        finally:
            os.close(manager)

    def _log(self) -> int:
        with files.directory(self._data_dir) as folder:
            log = files.open_file(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, at=folder)
        if os.fstat(log).st_size > LOG_ROOM:
            os.ftruncate(log, 0)
        return log
