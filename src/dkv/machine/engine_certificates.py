"""The certificates of this machine's engines, compared with what the domain trusts: renewed in time, and reported. Pure.

A leaf is made when its engine is launched, from the authority of its database. It is renewed a month before its end, and at once
when the authority changes; what an engine then shows is reported, so that people see its end and a change goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from dkv.domain.access import Authority
from dkv.domain.authority import trust_of
from dkv.domain.facts import CertificateSeen
from dkv.domain.model import Process, ProcessState
from dkv.engine.contract import EngineSeen, TlsSeen
from dkv.machine.observation import PlanInput
from dkv.machine.steps import RenewCertificate, Step, SubmitFact

RENEW_BELOW = 30  # days left of 90
SPREAD = 4  # days over which the engines of several servers renew


def certificate_steps(inputs: PlanInput, process: Process, engines: Sequence[EngineSeen]) -> Iterator[Step]:
    """Renew what is due, then report what the engines show."""
    database = inputs.state.databases[process.database]
    authority = inputs.state.authorities.get(database.uid)
    awake = [engine.options.tls for engine in engines if engine.answering and not (engine.loading or engine.busy)]
    shown = [tls for tls in awake if tls is not None]
    if not database.transport.tls or authority is None or process.leaving or len(shown) < len(engines):
        return
    if any(_is_due(inputs, authority, tls) for tls in shown):
        yield RenewCertificate(f"certificate {process.start_id}", process.start_id, database.name)
    elif process.state in (ProcessState.TRACKED, ProcessState.MONITORED):
        soonest = min(shown, key=lambda tls: tls.days_left)
        known = process.runs.certificate
        if known is None or (known.trust, known.serial) != (soonest.trust, soonest.serial):
            fact = CertificateSeen(
                start_id=process.start_id,
                trust=soonest.trust,
                serial=soonest.serial,
                days_left=soonest.days_left,
                **inputs.fact_header,
            )
            yield SubmitFact(f"certificate {process.start_id}", fact)


def _is_due(inputs: PlanInput, authority: Authority, tls: TlsSeen) -> bool:
    """Whether an engine needs another leaf: it shows another than it was given, is of another trust, or ends soon."""
    early = int(hashlib.sha256(inputs.server.uid.encode()).hexdigest()[:8], 16) % SPREAD
    return not tls.proven or tls.trust != trust_of(authority) or tls.days_left < RENEW_BELOW - early
