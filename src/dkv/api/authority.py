"""API: the authority of the domain's managers: what it is, its change, and how a new server joins.

What a stranger may ask is what it needs to join: whom to trust, and, with the secret of a join token, a certificate. Names in the
certificate are written here; nothing counts that the request for it asks for.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated

from fastapi import Depends, Request
from pydantic import Field

from dkv.access import crypto, join_tokens
from dkv.access.certificates import Owner, reachable
from dkv.access.crypto import Malformed
from dkv.api.access import READER
from dkv.api.bodies import Body
from dkv.api.context import Context, Manager, Signing
from dkv.api.dependencies import Key, accepted, database_of
from dkv.api.problems import Refusal, refuse
from dkv.api.routing import Router
from dkv.domain import authority as rotation
from dkv.domain.access import MANAGERS, Authority, JoinToken
from dkv.domain.decision import Refused
from dkv.domain.model import State
from dkv.domain.orders import AdmitServer, CreateJoinToken, DeleteJoinToken, RotateAuthority
from dkv.domain.refusals import no_authority, no_engine_authority
from dkv.wire import schemas

router = Router(prefix="/admin/v1", tags=["access"])

RANDOM_BYTES = join_tokens.ID_BYTES + join_tokens.SECRET_BYTES
LONGEST_REQUEST = 4_096  # characters of a certificate request


class JoinTokenBody(Body):
    """A new join token: how long it may be used, in ms, and by how many servers. `replaces`: the id of the server that is away
    and whose place the one that joins takes.
    """

    lasts: Annotated[int, Field(ge=0, le=2**53)] = join_tokens.HOUR
    uses: Annotated[int, Field(ge=0, le=2**31)] = 1
    replaces: Annotated[str, Field(max_length=200)] = ""


class JoinBody(Body):
    """A server that joins: the token's id and secret, who it is, where it is reached, a request for a certificate, and why
    it can run no etcd member for the domain state, "" if it can.
    """

    token: Annotated[str, Field(max_length=200)]
    secret: Annotated[str, Field(max_length=200)]
    server_id: Annotated[str, Field(min_length=1, max_length=200)]
    uid: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    host: Annotated[str, Field(pattern="^[0-9A-Za-z.:_-]{1,253}$")]
    request: Annotated[str, Field(max_length=LONGEST_REQUEST)]
    why_no_member: Annotated[str, Field(max_length=1_000)] = ""


class RotationBody(Body):
    """A change of an authority. `without`: servers that are away and are not waited for. `hold`: stop once every server trusts
    both, until it is asked for again without this."""

    without: Annotated[list[str], Field(default_factory=list, max_length=1_000)]
    hold: bool = False


async def signing_of(manager: Manager) -> Signing:
    """What this manager signs with. Raises Refusal without access control."""
    if manager.signing is None:
        raise Refusal(no_authority())
    return manager.signing


Signs = Annotated[Signing, Depends(signing_of)]


def authority_of(state: State, owner: str = MANAGERS) -> Authority:
    """The managers' authority, or that of a database's engines. Raises Refusal without one."""
    authority = state.authorities.get(owner)
    if authority is None:
        raise Refusal(no_authority() if owner == MANAGERS else no_engine_authority())
    return authority


def owner_of(state: State, store: str) -> Owner:
    """The engines of a store. Raises Refusal."""
    return Owner(state.uid, database_of(state, store).uid)


def fingerprint(certificate: str) -> str:
    """SHA-256 of its DER, hex."""
    return crypto.read(certificate).fingerprint


@router.get("/ca")
async def get_authority(request: Request, context: Context) -> schemas.Authority:
    """Whom this domain's managers trust, and how far a change of it is; which servers it waits for, only to who may read them."""
    view = _authority_view(context.state, Owner(context.state.uid), context.manager.clock())
    return view if request.scope.get(READER) else {**view, "waitsFor": []}


@router.get("/stores/{name}/ca")
async def get_engine_authority(name: str, context: Context) -> schemas.Authority:
    """Whom the engines and the clients of a store trust, and how far a change of it is."""
    return _authority_view(context.state, owner_of(context.state, name), context.manager.clock())


def _authority_view(state: State, owner: Owner, now: int) -> schemas.Authority:
    authority = authority_of(state, owner.database or MANAGERS)
    names = {server.uid: server.server_id for server in state.servers.values()}
    return {
        "domainUid": state.uid,
        "bundle": list(authority.trusted),
        "fingerprints": [fingerprint(certificate) for certificate in authority.trusted],
        "former": fingerprint(authority.former) if authority.former else None,
        "phase": authority.phase.value,
        "phaseAt": authority.phase_at,
        "held": authority.held,
        "waitsFor": sorted(names[uid] for uid in rotation.missing(authority, rotation.waited_for(state, authority))),
        "clock": now,
    }


