"""Get-DkvStore: what stores there are and how they are, one row per manager and store (docs/reference/cmdlets.md#rows)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dkv.cli.binding import Bound
from dkv.cli.errors import DONE
from dkv.cli.errors import FAILED as EXIT_FAILED
from dkv.cli.manager_pool import ManagerPool, said, unreachable
from dkv.cli.output import FAILED, OK, Row, moment, table
from dkv.cli.session import Job, Outcome, Session, fan_out
from dkv.client import ClientError, Json, ManagerClient, ManagerRefused

WIDTHS = (22, 31, 8)
HIDDEN = ("Created",)
"""A node that was never started counts as stopped (resolution 19)."""


def get_store(session: Session, bound: Bound) -> int:
    """Print the rows, and with -Name the store's groups and instances."""
    fleet = ManagerPool(session, bound, session.targets(bound))
    name = bound["Name"]
    jobs = [Job(text, "Get", _asking(client, name), changes=False) for text, client in fleet.clients.items()]
    outcomes = fan_out(session, jobs, bound)
    _refuse_if_nobody(outcomes)
    stores = [store for o in outcomes if isinstance(o.value, list) for store in o.value]
    if session.screen.as_json:
        session.screen.data([_facts(o, store, name) for o in outcomes if isinstance(o.value, list) for store in o.value])
    else:
        session.screen.rows([row for o in outcomes for row in _rows(o, name)], "Store", WIDTHS)
        if not name:
            _say_held(session, stores)
        if name and stores:
            _details(session, stores[0])
    if not stores:
        session.screen.note("There are no stores yet. Create one with New-DkvStore.")
    return EXIT_FAILED if any(o.trouble for o in outcomes) else DONE


def _asking(client: ManagerClient, name: str | None) -> Any:
    return lambda: [client.store(name)] if name else client.stores()


def _refuse_if_nobody(outcomes: Sequence[Outcome]) -> None:
    troubles = [o.trouble for o in outcomes if isinstance(o.trouble, ClientError)]
    if len(troubles) < len(outcomes):
        return
    for trouble in troubles:
        if isinstance(trouble, ManagerRefused):
            raise trouble
    raise unreachable(troubles)


def counts(store: Mapping[str, Any]) -> tuple[int, int, int]:
    """How many instances there are, run, and are stopped."""
    states = [str(i["state"]) for i in store["instances"]]
    return len(states), states.count("Running"), sum(s in ("Stopped", "Failed", *HIDDEN) for s in states)


def _rows(outcome: Outcome, name: str | None) -> list[Row]:
    manager = outcome.job.manager
    if outcome.trouble is not None:
        return [Row(manager, name or "-", FAILED, said(outcome.trouble))]
    rows = []
    for store in outcome.value if isinstance(outcome.value, list) else []:
        n, running, stopped = counts(store)
        text = f"{store['status']} | Instances:{n} Running:{running} Stopped:{stopped}"
        rows.append(Row(manager, store["name"], OK, text))
    return rows


def _facts(outcome: Outcome, store: Json, name: str | None) -> Json:
    n, running, stopped = counts(store)
    facts = {
        "manager": f"http://{outcome.job.manager}",
        "storeName": store["name"],
        "storeStatus": store["status"],
        "instanceCount": n,
        "runningInstances": running,
        "stoppedInstances": stopped,
        "participatingNodes": len({i["host"] for i in store["instances"]}),
    }
    return facts | {"store": store} if name else facts


def _say_held(session: Session, stores: Sequence[Json]) -> None:
    """Under the rows, once: why a store that runs takes no writes."""
    held = [one for store in stores for one in store.get("waiting") or [] if one.get("blocksWrites")]
    for line in dict.fromkeys(waiting_lines(held)):
        session.screen.line(session.screen.spoken(line))


def _details(session: Session, store: Json) -> None:
    screen = session.screen
    major, minor = (store["incarnation"][key] for key in ("major", "minor"))
    screen.line()
    screen.line(f"Store {store['name']}  {store['state']}  incarnation {major}.{minor}  created {moment(store['createdAt'])}")
    screen.line(
        f"copies {store['replicationFactor']}  minInSync {store['minInSync']}  appendfsync {store['appendFsync']}"
        + _memory(store)
    )
    _print(session, [("Group", "Slots", "Term", "Open", "Leader", "In sync", "Required"), *map(_group, store["groups"])])
    for group in store["groups"]:
        for line in _remarks(group):
            screen.line(f"{group['name']}: {line}")
    head = ("Instance", "Manager", "Cluster", "Client", "Group", "State", "Role", "Process")
    _print(session, [head, *map(_instance, store["instances"])])
    for instance in store["instances"]:
        if instance.get("reason"):
            screen.line(f"{instance['instanceName']}: {instance['reason']}")
    told = [group["waitsFor"]["reason"] for group in store["groups"] if group.get("waitsFor")]
    for line in waiting_lines([w for w in store.get("waiting") or [] if w["kind"] != "group" or w["reason"] not in told]):
        screen.line(line)
    points = [f"{i['host']}:{i['clientPort']}" for i in store["instances"]]
    screen.line()
    screen.line(f"Endpoints: {', '.join(points) or 'none'}")


def _memory(store: Json) -> str:
    limit = store.get("options", {}).get("wanted", {}).get("max-memory")
    return f"  maxmemory {limit}" if limit else ""


def waiting_lines(found: Sequence[Json]) -> list[str]:
    """`process 3 (orders-2) waits for server s2 since T: why; fix: what helps`."""
    lines = []
    for one in found:
        since = f" since {moment(one['since'])}" if one["since"] is not None else ""
        fix = f"; fix: {one['fix']}" if one["fix"] else ""
        lines.append(f"{one['subject']} waits for {one['for'] or 'nobody'}{since}: {one['reason']}{fix}")
    return lines


def _print(session: Session, rows: Sequence[Sequence[str]]) -> None:
    session.screen.line()
    for line in table(rows):
        session.screen.line(line)


def _group(group: Json) -> tuple[str, ...]:
    slots = ",".join(f"{low}-{high}" for low, high in group["slots"])
    return (
        group["name"],
        slots or "-",
        str(group["term"]),
        "yes" if group["open"] else "no",
        group["leader"] or "-",
        ",".join(group["inSync"]) or "-",
        ",".join(group["required"]) or "-",
    )


def _remarks(group: Json) -> list[str]:
    found = [f"{j['instance']} is joining ({j['stage']})" for j in group.get("joining") or []]
    if group.get("handover"):
        found.append(f"leadership is being handed over to {group['handover']['to']}")
    waits = group.get("waitsFor")
    if waits:
        whom = f" for {', '.join(waits['for'])}" if waits["for"] else ""
        since = f" since {moment(waits['since'])}" if waits["since"] is not None else ""
        text = f"waits{whom}{since}: {waits['reason']}"
        found.append(f"{text} ({waits['help']})" if waits.get("help") else text)
    if group["open"] and "canLoseForConfirmed" in group:
        more, writes = int(group["canLoseForConfirmed"]), int(group["canLoseForWrites"])
        servers = "1 more server" if more == 1 else f"{more} more servers"
        found.append(f"can lose {servers} without losing confirmed data, {writes} without losing the ability to write")
    return found


def _instance(instance: Json) -> tuple[str, ...]:
    process = instance.get("process")
    run = f"{process['startId']} pid {process['pid'] or '-'} {process['state']}" if process else "-"
    return (
        instance["instanceName"],
        instance["manager"],
        str(instance["clustronPort"]),
        str(instance["clientPort"]),
        instance["group"],
        instance["state"],
        instance["role"] or "-",
        run,
    )
