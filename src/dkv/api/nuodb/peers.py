"""API: /api/1/peers, the servers of the domain as nuocmd sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from fastapi import Request

from dkv.address import endpoint_text
from dkv.api.context import Context, ManagerContext
from dkv.api.nuodb import schemas
from dkv.api.nuodb.pagination import LISTED, page
from dkv.api.problems import Refusal
from dkv.api.routing import Router
from dkv.control.submit import View
from dkv.domain.model import Server
from dkv.domain.refusals import unknown_server
from dkv.wire.views import days_left, engine_program_view, state_member

router = Router(prefix="/peers")

TERM = 1  # the domain's state has one history; nothing is ever elected twice in it


@router.get("", openapi_extra=LISTED)
async def list_peers(request: Request, context: Context) -> schemas.Page[schemas.Server]:
    """Every server; exactly one of them is the one that answers."""
    view = context.view
    known = Leases(await context.manager.peers.leader_server(), await context.manager.peers.lease_ages())
    return page(request, [peer(context.manager, view, known, server) for _, server in sorted(view.state.servers.items())])


@router.get("/{server_id}")
async def get_peer(server_id: str, context: Context) -> schemas.Server:
    """One server."""
    view = context.view
    server = view.state.servers.get(server_id)
    if server is None:
        raise Refusal(unknown_server(server_id, view.state.servers))
    known = Leases(await context.manager.peers.leader_server(), await context.manager.peers.lease_ages())
    return peer(context.manager, view, known, server)


class Leases(NamedTuple):
    """What the managers' leases say: who leads, "" if none; ms since each renewed its own. Read after the view."""

    leader: str
    ages: Mapping[str, int]


def peer(manager: ManagerContext, view: View, known: Leases, server: Server) -> schemas.Server:
    """A server in the dialect: what it would say of itself is the same at each manager, since all read one state.

    The commit index is the domain's revision; the leader is the manager that moves the domain's clock.
    """
    local = server.server_id == manager.server_id
    index: schemas.TermIndex = {"logLastTerm": TERM, "commitIndex": view.revision, "logLastIndex": view.revision}
    role: Literal["LEADER", "FOLLOWER"] = "LEADER" if server.server_id == known.leader else "FOLLOWER"
    left = days_left(server, manager.clock())
    own: schemas.OwnOfServer = {} if left is None else {"certificateUntil": server.certificate_until, "certificateDaysLeft": left}
    if member := state_member(server):
        own["stateMember"] = member
    return {
        **own,
        "id": server.server_id,
        "address": endpoint_text(server.host, server.port),
        "isLocal": local,
        "isEvicted": False,
        "isPassive": False,
        "peerState": "ADDED",
        "peerMemberState": "ADDED",
        "version": manager.version,
        "fullVersion": manager.version,
        "labels": dict(server.labels),
        "connectedState": {
            "state": "Connected" if server.alive else "Disconnected",
            "latency": 0 if local else -1,
            "lastAckDeltaMillis": 0 if local else known.ages.get(server.server_id, -1),
        },
        "localRoleInfo": {
            "role": role if server.alive else "UNKNOWN",
            "lifeCycle": "ACTIVE" if server.alive else "UNKNOWN",
            "leaderServerId": known.leader or None,
            "localPeerTermIndexInfo": index,
        },
        "engine": engine_program_view(view.state, server, manager.clock()),
    }
