"""`dkv shell`: cmdlets line after line, from a person, a file or a text, with one connection list for all of them.

Ctrl-C cancels the command, never the shell; a script goes on after a failed line and ends non-zero when any line failed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from dkv.cli import nouns
from dkv.cli.cmdlets import CMDLETS, find_cmdlet, run_cmdlet
from dkv.cli.completion import FILES, Ask, asked, candidates, nothing_known
from dkv.cli.errors import BAD_USAGE, DONE, INTERRUPTED, CliError, Usage
from dkv.cli.help import show_help, show_table
from dkv.cli.powershell import (
    Argument,
    Assignment,
    Command,
    Incomplete,
    Positional,
    Statement,
    Variable,
    check_variables,
    parse,
    settle,
)
from dkv.cli.session import Session
from dkv.user_dirs import config_dir

LEAVE = ("exit", "quit")


class Leave(Exception):
    """The person wrote exit; `code` is the number after it, None without one."""

    def __init__(self, code: int | None = None) -> None:
        super().__init__(code)
        self.code = code


def run_text(session: Session, text: str) -> int:
    """Run a script. One that cannot be read is refused as a whole, before its first line runs."""
    session.in_shell = True
    try:
        statements = _read(session, text)
    except CliError as error:
        return session.screen.failure(error)
    worst = DONE
    try:
        for statement in statements:
            code = run_statement(session, statement)
            if code == INTERRUPTED:
                return code
            worst = max(worst, code)
    except Leave as leave:
        return worst if leave.code is None else leave.code
    return worst


def _read(session: Session, text: str) -> list[Statement]:
    """The statements of a text, nothing of which has run. Raises Usage for what is not supported and for unset variables."""
    statements = parse(text)
    check_variables(statements, session.variables)
    for statement in statements:
        if isinstance(statement, Command) and statement.name.lower() in LEAVE and _known(statement.arguments):
            _code(statement.arguments, {})
    return statements


def _known(arguments: Sequence[Argument]) -> bool:
    return not any(isinstance(argument.value, Variable) for argument in arguments)


def _code(arguments: Sequence[Argument], variables: Mapping[str, object]) -> int | None:
    """The number after exit, None without one. Raises Usage."""
    if not arguments:
        return None
    value = settle(arguments[0].value, variables) if isinstance(arguments[0], Positional) else None
    text = str(value)
    if len(arguments) > 1 or not (text.isascii() and text.isdigit()) or int(text) > 255:
        raise Usage("exit takes one whole number from 0 to 255, or nothing.", "Write exit 3, or exit.")
    return int(text)


def run_file(session: Session, path: str) -> int:
    """Run a script file; `-` is stdin."""
    try:
        text = _standard_input() if path == "-" else _text_of(path)
    except (OSError, UnicodeDecodeError) as error:
        session.screen.error(f"The script {path} cannot be read: {error}.", "Name a readable text file.")
        return BAD_USAGE
    return run_text(session, text)


def _text_of(path: str) -> str:
    """A script file as UTF-8, with or without a byte order mark. Raises OSError, UnicodeDecodeError."""
    with open(path, encoding="utf-8-sig") as file:
        return file.read()


def _standard_input() -> str:
    """All of it, as UTF-8. Raises OSError, UnicodeDecodeError."""
    if sys.stdin is None:
        raise OSError("standard input is closed")
    return sys.stdin.read().removeprefix("\ufeff")


def run_statement(session: Session, statement: Statement) -> int:
    """Run one statement to its exit code. Raises Leave on exit."""
    try:
        if isinstance(statement, Assignment):
            session.variables[statement.name] = settle(statement.value, session.variables)
            return DONE
        statement = _bare(statement)
        word = statement.name.lower()
        if word in LEAVE:
            raise Leave(_code(statement.arguments, session.variables))
        if word == "help":
            return _help(session, statement)
    except CliError as error:
        return session.screen.failure(error)
    return run_cmdlet(session, *_with_noun(word, statement))


def _bare(statement: Command) -> Command:
    """Hints and documents say `dkv show waiting`, to be typed anywhere; here the first word is not needed."""
    first = statement.arguments[0] if statement.arguments else None
    if statement.name.lower() == "dkv" and isinstance(first, Positional) and isinstance(first.value, str):
        return statement._replace(name=first.value, arguments=statement.arguments[1:])
    return statement


def _with_noun(word: str, statement: Command) -> tuple[str, Sequence[Argument]]:
    """`show domain` is one name; a cmdlet's is its own."""
    first = statement.arguments[0] if statement.arguments else None
    if word in nouns.VERB_WORDS and isinstance(first, Positional) and isinstance(first.value, str):
        return f"{word} {first.value}", statement.arguments[1:]
    return statement.name, statement.arguments


