"""reconcile: the only loop of a manager. Look at the domain and at the machine, plan, start the steps.

It carries no judgement: plan() chooses the steps and the time of the next look, perform carries the steps out, one at a time per
thing they work on. It plans again when the domain's revision or the observation differs, or when the plan depends on the time. A
wake-up that is missed costs a period, never a divergence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from dkv.control.submit import Submitter, View, view_of
from dkv.domain.model import State
from dkv.engine.contract import EngineError, EngineRefused, Engines, Survey, TlsFiles
from dkv.machine.conditions import update_history
from dkv.machine.failing import Failures
from dkv.machine.handlers import Dropped
from dkv.machine.next_look import IDLE_INTERVAL, SOON
from dkv.machine.observation import ConditionHistory, LocalServer, Observation
from dkv.machine.perform import Performer, accepts_nothing, no_certificate
from dkv.machine.plan import Plan, plan
from dkv.machine.steps import Step
from dkv.store.contract import Moved, Store, StoreError

LONG_GAP = 1.0  # s between two looks after which the domain is read afresh before anything else
READ_WITHIN = 0.5  # s that such a read may hold up a fence
LISTEN = 60.0  # s of one wait for the kernel; a missed event costs a period of the loop, not this
RETRY_INTERVAL = 0.2  # s after a look that failed


class Reconciler:
    """One manager's loop. `monotonic` is in seconds; `on_error` is given the step that failed (None: a look), its error, and how
    often it came since it was given last; `on_view` is called when a newer state is known.
    """

    def __init__(
        self,
        server: LocalServer,
        *,
        store: Store,
        submitter: Submitter,
        engines: Engines,
        lease_left: Callable[[], float],
        monotonic: Callable[[], float],
        token: Callable[[], str],
        probe: Callable[[str, int], Awaitable[bool]],
        accepts: Callable[[str, int], Awaitable[bool]] = accepts_nothing,
        certify: Callable[[str], Awaitable[TlsFiles]] = no_certificate,
        on_error: Callable[[Step | None, Exception, int], None],
        on_view: Callable[[], None] = lambda: None,
    ) -> None:
        self._server = server
        self._store = store
        self._submitter = submitter
        self._engines = engines
        self._lease_left = lease_left
        self._now = monotonic
        self._on_error = on_error
        self._on_view = on_view
        self._performer = Performer(
            server.server_id,
            engines=engines,
            submitter=submitter,
            store=store,
            still=self._still,
            token=token,
            probe=probe,
            accepts=accepts,
            certify=certify,
            monotonic=monotonic,
        )
        self._wake = asyncio.Event()
        self._view: View | None = None
        self._seen: Observation | None = None
        self._planned: tuple[int, Plan] | None = None  # the last plan, and the revision that it was made from
        self._running: dict[str, asyncio.Task[None]] = {}
        self._begun_at: dict[Step, float] = {}
        self._failures = Failures()

    def newest(self) -> View | None:
        """The newest view that was read, whatever can be read now."""
        return self._view

    def known(self) -> State | None:
        """The newest state at hand."""
        return self._view.state if self._view else None

    def observed(self) -> Observation | None:
        """The last observation of this machine."""
        return self._seen

    async def run(self) -> None:
        """Reconcile until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._listen())
            last, idle = self._now(), False
            while True:
                gap, last = self._now() - last, self._now()
                try:
                    period = await self.look(stale=gap > LONG_GAP, thorough=not idle)
                except (StoreError, EngineError, OSError) as error:
                    self._failed(None, error)
                    period = RETRY_INTERVAL
                woken = await self._sleep(period)
                idle = period >= IDLE_INTERVAL and not woken

    async def _watch(self) -> None:
        """Keep the newest view at hand."""
        while True:
            try:
                async for snapshot in self._store.watch():
                    self.learn(view_of(snapshot))
                    self._wake.set()
            except Moved:
                raise  # this handle never sees a change again: the manager begins anew, where the state is now
            except StoreError:
                await asyncio.sleep(RETRY_INTERVAL)

    def learn(self, view: View) -> View:
        """Keep the newest view, and return it: a watch may bring an older one late. The same view stays the same object."""
        if self._view is None or view.revision > self._view.revision:
            self._view = view
            self._on_view()
        return self._view

    async def _listen(self) -> None:
        """Wake up as soon as an engine ends."""
        while True:
            await self._engines.wait_for_change(LISTEN)
            self._wake.set()
            await asyncio.sleep(0)

    async def _sleep(self, period: float) -> bool:
        """Until something wakes the loop, which is True, or `period` seconds are over."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + period
        timer = loop.call_at(ends, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
        self._wake.clear()
        return loop.time() < ends

    async def look(self, stale: bool = False, thorough: bool = True) -> float:
        """Look, plan, start the steps; in how many seconds to look again. `stale`: the last look is long ago. Not `thorough`:
        nothing went on at the last look and nothing woke the loop.
        """
        blind = stale and not await self._read_afresh()
        # Before the survey: an engine the domain knows of then shows in it.
        view = self._view or self.learn(await self._submitter.view())
        busy = frozenset(self._running)  # the survey may or may not show what a step does that ends meanwhile
        survey = await self._engines.survey(thorough=thorough)
        now = self._now()
        planned = self._plan(view, survey, now)
        steps = [step for step in planned.steps if step.blindly or not blind]
        started = [step.key not in busy and self._start(step, now) for step in steps]
        if len(self._begun_at) > 200:  # seldom, because a step is long to compare
            self._begun_at = {step: at for step, at in self._begun_at.items() if now - at < 10}
        return SOON if any(started) else planned.next_look

    def _plan(self, view: View, survey: Survey, now: float) -> Plan:
        """The last plan for as long as it lasts and nothing that it was made from differs; else a new one."""
        history = self._seen.conditions if self._seen is not None else ConditionHistory()
        seen = self._observe(survey, history)
        if self._planned is not None and self._seen is not None:
            revision, planned = self._planned
            if planned.lasts and revision == view.revision and not seen.differs(self._seen):
                self._seen = replace(self._seen, conditions=replace(history, now=now * 1000))
                return planned
        history = update_history(history, view.state, self._server, survey, now * 1000, handled=seen.handled)
        self._seen = replace(seen, conditions=history)
        planned = plan(view.state, self._server, self._seen)
        self._planned = (view.revision, planned)
        return planned

    def _observe(self, survey: Survey, history: ConditionHistory) -> Observation:
        """The survey, and what the steps so far left behind."""
        performer = self._performer
        return Observation(
            survey,
            self._lease_left(),
            history,
            frozenset(performer.prepared),
            frozenset(performer.tails.serving),
            self._engines.handled(),
            dict(performer.rewrite_leases),
            dict(performer.probes),
            dict(performer.failovers),
        )

    async def _read_afresh(self) -> bool:
        """After a long gap: whether the domain could be read again before any engine command but a fence."""
        try:
            async with asyncio.timeout(READ_WITHIN):
                self.learn(await self._submitter.view())
        except (StoreError, TimeoutError):
            return False
        return True

    def _start(self, step: Step, now: float) -> bool:
        """Begin a step unless its key is busy, or it was begun a moment ago, or fails again and again."""
        if step.key in self._running or now - self._begun_at.get(step, -1e9) < step.rest_ms / 1000:
            return False
        if self._failures.waits(step, now):
            return False
        self._begun_at[step] = now
        task = asyncio.get_running_loop().create_task(self._do(step))
        self._running[step.key] = task
        return True

    async def _do(self, step: Step) -> None:
        try:
            await self._performer.perform(step)
        except Dropped:
            self._did_nothing(step)
            self._failures.worked(step)
        except Exception as error:  # noqa: BLE001 - whatever went wrong with one step, the loop looks again
            if isinstance(error, EngineRefused):
                self._did_nothing(step)
            self._failed(step, error)
            await asyncio.sleep(0.05)
        else:
            self._failures.worked(step)
        finally:
            del self._running[step.key]
            self._wake.set()

    def _failed(self, step: Step | None, error: Exception) -> None:
        times = self._failures.failed(step, error, self._now())
        if times:
            self._on_error(step, error, times)

    def _did_nothing(self, step: Step) -> None:
        """It may be begun again sooner than one that was done."""
        if step.refused_rest_ms is not None:
            self._begun_at[step] = self._now() - (step.rest_ms - step.refused_rest_ms) / 1000

    async def _still(self, step: Step) -> bool:
        """Whether plan() would choose the step again on a fresh view, with half of the lease left."""
        view = await self._submitter.view()
        if self._seen is None:
            return False
        history = replace(self._seen.conditions, now=self._now() * 1000)
        fresh = replace(self._seen, lease_left=self._lease_left(), conditions=history)
        return fresh.lease_is_fresh and step in plan(view.state, self._server, fresh).steps

    async def settle(self) -> None:
        """Wait until no step is running."""
        while self._running:
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def close(self) -> None:
        """Cancel the running steps; each is safe to repeat."""
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
