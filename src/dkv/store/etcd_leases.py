"""Store: leases on etcd's own: a key that belongs to an etcd lease, outside of what is guarded and watched.

    PREFIX lease/held/NAME    holder and value; etcd deletes it when its lease ends
    PREFIX lease/claim/NAME   the same without a lease: who held it last

etcd counts a lease's time from when it took the renewal, its holder from when it sent it: so a holder stops first. A new leader
of etcd begins all times anew; a holder never relies on it.

A member that led, was frozen and goes on may end leases that were renewed at its successor meanwhile (a fault of etcd, which
Debian's 3.4.23 has). So a lease is etcd's for all of its time but the last second, and has ended when its key was seen to be gone
for that second: its holder, which renews more often, has taken it again by then.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from dkv.store.contract import Lease, Unavailable
from dkv.store.etcd_client import EtcdClient
from dkv.store.etcd_messages import delete, leased, look, message, put, txn, unchanged
from dkv.store.etcd_state import Layout, after

SWEEP_AFTER = 3600.0
GRACE = 1.0  # s at the end of a lease in which its key is gone and only its holder may take it
Ask = Callable[[str, Any], Awaitable[Any]]
PART_OF_A_SECOND = 0.5  # etcd says how long a lease lasts in whole seconds, rounded down
ASKED_AGAIN = 0.75  # s of a lease, by etcd's last answer, below which it is asked again


class EtcdLeases:
    """The leases below one prefix. `clock` counts seconds, for how long ago this handle saw one end; `ask` is how all of them are
    read.
    """

    def __init__(self, client: EtcdClient, layout: Layout, clock: Callable[[], float], ask: Ask) -> None:
        self._client = client
        self._ask = ask
        self._held = layout.leases + b"held/"
        self._claimed = layout.leases + b"claim/"
        self._clock = clock
        self._ours: dict[tuple[str, str], tuple[int, int]] = {}  # name and holder: etcd's id of the lease, its seconds
        self._lasts: dict[int, float] = {}  # etcd's id of a lease: until when it lasts, unless it is prolonged meanwhile
        self._gone: dict[int, float] = {}  # etcd revision of a claim whose key is gone: when that was seen first

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
        sent = self._clock()
        answer = await self._client.call("keep_alive", message("KeepAliveRequest", ID=lease))
        if answer.TTL <= 0:
            return False
        self._lasts[lease] = sent + answer.TTL
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
        known, claim = await self._look(name)
        if known is not None and _holder(known) != holder:
            return False
        if known is None and claim is not None and _holder(claim) != holder and self._left_of(claim) > 0:
            return False
        ttl = max(1, seconds - int(GRACE))
        lease = (await self._client.call("grant", message("GrantRequest", TTL=ttl))).ID
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
        self._lasts = {kv.lease: self._lasts[kv.lease] for kv in held.values() if kv.lease in self._lasts}
        living = await asyncio.gather(*(self._left(kv) for kv in held.values()))
        leases = [lease for lease in living if lease is not None]
        names = {lease.name for lease in leases}
        gone = [kv for name, kv in claimed.items() if name not in names]
        for kv in gone:
            left = self._left_of(kv)
            if left < -SWEEP_AFTER:
                await self._client.call("txn", txn([unchanged(kv.key, kv.mod_revision)], [delete(kv.key)]))
            else:
                leases.append(self._lease(kv, left))
        known = {kv.mod_revision for kv in gone}
        self._gone = {revision: since for revision, since in self._gone.items() if revision in known}
        return tuple(sorted(leases, key=lambda lease: lease.name))

    def _left_of(self, claim: Any) -> float:
        """Seconds until a lease whose key is gone has ended; negative when it has."""
        now = self._clock()
        return self._gone.setdefault(claim.mod_revision, now) + GRACE - now

    async def _read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        start = self._held[: -len(b"held/")]
        kvs = (await self._ask("range", message("RangeRequest", key=start, range_end=after(start)))).kvs
        held = {kv.key[len(self._held) :].decode(): kv for kv in kvs if kv.key.startswith(self._held)}
        claimed = {kv.key[len(self._claimed) :].decode(): kv for kv in kvs if kv.key.startswith(self._claimed)}
        return held, claimed

    async def _left(self, kv: Any) -> Lease | None:
        """A held lease with the time that it has left, or had when etcd last said so; None if it ended meanwhile. It lives while
        its key is there, and its holder only ever makes its time longer.
        """
        now = self._clock()
        left = self._lasts.get(kv.lease, now) - now
        if left < ASKED_AGAIN:
            seconds = (await self._ask("time_to_live", message("TimeToLiveRequest", ID=kv.lease))).TTL
            if seconds < 0:
                return None
            left = seconds + PART_OF_A_SECOND
            self._lasts[kv.lease] = now + left
        return self._lease(kv, left + GRACE)

    def _lease(self, kv: Any, left: float) -> Lease:
        prefix = self._held if kv.key.startswith(self._held) else self._claimed
        return Lease(kv.key[len(prefix) :].decode(), _holder(kv), left, json.loads(kv.value)["value"])

    async def _look(self, name: str) -> tuple[Any, Any]:
        """The key and the claim of a lease, None for what is not there."""
        looks = [look(self._held + name.encode()), look(self._claimed + name.encode())]
        answers = (await self._client.call("txn", txn([], looks))).responses
        held, claim = (answer.range.kvs[0] if answer.range.kvs else None for answer in answers)
        return held, claim

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
