"""control: requests that a manager's API refused, as events of the domain."""

from __future__ import annotations

import contextlib

from dkv.control.submit import Submitter
from dkv.domain.facts import RequestsRefused
from dkv.store.contract import StoreError


async def report_refused(submitter: Submitter, server_id: str, peer: str, count: int, last: str) -> None:
    """Have the domain remember that the manager of a server refused requests of a peer. While the state cannot be written, only
    the manager's log has it.
    """
    with contextlib.suppress(StoreError):
        await submitter.submit(RequestsRefused(server_id=server_id, actor=server_id, peer=peer, count=count, last=last))
