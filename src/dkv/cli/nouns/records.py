"""CLI: records that all managers agree on: values, regions, load balancers, users and roles; most verbs are one request."""

from __future__ import annotations

from dkv.cli.binding import Bound, Call, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED, Usage
from dkv.cli.nouns.common import CHANGES, DB_NAME, SHARED, dialect, only_one, region_ids, unknown_region
from dkv.cli.nouns.printing import show
from dkv.cli.session import Session
from dkv.client import Json
from dkv.client.manager import quoted

KEY = Param("--key", "text", "the key", required=True)
POLICY = Param("--policy-name", "text", "the policy's name", required=True)
NAME = Param("--name", "text", "the name", required=True)
SERVERS = Param("--server-ids", "words", "the servers' ids", required=True)
PROPERTIES = Param(
    "--connection-properties", "pairs", "properties by which the load balancer chooses, as a client gives them", default={}
)
PASSWORD = Param("--password", "any", "the password", required=True)
USER, ROLE = "/policies/users/{--name}", "/policies/roles/{--name}"

VERBS = (
    Cmdlet("get value", "Shows a value that all managers share.", "nouns.records:get_value", (KEY, *SHARED)),
    Cmdlet(
        "set value",
        "Sets a value that all managers share. Without options only a key that has none is set.",
        "nouns.records:set_value",
        (
            KEY,
            Param("--value", "any", "the value", required=True),
            Param("--expected-value", "any", "set it only if this is the present value"),
            Param("--unconditional", "switch", "set it whatever the present value is", default=False),
            *CHANGES,
        ),
    ),
    Cmdlet("create region", "Creates a region.", "", (NAME, *CHANGES), Call("POST", "/regions", "Region", (("name", "--name"),))),
    Cmdlet(
        "delete region",
        "Deletes a region.",
        "",
        (Param("--region-id", "number", "the region's id", required=True, low=0, high=10**9), *CHANGES),
        Call("DELETE", "/regions/{--region-id}"),
    ),
    Cmdlet("get regions", "Lists regions.", "", SHARED, Call("GET", "/regions", "Region", many=True)),
    Cmdlet(
        "add region-assignment",
        "Puts servers into a region for a database.",
        "nouns.records:assign",
        (
            DB_NAME,
            Param("--region-name", "text", "the region's name"),
            Param("--region-id", "number", "the region's id", low=0, high=10**9),
            SERVERS,
            *CHANGES,
        ),
    ),
    Cmdlet(
        "remove region-assignment",
        "Takes servers out of their region for a database.",
        "nouns.records:unassign",
        (DB_NAME, SERVERS, *CHANGES),
    ),
    Cmdlet(
        "get load-balancers",
        "Lists load-balancer policies.",
        "",
        SHARED,
        Call("GET", "/databases/loadBalancerPolicies?orderBy=policyName", "LoadBalancerPolicy", many=True),
    ),
    Cmdlet(
        "set load-balancer",
        "Sets a load-balancer policy.",
        "",
        (POLICY, Param("--lb-query", "text", "the policy's query", required=True), *CHANGES),
        Call(
            "POST",
            "/databases/loadBalancerPolicy/{--policy-name}",
            body=(("policyName", "--policy-name"), ("lbQuery", "--lb-query")),
        ),
    ),
    Cmdlet(
        "delete load-balancer",
        "Deletes a load-balancer policy.",
        "",
        (POLICY, *CHANGES),
        Call("DELETE", "/databases/loadBalancerPolicy/{--policy-name}"),
    ),
    Cmdlet(
        "get load-balancer-config",
        "Shows which load-balancer query each database uses.",
        "",
        SHARED,
        Call("GET", "/databases/loadBalancerConfigs?orderBy=dbName", "LoadBalancerConfig", many=True),
    ),
    Cmdlet(
        "set load-balancer-config",
        "Sets the load-balancer query and the prefilter of one database or of all.",
        "nouns.records:balance",
        (
            DB_NAME._replace(required=False),
            Param("--is-global", "switch", "set it for every database", default=False),
            Param("--default", "text", "the query of clients that name none"),
            Param("--unregister-default", "switch", "remove the default query", default=False),
            Param("--prefilter", "text", "the query that is applied before any other"),
            Param("--unregister-prefilter", "switch", "remove the prefilter", default=False),
            *CHANGES,
        ),
    ),
    Cmdlet(
        "get sql-connection", "Shows the process a client may use.", "nouns.records:connection", (DB_NAME, PROPERTIES, *SHARED)
    ),
    Cmdlet(
        "check sql-connection",
        "Checks that there is a process for clients.",
        "nouns.records:check_connection",
        (DB_NAME, PROPERTIES, *SHARED),
    ),
    Cmdlet("get effective-license", "Shows the licence.", "", SHARED, Call("GET", "/policies/license", "json")),
    Cmdlet(
        "get kubernetes-config",
        "Shows what the managers know of Kubernetes.",
        "",
        SHARED,
        Call("GET", "/diagnostics/kube", "json"),
    ),
    Cmdlet(
        "get certificate-info", "Shows which certificates are trusted.", "", SHARED, Call("GET", "/peers/certificates", "json")
    ),
    Cmdlet("get users", "Lists users.", "", SHARED, Call("GET", "/policies/users", "User", many=True)),
    Cmdlet(
        "create user",
        "Creates a user.",
        "",
        (NAME, Param("--roles", "words", "the user's roles"), PASSWORD, *CHANGES),
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
        (
            NAME,
            Param("--roles-to-add", "words", "the roles to add"),
            Param("--roles-to-remove", "words", "the roles to remove"),
            *CHANGES,
        ),
        Call("POST", USER + "/roles", "User", (("rolesToAdd", "--roles-to-add"), ("rolesToRemove", "--roles-to-remove"))),
    ),
    Cmdlet("get roles", "Lists roles.", "", SHARED, Call("GET", "/policies/roles", "Role", many=True)),
    Cmdlet(
        "create role",
        "Creates a role.",
        "nouns.records:create_role",
        (
            NAME,
            Param("--sub-roles", "words", "roles that this role includes"),
            Param("--method", "word", "the HTTP method that the role may use", choices=("get", "put", "post", "delete")),
            Param("--any-method", "switch", "the role may use every method", default=False),
            Param("--url", "text", "the paths that the role may use; * stands for any text"),
            *CHANGES,
        ),
    ),
    Cmdlet("delete role", "Deletes a role.", "", (NAME, *CHANGES), Call("DELETE", ROLE)),
)


