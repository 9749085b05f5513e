"""Join tokens: made for a time, used by so many servers, and used up in the very decision that admits a server."""

from __future__ import annotations

import re

from dkv.domain.access import MANAGERS, Joined, JoinToken
from dkv.domain.admission import judge_join, unfit_lifetime, unfit_uses
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.model import Server, evolve
from dkv.domain.orders import AdmitServer, CreateJoinToken, DeleteJoinToken
from dkv.domain.refusals import no, no_authority, unknown_server
from dkv.domain.rules.departures import replace_server, why_not_replaced
from dkv.domain.rules.servers import departed_again, other_directory, reserved

MOST = 100  # join tokens at once


def create_join_token(draft: Draft, command: CreateJoinToken) -> Refused | None:
    """Keep the hash of a new join token's secret. What expired makes room for it."""
    if MANAGERS not in draft.authorities:
        return no_authority()
    if unfit := unfit_lifetime(command.lasts) or unfit_uses(command.uses) or _unfit_secret(command):
        return unfit
    if command.replaces and (refused := _not_replaced(draft, command)):
        return refused
    for token in [t for t in draft.join_tokens.values() if t.expires_at <= command.now and len(draft.join_tokens) >= MOST]:
        draft.drop(token)
    if len(draft.join_tokens) >= MOST:
        return no("records_full", f"There are {MOST} join tokens already.", "Delete some that nobody uses any more.")
    draft.put(
        JoinToken(
            command.token_id,
            command.hashed_secret,
            command.pin,
            uses=command.uses,
            made_by=command.actor,
            made_at=command.now,
            expires_at=command.now + command.lasts,
            replaces=command.replaces,
        )
    )
    draft.answer["token"] = command.token_id
    servers = "one server" if command.uses == 1 else f"{command.uses} servers"
    purpose = f"a server can take the place of {command.replaces}" if command.replaces else f"{servers} can join"
    draft.note("join_token.created", f"join token {command.token_id}", f"it was asked for, so that {purpose}")
    return None


def _not_replaced(draft: Draft, command: CreateJoinToken) -> Refused | None:
    if command.uses != 1:
        return no("bad_value", "One server takes the place of another.", "Make the join token for one use.")
    server = draft.servers.get(command.replaces)
    return unknown_server(command.replaces, draft.servers) if server is None else why_not_replaced(draft, server)


def _unfit_secret(command: CreateJoinToken) -> Refused | None:
    hashes = (command.hashed_secret, command.pin)
    if re.fullmatch("[0-9a-f]{8}", command.token_id) and all(re.fullmatch("[0-9a-f]{64}", text) for text in hashes):
        return None
    return no("bad_value", "The join token's id, its pin or the hash of its secret is none.", "Let a manager make the token.")


def delete_join_token(draft: Draft, command: DeleteJoinToken) -> Refused | None:
    """Forget a join token. Servers that joined with it stay."""
    token = draft.join_tokens.get(command.token_id)
    if token is None:
        hint = "It was deleted already, or is another domain's."
        return no("unknown_token", f"There is no join token with the id {command.token_id}.", hint)
    draft.drop(token)
    draft.note("join_token.deleted", f"join token {token.token_id}", "it was deleted, and is not taken any more")
    return None


def admit_server(draft: Draft, command: AdmitServer) -> Refused | None:
    """Use a join token up for a server, which may be one that was deleted. It may repeat its request: its answer may be lost."""
    token, joining = draft.join_tokens.get(command.token_id), Joined(command.uid, command.public_key)
    known = draft.servers.get(command.server_id)
    known = known if known and known.uid != command.uid else None  # the one that has its id, and is another
    if refused := judge_join(token, command.token_id, command.hashed_secret, joining, command.now, known=known):
        return refused
    assert token is not None
    if token.pin != command.pin:
        return no(
            "bad_join_token",
            f"The join token {command.token_id} was made for the former authority of this domain.",
            "Make a new one on a server of the domain.",
        )
    if command.server_id not in draft.servers and (refused := reserved(command.server_id)):
        return refused
    if refused := _may_be(draft, command, token, known):
        return refused
    departed = draft.departed.get(command.uid)
    if joining in token.used_by:
        return departed_again(departed) if departed else None
    draft.put(evolve(token, used_by=(*token.used_by, joining)))
    if departed:
        draft.drop(departed)
    why = f"with the uid {command.uid} it showed the join token {command.token_id}"
    draft.note("server.admitted", f"server {command.server_id}", why)
    if known:
        replace_server(draft, known, uid=command.uid, host=command.host)
    return None


def _may_be(draft: Draft, command: AdmitServer, token: JoinToken, known: Server | None) -> Refused | None:
    """Why the server may not have its id with this token; `known` has it so far."""
    if token.replaces and token.replaces != command.server_id:
        return no(
            "bad_join_token",
            f"The join token {token.token_id} is for server {token.replaces}, and this one would be {command.server_id}.",
            f"Start its manager as server {token.replaces}.",
        )
    if known is None:
        return None
    return why_not_replaced(draft, known) if token.replaces else other_directory(known)
