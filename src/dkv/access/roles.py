"""Access: whether a caller may do what it asks for. Pure; what no role allows is refused.

One engine for both vocabularies. A built-in role gives rights (domain/rights.py); a role that somebody made gives requests, as
NuoDB's roles do: a method, an address with `*`, and what parameters must be. A role contains other roles of either kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dkv.access.principals import Caller
from dkv.domain.access import AllowedRequest, Pairs, Role
from dkv.domain.admission import containing
from dkv.domain.decision import Refused
from dkv.domain.refusals import no
from dkv.domain.rights import ADMIN, BUILT_IN, SENSITIVE, Right


@dataclass(frozen=True)
class AccessRequest:
    """What a caller asks for. `payload` holds the fields of the body; None while the body has not been read."""

    right: Right
    method: str
    path: str
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    payload: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Allowed:
    """Yes."""


@dataclass(frozen=True)
class NeedsPayload:
    """Some role would allow it for some bodies: read the body, which is bounded, and judge again."""


Judgement = Allowed | NeedsPayload | Refused
ALLOWED, NEEDS_PAYLOAD = Allowed(), NeedsPayload()


def judge(caller: Caller, access_request: AccessRequest, roles: Mapping[str, Role]) -> Judgement:
    """Whether the caller may. `roles` are those that somebody made, by name."""
    if access_request.right is Right.OPEN:
        return ALLOWED
    verdicts = [_granted(granted, access_request, roles) for granted in caller.grants]
    if not verdicts or not all(verdicts):
        return _refusal(caller, access_request)
    return NEEDS_PAYLOAD if NEEDS_PAYLOAD in verdicts else ALLOWED


def rights_of(caller: Caller | None, roles: Mapping[str, Role]) -> tuple[frozenset[Right], bool]:
    """The rights that a caller has by built-in roles, those of an administrator without a caller; and whether it also has roles
    that somebody made, by which it may do more. For those who show a person what is worth a try.
    """
    if caller is None:
        return BUILT_IN[ADMIN], False
    held = [containing(roles, granted) for granted in caller.grants]
    rights = [frozenset().union(*(BUILT_IN[name] for name in names if name in BUILT_IN)) for names in held]
    others = any(name not in BUILT_IN for names in held for name in names)
    return (frozenset.intersection(*rights) if rights else frozenset()), others


def _granted(granted: Sequence[str], access_request: AccessRequest, roles: Mapping[str, Role]) -> Allowed | NeedsPayload | None:
    names = containing(roles, granted)
    if any(access_request.right in BUILT_IN[name] for name in names if name in BUILT_IN):
        return ALLOWED
    made = [roles[name] for name in sorted(names) if name in roles and name not in BUILT_IN]
    verdicts = [_matches(request, access_request) for role in made for request in role.requests]
    return ALLOWED if ALLOWED in verdicts else next((verdict for verdict in verdicts if verdict), None)


def _refusal(caller: Caller, access_request: AccessRequest) -> Refused:
    held = sorted({name for granted in caller.grants for name in granted})
    return no(
        "not_allowed",
        f"The principal {caller.principal} may not {access_request.method} {access_request.path[:200]}: "
        f"that needs the right {access_request.right}.",
        f"Its roles: {', '.join(held) or 'none'}. An administrator can give it another role, on a server: sudo dkv ...",
    )


# Requests ------------------------------------------------------------------------------------------------------------


def _matches(request: AllowedRequest, access_request: AccessRequest) -> Allowed | NeedsPayload | None:
    if request.method not in ("*", access_request.method) or not address_matches(request.url, access_request.path):
        return None
    if access_request.right in SENSITIVE and "*" in request.url:
        return None
    if not _holds(request.path, access_request.path_parameters) or not _all_hold(request.query, access_request.query):
        return None
    if not request.payload:
        return ALLOWED
    if access_request.payload is None:
        return NEEDS_PAYLOAD
    return ALLOWED if _holds(request.payload, access_request.payload) else None


def _holds(constraints: Pairs, given: Mapping[str, Any]) -> bool:
    """A constraint holds for a parameter that is there and is that very text; never for one that is not."""
    return all(isinstance(given.get(name), str) and given[name] == value for name, value in constraints)


def _all_hold(constraints: Pairs, given: Mapping[str, Sequence[str]]) -> bool:
    return all(given.get(name) and all(given_value == value for given_value in given[name]) for name, value in constraints)


def address_matches(pattern: str, path: str) -> bool:
    """Whether an address fits a pattern in which each `*` stands for anything. `X/*` is also X itself: nuocmd's templates
    limit `POST /api/1/processes` by a pattern that ends so. Takes time in proportion to the lengths of both.
    """
    return _fits(pattern, path) or (pattern.endswith("/*") and _fits(pattern.removesuffix("/*"), path))


def _fits(pattern: str, path: str) -> bool:
    first, *others = pattern.split("*")
    if not others:
        return path == pattern
    if not path.startswith(first):
        return False
    place, last = len(first), others[-1]
    for piece in others[:-1]:
        position = path.find(piece, place)
        if position < 0:
            return False
        place = position + len(piece)
    return len(path) - len(last) >= place and path.endswith(last)
