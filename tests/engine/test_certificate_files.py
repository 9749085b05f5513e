"""The certificate files of an engine: what it refused is not left for who listens in its place, and old ones go."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dkv.access.certificates import Owner, new_authority, new_leaf, reachable
from dkv.access.crypto import KeyPair
from dkv.engine import tls
from dkv.engine.config import TLS_FOLDER
from dkv.engine.contract import EngineError, EngineRefused, EngineUnreachable, TlsFiles
from dkv.engine.engine import Engine
from tests.tls import client, now

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


def test_who_listens_in_the_place_of_a_dead_engine_hears_engines_of_its_store_only(tmp_path: Path) -> None:
    """The tail of a dead leader is what clients wrote: a replication password that was stolen does not get it."""
    owner, here = Owner("d0", "u1"), reachable("s1", "127.0.0.1")
    authority, other, managers = (new_authority(of, now()) for of in (owner, Owner("d0", "u2"), Owner("d0")))
    leaf = new_leaf(authority, owner, here, now())
    tls.write_generation(str(tmp_path), TlsFiles("trust", "01", authority.certificate, leaf.certificate, leaf.key))

    def shown(name: str, pair: KeyPair) -> ssl.SSLContext:
        files = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        files[0].write_text(pair.certificate)
        files[1].write_text(pair.key)
        return client(authority.certificate, files)

    callers = {
        "an engine of the store": shown("ours", new_leaf(authority, owner, here, now())),
        "no certificate": client(authority.certificate),
        "another store's engine": shown("other", new_leaf(other, Owner("d0", "u2"), here, now())),
        "a manager": shown("manager", new_leaf(managers, Owner("d0"), here, now())),
        "an engine whose certificate expired": shown("old", new_leaf(authority, owner, here, now() - 91 * 86_400_000)),
    }
    assert asyncio.run(heard(str(tmp_path), callers)) == ["an engine of the store"]


async def heard(directory: str, callers: dict[str, ssl.SSLContext]) -> list[str]:
    """Which of the callers got an answer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls.context_of(directory))
    port = server.sockets[0].getsockname()[1]
    answered = []
    async with server, asyncio.timeout(30):
        for name, context in callers.items():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
                writer.write(b"PING\n")
                if await reader.readline() == b"PING\n":
                    answered.append(name)
                writer.close()
            except OSError:
                pass
    return answered
