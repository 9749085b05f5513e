"""CLI: users and roles: one request each."""

from __future__ import annotations

from dkv.cli.binding import Bound, Call, Cmdlet, Param
from dkv.cli.errors import DONE
from dkv.cli.nouns.dialect_client import CHANGES, SHARED, DialectClient, part
from dkv.cli.nouns.printing import show
from dkv.cli.session import Session

NAME = Param("--name", "text", "its name", required=True)
PASSWORD = Param("--password", "any", "the password", required=True)
USER, ROLE = "/policies/users/{--name}", "/policies/roles/{--name}"

VERBS = (
    Cmdlet("get users", "Lists users.", "", SHARED, Call("GET", "/policies/users", "User", many=True)),
    Cmdlet(
        "create user",
        "Creates a user.",
        "",
        (NAME, Param("--roles", "words", "what the user may do"), PASSWORD, *CHANGES),
        Call("PUT", USER, body=(("name", "--name"), ("roles", "--roles"), ("password", "--password"))),
    ),
    Cmdlet("delete user", "Deletes a user.", "", (NAME, *CHANGES), Call("DELETE", USER)),
    Cmdlet(
        "update user-credentials",
        "Changes a password.",
        "",
        (NAME, PASSWORD, *CHANGES),
        Call("POST", USER + "/credentials", "User", (("newPassword", "--password"),)),
    ),
    Cmdlet(
        "update user-roles",
        "Gives roles to a user and takes them away.",
        "",
        (NAME, Param("--roles-to-add", "words", "these too"), Param("--roles-to-remove", "words", "these no more"), *CHANGES),
        Call("POST", USER + "/roles", "User", (("rolesToAdd", "--roles-to-add"), ("rolesToRemove", "--roles-to-remove"))),
    ),
    Cmdlet("get roles", "Lists roles.", "", SHARED, Call("GET", "/policies/roles", "Role", many=True)),
    Cmdlet(
        "create role",
        "Creates a role.",
        "nouns.access:create_role",
        (
            NAME,
            Param("--sub-roles", "words", "roles it includes"),
            Param("--method", "word", "the method it may use", choices=("get", "put", "post", "delete")),
            Param("--any-method", "switch", "all of them", default=False),
            Param("--url", "text", "the addresses, with * for anything"),
            *CHANGES,
        ),
    ),
    Cmdlet("delete role", "Deletes a role.", "", (NAME, *CHANGES), Call("DELETE", ROLE)),
)


def create_role(session: Session, bound: Bound) -> int:
    """A role with one permission, or with its sub-roles only."""
    method = "*" if bound["--any-method"] else (bound["--method"] or "").upper()
    asked = [{"method": method, "url": bound["--url"]}] if bound["--url"] else []
    body = {"name": bound["--name"], "subRoles": bound["--sub-roles"] or [], "authorizedRequests": asked}
    show(session, "Role", DialectClient(session, bound).change("PUT", f"/policies/roles/{part(bound['--name'])}", body))
    return DONE