def _help(session: Session, statement: Command) -> int:
    if statement.arguments:
        name = " ".join(str(getattr(argument, "value", "")) for argument in statement.arguments[:2])
        return show_help(session, find_cmdlet(name))
    show_table(session, [*CMDLETS, *(command for command in nouns.everything() if not command.alone)])
    session.screen.line("help NAME shows the parameters of a command; exit ends the shell.")
    return DONE


def interact(session: Session) -> int:
    """Talk with a person until exit or Ctrl-D. Without a terminal stdin is a script."""
    session.in_shell = True
    if sys.stdin is None or not sys.stdin.isatty():
        return run_file(session, "-")
    for statement in _typed(session):
        try:
            run_statement(session, statement)
        except Leave as leave:
            return leave.code or DONE
    return DONE


def _typed(session: Session) -> Iterator[Statement]:
    """Statements as they are typed; after an incomplete one another line is read, Ctrl-C drops it."""
    ask = prompter(config_dir(session.environ), lambda before: completions(before, partial(asked, session)))
    text = ""
    while True:
        try:
            text += ask(">> " if text else "dkv> ") + "\n"
        except KeyboardInterrupt:
            text = ""
            continue
        except EOFError:
            return
        try:
            statements = _read(session, text)
        except Incomplete:
            continue
        except CliError as error:
            session.screen.failure(error)
            statements = []
        text = ""
        yield from statements


# The prompt ----------------------------------------------------------------------------------------------------------


def prompter(directory: str, completions: Callable[[str], list[str]]) -> Callable[[str], str]:
    """A function that shows a prompt and gives the line typed, with a history kept in `directory`. It raises
    KeyboardInterrupt on Ctrl-C and EOFError on Ctrl-D; Tab offers what `completions` returns for the text so far."""
    from prompt_toolkit import PromptSession  # only a person at a terminal pays for it
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, History, InMemoryHistory

    history: History = InMemoryHistory()
    try:
        history = FileHistory(_private_file(directory, "history"))
    except OSError:
        pass  # a read-only home costs the history, not the shell
    prompt: PromptSession[str] = PromptSession(history=history, complete_while_typing=False)

    def words() -> list[str]:
        return completions(prompt.default_buffer.document.text_before_cursor)

    prompt.completer = WordCompleter(words, ignore_case=True, WORD=True)
    return lambda text: prompt.prompt(text)


def _private_file(directory: str, name: str) -> str:
    """The path of a file that only its owner may read: what is typed may hold a password. Raises OSError."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, name)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)  # an older one
    finally:
        os.close(fd)
    return path


def completions(before: str = "", ask: Ask = nothing_known) -> list[str]:
    """The completions of the text `before`: commands, the nouns of a verb, parameters, and values as `ask` knows them."""
    words = before.replace("`\n", " ").split()
    whole, typed = (words, "") if before[-1:].isspace() else (words[:-1], "".join(words[-1:]))
    offered = [word.partition("\t")[0] for word in candidates([*whole, "-" if typed.startswith("-") else ""], ask)]
    if not whole:
        elsewhere = {command.name for command in nouns.tables("") if command.alone}
        return [*(word for word in offered if word not in elsewhere), "exit"]
    return [word for word in offered if word != FILES] or [cmdlet.name for cmdlet in CMDLETS]
