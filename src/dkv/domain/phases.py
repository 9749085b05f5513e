"""Who leads a storage group: its phase, one of four values. A field stands only in the phases in which it means something.

Between two opened terms a group is in an `Election`: `Vacant`, or `Assigned` to a leader whose term may still be superseded.
Only under a `Leadership` are writes admitted: `Open`, or `HandingOver`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from dkv.domain.positions import TailTransfer
from dkv.domain.states import JoinStage


@dataclass(frozen=True)
class Moment:
    """One moment on both clocks, in ms."""

    clock: int  # domain clock, which only Tick moves: what rules judge by
    wall: int  # wall clock, since 1970: only shown


@dataclass(frozen=True)
class Joining:
    """One archive on its way into the in-sync set."""

    archive_id: int
    start_id: int
    stage: JoinStage
    sequence: int = 0  # of the marker it must have on its disk
    nonce: str = ""
    at: int = 0  # when it reached this stage, to be shown


@dataclass(frozen=True)
class SwitchoverRequest:
    """A change of leader that was asked for; the leader's manager begins the handover, and it is forgotten with that."""

    to_process: int | None  # start id; None: whichever member of S is furthest
    reason: str
    actor: str = ""
    at: int = 0
    since: int | None = None  # domain clock, armed by the first Tick


@dataclass(frozen=True, kw_only=True)
class Election:
    """No term is open."""

    name: str  # in the words of lifecycle.py; in a stored state it says which of the four phases this is
    contested: tuple[int, ...] = ()  # archives of a handover whose leader died: all are asked
    enforced: int | None = None  # archive an operator forced to lead, until it leads
    tail_abandoned: bool = False  # giving a dead leader's tail was tried since the last term ended, and given up


@dataclass(frozen=True, kw_only=True)
class Vacant(Election):
    """The group has no leader."""

    name: Literal["VACANT"] = "VACANT"
    since: Moment | None = None  # set by the first Tick that finds processes to choose from

    def waited(self, clock: int) -> int:
        """For how many ms of the domain clock a leader has been looked for."""
        return clock - self.since.clock if self.since else 0


@dataclass(frozen=True, kw_only=True)
class Assigned(Election):
    """A leader was chosen for the newest term and has not opened it; another one is chosen if it makes no progress."""

    name: Literal["ASSIGNED"] = "ASSIGNED"
    leader: int  # archive id
    leader_process: int  # start id
    since: Moment | None = None  # set by the first Tick
    stalled_since: int | None = None  # domain clock: no progress; set by the first Tick after any
    tail: TailTransfer | None = None  # what the leader is given before its term may open


@dataclass(frozen=True, kw_only=True)
class Leadership:
    """A term is open: its leader admits writes."""

    name: str  # likewise
    leader: int  # archive id
    leader_process: int  # start id
    joining: tuple[Joining, ...] = ()  # archives on their way into S
    switchover: SwitchoverRequest | None = None  # a planned change of leader that was asked for


@dataclass(frozen=True, kw_only=True)
class Open(Leadership):
    """One engine leads."""

    name: Literal["OPEN"] = "OPEN"
    serving: bool = False  # it reported that it leads


@dataclass(frozen=True, kw_only=True)
class HandingOver(Leadership):
    """A planned change of leader. While it stands either engine may lead and neither is killed for it."""

    name: Literal["HANDOVER"] = "HANDOVER"
    to_archive: int
    to_process: int
    immediate: bool = False  # before an operator's kill: given up after 2 s
    at: int = 0  # when it began, to be shown
    sequence: int = 0  # of the leader's newest marker of this term then; a later one shows that no script runs on it


Phase: TypeAlias = Vacant | Assigned | Open | HandingOver
