"""CLI: the verbs with a noun, `dkv VERB NOUN`: those of nuocmd with its names and options, and dkv's own.

Each file has a table VERBS. NOUNS_OF_FILE says which nouns a file has verbs for, so that a command imports that file only.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from dkv.cli.binding import Cmdlet
from dkv.cli.errors import Usage
from dkv.spelling import nearest

NOUNS_OF_FILE = {
    "programs": "install remove run state stop",
    "nouns.archives": "archive archives storage-group storage-groups",
    "nouns.authority": "ca join-token join-tokens",
    "nouns.databases": "database database-options databases startplan",
    "nouns.database_users": "database-access database-user database-users secret",
    "nouns.domain": "domain domain-state events waiting",
    "nouns.hotcopies": "hotcopy hotcopy-info hotcopy-status",
    "nouns.checks": "machines",
    "nouns.maintenance": "leader leaders",
    "nouns.monitoring": "alerts dashboard",
    "nouns.processes": "process processes server-processes",
    "nouns.records": (
        "certificate-info effective-license kubernetes-config load-balancer load-balancer-config load-balancers "
        "region region-assignment regions role role-templates roles sql-connection user user-credentials "
        "user-roles users value"
    ),
    "nouns.tokens": "token tokens",
    "nouns.servers": "diagnose-info message server server-config server-logs server-state servers voter",
}
"""The files below dkv.cli, and the nouns whose verbs are in them."""

FILES = {"": "programs"} | {noun: file for file, nouns in NOUNS_OF_FILE.items() for noun in nouns.split()}
"""The file that has the verbs of a noun; of programs without a noun under "". Where they are in several files, MORE names the
others."""

MORE = {
    "domain": ("programs",),
    "database": ("nouns.checks", "nouns.hotcopies", "nouns.maintenance"),
    "process": ("nouns.checks",),
    "server": ("nouns.checks",),
    "token": ("nouns.authority",),
    "servers": ("nouns.checks",),
}

VERB_WORDS = tuple(  # every first word of a command of two words
    (
        "add backup cancel capture check create delete enforce get hotcopy log manager rebalance rebuild recover remove replace "
        "restart restore rotate service set show shutdown start switchover update"
    ).split()
)

PROGRAMS = ("completion", "import", "login", "logout", "logs", "manual", "playground", "shell", "status", "watch")
"""Commands of one word."""


def tables(noun: str) -> Iterator[Cmdlet]:
    """Every verb that takes the noun; a file is imported only when the iteration comes to it."""
    for file in [FILES[noun], *MORE.get(noun, ())] if noun in FILES else []:
        for command in import_module(f"dkv.cli.{file}").VERBS:
            if command.name.partition(" ")[2] == noun:
                yield command


def everything() -> list[Cmdlet]:
    """All verbs with all their nouns, and the programs, by name."""
    return sorted((command for noun in FILES for command in tables(noun)), key=lambda command: command.name)


def of_verb(verb: str) -> list[Cmdlet]:
    """The verb with each noun it takes."""
    return [command for command in everything() if command.name.startswith(f"{verb} ")]


def find(name: str) -> Cmdlet | None:
    """The verb and noun, or the program, of that name, if there is one."""
    verb, _, noun = name.partition(" ")
    if not noun and verb not in PROGRAMS:
        return None
    return next((command for command in tables(noun) if command.name == name), None)


def unknown(name: str) -> Usage:
    """A verb without a noun, or with one it does not take."""
    verb, _, noun = name.partition(" ")
    nouns = [command.name.partition(" ")[2] for command in of_verb(verb)]
    near = nearest(noun, nouns).replace("mean ", f"mean {verb} ").replace(" or ", f" or {verb} ")
    if not noun or noun.startswith("-"):
        return Usage(f"dkv {verb} needs a noun.", f"dkv {verb} takes: {', '.join(nouns)}.")
    return Usage(f"There is no command '{name}'.", near or f"dkv {verb} takes: {', '.join(nouns)}.")
