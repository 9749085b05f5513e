"""reconcile: the only loop of a manager. Look at what is written, look at the machine, take the next steps.

It carries no judgement: plan() chooses the steps, perform carries them out, one at a time per thing they work
on. A wake-up that is missed costs a period, never a divergence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from dkv.control.submit import Submitter, View, view_of
from dkv.domain.constants import SERVER_TTL
from dkv.domain.model import State
from dkv.engine.contract import EngineError, EngineRefused, Engines, Survey
from dkv.machine.failing import Failures
from dkv.machine.handlers import Dropped
from dkv.machine.observation import ConditionHistory, LocalServer, Observation, update_history
from dkv.machine.perform import Performer, nobody
from dkv.machine.plan import IDLE_INTERVAL, plan, poll_interval, timeless
from dkv.machine.steps import Step
from dkv.store.contract import Store, StoreError

LONG_GAP = 1.0  # s between two glances after which the domain is read afresh before anything else
READ_WITHIN = 0.5  # s that such a read may hold up a fence
LISTEN = 60.0  # s the kernel is waited for at once; a missed word costs a period of the loop, not this
CUT_OFF_PACE = 0.1  # s between two glances while the lease is not renewed: a leader may have to be fenced in time


class Reconciler:
    """One manager's loop. `monotonic` is in seconds; `complain` is told what went wrong with a step, and how often
    since it was told of that last; `learned` that a newer state is known.
    """

    def __init__(
        self,
        me: LocalServer,
        *,
        store: Store,
        submitter: Submitter,
        engines: Engines,
        lease_left: Callable[[], float],
        monotonic: Callable[[], float],
        token: Callable[[], str],
        probe: Callable[[str, int], Awaitable[bool]],
        accepts: Callable[[str, int], Awaitable[bool]] = nobody,
        complain: Callable[[Step | None, Exception, int], None],
        learned: Callable[[], None] = lambda: None,
    ) -> None:
        self._me = me
        self._store = store
        self._submitter = submitter
        self._engines = engines
        self._lease_left = lease_left
        self._now = monotonic
        self._complain = complain
        self._learned = learned
        self._performer = Performer(
            me.server_id,
            engines=engines,
            submitter=submitter,
            store=store,
            still=self._still,
            token=token,
            probe=probe,
            accepts=accepts,
            monotonic=monotonic,
        )
        self._wake = asyncio.Event()
        self._view: View | None = None
        self._memory = ConditionHistory()
        self._seen: Observation | None = None
        self._rests: tuple[int, Survey] | None = None  # revision and survey by which all is as it should be
        self._running: dict[str, asyncio.Task[None]] = {}
        self._rested: dict[Step, float] = {}
        self._failures = Failures()

    def known(self) -> State | None:
        """The newest state at hand."""
        return self._view.state if self._view else None

    def glanced(self) -> Observation | None:
        """What was seen of this machine last."""
        return self._seen

    async def run(self) -> None:
        """Reconcile until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._listen())
            last, calm = self._now(), False
            while True:
                gap, last = self._now() - last, self._now()
                try:
                    period = await self._glance(stale=gap > LONG_GAP, calm=calm)
                except (StoreError, EngineError, OSError) as trouble:
                    self._failed(None, trouble)
                    period = 0.2
                woken = await self._rest(period)
                calm = period >= IDLE_INTERVAL and not woken

    async def _watch(self) -> None:
        """Keep the newest view at hand."""
        while True:
            try:
                async for snapshot in self._store.watch():
                    self._learn(view_of(snapshot))
                    self._wake.set()
            except StoreError:
                await asyncio.sleep(0.2)

    def _learn(self, view: View) -> None:
        """Keep the newest: a watch may be late and bring what was read past already. The same view stays the same object."""
        if self._view is None or view.revision > self._view.revision:
            self._view = view
            self._learned()

    async def _listen(self) -> None:
        """Wake up as soon as an engine ends."""
        while True:
            await self._engines.wait_for_change(LISTEN)
            self._wake.set()
            await asyncio.sleep(0)

    async def _rest(self, period: float) -> bool:
        """Until somebody has news, which is True, or the time is over."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + period
        timer = loop.call_at(ends, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
        self._wake.clear()
        return loop.time() < ends

    async def _glance(self, stale: bool, calm: bool = False) -> float:
        """Look, plan, start the steps; how long to rest, in seconds. `calm`: nothing went on, and nobody has news."""
        blind = stale and not await self._read_afresh()
        if self._view is None:
            self._view = await self._submitter.view()
        view = self._view  # before the survey: an engine the domain knows of then shows in it
        busy = frozenset(self._running)  # what a step that ends meanwhile did, the survey may or may not show
        survey = await self._engines.survey(thorough=not calm)
        now, left = self._now(), self._lease_left()
        if self._rests == (view.revision, survey) and left > SERVER_TTL / 2:
            self._memory = replace(self._memory, now=now * 1000)
            return IDLE_INTERVAL
        seen = self._seen = self._show(view.state, survey, left, now)
        steps = [step for step in plan(view.state, self._me, seen) if step.blindly or not blind]
        started = [step.key not in busy and self._start(step, now) for step in steps]
        if len(self._rested) > 200:  # seldom, because a step is long to compare
            self._rested = {s: at for s, at in self._rested.items() if now - at < 10}
        period = poll_interval(view.state, self._me, [s for s, begun in zip(steps, started, strict=True) if begun], self._memory)
        rests = not (blind or steps or self._running) and period == IDLE_INTERVAL and timeless(seen)
        self._rests = (view.revision, survey) if rests else None
        return period if left > SERVER_TTL / 2 else min(period, CUT_OFF_PACE)

    def _show(self, state: State, survey: Survey, left: float, now: float) -> Observation:
        """What is seen, with what is remembered and what the steps so far left behind."""
        handled = self._engines.handled()
        self._memory = update_history(self._memory, state, self._me, survey, now * 1000, handled=handled)
        done = self._performer
        return Observation(
            survey,
            left,
            self._memory,
            frozenset(done.prepared),
            frozenset(done.tails.serving),
            handled,
            dict(done.rewrite_leases),
            dict(done.probes),
            dict(done.failovers),
        )

    async def _read_afresh(self) -> bool:
        """After a long gap: whether the domain could be read again before any engine command but a fence."""
        try:
            async with asyncio.timeout(READ_WITHIN):
                self._learn(await self._submitter.view())
        except (StoreError, TimeoutError):
            return False
        return True

    def _start(self, step: Step, now: float) -> bool:
        """Begin a step unless its key is busy, or it was taken a moment ago, or fails again and again."""
        if step.key in self._running or now - self._rested.get(step, -1e9) < step.rest_ms / 1000:
            return False
        if self._failures.waits(step, now):
            return False
        self._rested[step] = now
        task = asyncio.get_running_loop().create_task(self._do(step))
        self._running[step.key] = task
        return True

    async def _do(self, step: Step) -> None:
        try:
            await self._performer.perform(step)
        except Dropped:
            self._did_nothing(step)
            self._failures.worked(step)
        except Exception as trouble:  # noqa: BLE001 - whatever went wrong with one step, the loop looks again
            if isinstance(trouble, EngineRefused):
                self._did_nothing(step)
            self._failed(step, trouble)
            await asyncio.sleep(0.05)
        else:
            self._failures.worked(step)
        finally:
            del self._running[step.key]
            self._wake.set()

    def _failed(self, step: Step | None, trouble: Exception) -> None:
        times = self._failures.failed(step, trouble, self._now())
        if times:
            self._complain(step, trouble, times)

    def _did_nothing(self, step: Step) -> None:
        """It may be taken again sooner than one that was done."""
        if step.refused_rest_ms is not None:
            self._rested[step] = self._now() - (step.rest_ms - step.refused_rest_ms) / 1000

    async def _still(self, step: Step) -> bool:
        """Whether plan() would choose the step again on a fresh view, with half of the lease left."""
        view = await self._submitter.view()
        left = self._lease_left()
        if self._seen is None or left <= SERVER_TTL / 2:
            return False
        memory = replace(self._memory, now=self._now() * 1000)
        fresh = replace(self._seen, lease_left=left, conditions=memory)
        return step in plan(view.state, self._me, fresh)

    async def close(self) -> None:
        """Let running steps go; each is safe to repeat."""
        for task in list(self._running.values()):
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
