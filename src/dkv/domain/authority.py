"""Domain: how a certificate authority is changed while everything runs, as one pure value.

PREPARED: the new authority stands beside the old one, every server trusts both and still shows leaves of the old one. It may be
held there, so that clients can be given both before they need the new one.
SWITCHED: every server has both, so new leaves are of the new one; both are still trusted. DONE: every server shows a new
leaf, so the old authority is dropped. A phase ends when every server reported it, or was left out by an operator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace

from dkv.domain.access import MANAGERS, Authority, RotationPhase
from dkv.domain.decision import Refused
from dkv.domain.model import Reader
from dkv.domain.refusals import no
from dkv.hints import action


def prepare(authority: Authority, following: str, key: str, now: int, *, held: bool = False) -> Authority | Refused:
    """Put a new authority, with its sealed key, beside the present one, and stay there while it is held."""
    if authority.phase is not RotationPhase.DONE:
        return no(
            "rotation_running",
            f"The authority is being changed already: its phase is {authority.phase}.",
            "Wait for it. The servers that it waits for: ",
            action("showWaiting"),
            ".",
        )
    phase = RotationPhase.PREPARED
    number, without = authority.number + 1, ()
    return replace(
        authority, other=following, other_key=key, phase=phase, phase_at=now, number=number, held=held, without=without
    )


def report(authority: Authority, server_uid: str, number: int) -> Authority:
    """A server trusts or shows what the phase of that number asks for. A report of another phase is out of date and changes
    nothing.
    """
    if number != authority.number or authority.phase is RotationPhase.DONE or server_uid in authority.reported:
        return authority
    return replace(authority, reported=(*authority.reported, server_uid))


def missing(authority: Authority, servers: Collection[str]) -> tuple[str, ...]:
    """The uids of the servers that the phase waits for, in order; none when no change is under way."""
    if authority.phase is RotationPhase.DONE:
        return ()
    return tuple(sorted(set(servers) - set(authority.reported) - set(authority.without)))


def advance(authority: Authority, servers: Collection[str], now: int) -> Authority:
    """The next phase, if no server is missing and no operator holds it; else the same."""
    if authority.phase is RotationPhase.DONE or authority.held or missing(authority, servers):
        return authority
    following = replace(authority, reported=(), number=authority.number + 1, phase_at=now)
    if authority.phase is RotationPhase.PREPARED:
        return replace(
            following,
            current=authority.other,
            key=authority.other_key,
            phase=RotationPhase.SWITCHED,
            other=authority.current,
            other_key=authority.key,
        )
    return replace(following, phase=RotationPhase.DONE, other="", other_key="", former=authority.other)


def subject_of(reader: Reader, owner: str) -> str:
    """How events name an authority."""
    name = next((database.name for database in reader.databases.values() if database.uid == owner), owner)
    return f"authority of {'the managers' if owner == MANAGERS else f'database {name}'}"


def trust_of(authority: Authority) -> str:
    """Names the authorities that are trusted and the one that signs: 16 hex, another one in each phase of a change."""
    return hashlib.sha256(authority.bundle.encode()).hexdigest()[:16]


def waited_for(reader: Reader, authority: Authority) -> list[str]:
    """The uids of the servers whose reports a change needs: all of them for the managers' authority; for that of a database those
    with an engine that does not show yet what the phase asks for.
    """
    if authority.owner == MANAGERS:
        return [server.uid for server in reader.servers.values()]
    trust = trust_of(authority)
    names = [database.name for database in reader.databases.values() if database.uid == authority.owner]
    processes = [process for name in names for process in reader.processes_of(name) if process.pid is not None]
    behind = {p.server_id for p in processes if p.runs.certificate is None or p.runs.certificate.trust != trust}
    return [reader.servers[server_id].uid for server_id in sorted(behind & set(reader.servers))]
