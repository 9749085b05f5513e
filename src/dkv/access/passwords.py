"""Access: passwords and basic credentials: how they are read, hashed, verified, and remembered for a minute.

Every request of nuocmd has its password in it, and one verification takes 40 ms on purpose. So what was verified is remembered
for 60 s under a digest made with a key of this process, in which the stored hash takes part: a changed password is asked anew
at once. An unknown user takes the same work as a wrong password.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from dkv.access import crypto
from dkv.domain.access import User

REMEMBERED = 60.0  # s
MOST_REMEMBERED = 1_000
LONGEST_PASSWORD = 1_024  # bytes
LONGEST_HEADER = 4_096  # characters of an Authorization header that are looked at
OLD = "scrypt$"  # how hashes of earlier versions begin


@dataclass(frozen=True)
class Credentials:
    """A user's name and password as one request has them."""

    name: str
    password: bytes

    def __repr__(self) -> str:
        return f"Credentials(name={self.name!r})"


def basic_credentials(encoded: str) -> Credentials | None:
    """What stands after `Basic ` in a header; None if that is nothing of the kind. The name ends at the first colon.

    Clients send UTF-8 or latin-1, and some do not say which: text that is not UTF-8 is taken for latin-1, and the password is
    compared as UTF-8 in both cases.
    """
    if len(encoded) > LONGEST_HEADER:
        return None
    try:
        pair = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        return None
    try:
        text = pair.decode("utf-8")
    except UnicodeDecodeError:
        text = pair.decode("latin-1")
    name, colon, password = text.partition(":")
    return Credentials(name, password.encode("utf-8")) if colon and name else None


def hash_password(password: str) -> str:
    """What is kept of a password. Takes some 40 ms: not for an event loop."""
    return crypto.hash_password(password.encode("utf-8", "surrogatepass"))


def fits(password: bytes, stored: str) -> bool:
    """Whether a password is the one of a stored hash, of this version or an earlier one. Takes some 40 ms."""
    return _fits_old(password, stored) if stored.startswith(OLD) else crypto.fits_password(password, stored)


def is_old(stored: str) -> bool:
    """Whether a stored hash is of an earlier version, to be made anew the next time its password is shown."""
    return stored.startswith(OLD)


def _fits_old(password: bytes, stored: str) -> bool:
    try:
        _, cost, block, parallel, salt, digest = stored.split("$")
        effort = (int(cost), int(block), int(parallel))
        computed = hashlib.scrypt(password, salt=bytes.fromhex(salt), n=effort[0], r=effort[1], p=effort[2], maxmem=64_000_000)
        return hmac.compare_digest(computed, bytes.fromhex(digest))
    except ValueError:
        return False


class Verifier:
    """Verifies passwords and remembers for a minute what fitted. `key` is random and of this process, `clock` in s."""

    def __init__(self, key: bytes, clock: Callable[[], float], fits: Callable[[bytes, str], bool] = fits) -> None:
        self._key = key
        self._clock = clock
        self._fits = fits
        self._nobody = crypto.hash_password(key)
        self._remembered: dict[bytes, float] = {}  # digest to when it is forgotten, oldest first

    def remembers(self, shown: Credentials, known: User | None) -> bool:
        """Whether this very pair fitted a moment ago, so that no work is needed."""
        return known is not None and self._remembered.get(self._digest(shown, known), 0.0) > self._clock()

    def verify(self, shown: Credentials, known: User | None) -> bool:
        """Whether the password is the user's. Takes some 40 ms whoever the user is: not for an event loop."""
        stored = known.password if known and known.password else self._nobody
        password = shown.password[:LONGEST_PASSWORD]
        fitted = self._fits(password, stored) and len(password) == len(shown.password)
        if known is None or not known.password or not fitted:
            return False
        self._remember(self._digest(shown, known))
        return True

    def _remember(self, digest: bytes) -> None:
        now = self._clock()
        for old in [key for key, until in self._remembered.items() if until <= now]:
            del self._remembered[old]
        while len(self._remembered) >= MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = now + REMEMBERED

    def _digest(self, shown: Credentials, known: User) -> bytes:
        parts = (shown.name.encode("utf-8", "surrogatepass"), shown.password, known.password.encode())
        return hmac.new(self._key, b"".join(b"%d:%b" % (len(part), part) for part in parts), hashlib.sha256).digest()
