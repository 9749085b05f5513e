"""Which ports of other machines a machine has to reach for the domain state's etcd."""

from __future__ import annotations

import pytest

from dkv.domain.machine_checks import ports_to_reach
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
