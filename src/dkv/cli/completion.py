"""CLI: completion of command lines in bash, zsh and fish, from the tables of commands; names of stores, instances and servers
come from a manager, if one answers soon.

A shell runs `dkv --complete WORD...` at each Tab, the word that is being typed last, and is given what may stand there, one a
line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from dkv.cli import nouns
from dkv.cli.binding import GREEDY, Bound, Cmdlet, Param, find_param, written
from dkv.cli.cmdlets import CMDLETS, find_cmdlet
from dkv.cli.errors import DONE, CliError
from dkv.cli.session import Session, endpoints, here
from dkv.client import ManagerPool
from dkv.constants import MANAGER_PORT
from dkv.errors import HintedError

if TYPE_CHECKING:
    from dkv.wire import schemas

WITHIN = 0.5  # s that a manager has to answer
MOST_ASKED = 2  # managers
FILES = ":files"
"""Instead of words: the shell completes the name of a file."""

TAKES_FILE = frozenset(
    "--file --config --data-dir --output --output-file --output-dir --ca --token-file --password-file --capture-file "
    "--dir --backup-dirs --default-backup-dir --archive-path".split()
)
VALUES = {
    "--db-name": "stores",
    "Name": "stores",
    "StoreName": "stores",
    "InstanceName": "instances",
    "--start-id": "processes",
    "--to": "processes",
    "--archive-id": "archives",
    "--archive-ids": "archives",
    "--group": "groups",
    "--sg-name": "groups",
    "--server-id": "servers",
    "--server-ids": "servers",
    "--te-server-ids": "servers",
    "--without": "servers",
    "Server": "servers",
    "--managers": "managers",
    "Managers": "managers",
}
"""What the values of parameters are, by their names."""

NEW = {
    "New-DkvStore": "stores",
    "Add-DkvInstance": "instances",
    "create database": "stores",
    "manager run": "servers",
    "service install": "servers",
}
"""What the names in a command are of that does not exist yet."""

Ask = Callable[[str, str], list[str]]
"""The names of one kind: stores, instances and so on; of what is part of a store those of that store, "" of all."""


def nothing_known(kind: str, store: str) -> list[str]:
    """Where nobody is to be asked."""
    return []


SCRIPTS = {
    "bash": """\
# Completion of dkv in bash. Add to ~/.bashrc: source <(dkv completion bash)
_dkv() {
    local IFS=$'\\n' line
    COMPREPLY=()
    for line in $("$1" --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null); do
        if [[ $line == :files ]]; then compopt -o default; return; fi
        COMPREPLY+=("${line%%$'\\t'*}")
    done
}
complete -F _dkv dkv
""",
    "zsh": """\
