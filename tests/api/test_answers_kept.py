"""Answers to Idempotency-Keys are kept for the newest requests only: what clients send cannot make the state grow for ever."""

from __future__ import annotations

import asyncio
import itertools

from dkv.control.submit import ANSWERS, ANSWERS_KEPT, Submitter
from dkv.domain.commands import PutRecord
from dkv.store.memory import MemoryStore


def test_no_more_answers_are_kept_than_the_bound_and_the_newest_are() -> None:
    async def told() -> None:
        store, count = MemoryStore(), itertools.count(1)
        submitter = Submitter(store, clock=lambda: next(count), token=lambda: f"token-{next(count)}")
        await submitter.found("domain")
        for number in range(ANSWERS_KEPT + 20):
            await submitter.submit(PutRecord(actor="dba", kind="kvstore", key="same", value=str(number)), f"key-{number}")
        kept = {name for name in (await store.read()).records if name.startswith(ANSWERS)}
        assert len(kept) == ANSWERS_KEPT
        assert any(f"key-{ANSWERS_KEPT + 19}" in name for name in kept)
        assert not any(name.endswith("key-0") for name in kept)

    asyncio.run(told())
