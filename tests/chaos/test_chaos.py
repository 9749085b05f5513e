"""Two minutes of chaos: `./dev chaos` with a fixed seed, in a process of its own, because it enters a network of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.etcd_cluster import needs_etcd
from tests.e2e.hosts import needs_hosts
from tests.lint.repository import ROOT


@pytest.mark.full
@needs_hosts
@needs_etcd
def test_two_minutes_of_chaos_break_no_promise(tmp_path: Path) -> None:
    words = ["--seed", "12", "--minutes", "2", "--results", str(tmp_path / "results")]
    done = subprocess.run([sys.executable, "-m", "tests.chaos", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all of it held" in done.stdout
    assert (tmp_path / "results" / "timeline.html").stat().st_size > 1000
