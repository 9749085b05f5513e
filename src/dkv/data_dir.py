"""A manager's data directory: which server it belongs to, and a lock that lets only one manager run on it.

`server.json` keeps the server's id, its random uid, and the domain that it is in; `manager.lock` is held while a manager runs
and has its address, so that a second one can name the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from dkv import files
from dkv.address import is_loopback, packed_address
from dkv.config import Settings
from dkv.constants import MANAGER_LOCK, MANAGER_PORT, MANAGER_SOCKET
from dkv.log import FILE
from dkv.manager import ManagerError

SERVER = "server.json"
BACKLOG = 64
IN_A_DOMAIN = ("domain.sqlite", "joined.json", "members.json", "archives")  # one of these is where its server was in a domain
OWN_FILES = {MANAGER_LOCK, SERVER, FILE, "domain.sqlite"}  # one of these is in every data directory that was ever used


@dataclass(frozen=True)
class DataDir:
    """A data directory that this manager has locked, and the server that it belongs to. `uid` is random, `domain` the uid of the
    domain that its last manager was in, "" for none yet.
    """

    path: Path
    server_id: str
    uid: str
    domain: str = ""


def refuse_open_bind(settings: Settings) -> None:
    """Nothing is bound where other machines reach it, and no proxy is served, before callers have to show who they are. Raises
    ManagerError.
    """
    bind, controlled = settings.bind, settings.access_control != "off"
    hint = 'Set access_control = "on" (DKV_ACCESS_CONTROL=on)'
    if settings.allowed_hosts and not controlled:
        raise ManagerError(
            "allowed_hosts is set and access control is off: whoever reaches the proxy could command this manager.",
            f"{hint}, or leave allowed_hosts out.",
        )
    packed = packed_address(bind)
    if is_loopback(bind):
        if settings.tls == "on" and not controlled:
            raise ManagerError("tls is on, but without access control there is no certificate.", f"{hint}, or leave tls out.")
    elif not any(packed):
        raise ManagerError(
            f"Cannot listen on {bind}: the other servers have to know one address of this one.",
            "Bind to the address of one interface, such as 10.0.0.11.",
        )
    elif not controlled:
        raise ManagerError(
            f"Cannot listen on {bind}: access control is off, so every client that reaches it could command this manager.",
            f"{hint}, or bind to a loopback address such as 127.0.0.1.",
        )


def is_secured(settings: Settings) -> bool:
    """Whether the ports of a manager with these settings speak TLS."""
    return settings.tls == "on" or not is_loopback(settings.bind)


def with_real_data_dir(settings: Settings) -> Settings:
    """The settings with the data directory's own path, free of links. Raises ManagerError."""
    try:
        return replace(settings, data_dir=files.without_links(settings.data_dir))
    except OSError as error:
        raise _unusable(settings.data_dir, error) from error


def _unusable(path: Path, error: OSError) -> ManagerError:
    hint = "Choose another --data-dir, or make room and rights."
    return ManagerError(f"The data directory {path} cannot be used: {error.strerror}.", hint)


@contextlib.contextmanager
def lock_data_dir(settings: Settings) -> Iterator[DataDir]:
    """Hold the data directory, which no other user can reach from then on. Raises ManagerError naming the manager that
    holds it already, or who else could reach it."""
    path = settings.data_dir.absolute()
    try:
        with files.directory(path, make=True) as folder:
            _refuse_other_use(folder, path)
            files.make_private(folder)
            fd = files.open_file(MANAGER_LOCK, os.O_RDWR | os.O_CREAT, at=folder)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        _lock(fd, path)
        data_dir = _identity(path, settings)
        line = json.dumps({"pid": os.getpid(), "serverId": data_dir.server_id, "bind": settings.bind, "port": settings.port})
        os.ftruncate(fd, 0)
        os.pwrite(fd, line.encode(), 0)
        yield data_dir
    except OSError as error:
        raise _unusable(path, error) from error
    finally:
        os.close(fd)


def _refuse_other_use(folder: int, path: Path) -> None:
    """Refuse a directory that others may read and that holds other files: it was named by mistake, and stays open to them."""
    names = sorted(os.listdir(folder))
    if names and not OWN_FILES & set(names) and os.fstat(folder).st_mode & 0o077:
        raise ManagerError(
            f"{path} is no manager's data directory: it holds {', '.join(names[:3])}.",
            "Choose another --data-dir: one that is empty or does not exist.",
        )


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        running = running_manager(path) or {}
        raise ManagerError(
            f"Manager {running.get('serverId', '?')} (pid {running.get('pid', '?')}, {running.get('bind', '?')}:"
            f"{running.get('port', '?')}) runs on {path} already.",
            "One manager per data directory: use that one, or choose another --data-dir.",
        ) from None


@contextlib.contextmanager
def local_socket(path: Path) -> Iterator[socket.socket]:
    """The manager's own listening socket in its data directory, which only its user and root can open. Only for the holder of
    the directory's lock: a socket that is there was left behind. Raises ManagerError.
    """
    try:
        with files.directory(path) as folder, contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
            _remove_socket(folder)
            mask = os.umask(0o177)
            try:
                # The directory's own path may be longer than a socket's address. The pid in this one is how clients find it.
                listening.bind(f"/proc/{os.getpid()}/fd/{folder}/{MANAGER_SOCKET}")
            finally:
                os.umask(mask)
            listening.listen(BACKLOG)
            try:
                yield listening
            finally:
                _remove_socket(folder)
    except OSError as error:
        raise _unusable(path, error) from error


