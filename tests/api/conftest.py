"""What tests of strange requests share: one furnished world for a file of tests, put back after each request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.api.furnished import Stage, furnished


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The world, whose state is a file, and what runs its coroutines."""
    with asyncio.Runner() as runner:
        opened = furnished(tmp_path_factory.mktemp("furnished"))
        yield Stage(runner, runner.run(opened.__aenter__()))
        runner.run(opened.__aexit__(None, None, None))
