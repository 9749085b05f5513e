"""certificates: keeps a manager's own certificate in step with the domain's authority, which the first manager founds.

The authority's key stands in the state, sealed with the domain's key, so each manager signs for itself: renewal needs no other
manager and no person, and a machine that was off for years has a new certificate when its manager starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from dkv.access import certificates
from dkv.access.certificate_files import CertificateFiles
from dkv.access.certificates import Owner, Reachable
from dkv.access.crypto import KeyPair, Malformed, WrongKey
from dkv.access.domain_key import DomainKey, KeyFiles
from dkv.control.submit import Submitter
from dkv.domain.access import MANAGERS, Authority
from dkv.domain.commands import AuthorityFounded
from dkv.domain.model import State
from dkv.errors import HintedError

LOOK_EVERY = 600.0  # s, between two looks at the wall clock
RETRY_EVERY = 30.0  # s, after something failed


class CertificateError(HintedError):
    """This manager has no certificate and cannot make one; `hint` is what helps."""


@dataclass(frozen=True)
class CertificatePlaces:
    """Where a manager keeps its certificate and the domain's key, and how clients reach it."""

    files: CertificateFiles
    keys: KeyFiles
    server: Reachable


def authority_label(owner: str) -> str:
    """The label under which an authority's key is sealed."""
    return f"authority/{owner}"


class Certificates:
    """This manager's certificate. `wall` in ms; `on_error` is called with each new reason why it could not be kept."""

    def __init__(
        self, submitter: Submitter, places: CertificatePlaces, wall: Callable[[], int], on_error: Callable[[str], None]
    ) -> None:
        self._submitter = submitter
        self._files = places.files
        self._keys = places.keys
        self._server = places.server
        self._wall = wall
        self._on_error = on_error
        self._jitter = certificates.jitter_of(places.server.server_uid)
        self._owner = Owner("")
        self._followers: list[Callable[[], None]] = []
        self._key: DomainKey | None = None
        self._news = asyncio.Event()
        self.failing = ""  # why the newest look changed nothing, as a clause

    @property
    def domain_key(self) -> DomainKey:
        """What seals and opens the secrets in the state. Only once `begin` is through."""
        assert self._key is not None
        return self._key

    @property
    def files(self) -> CertificateFiles:
        """Where leaf, key and bundle are. They are whole once `begin` is through."""
        return self._files

    def follow(self, changed: Callable[[], None]) -> None:
        """Have `changed` called whenever the files have another leaf or bundle, which listeners then load. It may raise Malformed
        or OSError: then it is called again later, and the domain waits.
        """
        self._followers.append(changed)

    async def begin(self, domain: str) -> None:
        """Found the domain's authority if it has none, and have a leaf of it. Raises CertificateError, StoreError."""
        self._owner = Owner(domain)
        try:
            authority = await self._authority()
            self._key = self._key_of(authority)
            self._keep(authority)
        except (OSError, Malformed) as error:
            why = getattr(error, "strerror", None) or error
            hint = "Make room, and see that the directory is this user's only."
            raise CertificateError(f"The certificate of this manager cannot be kept: {why}.", hint) from error

    async def _authority(self) -> Authority:
        """The domain's authority. One commit decides which it is, if several managers found one."""
        state = (await self._submitter.view()).state
        if MANAGERS not in state.authorities:
            made = certificates.new_authority(self._owner, self._wall())
            sealed = self._keys.first().seal(authority_label(MANAGERS), made.key)
            command = AuthorityFounded(actor="manager", owner=MANAGERS, certificate=made.certificate, key=sealed)
            await self._submitter.submit(command)
            state = (await self._submitter.view()).state
        return state.authorities[MANAGERS]

    def _key_of(self, authority: Authority) -> DomainKey:
        """The key that opens the authority's. Raises CertificateError, OSError."""
        for key in self._keys.present():
            with suppress(WrongKey):
                key.unseal(authority_label(MANAGERS), authority.key)
                self._keys.keep(key)
                return key
        where = " and ".join(str(path) for path in (self._keys.own, self._keys.shared) if path)
        raise CertificateError(
            f"The domain's key is missing: neither of {where} opens what is sealed in the state.",
            "Put the file back from a manager of this domain, or from a backup.",
        )

    # One look ---------------------------------------------------------------------------------------------------------

    def _keep(self, authority: Authority) -> None:
        """Have the bundle and a leaf as the authority is now. Raises OSError, Malformed, WrongKey."""
        changed = False
        if self._files.trusted() != authority.bundle:
            self._files.write_bundle(authority.bundle)
            changed = True
        if self._due(authority):
            self._files.write_pair(self._new_leaf(authority))
            changed = True
        if changed or self.failing:
            for follower in self._followers:
                follower()

    def _due(self, authority: Authority) -> str:
        """Why the leaf has to be made anew, as a clause; empty while it need not be."""
        pair, now = self._files.pair(), self._wall()
        if pair is None:
            return "there is none"
        if refused := certificates.judge_own(pair, authority.current, now):
            return refused.message
        return certificates.must_renew(pair.certificate, authority.current, self._server, now, self._jitter)

    def _new_leaf(self, authority: Authority) -> KeyPair:
        key = self.domain_key.unseal(authority_label(MANAGERS), authority.key)
        pair = certificates.new_leaf(KeyPair(authority.current, key), self._owner, self._server, self._wall())
        if refused := certificates.judge_own(pair, authority.current, self._wall()):
            raise Malformed(refused.message)
        return pair

    async def look(self, state: State) -> None:
        """Renew what is due, and follow the domain's authority. What fails is tried again at the next look."""
        authority = state.authorities.get(MANAGERS)
        if authority is None:
            return
        try:
            self._keep(authority)
        except (OSError, Malformed, WrongKey) as error:
            why = getattr(error, "strerror", None) or str(error)
            if why != self.failing:
                self._on_error(why)
            self.failing = why
        else:
            self.failing = ""

    def notice(self) -> None:
        """A newer view is at hand, in which the authority may have changed."""
        self._news.set()

    async def run(self, known: Callable[[], State | None]) -> None:
        """Look at each change of the authority, and from time to time at the clock, until cancelled."""
        while True:
            state = known()
            if state is not None:
                await self.look(state)
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_EVERY if self.failing else LOOK_EVERY):
                    await self._news.wait()
            self._news.clear()
