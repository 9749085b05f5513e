"""Certificate authorities: founded once for each owner. The domain never sees an open key."""

from __future__ import annotations

from dkv.domain.access import MANAGERS, Authority
from dkv.domain.commands import AuthorityFounded
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft


def authority_founded(draft: Draft, command: AuthorityFounded) -> Refused | None:
    """Keep the authority, unless another manager founded one before: then that one stays, and nothing changes."""
    if command.owner in draft.authorities:
        return None
    draft.put(Authority(command.owner, command.certificate, command.key, phase_at=command.now))
    draft.note("authority.founded", subject_of(draft, command.owner), "its owner had none")
    return None


def subject_of(draft: Draft, owner: str) -> str:
    """How events name an authority."""
    name = next((database.name for database in draft.databases.values() if database.uid == owner), owner)
    return f"authority of {'the managers' if owner == MANAGERS else f'database {name}'}"
