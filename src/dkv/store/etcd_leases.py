"""Store: leases on etcd's own: a key that belongs to an etcd lease, outside of what is guarded and watched.

    PREFIX lease/held/NAME    holder and value; etcd deletes it when its lease ends
    PREFIX lease/claim/NAME   the same without a lease: who held it last

etcd counts a lease's time from when it took the renewal, its holder from when it sent it: so a holder stops first. A new leader
of etcd begins all times anew; a holder never relies on it.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from dkv.store.contract import Lease, Unavailable
from dkv.store.etcd_client import EtcdClient
from dkv.store.etcd_messages import delete, leased, look, message, put, txn, unchanged
from dkv.store.etcd_state import Layout, after

SWEEP_AFTER = 3600.0
PART_OF_A_SECOND = 0.5  # etcd says how long a lease lasts in whole seconds, rounded down


class EtcdLeases:
    """The leases below one prefix. `clock` counts seconds, for how long ago this handle saw one end."""

    def __init__(self, client: EtcdClient, layout: Layout, clock: Callable[[], float]) -> None:
        self._client = client
        self._held = layout.leases + b"held/"
        self._claimed = layout.leases + b"claim/"
        self._clock = clock
        self._ours: dict[tuple[str, str], tuple[int, int]] = {}  # name and holder: etcd's id of the lease, its seconds
        self._ended: dict[int, float] = {}  # etcd revision of a claim whose lease has ended: when that was seen first

    async def acquire(self, name: str, holder: str, ttl: float, value: str) -> bool:
        """Take it if it is free, expired or ours."""
        seconds = math.ceil(ttl)
        lease, granted = self._ours.get((name, holder), (0, 0))
        if lease and granted == seconds and await self._renew(name, holder, lease, value):
            return True
        self._ours.pop((name, holder), None)
        return await self._take(name, holder, seconds, value)

    async def _renew(self, name: str, holder: str, lease: int, value: str) -> bool:
        """Whether a lease of this handle lives, and was prolonged, and has this value now."""
        answer = await self._client.call("keep_alive", message("KeepAliveRequest", ID=lease))
        if answer.TTL <= 0:
            return False
        key, text = self._held + name.encode(), _text(holder, value)
        kv = await self._get(key)
        if kv is None or kv.lease != lease:
            return False
        if kv.value == text:
            return True
        changed = [put(key, text, lease), put(self._claimed + name.encode(), text)]
        return bool((await self._client.call("txn", txn([leased(key, lease)], changed))).succeeded)

    async def _take(self, name: str, holder: str, seconds: int, value: str) -> bool:
        key, text = self._held + name.encode(), _text(holder, value)
        known = await self._get(key)
        if known is not None and _holder(known) != holder:
            return False
        lease = (await self._client.call("grant", message("GrantRequest", TTL=seconds))).ID
        condition = unchanged(key, known.mod_revision if known is not None else 0)
        written = [put(key, text, lease), put(self._claimed + name.encode(), text)]
        answer = await self._client.call("txn", txn([condition], written, [look(key)]))
        if not answer.succeeded:
            present = answer.responses[0].range.kvs
            if not present or present[0].lease != lease:  # else an attempt without an answer was ours
                await self._revoke(lease)
                return False
        self._ours[name, holder] = (lease, seconds)
        if known is not None:
            await self._revoke(known.lease)  # of this holder before it was restarted
        return True

    async def release(self, name: str, holder: str) -> None:
        """Give it up if it is ours."""
        lease, _ = self._ours.pop((name, holder), (0, 0))
        key = self._held + name.encode()
        known = await self._get(key)
        if known is None or _holder(known) != holder:
            return
        gone = [delete(key), delete(self._claimed + name.encode())]
        await self._client.call("txn", txn([unchanged(key, known.mod_revision)], gone))
        await self._revoke(lease or known.lease)

    async def all(self) -> Sequence[Lease]:
        """Every lease, by name."""
        held, claimed = await self._read()
        living = await asyncio.gather(*(self._left(kv) for kv in held.values()))
        leases = [lease for lease in living if lease is not None]
        names = {lease.name for lease in leases}
        ended = {kv.key: kv for name, kv in claimed.items() if name not in names}
        now = self._clock()
        self._ended = {kv.mod_revision: self._ended.get(kv.mod_revision, now) for kv in ended.values()}
        for kv in ended.values():
            since = self._ended[kv.mod_revision] - now
            if since < -SWEEP_AFTER:
                await self._client.call("txn", txn([unchanged(kv.key, kv.mod_revision)], [delete(kv.key)]))
            else:
                leases.append(self._lease(kv, since - 0.001))  # below 0 at the first look too
        return tuple(sorted(leases, key=lambda lease: lease.name))

    async def _read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        start = self._held[: -len(b"held/")]
        kvs = (await self._client.call("range", message("RangeRequest", key=start, range_end=after(start)))).kvs
        held = {kv.key[len(self._held) :].decode(): kv for kv in kvs if kv.key.startswith(self._held)}
        claimed = {kv.key[len(self._claimed) :].decode(): kv for kv in kvs if kv.key.startswith(self._claimed)}
        return held, claimed

    async def _left(self, kv: Any) -> Lease | None:
        """A held lease with the time that it has left; None if it ended meanwhile."""
        left = (await self._client.call("time_to_live", message("TimeToLiveRequest", ID=kv.lease))).TTL
        if left < 0:
            return None
        return self._lease(kv, left + PART_OF_A_SECOND)

    def _lease(self, kv: Any, left: float) -> Lease:
        prefix = self._held if kv.key.startswith(self._held) else self._claimed
        return Lease(kv.key[len(prefix) :].decode(), _holder(kv), left, json.loads(kv.value)["value"])

    async def _get(self, key: bytes) -> Any:
        kvs = (await self._client.call("range", message("RangeRequest", key=key))).kvs
        return kvs[0] if kvs else None

    async def _revoke(self, lease: int) -> None:
        """End an etcd lease that no key belongs to any more. It would end by itself, so nothing depends on it."""
        with suppress(Unavailable):
            await self._client.call("revoke", message("RevokeRequest", ID=lease), patience=0.5)


def _text(holder: str, value: str) -> bytes:
    return json.dumps({"holder": holder, "value": value}, separators=(",", ":")).encode()


def _holder(kv: Any) -> str:
    return str(json.loads(kv.value)["holder"])
