"""CLI: the errors of commands, exit codes, and the nearest-name hint."""

from __future__ import annotations

from dkv.errors import HintedError

DONE, FAILED, BAD_USAGE, INTERRUPTED, READER_LEFT = 0, 1, 2, 130, 141
"""Exit codes; 130 is the shell's own for Ctrl-C, 141 for a program whose reader has gone."""


class CliError(HintedError):
    """A command cannot go on."""


class Usage(CliError):
    """The command was not written right; nothing was sent."""

    exit_code = BAD_USAGE


class ReaderLeft(Exception):
    """The reader of standard output has gone (`dkv show events | head -1`): no failure, and no message has a reader."""


class NotPrinted(CliError):
    """Standard output takes no more. What had been sent is done all the same."""


class NothingSent(CliError):
    """No manager is known that the command could be sent to."""
