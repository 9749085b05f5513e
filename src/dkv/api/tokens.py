"""API: tokens of programs and people. A token's secret is shown in the one answer to its creation, and kept nowhere."""

from __future__ import annotations

import asyncio
import secrets
from typing import Annotated

from fastapi import Request
from pydantic import Field

from dkv.access import tokens as secret_of
from dkv.api.bodies import Body
from dkv.api.context import Context, Manager, ManagerContext
from dkv.api.dependencies import Key, accepted
from dkv.api.problems import refuse
from dkv.api.routing import Router
from dkv.domain.access import Token
from dkv.domain.admission import TOKEN_LIVES
from dkv.domain.model import Server
from dkv.domain.orders import CreateToken, DeleteToken
from dkv.wire import schemas

router = Router(prefix="/admin/v1/tokens", tags=["access"])

RANDOM_BYTES = secret_of.ID_BYTES + secret_of.SECRET_BYTES


class TokenBody(Body):
    """A new token: its role, and how long it lives in ms. With a user it never allows more than that user may."""

    role: Annotated[str, Field(min_length=1)]
    name: str = ""
    user: str = ""
    lasts: Annotated[int, Field(ge=0, le=2**53)] = TOKEN_LIVES


@router.get("")
async def get_tokens(request: Request, context: Context) -> schemas.Tokens:
    """Every token with its role, its end, and when a manager took it last; never its secret."""
    now, state = context.manager.clock(), context.state
    others = [server for name, server in sorted(state.servers.items()) if name != context.manager.server_id and server.alive]
    answers = await asyncio.gather(*(_used_at(context.manager, server) for server in others))
    used = _used_here(request)
    for answer in answers:
        used |= {token_id: max(at, used.get(token_id, 0)) for token_id, at in answer.items()}
    return {"tokens": [_view(token, now, used.get(token.token_id)) for _, token in sorted(state.tokens.items())]}


@router.get("/used")
async def used_tokens(request: Request) -> schemas.TokensUsed:
    """When this manager took each token last: it is kept in its memory only."""
    return {"used": _used_here(request)}


def _used_here(request: Request) -> dict[str, int]:
    control = request.app.state.api.control
    return dict(control.used) if control else {}


async def _used_at(manager: ManagerContext, server: Server) -> dict[str, int]:
    """The same of another manager; nothing while it does not answer."""
    try:
        async with asyncio.timeout(manager.peers.patience):
            answer = await manager.peers.fetch(server, "/admin/v1/tokens/used", manager.peers.patience)
        return {str(token_id): int(at) for token_id, at in answer["used"].items()}
    except (OSError, ValueError, KeyError):
        return {}


@router.post("", status_code=201)
async def create_token(body: TokenBody, context: Context, key: Key) -> schemas.TokenMade:
    """Make a token. Repeated with one Idempotency-Key it is refused, because nobody has the secret any more."""
    manager = context.manager
    made = secret_of.new_secret(secrets.token_bytes(RANDOM_BYTES))
    command = CreateToken(
        token_id=made.token_id, hashed_secret=made.hashed, role=body.role, name=body.name, user=body.user, lasts=body.lasts
    )
    decision = accepted(await manager.submitter.submit(command, key))
    if decision.answer.get("token") != made.token_id:
        raise refuse(
            "record_exists",
            f"The token {decision.answer.get('token')} was made by this request already, and its secret is shown only once.",
            "Delete that token, and make another one with another Idempotency-Key.",
        )
    return {"result": "Created", "token": _view(decision.state.tokens[made.token_id], manager.clock()), "secret": made.text}


@router.delete("/{token_id}")
async def delete_token(token_id: str, manager: Manager, key: Key) -> schemas.TokenDeleted:
    """Have no manager take a token any more."""
    accepted(await manager.submitter.submit(DeleteToken(token_id=token_id), key))
    return {"result": "Deleted", "id": token_id}


def _view(token: Token, now: int, used: int | None = None) -> schemas.Token:
    return {
        "id": token.token_id,
        "name": token.name,
        "role": token.role,
        "user": token.user,
        "madeBy": token.made_by,
        "madeAt": token.made_at,
        "expiresAt": token.expires_at,
        "expired": now >= token.expires_at,
        "lastUsed": used,
    }
