"""Playground: a whole domain on this machine, to look at and to break.

It is a program that uses the product as everybody does: managers as child processes, cmdlets, the public HTTP client,
unmodified Valkey clients. It may import client, config, cli and confirm, never the rooms behind a manager's door.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run `dkv playground` with its arguments to its exit code."""
    from dkv.playground.run import run  # only who plays pays for rich and valkey

    return run(arguments)
