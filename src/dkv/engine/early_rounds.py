"""An engine's rounds of housekeeping a second (Valkey's `hz`): a start does not wait for what Valkey does once a second
(docs/decisions/0017).

- A durable engine starts with EARLY_ROUNDS: a leader sends its snapshot to one follower after the other, and a round notices the
  end of the child that wrote it.
- A follower is set to ONE round where it waits for what comes once a second: Valkey counts rounds to know that a second is over,
  so its next round does all of that. The round after that is a second away. Until then it opens no cluster links by itself and
  notices no ended child, which a follower that is not in sync can do without; it serves, streams, fsyncs and obeys as ever.
- A look at the engine shows its rounds, and `restore` sets them to USUAL, so that a manager may die in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from dkv.engine.config import EARLY_ROUNDS
from dkv.engine.contract import EngineRefused, EngineUnreachable
from dkv.engine.replies import Answers, parse_info

ONE, USUAL = 1, 10  # rounds a second
EARLY_FOR = 5.0  # s after its start, or after it was found running, in which copies may be attaching
_RESYNC_BEGINS_WITHIN = 0.1  # s from REPLICATE to the leader's answer
_SMALL_SNAPSHOT = 0.04  # s in which a snapshot of some megabytes has come

Do = Callable[..., Awaitable[list[Any]]]  # sends commands to one engine and returns its answers (`Valkey.do`)


async def hasten(do: Do) -> None:
    """Have a follower do what it does once a second at its next round. Raises EngineUnreachable, EngineRefused."""
    await do(("CONFIG", "SET", "hz", ONE))


async def hasten_download(do: Do) -> None:
    """Have a durable follower that was just ordered to replicate notice a small snapshot once that is on its disk: by itself
    it looks once a second (docs/reference/valkey.md#forming-a-group), and so it does for a snapshot that takes longer.
    Raises EngineUnreachable, EngineRefused.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _RESYNC_BEGINS_WITHIN
    while True:
        (text,) = await do(("INFO", "replication"))
        fields = parse_info(text)
        if fields.get("master_sync_in_progress", "0") != "0":
            break
        if fields.get("master_link_status") == "up" or loop.time() > deadline:
            return  # it continued where it was, or its leader does not let it in
        await asyncio.sleep(0.005)
    await asyncio.sleep(_SMALL_SNAPSHOT)
    await hasten(do)


async def restore(do: Do, answers: Answers, known_for: float) -> None:
    """Set the usual rounds once a hastened follower is attached, and EARLY_FOR after a start. `known_for` is in seconds."""
    rounds = int(answers.settings.get("hz", USUAL))
    attached = answers.leads or answers.info.get("master_link_status") == "up"
    if (rounds == ONE and attached) or (rounds == EARLY_ROUNDS and known_for >= EARLY_FOR):
        with suppress(EngineUnreachable, EngineRefused):  # the next look tries again
            await do(("CONFIG", "SET", "hz", USUAL))
