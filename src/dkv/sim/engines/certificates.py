"""Simulation: certificates of engines as texts: an authority is a word, its leaf says which authority signed it."""

from __future__ import annotations

from collections.abc import Callable

from dkv.control.submit import Submitter
from dkv.domain.authority import trust_of
from dkv.domain.facts import AuthorityFounded
from dkv.engine.contract import EngineRefused, TlsFiles


async def certify(submitter: Submitter, database: str, token: Callable[[], str]) -> TlsFiles:
    """A new leaf for an engine of a database, as control/engine_certificates.py signs one. Raises EngineRefused, StoreError."""
    state = (await submitter.view()).state
    known = state.databases.get(database)
    if known is None:
        raise EngineRefused(f"there is no database {database} any more")
    if known.uid not in state.authorities:
        made = new_authority(token())
        await submitter.submit(AuthorityFounded(actor="manager", owner=known.uid, certificate=made, key=f"sealed key of {made}"))
        state = (await submitter.view()).state
    authority = state.authorities[known.uid]
    serial = token()[:16].upper()
    return TlsFiles(trust_of(authority), serial, authority.bundle, authority.current, "key")


def new_authority(word: str) -> str:
    """The certificate of an authority."""
    return f"<authority {word}>"


def believe_each_other(one: TlsFiles | None, other: TlsFiles | None) -> bool:
    """Whether two engines can link: both speak plain, or each was given the authority that signed the other's leaf."""
    if one is None or other is None:
        return one is other
    return other.certificate in one.authorities and one.certificate in other.authorities