# Verbs that are more than one request --------------------------------------------------------------------------------


def _value_path(bound: Bound) -> str:
    return f"/kvstore/{quoted(bound['--key'])}"


def get_value(session: Session, bound: Bound) -> int:
    """The value alone; nothing at all for a key that was never set."""
    record = dialect(session, bound).get(_value_path(bound)) or {}
    if session.screen.as_json:
        session.screen.data(record)
    elif record.get("value") is not None:
        session.screen.value(str(record["value"]))
    return DONE


def set_value(session: Session, bound: Bound) -> int:
    """Compare and set. Without an option the key has to be absent."""
    expected, always = bound["--expected-value"], bound["--unconditional"]
    if expected is not None and always:
        raise Usage("--expected-value and --unconditional exclude each other.", "Give one of them.")
    body = {
        "key": bound["--key"],
        "newValue": bound["--value"],
        "expectedValue": expected,
        "expectedAbsent": expected is None and not always,
    }
    dialect(session, bound).change("PUT", _value_path(bound), body)
    return DONE


def assign(session: Session, bound: Bound) -> int:
    """Put servers into a region, one request each."""
    client, region, name = dialect(session, bound), bound["--region-id"], bound["--region-name"]
    if (region is None) == (name is None):
        raise Usage("A region is required.", "Give either --region-name or --region-id.")
    if region is None:
        known = region_ids(client)
        if name not in known:
            raise unknown_region(name, known)
        region = known[name]
    for server in bound["--server-ids"]:
        client.change("PUT", f"/databases/{quoted(bound['--db-name'])}/hosts", {"regionId": region, "serverId": server})
    return DONE


def unassign(session: Session, bound: Bound) -> int:
    """Take servers out of their region."""
    client = dialect(session, bound)
    for server in bound["--server-ids"]:
        client.change("DELETE", f"/databases/{quoted(bound['--db-name'])}/hosts", {"serverId": server})
    return DONE


def balance(session: Session, bound: Bound) -> int:
    """Set or drop the default and the prefilter of one database or of all."""
    if bool(bound["--db-name"]) == bound["--is-global"]:
        raise Usage("A database is required.", "Give either --db-name or --is-global.")
    only_one(bound, "--default", "--unregister-default")
    only_one(bound, "--prefilter", "--unregister-prefilter")
    body = {
        "isGlobal": bound["--is-global"],
        "dbName": bound["--db-name"],
        "defaultLbQuery": bound["--default"],
        "prefilter": bound["--prefilter"],
    }
    drop = {"unregisterDefaultLbQuery": bound["--unregister-default"], "unregisterPrefilter": bound["--unregister-prefilter"]}
    dialect(session, bound).change("POST", "/databases/loadBalancerConfig", body, **drop)
    return DONE


def _process_for_clients(session: Session, bound: Bound) -> Json | None:
    path = f"/databases/{quoted(bound['--db-name'])}/sqlConnection"
    process: Json | None = dialect(session, bound).request("GET", path, query=bound["--connection-properties"]).value()
    return process


def connection(session: Session, bound: Bound) -> int:
    """The process a client may use, if there is one."""
    show(session, "Process", _process_for_clients(session, bound))
    return DONE


def check_connection(session: Session, bound: Bound) -> int:
    """Silent and 0 if there is one."""
    if _process_for_clients(session, bound):
        return DONE
    session.screen.error(f"{bound['--db-name']} has no process for clients.", "See dkv show database.")
    return FAILED


def create_role(session: Session, bound: Bound) -> int:
    """A role with one permission, or with its sub-roles only."""
    method = "*" if bound["--any-method"] else (bound["--method"] or "").upper()
    permissions = [{"method": method, "url": bound["--url"]}] if bound["--url"] else []
    body = {"name": bound["--name"], "subRoles": bound["--sub-roles"] or [], "authorizedRequests": permissions}
    show(session, "Role", dialect(session, bound).change("PUT", f"/policies/roles/{quoted(bound['--name'])}", body))
    return DONE
