"""CLI: the topology of a new store: its nodes, names, ports, groups and slots, worked out in the command line. Pure.

Rules (docs/reference/cmdlets.md#topology): servers in the order connected, names `<prefix>-<index>` in one sequence
over the whole cluster, ports from the base on every server. Groups are dkv's addition:
max(1, floor(nodes / copies)) of them, left-over nodes are extra copies of the first, and the copies of a group are on
different servers wherever that is possible, in different zones first (dkv/placement.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dkv.cli.binding import check_name
from dkv.cli.errors import CliError, Usage
from dkv.cli.manager_pool import Place
from dkv.constants import SLOTS
from dkv.placement import Spot, choose, deal

UNPARTITIONED = "UNPARTITIONED"
"""The one group of a store with a single group."""


class TopologyRequest(NamedTuple):
    """The parameters of New-DkvStore. `per_server` is nodes on each server, the ports are the first on each host."""

    name: str
    prefix: str
    per_server: int
    clustron_port: int
    client_port: int
    copies: int
    min_in_sync: int | None = None  # None: as the managers are set
    options: tuple[tuple[str, int | str], ...] = ()  # what was given of the others, by the names of the body


class Node(NamedTuple):
    """One instance to be."""

    name: str
    place: Place
    clustron_port: int
    client_port: int
    group: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.place.host}:{self.clustron_port} client:{self.client_port}"


class Group(NamedTuple):
    """One storage group: its name and its hash slots, first and last included."""

    name: str
    first_slot: int
    last_slot: int


class Topology(NamedTuple):
    """A whole store to be; `nodes` are in the order of their index."""

    request: TopologyRequest
    nodes: tuple[Node, ...]
    groups: tuple[Group, ...]

    def body(self) -> dict[str, Any]:
        """The body of POST /admin/v1/stores."""
        return {
            "name": self.request.name,
            "instances": [
                {
                    "instanceName": node.name,
                    "server": node.place.server,
                    "clustronPort": node.clustron_port,
                    "clientPort": node.client_port,
                    "group": node.group,
                }
                for node in self.nodes
            ],
            "groups": [{"name": g.name, "slots": [[g.first_slot, g.last_slot]]} for g in self.groups],
            "replicationFactor": self.request.copies,
            **({} if self.request.min_in_sync is None else {"minInSync": self.request.min_in_sync}),
            **dict(self.request.options),
        }


class Taken(NamedTuple):
    """A port in use on a host, and its owner in words."""

    host: str
    port: int
    owner: str


def generate(request: TopologyRequest, places: Sequence[Place]) -> Topology:
    """Work out the topology. Raises Usage for names and numbers that cannot be."""
    _check_names(request)
    bare = _nodes(request, places)
    count = max(1, len(bare) // request.copies)
    groups = _groups(count)
    of = _membership(request, places, count)
    nodes = tuple(node._replace(group=groups[of[i]].name) for i, node in enumerate(bare))
    fewest = min(list(of.values()).count(i) for i in range(count))
    if request.min_in_sync is not None and request.min_in_sync > fewest:
        raise Usage(
            f"-MinInSync {request.min_in_sync} can never be met: the smallest group has {fewest} of {len(nodes)} nodes.",
            f"Use at most -MinInSync {fewest}, or more nodes.",
        )
    return Topology(request, nodes, groups)


def _nodes(request: TopologyRequest, places: Sequence[Place]) -> list[Node]:
    nodes: list[Node] = []
    used: dict[str, int] = {}
    for place in places:
        for _ in range(request.per_server):
            k = used.get(place.host, 0)
            used[place.host] = k + 1
            nodes.append(Node(f"{request.prefix}-{len(nodes) + 1}", place, request.clustron_port + k, request.client_port + k))
    return nodes


def _groups(count: int) -> tuple[Group, ...]:
    names = [UNPARTITIONED] if count == 1 else [f"g{i + 1}" for i in range(count)]
    return tuple(Group(n, i * SLOTS // count, (i + 1) * SLOTS // count - 1) for i, n in enumerate(names))


def _membership(request: TopologyRequest, places: Sequence[Place], count: int) -> dict[int, int]:
    """Group index of every node index; the nodes of a server go to its groups in order."""
    nodes = len(places) * request.per_server
    sizes = [min(request.copies, nodes)] * count
    for extra in range(nodes - sum(sizes)):
        sizes[extra % count] += 1
    spots = [place.spot for place in places]
    free = {spot: index * request.per_server for index, spot in enumerate(spots)}
    of: dict[int, int] = {}
    for group, copies in enumerate(deal(spots, request.per_server, sizes)):
        for spot in copies:
            of[free[spot]] = group
            free[spot] += 1
    return of


def _check_names(request: TopologyRequest) -> None:
    check_name(request.name, "a store's name")
    check_name(f"{request.prefix}-1", "a node's name")


def check_ports(nodes: Sequence[Node], taken: Iterable[Taken] = ()) -> None:
    """Refuse ports out of range (Usage) and ports used twice or taken on a host (CliError with a free base)."""
    owner = {(t.host, t.port): t.owner for t in taken}
    for node in nodes:
        owner.setdefault((node.place.host, node.place.manager_port), f"the manager {node.place.manager}")
    before = dict(owner)
    for node in nodes:
        for port, kind in ((node.clustron_port, "cluster"), (node.client_port, "client")):
            if not 1 <= port <= 65535:
                raise Usage(f"{node.name} would need the {kind} port {port}, and there is no such port.", "Ports end at 65535.")
            where = (node.place.host, port)
            if where in owner:
                raise CliError(
                    f"The {kind} port {port} of {node.name} on {node.place.host} is used by {owner[where]}.",
                    _free_base(nodes, before),
                )
            owner[where] = f"{node.name} itself" if kind == "client" else f"{node.name} (cluster port)"


def _free_base(nodes: Sequence[Node], taken: Mapping[tuple[str, int], str]) -> str:
    hosts = [n.place.host for n in nodes]
    length = max(hosts.count(h) for h in hosts)
    busy = {port for host, port in taken if host in hosts}
    cluster = _free_run(min(n.clustron_port for n in nodes), length, busy)
    client = _free_run(min(n.client_port for n in nodes), length, busy | set(range(cluster, cluster + length)))
    return f"Free there: -ClustronPort {cluster} -ClientPort {client}."


def _free_run(start: int, length: int, busy: set[int]) -> int:
    base: int
    for base in [*range(start, 65536 - length), *range(1024, start)]:
        if not busy.intersection(range(base, base + length)):
            return base
    return start


def taken_ports(stores: Iterable[Mapping[str, Any]], but: str = "") -> list[Taken]:
    """The ports of all instances of the given stores, except those of the store named `but`."""
    return [
        Taken(str(i["host"]), int(i[key]), f"{i['instanceName']} of {store['name']}")
        for store in stores
        if str(store["name"]).lower() != but.lower()
        for i in store["instances"]
        for key in ("clustronPort", "clientPort")
    ]


def place_copies(names: Sequence[tuple[str, int, int]], places: Sequence[Place], store: Mapping[str, Any]) -> list[Node]:
    """New instances of a store, each with its name and its cluster and client port: which group each joins, and on which of these
    places."""
    by_spot = {place.spot: place for place in places}
    copies: dict[str, list[Spot]] = {str(group["name"]): [] for group in store["groups"]}
    for instance in store["instances"]:
        copies.setdefault(str(instance["group"]), []).append(Spot(str(instance["server"]), str(instance["zone"])))
    nodes: list[Node] = []
    for name, clustron_port, client_port in names:
        group, spot = choose(copies, list(by_spot))
        copies[group].append(spot)
        nodes.append(Node(name, by_spot[spot], clustron_port, client_port, group))
    return nodes
