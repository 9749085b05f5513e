"""A manager raises its descriptor limit as far as the machine allows, and never lowers it."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource
from dkv.daemon.ports import raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
raise_descriptor_limit()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard", "limits"), [(256, 900, "900 900"), (900, 900, "900 900")])
def test_the_descriptor_limit_is_raised_to_what_is_allowed(soft: int, hard: int, limits: str) -> None:
    script = SCRIPT.format(soft=soft, hard=hard)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == limits
