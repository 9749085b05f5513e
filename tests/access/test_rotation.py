"""Changing an authority: each phase waits for every server, and a leaf is believed by all of them at every moment."""

from __future__ import annotations

import itertools
from dataclasses import replace

from dkv.access import certificates
from dkv.access.certificates import Owner, Reachable
from dkv.domain import authority
from dkv.domain.access import MANAGERS, Authority
from dkv.domain.access import RotationPhase as Phase
from dkv.domain.decision import Refused

NOW = 1_800_000_000_000
OWNER = Owner("d0")
SERVERS = ("u1", "u2", "u3")


def authority_of(certificate: str, at: int = 0) -> Authority:
    """An authority that is not being changed, since then."""
    return Authority(MANAGERS, certificate, "key", phase_at=at)


def without(rotation: Authority, server: str) -> Authority:
    """An operator said not to wait for that server."""
    return replace(rotation, without=(server,))


def test_every_leaf_is_believed_by_every_server_through_all_phases() -> None:
    old, new = (certificates.new_authority(OWNER, NOW) for _ in range(2))
    keys = {pair.certificate: pair for pair in (old, new)}

    def believed(signer: Authority, judge: Authority) -> bool:
        leaf = certificates.new_leaf(keys[signer.current], OWNER, Reachable("u1"), NOW)
        return certificates.judge_peer(leaf.certificate, judge.trusted, OWNER, SERVERS, NOW) == "u1"

    states = [authority_of(old.certificate)]
    prepared = authority.prepare(states[0], new.certificate, "key", NOW)
    assert isinstance(prepared, Authority)
    states.append(prepared)
    for _ in (Phase.PREPARED, Phase.SWITCHED):
        rotation = states[-1]
        for server in SERVERS:
            assert authority.advance(rotation, SERVERS, NOW) is rotation
            rotation = authority.report(rotation, server, rotation.number)
        states.append(authority.advance(rotation, SERVERS, NOW))
    assert [state.phase for state in states] == [Phase.DONE, Phase.PREPARED, Phase.SWITCHED, Phase.DONE]
    rest = authority_of(new.certificate, NOW)
    assert states[-1] == replace(rest, number=states[0].number + 3, former=old.certificate, key="key")
    for earlier, later in itertools.pairwise(states):  # a server may be one phase behind another
        assert believed(earlier, later) and believed(later, earlier)
    assert not believed(states[0], states[-1])


def test_a_phase_waits_for_the_servers_that_did_not_report_and_for_no_other() -> None:
    rotation = authority.prepare(authority_of("old"), "new", "key", NOW)
    assert isinstance(rotation, Authority)
    number = rotation.number
    rotation = authority.report(rotation, "u2", number)
    assert authority.missing(rotation, SERVERS) == ("u1", "u3")
    assert authority.missing(without(rotation, "u3"), SERVERS) == ("u1",)
    assert authority.report(rotation, "u1", number + 1) is rotation  # out of date, or early
    assert authority.report(rotation, "u2", number) is rotation
    rotation = authority.report(rotation, "u1", number)
    assert authority.advance(rotation, SERVERS, NOW) is rotation
    assert authority.advance(without(rotation, "u3"), SERVERS, NOW).phase is Phase.SWITCHED
    assert authority.advance(rotation, ("u1", "u2"), NOW).phase is Phase.SWITCHED  # u3 was deleted


def test_one_change_at_a_time() -> None:
    rotation = authority.prepare(authority_of("old"), "new", "key", NOW)
    assert isinstance(rotation, Authority) and rotation.bundle == "oldnew"
    refused = authority.prepare(rotation, "third", "key", NOW)
    assert isinstance(refused, Refused) and refused.code == "rotation_running" and "PREPARED" in refused.message
    at_rest = authority_of("old")
    assert authority.missing(at_rest, SERVERS) == () and authority.advance(at_rest, SERVERS, NOW) is at_rest
    assert authority.report(at_rest, "u1", at_rest.number) is at_rest and at_rest.trusted == ("old",)
