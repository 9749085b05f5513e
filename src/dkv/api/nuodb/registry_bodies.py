"""API: the bodies of /api/1 that become records, as nuocmd sends them: what is left out may also be null."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from dkv.api.bodies import Body

Text = Annotated[str, Field(min_length=1)]
Constraints = Mapping[str, str] | None


class ValueBody(Body):
    """A key's new value, and what is there now: a value, nothing, or either if it is the empty text."""

    new_value: str | None
    key: str | None = None
    expected_value: str | None = None
    expected_absent: bool | None = False


class RequestBody(Body):
    """Requests a role may make: a method, an address in which `*` stands for anything, and what parameters must be."""

    method: Literal["*", "GET", "PUT", "POST", "DELETE"]
    url: Text
    query_param_constraints: Constraints = None
    path_param_constraints: Constraints = None
    payload_param_constraints: Constraints = None


class RoleBody(Body):
    """A new role."""

    name: str | None = None
    sub_roles: list[str] | None = None
    authorized_requests: list[RequestBody] | None = None


class RoleChangeBody(Body):
    """What a role gets and loses; what it has not is not missed."""

    sub_roles_to_add: list[str] | None = None
    sub_roles_to_remove: list[str] | None = None
    policies_to_add: list[RequestBody] | None = None
    policies_to_remove: list[RequestBody] | None = None


class UserBody(Body):
    """A new user, who shows a password or a certificate."""

    name: str | None = None
    roles: list[str] | None = None
    password: Text | None = None
    certificate_pem: Text | None = None


class UserRolesBody(Body):
    """The roles a user gets and loses."""

    roles_to_add: list[str] | None = None
    roles_to_remove: list[str] | None = None


class CredentialsBody(Body):
    """A user's new password or certificate."""

    new_password: Text | None = None
    new_certificate_pem: Text | None = None


class LicenseBody(Body):
    """A licence."""

    encoded_license: str


class RegionBody(Body):
    """A region's name, and the one it had."""

    name: str
    old_name: str | None = None


class HostBody(Body):
    """A server, and the region it is to be in; its number also as text."""

    server_id: str
    region_id: int | Annotated[str, Field(pattern="^[0-9]{1,9}$")]


class ServerBody(Body):
    """A server."""

    server_id: str


class DefaultRegionBody(Body):
    """The region of all servers that are in no other."""

    region_id: int | Annotated[str, Field(pattern="^[0-9]{1,9}$")]


class PolicyBody(Body):
    """How clients choose among the processes of a database."""

    lb_query: Text
    policy_name: str | None = None


class BalancingBody(Body):
    """What one database, or the whole domain, chooses by when a client names nothing."""

    is_global: bool | None = False
    db_name: str | None = None
    default_lb_query: Text | None = None
    prefilter: Text | None = None


class CertificateBody(Body):
    """A certificate to trust, under a name of its own."""

    alias: str
    certificate_pem: str | None = None


class MessageBody(Body):
    """A line for the manager's log."""

    message: str
