"""Whether a machine is fit: ports of the domain state's etcd, room, its member, and what it would found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dkv.domain.machine_checks import MachineFacts, findings, founding_findings, member_findings, ports_to_reach
from dkv.domain.model import Server, State


def server(name: str, member: str = "", alive: bool = True) -> Server:
    number = int(name[1:])
    return Server(
        name, f"u{name}", f"10.0.0.{number}", 7801, 8888, "b", alive=alive, etcd_port=7900 + number, state_member=member
    )


@pytest.mark.parametrize(
    ("own", "other", "ports"),
    [
        (server("s1", "voter"), server("s2", "voter"), [7902, 8002]),
        (server("s1", "voter"), server("s2", "learner"), [7902, 8002]),
        (server("s1"), server("s2", "voter"), [7902]),  # it only calls the members
        (server("s1", "voter"), server("s2"), []),
        (server("s1", "voter"), server("s2", "voter", alive=False), []),
    ],
)
def test_the_ports_of_members_are_looked_at_where_they_are_needed(own: Server, other: Server, ports: list[int]) -> None:
    state = State(servers={"s1": own, "s2": other})
    reached = ports_to_reach(state, "s1")
    assert [port.port for port in reached] == ports
    assert all((port.server_id, port.host) == ("s2", "10.0.0.2") and "etcd" in port.what for port in reached)


def test_a_manager_that_would_found_a_second_domain_is_advised_where_the_domain_spans_machines() -> None:
    open_to_it = MachineFacts(1.0, 65_536, 1, "madvise", founds_none=False)
    alone = State(uid="d1", servers={"s1": server("s1")})
    spread = State(uid="d1", servers={"s1": server("s1", "voter")})
    assert founding_findings(alone, open_to_it) == []
    assert founding_findings(spread, replace(open_to_it, founds_none=True)) == []
    (finding,) = founding_findings(spread, open_to_it)
    assert not finding.problem and 'domain = "d1"' in finding.fix


def test_a_disk_with_little_room_and_a_member_in_trouble_are_problems_with_a_fix() -> None:
    facts = MachineFacts(1.0, 65_536, 1, "madvise", free=40 << 20)
    (room,) = [finding for finding in findings(facts) if finding.problem]
    assert "has 40 MB left" in room.text and room.fix
    assert not [finding for finding in findings(replace(facts, free=1 << 30)) if finding.problem]
    state = State(servers={"s1": replace(server("s1", "voter"), member_trouble="disk"), "s2": server("s2")})
    (trouble,) = member_findings(state, "s1")
    assert trouble.problem and "64 MB" in trouble.text and trouble.fix.startswith("make room")
    assert member_findings(state, "s2") == [] and member_findings(state, "s9") == []
