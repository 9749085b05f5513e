"""The worlds that the contract suites run in. An implementation is held to the contract by one line here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.engine_harness import EncryptedMachine, Machine, ValkeyMachine
from tests.contract.sim_machine import TrapMachine

ENGINE_ROOMS: dict[str, Callable[[Path], Machine]] = {
    "valkey": ValkeyMachine,
    "simulated": TrapMachine,
    "valkey over TLS": EncryptedMachine,
}


@pytest.fixture(params=["simulated", "valkey", pytest.param("valkey over TLS", marks=pytest.mark.full)])
def engine_machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """An empty machine."""
    return ENGINE_ROOMS[request.param](tmp_path)


@pytest.fixture(params=["simulated", "valkey"])
def plain_machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """An empty machine whose cluster bus lets in whoever reaches it; over TLS no stranger gets so far."""
    return ENGINE_ROOMS[request.param](tmp_path)


@pytest.fixture(params=["simulated", pytest.param("valkey", marks=pytest.mark.full)])
def patient_machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """An empty machine for scenarios that take seconds on a real one; those run with --full."""
    return ENGINE_ROOMS[request.param](tmp_path)
