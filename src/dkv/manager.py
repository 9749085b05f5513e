"""One manager: control and machine composed over a state backend and an engine room.

Everything that is not pure comes in from outside (store, engines, clocks, randomness, network probe), so that the
same Manager runs in the daemon on real Valkey and in the simulation in virtual time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dkv.control.access import Access
from dkv.control.liveness import Liveness
from dkv.control.submit import Submitter, View
from dkv.domain.commands import ServerJoined
from dkv.domain.decision import Event, Refused
from dkv.domain.model import State
from dkv.domain.unwritten import Ended, Unwritten, as_of
from dkv.engine.contract import Engines
from dkv.errors import HintedError
from dkv.machine.observation import HANG_TIMEOUT, LocalServer, Observation
from dkv.machine.reconcile import Reconciler
from dkv.machine.refusing import refusing
from dkv.machine.steps import Step
from dkv.store.contract import Store, StoreError, Unavailable


class ManagerError(HintedError):
    """This manager cannot take part in its domain; `hint` says what to do."""


@dataclass(frozen=True)
class NodeIdentity:
    """Where a manager is and who it is. `uid` is random and belongs to its data directory; `memory` is in bytes, `hang_timeout`
    in ms: how long an engine may stay silent."""

    server_id: str
    uid: str
    host: str
    port: int
    nuodb_port: int
    boot_id: str
    data_dir: str
    memory: int
    hang_timeout: int = HANG_TIMEOUT


@dataclass(frozen=True)
class ManagerHooks:
    """The impure things a manager is given. `monotonic` in seconds, `wall` in ms, `token` a fresh random word."""

    monotonic: Callable[[], float]
    wall: Callable[[], int]
    token: Callable[[], str]
    probe: Callable[[str, int], Awaitable[bool]]  # whether a machine answers; a refusal is an answer
    accepts: Callable[[str, int], Awaitable[bool]]  # whether something there accepts connections
    heard: Callable[[Event], None] = lambda event: None
    complain: Callable[[Step | None, Exception, int], None] = lambda step, trouble, times: None  # as Reconciler
    warn: Callable[[str], None] = lambda text: None


class Manager:
    """Takes part in one domain with the engines of one machine."""

    def __init__(self, place: NodeIdentity, store: Store, engines: Engines, outside: ManagerHooks) -> None:
        self.place = place
        self.store = store
        self.engines = engines
        self._outside = outside
        self.access = Access(outside.wall, outside.monotonic, outside.warn)
        self.submitter = Submitter(store, outside.wall, outside.token, outside.heard, self.access)
        self._observed: Callable[[], Observation | None] = lambda: None
        here = ServerJoined(
            actor=place.server_id,
            server_id=place.server_id,
            uid=place.uid,
            host=place.host,
            port=place.port,
            nuodb_port=place.nuodb_port,
            boot_id=place.boot_id,
            data_dir=place.data_dir,
        )
        self.liveness = Liveness(store, self.submitter, here, outside.monotonic)
        self.domain_uid = ""

    def readiness(self) -> StoreError | None:
        """None when the domain can be read and changed; else since when and why it cannot, and what helps."""
        failing = self.access.failing
        if failing is not None:
            ago = int(self._outside.monotonic() - failing.since)
            return Unavailable(f"waiting for the domain since {ago} s: it cannot be changed, {failing.why}", failing.hint)
        if self.liveness.access_since is not None and self.liveness.lease_left() > 0:
            return None
        ago = max(0, int(self._outside.monotonic() - self.liveness.renewed_at))
        why = f": {self.liveness.trouble}" if self.liveness.trouble else ""
        return Unavailable(f"waiting for the domain since {ago} s{why}")

    async def shown(self) -> View:
        """The domain as people are shown it: the newest state, and while commits fail what this manager knows beside.
        Raises store.Unavailable.
        """
        view = await self.submitter.view()
        unwritten = self._unwritten(view.state)
        return View(view.revision, as_of(view.state, unwritten)) if unwritten else view

    def _unwritten(self, state: State) -> Unwritten | None:
        failing, seen = self.access.failing, self._observed()
        if failing is None:
            return None
        ended = [Ended(e.start_id, e.cause, e.detail, e.exit_code, e.last_words) for e in seen.survey.exits] if seen else []
        return Unwritten(
            self.place.server_id,
            failing.at,
            int(self._outside.monotonic() - failing.since),
            failing.why,
            failing.hint,
            tuple(ended),
            refusing(state, self.place.server_id, seen) if seen else (),
        )

    async def join(self) -> None:
        """Found the domain or join it. Raises ManagerError, StoreError."""
        self.domain_uid = await self.submitter.found(self._outside.token())
        await self.liveness.renew()
        joined = await self.liveness.join()
        if isinstance(joined, Refused):
            raise ManagerError(joined.message, joined.hint)

    async def run(self) -> None:
        """Renew, judge, tick and reconcile until cancelled. Engines go on when this ends."""
        place = self.place
        me = LocalServer(place.server_id, place.data_dir, place.host, self.domain_uid, place.memory, place.hang_timeout)
        outside = self._outside
        reconciler = Reconciler(
            me,
            store=self.store,
            submitter=self.submitter,
            engines=self.engines,
            lease_left=self.liveness.lease_left,
            monotonic=outside.monotonic,
            token=outside.token,
            probe=outside.probe,
            accepts=outside.accepts,
            on_error=outside.complain,
            on_view=self.liveness.look,
        )
        self._observed = reconciler.observed
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.liveness.run(reconciler.known))
                tasks.create_task(reconciler.run())
                tasks.create_task(self.access.run(self.store))
        finally:
            await reconciler.close()
            await self.liveness.leave()