#compdef dkv
# Completion of dkv in zsh. Write it into a directory of $fpath: dkv completion zsh > ~/.zfunc/_dkv
_dkv() {
    local -a lines
    lines=("${(@f)$(dkv --complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ ${lines[1]} == :files ]]; then _files; return; fi
    lines=("${(@)lines//:/\\\\:}")
    lines=("${(@)lines/$'\\t'/:}")
    _describe dkv lines
}
if [[ $funcstack[1] == _dkv ]]; then _dkv; else compdef _dkv dkv; fi
""",
    "fish": """\
# Completion of dkv in fish: dkv completion fish > ~/.config/fish/completions/dkv.fish
function __dkv_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l lines (dkv --complete $words[2..-1] 2>/dev/null)
    if test "$lines[1]" = :files
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $lines
    end
end
complete -c dkv -f -a '(__dkv_complete)'
""",
}


def completion(session: Session, bound: Bound) -> int:
    """The script of a shell."""
    session.screen.block(SCRIPTS[bound["--shell"]])
    return DONE


def complete(session: Session, words: Sequence[str]) -> int:
    """What may stand where the last word is being typed. Nothing that goes wrong is said: a prompt is no place for it."""
    for candidate in candidates(words or [""], lambda kind, store: asked(session, kind, store)):
        session.screen.value(candidate)
    return DONE


def candidates(words: Sequence[str], ask: Ask) -> list[str]:
    """The candidates for the last of these words, the first one being that after `dkv`; each with what it is after a tab."""
    *before, typed = words
    if before[:1] == ["help"]:
        before = before[1:]
    found = _possible(before, typed, ask)
    return [word for word in found if word == FILES or word.partition("\t")[0].lower().startswith(typed.lower())]


def _possible(before: Sequence[str], typed: str, ask: Ask) -> Iterator[str]:
    if not before:
        yield from (f"{cmdlet.name}\t{cmdlet.synopsis}" for cmdlet in CMDLETS)
        yield from (f"{command.name}\t{command.synopsis}" for command in nouns.everything() if " " not in command.name)
        yield from (*nouns.VERB_WORDS, "help")
    elif before[0] in nouns.VERB_WORDS and len(before) == 1:
        yield from (f"{command.name.partition(' ')[2]}\t{command.synopsis}" for command in nouns.of_verb(before[0]))
    else:
        used = 2 if before[0] in nouns.VERB_WORDS else 1
        try:
            command = find_cmdlet(" ".join(before[:used]))
        except CliError:
            return
        yield from _of_command(command, before[used:], typed, ask)


def _of_command(command: Cmdlet, before: Sequence[str], typed: str, ask: Ask) -> Iterator[str]:
    if not typed.startswith("-"):
        param = _named(command, before)
        if param is not None:
            yield from _values(command, param, before, ask)
            return
        free = _places(command, before)[len(_loose(command, before)) :]
        values = list(_values(command, free[0], before, ask)) if free else []
        if values:
            yield from values
            return
    given = {param.name for word in before if (param := _param(command, word)) is not None}
    yield from (f"{written(p)}\t{p.help}" for p in command.params if p.name not in given or p.kind == "each")


def _named(command: Cmdlet, before: Sequence[str]) -> Param | None:
    """The parameter whose value is to come, by its name in front of it; None where another word may stand."""
    for distance, word in enumerate(reversed(before)):
        param = _param(command, word)
        if param is not None:
            return param if param.kind in GREEDY or (distance == 0 and param.kind != "switch") else None
    return None


def _places(command: Cmdlet, before: Sequence[str]) -> list[Param]:
    """The parameters that loose words are for, in their order."""
    named = {param.name for word in before if (param := _param(command, word)) is not None}
    return sorted((p for p in command.params if p.position is not None and p.name not in named), key=lambda p: p.position or 0)


def _loose(command: Cmdlet, before: Sequence[str]) -> list[str]:
    """The words that belong to no parameter that is named."""
    loose, follows = [], False
    for word in before:
        param = _param(command, word)
        if param is not None:
            follows = param.kind != "switch"
        elif follows:
            follows = False
        else:
            loose.append(word)
    return loose


def _param(command: Cmdlet, word: str) -> Param | None:
    if not word.startswith("-"):
        return None
    try:
        return find_param(command, word.lstrip("-"))
    except CliError:
        return None


def _values(command: Cmdlet, param: Param, before: Sequence[str], ask: Ask) -> Iterator[str]:
    kind = VALUES.get(param.name, "")
    if param.choices:
        yield from param.choices
    elif param.name in TAKES_FILE:
        yield FILES
    elif kind and NEW.get(command.name) != kind:
        yield from ask(kind, _store_in(command, before))


def _store_in(command: Cmdlet, before: Sequence[str]) -> str:
    """The store that the line is about, as far as it is written; "" for none."""
    named = [(_param(command, word), value) for word, value in pairwise(before)]
    given = [(param, value) for param, value in named if param is not None]
    given += zip(_places(command, before), _loose(command, before), strict=False)
    return next((value for param, value in given if VALUES.get(param.name) == "stores"), "")


# What managers know --------------------------------------------------------------------------------------------------


def asked(session: Session, kind: str, store: str) -> list[str]:
    """The names that a manager knows; none where no manager answers at once."""
    try:
        managers = endpoints(session.managers() or [here()], MANAGER_PORT)[:MOST_ASKED]
        pool = ManagerPool(managers, session.transport, WITHIN)
        if kind == "servers":
            return [server["serverId"] for server in pool.first(lambda client: client.domain())["servers"]]
        if kind == "managers":
            return [server["manager"] for server in pool.first(lambda client: client.domain())["servers"]]
        return _of_stores(pool.first(lambda client: client.stores()), kind, store)
    except HintedError:
        return []
    finally:
        session.warnings.clear()


def _of_stores(stores: Sequence[schemas.Store], kind: str, store: str) -> list[str]:
    if kind == "stores":
        return [f"{item['name']}\t{item['status']}" for item in stores]
    wanted = [item for item in stores if item["name"] == store] or stores
    if kind == "groups":
        return sorted({group["name"] for item in wanted for group in item["groups"]})
    instances = [instance for item in wanted for instance in item["instances"]]
    if kind == "instances":
        return [f"{instance['instanceName']}\t{instance['state']} on {instance['server']}" for instance in instances]
    if kind == "archives":
        return [f"{instance['archiveId']}\t{instance['instanceName']}" for instance in instances]
    running = [(instance["process"], instance) for instance in instances]
    return [f"{process['startId']}\t{instance['instanceName']}" for process, instance in running if process]
