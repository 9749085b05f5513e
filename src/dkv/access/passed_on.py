"""Access: in whose name a manager asks another one over its socket: the principal, sealed with the domain's key.

Only managers have that key, so nobody else gives an order in another's name, not even who may administrate; and what is sealed
serves for no other request, and not for long. Over TLS the certificate of a server says the same.
"""

from __future__ import annotations

import json

from dkv.access import principals
from dkv.access.crypto import WrongKey
from dkv.access.domain_key import DomainKey
from dkv.access.principals import Principal

FRESH = 30_000  # ms, by the clocks of both managers


def sealed(key: DomainKey, principal: str, method: str, target: str, now: int) -> str:
    """What a request with this method, address and query has in its header. `now` is the time in ms."""
    return key.seal(_label(method, target), json.dumps([principal, now]))


def opened(key: DomainKey, text: str, method: str, target: str, now: int) -> Principal | None:
    """The principal; None where no manager of the domain sealed this, for this request, now."""
    try:
        principal, at = json.loads(key.unseal(_label(method, target), text))
    except WrongKey:
        return None
    return principals.named(principal) if abs(now - at) <= FRESH else None


def _label(method: str, target: str) -> str:
    return f"passed on/{method} {target}"
