"""Access: who asks. Every door makes a principal of what its caller showed; the log of events names it as the actor.

`local uid 1000` came over the manager's own socket, `server <uid>` showed a certificate of the domain, `user <name>` a password,
a registered certificate or a token made for that user, `token <id>` any other token.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dkv.domain.access import Grants, Token, User
from dkv.domain.admission import LONGEST_NAME
from dkv.domain.rights import ADMIN, SERVER


class Kind(StrEnum):
    """How a principal is known."""

    LOCAL = "local uid"
    SERVER = "server"
    USER = "user"
    TOKEN = "token"


@dataclass(frozen=True)
class Principal:
    """One caller, by the kind of its identity and its name there."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def named(text: str) -> Principal | None:
    """The principal that is written so; None for a text that names none."""
    for kind in Kind:
        name = text.removeprefix(f"{kind} ")
        if name != text and name and len(name) <= LONGEST_NAME and name.isprintable():
            return Principal(kind, name)
    return None


@dataclass(frozen=True)
class Caller:
    """A principal with what it was granted: of each of these collections of roles one has to allow what is asked."""

    principal: Principal
    grants: Grants


def local(uid: int, administrators: Collection[int]) -> Caller:
    """The caller at the other end of the manager's own socket; root and the manager's user administrate."""
    return Caller(Principal(Kind.LOCAL, str(uid)), ((ADMIN,) if uid in administrators else (),))


def server(uid: str) -> Caller:
    """A manager of this domain, by its certificate."""
    return Caller(Principal(Kind.SERVER, uid), ((SERVER,),))


def user(known: User) -> Caller:
    """A user who showed a password or a certificate."""
    return Caller(Principal(Kind.USER, known.name), (known.roles,))


def token(known: Token, users: Mapping[str, User]) -> Caller:
    """A token's holder. One made for a user does what its role and the user's roles both allow; nothing once the user is gone."""
    if not known.user:
        return Caller(Principal(Kind.TOKEN, known.token_id), ((known.role,),))
    owner = users.get(known.user)
    return Caller(Principal(Kind.USER, known.user), ((known.role,), owner.roles if owner else ()))
