"""Domain: the orders of the NuoDB half that the cmdlets do not have: archives brought back, database options set."""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain.command import Command


@dataclass(frozen=True, kw_only=True)
class BringBackArchive(Command):
    """Take a removed archive back under its id; `restored`: into another database of its name. Empty fields ask for nothing."""

    archive_id: int
    database: str
    server_id: str = ""
    path: str = ""
    restored: bool = False


@dataclass(frozen=True, kw_only=True)
class SetDatabaseOptions(Command):
    """Set options of a database by their names in the dialect; with `replace_all` the others are unset.

    Options the domain has a meaning for (domain/options.py) change what it does; any other is kept and handed to people.
    """

    name: str
    options: tuple[tuple[str, str], ...]
    replace_all: bool = False
