"""Append-only files cut anywhere: what counts, where the marker is, and what a value may fake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dkv.engine import aof
from dkv.engine.archive import write_identity
from dkv.engine.contract import ArchiveRefused, Cause, Position
from dkv.engine.positions import DiskWatch, bytes_after, read_position, stretch
from tests.contract.engine_harness import identity


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def marker(term: int, sequence: int, nonce: str = "ab12") -> bytes:
    return command(b"FUNCTION", b"LOAD", b"REPLACE", aof.marker_code(term, sequence, nonce).encode())


def reader(data: bytes) -> aof.Read:
    return lambda offset, size: data[offset : offset + size]


VALUES = st.binary(max_size=40) | st.sampled_from([b"", b"\r\n", b"MULTI", b"*1\r\n$4\r\nEXEC\r\n", b"*", b"$5\r\n"])
PLAIN = st.lists(VALUES, min_size=0, max_size=3).map(lambda words: command(b"SET", *words))
BLOCK = st.lists(PLAIN, max_size=3).map(lambda inner: [command(b"MULTI"), *inner, command(b"EXEC")])
STREAM = st.lists(PLAIN.map(lambda engine: [engine]) | BLOCK, max_size=8)
DATALESS = st.sampled_from(
    [(b"PFCOUNT", b"k"), (b"pfcount", b"\r\n"), (b"SELECT", b"5"), (b"MULTI",), (b"EXEC",), (b"MULTI",)]
).map(lambda words: command(*words))
CHANGING = PLAIN | st.sampled_from([(b"INCR", b"PFCOUNT"), (b"SET", b"PFCOUNT", b"SELECT"), (b"EXECUTE",), (b"PFADD", b"k")]).map(
    lambda words: command(*words)
)


@settings(deadline=None)
@given(STREAM, st.data())
def test_a_cut_counts_to_the_last_whole_command_outside_a_multi(blocks: list[list[bytes]], data: st.DataObject) -> None:
    whole = b"".join(b"".join(block) for block in blocks)
    cut = data.draw(st.integers(0, len(whole)))
    expected = 0
    for block in blocks:  # a plain command or a whole MULTI..EXEC counts only when nothing of it is cut off
        length = len(b"".join(block))
        if expected + length > cut:
            break
        expected += length
    tail = aof.walk(reader(whole[:cut]), 0, cut)
    assert not tail.broken
    assert tail.valid == expected


@settings(deadline=None)
@given(STREAM, st.integers(1, 64))
def test_blocks_of_any_size_give_the_same_answer(blocks: list[list[bytes]], chunk: int) -> None:
    whole = b"".join(b"".join(block) for block in blocks)

    def stingy(offset: int, size: int) -> bytes:
        return whole[offset : offset + min(size, max(chunk, 32))]

    assert aof.walk(stingy, 0, len(whole)) == aof.walk(reader(whole), 0, len(whole))


@settings(deadline=None)
@given(
    st.lists(DATALESS.map(lambda engine: (engine, 0)) | CHANGING.map(lambda engine: (engine, len(engine))), max_size=12),
    st.integers(1, 64),
)
def test_commands_that_change_no_data_are_counted_apart(commands: list[tuple[bytes, int]], chunk: int) -> None:
    whole = b"".join(text for text, _ in commands)
    opened = closed = changing = 0  # to the MULTI that is open at the end, or to the end
    for text, size in commands:
        opened, closed = (changing, 0) if text == command(b"MULTI") else (opened, 1 if text == command(b"EXEC") else closed)
        changing += size
    is_open = any(text == command(b"MULTI") for text, _ in commands) and not closed
    for step in (len(whole) or 1, max(chunk, 32)):
        tail = aof.walk(lambda offset, size, step=step: whole[offset : offset + min(size, step)], 0, len(whole))  # type: ignore[misc]
        assert tail.valid - tail.dataless == (opened if is_open else changing)


def test_garbage_is_not_a_cut() -> None:
    data = command(b"SET", b"k", b"v")
    assert aof.walk(reader(data + b"garbage" * 10), 0, len(data) + 70).broken
    assert not aof.walk(reader(data + b"*3\r\n$3\r\nSE"), 0, len(data) + 10).broken
    assert aof.walk(reader(data.replace(b"$1", b"$2")), 0, len(data)).broken


def test_the_newest_marker_is_found_from_the_end() -> None:
    data = marker(1, 1) + command(b"SET", b"k", b"v" * 1000) + marker(2, 7, "ff") + command(b"SET", b"k", b"w")
    newest = aof.find_marker(reader(data), len(data))
    assert newest is not None
    assert (newest.term, newest.sequence, newest.nonce) == (2, 7, "ff")
    before = aof.find_marker(reader(data), newest.start)
    assert before is not None
    assert (before.term, before.sequence, before.start, before.end) == (1, 1, 0, len(marker(1, 1)))
    assert aof.find_marker(reader(data), len(data), newest.start + 1) is None


@pytest.mark.parametrize("before", [4 << 20, (4 << 20) - 100, (4 << 20) + 100, 0])
def test_a_marker_across_two_blocks_is_found(before: int) -> None:
    filler = b"x" * before
    data = filler + marker(3, 4) + b"y" * ((4 << 20) - 80)
    newest = aof.find_marker(reader(data), len(data))
    assert newest is not None
    assert newest.start == before


def test_another_library_is_no_marker() -> None:
    data = command(b"FUNCTION", b"LOAD", b"REPLACE", b"#!lua name=mine\nserver.register_function('f', f)")
    assert aof.find_marker(reader(data), len(data)) is None


# -- archives ----------------------------------------------------------------------------------------------------------


def archive(path: Path, *files: bytes) -> str:
    """An archive with these incremental files, oldest first."""
    folder = path / "appendonlydir"
    folder.mkdir()
    lines = ["file appendonly.aof.1.base.rdb seq 1 type b"]
    for number, data in enumerate(files, 1):
        (folder / f"appendonly.aof.{number}.incr.aof").write_bytes(data)
        lines.append(f"file appendonly.aof.{number}.incr.aof seq {number} type i")
    (folder / "appendonly.aof.1.base.rdb").write_bytes(b"base")
    (folder / "appendonly.aof.manifest").write_text("\n".join(lines) + "\n")
    write_identity(str(path), identity(1), True)
    return str(path)


def test_a_position_goes_over_several_files(tmp_path: Path) -> None:
    later = command(b"SET", b"k", b"v")
    directory = archive(tmp_path, marker(4, 2) + later, later + later[:-3])
    assert read_position(directory) == Position(4, 2, "ab12", 2 * len(later), True)


def test_a_position_ranks_by_commands_that_change_data(tmp_path: Path) -> None:
    later = command(b"SET", b"k", b"v")
    own = command(b"SELECT", b"5") + command(b"PFCOUNT", b"k")
    position = read_position(archive(tmp_path, marker(4, 2) + own + later, own + later + own + command(b"MULTI") + own))
    assert (position.bytes_after, position.dataless_bytes) == (3 * len(own) + 2 * len(later), 3 * len(own))
    assert position.order == (4, 2, 2 * len(later))


def test_an_archive_without_a_marker_is_lowest(tmp_path: Path) -> None:
    assert read_position(archive(tmp_path, command(b"SET", b"k", b"v"))).order == (0, 0, 0)


def test_a_marker_inside_a_value_is_passed_over(tmp_path: Path) -> None:
    faked = command(b"SET", b"k", b"look: " + marker(9, 9) + b"haha, more text after it")
    directory = archive(tmp_path, marker(4, 2) + faked)
    assert read_position(directory) == Position(4, 2, "ab12", len(faked), True)


def test_bytes_after_the_marker_that_are_no_commands(tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused) as no:
        read_position(archive(tmp_path, marker(4, 2) + b"garbage" * 10))
    assert no.value.cause is Cause.CORRUPT_ARCHIVE


def test_a_file_that_the_manifest_names_is_missed(tmp_path: Path) -> None:
    directory = archive(tmp_path, marker(4, 2))
    os.unlink(tmp_path / "appendonlydir" / "appendonly.aof.1.incr.aof")
    with pytest.raises(ArchiveRefused) as no:
        read_position(directory)
    assert no.value.cause is Cause.CORRUPT_ARCHIVE


def test_what_is_set_aside_begins_after_the_kept_position(tmp_path: Path) -> None:
    later = [command(b"SET", b"k", b"%d" % number) for number in range(4)]
    directory = archive(tmp_path, marker(4, 2) + later[0] + later[1], later[2] + later[3])
    keep = Position(4, 2, "ab12", len(later[0]))
    assert b"".join(bytes_after(directory, keep)) == b"".join(later[1:])
    keep = Position(4, 2, "ab12", len(b"".join(later[:3])))
    assert b"".join(bytes_after(directory, keep)) == later[3]
    assert b"".join(bytes_after(directory, Position(9, 9, "zz"))) == marker(4, 2) + b"".join(later)


def test_a_watch_sees_markers_arrive_and_leave(tmp_path: Path) -> None:
    directory = archive(tmp_path, marker(1, 1))
    file = tmp_path / "appendonlydir" / "appendonly.aof.1.incr.aof"
    watch = DiskWatch(directory)
    assert watch.look().marker == Position(1, 1, "ab12", 0, True)
    with open(file, "ab") as more:
        more.write(command(b"SET", b"k", b"v"))
    seen = watch.look().marker
    assert seen is not None
    assert seen.bytes_after == len(command(b"SET", b"k", b"v"))
    with open(file, "ab") as more:
        more.write(marker(1, 2)[:30])
    watch.look()
    with open(file, "ab") as more:
        more.write(marker(1, 2)[30:])
    assert watch.look().marker == Position(1, 2, "ab12", 0, True)
    # A full resync or rewrite: another base, an incremental file that has no marker yet.
    (tmp_path / "appendonlydir" / "appendonly.aof.2.incr.aof").write_bytes(b"")
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text(
        "file appendonly.aof.1.base.rdb seq 2 type b\nfile appendonly.aof.2.incr.aof seq 2 type i\n"
    )
    assert watch.look().marker is None


# A tail of large values ------------------------------------------------------------------------------------------------


def test_the_search_for_a_marker_behind_large_values_is_seen_as_reading(tmp_path: Path) -> None:
    """It took seconds, in which whoever gave a dead leader's tail seemed to do nothing."""
    large = [command(b"SET", b"k%d" % number, b"x" * (9 << 20)) for number in range(2)]
    directory = archive(tmp_path, marker(4, 2) + large[0], large[1])
    size = sum(len(value) for value in large)
    read: list[int] = []
    digest, _ = stretch(directory, (4, 2, "ab12"), size, read.append)
    assert digest.size == size
    assert sum(read) >= 2 * size, "searched from the end, then digested"
    assert max(read) <= 5 << 20, "in pieces that a slow disk reads within a fraction of a second"


def test_what_comes_after_a_marker_is_read_piece_by_piece_over_several_files(tmp_path: Path) -> None:
    commands = [command(b"SET", b"k%d" % number, bytes([65 + number]) * 3_000) for number in range(6)]
    directory = archive(tmp_path, commands[5] + marker(4, 2) + commands[0], commands[1] + commands[2], commands[3])
    whole = b"".join(commands[:4])
    read: list[int] = []
    _, after = stretch(directory, (4, 2, "ab12"), len(whole), read.append)
    read.clear()
    assert b"".join(after.read(at, min(at + 1_000, len(whole))) for at in range(0, len(whole), 1_000)) == whole
    assert sum(read) == len(whole)
    os.truncate(tmp_path / "appendonlydir" / "appendonly.aof.3.incr.aof", 10)
    with pytest.raises(ArchiveRefused):
        after.read(0, len(whole))
