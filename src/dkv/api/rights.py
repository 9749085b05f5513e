"""API: the right that each route asks for (domain/rights.py), and which route a request is for.

A route that is missing here is reached by nobody once access control is on, and fails a test before that. Of two templates that
fit one address and have its method the one with the earlier literal part wins, as in the order of the routers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dkv.domain.rights import Right

OPEN, METRICS, READ, LOGS, VALUES = Right.OPEN, Right.METRICS, Right.READ, Right.LOGS, Right.VALUES
STATE, PASSWORDS, OPERATE, USERS, AUTHORITY = Right.STATE, Right.PASSWORDS, Right.OPERATE, Right.USERS, Right.AUTHORITY

ROUTES: Mapping[str, Mapping[str, Right]] = {
    "/healthz": {"GET": OPEN},
    "/readyz": {"GET": METRICS},
    "/metrics": {"GET": METRICS},
    "/scrape": {"GET": METRICS},
    "/discover-cluster-nodes": {"GET": METRICS},
    "/": {"GET": OPEN},  # the console's page: files that everybody may have
    "/console/{file}": {"GET": OPEN},
    "/docs": {"GET": READ},
    "/openapi.json": {"GET": READ},
    "/admin/v1/openapi.json": {"GET": READ},
    "/api/1/openapi.json": {"GET": READ},
    "/admin/v1/identity": {"GET": OPEN},
    "/admin/v1/live": {"GET": READ},
    "/admin/v1/logs": {"GET": LOGS},
    "/admin/v1/machines": {"GET": READ},
    "/admin/v1/metrics": {"GET": METRICS},
    "/admin/v1/numbers": {"GET": METRICS},
    "/admin/v1/domain": {"GET": READ},
    "/admin/v1/events": {"GET": READ},
    "/admin/v1/events/{sequence}": {"GET": READ},
    "/admin/v1/processes": {"GET": READ},
    "/admin/v1/tombstones": {"GET": READ},
    "/admin/v1/waiting": {"GET": READ},
    "/admin/v1/plan": {"POST": READ},  # each of its requests is judged by itself
    "/admin/v1/state": {"GET": STATE},
    "/admin/v1/servers/{server_id}/replace-voter": {"POST": OPERATE},
    "/admin/v1/stores": {"GET": READ, "POST": OPERATE},
    "/admin/v1/stores/{name}": {"GET": READ, "DELETE": OPERATE},
    "/admin/v1/stores/{name}/stop": {"POST": OPERATE},
    "/admin/v1/stores/{name}/instances": {"POST": OPERATE},
    "/admin/v1/stores/{name}/instances/{instance}": {"DELETE": OPERATE},
    "/admin/v1/stores/{name}/instances/{instance}/start": {"POST": OPERATE},
    "/admin/v1/stores/{name}/instances/{instance}/stop": {"POST": OPERATE},
    "/admin/v1/stores/{name}/rebalance": {"POST": OPERATE},
    "/admin/v1/stores/{name}/switchover": {"POST": OPERATE},
    "/admin/v1/stores/{name}/restart": {"POST": OPERATE, "DELETE": OPERATE},
    "/admin/v1/stores/{name}/options": {"POST": OPERATE},
    "/admin/v1/stores/{name}/groups/{group}/leader": {"GET": READ, "POST": OPERATE},
    "/admin/v1/stores/{name}/users": {"GET": READ, "POST": USERS},
    "/admin/v1/stores/{name}/users/{user}": {"DELETE": USERS},
    "/admin/v1/stores/{name}/users/{user}/passwords": {"POST": USERS, "DELETE": USERS},
    "/admin/v1/stores/{name}/access": {"POST": USERS},
    "/admin/v1/stores/{name}/secret": {"POST": AUTHORITY},
    "/admin/v1/stores/{name}/hot-copies": {"GET": READ, "POST": OPERATE},
    "/admin/v1/stores/{name}/hot-copies/{copy_id}": {"GET": READ, "DELETE": OPERATE},
    "/admin/v1/stores/{name}/ca": {"GET": READ},
    "/admin/v1/stores/{name}/ca/rotation": {"POST": AUTHORITY},
    "/admin/v1/ca": {"GET": OPEN},
    "/admin/v1/ca/rotation": {"POST": AUTHORITY},
    "/admin/v1/join": {"POST": OPEN},  # a join token is shown in its body
    "/admin/v1/join-tokens": {"GET": AUTHORITY, "POST": AUTHORITY},
    "/admin/v1/join-tokens/{token_id}": {"DELETE": AUTHORITY},
    "/admin/v1/tokens": {"GET": USERS, "POST": USERS},
    "/admin/v1/tokens/used": {"GET": READ},
    "/admin/v1/tokens/{token_id}": {"DELETE": USERS},
    "/api/1/peers": {"GET": READ},
    "/api/1/peers/certificates": {"GET": READ, "POST": AUTHORITY},
    "/api/1/peers/{server_id}": {"GET": READ, "DELETE": OPERATE},
    "/api/1/peers/{server_id}/shutdown": {"POST": OPERATE},
    "/api/1/peers/{server_id}/processes": {"DELETE": OPERATE},
    "/api/1/peers/{server_id}/removeDomainState": {"POST": OPERATE},
    "/api/1/databases": {"GET": READ},
    "/api/1/databases/loadBalancerPolicies": {"GET": READ},
    "/api/1/databases/loadBalancerPolicy/{name}": {"POST": OPERATE, "DELETE": OPERATE},
    "/api/1/databases/loadBalancerConfigs": {"GET": READ},
    "/api/1/databases/loadBalancerConfig": {"POST": OPERATE},
    "/api/1/databases/dataEncryption": {"POST": OPERATE},
    "/api/1/databases/hotCopyStatus": {"GET": READ},
    "/api/1/databases/cancelHotCopy": {"POST": OPERATE},
    "/api/1/databases/{name}": {"GET": READ, "PUT": OPERATE, "DELETE": OPERATE},
    "/api/1/databases/{name}/versions": {"GET": READ},
    "/api/1/databases/{name}/upgrade": {"POST": OPERATE},
    "/api/1/databases/{name}/reportTimestamp": {"GET": READ},
    "/api/1/databases/{name}/resetState": {"POST": OPERATE},
    "/api/1/databases/{name}/hosts": {"PUT": OPERATE, "DELETE": OPERATE},
    "/api/1/databases/{name}/defaultRegion": {"PUT": OPERATE},
    "/api/1/databases/{name}/hotCopyStatus": {"GET": READ},
    "/api/1/databases/{name}/hotCopySimple": {"POST": OPERATE},
    "/api/1/databases/{name}/hotCopy": {"POST": OPERATE},
    "/api/1/databases/{name}/startplan": {"POST": READ},  # answers a plan and changes nothing
    "/api/1/databases/{name}/capture": {"GET": READ},
    "/api/1/databases/{name}/options": {"POST": OPERATE},
    "/api/1/databases/{name}/shutdown": {"POST": OPERATE},
    "/api/1/databases/{name}/storageGroups": {"GET": READ},
    "/api/1/databases/{name}/storageGroups/{group}": {"DELETE": OPERATE},
    "/api/1/databases/{name}/sqlConnection": {"GET": READ},
    "/api/1/regions": {"GET": READ, "POST": OPERATE},
    "/api/1/regions/{region_id}": {"GET": READ, "PUT": OPERATE, "DELETE": OPERATE},
    "/api/1/kvstore/{name}": {"GET": VALUES, "PUT": OPERATE},
    "/api/1/policies/users": {"GET": READ},
    "/api/1/policies/users/{name}": {"PUT": USERS, "DELETE": USERS},
    "/api/1/policies/users/{name}/roles": {"POST": USERS},
    "/api/1/policies/users/{name}/credentials": {"POST": USERS},
    "/api/1/policies/roles": {"GET": READ},
    "/api/1/policies/roles/{name}": {"PUT": USERS, "POST": USERS, "DELETE": USERS},
    "/api/1/policies/license": {"GET": READ, "POST": OPERATE},
    "/api/1/diagnostics/log": {"POST": READ},  # the first call of nuocmd show domain
    "/api/1/diagnostics/config": {"GET": READ},
    "/api/1/diagnostics/config/{server_id}": {"GET": READ},
    "/api/1/diagnostics/kube": {"GET": READ},
    "/api/1/diagnostics/captureDomainState": {"GET": LOGS},
    "/api/1/diagnostics/logs": {"GET": LOGS},
    "/api/1/processes": {"GET": READ, "POST": OPERATE},
    "/api/1/processes/exited": {"GET": READ},
    "/api/1/processes/availableOptions": {"GET": READ},
    "/api/1/processes/externalStartup": {"POST": OPERATE},
    "/api/1/processes/{start_id}": {"GET": READ, "DELETE": OPERATE},
    "/api/1/processes/{start_id}/options": {"GET": READ},
    "/api/1/archives": {"GET": READ, "POST": OPERATE},
    "/api/1/archives/addStorageGroup": {"POST": OPERATE},
    "/api/1/archives/removeStorageGroup": {"POST": OPERATE},
    "/api/1/archives/modifyObserverStatus/{archive_id}": {"POST": OPERATE},
    "/api/1/archives/{archive_id}": {"GET": READ, "PUT": OPERATE, "DELETE": OPERATE},
}
"""By the address's template and the method."""

