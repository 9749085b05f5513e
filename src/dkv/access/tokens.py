"""Access: tokens of people and programs: `dkvt_<id, 12 hex>_<secret, 43 base64url>`. Pure; times are wall-clock ms.

The domain keeps the SHA-256 of the secret. A slow hash would protect nothing: nobody guesses 256 random bits.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dkv.access.moments import moment
from dkv.domain.access import Token
from dkv.domain.decision import Refused
from dkv.domain.refusals import no

KIND = "dkvt"
SECRET_BYTES, ID_BYTES = 32, 6
_WHOLE = re.compile(r"dkvt_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOBODY = "0" * 64
HINT = "Ask an administrator of the domain for another token."


@dataclass(frozen=True)
class Secret:
    """A token as its holder has it; its text is shown once, when it is made."""

    token_id: str
    secret: str

    @property
    def text(self) -> str:
        """As it is sent: `Authorization: Bearer <text>`."""
        return f"{KIND}_{self.token_id}_{self.secret}"

    @property
    def hashed(self) -> str:
        """What the domain keeps of it."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def __repr__(self) -> str:
        return f"Secret(token_id={self.token_id!r})"


def new_secret(random: bytes) -> Secret:
    """A token of 38 random bytes. Raises ValueError for another number."""
    if len(random) != SECRET_BYTES + ID_BYTES:
        raise ValueError(f"{SECRET_BYTES + ID_BYTES} random bytes are needed")
    return Secret(random[:ID_BYTES].hex(), base64.urlsafe_b64encode(random[ID_BYTES:]).decode().rstrip("="))


def judge_token(text: str, tokens: Mapping[str, Token], now: int) -> Token | Refused:
    """The token that this text is, or why it is not taken. An unknown id and a wrong secret get the same sentence after the
    same work.
    """
    parts = _WHOLE.fullmatch(text)
    if parts is None:
        return no("unauthenticated", f"The token is not whole: a token is {KIND}_, 12 characters, _ and 43 characters.", HINT)
    token = tokens.get(parts[1])
    shown = Secret(parts[1], parts[2]).hashed
    fits = hmac.compare_digest(token.hashed_secret if token else _NOBODY, shown)
    if token is None or not fits:
        return no("unauthenticated", "The token is not known: it was deleted, or is another domain's.", HINT)
    if now >= token.expires_at:
        message = f"The token {token.token_id} expired at {moment(token.expires_at)}; this machine's clock says {moment(now)}."
        return no("unauthenticated", message, HINT)
    return token
