"""Model: the rules. Each is a function of a state that yields what may come next, with words for it.

What a rule of dkv demands stands in a `Clauses` field; the same name stands, as `model: name`, beside the code that it is a model
of. A mutant sets one field to False.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from dkv.sim.model.group import (
    ANNOUNCED,
    ASSIGNED,
    DEAD,
    FAILOVER,
    FOLLOWS,
    FROZEN,
    GONE,
    HANDOVER,
    LEADS,
    MARK,
    MARKED,
    NO_ARCHIVE,
    NO_ORDER,
    NONE,
    NOTED,
    OPEN,
    REQUIRED,
    RUNS,
    SERVING,
    TAKEOVER,
    UNFENCE,
    VACANT,
    Bounds,
    State,
    View,
)

Next: TypeAlias = Iterator[tuple[str, State]]
Change: TypeAlias = Callable[[State], object]


@dataclass(frozen=True)
class Clauses:
    """What the rules demand; all hold in dkv. The code that does so says `model: name`."""

    confirm_by_name: bool = True  # every required archive acknowledged, not as many as that
    confirm_on_the_leader_named: bool = True  # by a view of the term and the leader that the write was sent to
    required_before_growing: bool = True  # views from before a joiner was required are too old when S grows
    required_first: bool = True  # a joiner is required before it is in S
    caught_up_before_growing: bool = True  # and has all that the leader had when the marker had been required for a second
    only_the_leader_shrinks: bool = True
    silence_is_probed: bool = True  # an engine that never attached says silence only if the leader's port is closed
    proven_before_assign: bool = True  # each process that may lead has stopped, or is cut off beyond its fence time
    fenced_before_reported: bool = True  # the position of a leader is read when it takes no writes any more
    last_leader_first: bool = True  # its archive is waited for, and leads if it answers
    fenced_by_own_clock: bool = True  # a manager that is cut off fences before its lease can end
    in_sync_kept_at_assign: bool = True  # S is what it was until the term opens
    shared_history_stays: bool = True  # at the opening S loses what does not continue the leader's history
    takeover_after_open: bool = True
    read_after_takeover: bool = True  # no replica and no write is let in before one more fresh read
    attach_by_order: bool = True  # an engine that was started attaches only when it is ordered to
    marker_before_handover: bool = True
    positions_after_a_handover: bool = True  # then disks are compared, because either may have led in a history of its own
    contested_are_asked: bool = True  # after a handover that ended in a vacancy both archives are waited for


class Rules:
    """The transitions of one group under some clauses, within bounds."""

    def __init__(self, clauses: Clauses, bounds: Bounds) -> None:
        self.clauses, self.bounds = clauses, bounds

    def after(self, state: State) -> Next:
        """Everything that may happen next."""
        yield from self._faults(state)
        yield from self._time(state)
        yield from self._domain(state)
        yield from self._leader(state)
        yield from self._orders(state)
        yield from self._engines(state)
        yield from self._client(state)
        if self.bounds.joins:
            yield from self._joins(state)
        if self.bounds.handovers:
            yield from self._handovers(state)

    # -- what goes wrong ---------------------------------------------------------------------------------------------------

    def _faults(self, s: State) -> Next:
        for i in s.archives():
            if s.down[i]:
                continue
            if s.manager[i] != RUNS:
                yield from self._healed(s, f"manager {i} is back", i, manager=RUNS)
            if s.cut[i]:
                yield from self._healed(s, f"machine {i} is heard again", i, cut=0)
        if s.faults >= self.bounds.faults:
            return
        for i in s.archives():
            if not s.down[i]:
                yield from self._faults_of(s, i)

    def _faults_of(self, s: State, i: int) -> Next:
        kinds = self.bounds.kinds
        if "crash" in kinds and s.role[i] != GONE:
            yield from self._fault(s, f"engine {i} ends", lambda t: end_engine(t, i))
        if "manager" in kinds and s.manager[i] == RUNS:
            yield from self._fault(s, f"manager {i} ends", lambda t: t.put(i, manager=DEAD))
        if "freeze" in kinds and s.manager[i] == RUNS:
            yield from self._fault(s, f"manager {i} stands still", lambda t: t.put(i, manager=FROZEN))
        if "cut" in kinds and not s.cut[i]:
            yield from self._fault(s, f"machine {i} is cut off", lambda t: t.put(i, cut=1))
        if "lost" in kinds and sum(s.down) < len(s.down) - 1:
            yield from self._fault(s, f"machine {i} is lost", lambda t: _lose(t, i))

    def _healed(self, s: State, words: str, i: int, **values: object) -> Next:
        t = s.copy()
        t.put(i, **values)
        yield words, t

    def _fault(self, s: State, words: str, change: Change) -> Next:
        t = s.copy()
        t.faults += 1
        change(t)
        yield words, t

    # -- time: leases and silence ------------------------------------------------------------------------------------------

    def _time(self, s: State) -> Next:
        judged = any(s.commits(i) for i in s.archives())
        for i in s.archives():
            if s.alive[i] and not s.commits(i) and judged:
                t = s.copy()
                t.put(i, alive=0)
                t.view = None
                if self.clauses.fenced_by_own_clock and s.manager[i] == RUNS and s.role[i] == LEADS and self._unheard(s, i):
                    t.put(i, fenced=1)
                yield f"the lease of server {i} is lost", t
            if not s.alive[i] and s.commits(i):
                t = s.copy()
                t.put(i, alive=1)
                yield f"server {i} joins again", t
            yield from self._silence(s, i)

    def _unheard(self, s: State, leader: int) -> bool:
        """Whether a member of S does not acknowledge to a leader."""
        return any(not self._acknowledges(s, i, leader) for i in s.members(s.in_sync) if i != leader)

    def _acknowledges(self, s: State, i: int, leader: int) -> bool:
        linked = s.role[i] == FOLLOWS and s.role[leader] == LEADS and bool(s.attached[i]) and s.follows[i] == leader
        return linked and s.hears(i, leader)

    def _silence(self, s: State, i: int) -> Next:
        """A member of S says that it hears nothing of a leader whose lease is lost, or that it hears it again."""
        if not s.open() or i == s.leader or not s.commits(i) or s.role[i] != FOLLOWS:
            return
        heard = self._acknowledges(s, i, s.leader)
        if self.clauses.silence_is_probed and s.lineage[i] == 0:  # it never attached, so that no link of it could be silent
            heard = s.role[s.leader] == LEADS and s.hears(i, s.leader)
        if not heard and not s.alive[s.leader] and not s.silent >> i & 1:
            t = s.copy()
            t.silent, t.view = s.silent | 1 << i, None
            if s.cut[s.leader]:
                t.left |= 1 << s.leader  # cut off for longer than its lease: it counts as unreachable
            yield f"archive {i} hears nothing of its leader", t
        if heard and s.silent >> i & 1:
            t = s.copy()
            t.silent &= ~(1 << i)
            t.left &= ~(1 << s.leader)
            yield f"archive {i} hears its leader again", t

    # -- the domain: who leads -----------------------------------------------------------------------------------------------

    def _domain(self, s: State) -> Next:
        for i in s.archives():
            if s.commits(i) and s.role[i] == GONE:
                yield f"the end of engine {i} is reported, and it is started", self._restarted(s, i)
            if s.evicted >> i & 1 and s.commits(i) and s.role[i] != GONE:
                t = s.copy()
                end_engine(t, i)
                yield f"manager {i} ends its engine, which the domain does not know", t
            if s.commits(i) and s.role[i] == FOLLOWS and s.suspects >> i & 1 and s.phase != ASSIGNED:
                yield from self._stepped_down(s, i)
        if s.open() or s.phase == ASSIGNED:
            yield from self._lost(s)
        if self.bounds.evictions and s.open() and not s.alive[s.leader] and any(s.commits(i) for i in s.archives()):
            t = s.copy()
            t.evicted |= 1 << t.leader
            t.excused |= t.acknowledged  # the operator gave up what it alone holds
            vacate(t)
            yield f"an operator evicts process {s.leader}", t
        if s.phase == VACANT:
            yield from self._vacancy(s)

    def _restarted(self, s: State, i: int) -> State:
        t = s.copy()
        t.suspects &= ~(1 << i)
        t.evicted &= ~(1 << i)
        t.silent &= ~(1 << i)
        if t.joiner == i:
            t.joiner, t.stage, t.required = NO_ARCHIVE, NONE, t.required & ~(1 << i)
        if t.phase != VACANT and i == t.leader:
            vacate(t)
        t.put(i, role=FOLLOWS, fenced=1, lineage=0)
        if not self.clauses.attach_by_order:
            t.put(i, follows=next((j for j in t.archives() if t.role[j] == LEADS and t.hears(i, j)), NO_ARCHIVE))
        t.reported &= ~(1 << i)
        return t

    def _stepped_down(self, s: State, i: int) -> Next:
        if i == s.leader and s.phase == HANDOVER:
            return
        t = s.copy()
        if i == s.leader:
            vacate(t)
        t.suspects &= ~(1 << i)
        yield f"engine {i}, which may have led, follows", t

    def _living(self, s: State) -> list[int]:
        """Members of S, but for the leader, whose engines answer on servers that are alive."""
        return [i for i in s.members(s.in_sync) if i != s.leader and s.alive[i] and s.role[i] == FOLLOWS and not s.down[i]]

    def _lost(self, s: State) -> Next:
        if s.alive[s.leader] or not any(s.commits(i) for i in s.archives()):
            return
        living = self._living(s)
        silent = bool(living) and all(s.silent >> i & 1 for i in living)
        if s.phase == ASSIGNED or silent:
            t = s.copy()
            vacate(t)
            yield f"server {s.leader} is lost: the group has no leader", t

    def _vacancy(self, s: State) -> Next:
        for i in s.archives():
            suspected = s.role[i] == FOLLOWS and s.suspects >> i & 1  # it says first that it does not lead
            if s.commits(i) and s.role[i] != GONE and not suspected and not (s.reported | s.evicted) >> i & 1:
                t = s.copy()
                t.reported |= 1 << i
                if s.role[i] == LEADS and self.clauses.fenced_before_reported:
                    t.put(i, fenced=1)
                yield f"archive {i} reports its position", t
        chosen = self._chosen(s)
        if chosen is not None and s.term < self.bounds.terms:
            t = s.copy()
            assign(t, chosen)
            if not self.clauses.in_sync_kept_at_assign:
                t.in_sync = 1 << chosen
            yield f"archive {chosen} is assigned in term {t.term}", t

    def _chosen(self, s: State) -> int | None:
        """The archive to assign; None while an answer is awaited that could change it, or none may lead."""
        ready = [i for i in s.members(s.in_sync) if self._ready(s, i)]
        first = s.contested if s.contested and self.clauses.contested_are_asked else 1 << s.last
        awaited = [
            i
            for i in s.members(first & ~s.evicted)
            if not self._ready(s, i) and not s.down[i] and not (s.cut[i] and not s.alive[i])
        ]
        if awaited and self.clauses.last_leader_first:
            return None
        decided = s.last in ready and not s.contested
        if not decided and any(s.alive[i] and not self._ready(s, i) for i in s.members(s.in_sync)):
            return None
        proven = [i for i in ready if self._proven(s, i)]
        return max(proven, key=lambda i: self._rank(s, i)) if proven else None

    def _ready(self, s: State, i: int) -> bool:
        return bool(s.alive[i]) and bool(s.reported >> i & 1) and s.role[i] != GONE and not s.down[i]

    def _rank(self, s: State, i: int) -> tuple[bool, int, tuple[int, int], int]:
        first = self.clauses.last_leader_first and i == s.last and not s.contested
        moved = bool(s.contested) and self.clauses.positions_after_a_handover
        shared = s.lineage[i] != 0 and s.lineage[i] == s.history and not moved
        return first, len(s.log[i]) if shared else 0, s.position(i), -i

    def _proven(self, s: State, chosen: int) -> bool:
        """Whether each other suspect has stopped, or is cut off beyond its fence time."""
        if not self.clauses.proven_before_assign:
            return True
        for i in s.members(s.suspects):
            if i == chosen:
                continue
            if s.alive[i]:
                return False
            if not (s.contested | 1 << s.last) >> i & 1:
                continue
            if not all(s.silent >> j & 1 for j in self._living(s) if j != i):
                return False
        return True

    # -- the leader's manager ------------------------------------------------------------------------------------------------

    def _leader(self, s: State) -> Next:
        i = s.leader
        if i == NO_ARCHIVE or not s.commits(i) or s.role[i] == GONE:
            return
        if s.phase == ASSIGNED:
            yield f"archive {i} opens term {s.term}", self._opened(s, i)
        if s.phase == OPEN and s.role[i] == LEADS and not s.fenced[i] and s.admits[i]:
            t = s.copy()
            t.phase, t.history = SERVING, t.lineage[i]
            yield f"archive {i} serves", t
        may = s.open() or (s.phase == ASSIGNED and not self.clauses.takeover_after_open)
        if may and s.alive[i] and s.order[i][0] == NO_ORDER and s.phase != HANDOVER:
            if s.role[i] == FOLLOWS and s.phase != SERVING:
                yield f"manager {i} orders TAKEOVER", ordered(s, i, TAKEOVER)
            elif s.role[i] == LEADS and (s.fenced[i] or not s.admits[i]):
                yield f"manager {i} has read once more, and lets writes in", ordered(s, i, UNFENCE)
        yield from self._shrinks(s)

    def _opened(self, s: State, i: int) -> State:
        t = s.copy()
        t.put(i, fenced=1)
        stay = 1 << i
        for j in s.members(s.in_sync):
            shares = s.role[j] == FOLLOWS and s.lineage[j] == s.lineage[i] == s.history and len(s.log[j]) <= len(s.log[i])
            if j != i and (shares or not self.clauses.shared_history_stays):
                stay |= 1 << j
        t.phase, t.in_sync, t.required, t.silent, t.last = OPEN, stay, stay & ~(1 << i), 0, i
        t.suspects |= 1 << i
        t.contested = t.reported = 0
        t.history = t.lineage[i]
        return t

    def _shrinks(self, s: State) -> Next:
        if not s.open() or s.phase == HANDOVER:
            return
        for j in s.members(s.in_sync):
            if j != s.leader and not self._acknowledges(s, j, s.leader):
                for i in s.archives() if not self.clauses.only_the_leader_shrinks else (s.leader,):
                    if s.commits(i) and (i != s.leader or s.role[i] == LEADS):
                        t = s.copy()
                        left = j if i == s.leader else s.leader  # it takes out the leader, which it does not hear
                        t.in_sync &= ~(1 << left)
                        t.required &= ~(1 << left)
                        yield f"manager {i} takes archive {left} out of S", t

    # -- orders that were sent -----------------------------------------------------------------------------------------------

    def _orders(self, s: State) -> Next:
        for i in s.archives():
            order, term = s.order[i]
            if order == NO_ORDER or s.role[i] == GONE:
                continue
            t = s.copy()
            t.put(i, order=(NO_ORDER, 0))
            if order == TAKEOVER and s.role[i] == FOLLOWS:
                lead(t, i, 1 + max(s.epoch))
                t.put(i, fenced=1, admits=0)
                if not self.clauses.read_after_takeover:
                    let_in(t, i, term)
            elif order == UNFENCE and s.role[i] == LEADS:
                let_in(t, i, term)
            elif order == FAILOVER:
                take_over_from(t, i)
            yield f"engine {i} executes {('', 'TAKEOVER', 'the order to let writes in', 'FAILOVER')[order]}", t

    # -- engines by themselves -------------------------------------------------------------------------------------------------

    def _engines(self, s: State) -> Next:
        for i in s.archives():
            if s.role[i] == LEADS:
                yield from self._outbid(s, i)
            elif s.role[i] == FOLLOWS:
                yield from self._ordered_to_follow(s, i)
                yield from self._follows(s, i)

    def _outbid(self, s: State, i: int) -> Next:
        for j in s.archives():
            if j != i and s.role[j] == LEADS and s.epoch[j] > s.epoch[i] and s.hears(i, j):
                t = s.copy()
                follow(t, i, j)
                yield f"engine {i} hears that engine {j} leads with a higher epoch", t
        stale = s.open() and s.leader != i and not (s.phase == HANDOVER and i == s.target)
        if stale and s.commits(i):
            t = s.copy()
            end_engine(t, i)
            yield f"manager {i} ends its engine, which leads and is not the leader", t

    def _ordered_to_follow(self, s: State, i: int) -> Next:
        j = s.leader
        wanted = s.phase == SERVING and i != j and s.commits(i) and s.alive[i] and not (s.attached[i] and s.follows[i] == j)
        member = s.in_sync >> i & 1 and s.lineage[i] != 0
        if wanted and s.role[j] == LEADS and (i == s.joiner or member) and s.follows[i] != j:
            t = s.copy()
            follow(t, i, j)
            yield f"manager {i} orders its engine to follow engine {j}", t

    def _follows(self, s: State, i: int) -> Next:
        j = s.follows[i]
        for k in s.archives():
            if j != NO_ARCHIVE and k not in (i, j) and s.role[k] == LEADS and s.epoch[k] > s.epoch[j] and s.hears(i, k):
                t = s.copy()
                follow(t, i, k)
                yield f"engine {i} hears of engine {k}, which leads with a higher epoch", t
        if j == NO_ARCHIVE or s.role[j] != LEADS or not s.hears(i, j):
            return
        if not s.attached[i] and s.admits[j]:
            t = s.copy()
            if not (s.continues(i, j) and s.lineage[i] != 0):
                t.put(i, log=t.log[j])
            t.put(i, attached=1, lineage=t.lineage[j])
            yield f"engine {i} attaches to engine {j}", t
        elif s.attached[i] and len(s.log[i]) < len(s.log[j]):
            t = s.copy()
            t.put(i, log=s.log[j][: len(s.log[i]) + 1])
            yield f"engine {i} has one record more of engine {j}", t

    # -- one client ------------------------------------------------------------------------------------------------------------

    def _client(self, s: State) -> Next:
        if any(s.commits(i) for i in s.archives()) and s.phase in (OPEN, SERVING, HANDOVER):
            view = View(s.term, s.leader, s.required)
            if view != s.view:
                t = s.copy()
                t.view = view
                yield f"the client reads: archive {s.leader} leads in term {s.term}, and {s.required:b} is required", t
        if s.writing is not None:
            t = s.copy()
            t.writing = None
            yield "the client gives its write up", t
            yield from self._confirms(s)
        elif s.view is not None and s.written < self.bounds.writes:
            i = s.view.leader
            if s.role[i] == LEADS and not s.fenced[i] and not s.down[i]:
                t = s.copy()
                t.written += 1
                t.put(i, log=(*s.log[i], t.written))
                t.acknowledged |= 1 << t.written
                if s.left >> i & 1:
                    t.excused |= 1 << t.written
                t.writing = (i, t.written, len(t.log[i]), s.view.term)
                yield f"write {t.written} is acknowledged by engine {i}", t

    def _confirms(self, s: State) -> Next:
        assert s.writing is not None
        i, write, place, term = s.writing
        view = s.view
        if view is None or s.role[i] != LEADS:
            return
        if self.clauses.confirm_on_the_leader_named and (view.term, view.leader) != (term, i):
            return
        have = sum(1 << j for j in s.archives() if s.attached[j] and s.follows[j] == i and len(s.log[j]) >= place)
        named = view.required & ~(1 << i)
        enough = have & named == named if self.clauses.confirm_by_name else have.bit_count() >= named.bit_count()
        if enough:
            t = s.copy()
            t.writing = None
            t.confirmed |= 1 << write
            yield f"write {write} is confirmed", t

    # -- joining ---------------------------------------------------------------------------------------------------------------

    def _joins(self, s: State) -> Next:
        i, j = s.leader, s.joiner
        if s.phase != SERVING or not s.commits(i) or s.role[i] != LEADS:
            return
        if j == NO_ARCHIVE:
            for k in s.archives():
                if k != i and not s.in_sync >> k & 1 and s.role[k] == FOLLOWS and s.alive[k]:
                    yield f"archive {k} may join", _joining(s, k, ANNOUNCED)
            return
        if s.stage == ANNOUNCED and self._acknowledges(s, j, i):
            t = _joining(s, j, MARKED)
            t.put(i, log=(*s.log[i], MARK + s.term))
            t.noted = len(t.log[i])
            yield f"a marker is written for archive {j}", t
        there = len(s.log[j]) >= s.noted and self._acknowledges(s, j, i)
        if s.stage == MARKED and s.commits(j) and there:
            t = _joining(s, j, REQUIRED)
            if self.clauses.required_first:
                t.required |= 1 << j
            yield f"archive {j} is required", t
        if s.stage == REQUIRED:
            t = _joining(s, j, NOTED)
            t.noted = len(s.log[i])
            if self.clauses.required_before_growing:
                t.view = None
            yield "a second passes; the leader's offset is noted", t
        if s.stage == NOTED and (there or not self.clauses.caught_up_before_growing):
            t = _joining(s, NO_ARCHIVE, NONE)
            t.in_sync |= 1 << j
            t.required |= 1 << j
            yield f"archive {j} is in S", t
        if not self._acknowledges(s, j, i) and s.stage != ANNOUNCED:
            t = _joining(s, NO_ARCHIVE, NONE)
            t.required &= ~(1 << j)
            yield f"archive {j} does not join", t

    # -- handing over ------------------------------------------------------------------------------------------------------------

    def _handovers(self, s: State) -> Next:
        i, target = s.leader, s.target
        if s.phase == SERVING and s.commits(i) and s.role[i] == LEADS and s.handovers < self.bounds.handovers:
            for j in s.members(s.in_sync & ~(1 << i)):
                if self._acknowledges(s, j, i):
                    t = s.copy()
                    t.phase, t.target, t.handovers = HANDOVER, j, s.handovers + 1
                    yield f"archive {i} hands over to archive {j}", t
        if s.phase != HANDOVER:
            return
        marked = s.position(target)[0] == MARK + s.term or not self.clauses.marker_before_handover
        if s.commits(target) and s.role[target] == FOLLOWS and s.order[target][0] == NO_ORDER and marked:
            yield f"manager {target} orders FAILOVER", ordered(s, target, FAILOVER)
        if s.role[target] == LEADS and (s.commits(i) or s.commits(target)) and s.term < self.bounds.terms:
            t = s.copy()
            t.phase, t.term, t.leader, t.last, t.target = SERVING, s.term + 1, target, target, NO_ARCHIVE
            t.required, t.history, t.silent = s.in_sync & ~(1 << target), s.lineage[target], 0
            t.suspects |= 1 << target
            yield f"archive {target} was seen leading: term {t.term}", t
        if s.commits(i) and s.role[i] == LEADS:
            t = s.copy()
            t.phase, t.target = SERVING, NO_ARCHIVE
            yield "the handover is over, and the old leader leads on", t


def _joining(s: State, j: int, stage: int) -> State:
    t = s.copy()
    t.joiner, t.stage = j, stage
    if j == NO_ARCHIVE:
        t.noted = 0
    return t


def ordered(s: State, i: int, order: int) -> State:
    """A manager sent an order, after a fresh read; it is executed some time later, or never."""
    t = s.copy()
    t.put(i, order=(order, s.term))
    return t


def end_engine(t: State, i: int) -> None:
    """Its disk stays; what it was sent is gone, and its followers' links end."""
    t.put(i, role=GONE, fenced=1, admits=0, attached=0, lineage=0)
    t.put(i, follows=NO_ARCHIVE, order=(NO_ORDER, 0))
    t.left &= ~(1 << i)
    _unlink(t, i)
    if t.writing is not None and t.writing[0] == i:
        t.writing = None


