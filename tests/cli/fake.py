"""A small domain of managers in memory that keeps the REST contract of /admin/v1, for tests of client and cli.

Each answer is held against the type that the real route answers with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import TypeAdapter

from dkv.client import Endpoint, ManagerUnreachable, Reply, Request
from dkv.wire import schemas

Json = dict[str, Any]
STORES = r"/admin/v1/stores"
STORE, INSTANCE = rf"{STORES}/([^/]+)", rf"{STORES}/([^/]+)/instances/([^/]+)"
ROUTES: list[tuple[str, str, str, TypeAdapter[Any]]] = [
    ("GET", r"/admin/v1/domain", "domain", TypeAdapter(schemas.Domain)),
    ("GET", STORES, "list_stores", TypeAdapter(schemas.Stores)),
    ("POST", STORES, "create", TypeAdapter(schemas.Store | schemas.StoreChecked)),
    ("GET", STORE, "get", TypeAdapter(schemas.Store)),
    ("DELETE", STORE, "delete", TypeAdapter(schemas.StoreRemoved)),
    ("POST", rf"{STORE}/stop", "stop_store", TypeAdapter(schemas.StoreStopping)),
    ("POST", rf"{STORE}/instances", "add", TypeAdapter(schemas.Store)),
    ("DELETE", INSTANCE, "remove", TypeAdapter(schemas.InstanceRemoved)),
    ("POST", rf"{INSTANCE}/start", "start", TypeAdapter(schemas.InstanceStarted)),
    ("POST", rf"{INSTANCE}/stop", "stop", TypeAdapter(schemas.InstanceStopped)),
    ("GET", r"/admin/v1/metrics", "metrics", TypeAdapter(schemas.Metrics)),
    ("GET", r"/admin/v1/events", "events", TypeAdapter(schemas.Events)),
    ("GET", r"/healthz", "health", TypeAdapter(schemas.Status)),
]


EVENT = {
    "sequence": 1,
    "revision": 1,
    "at": 1767225600000,
    "database": "",
    "subject": "server s1",
    "kind": "server.joined",
    "because": "its manager started",
    "change": "",
    "command": "ServerJoined",
    "actor": "s1",
    "entry": "",
    "startId": None,
    "archiveId": None,
    "cause": None,
    "ordered": False,
    "text": "the manager of server s1 is here",
}


VACANT = {
    "term": 0,
    "phase": "VACANT",
    "open": False,
    "serving": False,
    "leader": None,
    "leaderStartId": None,
    "leaderEndpoint": None,
    "inSync": [],
    "required": [],
    "requiredEndpoints": [],
    "readers": [],
    "joining": [],
    "enforcements": [],
    "handover": None,
    "switchover": None,
    "waitsFor": None,
    "canLoseForConfirmed": 0,
    "canLoseForWrites": 0,
    "placement": "",
}
"""A group of a store that was never started."""


class Problem(Exception):
    def __init__(self, status: int, code: str, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.body = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": detail, "hint": hint}
        self.status = status


class Clock:
    """Virtual seconds: sleeping is advancing, so that no test waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def __call__(self) -> float:
        return self.now


