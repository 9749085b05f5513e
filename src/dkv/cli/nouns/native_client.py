"""CLI: how a verb asks what only the native API tells: one manager, the first that is ready."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from dkv.cli.session import HERE, Session, endpoints
from dkv.client import Json, ManagerClient


def client_of(session: Session, managers: Sequence[str] | None) -> ManagerClient:
    """A client of the first of these managers, or else of the connected ones, that is ready. Raises Usage."""
    texts = managers or session.managers() or [HERE]
    clients = [session.client(endpoint, 30.0) for endpoint in endpoints(texts, 7801)]
    return next((client for client in clients if client.ready()), clients[0])


def ask(session: Session, client: ManagerClient, method: str, path: str, body: Json | None = None) -> Json:
    """One request below /admin/v1, and the JSON of its answer."""
    if method != "GET":
        session.sent.append(f"{method} {path}")
    return client.fetch_object(method, f"/admin/v1{path}", body)


def store_path(name: str) -> str:
    """Where a store is, below /admin/v1."""
    return f"/stores/{quote(name, safe='')}"
