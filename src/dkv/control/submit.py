"""submit: calls decide, and is the only writer of what it answers.

Take the newest view at hand, decide, commit at its revision; another manager was faster, or there is nothing to commit: read and
decide again (docs/decisions/0098). An Idempotency-Key makes the same request answer the same, through any manager, and another
request under it be refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from dkv.control.access import Access
from dkv.control.tally import Tally
from dkv.domain.command import Command
from dkv.domain.decide import decide
from dkv.domain.decision import Accepted, Decision, Event, Refused
from dkv.domain.model import State
from dkv.domain.refusals import domain_changed, key_reused
from dkv.store import codec
from dkv.store.contract import Conflict, Snapshot, Store, StoreError, Unavailable

ANSWERS = "answer/"  # records of answered Idempotency-Keys, outside the domain's own records
ANSWERS_KEPT = 500
Judge = Callable[[State, Command], Decision]
UID = "uid"  # the record that names the domain for ever


@dataclass(frozen=True)
class View:
    """The domain at one revision."""

    revision: int
    state: State


@dataclass(frozen=True)
class RequestKey:
    """An Idempotency-Key: `name` distinguishes it from all others, `request` is a digest of the one request that it stands for.

    `caller` is a digest of whose request it is. The answer is another caller's too: one person is `local uid 0` at the manager of
    the own machine and a token at all others, and sends one change to all of them. `beside` is remembered with the answer and
    given back with it, to the same caller only: what a caller is shown and no later state contains.
    """

    name: str
    request: str = ""
    caller: str = ""
    beside: Mapping[str, object] = field(default_factory=dict, compare=False)


def view_of(snapshot: Snapshot) -> View:
    """Decode a snapshot, from one decoded lately where it is known what changed since. Raises store.Unusable."""
    for known, view in _lately:
        if known is snapshot:
            return view
    view = View(snapshot.revision, _decoded(snapshot))
    _lately[:] = [(snapshot, view), *_lately[: LATELY - 1]]
    return view


def _decoded(snapshot: Snapshot) -> State:
    for known, view in _lately:
        if known.changes is snapshot.changes and known.revision <= snapshot.revision:
            changed = snapshot.changes.between(known.revision, snapshot.revision)
            if changed is not None:
                return codec.decode_changed(view.state, known.records, snapshot.records, changed)
    return codec.decode(snapshot.records)


LATELY = 3
_lately: list[tuple[Snapshot, View]] = []  # newest first; both are values that are never changed


class Submitter:
    """Turns commands into commits.

    `clock` gives the wall clock in ms; `token` gives a fresh random word; `on_event` is called with each event written, `access`
    notes whether commits get through, `tally` counts them. `judge` is decide(), or what compares its answer with another.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], int],
        token: Callable[[], str],
        on_event: Callable[[Event], None] = lambda event: None,
        access: Access | None = None,
        *,
        judge: Judge = decide,
        tally: Tally | None = None,
    ) -> None:
        self._store = store
        self._raced = False  # another manager was faster lately: a read costs less than a commit in vain
        self._judge = judge
        self._clock = clock
        self._token = token
        self._on_event = on_event
        self._access = access or Access(clock, lambda: 0.0, lambda text: None)
        self.tally = tally or Tally(lambda: 0.0)

    async def view(self) -> View:
        """A linearizable read. Raises store.Unavailable."""
        return view_of(await self._store.read())

    async def snapshot(self) -> Snapshot:
        """The domain's own records as they are kept, answered Idempotency-Keys left out. Raises store.Unavailable."""
        snapshot = await self._store.read()
        return Snapshot(snapshot.revision, {k: v for k, v in snapshot.records.items() if not k.startswith(ANSWERS)})

    async def create_domain(self, uid: str) -> str:
        """The domain's uid, given to it now if it has none: once for ever. Raises store.Unavailable, store.Unusable."""
        while True:
            snapshot = await self._store.read()
            state = view_of(snapshot).state
            if state.uid:
                return state.uid
            try:
                writes = codec.diff(state, replace(state, uid=uid))
                await self._store.commit(snapshot.revision, writes, [], self._token())
            except Conflict:
                continue

    async def check(self, command: Command) -> Accepted | Refused:
        """What submit would answer now; writes nothing. Raises store.Unavailable."""
        return self._judge((await self.view()).state, replace(command, now=command.now or self._clock()))

    async def answered(self, key: RequestKey | None) -> Accepted | Refused | None:
        """What a repeated request gets, whatever is true by now; None for one that was not accepted before. Raises
        store.Unavailable.
        """
        return _answered(await self._store.read(), key)

    async def submit(
        self, command: Command, key: RequestKey | None = None, *, at_revision: int | None = None
    ) -> Accepted | Refused:
        """Decide and commit. The answer is durable when this returns. With `at_revision` only if the domain is at that revision
        still. Raises store.Unavailable, store.Unusable.
        """
        command = replace(command, now=command.now or self._clock())
        known, raced = None if self._raced else self._store.known(), False
        while True:
            snapshot, fresh = (await self._store.read(), True) if known is None else (known, False)
            known = None
            answer = _answered(snapshot, key)
            if not answer and at_revision is not None and at_revision != snapshot.revision:
                answer = domain_changed(at_revision, snapshot.revision)
            state = view_of(snapshot).state
            decision = answer or self._judge(state, command)
            if answer or isinstance(decision, Refused) or (decision.state is state and not key):
                if not fresh:
                    continue  # only a commit proves that the state is not an old one
                if not answer:
                    self.tally.decided(state, command, isinstance(decision, Accepted))
                return decision
            begun = self.tally.now()
            try:
                await self._commit(snapshot, state, decision, key)
            except Conflict:
                self.tally.conflicts += 1
                self._raced = raced = True
                continue
            self._raced = raced
            self.tally.commits.note(self.tally.now() - begun)
            self.tally.decided(state, command, True)
            for event in decision.events:
                self._on_event(event)
            return decision

    async def _commit(self, snapshot: Snapshot, before: State, decision: Accepted, key: RequestKey | None) -> None:
        writes: dict[str, str | None] = dict(codec.diff(before, decision.state))
        if key:
            writes |= _remember(snapshot, key, decision, self._clock())
        events = [codec.to_text(event) for event in decision.events]
        token = self._token()
        for attempt in (1, 2, 3):
            try:
                await self._store.commit(snapshot.revision, writes, events, token)
            except Conflict:
                self._access.worked()
                raise
            except StoreError as trouble:
                self._access.failed(trouble)
                if attempt == 3 or not isinstance(trouble, Unavailable):
                    raise
            else:
                self._access.worked()
                return


def _remember(snapshot: Snapshot, key: RequestKey, decision: Accepted, now: int) -> dict[str, str | None]:
    known = {k: json.loads(v)["at"] for k, v in snapshot.records.items() if k.startswith(ANSWERS)}
    oldest = sorted(known, key=lambda k: known[k])[: max(0, len(known) + 1 - ANSWERS_KEPT)]
    record: dict[str, object] = {"at": now, "request": key.request, "answer": {**decision.answer, **key.beside}}
    if key.beside:
        record["caller"] = key.caller
    return {**dict.fromkeys(oldest, None), ANSWERS + key.name: json.dumps(record)}


def _answered(snapshot: Snapshot, key: RequestKey | None) -> Accepted | Refused | None:
    text = snapshot.records.get(ANSWERS + key.name) if key else None
    if key is None or text is None:
        return None
    record = json.loads(text)
    same = (record.get("request", ""), record.get("caller", key.caller)) == (key.request, key.caller)
    return Accepted(view_of(snapshot).state, (), record["answer"]) if same else key_reused()
