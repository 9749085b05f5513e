"""Access: the token with which a new server joins a domain: it pins the domain's authority and holds a secret for one use.

`dkv1.<SHA-256 of the authority's DER, hex>.<id, 8 hex>.<secret, 43 base64url>.<CRC-32, 8 hex>`. The checksum tells a bad copy
from a wrong token before any connection is made. The joiner sends the secret only to a server that proved the pinned
authority. The domain keeps the hash of the secret, and marks the token as used in the same decision that admits the server.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import zlib
from dataclasses import dataclass

from dkv.access import crypto
from dkv.access.crypto import Malformed
from dkv.domain.decision import Refused
from dkv.domain.refusals import no

KIND = "dkv1"
HOUR = 3_600_000  # ms a token may be used, unless asked otherwise
SECRET_BYTES, ID_BYTES = 32, 4
COPY = "Copy the whole token again, from dkv1 to its last character, in one line."
ANOTHER = "Make a new one on a server of the domain: dkv create join-token."
_LENGTHS = (len(KIND), 64, 2 * ID_BYTES, 43, 8)
_WHOLE = re.compile(r"dkv1\.([0-9a-f]{64})\.([0-9a-f]{8})\.([A-Za-z0-9_-]{43})\.([0-9a-f]{8})")


@dataclass(frozen=True)
class JoinToken:
    """What a joiner holds. `pin` is the SHA-256 of the authority's DER in hex; `secret` is shown to nobody."""

    pin: str
    token_id: str
    secret: str

    @property
    def text(self) -> str:
        """As it is printed once and pasted once."""
        body = f"{KIND}.{self.pin}.{self.token_id}.{self.secret}"
        return f"{body}.{_checksum(body)}"

    def __repr__(self) -> str:
        return f"JoinToken(token_id={self.token_id!r})"


def new_join_token(authority: str, random: bytes) -> JoinToken:
    """A token for the domain of that authority, of 36 random bytes. Raises Malformed, ValueError."""
    if len(random) != SECRET_BYTES + ID_BYTES:
        raise ValueError(f"{SECRET_BYTES + ID_BYTES} random bytes are needed")
    secret = base64.urlsafe_b64encode(random[ID_BYTES:]).decode().rstrip("=")
    return JoinToken(crypto.read(authority).fingerprint, random[:ID_BYTES].hex(), secret)


def parse(text: str) -> JoinToken | Refused:
    """The token that was pasted, or what is wrong with it, without asking anybody. No sentence repeats the secret."""
    parts = _WHOLE.fullmatch(text.strip())
    body, _, checksum = text.strip().rpartition(".")
    if parts and hmac.compare_digest(_checksum(body), checksum):
        return JoinToken(parts[1], parts[2], parts[3])
    if not text.strip().startswith(KIND):
        return no("bad_join_token", f"This is no join token: a join token begins with {KIND}.", ANOTHER)
    lengths = tuple(len(part) for part in text.strip().split("."))
    if lengths != _LENGTHS:
        missing = sum(_LENGTHS) + len(_LENGTHS) - 1 - len(text.strip())
        cut = f"it is {missing} characters short" if missing > 0 else "it does not have the parts of one"
        return no("bad_join_token", f"The join token is not whole: {cut}.", COPY)
    return no("bad_join_token", "The join token has a wrong character: its checksum does not fit.", COPY)


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode('utf-8', 'surrogatepass')):08x}"


def pins(token: JoinToken, authority: str) -> Refused | None:
    """Why the authority that a server shows is not the one the token was made for. Nothing is sent to that server then."""
    try:
        fingerprint = crypto.read(authority).fingerprint
    except Malformed as error:
        return no("bad_certificate", f"The server's authority cannot be used: {error}.", "Is this the address of a dkv manager?")
    if hmac.compare_digest(fingerprint, token.pin):
        return None
    return no(
        "bad_join_token",
        f"The join token is for another authority than this server's: it pins {token.pin[:16]}..., the server has "
        f"{fingerprint[:16]}....",
        "Check the address. If the domain changed its authority since, make a new token: dkv create join-token.",
    )


def hashed(secret: str) -> str:
    """What the domain keeps of a secret of 256 random bits: a slow hash would protect nothing there."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
