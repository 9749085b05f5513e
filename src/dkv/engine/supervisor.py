"""Engines as operating system processes: born in a session of their own, watched, killed, proven gone.

Each engine has a run directory `<data_dir>/run/<start_id>/`. A waiting parent (a few lines of `sh`) starts the engine
in its own session and writes its pid and, whenever that may be, its exit code there; so both are known to a manager
that was not running at the time. The archive's lock goes to the engine and its children only, so it ends exactly
when the last of them is gone.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from dkv import files, kernel
from dkv.engine.contract import Cause
from dkv.engine.logs import LOG_ROOM, RECORD_ROOM, reserve_file

LOG = "engine.log"
KEPT_LOG = "previous-engine.log"  # of the last engine before, in the archive's directory
_TOLD = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
_LOCK = "parent.lock"
_TOLD_AT_THE_END = ("born", "exit", "oom", "intent")  # small files that are written when the disk may be full
_PARENT = str(Path(__file__).with_name("parent.sh"))


@dataclass(frozen=True)
class Part:
    """One engine of a memory-only process."""

    group: str
    directory: str
    node_id: str
    client_port: int
    phantoms: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """What was written down about an engine before it was started; enough to adopt it."""

    start_id: int
    directory: str
    node_id: str
    group: str
    address: str
    client_port: int
    secret: str
    memory_only: bool
    phantoms: tuple[str, ...]
    boot_id: str
    oom_kills: int | None = None  # the memory cgroup's counter before the start
    slot: int = 0  # the lowest hash slot of its group
    parts: tuple[Part, ...] = ()  # of a memory-only process, whose directory is common to all
    tls: bool = False


@dataclass(frozen=True)
class Born:
    """A process that cannot be mistaken for another one of the same boot."""

    pid: int
    started: int  # clock ticks since boot, /proc/<pid>/stat field 22


@dataclass(frozen=True)
class Run:
    """One engine's run directory. `unwritten`: what was asked for and could not be written down."""

    path: Path
    record: Record
    unwritten: list[Cause] = field(default_factory=list, compare=False)

    def part(self, part: Part) -> Run:
        """The same run, seen as that engine of it."""
        record = replace(
            self.record,
            group=part.group,
            directory=part.directory,
            node_id=part.node_id,
            client_port=part.client_port,
            phantoms=part.phantoms,
            parts=(),
        )
        return Run(self.path, record, self.unwritten)

    @property
    def log(self) -> Path:
        """What the engine, or all engines of a memory-only process, wrote to standard output."""
        return self.path / LOG

    @property
    def born(self) -> Born | None:
        """Pid and start time, None while the parent has not written them."""
        words = _whole_line(self.path / "born")
        return Born(int(words[0]), int(words[1])) if words else None

    @property
    def exit_code(self) -> int | None:
        """The wait status as a shell reports it (128 + signal), None until the parent wrote it."""
        words = _whole_line(self.path / "exit")
        return int(words[0]) if words else None

    @property
    def oom_text(self) -> str | None:
        """The memory cgroup's event file, copied by the parent right after the end."""
        try:
            return files.read_text(self.path / "oom")
        except OSError:
            return None

    @property
    def intents(self) -> tuple[Cause, ...]:
        """What was asked for, oldest first."""
        try:
            lines = files.read_text(self.path / "intent").splitlines()
        except OSError:
            lines = []
        return (*(Cause(line) for line in lines if line in _CAUSES), *self.unwritten)

    def intend(self, cause: Cause) -> None:
        """Remember why, before acting on it; where it cannot be written down, for as long as this manager lives."""
        try:
            fd = files.open_file(self.path / "intent", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                os.write(fd, f"{cause}\n".encode())
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError:
            self.unwritten.append(cause)

    def log_lines(self, limit: int = 1000) -> tuple[str, ...]:
        """The last lines the engine wrote."""
        try:
            with files.opened(self.path / LOG) as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - (1 << 18)))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ()
        return tuple(line.rstrip() for line in text.splitlines() if line.strip())[-limit:]

    def parent_waits(self) -> bool:
        """Whether the waiting parent lives, so that an exit code may still be written."""
        try:
            fd = files.open_file(self.path / _LOCK, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False


_CAUSES = frozenset(str(cause) for cause in Cause)


def _whole_line(path: Path) -> list[str]:
    """The words of a one-line file; empty while the line has no end, because a shell's echo may be half seen."""
    try:
        text = files.read_text(path)
    except OSError:
        return []
    return text.split() if text.endswith("\n") else []


def new_run(root: Path, record: Record) -> Run:
    """Make the run directory. Its record, and room for the record of its end, are on disk before any process exists.

    Raises OSError and leaves nothing then.
    """
    path = root / str(record.start_id)
    with files.directory(path, make=True) as fd:
        try:
            for name in _TOLD_AT_THE_END:
                reserve_file(path / name, RECORD_ROOM)
            reserve_file(path / LOG, LOG_ROOM)
            files.write_new("record.json", json.dumps(asdict(record), indent=2) + "\n", at=fd)
        except OSError:
            _remove(path)
            raise
    return Run(path, record)


def with_secret(run: Run, secret: str) -> Run:
    """The run with another password of the managers, written down before it is used. Raises OSError."""
    record = replace(run.record, secret=secret)
    with files.directory(run.path) as fd:
        files.write_new("record.json", json.dumps(asdict(record), indent=2) + "\n", at=fd)
    return Run(run.path, record, run.unwritten)


def clear_unborn(path: Path) -> None:
    """Remove a run directory without a record: its manager died before anything could be started in it."""
    if not (path / "record.json").exists():
        _remove(path)


def read_run(path: Path) -> Run | None:
    """One run directory, None without a whole record. What a newer dkv added to it is passed over: its engine still runs."""
    try:
        written = json.loads(files.read_text(path / "record.json"))
        parts = tuple(Part(**_known(Part, {**part, "phantoms": tuple(part["phantoms"])})) for part in written.get("parts", ()))
        return Run(path, replace(Record(**_known(Record, written)), phantoms=tuple(written["phantoms"]), parts=parts))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _known(kind: Any, written: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(kind)}
    return {name: value for name, value in written.items() if name in names}


def drop_run(run: Run) -> None:
    """Forget a run; its log stays as `previous-engine.log` in the engine's directory when that still exists.

    Of a memory-only process nothing stays.
    """
    if run.record.memory_only:
        _remove(Path(run.record.directory))
    with suppress(OSError):  # the archive may be renamed or full; a log is not worth failing for
        _keep_log(run)
    _remove(run.path)


def _remove(path: Path) -> None:
    with suppress(OSError), files.directory(path.parent) as above:
        files.remove_tree(path.name, at=above)


def _keep_log(run: Run) -> None:
    with files.directory(run.record.directory) as there, files.directory(run.path) as here:
        try:
            os.rename(LOG, KEPT_LOG, src_dir_fd=here, dst_dir_fd=there)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            with files.opened(LOG, at=here) as log:
                files.write_new(KEPT_LOG, log.read().decode("utf-8", "replace"), at=there, lasting=False)


def start(run: Run, command: Sequence[str], archive_lock: int, oom_file: str) -> None:
    """Start the waiting parent, which starts the engine. It inherits both locks. Raises OSError.

    SIGXFSZ stays ignored as Python has it, so that a file at its size limit is an error the engine can log.
    """
    own = files.open_file(run.path / _LOCK, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        parent = os.posix_spawn(
            "/bin/sh",
            ["/bin/sh", _PARENT, str(run.path), oom_file, *command],
            environment(os.environ),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, archive_lock, 0),
                (os.POSIX_SPAWN_DUP2, own, 1),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            ],
            setsid=True,
            setsigdef=[signal.SIGPIPE],
        )
        _parents.add(parent)
    finally:
        os.close(own)


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """The variables that a program gets from us: no more than it needs, because others may be secrets."""
    return {"PATH": os.defpath} | {name: ours[name] for name in _TOLD if name in ours}


