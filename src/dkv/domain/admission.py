"""Domain: whether a join token admits a server, and what a token, a user or a role may be. Pure; times are wall-clock ms."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from dkv.domain.access import Joined, JoinToken, Role
from dkv.domain.command import Command
from dkv.domain.constants import DAY
from dkv.domain.decision import Refused
from dkv.domain.model import Server
from dkv.domain.refusals import nearest, no
from dkv.domain.rights import ADMIN, BUILT_IN, GIVEN, Right
from dkv.hints import action

MINUTE = 60_000
SHORTEST = 1_000  # ms a token lives at least
LONGEST = 100 * 366 * DAY  # and at most
TOKEN_LIVES = 90 * DAY  # unless asked otherwise
JOIN_TOKEN_LIVES = 60 * MINUTE
MOST_USES = 1_000
LONGEST_NAME = 200


def judge_join(
    join_token: JoinToken | None, token_id: str, hashed_secret: str, joining: Joined, now: int, *, known: Server | None = None
) -> Refused | None:
    """Why a join token does not admit this server now. A server that was admitted by it may repeat its request. `known` is the
    server that has its id already.

    A wrong secret and an unknown id are one sentence, so that ids cannot be tried.
    """
    again = "Make a new one on a server of the domain."
    if not hmac.compare_digest(join_token.hashed_secret if join_token else "0" * 64, hashed_secret) or join_token is None:
        return no("bad_join_token", f"There is no join token {token_id[:16]} with that secret.", again)
    if joining in join_token.used_by:
        return None
    is_over = now >= join_token.expires_at or len(join_token.used_by) >= join_token.uses
    if is_over and known and known.uid in {other.server_uid for other in join_token.used_by}:
        return lost_directory(known, token_id)
    if now >= join_token.expires_at:
        late = (now - join_token.expires_at) // MINUTE
        return no(
            "bad_join_token",
            f"The join token {token_id} expired {late} minutes ago by this server's clock.",
            f"{again} If it was made a moment ago, compare the clocks of the servers.",
        )
    if len(join_token.used_by) >= join_token.uses:
        uid = join_token.used_by[-1].server_uid
        return no(
            "bad_join_token",
            f"The join token {token_id} was used already, last by the server with uid {uid}.",
            f"{again} If no server of yours has that uid, delete that server: somebody else has the token.",
        )
    return None


def lost_directory(known: Server, token_id: str) -> Refused:
    """A server shows the token that it joined with, and is another one by its uid: what it had is not there."""
    return no(
        "bad_join_token",
        f"Server {known.server_id} joined with the join token {token_id} before, from another data directory than this one.",
        "If that is on a disk that is not mounted, mount it. If it is lost: ",
        action("replaceServer", server=known.server_id),
        ", and start this manager with the token that it prints.",
    )


def unfit_lifetime(lasts: int) -> Refused | None:
    """Refuse a lifetime, in ms, that is over at once or longer than anybody remembers."""
    if SHORTEST <= lasts <= LONGEST:
        return None
    return no("bad_value", f"A token cannot live {lasts} ms.", "Give it from one second to a hundred years.")


def unfit_uses(uses: int) -> Refused | None:
    """Refuse a join token that nobody, or a crowd, could use."""
    if 1 <= uses <= MOST_USES:
        return None
    return no("bad_value", f"A join token cannot be used {uses} times.", f"Give it from 1 to {MOST_USES} uses.")


def unfit_label(what: str, name: str) -> Refused | None:
    """Refuse a name that could not be seen or typed; an empty one is no name and is fine."""
    if name.strip() == name and name.isprintable() and len(name) <= LONGEST_NAME:
        return None
    return no(
        "bad_value",
        f"{what} {name[:60]!r} is not a valid name.",
        f"Use up to {LONGEST_NAME} printable characters, no blank at either end.",
    )


def unfit_user_name(name: str) -> Refused | None:
    """Refuse a name that could not be seen, typed, or sent: basic credentials end the name at the first colon."""
    if name and "/" not in name and ":" not in name and unfit_label("User", name) is None:
        return None
    return no(
        "bad_value",
        f"User {name[:60]!r} is not a valid name.",
        f"Use up to {LONGEST_NAME} printable characters, no slash, no colon, no blank at either end.",
    )


def unknown_role(roles: Collection[str], names: Iterable[str]) -> Refused | None:
    """Refuse the first of these roles that does not exist, or that only servers have."""
    for name in names:
        if name not in roles and name not in GIVEN:
            return no("unknown_record", f"There is no role named {name}.", nearest(name, [*GIVEN, *sorted(roles)]))
    return None


def reserved_role(name: str) -> Refused | None:
    """Refuse a role that would have the name of a built-in one."""
    if name not in BUILT_IN:
        return None
    return no("bad_name", f"The role {name} is built in and cannot be changed.", "Choose another name.")


def containing(roles: Mapping[str, Role], names: Iterable[str]) -> set[str]:
    """These roles and all that they contain, however deep; also such as do not exist."""
    contained: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in contained:
            contained.add(name)
            waiting += roles[name].sub_roles if name in roles and name not in BUILT_IN else ()
    return contained


def may_give(command: Command, given: Iterable[str], roles: Mapping[str, Role]) -> Refused | None:
    """Why who asked must not give these roles to a user, a token or another role: nobody gives what it does not have.

    Whoever has every right, by a built-in role in each of its grants, gives any.
    """
    if command.grants is None:
        return None
    wanted = containing(roles, given)
    for granted in command.grants or ((),):
        held = containing(roles, granted)
        rights = built_in_rights(held)
        missing = [name for name in sorted(wanted - held) if not _covered(name, rights)]
        if missing:
            return no(
                "not_allowed",
                f"The principal {command.actor} cannot give the role {missing[0]}, which it does not have.",
                "Ask somebody who has it, or an administrator.",
            )
    return None


def built_in_rights(names: Iterable[str]) -> frozenset[Right]:
    """What the built-in ones of these roles give."""
    return frozenset(right for name in names if name in BUILT_IN for right in BUILT_IN[name])


def _covered(name: str, rights: frozenset[Right]) -> bool:
    return rights >= BUILT_IN[ADMIN] or (name in BUILT_IN and BUILT_IN[name] <= rights)


def may_order(command: Command, right: Right, roles: Mapping[str, Role]) -> Refused | None:
    """Why who asked must not have this command carried out, as far as built-in roles say it. A role that somebody made gives
    requests, not rights: it was judged where the request came in.
    """
    if command.grants is None or (command.grants and all(_orders(granted, right, roles) for granted in command.grants)):
        return None
    return no(
        "not_allowed",
        f"The principal {command.actor} may not have {type(command).__name__} carried out: that needs the right {right}.",
        "An administrator can give it another role.",
    )


def _orders(granted: Iterable[str], right: Right, roles: Mapping[str, Role]) -> bool:
    held = containing(roles, granted)
    return right in built_in_rights(held) or bool(held & roles.keys())


MOVE_AGAIN_AFTER = 60_000  # ms after a move of the state that failed: each attempt ends what serves


@dataclass(frozen=True)
class StateHome:
    """Where a manager has the domain state, as far as a joining server is concerned: whether every machine reaches it there,
    whether the joiner is on this machine, why each of the two could run no etcd member, "" where it could, and how the last
    attempt to move the state failed: "" or a sentence, and how many ms ago.
    """

    shared: bool
    on_this_machine: bool
    joiner: str  # how people call the server that joins
    joiner_cannot: str = ""
    this_cannot: str = ""
    trouble: str = ""
    failed_ago: float = 0.0


def judge_state_home(home: StateHome) -> Refused | None:
    """Why a server cannot join yet: `state_moving` where the state is to be moved now. None where it is reached as it is."""
    if home.shared or home.on_this_machine:
        return None
    if home.joiner_cannot:
        return state_cannot_move(home.joiner, home.joiner_cannot)
    if home.this_cannot:
        return state_cannot_move("this manager", home.this_cannot)
    if home.trouble and home.failed_ago < MOVE_AGAIN_AFTER:
        return state_cannot_move("this manager", home.trouble)
    return state_moves()


def state_moves() -> Refused:
    """The state of the domain is a file, and moves to where a server on another machine reaches it."""
    message = "The domain state moves to etcd, where other machines reach it; that takes some seconds."
    return no("state_moving", message, "Ask again: the join token was not used.")


def state_cannot_move(which: str, why: str) -> Refused:
    """A server on another machine cannot join, because the state cannot leave the file that it is in."""
    message = f"The domain state is a file of one machine, and cannot move to etcd, because {which} cannot run it: {why}."
    return no("state_cannot_move", message, "Cure that and repeat this: the join token was not used.")
