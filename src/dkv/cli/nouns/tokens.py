"""CLI: tokens: make one, whose secret is printed once, list them, and have no manager take one any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE
from dkv.cli.nouns.common import CHANGES, SHARED, milliseconds, native
from dkv.cli.output import moment
from dkv.cli.session import Session

if TYPE_CHECKING:
    from dkv.wire import schemas

VERBS = (
    Cmdlet(
        "create token",
        "Makes a token for a program or a person and prints its secret, which is shown only this once.",
        "nouns.tokens:create",
        (
            Param("--role", "text", "what it allows: admin, operator, viewer, metrics, or a role of the domain", required=True),
            Param("--expires", "text", "how long it is taken, such as 30m, 1h or 90d; default: 90d", default="90d"),
            Param("--name", "text", "what it is for", default=""),
            Param("--user", "text", "the user it is made for: it never allows more than that user may", default=""),
            *SHARED,
        ),
    ),
    Cmdlet("get tokens", "Lists tokens, those that expired too; never their secrets.", "nouns.tokens:tokens", SHARED),
    Cmdlet(
        "delete token",
        "Has no manager take a token any more.",
        "nouns.tokens:delete",
        (Param("--token-id", "text", "the token's id", required=True), *CHANGES),
    ),
)


def create(session: Session, bound: Bound) -> int:
    """The secret alone on standard output, for a file or a variable; what it is good for beside it."""
    body = {name: bound[f"--{name}"] for name in ("role", "name", "user")} | {"lasts": milliseconds(bound["--expires"])}
    made = native(session, bound).create_token(body)
    if session.screen.as_json:
        session.screen.data(made)
    else:
        session.screen.value(made["secret"])
        session.screen.note(f"Token {made['token']['id']} is taken until {moment(made['token']['expiresAt'])}.")
    return DONE


def tokens(session: Session, bound: Bound) -> int:
    """One line for each token."""
    listed = native(session, bound).tokens()
    if session.screen.as_json:
        session.screen.data(listed)
    for token in () if session.screen.as_json else listed:
        session.screen.line(_line(token))
    return DONE


def delete(session: Session, bound: Bound) -> int:
    """One request."""
    native(session, bound).delete_token(bound["--token-id"])
    return DONE


def _line(token: schemas.Token) -> str:
    ends = f"{'expired' if token['expired'] else 'expires'} {moment(token['expiresAt'])}"
    used = f"last used {moment(token['lastUsed'])}" if token.get("lastUsed") else "not used since its managers were started"
    facts = [f"role {token['role']}", ends, used, f"made by {token['madeBy']}"]
    facts += [f"{name} {token[name]}" for name in ("user", "name") if token[name]]  # type: ignore[literal-required]
    return f"{token['id']}  {', '.join(facts)}"
