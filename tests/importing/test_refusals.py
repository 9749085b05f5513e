"""What an import says when a server refuses: the sentence names what was refused, and what helps."""

from __future__ import annotations

import pytest

from dkv.importing.connection import ErrorReply, ImportFailed, ServerAddress
from dkv.importing.run import source_failure
from dkv.importing.source import Value
from tests.importing.engines import Engines, everywhere


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        ("ERR DUMP payload version or checksum are wrong", "does not read the format"),
        ("ERR Bad data format", "of a type that the store's engines do not have"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "memory of the store is full"),
        ("NOPERM no permissions", r"refuses key k\\xff: NOPERM"),
    ],
)
def test_a_value_that_is_refused_is_named_with_what_helps(reply: str, sentence: str) -> None:
    with pytest.raises(ImportFailed, match=sentence) as failed:
        Engines(ErrorReply(reply)).target(everywhere).write(0, [Value(b"k\xff", b"x", 0)])
    assert str(failed.value.hint)


@pytest.mark.parametrize(
    "reply", ["MOVED 1 10.0.0.1:7861", "CLUSTERDOWN Hash slot not served", "LOADING", "READONLY You can't write", "BUSY running"]
)
def test_what_passes_by_itself_is_tried_again(reply: str) -> None:
    engines = Engines(ErrorReply(reply), ErrorReply(reply), b"OK")
    engines.target(everywhere).write(0, [Value(b"k", b"x", 0)])
    assert engines.written == {next(iter(everywhere())): [b"k", b"k", b"k"]}


def test_slots_of_a_source_that_move_are_named_as_such() -> None:
    assert "moved meanwhile" in source_failure(ErrorReply("MOVED 1 10.0.0.1:7000")).message
    assert "does not answer" in source_failure(ErrorReply("the connection ended")).message


def test_an_address_is_never_written_with_its_password() -> None:
    address = ServerAddress("h", 1, "ada", "hidden-word")
    assert "hidden-word" not in f"{address} {address!r}"
