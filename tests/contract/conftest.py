"""The worlds that the contract suites run in. An implementation is held to the contract by one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.engine_harness import RealRoom, Room
from tests.contract.sim_room import TrapRoom

ENGINE_ROOMS: dict[str, Callable[[Path], Room]] = {"valkey": RealRoom, "simulated": TrapRoom}


@pytest.fixture(params=sorted(ENGINE_ROOMS))
def engines_room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    """An empty machine."""
    return ENGINE_ROOMS[request.param](tmp_path)


@pytest.fixture(params=["simulated", pytest.param("valkey", marks=pytest.mark.full)])
def patient_room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    """An empty machine for stories that take seconds on a real one; those are told with --full."""
    return ENGINE_ROOMS[request.param](tmp_path)
