"""Reading append-only files: command boundaries, markers, torn tails. Pure: bytes come through a `Read` function.

The rules were measured in docs/reference/positions.md: a cut tail counts to the end of its last whole
command, and where a MULTI is open, to the start of that MULTI, because the engine truncates to exactly there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from dkv.constants import MARKER_LIBRARY

Read = Callable[[int, int], bytes]  # (offset, at most so many bytes) -> the bytes there, fewer at the end

_PREFIX = b"*4\r\n$8\r\nFUNCTION\r\n$4\r\nLOAD\r\n$7\r\nREPLACE\r\n$"
_MARKER = re.compile(re.escape(_PREFIX) + rb"(\d+)\r\n(#!lua name=" + MARKER_LIBRARY.encode() + rb"\n-- (\d+)-(\d+)-(\w*)\n)")
LONGEST = 512  # no marker command is longer
_CHUNK = 4 << 20
_HEADER = 26  # "*" or "$", up to 20 digits, CRLF
_DATALESS = frozenset((b"SELECT", b"MULTI", b"EXEC", b"PFCOUNT"))  # change no data; a copy may log them on its own
_WORDS = frozenset(len(word) + 2 for word in _DATALESS)


@dataclass(frozen=True)
class Marker:
    """A marker command in a file."""

    term: int
    sequence: int
    nonce: str
    start: int
    end: int  # offset just after the command


@dataclass(frozen=True)
class Tail:
    """What a walk over commands found."""

    end: int  # offset after the last whole command
    open_multi: int | None  # where a MULTI without EXEC starts
    broken: bool  # something that is neither a command nor a cut one
    dataless: int = 0  # bytes of commands up to `valid` that change no data

    @property
    def valid(self) -> int:
        """Where the engine would truncate to."""
        return self.end if self.open_multi is None else self.open_multi


@dataclass(frozen=True)
class ManifestFile:
    """One line of the manifest; kind is "b" (base), "i" (incremental) or "h" (history, to be deleted)."""

    name: str
    sequence: int
    kind: str


def marker_code(term: int, sequence: int, nonce: str) -> str:
    """The function library that is the marker; needs no key, shows in no DBSIZE (docs/reference/positions.md#markers)."""
    text = f"{term}-{sequence}-{nonce}"
    return (
        f"#!lua name={MARKER_LIBRARY}\n-- {text}\n"
        f"server.register_function{{function_name='{MARKER_LIBRARY}',callback=function() return '{text}' end,"
        "flags={'no-writes'}}\n"
    )


def parse_manifest(text: str) -> list[ManifestFile]:
    """The manifest's files in order. Raises ValueError on anything else."""
    files = []
    for line in text.splitlines():
        if not line.strip():
            continue
        words = shlex.split(line)
        values = dict(zip(words[::2], words[1::2], strict=False))
        if not {"file", "seq", "type"} <= values.keys() or values["type"] not in ("b", "i", "h"):
            raise ValueError(f"manifest line {line!r}")
        files.append(ManifestFile(values["file"], int(values["seq"]), values["type"]))
    return files


def find_marker(read: Read, size: int, lowest: int = 0) -> Marker | None:
    """The last marker that ends at or before `size` and starts at or after `lowest`, searched from the end."""
    below = size
    while below > lowest:
        start = max(lowest, below - _CHUNK)
        block = read(start, min(below + LONGEST, size) - start)
        last = _last_in(block, start, below)
        if last is not None:
            return last
        below = start
    return None


def _last_in(block: bytes, start: int, below: int) -> Marker | None:
    """The last marker starting before `below` in a block that begins at `start`."""
    at = block.rfind(_PREFIX, 0, below - start + len(_PREFIX) - 1)
    while at >= 0:
        match = _MARKER.match(block, at)
        if match is not None:
            end = match.start(2) + int(match[1]) + 2
            if block[end - 2 : end] == b"\r\n":
                return Marker(int(match[3]), int(match[4]), match[5].decode(), start + at, start + end)
        at = block.rfind(_PREFIX, 0, at + len(_PREFIX) - 1)
    return None


def walk(read: Read, start: int, size: int) -> Tail:
    """Follow the commands from a known boundary to `size`; long values are stepped over, not read."""
    walker = _Walker(start, size)
    position = start
    while position < size and not walker.broken:
        step = walker.eat(read(position, min(_CHUNK, size - position)), position)
        if step == 0:
            break
        position += step
    return Tail(walker.end, walker.multi, walker.broken, walker.dataless if walker.multi is None else walker.dataless_before)


class _Walker:
    """The state between two blocks: inside which command, how many arguments are missing, which MULTI is open."""

    def __init__(self, start: int, size: int) -> None:
        self.end = start
        self.multi: int | None = None
        self.broken = False
        self.dataless = 0  # bytes of whole commands that change no data
        self.dataless_before = 0  # of those before the open MULTI
        self._size = size
        self._missing = 0
        self._command = start
        self._word = b""

    def eat(self, block: bytes, base: int) -> int:
        """Take what is whole in this block; how far it got, possibly beyond the block, 0 when it needs more."""
        at, length = 0, len(block)
        while at < length:
            if self._missing == 0:
                at = self._rush(block, at, base)
                if at == length:
                    break
            eol = block.find(b"\r\n", at, at + _HEADER)
            if eol < 0:
                self.broken = length - at >= _HEADER
                break
            after = self._line(block, at, eol, base)
            if after == 0:
                break
            at = after
        return at

    def _rush(self, block: bytes, at: int, base: int) -> int:
        """The commands that are whole in this block, quickly; stops before anything it does not understand.

        Ten times as fast as going line by line, and a group without a leader waits for this reading.
        """
        length, find, done = len(block), block.find, at
        try:
            while at < length and block[at] == 42:
                eol = find(b"\r\n", at, at + _HEADER)
                if eol < 0:
                    return done
                words = int(block[at + 1 : eol])
                first = place = eol + 2
                for _ in range(words):
                    if block[place] != 36:
                        return done
                    eol = find(b"\r\n", place, place + _HEADER)
                    if eol < 0:
                        return done
                    place = eol + 4 + int(block[place + 1 : eol])
                if words < 1 or block[place - 1] != 10:
                    return done
                if words < 3:
                    self._command, self._word = base + at, block[first : first + _HEADER].split(b"\r\n", 2)[1].upper()
                    self._finish(base + place)
                at = done = place
                self.end = base + place
        except (IndexError, ValueError):  # cut off, or not a command: the slow way tells which
            pass
        return done

    def _line(self, block: bytes, at: int, eol: int, base: int) -> int:
        """One header line and, for an argument, its value; the next offset in the block, 0 to stop here."""
        kind = block[at]
        if self._missing == 0:
            return self._begin(kind, block, at, eol, base)
        if kind != 36 or not block[at + 1 : eol].isdigit():
            self.broken = True
            return 0
        value = eol + 2
        after = value + int(block[at + 1 : eol]) + 2
        if base + after > self._size:  # cut inside this value
            return 0
        if self._word == b"" and after - value in _WORDS:  # no other command matters
            if after > len(block):
                return 0
            self._word = block[value : after - 2].upper()
        elif self._word == b"":
            self._word = b"?"
        if after <= len(block) and block[after - 2 : after] != b"\r\n":
            self.broken = True
            return 0
        self._missing -= 1
        if self._missing == 0:
            self._finish(base + after)
        return after

    def _begin(self, kind: int, block: bytes, at: int, eol: int, base: int) -> int:
        if kind == 35:  # an annotation line, "#TS:..."
            self.end = base + eol + 2
            return eol + 2
        if kind != 42 or not block[at + 1 : eol].isdigit() or int(block[at + 1 : eol]) == 0:
            self.broken = True
            return 0
        self._missing, self._command = int(block[at + 1 : eol]), base + at
        self._word = b"" if self._missing < 3 else b"?"
        return eol + 2

    def _finish(self, end: int) -> None:
        self.end = end
        if self._word == b"MULTI":
            self.multi, self.dataless_before = self._command, self.dataless
        elif self._word == b"EXEC":
            self.multi = None
        if self._word in _DATALESS:
            self.dataless += end - self._command
