"""A world is a great deal of garbage; it is collected where it was made."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """CPython 3.11 may fail in ast.parse of a later test when coroutines are finalised in the middle of it."""
    yield
    gc.collect()
