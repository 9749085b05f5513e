"""members: the etcd process of one server: started, adopted by the next manager, ended.

It runs in a session of its own and goes on when its manager ends. What adopts it is `member.json`, and the lock of its directory
tells whether any etcd has that directory: two would wait for each other without a word.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from dkv import files, kernel
from dkv.access.certificate_files import CertificateFiles
from dkv.domain.state_members import NEEDS_FREE, QUOTA
from dkv.members.place import client_url, peer_url
from dkv.store.contract import Unavailable, Unusable

DIRECTORY = "etcd"  # below the data directory
RECORD, LOCK, LOG, DATA = "member.json", "member.lock", "etcd.log", "data"
LOG_ROOM = 10 << 20  # bytes of a log that is gone on with; a larger one is begun anew
ENDS_WITHIN = 5.0  # s after SIGTERM
_PASSED = ("PATH", "LANG", "LC_ALL", "TZ")
_LOCK_FD = 3


@dataclass(frozen=True)
class MemberSpec:
    """The member of one server: its name in the cluster is the server's uid."""

    server_uid: str
    host: str
    etcd_port: int
    directory: Path
    certificates: CertificateFiles

    @property
    def client(self) -> str:
        """Its client URL."""
        return client_url(self.host, self.etcd_port)

    @property
    def log(self) -> Path:
        """What it says."""
        return self.directory / LOG

    @property
    def peer(self) -> str:
        """Its peer URL."""
        return peer_url(self.host, self.etcd_port)


@dataclass(frozen=True)
class Running:
    """A member's process, which cannot be mistaken for another: pid, start in clock ticks since boot, boot. `authorities` is the
    hash of the bundle that it was started with, `member_id` its id in the cluster when its directory was begun, 0 for the first,
    `peer` the URL at which other members reach it.
    """

    pid: int
    started: int
    boot_id: str
    authorities: str
    member_id: int
    peer: str = ""


