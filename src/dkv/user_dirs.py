"""The user's directories, by the rules of XDG."""

from __future__ import annotations

import os
from collections.abc import Mapping


def config_dir(environ: Mapping[str, str]) -> str:
    """The directory of dkv's configuration, of the connected managers and of the shell's history."""
    return _directory(environ, "XDG_CONFIG_HOME", ".config")


def data_dir(environ: Mapping[str, str]) -> str:
    """The directory of a manager's archives and logs where none is set."""
    return _directory(environ, "XDG_DATA_HOME", ".local/share")


def _directory(environ: Mapping[str, str], variable: str, below: str) -> str:
    base = environ.get(variable, "")
    if not os.path.isabs(base):  # the rules say to pass over a relative one
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), below)
    return os.path.join(base, "dkv")
