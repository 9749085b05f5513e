"""promtool of Prometheus, for tests of what Prometheus reads."""

from __future__ import annotations

import shutil
import subprocess

import pytest

PROGRAM = shutil.which("promtool")

needs_promtool = pytest.mark.skipif(PROGRAM is None, reason="there is no promtool on PATH: as root, ./dev setup installs it")


def promtool(*words: str, text: str = "") -> tuple[int, str]:
    """The exit code of a promtool command and all that it prints. 3 means that a page can be read and breaks a convention."""
    assert PROGRAM is not None
    ended = subprocess.run([PROGRAM, *words], input=text, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout + ended.stderr