class MemberProcess:
    """The process of one member. Only for who holds the data directory's lock."""

    def __init__(self, spec: MemberSpec, program: str) -> None:
        self.spec = spec
        self._program = program

    def running(self) -> Running | None:
        """Its process, if that lives."""
        last = self._last()
        if last is None:
            return None
        if last.boot_id != kernel.boot_id():
            return None
        with suppress(ChildProcessError):
            os.waitpid(last.pid, os.WNOHANG)
        return last if kernel.is_alive(last.pid, last.started) else None

    def _last(self) -> Running | None:
        """The process that was started last, whether it lives or not."""
        try:
            with files.proven(self.spec.directory / RECORD) as file:
                written = json.loads(file.read())
            names = {f.name for f in fields(Running)}  # a newer dkv may have written more, and an older one less
            return Running(**{name: value for name, value in written.items() if name in names})
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return None
        except OSError as error:
            raise Unavailable(
                f"{self.spec.directory / RECORD} cannot be read ({error.strerror})", "Run this as its user."
            ) from error

    @property
    def member_id(self) -> int:
        """The id in the cluster of the member that its directory was begun for; 0 for the first of a cluster, or for none."""
        last = self._last()
        return last.member_id if last else 0

    def refuse_another_address(self) -> None:
        """Raise Unusable where its data is that of a member at another address: the cluster would have it twice."""
        last = self._last()
        if self.has_data and last is not None and last.peer not in ("", self.spec.peer):
            raise Unusable(
                f"the etcd member of this server is at {last.peer}, and its manager was started at another address, "
                f"{self.spec.peer}",
                "Start it at its former address. A copy of its data directory is no server: let this machine join with an empty "
                "--data-dir; a server that moves is deleted first, and joins again.",
            )

    @property
    def has_data(self) -> bool:
        """Whether it was a member already: one that ended before it wrote its log was none."""
        return any(name.endswith(".wal") for name in files.names_in(self.spec.directory / DATA / "member" / "wal"))

    @property
    def is_out_of_date(self) -> bool:
        """Whether its process trusts other authorities than the files have now: etcd reads those at its start only."""
        running = self.running()
        return running is not None and running.authorities != self._authorities()

    def _authorities(self) -> str:
        return hashlib.sha256(self.spec.certificates.trusted().encode()).hexdigest()

    def start(self, peers: Mapping[str, str], token: str, *, new: bool, member_id: int | None = None) -> None:
        """Start it: the first of a new cluster, or as the member of that id of one with these peer URLs by name. A directory with
        data goes on with those, as the member that it was. Raises Unavailable.
        """
        spec = self.spec
        try:
            with files.directory(spec.directory, make=True) as folder:
                files.make_private(folder)
                lock = files.open_file(LOCK, os.O_RDWR | os.O_CREAT, at=folder)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    begun_for = self.member_id if member_id is None else member_id
                    self._spawn(folder, lock, self.command(peers, token, new=new), begun_for)
                finally:
                    os.close(lock)
        except BlockingIOError:
            if self._adopted():
                return
            raise Unavailable(
                f"another process has the directory {spec.directory} of this server's etcd member", "End it: fuser shows which."
            ) from None
        except OSError as error:
            detail = f"the etcd member of this server cannot be started ({error.strerror})"
            raise Unavailable(detail, f"See {spec.directory}.") from error

    def _adopted(self) -> bool:
        """Whether a process that has this member's directory was found, and is its record by now: a manager that was killed may
        have started it and not written that down.
        """
        data = f"--data-dir={self.spec.directory / DATA}"
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            if data in kernel.command_line(pid).split(" ") and kernel.owner(pid) == os.geteuid():
                self._write(pid, 0)
                return True
        return False

    def _spawn(self, folder: int, lock: int, command: list[str], member_id: int) -> None:
        log = files.open_file(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, at=folder)
        try:
            if os.fstat(log).st_size > LOG_ROOM:
                os.ftruncate(log, 0)
            pid = os.posix_spawn(
                command[0],
                command,
                {name: os.environ[name] for name in _PASSED if name in os.environ},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                    (os.POSIX_SPAWN_DUP2, lock, _LOCK_FD),
                ],
                setsid=True,
                setsigdef=[signal.SIGPIPE],
            )
        finally:
            os.close(log)
        try:
            self._write(pid, member_id)
        except OSError:
            os.kill(pid, signal.SIGKILL)  # nobody would find it again
            raise

    def _write(self, pid: int, member_id: int) -> None:
        running = Running(pid, kernel.started(pid), kernel.boot_id(), self._authorities(), member_id, self.spec.peer)
        with files.directory(self.spec.directory) as folder:
            files.write_new(RECORD, json.dumps(asdict(running)), at=folder)

    def command(self, peers: Mapping[str, str], token: str, *, new: bool) -> list[str]:
        """Its command line. Members show each other, and clients show them, certificates of the domain's authority."""
        spec, certificates = self.spec, self.spec.certificates
        cluster = ",".join(f"{name}={url}" for name, url in sorted((peers | {spec.server_uid: spec.peer}).items()))  # type: ignore[operator]
        options = {
            "name": spec.server_uid,
            "data-dir": str(spec.directory / DATA),
            "listen-client-urls": spec.client,
            "advertise-client-urls": spec.client,
            "listen-peer-urls": spec.peer,
            "initial-advertise-peer-urls": spec.peer,
            "initial-cluster": cluster,
            "initial-cluster-state": "new" if new else "existing",
            "initial-cluster-token": token,
            "heartbeat-interval": "50",
            "election-timeout": "500",
            "auto-compaction-mode": "revision",
            "auto-compaction-retention": "10000",
            "quota-backend-bytes": str(QUOTA),
            "logger": "zap",
            "log-level": "warn",
            "cert-file": str(certificates.leaf),
            "key-file": str(certificates.key),
            "trusted-ca-file": str(certificates.bundle),
            "peer-cert-file": str(certificates.leaf),
            "peer-key-file": str(certificates.key),
            "peer-trusted-ca-file": str(certificates.bundle),
        }
        switches = ["--client-cert-auth", "--peer-client-cert-auth", "--pre-vote", "--strict-reconfig-check"]
        switches += ["--enable-grpc-gateway=false"]
        return [self._program, *(f"--{name}={text}" for name, text in options.items()), *switches]

    async def end(self) -> None:
        """End its process: SIGTERM, then SIGKILL. Nothing happens if none runs."""
        running = self.running()
        if running is None:
            return
        for number, within in ((signal.SIGTERM, ENDS_WITHIN), (signal.SIGKILL, ENDS_WITHIN)):
            with suppress(ProcessLookupError):
                os.kill(running.pid, number)
            give_up = time.monotonic() + within
            while self.running() is not None and time.monotonic() < give_up:
                await asyncio.sleep(0.02)

    def forget(self) -> None:
        """Remove its data. Only while no process runs. What it knew is known by the members that removed it."""
        with suppress(FileNotFoundError), files.directory(self.spec.directory) as folder:
            files.remove_tree(DATA, at=folder)

    def set_aside(self) -> None:
        """Rename its directory. Only while no process runs. Raises Unavailable."""
        try:
            with files.directory(self.spec.directory.parent) as folder:
                if files.there(DIRECTORY, at=folder):
                    name = f"{DIRECTORY}-set-aside-{time.time_ns() // 1_000_000}"
                    os.rename(DIRECTORY, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            raise Unavailable(f"{self.spec.directory} cannot be set aside ({error.strerror})", "Move it away.") from error

    def cut_log(self) -> None:
        """Begin its log anew once it is large; etcd appends to it."""
        with suppress(OSError):
            if self.spec.log.stat().st_size > LOG_ROOM:
                os.truncate(self.spec.log, 0)

    def why_it_ends(self) -> str:
        """For a sentence: its disk is full, if it is; else the last line of its log."""
        free = self.free()
        if not 0 <= free < NEEDS_FREE:
            return self.last_words()
        return f"the disk of {self.spec.directory} has {free >> 20} MB left, and it needs {NEEDS_FREE >> 20} MB: make room"

    def free(self) -> int:
        """Bytes left on its disk; -1 where that is not known."""
        try:
            disk = os.statvfs(self.spec.directory)
        except OSError:
            return -1
        return disk.f_bavail * disk.f_frsize

    def last_words(self) -> str:
        """What the last line of its log tells, for a sentence; "" if there is none."""
        try:
            with files.proven(self.spec.log) as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 4_096))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return log_message(lines[-1])[:300] if lines else ""


def log_message(line: str) -> str:
    """What a line of etcd's log tells: its message, and its error where it has one. etcd writes a JSON object a line."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    if not isinstance(entry, dict) or "msg" not in entry:
        return line
    return ": ".join(str(entry[key]) for key in ("msg", "error") if entry.get(key))
