"""CLI: the authority of the domain's managers, and the tokens with which new servers join."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dkv.cli.binding import Bound, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED
from dkv.cli.nouns.common import CHANGES, DB_NAME, SHARED, milliseconds, native
from dkv.cli.nouns.processes import TIMEOUT
from dkv.cli.output import moment
from dkv.cli.session import Session
from dkv.client import ManagerRefused
from dkv.hints import action, hint

if TYPE_CHECKING:
    from dkv.wire import schemas

OF_STORE = DB_NAME._replace(required=False, help="the store whose engines' authority it is; default: the managers'")
POLL = 0.25  # s between two looks
DONE_WITHOUT_WITHIN = 15.0  # s

EXPIRES = Param("--expires", "text", "how long it is taken, such as 30m or 1h; default: 1h", default="1h")
CREATE_JOIN_TOKEN = Cmdlet(
    "create join-token",
    "Makes a token with which a new server joins the domain, and prints it; it is shown only this once.",
    "nouns.authority:create_join_token",
    (EXPIRES, Param("--uses", "number", "number of servers that may join with it", default=1, high=1_000), *CHANGES),
)

VERBS = (
    CREATE_JOIN_TOKEN,
    CREATE_JOIN_TOKEN._replace(name="get token", synopsis="The same as create join-token: a token for manager run --join."),
    Cmdlet(
        "get join-tokens",
        "Lists join tokens, those that were used or expired too; never their secrets.",
        "nouns.authority:join_tokens",
        SHARED,
    ),
    Cmdlet(
        "delete join-token",
        "Has no manager take a join token any more.",
        "nouns.authority:delete_join_token",
        (Param("--token-id", "text", "the token's id", required=True), *CHANGES),
    ),
    Cmdlet(
        "get ca",
        "Prints the certificates of the authority that the domain's managers trust, or the clients of a store.",
        "nouns.authority:ca",
        (OF_STORE, *SHARED),
    ),
    Cmdlet(
        "rotate ca",
        "Changes the authority of the managers, or of a store's engines, while everything runs, and waits until it is done.",
        "nouns.authority:rotate",
        (
            OF_STORE,
            Param("--without", "list", "ids of servers that are away and are not waited for", default=()),
            Param(
                "--prepare",
                "switch",
                "stop once every server trusts the new one beside the old one; the next rotate ca goes on",
                default=False,
            ),
            TIMEOUT,
            *CHANGES,
        ),
    ),
)


def create_join_token(session: Session, bound: Bound) -> int:
    """The secret alone on standard output, for a file or a variable; what it is good for beside it."""
    _made(session, bound, {"uses": bound["--uses"]})
    return DONE


def replace_server(session: Session, bound: Bound) -> int:
    """The same, for one server in place of another that is away; its copies are made anew when it joins."""
    server_id = bound["--server-id"]
    if _made(session, bound, {"replaces": server_id}, patience=DONE_WITHOUT_WITHIN):
        how = f"dkv manager run --server-id {server_id} --join HOST:PORT --token-file FILE"
        session.screen.note(f"Start the manager of the new {server_id} with it, on an empty data directory: {how}")
    return DONE


def _made(session: Session, bound: Bound, more: dict[str, object], patience: float = 0.0) -> bool:
    """Make a join token and print it; whether there is one, and not a plan of one. `patience` is how long, in s, groups may take
    to do without the archives of a server that was just lost.
    """
    body, client = {"lasts": milliseconds(bound["--expires"]), **more}, native(session, bound)

    def asked() -> schemas.JoinTokenMade | ManagerRefused:
        try:
            return client.create_join_token(body)
        except ManagerRefused as refused:
            if refused.code != "archive_needed":
                raise
            return refused

    made = session.until(asked, lambda answer: not isinstance(answer, ManagerRefused), patience, pause=POLL)
    if isinstance(made, ManagerRefused):
        raise made
    if session.screen.as_json:
        session.screen.data(made)
        return False
    session.screen.value(made["secret"])
    token = made["joinToken"]
    session.screen.note(f"Join token {token['id']} is taken until {moment(token['expiresAt'])}.")
    return bool(made["secret"])


def join_tokens(session: Session, bound: Bound) -> int:
    """One line for each join token."""
    tokens = native(session, bound).join_tokens()
    if session.screen.as_json:
        session.screen.data(tokens)
    for token in () if session.screen.as_json else tokens:
        session.screen.line(_line(token))
    return DONE


def _line(token: schemas.JoinToken) -> str:
    facts = [
        f"{'expired' if token['expired'] else 'expires'} {moment(token['expiresAt'])}",
        f"used {len(token['usedBy'])} of {token['uses']} times",
        f"made by {token['madeBy']}",
    ]
    facts += ["of the former authority"] if token["ofFormerAuthority"] else []
    facts += [f"for a server in place of {token['replaces']}"] if token["replaces"] else []
    return f"{token['id']}  {', '.join(facts)}"


def delete_join_token(session: Session, bound: Bound) -> int:
    """One request."""
    native(session, bound).delete_join_token(bound["--token-id"])
    return DONE


def ca(session: Session, bound: Bound) -> int:
    """The bundle, for a file that clients trust; beside it what a person compares, and gives to dkv login."""
    authority = native(session, bound).authority(bound["--db-name"] or "")
    for fingerprint in () if session.screen.as_json else authority["fingerprints"]:
        session.screen.note(f"SHA-256 {fingerprint}")
    if session.screen.as_json:
        session.screen.data(authority)
    for certificate in () if session.screen.as_json else authority["bundle"]:
        session.screen.block(certificate)
    return DONE


def _rests(authority: schemas.Authority) -> bool:
    """Whether a change is done, or as far as it was to come."""
    return authority["phase"] == "DONE" or (authority["held"] and not authority["waitsFor"])


def rotate(session: Session, bound: Bound) -> int:
    """The servers follow by themselves; one that is away is named."""
    client, store = native(session, bound), bound["--db-name"] or ""
    client.rotate_authority(bound["--without"], store, hold=bound["--prepare"])
    last = session.until(lambda: client.authority(store), _rests, bound["--timeout"], pause=POLL)
    if session.screen.as_json:
        session.screen.data(last)
    if last["held"] and _rests(last):
        go_on = action("goOnRotatingStore", store=store) if store else action("goOnRotating")
        both = session.screen.hint(hint("Give clients both certificates, then: ", go_on, "."))
        session.screen.note(f"Both authorities are trusted now: get ca. {both}")
        return DONE
    if last["phase"] == "DONE":
        then = "Clients need the new one: get ca." if store else "Join tokens that were made before are not taken any more."
        session.screen.note(f"The authority was changed. {then}")
        return DONE
    if not bound["--timeout"]:
        return DONE
    waits = ", ".join(last["waitsFor"])
    session.screen.error(
        f"The change of the authority ({last['phase']}) waits for the managers of: {waits}.",
        hint("It goes on by itself once they run; see ", action("showWaiting"), "."),
    )
    return FAILED
