"""The root of the errors that a person at a command line is shown."""

from __future__ import annotations

from dkv import hints


class HintedError(Exception):
    """Something cannot be done: `message` is one sentence, `hint` what helps, `exit_code` how a program ends by it."""

    exit_code = 1

    def __init__(self, message: str, hint: str | hints.Hint = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint if isinstance(hint, hints.Hint) else hints.hint(hint)
