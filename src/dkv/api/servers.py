"""API: orders about servers that the NuoDB dialect has no words for."""

from __future__ import annotations

from typing import Any

from dkv.api.context import Manager
from dkv.api.dependencies import Key, accepted
from dkv.api.routing import Router
from dkv.domain.orders import ReplaceVoter
from dkv.wire import schemas

router = Router(prefix="/admin/v1/servers/{server_id}", tags=["domain"])


@router.post("/replace-voter", status_code=202)
async def replace_voter(server_id: str, manager: Manager, key: Key) -> schemas.VoterReplaced:
    """Have another server vote in the domain state's etcd in place of one that is away, without waiting for it any longer.
    Returns at once; the manager that holds the leader lease has the members changed, and events say so."""
    answer: Any = accepted(await manager.submitter.submit(ReplaceVoter(server_id=server_id), key)).answer
    return {"result": "Asked", "by": answer["by"]}
