"""Store: the members of the etcd cluster that a domain's managers run: listed, added, promoted, removed.

A change that the cluster is not ready for, such as one while a member is new or away, is refused by it and tried again later.
Facts: docs/reference/state-backends.md#members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dkv.store.contract import StoreError
from dkv.store.etcd_client import EtcdClient
from dkv.store.etcd_messages import message


@dataclass(frozen=True)
class ListedMember:
    """A member as the cluster lists it. `name` is "" until it has started once; `peer` is its peer URL."""

    member_id: int
    name: str
    peer: str
    clients: tuple[str, ...]
    learner: bool


class EtcdMembers:
    """The members of one cluster. Each call may raise Unavailable, also for a change that the cluster refuses, and Unusable."""

    def __init__(self, client: EtcdClient) -> None:
        self._client = client

    async def list(self) -> Sequence[ListedMember]:
        """All members, learners too, by peer URL."""
        answer = await self._client.call("members", message("StatusRequest"))
        listed = [
            ListedMember(m.ID, m.name, m.peerURLs[0] if m.peerURLs else "", tuple(m.clientURLs), m.isLearner)
            for m in answer.members
        ]
        return sorted(listed, key=lambda member: member.peer)

    async def add(self, peer: str) -> None:
        """Add a learner that is reached by other members at that URL."""
        await self._client.call("add_member", message("MemberAddRequest", peerURLs=[peer], isLearner=True))

    async def promote(self, member_id: int) -> None:
        """Let a learner vote."""
        await self._client.call("promote_member", message("MemberRequest", ID=member_id))

    async def remove(self, member_id: int) -> None:
        """Remove a member: it ends itself when it is told."""
        await self._client.call("remove_member", message("MemberRequest", ID=member_id))

    @property
    def cluster(self) -> int:
        """The id of the cluster; 0 before anything was asked."""
        return self._client.address.cluster or 0

    async def answers(self, client: str) -> bool:
        """Whether the member at a client URL answers."""
        return await self._status(client) is not None

    async def _status(self, client: str) -> Any:
        endpoint = client.partition("://")[2]
        if endpoint not in self._client.address.endpoints:
            return None
        try:
            return await self._client.at_member(
                "status", message("StatusRequest"), self._client.address.endpoints.index(endpoint)
            )
        except StoreError:
            return None

    async def size(self, client: str) -> int:
        """Bytes of the database of the member at a client URL; -1 where it does not answer."""
        status = await self._status(client)
        return -1 if status is None else int(status.dbSize)

    def follow(self, clients: Sequence[str]) -> None:
        """Call the members at these client URLs from now on. Raises Unusable."""
        self._client.follow(tuple(url.partition("://")[2] for url in clients))
