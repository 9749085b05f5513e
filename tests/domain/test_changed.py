"""changed(): a value with some of its fields changed, as dataclasses.replace gives it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dkv.domain.changed import changed
from dkv.domain.model import Process
from dkv.domain.states import EngineType

PROCESS = Process(3, "orders", EngineType.SM, "s1", archive_id=1)


def test_it_is_what_replace_gives_and_the_old_value_stays() -> None:
    assert changed(PROCESS, pid=7, told=2) == replace(PROCESS, pid=7, told=2)
    assert PROCESS.pid is None


def test_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="Process has no field colour"):
        changed(PROCESS, colour="red")
