"""Domain: who may come in, as the state keeps it: users, roles, tokens, join tokens, authorities, users of databases. Pure.

No secret is kept that could be used: of a password its Argon2id hash, of a token's 256 random bits their SHA-256. Times are
wall-clock milliseconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

METHODS = ("*", "GET", "PUT", "POST", "DELETE")

Pairs = tuple[tuple[str, str], ...]
Grants = tuple[tuple[str, ...], ...]
"""What a principal was granted: of each of these collections of roles one has to allow what it asks for."""


@dataclass(frozen=True)
class AllowedRequest:
    """Requests that a role allows: a method or `*`, an address in which `*` stands for anything, and what parameters must be."""

    method: str
    url: str
    query: Pairs = ()
    path: Pairs = ()
    payload: Pairs = ()


@dataclass(frozen=True)
class Role:
    """What somebody made a role of: requests, and other roles, built-in ones too."""

    name: str
    sub_roles: tuple[str, ...] = ()
    requests: tuple[AllowedRequest, ...] = ()


@dataclass(frozen=True)
class User:
    """A person or program with a name. A password's hash, or a certificate with the SHA-256 of its DER in hex."""

    name: str
    roles: tuple[str, ...] = ()
    password: str = ""
    certificate: str = ""
    fingerprint: str = ""
    changed_at: int = 0


@dataclass(frozen=True)
class Token:
    """A secret for a program or a person, with one role. Made for a user, it allows what both the role and the user may."""

    token_id: str
    hashed_secret: str
    role: str
    name: str = ""
    user: str = ""
    made_by: str = ""
    made_at: int = 0
    expires_at: int = 0


@dataclass(frozen=True)
class DatabaseUser:
    """A user of one database: with its name and password clients log in to the engines. `passwords` are their SHA-256 in hex,
    the newest first: during a change two are taken. `keys` are the patterns of the keys that it may use, none for all.
    """

    database: str
    name: str
    passwords: tuple[str, ...]
    read_only: bool = False
    keys: tuple[str, ...] = ()
    scripting: bool = True
    monitor: bool = False  # it sees numbers, logs of slow commands and connections, and no key
    importing: bool = False  # it writes values as another server has them; for one import
    made_by: str = ""
    made_at: int = 0
    changed_at: int = 0


@dataclass(frozen=True)
class Joined:
    """A server that used a join token: its uid, and the SHA-256 of its public key, by which it may ask again."""

    server_uid: str
    public_key: str


@dataclass(frozen=True)
class JoinToken:
    """A secret with which so many new servers may join. `pin` is the SHA-256 of the authority that it was made for.
    `replaces`: the id of the server whose place the one that joins takes; "": it is one more.
    """

    token_id: str
    hashed_secret: str
    pin: str = ""
    uses: int = 1
    used_by: tuple[Joined, ...] = ()
    made_by: str = ""
    made_at: int = 0
    expires_at: int = 0
    replaces: str = ""


@dataclass(frozen=True)
class Departed:
    """A server that was deleted: its certificates are refused, and its data directory is not taken back without a join token."""

    uid: str
    server_id: str
    at: int = 0


MANAGERS = "managers"
"""The owner of the authority that signs for managers; that of a database's engines is the database's uid."""


class RotationPhase(StrEnum):
    """How far the change of an authority has come (authority.py); DONE when none is under way."""

    PREPARED = "PREPARED"
    SWITCHED = "SWITCHED"
    DONE = "DONE"


@dataclass(frozen=True)
class SecretChange:
    """A change of the managers' password of a database (rules/secrets.py). `other_secret` is the new one in PREPARED, the old one
    in SWITCHED. `hash_seed`: what its engines hash with since its first secret was changed; empty: it is derived from the secret.
    """

    other_secret: str = ""
    phase: RotationPhase = RotationPhase.DONE
    at: int = 0
    hash_seed: str = ""


def hash_seed(secret: str) -> str:
    """What all engines of one database hash with, so that a cursor of one means the same to the next; 64 hex. Derived from its
    first secret, so that a restart, a later copy or a rebuilt state that found the secret changes nothing, and clients cannot
    guess it.

    Valkey 9.1.2 applies it to the table of keys (SCAN) only: hashes, sets and sorted sets have a random seed in each
    process all the same, until a release in which all data is hashed with the configured one.
    """
    return hashlib.sha256(f"dkv-hash-seed:{secret}".encode()).hexdigest()


@dataclass(frozen=True)
class Authority:
    """The certificate authority of one owner, and the other one while it is changed. Certificates are PEM texts, keys are sealed
    with the domain's key; `reported` has the uids of the servers that reported the phase.
    """

    owner: str
    current: str
    key: str
    phase: RotationPhase = RotationPhase.DONE
    other: str = ""  # PREPARED: the next one; SWITCHED: the former one
    other_key: str = ""
    former: str = ""  # the one before, which nothing believes any more
    number: int = 0  # of the phase: how many there were before it
    reported: tuple[str, ...] = ()
    without: tuple[str, ...] = ()  # uids of servers that an operator said not to wait for, in the newest change
    held: bool = False  # PREPARED: it goes on only when an operator says so, once clients trust both
    phase_at: int = 0  # when the phase began, to be shown

    @property
    def trusted(self) -> tuple[str, ...]:
        """The authorities whose leaves are believed, the one that signs first."""
        return (self.current, self.other) if self.other else (self.current,)

    @property
    def bundle(self) -> str:
        """The same as the text of a CA file."""
        return "".join(self.trusted)
