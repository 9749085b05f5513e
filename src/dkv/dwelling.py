"""A manager's data directory: who lives here, and that only one does.

`server.json` keeps the server's id and its random uid; `manager.lock` is held while a manager runs and says where
it listens, so that a second one can name the first.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import socket
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dkv.config import Settings
from dkv.log import FILE
from dkv.manager import ManagerTrouble

LOCK = "manager.lock"
SERVER = "server.json"


@dataclass(frozen=True)
class Dwelling:
    """A data directory that is ours alone for now."""

    path: Path
    server_id: str
    uid: str


def boot_id() -> str:
    """Names this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def refuse_public_bind(bind: str) -> None:
    """Only loopback until access control exists. Raises ManagerTrouble."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(bind).is_loopback:
            return
    if bind == "localhost":
        return
    raise ManagerTrouble(
        f"Cannot listen on {bind}: anybody who reaches it could drive this manager.",
        "Bind to a loopback address such as 127.0.0.1 until TLS and tokens exist.",
    )


@contextlib.contextmanager
def take_dwelling(settings: Settings) -> Iterator[Dwelling]:
    """Hold the data directory. Raises ManagerTrouble naming the manager that holds it already."""
    path = settings.data_dir.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ManagerTrouble(f"The data directory {path} cannot be used: {error.strerror}.",
                             "Choose another --data-dir, or make room and rights.") from error  # fmt: skip
    try:
        _lock(fd, path)
        dwelling = _identity(path, settings)
        line = json.dumps({"pid": os.getpid(), "serverId": dwelling.server_id, "bind": settings.bind,
                           "port": settings.port})  # fmt: skip
        os.ftruncate(fd, 0)
        os.pwrite(fd, line.encode(), 0)
        yield dwelling
    except OSError as error:
        raise ManagerTrouble(f"The data directory {path} cannot be used: {error.strerror}.",
                             "Choose another --data-dir, or make room and rights.") from error  # fmt: skip
    finally:
        os.close(fd)


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        first = resident(path) or {}
        raise ManagerTrouble(
            f"Manager {first.get('serverId', '?')} (pid {first.get('pid', '?')}, {first.get('bind', '?')}:"
            f"{first.get('port', '?')}) runs on {path} already.",
            "One manager per data directory: use that one, or choose another --data-dir.",
        ) from None


def resident(path: Path) -> dict[str, object] | None:
    """What the manager that lives there wrote of itself; None if nobody lives there."""
    try:
        with (path / LOCK).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found = json.loads(file.read() or b"{}")
                return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return None
    return None


def _identity(path: Path, settings: Settings) -> Dwelling:
    file = path / SERVER
    if file.exists():
        known = _read_identity(file)
        if settings.server_id and settings.server_id != known["serverId"]:
            raise ManagerTrouble(f"{path} belongs to server {known['serverId']}, not {settings.server_id}.",
                                 "Leave --server-id out, or choose another --data-dir.")  # fmt: skip
        return Dwelling(path, known["serverId"], known["uid"])
    server_id = settings.server_id or _default_id(settings)
    dwelling = Dwelling(path, server_id, uuid.uuid4().hex)
    fresh = file.with_suffix(".new")
    with fresh.open("w") as handle:
        json.dump({"serverId": server_id, "uid": dwelling.uid}, handle)
        handle.flush()
        os.fsync(handle.fileno())
    fresh.replace(file)
    return dwelling


def _read_identity(file: Path) -> dict[str, str]:
    try:
        known = json.loads(file.read_text())
        return {"serverId": str(known["serverId"]), "uid": str(known["uid"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ManagerTrouble(f"{file} is damaged: it does not say which server lives here.",
                             "Put a good copy of it back, or choose another --data-dir.") from error  # fmt: skip


def _default_id(settings: Settings) -> str:
    """The host's name; beside the standard address or port, made different by them."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()) or "server"
    if settings.bind not in ("127.0.0.1", "localhost", "::1"):
        name += f"-{settings.bind.replace(':', '-')}"
    return name if settings.port == 7801 else f"{name}-{settings.port}"


# What is written here ------------------------------------------------------------------------------------------------


def logs_of(data_dir: Path, archives: Mapping[int, str]) -> list[tuple[str, Path]]:
    """The logs below a data directory and in the directories of its archives, each with a name that tells it from others:
    the manager's, those of engines that run, and of the last engine before in each archive."""
    found = [(path.name, path) for path in sorted(data_dir.glob(f"{FILE}*"))]
    runs = data_dir / "run"
    found += [(f"engines/{path.relative_to(runs)}", path) for path in sorted(runs.rglob("*.log"))]
    for archive_id, directory in sorted(archives.items()):
        found += [(f"archives/{archive_id}/{path.name}", path) for path in sorted(Path(directory).glob("*.log"))]
    return found
