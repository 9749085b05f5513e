"""The certificate files of an engine: what it refused is not left for who listens in its place, and old ones go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dkv.engine import tls
from dkv.engine.config import TLS_FOLDER
from dkv.engine.contract import EngineError, EngineRefused, EngineUnreachable, TlsFiles
from dkv.engine.engine import Engine

OLD, NEW = (TlsFiles("trust", serial, "AUTHORITIES", "LEAF", "KEY") for serial in ("01", "02"))


def given(directory: Path, outcome: EngineError | None) -> None:
    """An engine with the old files is given the new ones."""

    async def set_certificate(certificate: TlsFiles) -> None:
        assert certificate.name in generations(directory), "its files are there before it is asked to load them"
        if outcome:
            raise outcome

    tls.write_generation(str(directory), OLD)
    engine: Any = SimpleNamespace(
        start_id=1,
        run=SimpleNamespace(record=SimpleNamespace(directory=str(directory))),
        valkey=SimpleNamespace(set_certificate=set_certificate),
    )
    asyncio.run(Engine.set_certificate(engine, NEW))


def generations(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / TLS_FOLDER).iterdir())


def test_the_files_of_earlier_leaves_go_once_the_new_one_is_shown(tmp_path: Path) -> None:
    given(tmp_path, None)
    assert generations(tmp_path) == [NEW.name]


def test_files_that_an_engine_refused_go_again(tmp_path: Path) -> None:
    with pytest.raises(EngineRefused):
        given(tmp_path, EngineRefused("it shows another leaf"))
    assert generations(tmp_path) == [OLD.name]


def test_both_stay_where_it_is_not_known_which_one_the_engine_shows(tmp_path: Path) -> None:
    with pytest.raises(EngineUnreachable):
        given(tmp_path, EngineUnreachable("it did not answer"))
    assert generations(tmp_path) == [OLD.name, NEW.name]
