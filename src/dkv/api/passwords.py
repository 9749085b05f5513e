"""API: passwords of the domain's users. Only their scrypt hash is kept, and it is never given back."""

from __future__ import annotations

import hashlib
import hmac
import secrets

COST, BLOCK, PARALLEL = 16_384, 8, 1  # 16 MB and some 50 ms a guess


def hashed(password: str) -> str:
    """`scrypt$cost$block$parallel$salt$hash`, different each time. Takes some 50 ms: not for an event loop."""
    salt = secrets.token_bytes(16)
    return f"scrypt${COST}${BLOCK}${PARALLEL}${salt.hex()}${_scrypt(password, salt, (COST, BLOCK, PARALLEL)).hex()}"


def matches(password: str, kept: str) -> bool:
    """Whether this password was hashed so."""
    kind, cost, block, parallel, salt, digest = kept.split("$")
    found = _scrypt(password, bytes.fromhex(salt), (int(cost), int(block), int(parallel)))
    return kind == "scrypt" and hmac.compare_digest(found, bytes.fromhex(digest))


def _scrypt(password: str, salt: bytes, effort: tuple[int, int, int]) -> bytes:
    cost, block, parallel = effort
    secret = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=cost, r=block, p=parallel, maxmem=64_000_000)
