"""API: all routes of the NuoDB dialect put together. Within one file literal addresses stand before those with ids."""

from __future__ import annotations

from dkv.api.nuodb import (
    archives,
    balancing,
    certificates,
    databases,
    decommission,
    description,
    diagnostics,
    hotcopy,
    kvstore,
    peers,
    processes,
    regions,
    users,
    versions,
)
from dkv.api.nuodb.errors import ROOT
from dkv.api.routing import Router

PARTS = [
    certificates.router,
    peers.router,
    decommission.router,
    description.router,
    balancing.router,
    versions.router,
    regions.router,
    kvstore.router,
    users.router,
    diagnostics.router,
    hotcopy.router,
    databases.router,
    processes.router,
    archives.router,
]
"""One line for each file of routes; a file whose literal addresses could be taken for another's ids stands before it."""

router = Router(prefix=ROOT, tags=["nuodb"])
for part in PARTS:
    router.include_router(part)
