"""CLI: the cmdlets that read: Get-DkvStore, one row per manager and store, and Watch-DkvStoreMetrics."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dkv.cli.binding import Bound
from dkv.cli.errors import DONE
from dkv.cli.errors import FAILED as EXIT_FAILED
from dkv.cli.manager_pool import TargetedManagers, raise_if_all_failed, reason_of
from dkv.cli.output import FAILED, OK, Row, Screen, columns_of, metrics_frame, moment, transport_line, waiting_lines
from dkv.cli.session import Outcome, Session
from dkv.client import ClientError, Json, parse_endpoint

if TYPE_CHECKING:
    from dkv.wire import schemas

WIDTHS = (22, 31, 8)
HIDDEN = ("Created",)
"""A node that was never started counts as stopped."""


def get_store(session: Session, bound: Bound) -> int:
    """Print the rows, and with -Name the store's groups and instances."""
    name = bound["Name"]
    managers = TargetedManagers(session, bound)
    outcomes = managers.ask_each("Get", lambda client: [client.store(name)] if name else client.stores())
    raise_if_all_failed(outcomes)
    stores = [store for o in outcomes if isinstance(o.value, list) for store in o.value]
    if session.screen.as_json:
        session.screen.data([_facts(o, store, name) for o in outcomes if isinstance(o.value, list) for store in o.value])
    else:
        session.screen.rows([row for o in outcomes for row in _rows(o, name)], "Store", WIDTHS)
        if not name:
            _print_remarks(session, stores)
        if name and stores:
            _details(session, stores[0])
    if not stores:
        session.screen.note("There are no stores yet. Create one with New-DkvStore.")
    return EXIT_FAILED if any(o.error for o in outcomes) else DONE


def counts(store: schemas.Store) -> tuple[int, int, int]:
    """How many instances there are, run, and are stopped."""
    states = [str(i["state"]) for i in store["instances"]]
    return len(states), states.count("Running"), sum(s in ("Stopped", "Failed", *HIDDEN) for s in states)


def _rows(outcome: Outcome, name: str | None) -> list[Row]:
    manager = outcome.job.manager
    if outcome.error is not None:
        return [Row(manager, name or "-", FAILED, reason_of(outcome.error))]
    rows = []
    for store in outcome.value if isinstance(outcome.value, list) else []:
        n, running, stopped = counts(store)
        text = f"{store['status']} | Instances:{n} Running:{running} Stopped:{stopped}"
        rows.append(Row(manager, store["name"], OK, text))
    return rows


def _facts(outcome: Outcome, store: schemas.Store, name: str | None) -> Json:
    n, running, stopped = counts(store)
    facts = {
        "manager": parse_endpoint(outcome.job.manager).uri,
        "storeName": store["name"],
        "storeStatus": store["status"],
        "instanceCount": n,
        "runningInstances": running,
        "stoppedInstances": stopped,
        "participatingNodes": len({i["host"] for i in store["instances"]}),
    }
    return facts | {"store": store} if name else facts


def _print_remarks(session: Session, stores: Sequence[schemas.Store]) -> None:
    """Under the rows, once: why a store that runs takes no writes, and which stores let in everybody."""
    blocking = [item for store in stores for item in store["waiting"] if item["blocksWrites"]]
    session.screen.lines(dict.fromkeys(waiting_lines(session.screen, blocking)))
    for name in sorted({store["name"] for store in stores if store["open"]}):
        session.screen.note(f"{name} is open: its engines let in every client, without a password.")


def _details(session: Session, store: schemas.Store) -> None:
    screen = session.screen
    major, minor = store["incarnation"]["major"], store["incarnation"]["minor"]
    screen.line()
    screen.line(f"Store {store['name']}  {store['state']}  incarnation {major}.{minor}  created {moment(store['createdAt'])}")
    screen.line(
        f"copies {store['replicationFactor']}  minInSync {store['minInSync']}  appendfsync {store['appendFsync']}"
        + _memory(store)
        + ("  open to every client" if store["open"] else "")
    )
    screen.line(transport_line(store["transport"]))
    _print(session, [("Group", "Slots", "Term", "Open", "Leader", "In sync", "Required"), *map(_group, store["groups"])])
    for group in store["groups"]:
        for line in _remarks(screen, group):
            screen.line(f"{group['name']}: {line}")
    zones = any(instance["zone"] for instance in store["instances"])
    head = ("Instance", "Manager", *(("Zone",) if zones else ()), "Cluster", "Client", "Group", "State", "Role", "Process")
    _print(session, [head, *(_instance(instance, zones) for instance in store["instances"])])
    for instance in store["instances"]:
        if instance["reason"]:
            hint = f"; hint: {screen.hint_of(instance)}" if instance["hint"] else ""
            screen.line(f"{instance['instanceName']}: {instance['reason']}{hint}")
    shown = [group["waitsFor"]["reason"] for group in store["groups"] if group["waitsFor"]]
    screen.lines(waiting_lines(screen, [w for w in store["waiting"] if w["kind"] != "group" or w["reason"] not in shown]))
    points = [f"{i['host']}:{i['clientPort']}" for i in store["instances"]]
    screen.line()
    screen.line(f"Endpoints: {', '.join(points) or 'none'}")


