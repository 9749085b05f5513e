"""API package: the native API under /admin/v1 and the NuoDB dialect under /api/1, two applications behind one address."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Literal

from fastapi import APIRouter, Depends, FastAPI
from starlette.routing import BaseRoute
from starlette.types import Message, Receive, Scope, Send

from dkv.api import (
    access,
    authority,
    console_files,
    database_users,
    description,
    docs,
    events,
    hotcopies,
    live,
    logs,
    machines,
    maintenance,
    metrics,
    numbers,
    plan,
    problems,
    prometheus,
    recovery,
    servers,
    status,
    stores,
    tokens,
)
from dkv.api.access import AccessControl
from dkv.api.context import ManagerContext
from dkv.api.description import Dialect
from dkv.api.guard import Guard
from dkv.api.latencies import Latencies
from dkv.api.nuodb import errors, pagination
from dkv.api.nuodb import routes as nuodb
from dkv.api.problems import known_parameters, plain_body
from dkv.api.streams import Streams

VERSION = "1"
NATIVE = (
    authority,
    stores,
    maintenance,
    machines,
    metrics,
    numbers,
    prometheus,
    logs,
    events,
    live,
    status,
    recovery,
    servers,
    hotcopies,
    tokens,
    database_users,
    plan,
    docs,
    description,
    console_files,
)


class Api:
    """The API of one manager, as an ASGI application. Each dialect answers and refuses by itself. Without `control` whoever
    reaches it may do everything."""

    def __init__(self, manager: ManagerContext, control: AccessControl | None = None) -> None:
        self.manager = manager
        self.control = control
        self.sampler = metrics.Sampler(manager)
        self.examination = machines.Examination()
        self.streams = Streams(manager)
        self.latencies = Latencies(manager)
        self.hub = live.Hub(manager, self.latencies, judged=control is not None)
        self.reporter = access.Reporter(control) if control else None
        native = self._application(False, problems.answer)
        dialect = self._application(True, errors.answer)
        self.dialects = (Dialect(native, "Problem", "application/problem+json"), Dialect(dialect, "Error", "application/json"))
        self.access_control: Literal["on", "off"] = "on" if control else "off"
        self.documents: dict[bool | None, description.Json] = {}
        self.answered: Counter[str] = Counter()  # requests by the status of their answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        spoken = scope["type"] == "http" and errors.speaks(scope["path"])

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.answered[str(message["status"])] += 1
            await send(message)

        await self.dialects[spoken].app(scope, receive, counting)

    def _application(self, of_nuodb: bool, answer: problems.Answer) -> FastAPI:
        app = FastAPI(
            title="dkv manager",
            version=VERSION,
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            redirect_slashes=False,
            lifespan=_lifespan,
            routes=list(_routes(of_nuodb, self.control is not None)),
        )
        app.state.api = self
        problems.install(app, answer)
        if self.control and self.reporter:
            app.add_middleware(access.Access, manager=self.manager, control=self.control, reporter=self.reporter, answer=answer)
        else:
            app.add_middleware(access.Uncontrolled)
        app.add_middleware(Guard, manager=self.manager, answer=answer)
        return app


@cache
def _routes(of_nuodb: bool, judged: bool) -> Sequence[BaseRoute]:
    """The routes of one dialect. They hold nothing of a manager, and FastAPI takes tenths of a second to make them ready."""
    checks = [Depends(access.refuse_unjudged)] if judged else []
    checks.append(Depends(plan.bind))
    checks += [Depends(pagination.known_parameters if of_nuodb else known_parameters), Depends(plain_body)]
    router = APIRouter(dependencies=checks)
    for part in [nuodb.router] if of_nuodb else [module.router for module in NATIVE]:
        router.include_router(part)
    return router.routes


def create_app(manager: ManagerContext, control: AccessControl | None = None) -> Api:
    """The application of one manager, with access control if there is a `control`."""
    return Api(manager, control)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await app.state.api.sampler.close()
    await app.state.api.streams.close()
    await app.state.api.hub.close()
    if app.state.api.reporter:
        await app.state.api.reporter.close()