SHORTENED = ("/admin/v1/identity", "/admin/v1/ca")
"""Open routes that say more to who may read."""

UNMASKED = ("/api/1/databases/{name}", "maskPassword")
"""The route that answers a password in clear, and the parameter that has it do so unless it is said to be true."""

_DATABASE_IN = ("/api/1/databases/{name}", "/admin/v1/stores/{name}")
_WHOLE = ("/api/1/kvstore/{name}",)  # whose last part may hold slashes
_LONGEST = 8_192  # characters of an address


@dataclass(frozen=True)
class Matched:
    """The route that a request is for: its template, the rights of its methods, and the parts of its address by name.

    A database's name is called dbName, as NuoDB's constraints call it.
    """

    template: str
    rights: Mapping[str, Right]
    parts: Mapping[str, str]

    def right(self, method: str, query: Mapping[str, Sequence[str]]) -> Right | None:
        """What the method asks for; None for a method that the address does not have."""
        right = self.rights.get(method)
        template, parameter = UNMASKED
        if right is not None and self.template == template and any(value != "true" for value in query.get(parameter, ())):
            return PASSWORDS if method == "GET" else right
        return right


def match(path: str, method: str = "") -> Matched | None:
    """The route of an address: one that has the method, as the router looks for it, else any; None without one."""
    if len(path) > _LONGEST:
        return None
    other: Matched | None = None
    for template, pattern in _PATTERNS:
        if matched := pattern.fullmatch(path):
            matched_route = Matched(template, ROUTES[template], _parts(template, matched.groupdict()))
            if method in matched_route.rights:
                return matched_route
            other = other or matched_route
    return other


def _parts(template: str, groups: Mapping[str, str]) -> Mapping[str, str]:
    parts = {_camel(name): value for name, value in groups.items()}
    return parts | {"dbName": parts["name"]} if template.startswith(_DATABASE_IN) else parts


def names_in(template: str) -> set[str]:
    """The names of the parts of a template."""
    return set(re.findall(r"\{(\w+)\}", template))


def _pattern(template: str) -> re.Pattern[str]:
    part = ".+" if template in _WHOLE else "[^/]+"
    pieces = re.split(r"\{(\w+)\}", template)
    texts = [f"(?P<{piece}>{part})" if number % 2 else re.escape(piece) for number, piece in enumerate(pieces)]
    return re.compile("".join(texts), re.DOTALL)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


_PATTERNS = [(template, _pattern(template)) for template in sorted(ROUTES, key=lambda template: template.replace("{", "~"))]
