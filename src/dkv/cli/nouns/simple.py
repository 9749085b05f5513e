"""CLI: verbs that are one request each, as rows of a table, and the few lines that carry such a row out."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from dkv.cli.binding import Bound, Call, Cmdlet, Param
from dkv.cli.errors import DONE, FAILED, Usage
from dkv.cli.nouns.databases import only_one
from dkv.cli.nouns.dialect_client import CHANGES, DB_NAME, SHARED, DialectClient, part
from dkv.cli.nouns.printing import show
from dkv.cli.session import Session
from dkv.client import Json

KEY = Param("--key", "text", "the key", required=True)
POLICY = Param("--policy-name", "text", "the policy", required=True)
NAME = Param("--name", "text", "its name", required=True)
SERVERS = Param("--server-ids", "words", "the servers", required=True)
PROPERTIES = Param("--connection-properties", "pairs", "what a client asks for", default={})

VERBS = (
    Cmdlet("get value", "Reads a value all managers agree on.", "nouns.simple:get_value", (KEY, *SHARED)),
    Cmdlet(
        "set value",
        "Writes a value all managers agree on, if it was absent or as expected.",
        "nouns.simple:set_value",
        (
            KEY,
            Param("--value", "any", "the value", required=True),
            Param("--expected-value", "any", "what it has to be before"),
            Param("--unconditional", "switch", "whatever it was", default=False),
            *CHANGES,
        ),
    ),
    Cmdlet("create region", "Names a region.", "", (NAME, *CHANGES), Call("POST", "/regions", "Region", (("name", "--name"),))),
    Cmdlet(
        "delete region",
        "Forgets a region.",
        "",
        (Param("--region-id", "number", "the region", required=True, low=0, high=10**9), *CHANGES),
        Call("DELETE", "/regions/{--region-id}"),
    ),
    Cmdlet("get regions", "Lists regions.", "", SHARED, Call("GET", "/regions", "Region", many=True)),
    Cmdlet(
        "add region-assignment",
        "Puts servers into a region for a database.",
        "nouns.simple:assign",
        (
            DB_NAME,
            Param("--region-name", "text", "the region"),
            Param("--region-id", "number", "the region", low=0, high=10**9),
            SERVERS,
            *CHANGES,
        ),
    ),
    Cmdlet(
        "remove region-assignment",
        "Takes servers out of their region for a database.",
        "nouns.simple:unassign",
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
        "Names a load-balancer policy.",
        "",
        (POLICY, Param("--lb-query", "text", "its query", required=True), *CHANGES),
        Call(
            "POST",
            "/databases/loadBalancerPolicy/{--policy-name}",
            body=(("policyName", "--policy-name"), ("lbQuery", "--lb-query")),
        ),
    ),
    Cmdlet(
        "delete load-balancer",
        "Forgets a load-balancer policy.",
        "",
        (POLICY, *CHANGES),
        Call("DELETE", "/databases/loadBalancerPolicy/{--policy-name}"),
    ),
    Cmdlet(
        "get load-balancer-config",
        "Which policies are used where.",
        "",
        SHARED,
        Call("GET", "/databases/loadBalancerConfigs?orderBy=dbName", "LoadBalancerConfig", many=True),
    ),
    Cmdlet(
        "set load-balancer-config",
        "Says which policy is used where.",
        "nouns.simple:balance",
        (
            DB_NAME._replace(required=False),
            Param("--is-global", "switch", "for every database", default=False),
            Param("--default", "text", "the query used when a client names none"),
            Param("--unregister-default", "switch", "use none", default=False),
            Param("--prefilter", "text", "the query that always applies"),
            Param("--unregister-prefilter", "switch", "apply none", default=False),
            *CHANGES,
        ),
    ),
    Cmdlet("get sql-connection", "The process a client may use.", "nouns.simple:connection", (DB_NAME, PROPERTIES, *SHARED)),
    Cmdlet(
        "check sql-connection",
        "Whether there is a process for clients.",
        "nouns.simple:check_connection",
        (DB_NAME, PROPERTIES, *SHARED),
    ),
    Cmdlet("get effective-license", "What the licence says.", "", SHARED, Call("GET", "/policies/license", "json")),
    Cmdlet("get kubernetes-config", "What is known of Kubernetes.", "", SHARED, Call("GET", "/diagnostics/kube", "json")),
    Cmdlet("get certificate-info", "Which certificates are trusted.", "", SHARED, Call("GET", "/peers/certificates", "json")),
)


def run(session: Session, bound: Bound, call: Call) -> int:
    """Send what a row says and print the answer."""
    door = DialectClient(session, bound)
    path = re.sub(r"\{(--[a-z-]+)\}", lambda found: part(bound[found[1]]), call.path)
    query: dict[str, Any] = {name: bound[option] for name, option in call.query}
    if call.many:
        address, _, order = path.partition("?orderBy=")
        show(session, call.shape, door.items(address, order))
        return DONE
    if call.method == "GET":
        found: Any = door.get(path, **query)
    else:
        found = door.change(call.method, path, _body(call, bound), **query)
    if call.shape == "json":
        session.screen.data(found)
    elif call.shape:
        show(session, call.shape, found)
    return DONE


def _body(call: Call, bound: Bound) -> Json | None:
    """The body of a row; an option with no field of its own is the whole body."""
    if not call.body:
        return None
    body: Json = {}
    for field, option in call.body:
        body |= bound[option] if not field else {field: bound[option]}
    return body


# What is a little more than a row --------------------------------------------------------------------------------


def _value(bound: Bound) -> str:
    return f"/kvstore/{quote(bound['--key'], safe='')}"


def get_value(session: Session, bound: Bound) -> int:
    """The value alone; nothing at all for a key that was never set."""
    found = DialectClient(session, bound).get(_value(bound)) or {}
    if session.screen.as_json:
        session.screen.data(found)
    elif found.get("value") is not None:
        session.screen.value(str(found["value"]))
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
    DialectClient(session, bound).change("PUT", _value(bound), body)
    return DONE


def assign(session: Session, bound: Bound) -> int:
    """Put servers into a region, one request each."""
    door, region = DialectClient(session, bound), bound["--region-id"]
    if (region is None) == (bound["--region-name"] is None):
        raise Usage("It is not said which region.", "Give either --region-name or --region-id.")
    if region is None:
        known = {one["name"]: one["id"] for one in door.items("/regions", "id")}
        if bound["--region-name"] not in known:
            raise Usage(f"There is no region '{bound['--region-name']}'.", f"There are: {', '.join(sorted(known))}.")
        region = known[bound["--region-name"]]
    for server in bound["--server-ids"]:
        door.change("PUT", f"/databases/{part(bound['--db-name'])}/hosts", {"regionId": region, "serverId": server})
    return DONE


def unassign(session: Session, bound: Bound) -> int:
    """Take servers out of their region."""
    door = DialectClient(session, bound)
    for server in bound["--server-ids"]:
        door.change("DELETE", f"/databases/{part(bound['--db-name'])}/hosts", {"serverId": server})
    return DONE


def balance(session: Session, bound: Bound) -> int:
    """Set or drop the default and the prefilter of one database or of all."""
    if bool(bound["--db-name"]) == bound["--is-global"]:
        raise Usage("It is not said for which database.", "Give either --db-name or --is-global.")
    only_one(bound, "--default", "--unregister-default")
    only_one(bound, "--prefilter", "--unregister-prefilter")
    body = {
        "isGlobal": bound["--is-global"],
        "dbName": bound["--db-name"],
        "defaultLbQuery": bound["--default"],
        "prefilter": bound["--prefilter"],
    }
    drop = {"unregisterDefaultLbQuery": bound["--unregister-default"], "unregisterPrefilter": bound["--unregister-prefilter"]}
    DialectClient(session, bound).change("POST", "/databases/loadBalancerConfig", body, **drop)
    return DONE


def _connection(session: Session, bound: Bound) -> Json | None:
    path = f"/databases/{part(bound['--db-name'])}/sqlConnection"
    door = DialectClient(session, bound)
    found: Json | None = door.parsed(door.fetch("GET", path, query=bound["--connection-properties"]))
    return found


def connection(session: Session, bound: Bound) -> int:
    """The process a client may use, if there is one."""
    show(session, "Process", _connection(session, bound))
    return DONE


def check_connection(session: Session, bound: Bound) -> int:
    """Silent and 0 if there is one."""
    if _connection(session, bound):
        return DONE
    session.screen.error(f"{bound['--db-name']} has no process for clients.", "See dkv show database.")
    return FAILED
