"""CLI: the entry of `dkv`: a cmdlet, a verb with its noun, or a program."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from dkv.cli.errors import DONE, INTERRUPTED, READER_LEFT, CliError, ReaderLeft, Usage
from dkv.cli.output import Screen, standard_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line to its exit code: 0 done, 1 refused, failed or not printed, 2 bad usage, 130 interrupted, 141
    when who read the output has gone."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with standard_streams():
        screen = Screen(colour=False) if os.environ.get("NO_COLOR") else Screen()
        try:
            code = _dispatch(screen, _coloured(screen, words))
            sys.stdout.flush()
            return code
        except ReaderLeft:
            return READER_LEFT
        except CliError as error:
            return screen.failure(error)
        except KeyboardInterrupt:
            screen.error("Interrupted; nothing had been sent.")
            return INTERRUPTED


def _coloured(screen: Screen, words: list[str]) -> list[str]:
    """The words without `--color WHEN` in front of them, which is done. Raises Usage."""
    option, equals, when = words[0].partition("=") if words else ("", "", "")
    if option not in ("--color", "--colour"):
        return words
    when, rest = (when, words[1:]) if equals else (" ".join(words[1:2]), words[2:])
    if when not in ("auto", "always", "never"):
        raise Usage(f"--color cannot be {when!r}.", "It is one of auto, always, never.")
    if when != "auto":
        screen.colour = when == "always"
    return rest


def _dispatch(screen: Screen, words: list[str]) -> int:
    from dkv.cli import nouns
    from dkv.cli.binding import from_argv
    from dkv.cli.cmdlets import CMDLETS, run_cmdlet
    from dkv.cli.session import Session

    if words[:1] in (["--version"], ["version"]):
        return _version(screen)
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    session = Session(screen)
    if words[:1] == ["--complete"]:
        from dkv.cli.completion import complete

        return complete(session, words[1:])
    if not words or words[0] in ("--help", "-h", "-?"):
        from dkv.cli.help import show_commands

        return show_commands(session, CMDLETS)
    if words[0] in nouns.VERB_WORDS and words[1:2] in (["--help"], ["-h"], ["-?"]):
        from dkv.cli.help import show_table

        return show_table(session, nouns.of_verb(words[0]))
    screen.verbs = not _is_cmdlet(words[0])
    used = 2 if words[0] in nouns.VERB_WORDS else 1
    return run_cmdlet(session, " ".join(words[:used]), from_argv(words[used:]))


def _version(screen: Screen) -> int:
    from importlib.metadata import version

    screen.line(f"dkv, version {version('dkv')}")
    return DONE


def _is_cmdlet(word: str) -> bool:
    verb, dash, noun = word.partition("-")
    return bool(dash) and verb.isalpha() and noun.isalpha()


if __name__ == "__main__":
    sys.exit(main())
