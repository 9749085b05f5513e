"""API: /api/1/diagnostics: a line for the log, a manager's configuration, its logs, the state it reads."""

from __future__ import annotations

import re
from typing import Annotated, Any, cast

from fastapi import Query, Request
from fastapi.responses import Response, StreamingResponse

from dkv.api.context import Context, Manager, ManagerContext
from dkv.api.dependencies import Actor
from dkv.api.nuodb import bundle, schemas
from dkv.api.nuodb.decommission import ask_other
from dkv.api.nuodb.registry_bodies import MessageBody
from dkv.api.nuodb.safe_regex import BadPattern, matches
from dkv.api.problems import Refusal, refuse
from dkv.api.routing import Router
from dkv.constants import OPEN_TO_ALL
from dkv.domain import records
from dkv.domain.model import Server, State
from dkv.domain.refusals import unknown_server
from dkv.domain.rules.texts import is_printable
from dkv.log import logger

log = logger("nuodb")

LONGEST_MESSAGE = 4_000  # characters kept of a line
LICENSE = "none"  # dkv has no licences; nuocmd show domain prints this text, so it also has what else has to be said

ZIP: dict[str, Any] = {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}

router = Router(prefix="/diagnostics")


@router.post("/log")
async def log_message(request: Request, body: MessageBody, manager: Manager, actor: Actor) -> schemas.Logged:
    """Write a line into this manager's log; nuocmd begins with it to learn the version and the time."""
    if not all(is_printable(line) for line in body.message.split("\n")):
        raise refuse("bad_value", "The message has characters that cannot be printed.", "Write lines of letters and signs.")
    if not manager.dry_run:
        log.info("message", text=body.message[:LONGEST_MESSAGE], actor=actor)
    license_type = LICENSE if request.app.state.api.access_control == "on" else f"{LICENSE}; {OPEN_TO_ALL}"
    return {"serverTimeMillis": manager.clock(), "serverVersion": manager.version, "licenseType": license_type}


@router.get("/config")
async def own_config(context: Context) -> schemas.Config:
    """How the manager that answers is configured."""
    return _config(context.manager, context.state)


@router.get("/config/{server_id}")
async def config_of(server_id: str, context: Context) -> schemas.Config:
    """How a manager is configured; another one is asked itself."""
    state = context.state
    if server_id == context.manager.server_id:
        return _config(context.manager, state)
    server = state.servers.get(server_id)
    if server is None:
        raise Refusal(unknown_server(server_id, state.servers))
    return cast(schemas.Config, await ask_other(context.manager.peers.fetch, server, "/api/1/diagnostics/config"))


def _config(manager: ManagerContext, state: State) -> schemas.Config:
    """`properties` are the settings; ThisServerId, agentPort and the service "rest" are what nuocmd looks for."""
    own = state.servers.get(manager.server_id)
    settings = {
        "".join(w.capitalize() if i else w for i, w in enumerate(name.split("_"))): text
        for name, text in manager.configured().items()
    }
    labels = [pair.partition("=") for pair in settings.pop("labels", "").split(",") if pair]
    policies = {
        name: {"lbQuery": records.value_of(state, "load_balancer", name)} for name in records.keys_of(state, "load_balancer")
    }
    return {
        "properties": {**settings, "ThisServerId": manager.server_id, "agentPort": str(own.nuodb_port if own else manager.port)},
        "initialMembership": {server.server_id: _member(manager, server) for _, server in sorted(state.servers.items())},
        "otherServices": ["rest"],
        "statsPlugins": {},
        "loadBalancers": policies,
        "labels": {name: text for name, _, text in labels},
    }


def _member(manager: ManagerContext, server: Server) -> schemas.Member:
    return {"transport": f"{server.host}:{server.port}", "version": manager.version}


@router.get("/kube")
async def kubernetes() -> schemas.Kubernetes:
    """Nothing: dkv does not run by Kubernetes and has none of its objects."""
    return {"statefulsets": {}, "daemonSets": {}, "deployments": {}, "pods": {}, "volumes": {}}


@router.get("/captureDomainState")
async def capture_state(manager: Manager) -> schemas.DomainState:
    """The whole state as its records, without what is secret."""
    snapshot = await manager.submitter.snapshot()
    return bundle.told_state(snapshot)


@router.get("/logs", response_class=StreamingResponse, responses={200: ZIP})
async def logs(
    manager: Manager,
    includeThreadDump: bool = False,
    includeCoreFiles: bool = False,
    modifiedAfterEpochSec: Annotated[int, Query(ge=0)] = 0,
    ignore: str = "",
    excludeSensitiveFiles: bool = True,
) -> Response:
    """A ZIP of what this server wrote: manager, engines, engines before them, and the state as it reads it."""
    try:
        matches(ignore, "")
    except BadPattern as error:
        raise refuse("bad_value", f"ignore is not a regular expression: {error}.", "Write for example .*[.]old") from error
    request = bundle.BundleRequest(includeThreadDump, includeCoreFiles, modifiedAfterEpochSec, ignore)
    packed = await bundle.bundle(manager, request)
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", f"dkv-logs-{manager.server_id}-{manager.clock()}.zip")
    # Without quotes: nuocmd would take them for a part of the name (docs/reference/nuodb.md#transport).
    headers = {"Content-Disposition": f"attachment; filename={name}"}
    return StreamingResponse(bundle.chunks(packed), media_type="application/zip", headers=headers)
