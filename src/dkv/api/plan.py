"""API: plans: which commands and transitions several requests would lead to, without making anything true.

The requests go through the very routes that would serve them, with a submitter that never commits (control/dry_run.py).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from fastapi import Request

from dkv.api.bodies import PlanBody, StepBody
from dkv.api.context import BOUND, DRY_RUN, Context, ManagerContext
from dkv.api.guard import LOOKING
from dkv.api.origin import CALLER
from dkv.api.problems import refuse
from dkv.api.routing import Router
from dkv.control.dry_run import DryRun
from dkv.wire import schemas, views

router = Router(prefix="/admin/v1", tags=["plans"])

PLANNABLE = re.compile(
    r"/admin/v1/stores(/.*)?"
    r"|/admin/v1/servers/[^/]+/replace-voter"
    r"|/admin/v1/tokens/[^/]+"
    r"|/admin/v1/join-tokens(/[^/]+)?"
    r"|/admin/v1/ca/rotation"
    r"|/api/1/(archives|processes|kvstore|regions|policies)(/.*)?"
    r"|/api/1/databases/[^/]+(/(options|shutdown|startplan|hosts|defaultRegion|hotCopy|hotCopySimple|storageGroups/[^/]+))?"
    r"|/api/1/databases/cancelHotCopy"
    r"|/api/1/databases/loadBalancer[A-Za-z]+(/[^/]+)?"
    r"|/api/1/peers/[^/]+(/(removeDomainState|processes))?"
)
"""Addresses all of whose changes are commands. What else a manager can do, such as to end, is no command: no plan."""

LOOKS = re.compile(r"/(admin/v1|api/1)/(?!events|metrics|plan|diagnostics/logs).*")
"""Addresses that may be looked at between two changes."""


REVISION = re.compile('"([0-9]{1,18})"')


async def bind(request: Request) -> None:
    """Bind a request that changes something to the revision in its If-Match, which a plan has. Raises Refusal where that says
    something else, or where the change is no command: it would be made whatever the revision is.
    """
    shown = request.headers.getlist("if-match")
    if not shown or request.method in LOOKING:
        return
    match = REVISION.fullmatch(shown[0].strip()) if len(shown) == 1 else None
    if match is None:
        raise refuse("bad_value", f"The header If-Match is {', '.join(shown)[:60]!r}.", 'Send the revision of one plan, as "17".')
    if not PLANNABLE.fullmatch(request.url.path):
        message = f"{request.method} {request.url.path[:200]} cannot be bound to a revision."
        raise refuse("cannot_plan", message, "Leave If-Match out: what this does is no command of the domain.")
    request.scope[BOUND] = int(match[1])


@router.post("/plan")
async def plan(body: PlanBody, context: Context, request: Request) -> schemas.Plan:
    """What the requests, in this order, would answer and lead to. Nothing is changed, whatever they are."""
    view = context.view
    dry_run = DryRun(view, context.manager.clock)
    manager = replace(context.manager, submitter=dry_run, dry_run=True)
    steps = []
    for step in body.steps:
        steps.append(await _step(request, manager, dry_run, step))
        await asyncio.sleep(0)  # a step waits for nothing by itself, and other requests must have their turns
    return {"revision": view.revision, "steps": steps}


async def _step(request: Request, manager: ManagerContext, dry_run: DryRun, step: StepBody) -> schemas.PlannedStep:
    path = unquote(step.path.partition("?")[0])  # as the application will read it
    if not (LOOKS if step.method == "GET" else PLANNABLE).fullmatch(path):
        message = f"{step.method} {path} cannot be planned."
        raise refuse("cannot_plan", message, "Changes of databases, archives, processes and servers can be planned.")
    before = len(dry_run.done)
    status, answer = await _call(request, manager, step)
    done = dry_run.done[before:]
    return {
        "method": step.method,
        "path": step.path,
        "status": status,
        "answer": answer,
        "commands": [views.planned_view(planned.command, planned.events, planned.refused) for planned in done],
    }


async def _call(request: Request, manager: ManagerContext, step: StepBody) -> tuple[int, Any]:
    """One request through this same application, with another manager context."""
    path, _, query = step.path.partition("?")
    body = b"" if step.body is None else json.dumps(step.body).encode()
    forwarded = [header for header in request.scope["headers"] if header[0] in (b"host", b"authorization")]
    headers = [*forwarded, (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if step.key:
        headers.append((b"idempotency-key", step.key.encode()))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": step.method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": request.scope.get("client"),
        "server": request.scope.get("server"),
        DRY_RUN: manager,
        CALLER: request.scope.get(CALLER),  # each request of a plan is judged by itself, for the same caller
    }
    response: dict[str, Any] = {"status": 500, "body": b""}

    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> MutableMapping[str, Any]:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: MutableMapping[str, Any]) -> None:
        response["status"] = message.get("status", response["status"])
        response["body"] += message.get("body", b"")

    await request.app.state.api(scope, receive, send)
    return response["status"], json.loads(response["body"]) if response["body"].strip() else None
