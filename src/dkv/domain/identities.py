"""Domain: users and roles as access control reads them, out of the records that the NuoDB dialect keeps. Pure.

What cannot be read gives nothing: a user without roles, a role without requests.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from dkv.domain.access import METHODS, AllowedRequest, Pairs, Role, User
from dkv.domain.model import Reader
from dkv.domain.rights import ADMIN, BUILT_IN

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def user_named(state: Reader, name: str) -> User | None:
    """The user of that name."""
    record = state.records.get(("user", name))
    return _without_shadowed(state, _user(name, record.value)) if record else None


def user_with_certificate(state: Reader, fingerprint: str) -> User | None:
    """The user whose registered certificate has that fingerprint; nobody where two users have registered it."""
    users = [_user(key, record.value) for (kind, key), record in state.records.items() if kind == "user"]
    matching = [user for user in users if fingerprint and user.fingerprint == fingerprint]
    return _without_shadowed(state, matching[0]) if len(matching) == 1 else None


def _without_shadowed(state: Reader, user: User) -> User:
    """The user without roles that an earlier version let somebody make under the name of a built-in one: they were never meant
    to give what that gives."""
    roles = tuple(role for role in user.roles if role not in BUILT_IN or ("role", role) not in state.records)
    return user if roles == user.roles else replace(user, roles=roles)


def given_by(kind: str, before: str | None, after: str | None) -> tuple[str, ...]:
    """The roles that a change of a user's or a role's record gives to somebody: what is new in it; all that a user has where
    its credentials change, because whoever sets those can be that user; admin where a role gets requests.
    """
    if kind == "user" and after is not None:
        user, was = _user("", after), _user("", before or "{}")
        same = (user.password, user.certificate) == (was.password, was.certificate)
        return tuple(role for role in user.roles if not (same and role in was.roles))
    if kind == "role" and after is not None:
        role, old = _role("", after), _role("", before or "{}")
        widened = set(role.requests) - set(old.requests)
        return (*(name for name in role.sub_roles if name not in old.sub_roles), *([ADMIN] if widened else []))
    return ()


def roles_of(state: Reader) -> dict[str, Role]:
    """The roles that somebody made, by name; none under the name of a built-in one."""
    made = {key: record.value for (kind, key), record in state.records.items() if kind == "role" and key not in BUILT_IN}
    return {name: _role(name, value) for name, value in made.items()}


def registered_certificates(state: Reader) -> tuple[bytes, ...]:
    """The certificates, in DER, that users registered."""
    users = [_user(key, record.value) for (kind, key), record in state.records.items() if kind == "user"]
    return tuple(sorted({der_of(user.certificate) for user in users if user.fingerprint}))


def der_of(certificate: str) -> bytes:
    """The first certificate of a PEM text in DER; empty where there is none."""
    start = certificate.find(_BEGIN)
    end = certificate.find(_END, start)
    if start < 0 or end < 0:
        return b""
    try:
        return base64.b64decode("".join(certificate[start + len(_BEGIN) : end].split()), validate=True)
    except (ValueError, binascii.Error):
        return b""


def fingerprint_of(certificate: str) -> str:
    """The SHA-256 of the first certificate of a PEM text, in hex; empty where there is none."""
    der = der_of(certificate)
    return fingerprint_of_der(der) if der else ""


def fingerprint_of_der(der: bytes) -> str:
    """The SHA-256 of a certificate as a connection shows it, in hex."""
    return hashlib.sha256(der).hexdigest()


# A text that stays is the same str, whose hash is kept: what did not change is read once.
@lru_cache(maxsize=2_048)
def _user(name: str, text: str) -> User:
    value = _object(text)
    certificate = value.get("certificatePem")
    return User(
        name,
        roles=_texts(value.get("roles")),
        password=value["password"] if isinstance(value.get("password"), str) else "",
        certificate=certificate if isinstance(certificate, str) else "",
        fingerprint=fingerprint_of(certificate) if isinstance(certificate, str) else "",
    )


@lru_cache(maxsize=2_048)
def _role(name: str, text: str) -> Role:
    value = _object(text)
    requests = value.get("authorizedRequests")
    read = [_request(request) for request in requests if isinstance(request, dict)] if isinstance(requests, list) else []
    return Role(name, _texts(value.get("subRoles")), tuple(request for request in read if request))


def _request(value: Mapping[str, Any]) -> AllowedRequest | None:
    method, url = value.get("method"), value.get("url")
    limits = [_pairs(value.get(f"{what}ParamConstraints")) for what in ("query", "path", "payload")]
    if method not in METHODS or not isinstance(url, str) or any(pairs is None for pairs in limits):
        return None  # a constraint that cannot be read would allow too much
    query, path, payload = (pairs or () for pairs in limits)
    return AllowedRequest(method, url, query, path, payload)


def _pairs(value: Any) -> Pairs | None:
    if value is None:
        return ()
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        return None
    return tuple(sorted(value.items()))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
