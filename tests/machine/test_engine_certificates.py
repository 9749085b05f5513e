"""plan() and the certificates of engines: made at the launch, renewed in time and with their authority, reported as seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dkv.domain import facts
from dkv.domain.access import Authority
from dkv.domain.authority import trust_of
from dkv.domain.model import ProcessState
from dkv.engine.contract import EngineSeen, TlsSeen
from dkv.machine.engine_certificates import RENEW_BELOW, SPREAD
from dkv.machine.steps import Launch, LaunchTe, RenewCertificate, Step, SubmitFact
from tests.machine.stage import Stage, changed

TRUST = trust_of(Authority("u1", "CURRENT", "sealed"))


def staged() -> Stage:
    """A store of two copies whose engines speak TLS; its authority is founded."""
    stage = Stage(engine_tls="on")
    return stage.submit(facts.AuthorityFounded(owner="u1", certificate="CURRENT", key="sealed"))


def shown(stage: Stage, archive_id: int = 0, **changes: object) -> EngineSeen:
    """The engine of an archive; it shows a leaf of the authority, but for `changes`."""
    leaf = replace(TlsSeen(TRUST, "0A", proven=True, days_left=90), **changes)  # type: ignore[arg-type]
    return changed(stage.engine(archive_id), tls=leaf)


def of_certificates(steps: list[Step]) -> list[Step]:
    return [step for step in steps if step.key.startswith("certificate")]


def test_an_engine_with_tls_is_launched_without_a_leaf_in_the_plan() -> None:
    """A plan is compared with the next one; the leaf, which is another each time, comes when the step is done."""
    stage = staged().request(0).rise(0, ProcessState.STARTED)
    (launch,) = [step for step in stage.steps("s1") if isinstance(step, Launch)]
    assert launch.spec.tls
    assert launch.spec.certificate is None
    te = stage.start_te("s2", ProcessState.STARTED)
    (of_te,) = [step for step in stage.steps("s2") if isinstance(step, LaunchTe)]
    assert (of_te.spec.start_id, [engine.tls for engine in of_te.spec.engines]) == (te, [True])


def test_what_an_engine_shows_is_reported_once() -> None:
    stage = staged().settled()
    (step,) = of_certificates(stage.steps("s1", shown(stage)))
    assert isinstance(step, SubmitFact)
    assert isinstance(step.fact, facts.CertificateSeen)
    stage.submit(step.fact)
    assert stage.process(0).runs.certificate is not None
    assert of_certificates(stage.steps("s1", shown(stage))) == []
    assert len(of_certificates(stage.steps("s1", shown(stage, serial="0B")))) == 1


@pytest.mark.parametrize(
    "changes",
    [{"days_left": RENEW_BELOW - SPREAD}, {"days_left": 0}, {"trust": "another"}, {"proven": False}],
    ids=["a month before its end", "expired", "of another authority", "not the one it was given"],
)
def test_a_leaf_is_renewed(changes: dict[str, object]) -> None:
    stage = staged().settled()
    steps = of_certificates(stage.steps("s1", shown(stage, **changes)))
    assert steps == [RenewCertificate("certificate 0", 0, stage.process(0).database)]


def test_a_leaf_is_left_alone_until_then_and_where_nothing_is_known_of_it() -> None:
    stage = staged().settled()
    quiet = shown(stage, days_left=RENEW_BELOW)
    assert not any(isinstance(step, RenewCertificate) for step in stage.steps("s1", quiet))
    for away in (replace(quiet, answering=False), replace(quiet, loading=True), changed(quiet, tls=None)):
        assert of_certificates(stage.steps("s1", away)) == []


def test_an_engine_that_is_busy_or_loads_is_given_none_until_it_has_done_so() -> None:
    stage = staged().settled()
    due = shown(stage, days_left=0)
    for away in (replace(due, answering=False), replace(due, loading=True), replace(due, busy=True)):
        assert of_certificates(stage.steps("s1", away)) == []
    assert of_certificates(stage.steps("s1", due))


def test_an_engine_of_a_plain_store_gets_no_certificate() -> None:
    stage = Stage().settled()
    assert of_certificates(stage.steps("s1", shown(stage, trust="another"))) == []
