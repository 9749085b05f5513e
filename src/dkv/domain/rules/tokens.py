"""Tokens of programs and people: made with a role and an end, deleted at once. The domain never sees their secrets."""

from __future__ import annotations

import re

from dkv.domain.access import Token
from dkv.domain.admission import may_give, unfit_label, unfit_lifetime, unknown_role
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.identities import roles_of, user_named
from dkv.domain.orders import CreateToken, DeleteToken
from dkv.domain.refusals import nearest, no

MOST = 1_000  # tokens at once


def create_token(draft: Draft, command: CreateToken) -> Refused | None:
    """Keep the hash of a new token's secret. What expired makes room for it."""
    unfit = (
        unfit_label("Token", command.name)
        or unfit_lifetime(command.lasts)
        or unknown_role(roles_of(draft), [command.role])
        or _unfit_secret(command)
        or _unknown_user(draft, command.user)
        or may_give(command, [command.role, *_roles_of_owner(draft, command.user)], roles_of(draft))
    )
    if unfit:
        return unfit
    for token in [token for token in draft.tokens.values() if token.expires_at <= command.now and len(draft.tokens) >= MOST]:
        draft.drop(token)
    if len(draft.tokens) >= MOST:
        return no("records_full", f"There are {MOST} tokens already.", "Delete some that nobody uses any more.")
    made = Token(
        command.token_id,
        command.hashed_secret,
        command.role,
        name=command.name,
        user=command.user,
        made_by=command.actor,
        made_at=command.now,
        expires_at=command.now + command.lasts,
    )
    draft.put(made)
    owner = f" for user {command.user}" if command.user else ""
    draft.answer["token"] = made.token_id
    draft.note("token.created", f"token {made.token_id}", f"it was asked for{owner} with the role {command.role}")
    return None


def _unfit_secret(command: CreateToken) -> Refused | None:
    if re.fullmatch("[0-9a-f]{12}", command.token_id) and re.fullmatch("[0-9a-f]{64}", command.hashed_secret):
        return None
    return no("bad_value", "The token's id or the hash of its secret is none.", "Let a manager make the token.")


def _unknown_user(draft: Draft, name: str) -> Refused | None:
    if not name or user_named(draft, name):
        return None
    names = sorted(key for kind, key in draft.records if kind == "user")
    return no("unknown_record", f"There is no user named {name}.", nearest(name, names))


def _roles_of_owner(draft: Draft, name: str) -> tuple[str, ...]:
    owner = user_named(draft, name) if name else None
    return owner.roles if owner else ()


def delete_token(draft: Draft, command: DeleteToken) -> Refused | None:
    """Forget a token: whoever shows it is a stranger from now on."""
    token = draft.tokens.get(command.token_id)
    if token is None:
        hint = "It was deleted already, or is another domain's."
        return no("unknown_token", f"There is no token with the id {command.token_id}.", hint)
    draft.drop(token)
    draft.note("token.deleted", f"token {token.token_id}", "it was deleted, and is not taken any more")
    return None
