"""Playground: a whole domain on this machine, to look at and to break.

It is a program that uses the product from outside: managers as child processes, cmdlets, the public HTTP client,
unmodified Valkey clients. It may import client, config, cli and confirm, never the packages that a manager is made of.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dkv.cli.output import Screen


def main(
    screen: Screen,
    *,
    servers: int,
    instances: int,
    replication_factor: int | None,
    directory: Path | None,
    once: bool,
    hosts: int,
    tls: bool,
) -> int:
    """Run a playground to its exit code; `directory` None is a temporary one. Raises CliError."""
    from dkv.playground.run import Options, run  # only who plays pays for rich and valkey

    return run(screen, Options(servers, instances, replication_factor, directory, once, tls, hosts))