def _remove_socket(folder: int) -> None:
    """Remove a socket that was left behind; anything else of that name stays, and binding fails."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(MANAGER_SOCKET, dir_fd=folder, follow_symlinks=False).st_mode):
            os.unlink(MANAGER_SOCKET, dir_fd=folder)


def running_manager(path: Path) -> dict[str, object] | None:
    """The running manager's pid, serverId, bind and port, from the lock file; None when no manager runs there."""
    try:
        with _lock_file(path) as file:
            return _lock_line(file)
    except OSError:
        return None


def _lock_file(path: Path) -> IO[bytes]:
    return os.fdopen(files.open_file(path / MANAGER_LOCK, any_owner=True), "rb")


def _lock_line(file: IO[bytes]) -> dict[str, object] | None:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with contextlib.suppress(ValueError):
            line = json.loads(file.read() or b"{}")
            return line if isinstance(line, dict) else {}
    return None


def end_running_manager(path: Path, pid: int) -> None:
    """Send SIGTERM to the manager that runs there. Raises ManagerError unless that process is it.

    The lock file only names a process, and its writer could name any. So it has to be a process of the file's owner that
    has the file open.
    """
    try:
        with _lock_file(path) as file:
            process = os.pidfd_open(pid)
            try:
                if not _has_open(pid, os.fstat(file.fileno())):
                    raise ManagerError(
                        f"{path / MANAGER_LOCK} names process {pid}, which is no manager of that directory.",
                        "No signal was sent. Find the process that has the file open with fuser or lsof.",
                    )
                signal.pidfd_send_signal(process, signal.SIGTERM)
            finally:
                os.close(process)
    except ProcessLookupError:
        return  # it ended meanwhile
    except OSError as error:
        raise ManagerError(
            f"The manager of {path} (pid {pid}) cannot be ended: {error.strerror}.", "Run this as the manager's user."
        ) from error


def _has_open(pid: int, lock: os.stat_result) -> bool:
    """Whether a process of the file's owner has it open. Raises OSError."""
    if os.stat(f"/proc/{pid}").st_uid != lock.st_uid:
        return False
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            opened = os.stat(f"/proc/{pid}/fd/{number}")
            if (opened.st_dev, opened.st_ino) == (lock.st_dev, lock.st_ino):
                return True
    return False


def _identity(path: Path, settings: Settings) -> DataDir:
    file = path / SERVER
    if file.exists():
        stored = _read_identity(file)
        wanted = settings.server_id or stored["serverId"]
        if wanted != stored["serverId"] and _is_unused(path, stored["domain"]):
            data_dir = DataDir(path, wanted, stored["uid"])  # a join that was refused left it
            _keep_identity(data_dir)
            return data_dir
        if wanted != stored["serverId"]:
            raise ManagerError(
                f"{path} belongs to server {stored['serverId']}, not {settings.server_id}.",
                "Leave --server-id out, or choose another --data-dir.",
            )
        return DataDir(path, stored["serverId"], stored["uid"], stored["domain"])
    data_dir = DataDir(path, settings.server_id or _default_id(settings), uuid.uuid4().hex)
    _keep_identity(data_dir)
    return data_dir


def _is_unused(path: Path, domain: str) -> bool:
    """Whether its server was in no domain yet."""
    return not domain and not any((path / name).exists() for name in IN_A_DOMAIN)


def _keep_identity(data_dir: DataDir) -> None:
    identity = {"serverId": data_dir.server_id, "uid": data_dir.uid}
    domain = {"domain": data_dir.domain} if data_dir.domain else {}
    files.write_whole(data_dir.path / SERVER, json.dumps(identity | domain))


def remember_domain(data_dir: DataDir, domain: str) -> DataDir:
    """Keep which domain its server is in, so that it does not found a second one with another state. Raises ManagerError."""
    if data_dir.domain == domain:
        return data_dir
    data_dir = replace(data_dir, domain=domain)
    try:
        _keep_identity(data_dir)
    except OSError as error:
        raise _unusable(data_dir.path, error) from error
    return data_dir


def _read_identity(file: Path) -> dict[str, str]:
    try:
        stored = json.loads(files.read_text(file))
        return {"serverId": str(stored["serverId"]), "uid": str(stored["uid"]), "domain": str(stored.get("domain", ""))}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManagerError(
            f"{file} is damaged: it does not name the server of the directory.",
            "Put a good copy of it back, or choose another --data-dir.",
        ) from error


def _default_id(settings: Settings) -> str:
    """The host's name; with another address or port than the standard ones, followed by them."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()) or "server"
    if settings.bind not in ("127.0.0.1", "localhost", "::1"):
        name += f"-{settings.bind.replace(':', '-')}"
    return name if settings.port == MANAGER_PORT else f"{name}-{settings.port}"
