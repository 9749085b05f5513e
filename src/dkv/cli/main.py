"""The entry of `dkv`: a cmdlet, or a verb with its noun (cli/nouns), never costs the import of click; programs do."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from dkv.cli.errors import INTERRUPTED, READER_LEFT, CliError, ReaderLeft
from dkv.cli.output import Screen, standard_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line to its exit code: 0 done, 1 refused, failed or not printed, 2 bad usage, 130 interrupted, 141
    when who read the output has gone."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with standard_streams():
        screen = Screen(colour=False) if os.environ.get("NO_COLOR") else Screen()
        try:
            code = _dispatch(screen, words)
            sys.stdout.flush()
            return code
        except ReaderLeft:
            return READER_LEFT
        except CliError as trouble:
            screen.error(trouble.message, trouble.hint)
            return trouble.exit_code
        except KeyboardInterrupt:
            screen.error("Interrupted; nothing had been sent.")
            return INTERRUPTED


def _dispatch(screen: Screen, words: list[str]) -> int:
    from dkv.cli import nouns

    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    used = 1 if words and _is_cmdlet(words[0]) else 2 if nouns.named(words) else 0
    screen.verbs = used != 1
    if used:
        from dkv.cli.binding import from_argv
        from dkv.cli.cmdlets import run_cmdlet
        from dkv.cli.session import Session

        return run_cmdlet(Session(screen), " ".join(words[:used]), from_argv(words[used:]))
    from dkv.cli.verbs import run

    return run(screen, words or ["--help"])


def _is_cmdlet(word: str) -> bool:
    verb, dash, noun = word.partition("-")
    return bool(dash) and verb.isalpha() and noun.isalpha()


if __name__ == "__main__":
    sys.exit(main())
