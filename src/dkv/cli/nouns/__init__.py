"""CLI: the verbs with a noun, `dkv VERB NOUN`: those of nuocmd with its names and options, and dkv's own.

Each file has a table VERBS. FILES names the file of each noun, so that a command imports that file only.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from dkv.cli.binding import Cmdlet
from dkv.cli.errors import Usage
from dkv.spelling import nearest

FILES = {
    "": "programs",
    "archive": "nouns.archives",
    "archives": "nouns.archives",
    "certificate-info": "nouns.records",
    "database": "nouns.databases",
    "database-options": "nouns.databases",
    "databases": "nouns.databases",
    "diagnose-info": "nouns.servers",
    "domain": "nouns.domain",
    "domain-state": "nouns.domain",
    "effective-license": "nouns.records",
    "events": "nouns.domain",
    "hotcopy": "nouns.hotcopies",
    "hotcopy-info": "nouns.hotcopies",
    "hotcopy-status": "nouns.hotcopies",
    "kubernetes-config": "nouns.records",
    "leader": "nouns.maintenance",
    "load-balancer": "nouns.records",
    "load-balancer-config": "nouns.records",
    "load-balancers": "nouns.records",
    "message": "nouns.servers",
    "process": "nouns.processes",
    "processes": "nouns.processes",
    "region": "nouns.records",
    "region-assignment": "nouns.records",
    "regions": "nouns.records",
    "role": "nouns.records",
    "role-templates": "nouns.records",
    "roles": "nouns.records",
    "run": "programs",
    "server": "nouns.servers",
    "server-config": "nouns.servers",
    "server-logs": "nouns.servers",
    "server-processes": "nouns.processes",
    "server-state": "nouns.servers",
    "servers": "nouns.servers",
    "sql-connection": "nouns.records",
    "startplan": "nouns.databases",
    "state": "programs",
    "stop": "programs",
    "storage-group": "nouns.archives",
    "storage-groups": "nouns.archives",
    "user": "nouns.records",
    "user-credentials": "nouns.records",
    "user-roles": "nouns.records",
    "users": "nouns.records",
    "value": "nouns.records",
    "waiting": "nouns.domain",
}
"""The file, below dkv.cli, that has the verbs of a noun; of programs without a noun under "". Where a noun's verbs are in several
files, MORE names the others."""

MORE = {
    "database": ("nouns.checks", "nouns.hotcopies", "nouns.maintenance"),
    "process": ("nouns.checks",),
    "server": ("nouns.checks",),
    "servers": ("nouns.checks",),
}

VERBS = (
    "add",
    "backup",
    "cancel",
    "capture",
    "check",
    "create",
    "delete",
    "enforce",
    "get",
    "hotcopy",
    "log",
    "manager",
    "rebuild",
    "remove",
    "restart",
    "restore",
    "set",
    "show",
    "shutdown",
    "start",
    "switchover",
    "update",
)


PROGRAMS = ("playground", "shell")
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
