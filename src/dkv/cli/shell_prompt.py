"""The prompt a person at a terminal types into; the only file that knows prompt_toolkit."""

from __future__ import annotations

import os
from collections.abc import Callable

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import WordCompleter
from prompt_toolkit.history import FileHistory, History, InMemoryHistory


def prompter(directory: str, completions: Callable[[str], list[str]]) -> Callable[[str], str]:
    """A function that shows a prompt and gives the line typed, with a history kept in `directory`. It raises
    KeyboardInterrupt on Ctrl-C and EOFError on Ctrl-D; Tab offers what `completions` says for the text so far."""
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
