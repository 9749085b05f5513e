"""CLI: the verbs with a noun, `dkv VERB NOUN`: those of nuocmd with its names and options, and dkv's own.

Each file has a table VERBS; which file knows a noun stands here, so that a command imports that one only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module

from dkv.cli.binding import Cmdlet
from dkv.cli.errors import Usage, nearest

FILES = {
    "archive": "archives",
    "archives": "archives",
    "database": "databases",
    "databases": "databases",
    "database-options": "databases",
    "startplan": "plans",
    "process": "processes",
    "processes": "processes",
    "server-processes": "processes",
    "domain": "domain",
    "domain-state": "domain",
    "server": "servers",
    "servers": "servers",
    "server-state": "servers",
    "server-config": "servers",
    "server-logs": "support",
    "diagnose-info": "support",
    "message": "support",
    "storage-groups": "groups",
    "storage-group": "groups",
    "hotcopy": "hotcopies",
    "hotcopy-info": "hotcopies",
    "hotcopy-status": "hotcopies",
    "value": "simple",
    "waiting": "events",
    "events": "events",
    "leader": "leader",
    "user": "access",
    "users": "access",
    "user-roles": "access",
    "user-credentials": "access",
    "role": "access",
    "roles": "access",
    "role-templates": "access",
    "region": "simple",
    "regions": "simple",
    "region-assignment": "simple",
    "load-balancer": "simple",
    "load-balancers": "simple",
    "load-balancer-config": "simple",
    "sql-connection": "simple",
    "effective-license": "simple",
    "kubernetes-config": "simple",
    "certificate-info": "simple",
}
"""The file that knows a noun. Where a noun's verbs are in several files, MORE names the others."""

MORE = {
    "database": ("plans", "checks", "hotcopies", "maintenance"),
    "process": ("checks",),
    "server": ("checks",),
    "servers": ("checks",),
}

VERBS = (
    "add",
    "cancel",
    "capture",
    "check",
    "create",
    "delete",
    "enforce",
    "get",
    "hotcopy",
    "log",
    "remove",
    "restart",
    "set",
    "show",
    "shutdown",
    "start",
    "switchover",
    "update",
)


def tables(noun: str) -> Iterator[Cmdlet]:
    """Every verb that takes the noun; a file is read only when somebody asks on."""
    for file in [FILES[noun], *MORE.get(noun, ())] if noun in FILES else []:
        for one in import_module(f"dkv.cli.nouns.{file}").VERBS:
            if one.name.partition(" ")[2] == noun:
                yield one


def everything() -> list[Cmdlet]:
    """All verbs with all their nouns, by name."""
    return sorted((one for noun in FILES for one in tables(noun)), key=lambda one: one.name)


def find(name: str) -> Cmdlet | None:
    """The verb and noun of that name, if there is one."""
    verb, _, noun = name.partition(" ")
    return next((one for one in tables(noun) if one.name == f"{verb} {noun}"), None)


def named(words: Sequence[str]) -> str:
    """`show domain` when a command line begins so; "" when its first two words are no verb with its noun."""
    name = " ".join(words[:2])
    return name if words and words[0] in VERBS and find(name) else ""


def unknown(name: str) -> Usage:
    """A verb without a noun, or with one it does not take."""
    verb, _, noun = name.partition(" ")
    nouns = [one.name.partition(" ")[2] for one in everything() if one.name.startswith(f"{verb} ")]
    near = nearest(noun, nouns).replace("mean ", f"mean {verb} ").replace(" or ", f" or {verb} ")
    if not noun or noun.startswith("-"):
        return Usage(f"dkv {verb} needs to be told what.", f"dkv {verb} takes: {', '.join(nouns)}.")
    return Usage(f"There is no command '{name}'.", near or f"dkv {verb} takes: {', '.join(nouns)}.")
