"""API: the native API under /admin/v1 and the NuoDB dialect under /api/1. Thin translations; judgement is elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from dkv.api import description, docs, events, hotcopies, maintenance, metrics, plan, problems, recovery, status, stores
from dkv.api.context import ManagerContext
from dkv.api.guard import Guard
from dkv.api.nuodb import routes as nuodb
from dkv.api.problems import known_parameters, plain_body
from dkv.api.streams import Streams

VERSION = "1"


def create_app(rooms: ManagerContext) -> FastAPI:
    """The application of one manager."""
    app = FastAPI(
        title="dkv manager",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        dependencies=[Depends(known_parameters), Depends(plain_body)],
    )
    app.state.rooms = rooms
    app.state.sampler = metrics.Sampler(rooms)
    app.state.streams = Streams(rooms)
    app.state.descriptions = {}
    native = (stores, maintenance, metrics, events, status, recovery, hotcopies, plan, docs, description)
    for router in (*(room.router for room in native), nuodb.router):
        app.include_router(router)
    problems.install(app)
    app.add_middleware(Guard, rooms=rooms)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await app.state.sampler.close()
    await app.state.streams.close()
