"""Join tokens: made for a time, used by so many servers, and used up in the very decision that admits a server."""

from __future__ import annotations

import re

from dkv.domain.access import MANAGERS, Joined, JoinToken
from dkv.domain.admission import judge_join, unfit_lifetime, unfit_uses
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.model import evolve
from dkv.domain.orders import AdmitServer, CreateJoinToken, DeleteJoinToken
from dkv.domain.refusals import no, no_authority
from dkv.domain.rules.servers import departed_again, other_directory, reserved

MOST = 100  # join tokens at once


def create_join_token(draft: Draft, command: CreateJoinToken) -> Refused | None:
    """Keep the hash of a new join token's secret. What expired makes room for it."""
    if MANAGERS not in draft.authorities:
        return no_authority()
    if unfit := unfit_lifetime(command.lasts) or unfit_uses(command.uses) or _unfit_secret(command):
        return unfit
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
        )
    )
    draft.answer["token"] = command.token_id
    servers = "one server" if command.uses == 1 else f"{command.uses} servers"
    draft.note("join_token.created", f"join token {command.token_id}", f"it was asked for, so that {servers} can join")
    return None


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
    if refused := judge_join(token, command.token_id, command.hashed_secret, joining, command.now):
        return refused
    assert token is not None
    if token.pin != command.pin:
        return no(
            "bad_join_token",
            f"The join token {command.token_id} was made for the former authority of this domain.",
            "Make a new one on a server of the domain.",
        )
    known = draft.servers.get(command.server_id)
    if known is None and (refused := reserved(command.server_id)):
        return refused
    if known is not None and known.uid != command.uid:
        return other_directory(known)
    departed = draft.departed.get(command.uid)
    if joining in token.used_by:
        return departed_again(departed) if departed else None
    draft.put(evolve(token, used_by=(*token.used_by, joining)))
    if departed:
        draft.drop(departed)
    why = f"with the uid {command.uid} it showed the join token {command.token_id}"
    draft.note("server.admitted", f"server {command.server_id}", why)
    return None
