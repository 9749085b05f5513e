"""`dkv login` and `dkv logout`: credentials for the next commands, and the authority that vouches for managers, in a file that
only the user can read.

A secret comes from a file, from standard input or from the keyboard, never from the command line. It is asked for, and sent,
only once a manager was verified.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dkv.cli.binding import Bound
from dkv.cli.errors import DONE, CliError, Usage
from dkv.cli.session import Session, endpoints, here
from dkv.client import (
    BadCredentials,
    Credentials,
    Endpoint,
    HttpTransport,
    ManagerPool,
    ManagerRefused,
    ManagerUnreachable,
    own_socket,
)
from dkv.client.credentials import read_authorities, read_token
from dkv.client.exchange import NotHttp
from dkv.constants import MANAGER_PORT

LOGIN_WITHIN = 10.0  # s a manager may take to judge credentials
SHA256_DIGITS = 64


def login(session: Session, bound: Bound) -> int:
    """Keep a token, or a user's name and password, once a manager has taken them."""
    user, file = bound["--user"], bound["--token-file"]
    if user and file:
        raise Usage("--user and --token-file exclude each other.", "Give one of them, or neither to type a token.")
    targets = endpoints(bound["--managers"] or session.managers() or [here()], MANAGER_PORT)
    authorities = _named_authorities(bound, targets) or _known_authorities(session)
    _verify(session, targets, authorities)
    given = _of_user(session, user) if user else {"DKV_TOKEN": read_token(file) if file else typed(session, "Token: ")}
    keep(session, given, targets, authorities)
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
        authorities = _known_authorities(session)
        _verify(session, targets, authorities)
        keep(session, _of_user(session, user) if user else {"DKV_TOKEN": typed(session, "Token: ")}, targets, authorities)


def _named_authorities(bound: Bound, targets: Sequence[Endpoint]) -> str:
    """Those of --ca, or of --ca-sha256 as a manager shows it; "" without either. Raises Usage, CliError, ClientError."""
    path, sha256 = bound["--ca"], (bound["--ca-sha256"] or "").replace(":", "").lower()
    if path and sha256:
        raise Usage("--ca and --ca-sha256 exclude each other.", "Give one of them.")
    if path:
        return read_authorities(path)
    if not sha256:
        return ""
    if len(sha256) != SHA256_DIGITS or not set(sha256) <= set("0123456789abcdef"):
        raise Usage("--ca-sha256 is no SHA-256.", "It has 64 hexadecimal digits: dkv get ca prints it on a manager's machine.")
    from dkv.client import secured  # only https pays for TLS

    for target in targets:
        if target.secured and (pinned := secured.pinned(_shown(target), sha256)):
            return pinned
    raise CliError(
        f"No manager of {', '.join(map(str, targets))} names an authority with that SHA-256; nothing was sent.",
        "Compare it with what dkv get ca prints on a manager's own machine, and the address.",
    )


def _shown(target: Endpoint) -> list[str]:
    """What a manager says whom it trusts; none where it cannot be asked."""
    from dkv.client import secured

    try:
        return secured.shown_authorities(target.host, target.port, LOGIN_WITHIN)
    except (OSError, NotHttp) as error:
        why = (getattr(error, "strerror", None) or str(error) or "what listens there is no manager").lower()
        raise ManagerUnreachable(str(target), why) from error


def _known_authorities(session: Session) -> str:
    """Those of DKV_CA_FILE, or that an earlier login kept. A damaged file is replaced by this login, and holds none."""
    try:
        return Credentials(session.environ).authorities()
    except BadCredentials:
        if session.environ.get("DKV_CA_FILE"):
            raise
        return ""


def _verify(session: Session, targets: Sequence[Endpoint], authorities: str) -> None:
    """A manager behind TLS has to prove itself before any secret is asked for. Raises ClientError."""
    if isinstance(session.transport, HttpTransport) and any(target.secured for target in targets):
        pool = ManagerPool(targets, HttpTransport(Credentials({}, authorities)), LOGIN_WITHIN)
        pool.first(lambda client: client.request("GET", "/healthz"))


def keep(session: Session, given: dict[str, str], targets: Sequence[Endpoint], authorities: str = "") -> None:
    """Keep credentials that a manager takes, written as the environment would give them. Raises ClientError, CliError."""
    shown = Credentials(given, authorities)
    header = shown.from_environment()
    transport = HttpTransport(shown) if isinstance(session.transport, HttpTransport) else session.transport
    pool = ManagerPool(targets, transport, LOGIN_WITHIN)
    try:
        pool.first(lambda client: client.request("GET", "/readyz"))
    except ManagerRefused as refused:
        if refused.code != "not_allowed":  # the manager knows who it is, and has little for it
            raise
    listeners = [own_socket.listeners(target.host, target.port) for target in targets if not target.secured]
    Credentials(session.environ).keep(header, authorities, set().union(*listeners))
    session.screen.line(f"Logged in at {pool.current.endpoint}.")


def _of_user(session: Session, name: str) -> dict[str, str]:
    return {"DKV_USER": name, "DKV_PASSWORD": typed(session, f"Password of {name}: ")}


def typed(session: Session, question: str) -> str:
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
        raise CliError("No secret was given; nothing was changed.", "Type it, or write it to standard input.")
    return secret
