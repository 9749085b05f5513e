"""What an import says of a value that a store does not take."""

from __future__ import annotations

import pytest

from dkv.importing.connection import Denied, Place
from dkv.importing.run import lost
from dkv.importing.source import Value
from dkv.importing.target import _again, _refused


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("ERR DUMP payload version or checksum are wrong", "does not read the format"),
        ("ERR Bad data format", "of a type that the store's engines do not have"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "memory of the store is full"),
        ("NOPERM no permissions", "refuses key"),
    ],
)
def test_a_value_that_is_refused_is_named_with_what_helps(answer: str, sentence: str) -> None:
    refused = _refused(Value(b"k\xff", b"x", 0), answer)
    assert sentence in refused.message and str(refused.hint)


def test_what_passes_by_itself_is_tried_again() -> None:
    assert _again(Denied("MOVED 1 10.0.0.1:7861")) and _again(Denied("CLUSTERDOWN Hash slot not served"))
    assert not _again(Denied("NOPERM no permissions")) and not _again(b"OK")


def test_slots_of_a_source_that_move_are_named_as_such() -> None:
    assert "moved meanwhile" in lost(Denied("MOVED 1 10.0.0.1:7000")).message
    assert "does not answer" in lost(Denied("the connection ended")).message


def test_a_place_is_never_written_with_its_password() -> None:
    place = Place("h", 1, "ada", "hidden-word")
    assert "hidden-word" not in f"{place} {place!r}"