@router.post("/ca/rotation", status_code=202)
async def rotate(body: RotationBody, context: Context, signing: Signs, key: Key) -> schemas.Authority:
    """Change the authority while everything runs; the servers follow by themselves."""
    return await _rotate(context, _rotation(context.state, Owner(context.state.uid), signing, body), key)


@router.post("/stores/{name}/ca/rotation", status_code=202)
async def rotate_engine_authority(name: str, body: RotationBody, context: Context, signing: Signs, key: Key) -> schemas.Authority:
    """Change the authority of a store's engines while they run; their managers give them new certificates."""
    return await _rotate(context, _rotation(context.state, owner_of(context.state, name), signing, body), key)


def _rotation(state: State, owner: Owner, signing: Signing, body: RotationBody) -> RotateAuthority:
    name = owner.database or MANAGERS
    authority_of(state, name)
    made = signing.certificates.new_authority(owner, name)
    return RotateAuthority(owner=name, certificate=made.certificate, key=made.key, without=tuple(body.without), hold=body.hold)


async def _rotate(context: Context, command: RotateAuthority, key: Key) -> schemas.Authority:
    decision = accepted(await context.manager.submitter.submit(command, key))
    owner = Owner(decision.state.uid, "" if command.owner == MANAGERS else command.owner)
    return _authority_view(decision.state, owner, context.manager.clock())


# Join tokens ----------------------------------------------------------------------------------------------------------


@router.get("/join-tokens")
async def get_join_tokens(context: Context) -> schemas.JoinTokens:
    """Every join token; never its secret."""
    now, pin = context.manager.clock(), fingerprint(authority_of(context.state).current)
    return {"joinTokens": [_view(token, pin, now) for _, token in sorted(context.state.join_tokens.items())]}


@router.post("/join-tokens", status_code=201)
async def create_join_token(body: JoinTokenBody, context: Context, key: Key) -> schemas.JoinTokenMade:
    """Make a join token. Repeated with one Idempotency-Key it is refused, because nobody has the secret any more."""
    manager = context.manager
    made = join_tokens.new_join_token(authority_of(context.state).current, secrets.token_bytes(RANDOM_BYTES))
    command = CreateJoinToken(
        token_id=made.token_id,
        hashed_secret=join_tokens.hashed(made.secret),
        pin=made.pin,
        uses=body.uses,
        lasts=body.lasts,
        replaces=body.replaces,
    )
    decision = accepted(await manager.submitter.submit(command, key))
    if decision.answer.get("token") != made.token_id:
        raise refuse(
            "record_exists",
            f"The join token {decision.answer.get('token')} was made by this request already, and its secret is shown only once.",
            "Delete that token, and make another one with another Idempotency-Key.",
        )
    view = _view(decision.state.join_tokens[made.token_id], made.pin, manager.clock())
    return {"result": "Created", "joinToken": view, "secret": "" if manager.dry_run else made.text}


@router.delete("/join-tokens/{token_id}")
async def delete_join_token(token_id: str, manager: Manager, key: Key) -> schemas.TokenDeleted:
    """Have no manager take a join token any more."""
    accepted(await manager.submitter.submit(DeleteJoinToken(token_id=token_id), key))
    return {"result": "Deleted", "id": token_id}


def _view(token: JoinToken, pin: str, now: int) -> schemas.JoinToken:
    return {
        "id": token.token_id,
        "uses": token.uses,
        "usedBy": [joined.server_uid for joined in token.used_by],
        "madeBy": token.made_by,
        "madeAt": token.made_at,
        "expiresAt": token.expires_at,
        "expired": now >= token.expires_at,
        "ofFormerAuthority": token.pin != pin,
        "replaces": token.replaces,
    }


# Joining --------------------------------------------------------------------------------------------------------------


@router.post("/join")
async def join(body: JoinBody, context: Context, signing: Signs) -> schemas.Admitted:
    """Admit a server that shows the secret of a join token, and give it what it needs to take part."""
    authority = authority_of(context.state)
    try:
        public_key = crypto.requested_key(body.request)
    except Malformed as error:
        message = f"The certificate request cannot be used: {error}."
        raise refuse("bad_certificate", message, "Let dkv manager run --join make it.") from error
    command = AdmitServer(
        token_id=body.token,
        hashed_secret=join_tokens.hashed(body.secret),
        pin=fingerprint(authority.current),
        server_id=body.server_id,
        uid=body.uid,
        public_key=hashlib.sha256(public_key.encode()).hexdigest(),
        host=body.host,
    )
    accepted(await context.manager.submitter.check(command))
    place = signing.state_for(body.host, body.why_no_member)
    if isinstance(place, Refused):
        raise Refusal(place)
    state = accepted(await context.manager.submitter.submit(command)).state
    authority = authority_of(state)
    return {
        "certificate": signing.certificates.leaf_for(authority, reachable(body.uid, body.host), body.request),
        "bundle": authority.bundle,
        "domainKey": signing.certificates.domain_key.text,
        "domainUid": state.uid,
        "state": place.state,
        "members": place.members,
    }