_parents: set[int] = set()  # children of this operating system process, whichever room started them


def reap_parents() -> None:
    """Collect the waiting parents that have ended; without it each would stay behind as a zombie."""
    for pid in tuple(_parents):
        try:
            done, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            done = pid
        if done:
            _parents.discard(pid)


def alive(born: Born) -> bool:
    """Whether that very process runs; a zombie has ended."""
    return kernel.is_alive(born.pid, born.started)


def group_members(born: Born, directory: str) -> list[int]:
    """Living processes of the engine's group: itself, and children by group and by working directory.

    The directory is checked too, because a pid may be a stranger's once the whole group is gone.
    """
    try:
        os.killpg(born.pid, 0)
    except ProcessLookupError:
        return [born.pid] if alive(born) else []  # not yet the leader of its own group
    except PermissionError:
        pass
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _belongs(int(name), born, directory)]


def _belongs(pid: int, born: Born, directory: str) -> bool:
    fields = kernel.stat(pid)
    if fields is None or int(fields[2]) != born.pid:
        return False
    if pid == born.pid:
        return int(fields[19]) == born.started
    try:
        where, root = os.path.realpath(f"/proc/{pid}/cwd"), os.path.realpath(directory)
        return where == root or where.startswith(root + os.sep)  # a memory-only process has directories below its own
    except OSError:
        return False


def work_of(born: Born, directory: str, alone: bool) -> tuple[tuple[int, ...], ...]:
    """What the engine did so far, as numbers that move when it does anything: computes, faults pages in, reads, writes. Those
    of its children in that directory too, unless `alone`. Empty where nothing can be read.

    Valkey 9.1 answers nothing while it loads one value, and reports progress every 1,024 commands of a file only. Processor time
    in `stat` counts in hundredths of a second; `schedstat` counts each turn on a processor: one that waits in fsync for a disk
    that works wakes up several times a second (1.5 GB at 150 MB/s: nothing else moved for 4.1 s, and that for 0.13 s at most),
    one whose disk hangs does not.
    """
    pids = [born.pid] if alone else group_members(born, directory)
    return tuple(work for pid in pids if (work := _work(pid)))


def _work(pid: int) -> tuple[int, ...]:
    fields = kernel.stat(pid)
    if fields is None:
        return ()
    times = tuple(int(fields[at]) for at in (7, 9, 11, 12, 21))  # minor and major faults, user and system time, memory
    for name in ("schedstat", "io"):
        with suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as file:  # not ours to look at, or an older kernel
            times += tuple(int(word) for word in file.read().split() if word.isdigit())
    return (pid, *times)


def kill_group(born: Born, directory: str) -> None:
    """SIGKILL whatever is left of the engine's process group."""
    if not group_members(born, directory):
        return
    for send in (os.killpg, os.kill):  # the second for a process that is not yet the leader of its own group
        try:
            if send is os.killpg or alive(born):
                send(born.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
