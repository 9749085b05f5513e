"""CLI: what monitoring systems are given: alerting rules for Prometheus and a dashboard for Grafana, as they come with dkv."""

from __future__ import annotations

import os

from dkv.cli.binding import Bound, Cmdlet
from dkv.cli.errors import DONE
from dkv.cli.session import Session

FILES = os.path.join(os.path.dirname(os.path.dirname(__file__)), "monitoring")

VERBS = (
    Cmdlet("show alerts", "Prints alerting rules for Prometheus.", "nouns.monitoring:alerts"),
    Cmdlet("show dashboard", "Prints a dashboard for Grafana, as JSON to be imported.", "nouns.monitoring:dashboard"),
)


def alerts(session: Session, bound: Bound) -> int:
    """The rules as they are."""
    return _print(session, "alerts.yml")


def dashboard(session: Session, bound: Bound) -> int:
    """The dashboard as it is."""
    return _print(session, "dashboard.json")


def _print(session: Session, name: str) -> int:
    with open(os.path.join(FILES, name), encoding="utf-8") as file:
        session.screen.block(file.read())
    return DONE
