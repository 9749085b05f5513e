"""CLI: `dkv manual`: the manual page, made from the tables of commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dkv.cli import nouns
from dkv.cli.binding import Bound, Cmdlet, Param, written
from dkv.cli.cmdlets import CMDLETS
from dkv.cli.errors import DONE
from dkv.cli.session import Session

HEAD = """\
.SH NAME
dkv \\- a self\\-managing distributed key\\-value database on Valkey engines
.SH SYNOPSIS
.B dkv
.I COMMAND
.RI [ OPTION \\ ...]
.br
.B dkv help
.I COMMAND
.SH DESCRIPTION
Each machine runs one manager
.RB ( "dkv manager run" ).
Every other command asks a manager, or several. Commands of two words act on the whole domain; cmdlets, such as
.BR Get\\-DkvStore ,
act on the managers that
.B Connect\\-DkvManager
remembered.
"""
TAIL = """\
.SH ENVIRONMENT
.TP
.B DKV_MANAGERS
The managers that commands ask, separated by commas.
.TP
.BR DKV_TOKEN ", " DKV_TOKEN_FILE
A token to show to managers, or the file that holds it.
.TP
.BR DKV_USER ", " DKV_PASSWORD
A user's name and password.
.TP
.B DKV_CA_FILE
The authorities that vouch for managers.
.TP
.B DKV_CONFIG
The file of a manager's settings; each setting is also a variable, such as
.BR DKV_DATA_DIR .
.TP
.B NO_COLOR
No colours, like
.B \\-\\-color never
in front of a command.
.SH EXIT STATUS
0 done; 1 refused, failed, or something is wrong; 2 written wrongly, and nothing was sent; 130 interrupted; 141 nobody reads the
output any more.
"""
VALUE = {"number": "N", "words": "VALUE ...", "pairs": "KEY VALUE ...", "list": "VALUE,...", "nodes": "NODES"}


def manual(session: Session, bound: Bound) -> int:
    """The page as roff, for `man`."""
    session.screen.block("\n".join(page()) + "\n")
    return DONE


def page() -> Iterator[str]:
    """The lines of the page."""
    from importlib.metadata import version

    yield f'.TH DKV 1 "" "dkv {version("dkv")}" "dkv"'
    yield from HEAD.splitlines()
    everything = nouns.everything()
    yield from _section("PROGRAMS", [command for command in everything if command.alone])
    yield from _section("COMMANDS", [command for command in everything if not command.alone])
    yield from _section("CMDLETS", CMDLETS)
    yield from TAIL.splitlines()


def _section(title: str, commands: Sequence[Cmdlet]) -> Iterator[str]:
    yield f".SH {title}"
    for command in commands:
        yield f'.SS "dkv {_escaped(command.name)}"'
        yield _escaped(command.synopsis)
        for param in command.params:
            yield ".TP"
            yield f".B {_option(param)}"
            yield _escaped(_explained(param))


def _option(param: Param) -> str:
    aliases = [f"-{alias}" for alias in param.aliases if len(alias) == 1]
    name = ", ".join([written(param), *aliases])
    return _escaped(name) + ("" if param.kind == "switch" else f" \\fI{VALUE.get(param.kind, 'VALUE')}\\fR")


def _explained(param: Param) -> str:
    choices = f": {', '.join(param.choices)}" if param.choices else ""
    default = f"; default: {param.default}" if param.default else ""
    return f"{param.help}{choices}{default}{'; required' if param.required else ''}."


def _escaped(text: str) -> str:
    """A text as roff takes it for words: no command, no hyphen that breaks an option."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