def _unlink(t: State, leader: int) -> None:
    for j in t.archives():
        if t.follows[j] == leader:
            t.put(j, attached=0)


def _lose(t: State, i: int) -> None:
    """A machine and its disk, for good. What it alone had was acknowledged, not confirmed."""
    end_engine(t, i)
    t.put(i, down=1, manager=DEAD, cut=0, log=())


def vacate(t: State) -> None:
    """The group has no leader. S, `required` and what was said of silence stay."""
    if t.phase == HANDOVER:
        t.contested = 1 << t.leader | 1 << t.target
        t.suspects |= 1 << t.target
    if t.phase != ASSIGNED:
        t.reported = 0
    t.phase, t.leader, t.target, t.joiner, t.stage, t.noted = VACANT, NO_ARCHIVE, NO_ARCHIVE, NO_ARCHIVE, NONE, 0


def assign(t: State, chosen: int) -> None:
    """A new term with its leader. What only machines had that cannot be reached now may be missing from here on."""
    for i in t.members(t.contested | 1 << t.last):
        if t.cut[i] or t.down[i] or t.left >> i & 1:
            missing = set(range(1, t.written + 1)) - set(t.log[chosen])
            t.excused |= sum(1 << write for write in missing)
            t.left |= 1 << i
    t.phase, t.term, t.leader = ASSIGNED, t.term + 1, chosen


