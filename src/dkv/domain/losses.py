"""Domain: what may be lost if an operator makes an archive lead that the rules would not choose. Pure.

The in-sync set answers whether a confirmed write can be lost at all; positions answer how far behind an archive is
known to be. What is not known is named as such and never guessed (docs/reference/safety.md#what-is-lost).
"""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain.model import Archive, Group, PositionReport, Reader
from dkv.domain.status import instances, last_tombstone, why_not_running

Distance = tuple[int, int, int | None]


@dataclass(frozen=True)
class Away:
    """A member of the in-sync set that cannot lead now: why, and the wall-clock ms at which its last process ended."""

    name: str
    why: str
    since: int | None


@dataclass(frozen=True)
class Bound:
    """How much an enforced leader can cost at most, as far as the domain knows.

    `position` is the archive's own report, `newest` the newest position of its group that was reported, `ended`
    the wall-clock ms at which the archive's last process ended; each None when it is not known.
    """

    name: str
    in_sync: bool
    away: tuple[Away, ...]
    position: PositionReport | None
    newest: PositionReport | None
    ended: int | None

    @property
    def behind(self) -> Distance | None:
        """(terms, markers, bytes) the archive is behind the newest known position; None if that is not known.

        Markers count within a term and bytes after a marker, so each is 0 or None where a coarser one differs.
        """
        if self.position is None or self.newest is None:
            return None
        mine, best = self.position, self.newest
        if mine.term != best.term:
            return (best.term - mine.term, 0, None)
        if mine.sequence != best.sequence:
            return (0, best.sequence - mine.sequence, None)
        return (0, 0, best.data_bytes - mine.data_bytes)

    @property
    def verdict(self) -> str:
        """One sentence: what may be lost, or why nothing confirmed can be."""
        if self.in_sync:
            return (
                f"No confirmed write can be lost, because {self.name} is in the in-sync set; "
                "acknowledged writes that were not confirmed may be."
            )
        return f"Confirmed writes made {self._since()} may be lost, because {self.name} is not in the in-sync set."

    def _since(self) -> str:
        if self.position is None:
            return f"since {self.name} left it (how far its data goes is not known: it has not reported)"
        if not self.position.term:
            return f"since {self.name} left it (its data has no marker, so how old it is is not known)"
        return f"after its last {place(self.position)}"


def place(report: PositionReport) -> str:
    """A position in words."""
    return f"marker {report.term}-{report.sequence} and the {report.data_bytes} bytes after it"


def bound(state: Reader, group: Group, archive: Archive) -> Bound:
    """What making this archive lead may cost, before anything is changed."""
    process = state.process_on(archive.archive_id)
    ended = last_tombstone(state, archive.archive_id)
    members = [a for a in instances(state, group.database) if a.archive_id in group.in_sync]
    return Bound(
        name=archive.name,
        in_sync=_was_in_sync(group, archive.archive_id),
        away=tuple(_away(state, a) for a in members if a.archive_id != archive.archive_id and not _can_lead(state, a)),
        position=process.report if process else None,
        newest=_newest(state, group),
        ended=ended.at if ended else None,
    )


def _was_in_sync(group: Group, archive_id: int) -> bool:
    """An archive that is being enforced was taken into S for that; its record says whether it was in S before."""
    if group.enforced == archive_id and group.enforcements:
        return group.enforcements[-1].in_sync
    return archive_id in group.in_sync


def _can_lead(state: Reader, archive: Archive) -> bool:
    process = state.process_on(archive.archive_id)
    if process is None or process.leaving:
        return False
    return state.server_alive(archive.server_id)


def _away(state: Reader, archive: Archive) -> Away:
    ended = last_tombstone(state, archive.archive_id)
    why = why_not_running(state, archive) or "it does not lead"
    if not state.server_alive(archive.server_id):
        why = f"its server {archive.server_id} is away"
    return Away(archive.name, why, ended.at if ended else None)


def _newest(state: Reader, group: Group) -> PositionReport | None:
    """The newest reported position: reports of this vacancy, and the last leader's position when its term opened."""
    reports = [p.report for p in state.processes_in(group) if p.report]
    reports += [group.opened_at] if group.opened_at else []
    return max(reports, key=lambda r: r.order, default=None)
