"""Engine: connections and log-ins that an engine refused, so that its manager can report them.

Valkey 9.1 logs a TLS handshake that fails at its client port, with the address of the peer, and keeps wrong passwords in ACL LOG.
What the cluster bus turns away it logs at the level "verbose" only, beside each client that comes, so that is not reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

Refused = Callable[[str, str, str, int], None]
"""Takes the peer's address, the kind of the refusal, one line that says what was refused and why, and how often."""

_HANDSHAKE = re.compile(rb"Error accepting a client connection: ([^\n]{1,300}?) \(addr=([^ \n]{2,60}):\d+ ")
_REASON = re.compile(r"^error:[0-9A-F]*:[^:]*:[^:]*:")


def unreported(peer: str, kind: str, last: str, count: int) -> None:
    """Refusals that nobody is told of, as in tests."""


def refused_handshakes(text: bytes) -> Iterator[tuple[str, str]]:
    """The peers and reasons of the handshakes that failed, of lines of an engine's log. A script may log such lines, too."""
    for why, peer in _HANDSHAKE.findall(text):
        yield peer.decode("ascii", "replace"), _REASON.sub("", why.decode("utf-8", "replace"))


@dataclass(frozen=True)
class RefusedLogIn:
    """A log-in that was refused: the peer's address, the user that was named, and how often since the last look."""

    peer: str
    user: str
    count: int


class RefusedLogIns:
    """What is new in ACL LOG. One entry stands for the same refusal of the same client within a minute, and is counted on."""

    def __init__(self) -> None:
        self.total: int | None = None  # log-ins the engine refused so far; None: not looked yet
        self._counted: dict[int, int] = {}  # by the id of an entry

    def moved(self, total: int) -> bool:
        """Whether there are more than at the last look, of which the first is not judged: what was before has been told."""
        before, self.total = self.total, total
        return before is not None and total > before

    def new(self, entries: Iterable[Mapping[str, str]]) -> list[RefusedLogIn]:
        """Of the newest entries of ACL LOG, those of other clients than managers, whose socket is a path of this machine."""
        counted, found = {}, []
        for entry in entries:
            number, count = int(entry["entry-id"]), int(entry["count"])
            counted[number] = count
            peer = re.search(r"\baddr=(\S+):\d+", entry["client-info"])
            more = count - self._counted.get(number, 0)
            if entry["reason"] == "auth" and more > 0 and peer and not peer[1].startswith("/"):
                found.append(RefusedLogIn(peer[1], entry["username"][:100], more))
        self._counted = counted
        return found
