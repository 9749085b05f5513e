"""CLI: the cmdlets that create, change and remove stores and their instances: changes that go to every manager."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dkv.cli.binding import Bound, check_name
from dkv.cli.errors import DONE, FAILED, NothingSent, Usage
from dkv.cli.manager_pool import Place, TargetedManagers, pick_instance, to_rows
from dkv.cli.output import Screen, effect_line, table
from dkv.cli.session import Outcome, Session, finish
from dkv.cli.topology import Node, Topology, TopologyRequest, check_ports, generate, place_copies, taken_ports
from dkv.client import Json, ManagerRefused, new_key
from dkv.database_options import Option, parameters_of
from dkv.spelling import nearest

if TYPE_CHECKING:
    from dkv.wire import schemas


def new_store(session: Session, bound: Bound) -> int:
    """Make the topology here, check it with all managers, then send it to each. Nodes are defined, not started."""
    try:
        targets = session.targets(bound)
    except NothingSent:
        # docs/reference/cmdlets.md#rows: a warning, and nothing is sent; New-DkvStore documents no -Managers to name.
        session.screen.note("warning: No managers connected. Use Connect-DkvManager.")
        return FAILED
    _request(bound, len(targets))
    managers = TargetedManagers(session, bound, targets)
    places = managers.survey("CreateStore")
    topology = generate(_request(bound, len(places)), places)
    if bound["WhatIf"]:
        show_topology(session, topology)
    if not _exists(managers, topology.request.name):
        check_ports(topology.nodes, taken_ports(managers.first(lambda client: client.stores())))
        _check_everywhere(managers, topology)
    if bound["WhatIf"]:
        return DONE
    body, key = topology.body() | ({"open": True} if bound["Open"] else {}), new_key()
    outcomes = managers.everywhere("CreateStore", lambda client: client.create_store(body, key))
    new = any(_was_new(outcome) for outcome in outcomes)
    return finish(session, to_rows(outcomes, lambda _: "Created" if new else "Already exists"))


def _was_new(outcome: Outcome) -> bool:
    # One manager creates; the others, asked with the same key a moment later, find the store we have just made.
    return isinstance(outcome.value, tuple) and bool(outcome.value[0])


def _request(bound: Bound, servers: int) -> TopologyRequest:
    count = int(bound["InstanceCount"])
    copies = int(bound["ReplicationFactor"] or min(2, servers))
    nodes = servers * count
    if bound["ReplicationFactor"] and copies > nodes:
        raise Usage(
            f"-ReplicationFactor {copies} needs {copies} nodes, but there would be {nodes}.",
            "Raise -InstanceCount or connect more managers.",
        )
    check_name(bound["Name"], "a store's name")
    check_name(f"{bound['InstancePrefix']}-{nodes}", "a node's name")
    ports = int(bound["ClustronPort"]), int(bound["ClientPort"])
    if max(ports) + count > 65536:
        raise Usage(f"{count} nodes from port {max(ports)} on would need ports above 65535.", "Start lower.")
    if abs(ports[0] - ports[1]) < count:
        raise Usage(
            f"The ports of {count} nodes from {ports[0]} and from {ports[1]} on overlap.",
            f"Use -ClientPort {ports[0] + max(count, 50)}." if ports[0] + 50 + count < 65536 else "Start lower.",
        )
    options = tuple(_option(option, bound) for option in parameters_of("New-DkvStore") if _is_passed_on(option, bound))
    return TopologyRequest(bound["Name"], bound["InstancePrefix"], count, *ports, copies, bound["MinInSync"], options)


def _is_passed_on(option: Option, bound: Bound) -> bool:
    return option.parameter not in ("ReplicationFactor", "MinInSync") and bound[option.parameter] is not None


def _option(option: Option, bound: Bound) -> tuple[str, int | str]:
    """An option of the new store by its name in the body. Raises Usage."""
    text = str(bound[option.parameter])
    value = option.read(text)
    if value is None:
        raise Usage(f"-{option.parameter} cannot be {text!r}.", f"It is {option.allowed()}.")
    return option.parameter[0].lower() + option.parameter[1:], value


def _exists(managers: TargetedManagers, name: str) -> bool:
    """Whether a store of that name, in any case, is there: then the managers say whether it is the same one, and no
    port of it is in the way."""
    return name.lower() in (str(store["name"]).lower() for store in managers.first(lambda client: client.stores()))


def _check_everywhere(managers: TargetedManagers, topology: Topology) -> None:
    body = topology.body()
    managers.refuse_if_any_failed(managers.ask_each("CreateStore", lambda client: client.check_store(body), all_of_them=True))


def show_topology(session: Session, topology: Topology) -> None:
    """Print the generated nodes with their groups, and the groups with their slots (-WhatIf)."""
    if session.screen.as_json:
        session.screen.data(topology.body())
        return
    lines = table(
        [(n.name, f"{n.place.host}:{n.clustron_port}", f"client:{n.client_port}", f"group:{n.group}") for n in topology.nodes]
    )
    for line in lines:
        session.screen.line(line)
    for group in topology.groups:
        session.screen.line(f"{group.name} slots {group.first_slot}-{group.last_slot}")
    session.screen.note("What if: nothing was changed.")


def add_instance(session: Session, bound: Bound) -> int:
    """Add copies to the groups with the fewest; a server for each is chosen here, by zone, unless -Server names it."""
    wanted = _wanted(bound)
    managers = TargetedManagers(session, bound)
    places = managers.survey("AddInstance", all_of_them=False)
    name = bound["StoreName"]
    store = managers.first(lambda client: client.store(name))
    nodes = _placed(wanted, places, store, bound["Server"])
    check_ports(nodes, taken_ports(managers.first(lambda client: client.stores())))
    body, key = [_body(node) for node in nodes], new_key()
    outcomes = managers.everywhere("AddInstance", lambda client: client.add_instances(store["name"], body, key))
    return finish(session, to_rows(outcomes, lambda _: "Instance added"))


def _wanted(bound: Bound) -> list[Bound]:
    single = {key: bound[key] for key in ("InstanceName", "ClustronPort", "ClientPort")}
    if bound["Nodes"]:
        if any(value is not None for value in single.values()):
            raise Usage("-Nodes and -InstanceName with its ports exclude each other.", "Give one of the two.")
        return list(bound["Nodes"])
    for key, value in single.items():
        if value is None:
            hint = "Give -InstanceName, -ClustronPort and -ClientPort."
            raise Usage(f"Add-DkvInstance needs -{key}, or -Nodes.", hint)
    return [single]


def _placed(wanted: Sequence[Bound], places: Sequence[Place], store: schemas.Store, server: str | None) -> list[Node]:
    names = [(str(i["InstanceName"]), int(i["ClustronPort"]), int(i["ClientPort"])) for i in wanted]
    return place_copies(names, [_named(places, server)] if server else places, store)


def _named(places: Sequence[Place], server: str) -> Place:
    for place in places:
        if server.lower() in (place.server.lower(), place.manager.lower(), place.host.lower()):
            return place
    known = [place.server for place in places]
    raise Usage(f"No targeted manager is the server '{server}'.", nearest(server, known, f"Known: {', '.join(known)}."))


def _body(node: Node) -> Json:
    return {
        "instanceName": node.name,
        "server": node.place.server,
        "clustronPort": node.clustron_port,
        "clientPort": node.client_port,
        "group": node.group,
    }


def set_store(session: Session, bound: Bound) -> int:
    """Send the options to every manager under one key, so that they are set once."""
    known = parameters_of("Set-DkvStore")
    options = {option.name: str(bound[option.parameter]) for option in known if bound[option.parameter] is not None}
    if not options:
        raise Usage("There is nothing to change.", f"Give one of {', '.join(f'-{option.parameter}' for option in known)}.")
    managers = TargetedManagers(session, bound)
    managers.survey("SetStore", all_of_them=False)
    store, key = managers.first(lambda client: client.store(bound["Name"])), new_key()
    outcomes = managers.everywhere("SetStore", lambda client: client.set_options(store["name"], options, key))
    code = finish(session, to_rows(outcomes, lambda _: "Set"))
    for line in () if session.screen.as_json else _effects(session.screen, outcomes):
        session.screen.line(line)
    return code


def _effects(screen: Screen, outcomes: list[Outcome]) -> list[str]:
    """What follows from the change, from the first manager that made it."""
    effects: list[Json] = next((o.value["effects"] for o in outcomes if isinstance(o.value, dict) and o.value["effects"]), [])
    return [effect_line(screen, effect) for effect in effects]


def remove_store(session: Session, bound: Bound) -> int:
    """Delete a stopped store and its archives; the managers keep the renamed directories."""
    managers = TargetedManagers(session, bound)
    managers.survey("RemoveStore", all_of_them=False)
    store, key = managers.first(lambda client: client.store(bound["Name"])), new_key()
    outcomes = managers.everywhere("RemoveStore", lambda client: client.delete_store(store["name"], key))
    return finish(session, to_rows(_gone(outcomes), lambda _: "Removed"))


def remove_instance(session: Session, bound: Bound) -> int:
    """Delete one stopped instance and its archive."""
    managers = TargetedManagers(session, bound)
    managers.survey("RemoveInstance", all_of_them=False)
    store, key = managers.first(lambda client: client.store(bound["StoreName"])), new_key()
    name = str(pick_instance(store, bound["InstanceName"])["instanceName"])
    action = f"RemoveInstance:{name}"
    outcomes = managers.everywhere(action, lambda client: client.remove_instance(store["name"], name, key))
    return finish(session, to_rows(_gone(outcomes), lambda _: "Removed"))


def _gone(outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
    """A manager that finds nothing any more, right after another one deleted it for us, has done what was asked."""
    if any(o.error is None and not o.skipped for o in outcomes):
        for outcome in outcomes:
            if isinstance(outcome.error, ManagerRefused) and outcome.error.status == 404:
                outcome.error = None
    return outcomes
