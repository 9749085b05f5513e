"""The file that remembers the connected managers between one-shot commands.

It stands apart from dkv.config, whose settings are a manager's: a cmdlet does not pay for reading those, nor for
pathlib, which is a tenth of its start.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from dkv.cli.errors import CliError


def user_directory(environ: Mapping[str, str]) -> str:
    """The user's directory for context and history: the same as that of dkv.toml."""
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return os.path.join(base, "dkv")


class ContextFile:
    """The managers a one-shot Connect-DkvManager remembered for the next command."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._path = os.path.join(user_directory(environ), "context.json")

    def read(self) -> list[str]:
        """The remembered `host:port` texts, in the user's order; empty when there are none."""
        try:
            with open(self._path, encoding="utf-8") as file:
                found = json.load(file)
            return [str(text) for text in found["managers"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "Delete the file, or run Connect-DkvManager -Force."
            raise CliError(f"The context file {self._path} cannot be read: {error}.", hint) from error

    def write(self, managers: Sequence[str]) -> None:
        """Replace the list; a crash leaves the old file or the new one."""
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            beside = f"{self._path}.{os.getpid()}"
            with open(beside, "w", encoding="utf-8") as file:
                file.write(json.dumps({"managers": list(managers)}) + "\n")
            os.replace(beside, self._path)
        except OSError as error:
            hint = "Make the directory writable, or set DKV_MANAGERS instead."
            raise CliError(f"The context file {self._path} cannot be written: {error}.", hint) from error

    def clear(self) -> None:
        """Forget the list."""
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise CliError(f"The context file {self._path} cannot be removed: {error}.", "Remove it.") from error