def lead(t: State, i: int, epoch: int) -> None:
    """It leads, with a replication history of its own."""
    t.put(i, role=LEADS, epoch=epoch, attached=0, follows=NO_ARCHIVE, lineage=10 * epoch + i)


def let_in(t: State, i: int, term: int) -> None:
    """Its term's marker is written; replicas and writes are let in."""
    if t.position(i)[0] != MARK + term:
        t.put(i, log=(*t.log[i], MARK + term))
    t.put(i, admits=1, fenced=0)


def follow(t: State, i: int, j: int) -> None:
    """It follows another engine, and is not attached yet."""
    if t.role[i] == LEADS:
        _unlink(t, i)
        t.left &= ~(1 << i)
    t.put(i, role=FOLLOWS, follows=j, attached=0, admits=0)


def take_over_from(t: State, i: int) -> None:
    """The coordinated failover: the leader pauses, this follower catches up, is elected and leads; all at once."""
    j = t.follows[i]
    if t.role[i] != FOLLOWS or j == NO_ARCHIVE or t.role[j] != LEADS or not t.attached[i] or not t.hears(i, j):
        return
    if t.continues(i, j):
        t.put(i, log=t.log[j])
        lead(t, i, 1 + max(t.epoch))
        t.put(i, fenced=0, admits=1)
        follow(t, j, i)