class FakeDomain:
    """Managers at 127.0.0.11:7801 and on. `down`, `outcomes` and `refusing` make them misbehave."""

    def __init__(self, servers: int = 2) -> None:
        self.clock = Clock()
        self.servers = {f"127.0.0.{11 + i}:7801": f"s{i + 1}" for i in range(servers)}
        self.uid = dict.fromkeys(self.servers, "uid-1")
        self.zones: dict[str, str] = {}
        self.down: set[str] = set()
        self.refusing: dict[str, Problem] = {}
        self.outcomes: dict[str, str] = {}
        self.stores: dict[str, Json] = {}
        self.answers: dict[str, Reply] = {}
        self._archive_ids: dict[str, int] = {}
        self.log: list[tuple[str, str, str]] = []
        self.bodies: list[Json] = []
        self.keys: list[str] = []
        self.drop_answers = 0
        self.on_request: Callable[[str, str, str], None] = lambda manager, method, path: None
        self.metric_rows: list[Json] = []
        self.here = ""
        self.query: dict[str, list[str]] = {}

    # -- transport ----------------------------------------------------------------------------------------------

    def send(self, endpoint: Endpoint, request: Request, timeout: float) -> Reply:
        text = str(endpoint)
        parts = urlsplit(request.target)
        self.on_request(text, request.method, parts.path)
        self.log.append((text, request.method, request.target))
        alias = text.replace("localhost", "127.0.0.11")
        if alias in self.down or alias not in self.servers:
            raise ManagerUnreachable(text, "nothing listens there (connection refused)")
        self.here, self.query = alias, parse_qs(parts.query)
        key = request.headers.get("Idempotency-Key", "")
        if key:
            self.keys.append(key)
        known = self.answers.get(f"{key} {request.method} {request.target}") if key else None
        reply = known or self._answer(request, parts.path)
        if key:
            self.answers[f"{key} {request.method} {request.target}"] = reply
        if self.drop_answers and request.method != "GET":
            self.drop_answers -= 1
            raise ManagerUnreachable(text, "it closed the connection without an answer", maybe_done=True)
        return reply

    def stream(self, endpoint: Endpoint, request: Request, timeout: float) -> Iterator[str]:
        after = int(request.headers["Last-Event-ID"])
        yield ": hello"
        for sequence in range(after + 1, after + 3):
            yield from (f"id: {sequence}", f'data: {{"sequence": {sequence}}}', "")

    def _answer(self, request: Request, path: str) -> Reply:
        try:
            for method, pattern, name, shape in ROUTES:
                match = re.fullmatch(pattern, path)
                if match and method == request.method:
                    body = json.loads(request.body) if request.body else {}
                    if body:
                        self.bodies.append(body)
                    if self.here in self.refusing and method != "GET":
                        raise self.refusing[self.here]
                    status, answer = getattr(self, name)(*map(unquote, match.groups()), *([body] if body else []))
                    shape.validate_python(answer, strict=True)
                    return Reply(status, {}, json.dumps(answer).encode())
            raise Problem(404, "not_found", "There is no such path.")
        except Problem as problem:
            return Reply(problem.status, {"content-type": "application/problem+json"}, json.dumps(problem.body).encode())

    # -- routes -------------------------------------------------------------------------------------------------

    def health(self) -> tuple[int, Json]:
        return 200, {"status": "ok"}

    def domain(self) -> tuple[int, Json]:
        servers = [
            {
                "serverId": server,
                "manager": text,
                "host": text.split(":")[0],
                "port": int(text.split(":")[1]),
                "alive": text not in self.down,
                "bootId": "b",
                "labels": {"zone": self.zones[server]} if server in self.zones else {},
                "isLocal": text == self.here,
                "engine": {"release": "9.1.2", "tls": False, "certificateDaysLeft": None},
                "certificateUntil": None,
                "certificateDaysLeft": None,
                "stateMember": None,
                "release": None,
                "level": None,
            }
            for text, server in self.servers.items()
        ]
        return 200, {
            "uid": self.uid[self.here],
            "revision": 1,
            "leaderServer": "s1",
            "level": 1,
            "servers": servers,
            "accessControl": "on",
        }

    def list_stores(self) -> tuple[int, Json]:
        return 200, {"stores": [self._view(store) for store in self.stores.values()]}

    def get(self, name: str) -> tuple[int, Json]:
        return 200, self._view(self._store(name))

    def create(self, body: Json) -> tuple[int, Json]:
        creation = {key: body.get(key) for key in ("instances", "groups", "replicationFactor", "minInSync")}
        known = self.stores.get(body["name"].lower())
        if known is not None:
            if known["creation"] != creation:
                output = f"The store {known['name']} exists with another topology."
                raise Problem(409, "store_differs", output, "See it with Get-DkvStore.")
            return 200, self._view(known)
        if self.query.get("check"):
            return 200, {"ok": True, "exists": False}
        texts = {server: text for text, server in self.servers.items()}
        store = {
            "name": body["name"],
            "creation": creation,
            "state": "NOT_RUNNING",
            "incarnation": {"major": 0, "minor": 0},
            "createdAt": 1767225600000,
            "minInSync": body.get("minInSync", 1),
            "appendFsync": "always",
            "replicationFactor": body["replicationFactor"],
            "options": {"wanted": {"max-memory": 0}, "kept": {}, "lacking": []},
            "open": False,
            "transport": {"tls": body.get("engineTls") == "on", "insecure": False, "authorities": ""},
            "tombstonesTrimmed": 0,
            "waiting": [],
            "operations": [],
            "restart": None,
            "revision": 1,
            "groups": [],
            "instances": [],
        }
        for group in body["groups"]:
            store["groups"].append(group | deepcopy(VACANT))
        for instance in body["instances"]:
            store["instances"].append(self._instance(instance, texts))
        self.stores[body["name"].lower()] = store
        return 201, self._view(store)

    def _instance(self, body: Json, texts: dict[str, str]) -> Json:
        manager = texts[body["server"]]
        return {
            "instanceName": body["instanceName"],
            "archiveId": self._archive_ids.setdefault(body["instanceName"], len(self._archive_ids)),
            "server": body["server"],
            "zone": self.zones.get(body["server"], ""),
            "manager": manager,
            "host": manager.split(":")[0],
            "clustronPort": body["clustronPort"],
            "clientPort": body["clientPort"],
            "group": body["group"],
            "path": None,
            "archiveState": "PROVISIONED",
            "state": "Created",
            "role": None,
            "inSync": False,
            "reason": None,
            "hint": "",
            "hintParts": [],
            "process": None,
            "since": 0.0,
        }

    def delete(self, name: str) -> tuple[int, Json]:
        store = self._store(name)
        if any(i["state"] in ("Running", "Starting") for i in self._view(store)["instances"]):
            raise Problem(409, "store_running", f"The store {store['name']} is running.", f"Stop-DkvStore {store['name']}")
        del self.stores[name.lower()]
        return 200, {"name": name, "result": "Removed"}

    def stop_store(self, name: str) -> tuple[int, Json]:
        return 202, {"name": self._store(name)["name"], "result": "Stopping"}

    def add(self, name: str, body: Json) -> tuple[int, Json]:
        store = self._store(name)
        texts = {server: text for text, server in self.servers.items()}
        for instance in body["instances"]:
            if any(i["instanceName"] == instance["instanceName"] for i in store["instances"]):
                raise Problem(409, "instance_exists", f"{instance['instanceName']} is there already.", "Use another name.")
            store["instances"].append(self._instance({"group": store["groups"][0]["name"], **instance}, texts))
        return 201, self._view(store)

    def remove(self, name: str, instance: str) -> tuple[int, Json]:
        store = self._store(name)
        store["instances"].remove(self._node(store, instance))
        return 200, {"instanceName": instance, "result": "Removed"}

    def start(self, name: str, instance: str) -> tuple[int, Json]:
        node = self._node(self._store(name), instance)
        if node["manager"] != self.here:
            raise Problem(409, "wrong_manager", "Another manager owns it.")
        self._advance(self._store(name))
        if node["state"] in ("Running", "Starting"):
            return 202, {
                "instanceName": instance,
                "result": "Already running",
                "startId": 1,
                "store": self._view(self._store(name)),
            }
        node |= {"state": "Starting", "since": self.clock.now, "reason": None}
        return 202, {"instanceName": instance, "result": "Started", "startId": 1}

    def stop(self, name: str, instance: str) -> tuple[int, Json]:
        node = self._node(self._store(name), instance)
        if node["state"] in ("Created", "Stopped"):
            return 202, {"instanceName": instance, "result": "Already stopped"}
        node |= {"state": "Stopping", "since": self.clock.now}
        return 202, {"instanceName": instance, "result": "Stopping"}

    def metrics(self) -> tuple[int, Json]:
        return 200, {"metrics": self.metric_rows, "updated": 1767225600000, "silentServers": [], "refusedRequests": {}}

    def events(self) -> tuple[int, Json]:
        return 200, {"events": [EVENT], "oldest": 1}

    # -- what the engines would do ------------------------------------------------------------------------------

    def _advance(self, store: Json) -> None:
        for instance in store["instances"]:
            outcome = self.outcomes.get(instance["instanceName"], "runs")
            late = self.clock.now - instance["since"] >= 0.2
            if instance["state"] == "Starting" and late and outcome == "runs":
                instance |= {
                    "state": "Running",
                    "process": {
                        "startId": 1,
                        "nodeId": 1,
                        "pid": 42,
                        "state": "MONITORED",
                        "engineState": "RUNNING",
                        "loadingPercent": 100,
                    },
                }
            elif instance["state"] == "Starting" and late and outcome.startswith("fails: "):
                instance |= {"state": "Failed", "reason": outcome.removeprefix("fails: ")}
            elif instance["state"] == "Stopping" and late and outcome != "hangs":
                instance |= {"state": "Stopped", "process": None}
            if outcome.startswith("waits for "):
                group = next(g for g in store["groups"] if g["name"] == instance["group"])
                group["waitsFor"] = {
                    "for": [outcome.removeprefix("waits for ")],
                    "since": 1767225600000,
                    "reason": "it was in sync last",
                    "hint": "Start it.",
                    "hintParts": [],
                }
                instance |= {"reason": f"it {outcome}: it was in sync last", "hint": "Start it."}

    def _view(self, store: Json) -> Json:
        self._advance(store)
        states = {("Stopped" if i["state"] in ("Created", "Failed") else i["state"]) for i in store["instances"]}
        status = "NoInstances" if not states else states.pop() if len(states) == 1 else "Partial"
        view = {k: v for k, v in store.items() if k != "creation"} | {"status": status}
        return dict(json.loads(json.dumps(view)))

    def _store(self, name: str) -> Json:
        if name.lower() not in self.stores:
            near = next(iter(s["name"] for s in self.stores.values()), "")
            raise Problem(404, "unknown_store", f"There is no store '{name}'.", f"Did you mean {near}?" if near else "")
        return self.stores[name.lower()]

    def _node(self, store: Json, instance: str) -> Json:
        for candidate in store["instances"]:
            if candidate["instanceName"] == instance:
                return candidate  # type: ignore[no-any-return]
        raise Problem(404, "unknown_instance", f"There is no instance '{instance}'.")