def _memory(store: schemas.Store) -> str:
    limit = store["options"]["wanted"]["max-memory"]
    return f"  maxmemory {limit}" if limit else ""


def _print(session: Session, rows: Sequence[Sequence[str]]) -> None:
    session.screen.line()
    session.screen.table(rows)


def _group(group: schemas.Group) -> tuple[str, ...]:
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


def _remarks(screen: Screen, group: schemas.Group) -> list[str]:
    remarks = [f"{j['instance']} is joining ({j['stage']})" for j in group["joining"]]
    if group["handover"]:
        remarks.append(f"leadership is being handed over to {group['handover']['to']}")
    waits = group["waitsFor"]
    if waits:
        instances = f" for {', '.join(waits['for'])}" if waits["for"] else ""
        since = f" since {moment(waits['since'])}" if waits["since"] is not None else ""
        text = f"waits{instances}{since}: {waits['reason']}"
        remarks.append(f"{text} ({screen.hint_of(waits)})" if waits["hint"] else text)
    if group["open"]:
        data, writes = _failures(group["canLoseForConfirmed"]), _failures(group["canLoseForWrites"])
        remarks.append(f"keeps confirmed data through {data}, keeps taking writes through {writes}")
    if group["placement"]:
        remarks.append(group["placement"])
    return remarks


def _failures(count: int) -> str:
    return {0: "no further server failure", 1: "1 further server failure"}.get(count, f"{count} further server failures")


def _instance(instance: schemas.Instance, zones: bool) -> tuple[str, ...]:
    process = instance["process"]
    run = f"{process['startId']} pid {process['pid'] or '-'} {process['state']}" if process else "-"
    return (
        instance["instanceName"],
        instance["manager"] or "-",
        *((instance["zone"] or "-",) if zones else ()),
        str(instance["clustronPort"]),
        str(instance["clientPort"]),
        instance["group"],
        instance["state"],
        instance["role"] or "-",
        run,
    )


# Metrics -------------------------------------------------------------------------------------------------------------


def watch(session: Session, bound: Bound) -> int:
    """Redraw every -RefreshSec until Ctrl-C, or -Count times. The columns of a manager that is away are left out."""
    managers = TargetedManagers(session, bound)
    name = str(managers.first(lambda client: client.store(bound["StoreName"]))["name"])
    drawn = 0
    while True:
        rows, errors = _metrics(managers, name)
        updated = time.strftime("%H:%M:%S")
        if session.screen.as_json:
            session.screen.data({"store": name, "updated": updated, "metrics": rows})
        else:
            frame = metrics_frame(name, updated, rows, columns_of(session.screen.out) if session.screen.terminal else 0)
            session.screen.frame([*frame, *([] if rows else ["No node reports numbers yet."]), *errors])
        drawn += 1
        if bound["Count"] and drawn >= bound["Count"]:
            return DONE
        session.sleep(float(bound["RefreshSec"]))


def _metrics(managers: TargetedManagers, name: str) -> tuple[list[schemas.Metric], list[str]]:
    """The store's rows of all managers, each node and metric once, and what failed in words."""
    outcomes = managers.ask_each("Watch", lambda client: client.metrics(window_sec=5))
    raise_if_all_failed(outcomes)
    rows: dict[tuple[str, str, str], schemas.Metric] = {}
    for outcome in outcomes:
        for row in outcome.value["metrics"] if isinstance(outcome.value, dict) else []:
            if row["store"] == name:
                rows.setdefault((row["node"], row["category"], row["metric"]), row)
    return list(rows.values()), [reason_of(o.error) for o in outcomes if isinstance(o.error, ClientError)]
