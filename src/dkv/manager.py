"""One manager: control and machine composed over a state backend and the engines of one server.

Everything that is not pure is an argument (store, engines, clocks, randomness, network probe), so that the same Manager runs in
the daemon on real Valkey and in the simulation in virtual time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from dkv.address import endpoint_text
from dkv.control.access import Access, Failing
from dkv.control.certificates import CertificateError, CertificatePlaces, Certificates
from dkv.control.engine_certificates import EngineCertificates
from dkv.control.liveness import RENEW_EVERY, Liveness
from dkv.control.submit import Judge, Submitter, View
from dkv.control.tally import Tally
from dkv.domain.authority import trust_of
from dkv.domain.decide import decide
from dkv.domain.decision import Event, Refused
from dkv.domain.levels import with_leases
from dkv.domain.model import State
from dkv.domain.unwritten import Ended, Unwritten, as_of
from dkv.engine.contract import EngineRefused, Engines, TlsFiles
from dkv.errors import HintedError
from dkv.machine.observation import LocalServer, Observation
from dkv.machine.reconcile import Reconciler
from dkv.machine.refusing import refusing
from dkv.machine.steps import Step
from dkv.store.contract import Store, StoreError, Unavailable

RENEWALS_PROVE = 2  # renewals of its lease by another manager that show that it lives


class ManagerError(HintedError):
    """This manager cannot take part in its domain; `hint` is what helps."""


@dataclass(frozen=True)
class ManagerHooks:
    """The clocks, randomness and network of a manager: `monotonic` in seconds, `wall` in ms, `token` a new random word."""

    monotonic: Callable[[], float]
    wall: Callable[[], int]
    token: Callable[[], str]
    probe: Callable[[str, int], Awaitable[bool]]  # whether a machine answers; a refusal is an answer
    accepts: Callable[[str, int], Awaitable[bool]]  # whether something there accepts connections
    on_event: Callable[[Event], None] = lambda event: None
    on_error: Callable[[Step | None, Exception, int], None] = lambda step, error, times: None  # as Reconciler
    warn: Callable[[str], None] = lambda text: None
    judge: Judge = decide
    certificates: CertificatePlaces | None = None  # None without access control
    engine_certificates: CertificatePlaces | None = None  # None: it signs for no engine
    certify: Callable[[Submitter, str], Awaitable[TlsFiles]] | None = None  # signs instead of those, in the simulation
    domain: str = ""  # the uid of the domain that this server joined; "": it may found one


class Manager:
    """Takes part in one domain with the engines of one machine."""

    def __init__(self, server: LocalServer, store: Store, engines: Engines, hooks: ManagerHooks) -> None:
        self.server = server
        self.store = store
        self.engines = engines
        self._hooks = hooks
        self.access = Access(hooks.wall, hooks.monotonic, hooks.warn)
        tally = Tally(hooks.monotonic)
        self.submitter = Submitter(store, hooks.wall, hooks.token, hooks.on_event, self.access, judge=hooks.judge, tally=tally)
        self.observed: Callable[[], Observation | None] = lambda: None
        """The last observation of this machine, once there is one."""
        self.newest: Callable[[], View | None] = lambda: None
        """The newest view that was seen; nothing is read for it."""
        self.refused: Callable[[str, str, str, int], None] = lambda peer, kind, last, count: None
        """Gets what engines refused of clients: the peer, the kind of the refusal, the last one in a line, and how many."""
        self.liveness = Liveness(store, self.submitter, server.joined(), hooks.monotonic)
        self.certificates = (
            Certificates(self.submitter, hooks.certificates, hooks.wall, partial(_warn_of_certificate, hooks.warn))
            if hooks.certificates
            else None
        )
        places = hooks.engine_certificates
        self._signer = EngineCertificates(self.submitter, places.keys, places.server, hooks.wall) if places else None
        self.domain_uid = ""

    def readiness(self) -> StoreError | None:
        """None when the domain can be read and changed; else since when and why it cannot, and what helps."""
        failing = self.access.failing
        if failing is not None:
            ago = int(self._hooks.monotonic() - failing.since)
            return Unavailable(f"waiting for the domain since {ago} s: it cannot be changed, {failing.why}", failing.hint)
        if self.liveness.access_since is not None and self.liveness.lease_left() > 0:
            return None
        ago = max(0, int(self._hooks.monotonic() - self.liveness.renewed_at))
        why = f": {self.liveness.trouble}" if self.liveness.trouble else ""
        return Unavailable(f"waiting for the domain since {ago} s{why}")

    async def shown(self) -> View:
        """The domain as it is shown to people: the newest state, and while commits fail also what this manager could not commit.
        Where the state cannot be read, the newest that this manager has seen, which says how old it is. Raises
        store.Unavailable when it has seen none.
        """
        try:
            view, failing = await self.submitter.view(), self.access.failing
        except Unavailable as trouble:
            known = self.newest()
            if known is None:
                raise
            view, failing = known, self.access.failing or self._unread(trouble)
        state = with_leases(view.state, self.liveness.levels)
        return View(view.revision, as_of(state, self._unwritten(state, failing)) if failing else state)

    def _unread(self, trouble: Unavailable) -> Failing:
        """That the state cannot be read, since it was reached last."""
        since = self.liveness.renewed_at
        at = self._hooks.wall() - int((self._hooks.monotonic() - since) * 1000)
        return Failing(at, since, trouble.detail, trouble.hint)

    def _unwritten(self, state: State, failing: Failing) -> Unwritten:
        seen = self.observed()
        ended = [Ended(e.start_id, e.cause, e.detail, e.exit_code, e.last_words) for e in seen.survey.exits] if seen else []
        return Unwritten(
            self.server.server_id,
            failing.at,
            int(self._hooks.monotonic() - failing.since),
            failing.why,
            failing.hint,
            tuple(ended),
            refusing(state, self.server.server_id, seen) if seen else (),
        )

    async def join(self) -> None:
        """Found the domain or join it. Raises ManagerError, CertificateError, StoreError."""
        await self._refuse_another_domain()
        self.domain_uid = await self.submitter.create_domain(self._hooks.token())
        await self._take_lease()  # before anything is changed as this server
        if self.certificates:
            await self.certificates.begin(self.domain_uid)
        joined = await self.liveness.join()
        if isinstance(joined, Refused):
            raise ManagerError(joined.message, joined.hint)

    async def _take_lease(self) -> None:
        """Hold this server's lease. One that a manager left at another address ends; one that goes on being renewed is of a
        manager that lives there, and this data directory is a copy of its. Raises ManagerError.
        """
        await self.liveness.renew()
        ends, renewals = math.inf, 0
        while self.liveness.is_taken:
            await asyncio.sleep(RENEW_EVERY / 3)
            newest = await self.liveness.lease_ends()
            renewals += newest > ends + RENEW_EVERY / 3
            ends = newest
            if renewals >= RENEWALS_PROVE:
                await self._refuse_copy()
            await self.liveness.renew()

    async def _refuse_copy(self) -> None:
        server_id = self.server.server_id
        known = (await self.submitter.view()).state.servers.get(server_id)
        where = f" at {endpoint_text(known.host, known.port)}" if known else ""
        raise ManagerError(
            f"Another manager runs as server {server_id}{where}: it goes on renewing the server's lease.",
            "A data directory is for one server at one address. If this one is a copy, let the machine join as a new server, "
            "with an empty --data-dir and a join token; if the server moves here, stop its manager there first.",
        )

    async def _certify(self, database: str) -> TlsFiles:
        """A new leaf for an engine of this server. Raises EngineRefused, StoreError."""
        if self._hooks.certify is not None:
            return await self._hooks.certify(self.submitter, database)
        if self._signer is None:
            raise EngineRefused(f"this manager signs for no engine of {database}")
        try:
            leaf = await self._signer.leaf(database)
        except CertificateError as error:
            raise EngineRefused(str(error)) from error
        return TlsFiles(trust_of(leaf.authority), leaf.serial, leaf.authority.bundle, leaf.pair.certificate, leaf.pair.key)

    async def _refuse_another_domain(self) -> None:
        """A server that joined a domain neither founds a second one nor goes over to one. Raises ManagerError, StoreError."""
        joined = self._hooks.domain
        uid = (await self.submitter.view()).state.uid if joined else ""
        if uid != joined:
            raise ManagerError(
                f"This server is in the domain {joined}, and the state that it was given is {f'of {uid}' if uid else 'empty'}.",
                "Give it the state of its domain (--state); dkv rebuild state makes a lost one anew. For another domain choose "
                "another --data-dir.",
            )

    def _look(self) -> None:
        """A newer view is at hand."""
        self.liveness.look()
        if self.certificates:
            self.certificates.notice()

    async def run(self) -> None:
        """Renew the lease, watch other servers, tick and reconcile until cancelled. The engines go on running."""
        hooks = self._hooks
        reconciler = Reconciler(
            self.server,
            store=self.store,
            submitter=self.submitter,
            engines=self.engines,
            lease_left=self.liveness.lease_left,
            monotonic=hooks.monotonic,
            token=hooks.token,
            probe=hooks.probe,
            accepts=hooks.accepts,
            certify=self._certify,
            on_error=hooks.on_error,
            on_view=self._look,
        )
        self.observed, self.newest = reconciler.observed, reconciler.newest
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.liveness.run(reconciler.known))
                tasks.create_task(reconciler.run())
                tasks.create_task(self.access.run(self.store))
                if self.certificates:
                    tasks.create_task(self.certificates.run(reconciler.known))
        finally:
            await reconciler.close()
            await self.liveness.leave()


def _warn_of_certificate(warn: Callable[[str], None], why: str) -> None:
    warn(f"the certificate of this manager could not be kept: {why}")
