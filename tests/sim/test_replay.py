"""The same seed is the same run: twice here, and in other processes whatever their hash seed is."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from dkv.sim.scenario import play

SOURCE = Path(__file__).parents[2] / "src"
SEEDS = (8, 11)
ASK = (
    "import hashlib, sys\n"
    "from dkv.sim.scenario import play\n"
    "for seed in sys.argv[1:]:\n"
    "    print(hashlib.sha256('\\n'.join(play(int(seed)).trace).encode()).hexdigest())\n"
)


def digest(seed: int) -> str:
    return hashlib.sha256("\n".join(play(seed).trace).encode()).hexdigest()


def test_the_same_seed_leaves_the_same_trace_in_every_process() -> None:
    here = [digest(seed) for seed in SEEDS]
    assert here == [digest(seed) for seed in SEEDS]
    assert len(set(here)) == len(SEEDS)
    for hash_seed in ("0", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(SOURCE)}
        answer = subprocess.run(
            [sys.executable, "-c", ASK, *map(str, SEEDS)],
            capture_output=True,
            text=True,
            env=environment,
            timeout=300,
            check=True,
        )
        assert answer.stdout.split() == here
