"""Domain: how a certificate authority is changed while everything runs, as one pure value.

PREPARED: the new authority stands beside the old one, every server trusts both and still shows leaves of the old one.
SWITCHED: every server has both, so new leaves are of the new one; both are still trusted. DONE: every server shows a new
leaf, so the old authority is dropped. A phase ends when every server reported it, or was left out by an operator.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from dkv.domain.decision import Refused
from dkv.domain.refusals import no
from dkv.hints import action


class Phase(StrEnum):
    """How far the change of an authority has come; DONE when none is under way."""

    PREPARED = "PREPARED"
    SWITCHED = "SWITCHED"
    DONE = "DONE"


@dataclass(frozen=True)
class Rotation:
    """The authorities of one owner: PEM texts, and the uids of the servers that reported the present phase."""

    current: str
    other: str = ""  # PREPARED: the next one; SWITCHED: the former one
    phase: Phase = Phase.DONE
    reported: tuple[str, ...] = ()

    @property
    def trusted(self) -> tuple[str, ...]:
        """The authorities whose leaves are believed, the one that signs first."""
        return (self.current, self.other) if self.other else (self.current,)

    @property
    def bundle(self) -> str:
        """The same as the text of a CA file."""
        return "".join(self.trusted)


def prepare(rotation: Rotation, following: str) -> Rotation | Refused:
    """Put a new authority beside the present one."""
    if rotation.phase is not Phase.DONE:
        return no(
            "rotation_running",
            f"The authority is being changed already: its phase is {rotation.phase}.",
            "Wait for it. The servers that it waits for: ",
            action("showWaiting"),
            ".",
        )
    return replace(rotation, other=following, phase=Phase.PREPARED, reported=())


def report(rotation: Rotation, server_uid: str, phase: Phase) -> Rotation:
    """A server trusts or shows what that phase asks for. A report of another phase is out of date and changes nothing."""
    if phase is not rotation.phase or phase is Phase.DONE or server_uid in rotation.reported:
        return rotation
    return replace(rotation, reported=(*rotation.reported, server_uid))


def missing(rotation: Rotation, servers: Collection[str], without: Collection[str] = ()) -> tuple[str, ...]:
    """The uids of the servers that the phase waits for, in order; none when no change is under way."""
    if rotation.phase is Phase.DONE:
        return ()
    return tuple(sorted(set(servers) - set(rotation.reported) - set(without)))


def advance(rotation: Rotation, servers: Collection[str], without: Collection[str] = ()) -> Rotation:
    """The next phase, if no server is missing; else the same."""
    if rotation.phase is Phase.DONE or missing(rotation, servers, without):
        return rotation
    if rotation.phase is Phase.PREPARED:
        return Rotation(current=rotation.other, other=rotation.current, phase=Phase.SWITCHED)
    return Rotation(current=rotation.current)
