"""API: tokens of programs and people. A token's secret is shown in the one answer to its creation, and kept nowhere."""

from __future__ import annotations

import secrets
from typing import Annotated

from pydantic import Field

from dkv.access import tokens as secret_of
from dkv.api.bodies import Body
from dkv.api.context import Context, Manager
from dkv.api.dependencies import Actor, Giver, Key, accepted
from dkv.api.problems import refuse
from dkv.api.routing import Router
from dkv.domain.access import Token
from dkv.domain.admission import TOKEN_LIVES
from dkv.domain.commands import CreateToken, DeleteToken
from dkv.domain.identities import user_named
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
async def get_tokens(context: Context) -> schemas.Tokens:
    """Every token with its role and its end; never its secret."""
    now = context.manager.clock()
    return {"tokens": [_view(token, now) for _, token in sorted(context.state.tokens.items())]}


@router.post("", status_code=201)
async def create_token(body: TokenBody, context: Context, key: Key, giver: Giver) -> schemas.TokenMade:
    """Make a token. Repeated with one Idempotency-Key it is refused, because nobody has the secret any more."""
    manager, owner = context.manager, user_named(context.state, body.user)
    giver.gives([body.role, *(owner.roles if owner else ())], context.state)
    made = secret_of.new_secret(secrets.token_bytes(RANDOM_BYTES))
    command = CreateToken(
        actor=giver.actor,
        token_id=made.token_id,
        hashed_secret=made.hashed,
        role=body.role,
        name=body.name,
        user=body.user,
        lasts=body.lasts,
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
async def delete_token(token_id: str, manager: Manager, key: Key, actor: Actor) -> schemas.TokenDeleted:
    """Have no manager take a token any more."""
    accepted(await manager.submitter.submit(DeleteToken(actor=actor, token_id=token_id), key))
    return {"result": "Deleted", "id": token_id}


def _view(token: Token, now: int) -> schemas.Token:
    return {
        "id": token.token_id,
        "name": token.name,
        "role": token.role,
        "user": token.user,
        "madeBy": token.made_by,
        "madeAt": token.made_at,
        "expiresAt": token.expires_at,
        "expired": now >= token.expires_at,
    }
