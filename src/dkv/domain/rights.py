"""Domain: what there is to be allowed, and the roles that exist in every domain. Pure.

Every command and every route has exactly one right; a role is a set of rights, or of requests by method and address, or of
other roles (domain/access.py). What is not allowed by some role is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Right(StrEnum):
    """What a command or a route asks for."""

    OPEN = "open"  # no credentials: whether the manager is up, and which authority it has
    METRICS = "metrics"
    READ = "read"  # views, in which no secret stands
    LOGS = "logs"  # logs and bundles: what programs wrote, whatever it is
    VALUES = "values"  # what programs keep in the domain's key-value store
    STATE = "state"  # the whole state as it is kept, secrets and all
    PASSWORDS = "passwords"  # passwords in clear
    OPERATE = "operate"  # stores, processes, archives, servers, hot copies
    USERS = "users"  # users, roles, tokens, users of databases
    AUTHORITY = "authority"  # certificates, join tokens, secrets of stores
    SERVER = "server"  # what only a manager of the domain may say


ADMIN, OPERATOR, VIEWER, METRICS, SERVER = "admin", "operator", "viewer", "metrics", "server"

BUILT_IN: Mapping[str, frozenset[Right]] = {
    ADMIN: frozenset(Right) - {Right.SERVER},
    OPERATOR: frozenset({Right.OPEN, Right.METRICS, Right.READ, Right.LOGS, Right.VALUES, Right.OPERATE}),
    VIEWER: frozenset({Right.OPEN, Right.METRICS, Right.READ}),
    METRICS: frozenset({Right.OPEN, Right.METRICS}),
    SERVER: frozenset({Right.OPEN, Right.METRICS, Right.READ, Right.LOGS, Right.OPERATE, Right.SERVER}),
}
"""The roles that nobody can change or delete. Only the certificate of a server has the role server."""

GIVEN = (ADMIN, OPERATOR, VIEWER, METRICS)
"""Those that a user or a token can have."""

SENSITIVE = frozenset({Right.STATE, Right.PASSWORDS, Right.SERVER})
"""Rights that an address with a `*` in it never gives: whoever writes `GET *` means what can be shown."""
