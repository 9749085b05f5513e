"""Certificate authorities: founded once for each owner, changed in phases for which all servers are waited for. The domain never
sees an open key.
"""

from __future__ import annotations

from collections.abc import Mapping

from dkv.domain import authority as rotation
from dkv.domain.access import MANAGERS, Authority, RotationPhase
from dkv.domain.authority import subject_of
from dkv.domain.constants import DAY
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.facts import AuthorityFounded, CertificateKept, CertificateSeen
from dkv.domain.model import CertificateShown, evolve
from dkv.domain.orders import RotateAuthority
from dkv.domain.refusals import no, no_authority, stale_fact, unknown_server
from dkv.domain.rules.processes import owned

BECAUSE: Mapping[RotationPhase, str] = {
    RotationPhase.PREPARED: "an operator asked for it: every server has to trust the new one before one uses it",
    RotationPhase.SWITCHED: "every server that is waited for trusts the new one; new certificates are signed by it",
    RotationPhase.DONE: "every server that is waited for has a certificate of the new one; the former one is trusted no more",
}


def authority_founded(draft: Draft, command: AuthorityFounded) -> Refused | None:
    """Keep the authority, unless another manager founded one before: then that one stays, and nothing changes."""
    if command.owner in draft.authorities:
        return None
    draft.put(Authority(command.owner, command.certificate, command.key, phase_at=command.now))
    draft.note("authority.founded", subject_of(draft, command.owner), "its owner had none")
    return None


def certificate_kept(draft: Draft, command: CertificateKept) -> Refused | None:
    """A manager uses a certificate, and does what the phase of the managers' authority asks for."""
    server = draft.servers.get(command.server_id)
    if server is None or server.uid != command.uid:
        return stale_fact(f"server {command.server_id} is not the one with the uid {command.uid}")
    if server.certificate_until != command.until:
        draft.put(evolve(server, certificate_until=command.until))
        draft.note("server.certificate", f"server {server.server_id}", command.because or "its manager began with it")
    authority = draft.authorities.get(MANAGERS)
    if authority is not None:
        reported = rotation.report(authority, command.uid, command.number)
        if reported is not authority:
            draft.put(reported)
            settle_authority(draft, reported)
    return None


def settle_authority(draft: Draft, authority: Authority) -> None:
    """Begin the next phase if no server is missing any more."""
    advanced = rotation.advance(authority, rotation.waited_for(draft, authority), draft.command.now)
    if advanced is not authority:
        _moved(draft, authority, advanced)
        settle_authority(draft, advanced)


def _moved(draft: Draft, before: Authority, after: Authority) -> None:
    draft.put(after)
    draft.note(
        f"authority.{after.phase.value.lower()}",
        subject_of(draft, after.owner),
        BECAUSE[after.phase],
        change=f"{before.phase.value} -> {after.phase.value}",
    )


def rotate_authority(draft: Draft, command: RotateAuthority) -> Refused | None:
    """Begin a change of authority, let one go on that was held, or leave servers that are away out of the one under way."""
    authority = draft.authorities.get(command.owner)
    if authority is None:
        return no_authority()
    without = _uids_away(draft, command.without)
    if isinstance(without, Refused):
        return without
    if authority.held and not command.hold:
        authority = draft.put(evolve(authority, held=False))
        draft.note("authority.released", subject_of(draft, command.owner), "an operator asked for it: clients trust both")
    elif authority.phase is RotationPhase.DONE or not without:
        prepared = rotation.prepare(authority, command.certificate, command.key, command.now, held=command.hold)
        if isinstance(prepared, Refused):
            return prepared
        _moved(draft, authority, prepared)
        authority = prepared
    if new := [uid for uid in without if uid not in authority.without]:
        authority = draft.put(evolve(authority, without=(*authority.without, *new)))
        names = ", ".join(sorted(command.without))
        draft.note("authority.without", subject_of(draft, command.owner), f"an operator said not to wait for {names}")
    settle_authority(draft, authority)
    return None


def _uids_away(draft: Draft, names: tuple[str, ...]) -> list[str] | Refused:
    """The uids of servers that are not to be waited for. One that is here reports by itself, and would be cut off."""
    uids = []
    for name in names:
        server = draft.servers.get(name)
        if server is None:
            return unknown_server(name, draft.servers)
        if server.alive:
            return no(
                "server_alive",
                f"Server {name} is here: its manager renews its lease, and takes part in the change.",
                "Leave out only servers that are away.",
            )
        uids.append(server.uid)
    return uids


def certificate_seen(draft: Draft, command: CertificateSeen) -> Refused | None:
    """Its manager saw another leaf at the engines of a process than was known."""
    process = owned(draft, command.start_id, command.server_id)
    if isinstance(process, Refused):
        return process
    known = process.runs.certificate
    if known and (known.trust, known.serial) == (command.trust, command.serial):
        return stale_fact(f"that is known of process {process.start_id}")
    shown = CertificateShown(command.trust, command.serial, command.now + command.days_left * DAY)
    process = draft.put_process(process, runs=evolve(process.runs, certificate=shown))
    draft.note(
        "process.certificate",
        f"process {process.start_id}",
        f"its manager saw that its engines show the certificate {command.serial}, which ends in {command.days_left} days",
        database=process.database,
        start_id=process.start_id,
        archive_id=process.archive_id,
    )
    return None


def settle_engines(draft: Draft, name: str) -> None:
    """Bring the change of a database's authority one phase further, once its engines show what the present one asks for."""
    authority = draft.authorities.get(draft.databases[name].uid)
    if authority is not None and authority.phase is not RotationPhase.DONE:
        settle_authority(draft, authority)
