"""certificates: keeps a manager's own certificate in step with the domain's authority, which the first manager founds.

The authority's key stands in the state, sealed with the domain's key, so each manager signs for itself: renewal needs no other
manager and no person, and a machine that was off for years has a new certificate when its manager starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from dkv.access import certificates, crypto
from dkv.access.certificate_files import CertificateFiles
from dkv.access.certificates import Owner, Reachable
from dkv.access.crypto import KeyPair, Malformed, WrongKey
from dkv.access.domain_key import DomainKey, KeyFiles, authority_label
from dkv.control.submit import Submitter
from dkv.domain import authority as rotation
from dkv.domain.access import MANAGERS, Authority
from dkv.domain.facts import AuthorityFounded, CertificateKept
from dkv.domain.model import State
from dkv.errors import HintedError
from dkv.hints import action, hint
from dkv.store.contract import StoreError

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
        self._kept: Authority | None = None  # for which the files are as they should be
        self._unused = False  # the files changed, and not all followers have loaded them
        self._because = ""  # why this manager made its leaf
        self._reported = False
        self._looked_at = 0  # wall clock
        self.failing = ""  # why the newest look did not get through, as a clause

    @property
    def domain_key(self) -> DomainKey:
        """What seals and opens the secrets in the state. Only once `begin` is through."""
        assert self._key is not None
        return self._key

    @property
    def files(self) -> CertificateFiles:
        """Where leaf, key and bundle are. They are whole once `begin` is through."""
        return self._files

    def follow(self, changed: Callable[[], None], *, from_now: bool = True) -> None:
        """Have `changed` called whenever the files have another leaf or bundle, which listeners then load. It may raise Malformed
        or OSError: then it is called again later, and the domain waits. Unless `from_now` it is called at the next look too,
        for what was written before it came.
        """
        self._followers.append(changed)
        self._unused = self._unused or not from_now

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
            self._key = self._keys.first()
            made = self.new_authority(self._owner, MANAGERS)
            command = AuthorityFounded(actor="manager", owner=MANAGERS, certificate=made.certificate, key=made.key)
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
            hint(
                "Put the file back from another manager's data directory, or from where a copy is kept. If there is none: ",
                action("backUpState"),
                ", then ",
                action("restoreWithNewAuthorities"),
                ".",
            ),
        )

    # For others -------------------------------------------------------------------------------------------------------

    def new_authority(self, owner: Owner, label: str) -> KeyPair:
        """A new authority of an owner, its key sealed under the label."""
        made = certificates.new_authority(owner, self._wall())
        return KeyPair(made.certificate, self.domain_key.seal(authority_label(label), made.key))

    def leaf_for(self, authority: Authority, server: Reachable, request: str) -> str:
        """A leaf for the key of another server's request. Raises Malformed."""
        key = self.domain_key.unseal(authority_label(authority.owner), authority.key)
        return certificates.sign_leaf(KeyPair(authority.current, key), self._owner, server, request, self._wall())

    # One look ---------------------------------------------------------------------------------------------------------

    async def look(self, state: State) -> None:
        """Follow the domain's authority, renew what is due, and report it. What fails is tried again later. Raises StoreError."""
        authority = state.authorities.get(MANAGERS)
        if authority is None or not self._is_due(authority):
            return
        self._looked_at = self._wall()
        try:
            self._keep(authority)
            pair = self._files.pair()
            until = crypto.read(pair.certificate).not_after if pair else 0
        except (OSError, Malformed, WrongKey) as error:
            why = getattr(error, "strerror", None) or str(error)
            if why != self.failing:
                self._on_error(why)
            self.failing = why
            return
        self.failing = ""
        await self._report(state, authority, until)

    def _is_due(self, authority: Authority) -> bool:
        """Whether to look at the files: something changed, or the wall clock did by enough."""
        pause = RETRY_EVERY if self.failing else LOOK_EVERY
        return authority != self._kept or not self._reported or not 0 <= self._wall() - self._looked_at < pause * 1000

    def _keep(self, authority: Authority) -> None:
        """Have the bundle and a leaf as the authority is now, and have them used. Raises OSError, Malformed, WrongKey."""
        if self._files.trusted() != authority.bundle:
            self._files.write_bundle(authority.bundle)
            self._unused = True
        if why := self._why_anew(authority):
            self._files.write_pair(self._new_leaf(authority))
            self._because = why
            self._unused = True
        if self._unused:
            for follower in self._followers:
                follower()
            self._unused = False
        self._kept = authority

    def _why_anew(self, authority: Authority) -> str:
        """Why the leaf has to be made anew, as a clause; empty while it need not be."""
        pair, now = self._files.pair(), self._wall()
        if pair is None:
            return "it had none"
        if why := certificates.must_renew(pair.certificate, authority.current, self._server, now, self._jitter):
            return why
        refused = certificates.judge_own(pair, authority.current, now)
        return f"the one it had could not be used: {refused.message}" if refused else ""

    def _new_leaf(self, authority: Authority) -> KeyPair:
        key = self.domain_key.unseal(authority_label(MANAGERS), authority.key)
        pair = certificates.new_leaf(KeyPair(authority.current, key), self._owner, self._server, self._wall())
        if refused := certificates.judge_own(pair, authority.current, self._wall()):
            raise Malformed(refused.message)
        return pair

    async def _report(self, state: State, authority: Authority, until: int) -> None:
        """Have the state say what this manager uses and until when, once it knows the server. Raises StoreError."""
        server = next((server for server in state.servers.values() if server.uid == self._server.server_uid), None)
        self._reported = False
        if server is None:
            return
        waited_for = server.uid in rotation.missing(authority, [server.uid])
        if server.certificate_until != until or waited_for:
            await self._submitter.submit(
                CertificateKept(
                    actor="manager",
                    server_id=server.server_id,
                    uid=server.uid,
                    until=until,
                    number=authority.number,
                    because=self._because,
                )
            )
        self._reported = True

    def notice(self) -> None:
        """A newer view is at hand, in which the authority may have changed."""
        self._news.set()

    async def run(self, known: Callable[[], State | None]) -> None:
        """Look at each change of the authority, and from time to time at the clock, until cancelled."""
        while True:
            state = known()
            if state is not None:
                with suppress(StoreError):
                    await self.look(state)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY if self._reported else RETRY_EVERY):
                    await self._news.wait()
            self._news.clear()
