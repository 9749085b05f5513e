"""`dkv login` and `dkv logout`: credentials for the next commands, in a file that only the user can read.

A secret comes from a file, from standard input or from the keyboard, never from the command line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dkv.cli.binding import Bound
from dkv.cli.errors import DONE, CliError, Usage
from dkv.cli.session import HERE, Session, endpoints
from dkv.client import Credentials, Endpoint, HttpTransport, ManagerPool, ManagerRefused
from dkv.client.credentials import read_token
from dkv.constants import MANAGER_PORT

LOGIN_WITHIN = 10.0  # s a manager may take to judge credentials


def login(session: Session, bound: Bound) -> int:
    """Keep a token, or a user's name and password, once a manager has taken them."""
    user, file = bound["--user"], bound["--token-file"]
    if user and file:
        raise Usage("--user and --token-file exclude each other.", "Give one of them, or neither to type a token.")
    given = _of_user(session, user) if user else {"DKV_TOKEN": read_token(file) if file else _typed(session, "Token: ")}
    keep(session, given, endpoints(bound["--managers"] or session.managers() or [HERE], MANAGER_PORT))
    return DONE


def logout(session: Session, bound: Bound) -> int:
    """Forget what login kept; nothing kept is success."""
    forgotten = Credentials(session.environ).forget()
    session.screen.line("Logged out." if forgotten else "Nothing was kept.")
    return DONE


def of_cmdlet(session: Session, bound: Bound, targets: Sequence[Endpoint]) -> None:
    """What Connect-DkvManager -Credential NAME or -Token asks for and keeps."""
    user, token = bound["Credential"], bound["Token"]
    if user and token:
        raise Usage("-Credential and -Token exclude each other.", "Give one of them.")
    if user or token:
        keep(session, _of_user(session, user) if user else {"DKV_TOKEN": _typed(session, "Token: ")}, targets)


def keep(session: Session, given: dict[str, str], targets: Sequence[Endpoint]) -> None:
    """Keep credentials that a manager takes, written as the environment would give them. Raises ClientError, CliError."""
    shown = Credentials(given)
    header = shown.from_environment()
    transport = session.transport or HttpTransport(shown)
    pool = ManagerPool(targets, transport, LOGIN_WITHIN)
    try:
        pool.first(lambda client: client.request("GET", "/readyz"))
    except ManagerRefused as refused:
        if refused.code != "not_allowed":  # the manager knows who it is, and has little for it
            raise
    Credentials(session.environ).keep(header)
    session.screen.line(f"Logged in at {pool.current.endpoint}.")


def _of_user(session: Session, name: str) -> dict[str, str]:
    return {"DKV_USER": name, "DKV_PASSWORD": _typed(session, f"Password of {name}: ")}


def _typed(session: Session, question: str) -> str:
    """A secret from the keyboard, which does not show it, or the first line of standard input."""
    if sys.stdin is None:
        raise CliError("There is no standard input to read a secret from.", "Use --token-file.")
    if not sys.stdin.isatty():
        secret = sys.stdin.readline().rstrip("\r\n")
    else:
        from getpass import getpass  # only a person at a terminal pays for it

        try:
            secret = getpass(question, stream=session.screen.err)
        except EOFError:
            secret = ""
    if not secret:
        raise CliError("No secret was given; nothing was kept.", "Type it, or write it to standard input.")
    return secret
