"""CLI: help: what there is, the daily commands first, and of one command what it does, an example, and its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from textwrap import wrap as textwrap

from dkv.cli import nouns
from dkv.cli.binding import Cmdlet, Param, usage_words, written
from dkv.cli.errors import DONE
from dkv.cli.output import columns_of
from dkv.cli.session import Session

wrap = partial(textwrap, break_on_hyphens=False)  # an option stays whole
WIDEST = 120  # columns: longer lines are hard to read
LONGEST_NAME = 30  # columns of a name that has its explanation beside it
NARROWEST, BELOW = 30, 6  # columns that an explanation needs beside a name, and how far it is indented below one
DAILY = (
    *("status", "show waiting", "show events", "show domain", "Get-DkvStore", "logs"),
    *("New-DkvStore", "Start-DkvStore", "Stop-DkvStore", "create database-user", "switchover database", "restart database"),
    *("hotcopy database", "check machines", "manager run", "service install", "login", "shell", "playground"),
)
"""What most people need on most days, in the order in which they come to need it."""

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "status": ("dkv status --managers 10.0.0.11",),
    "show waiting": ("dkv show waiting --db-name orders",),
    "show events": ("dkv show events --db-name orders --follow", "dkv show events --why 359"),
    "show domain": ("dkv show domain",),
    "import": ("dkv import --db-name orders --from redis://10.0.0.9:6379",),
    "logs": ("dkv logs -f --server-id s2", "dkv logs --start-id 7 --lines 50"),
    "manager run": ("dkv manager run --bind 10.0.0.11 --data-dir /var/lib/dkv",),
    "manager stop": ("dkv manager stop --data-dir /var/lib/dkv --with-engines",),
    "service install": ("dkv service install --bind 10.0.0.11", "dkv service install --user --print"),
    "login": ("dkv login https://10.0.0.11 --user ann --ca-sha256 HEX",),
    "completion": ("dkv completion bash",),
    "shell": ("dkv shell --file orders.ps1",),
    "playground": ("dkv playground --servers 3 --once",),
    "backup state": ("dkv backup state /safe/state.backup",),
    "check machines": ("dkv check machines",),
    "create database-user": ("dkv create database-user --db-name orders --name app",),
    "create token": ("dkv create token --role viewer --expires 30d --name dashboard",),
    "create join-token": ("dkv create join-token",),
    "create archive": ("dkv create archive --db-name orders --server-id s1 --archive-path /srv/orders-0",),
    "create database": ("dkv create database --db-name orders --dba-user dba --dba-password -",),
    "hotcopy database": ("dkv hotcopy database --db-name orders --type simple --default-backup-dir /backup/monday",),
    "switchover database": ("dkv switchover database --db-name orders",),
    "restart database": ("dkv restart database --db-name orders --rolling",),
    "replace voter": ("dkv replace voter --server-id s3 --plan",),
    "rebalance leaders": ("dkv rebalance leaders --db-name orders",),
    "shutdown process": ("dkv shutdown process --start-id 7",),
    "update database-options": ("dkv update database-options --db-name orders --default-options min-in-sync 2",),
    "Connect-DkvManager": ("dkv Connect-DkvManager 10.0.0.11,10.0.0.12",),
    "New-DkvStore": ("dkv New-DkvStore -Name orders -InstancePrefix orders -InstanceCount 1 -ReplicationFactor 2",),
    "Add-DkvInstance": ("dkv Add-DkvInstance orders -Server s3",),
    "Start-DkvStore": ("dkv Start-DkvStore orders",),
    "Stop-DkvStore": ("dkv Stop-DkvStore orders orders-2",),
    "Get-DkvStore": ("dkv Get-DkvStore orders",),
    "Set-DkvStore": ("dkv Set-DkvStore orders -MaxMemory 1GB",),
    "Watch-DkvStoreMetrics": ("dkv Watch-DkvStoreMetrics orders",),
}


def show_help(session: Session, cmdlet: Cmdlet) -> int:
    """Print what a command does, how it is written, and its parameters."""
    session.screen.lines(help_lines(cmdlet, _width(session)))
    return DONE


def help_lines(cmdlet: Cmdlet, width: int) -> Iterator[str]:
    """The help of one command, in lines that fit."""
    yield from wrap(f"{cmdlet.name}: {cmdlet.synopsis}", width)
    yield ""
    yield from _filled("Usage: ", [cmdlet.name, *usage_words(cmdlet)], width)
    for example in EXAMPLES.get(cmdlet.name, ()):
        yield f"Example: {example}"
    if cmdlet.params:
        yield ""
    rows = [(_named(param), _explained(param), param.keys) for param in cmdlet.params]
    column = _column([name for name, _, _ in rows])
    for name, text, keys in rows:
        yield from _beside(f"  {name}", text, column, width)
        for key, what in keys:
            yield from _beside(f"    {key}", what, max(column, _column([f"  {key}" for key, _ in keys])), width)


def _named(param: Param) -> str:
    """A parameter with its short names."""
    return ", ".join([*(f"-{alias}" for alias in param.aliases if len(alias) == 1), written(param)])


def _explained(param: Param) -> str:
    choices = f": {', '.join(param.choices)}" if param.choices else ""
    default = f"; default: {param.default}" if param.default else ""
    return f"{param.help}{choices}{default}{'; required' if param.required else ''}"


def show_table(session: Session, commands: Sequence[Cmdlet]) -> int:
    """Each command with what it does."""
    width, column = _width(session), _column([command.name for command in commands], indent=0)
    session.screen.lines(line for command in commands for line in _beside(command.name, command.synopsis, column, width))
    return DONE


def show_commands(session: Session, cmdlets: Sequence[Cmdlet]) -> int:
    """The daily commands, then every one."""
    screen, everything = session.screen, nouns.everything()
    screen.line("dkv: a self-managing distributed key-value database on Valkey engines.")
    known = {command.name: command for command in (*cmdlets, *everything)}
    sections = (
        ("Every day", [known[name] for name in DAILY]),
        ("Programs", [cmdlet for cmdlet in everything if cmdlet.alone]),
        ("All commands of two words", [cmdlet for cmdlet in everything if not cmdlet.alone]),
        ("Cmdlets, which act on the managers of Connect-DkvManager", cmdlets),
    )
    for title, commands in sections:
        screen.block(f"\n{title}:")
        show_table(session, commands)
    screen.block(
        "\ndkv help NAME explains a command, dkv help VERB lists what a verb takes.\ndkv --color never COMMAND prints no colours."
    )
    return DONE


def _width(session: Session) -> int:
    return min(columns_of(session.screen.out), WIDEST)


def _column(names: Sequence[str], indent: int = 2) -> int:
    """Where explanations begin: beside the longest name that is not very long."""
    return indent + max((len(name) for name in names if len(name) <= LONGEST_NAME), default=0) + 2


def _beside(name: str, text: str, column: int, width: int) -> Iterator[str]:
    """A name with its explanation beside it, or below it where there is no room."""
    indent = column if width - column >= NARROWEST else BELOW
    lines = [" " * indent + line for line in wrap(text, width - indent)] or [""]
    if len(name) + 2 > indent:
        yield name
        yield from lines
        return
    yield f"{name.ljust(indent)}{lines[0][indent:]}".rstrip()
    yield from lines[1:]


def _filled(head: str, words: Sequence[str], width: int) -> Iterator[str]:
    """Words on as many lines as they need, none of them broken."""
    line = head
    for word in words:
        if len(line) + len(word) > width and line.strip():
            yield line.rstrip()
            line = " " * len(head)
        line += f"{word} "
    yield line.rstrip()
