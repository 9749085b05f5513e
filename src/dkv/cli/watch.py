"""Watch-DkvStoreMetrics: the numbers of a store's nodes, drawn again and again (docs/reference/cmdlets.md#metrics)."""

from __future__ import annotations

import time
from collections.abc import Callable

from dkv.cli.binding import Bound
from dkv.cli.errors import DONE
from dkv.cli.manager_pool import ManagerPool, said, unreachable
from dkv.cli.output import metrics_frame
from dkv.cli.session import Job, Session, fan_out
from dkv.client import ClientError, Json, ManagerClient


def watch(session: Session, bound: Bound) -> int:
    """Redraw every -RefreshSec until Ctrl-C, or -Count times. A manager that is away leaves its columns out."""
    fleet = ManagerPool(session, bound, session.targets(bound))
    name = str(fleet.first(lambda client: client.store(bound["StoreName"]))["name"])
    drawn = 0
    while True:
        rows, troubles = _read(fleet, name)
        updated = time.strftime("%H:%M:%S")
        if session.screen.as_json:
            session.screen.data({"store": name, "updated": updated, "metrics": rows})
        else:
            frame = metrics_frame(name, updated, rows)
            session.screen.frame([*frame, *([] if rows else ["No node reports numbers yet."]), *troubles])
        drawn += 1
        if bound["Count"] and drawn >= bound["Count"]:
            return DONE
        session.sleep(float(bound["RefreshSec"]))


def _read(fleet: ManagerPool, name: str) -> tuple[list[Json], list[str]]:
    """The store's rows of all managers, each node and metric once, and what failed in words."""
    jobs = [Job(text, "Watch", _asking(client), changes=False) for text, client in fleet.clients.items()]
    outcomes = fan_out(fleet.session, jobs, fleet.bound)
    troubles = [o.trouble for o in outcomes if isinstance(o.trouble, ClientError)]
    if len(troubles) == len(outcomes):
        raise unreachable(troubles)
    found: dict[tuple[str, str, str], Json] = {}
    for outcome in outcomes:
        for row in outcome.value["metrics"] if isinstance(outcome.value, dict) else []:
            if row["store"] == name:
                found.setdefault((row["node"], row["category"], row["metric"]), row)
    return list(found.values()), [said(trouble) for trouble in troubles]


def _asking(client: ManagerClient) -> Callable[[], Json]:
    return lambda: client.metrics(window_sec=5)
