"""The file that remembers the connected managers between one-shot commands (issue section 5).

It stands apart from dkv.config, whose settings are a manager's: a cmdlet does not pay for reading those.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dkv.cli.trouble import CliTrouble


def user_directory(environ: Mapping[str, str]) -> Path:
    """The user's directory for context and history: the same as that of dkv.toml."""
    base = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return Path(base) / "dkv"


class ContextFile:
    """The managers a one-shot Connect-DkvManager remembered for the next command (issue section 5)."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._path = user_directory(environ) / "context.json"

    def read(self) -> list[str]:
        """The remembered `host:port` texts, in the user's order; empty when there are none."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return [str(text) for text in found["managers"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "Delete the file, or run Connect-DkvManager -Force."
            raise CliTrouble(f"The context file {self._path} cannot be read: {error}.", hint) from error

    def write(self, managers: Sequence[str]) -> None:
        """Replace the list; a crash leaves the old file or the new one."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            beside.write_text(json.dumps({"managers": list(managers)}) + "\n", encoding="utf-8")
            beside.replace(self._path)
        except OSError as error:
            hint = "Make the directory writable, or set DKV_MANAGERS instead."
            raise CliTrouble(f"The context file {self._path} cannot be written: {error}.", hint) from error

    def clear(self) -> None:
        """Forget the list."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise CliTrouble(f"The context file {self._path} cannot be removed: {error}.", "Remove it.") from error
