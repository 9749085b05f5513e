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
        os.makedirs(directory, exist_ok=True)
        history = FileHistory(os.path.join(directory, "history"))
    except OSError:
        pass  # a read-only home costs the history, not the shell
    prompt: PromptSession[str] = PromptSession(history=history, complete_while_typing=False)

    def words() -> list[str]:
        return completions(prompt.default_buffer.document.text_before_cursor)

    prompt.completer = WordCompleter(words, ignore_case=True, WORD=True)
    return lambda text: prompt.prompt(text)
