"""changed(): a value with some of its fields changed, as dataclasses.replace gives it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dkv.domain.model import Process, evolve
from dkv.domain.states import ProcessRole

PROCESS = Process(3, "orders", ProcessRole.SM, "s1", archive_id=1)


def test_it_is_what_replace_gives_and_the_old_value_stays() -> None:
    assert evolve(PROCESS, pid=7, last_event=2) == replace(PROCESS, pid=7, last_event=2)
    assert PROCESS.pid is None


def test_a_field_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="Process has no field colour"):
        evolve(PROCESS, colour="red")
