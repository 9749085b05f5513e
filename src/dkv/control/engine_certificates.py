"""engine certificates: signs leaves for the engines of this manager's server, with the authority of their database.

The authority is founded when the first engine of its database is launched; its key stands in the state, sealed with the domain's
key. What was signed is judged before it is handed on: Valkey 9.1 takes an expired certificate, or an authority's, without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from dkv.access import certificates
from dkv.access.certificates import Owner, Reachable
from dkv.access.crypto import KeyPair, Malformed, WrongKey, read
from dkv.access.domain_key import DomainKey, KeyFiles, authority_label
from dkv.control.certificates import CertificateError
from dkv.control.submit import Submitter
from dkv.domain.access import MANAGERS, Authority
from dkv.domain.facts import AuthorityFounded
from dkv.domain.model import State

Sign = Callable[[KeyPair, Owner, Reachable, int], KeyPair]


@dataclass(frozen=True)
class EngineLeaf:
    """A leaf with its key, its serial number in upper-case hex, and the authority that signed it."""

    authority: Authority
    pair: KeyPair
    serial: str


class EngineCertificates:
    """What signs for the engines of one server. `wall` in ms; `sign` is for tests."""

    def __init__(
        self, submitter: Submitter, keys: KeyFiles, server: Reachable, wall: Callable[[], int], sign: Sign = certificates.new_leaf
    ) -> None:
        self._submitter = submitter
        self._keys = keys
        self._server = server
        self._wall = wall
        self._sign = sign

    async def leaf(self, database: str) -> EngineLeaf:
        """A new leaf for the engines of a database. Raises CertificateError, StoreError."""
        state = (await self._submitter.view()).state
        known = state.databases.get(database)
        if known is None:
            raise CertificateError(f"There is no database {database} any more.", "Nothing needs to be done.")
        owner = Owner(state.uid, known.uid)
        try:
            authority = state.authorities.get(known.uid) or await self._founded(state, owner)
            return self._signed(authority, owner)
        except (OSError, Malformed) as error:
            why = getattr(error, "strerror", None) or error
            hint = "Make room, and see that the data directory is the manager's user's only."
            raise CertificateError(f"The certificate of an engine of {database} cannot be made: {why}.", hint) from error

    async def _founded(self, state: State, owner: Owner) -> Authority:
        """The new authority of a database. One commit decides which it is, if several managers found one."""
        made = certificates.new_authority(owner, self._wall())
        managers = state.authorities.get(MANAGERS)
        key = self._key_of(managers) if managers else self._keys.first()
        sealed = key.seal(authority_label(owner.database), made.key)
        command = AuthorityFounded(actor="manager", owner=owner.database, certificate=made.certificate, key=sealed)
        await self._submitter.submit(command)
        return (await self._submitter.view()).state.authorities[owner.database]

    def _key_of(self, authority: Authority) -> DomainKey:
        """The domain's key, which opens the authority's. Raises CertificateError, OSError."""
        keys = self._keys.present()
        for key in keys:
            with suppress(WrongKey):
                key.unseal(authority_label(authority.owner), authority.key)
                return key
        raise CertificateError(
            "The domain's key is missing: no file of this manager opens what is sealed in the state.",
            f"Put {self._keys.own} back from another manager's data directory, or from where a copy is kept.",
        )

    def _signed(self, authority: Authority, owner: Owner) -> EngineLeaf:
        key = self._key_of(authority).unseal(authority_label(owner.database), authority.key)
        now = self._wall()
        pair = self._sign(KeyPair(authority.current, key), owner, self._server, now)
        if refused := certificates.judge_own(pair, authority.current, now):
            raise CertificateError(f"An engine must not get this certificate: {refused.message}", str(refused.hint))
        if read(authority.current).not_after <= now:
            raise CertificateError("The authority of these engines has expired.", "Have it changed for a new one.")
        return EngineLeaf(authority, pair, _hex(read(pair.certificate).serial))


def _hex(serial: int) -> str:
    """A serial number as engines show it: whole bytes."""
    digits = f"{serial:X}"
    return digits if len(digits) % 2 == 0 else f"0{digits}"
