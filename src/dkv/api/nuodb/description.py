"""API: /api/1/openapi.json, the OpenAPI description of the NuoDB dialect."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from dkv.api.description import ADDRESS, describe

router = APIRouter(include_in_schema=False)


@router.get(ADDRESS)
async def nuodb(request: Request) -> Response:
    """The NuoDB dialect."""
    return JSONResponse(describe(request.app.state.api, of_nuodb=True))
