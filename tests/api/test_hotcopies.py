"""A hot copy that cannot be begun is refused to who asked for it, not noted as failed a moment later."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dkv.api.context import ManagerContext
from dkv.control.submit import RequestKey
from dkv.domain.command import Command
from dkv.domain.decision import Accepted, Refused
from dkv.domain.facts import CopyBroke
from dkv.domain.orders import RequestHotCopy
from tests.api.furnished import FurnishedWorld, Machine
from tests.api.world import World, scenario

NATIVE: tuple[str, dict[str, Any]] = (
    "/admin/v1/stores/OrdersStore/hot-copies",
    {"targets": [{"instanceName": "orders-2", "path": "/copies/again"}]},
)
DIALECT: tuple[str, dict[str, Any]] = (
    "/api/1/databases/OrdersStore/hotCopySimple",
    {"backupLocations": {"1": {"copyArchiveDir": "/copies/again"}}},
)


class Breaking(Machine):
    """The submitter, and beside it managers that find a directory taken."""

    async def submit(self, command: Command, key: RequestKey | None = None) -> Accepted | Refused:
        decision = await super().submit(command, key)
        if isinstance(command, RequestHotCopy) and isinstance(decision, Accepted):
            copy = max(decision.state.copies.values(), key=lambda copy: copy.copy_id)
            fact = CopyBroke(
                server_id=copy.parts[0].server_id,
                copy_id=copy.copy_id,
                archive_id=copy.parts[0].archive_id,
                reason="/copies/again is not empty",
            )
            await self._world.submit(fact)
        return decision


class Taken(FurnishedWorld):
    """Its hot copies break at once, apart from the first."""

    breaking = False

    def context(self, server: str) -> ManagerContext:
        manager = super().context(server)
        return replace(manager, submitter=Breaking(self)) if self.breaking else manager


@scenario
async def test_who_asks_for_a_copy_that_cannot_be_begun_is_refused_with_the_reason(bare: World) -> None:
    world = Taken()
    await world.furnish()
    async with world.at("s1") as client:
        before = (await client.get(NATIVE[0])).json()["hotCopies"]
        assert (await client.delete(f"{NATIVE[0]}/{before[0]['hotCopyId']}")).status_code == 202
    world.breaking = True
    world.apps = world._apps()
    async with world.at("s1") as client:
        for path, body in (NATIVE, DIALECT):
            answer = await client.post(path, json=body)
            assert answer.status_code == 409, answer.text
            assert "cannot_copy" in (answer.json().get("code"), answer.json().get("reason"))
            assert "archive 1: /copies/again is not empty" in answer.json()["detail"]
            assert answer.json()["hint"]
