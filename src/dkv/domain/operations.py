"""Domain: the long operations in one shape: what is under way, at which stage, how far, and which order ends it. Pure.

What an operation has to remember stands where its rules need it: a hot copy is a thing of its own, a restart belongs to its
database, a switchover to the phase of its group. An `Operation` is read from there and never stored (docs/decisions/0037).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dkv.domain import database_restart
from dkv.domain.command import Command
from dkv.domain.elections import electing_elsewhere
from dkv.domain.hotcopy import ENDS, CopyStage, HotCopy
from dkv.domain.model import Database, Group, State
from dkv.domain.orders import CancelHotCopy, StopRestart
from dkv.domain.phases import HandingOver, Leadership
from dkv.hints import Hint, hint


@dataclass(frozen=True)
class Operation:
    """One long operation that is under way. It ends by itself, done or given up, or by the order `cancel`."""

    kind: str  # of the three below
    subject: str  # what it is done to, as events name it
    database: str
    stage: str  # one of `stages`
    stages: tuple[str, ...]  # in the order they are passed through
    done: int  # of the `total` parts that it consists of
    total: int  # 0: it has no parts
    since: int  # when it began, wall clock ms; 0 unknown
    waits_for: str
    reason: str  # what is done now, in one clause
    hint: Hint = Hint()
    cancel: Command | None = None  # the order that ends it; None: it is over within seconds


HOT_COPY, RESTART, SWITCHOVER = "hot copy", "restart", "switchover"
COPYING_STAGES = tuple(stage.value for stage in CopyStage if stage not in ENDS)
REQUESTED, HANDING_OVER = "REQUESTED", "HANDING_OVER"


def operations(state: State, database: Database) -> Iterator[Operation]:
    """All that are under way in a database."""
    if operation := restart(state, database):
        yield operation
    for group in state.groups_of(database.name):
        if operation := switchover(state, group):
            yield operation
    for copy in state.copies.values():
        if copy.database == database.name and not copy.over:
            yield hot_copy(copy)


def hot_copy(copy: HotCopy) -> Operation:
    """A hot copy that has not ended; its parts are percent of the archive that is furthest behind."""
    servers = sorted({part.server_id for part in copy.parts if not part.copied})
    return Operation(
        HOT_COPY,
        f"hot copy {copy.copy_id}",
        copy.database,
        copy.stage.value,
        COPYING_STAGES,
        copy.percent,
        100,
        copy.begun_at,
        ", ".join(f"the manager of {server}" for server in servers),
        copy.doing,
        cancel=CancelHotCopy(now=0, copy_id=copy.copy_id),
    )


def restart(state: State, database: Database) -> Operation | None:
    """The restart of a database; its parts are processes. What is done next follows from the state, so it has one stage."""
    order = database.restart
    if order is None:
        return None
    now = database_restart.now(state, database, order)
    left = len(database_restart.outdated(state, database.name, order))
    return Operation(
        RESTART,
        f"database {database.name}",
        database.name,
        "ROLLING" if order.rolling else "STOPPING",
        ("ROLLING",) if order.rolling else ("STOPPING",),
        max(0, order.of - left),
        order.of,
        order.at,
        now.waits_for,
        now.reason,
        now.hint,
        StopRestart(now=0, name=database.name),
    )


def switchover(state: State, group: Group) -> Operation | None:
    """A planned change of leader: a request for it, then the handover, which a leader that is to leave begins without one."""
    phase = group.phase
    if isinstance(phase, HandingOver):
        to = state.name_of(phase.to_archive)
        stage, since, waits_for = HANDING_OVER, phase.at, to
        reason = f"{to} is to lead: the handover ends within 12 s, or is given up"
        cure = hint(f"Look at the logs of both engines and the manager of {to}.")
    elif isinstance(phase, Leadership) and phase.switchover:
        electing = electing_elsewhere(state, group)
        waits_for = f"group {electing.name}" if electing else f"the manager of {state.name_of(phase.leader)}"
        stage, since = REQUESTED, phase.switchover.at
        reason, cure = f"its leadership is to be handed over: {phase.switchover.reason}", Hint()
    else:
        return None
    stages = (REQUESTED, HANDING_OVER)
    return Operation(SWITCHOVER, group.subject, group.database, stage, stages, 0, 0, since, waits_for, reason, cure)
