"""Another user of the same machine, for tests that attack: whatever `does` runs as uid 65534 with no groups of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root (with setpriv) can act as another user"
)


def does(script: str, *words: str | Path) -> str:
    """Run a Python script as the stranger; what it printed."""
    return subprocess.run(_command(script, words), check=True, text=True, stdout=subprocess.PIPE, cwd="/").stdout


@contextmanager
def doing(script: str, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """The same while the stranger goes on; it has ended when this ends."""
    with subprocess.Popen(_command(script, words), text=True, stdout=subprocess.PIPE, cwd="/") as process:
        try:
            yield process
        finally:
            process.kill()


def _command(script: str, words: Sequence[str | Path]) -> list[str]:
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs"]
    return [*become, sys.executable, "-I", "-c", f"import os, sys\n{script}", *map(str, words)]


@contextmanager
def common_ground() -> Iterator[Path]:
    """A directory like /tmp: everybody may write, and only rename or remove what is theirs."""
    place = Path(tempfile.mkdtemp(prefix="dkv-strangers-"))
    place.chmod(0o1777)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def their_directory(ground: Path, name: str = "theirs") -> Path:
    """A directory that the stranger made there, open to all."""
    place = ground / name
    does("os.mkdir(sys.argv[1]); os.chmod(sys.argv[1], 0o777)", place)
    return place


def snapshot(place: Path) -> dict[str, tuple[int, int, str]]:
    """Names, modes, owners and contents of all below a place, and of itself; links as what they say."""
    contents = {}
    for path in [place, *sorted(place.rglob("*"))]:
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
        contents[str(path.relative_to(place))] = (status.st_mode, status.st_uid, content)
    return contents
