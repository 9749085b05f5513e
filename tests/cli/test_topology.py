"""The documented topologies, groups, slots and ports, by example and by property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkv.cli.errors import CliError, Usage
from dkv.cli.manager_pool import Place
from dkv.cli.topology import SLOTS, Node, Taken, Topology, TopologyRequest, check_ports, generate, place_copies, taken_ports


def places(servers: int) -> list[Place]:
    return [Place(f"s{i + 1}", f"10.0.0.{11 + i}:7801", f"10.0.0.{11 + i}") for i in range(servers)]


def shape(servers: int, count: int, copies: int, min_in_sync: int = 1) -> Topology:
    return generate(TopologyRequest("OrdersStore", "orders", count, 7811, 7861, copies, min_in_sync), places(servers))


def test_the_example_of_the_seed() -> None:
    assert [str(node) for node in shape(2, 2, 2).nodes] == [
        "orders-1 10.0.0.11:7811 client:7861",
        "orders-2 10.0.0.11:7812 client:7862",
        "orders-3 10.0.0.12:7811 client:7861",
        "orders-4 10.0.0.12:7812 client:7862",
    ]


def test_one_group_has_no_partitions_and_two_share_the_slots() -> None:
    assert [(g.name, g.first_slot, g.last_slot) for g in shape(2, 1, 2).groups] == [("UNPARTITIONED", 0, 16383)]
    assert [(g.name, g.first_slot, g.last_slot) for g in shape(2, 2, 2).groups] == [("g1", 0, 8191), ("g2", 8192, 16383)]


def test_copies_of_a_group_are_on_different_servers() -> None:
    assert [node.group for node in shape(2, 2, 2).nodes] == ["g1", "g2", "g1", "g2"]


def test_two_managers_on_one_host_share_its_ports() -> None:
    both = [Place("s1", "127.0.0.1:7801", "127.0.0.1", 7801), Place("s2", "127.0.0.1:7802", "127.0.0.1", 7802)]
    nodes = generate(TopologyRequest("A", "a", 1, 7811, 7861, 2), both).nodes
    assert [(n.clustron_port, n.client_port) for n in nodes] == [(7811, 7861), (7812, 7862)]
    check_ports(nodes)


shapes = st.tuples(st.integers(1, 7), st.integers(1, 6), st.integers(1, 8))


@given(shapes)
def test_any_shape_keeps_the_rules(numbers: tuple[int, int, int]) -> None:
    servers, count, copies = numbers
    made = shape(servers, count, copies)
    nodes = servers * count
    assert len(made.nodes) == nodes
    assert len(made.groups) == max(1, nodes // copies)
    assert [g.first_slot for g in made.groups] == [0, *(g.last_slot + 1 for g in made.groups[:-1])]
    assert made.groups[-1].last_slot == SLOTS - 1
    widths = [g.last_slot - g.first_slot for g in made.groups]
    assert max(widths) - min(widths) <= 1
    sizes = [sum(n.group == g.name for n in made.nodes) for g in made.groups]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) >= min(copies, nodes)
    assert max(sizes) - min(sizes) <= max(1, (nodes - len(sizes) * copies))
    check_ports(made.nodes)


@given(shapes)
def test_copies_are_apart_wherever_the_servers_are_enough(numbers: tuple[int, int, int]) -> None:
    servers, count, copies = numbers
    made = shape(servers, count, copies)
    for group in made.groups:
        on = [n.place.server for n in made.nodes if n.group == group.name]
        assert len(set(on)) == min(len(on), servers)


def test_a_min_in_sync_no_group_can_meet_is_refused() -> None:
    with pytest.raises(Usage, match="can never be met"):
        shape(2, 1, 2, min_in_sync=3)


def test_a_taken_port_is_named_with_its_owner_and_a_free_base() -> None:
    nodes = shape(2, 2, 2).nodes
    with pytest.raises(CliError) as caught:
        check_ports(nodes, [Taken("10.0.0.12", 7812, "carts-1 of Carts"), Taken("10.0.0.12", 7861, "carts-1 of Carts")])
    assert "7861 of orders-3 on 10.0.0.12 is used by carts-1 of Carts" in caught.value.message
    assert str(caught.value.hint) == "Free there: -ClustronPort 7813 -ClientPort 7862."


def test_ports_of_the_same_node_and_of_the_manager_do_not_overlap() -> None:
    place = places(1)[0]
    with pytest.raises(CliError, match="used by the manager"):
        check_ports([Node("a-1", place, 7801, 7861)])
    with pytest.raises(CliError, match="used by a-1"):
        check_ports([Node("a-1", place, 7811, 7811)])
    with pytest.raises(Usage, match="there is no such port"):
        check_ports([Node("a-1", place, 7811, 65536)])


def test_the_emptiest_server_gets_the_next_node() -> None:
    there = {"server": "s1", "host": "h", "clustronPort": 1, "clientPort": 2, "instanceName": "x", "group": "g1", "zone": ""}
    store = {"name": "S", "groups": [{"name": "g1"}], "instances": [there]}
    made = place_copies([("n", 1, 2), ("m", 3, 4)], places(3), store)
    assert [(node.name, node.place.server, node.group) for node in made] == [("n", "s2", "g1"), ("m", "s3", "g1")]
    assert [(t.port, t.owner) for t in taken_ports([store])] == [(1, "x of S"), (2, "x of S")]
    assert taken_ports([store], but="s") == []


def test_a_store_over_two_zones_has_each_group_in_both() -> None:
    zoned = [place._replace(zone="ab"[i // 2]) for i, place in enumerate(places(4))]
    made = generate(TopologyRequest("OrdersStore", "orders", 1, 7811, 7861, 2), zoned)
    assert [(node.place.server, node.group) for node in made.nodes] == [("s1", "g1"), ("s2", "g2"), ("s3", "g1"), ("s4", "g2")]
