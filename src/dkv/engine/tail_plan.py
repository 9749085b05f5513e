"""Engine: how a dead engine's replication stream is continued from its files, as values (docs/decisions/0011).

The dead leader's stream held bytes its files do not hold (PING, GETACK), so offset minus place on disk differs between
its followers. In the stream that is continued from the files the offset of a byte is its place plus `shift`, for everybody.
A follower is brought there by one PING whose text fills the gap, under a history that only this follower ever has; then
it continues in a history that is new too. Whoever was not fed knows neither and resyncs in full.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from dkv.engine.contract import Identity


@dataclass(frozen=True)
class ByteRangeDigest:
    """Bytes of an archive's incremental files after a marker: how many, and their digest."""

    size: int
    digest: str


@dataclass(frozen=True)
class TailFollower:
    """A follower of the dead engine: where its stream and its disk stood, at the same moment."""

    node_id: str
    offset: int
    place: int  # bytes after the marker


@dataclass(frozen=True)
class TailPlan:
    """What is fed from which archive to whom. `marker` is (term, sequence, nonce) of the marker all of them have."""

    directory: str
    node_id: str  # of the dead engine
    address: str
    port: int
    secret: str
    marker: tuple[int, int, str]
    stretch: ByteRangeDigest  # all that the archive has after the marker
    former: str  # the history the followers have
    history: str  # the one they get
    shift: int
    followers: tuple[TailFollower, ...]

    @property
    def lowest(self) -> int:
        """The place furthest behind."""
        return min(follower.place for follower in self.followers)

    def filling_history(self, follower: TailFollower) -> str:
        """A history only this follower ever has: while the gap is being filled nobody else can continue it."""
        return hashlib.sha1(f"{self.history}:{follower.node_id}".encode(), usedforsecurity=False).hexdigest()

    def filled(self, follower: TailFollower) -> int:
        """The offset of this follower once its gap is filled."""
        return follower.place + self.shift


class Feeds(Protocol):
    """What a manager may ask of its engine room about a dead leader's tail; part of `Engines` (contract.py)."""

    async def digest(self, directory: str, marker: tuple[int, int, str], upto: int | None = None) -> ByteRangeDigest:
        """The first `upto` bytes after a marker, or all that an engine would load. Reads only, as `read_position` does.

        Raises ArchiveRefused when the marker or so many bytes are not there.
        """
        ...

    def handled(self) -> Mapping[str, int]:
        """Bytes that were read by `digest` or sent to followers since this manager began, by archive directory."""
        ...

    async def serve_tail(self, plan: TailPlan, identity: Identity) -> None:
        """Continue a dead engine's stream from its archive, listening where it listened, for 1.5 s from now.

        Safe to repeat, and it has to be repeated. Takes the archive's lock. Raises ArchiveRefused, and EngineRefused
        when a follower asked for something else than the plan has for it.
        """
        ...

    async def stop_tail(self, directory: str) -> None:
        """Stop listening at once. `launch` and `release` do it too."""
        ...
