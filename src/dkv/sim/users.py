"""Simulation: people change the users of databases, and something else than a manager alters them on an engine."""

from __future__ import annotations

from dataclasses import replace

from dkv.domain.command import Command
from dkv.domain.decision import Accepted
from dkv.domain.orders import (
    AddUserPassword,
    CreateDatabaseUser,
    DeleteDatabaseUser,
    DropUserPassword,
    RotateSecret,
    SetDatabaseAccess,
)
from dkv.engine.contract import EngineUser
from dkv.sim.faults.kinds import Fault, Source

NAMES = ("ada", "bob")


class UserChanges(Source):
    """Orders about users, and one that nobody gave."""

    def kinds(self) -> dict[str, Fault]:
        """By name."""
        return {"change users": self.change_users, "rotate secret": self.rotate_secret, "alter users": self.alter_users}

    async def _order(self, kind: str, command: Command) -> None:
        if isinstance(await self.world.order(command), Accepted):
            self.probes.order(kind)

    async def change_users(self) -> None:
        """A user is made, gets another password, loses the old one or goes; or the database is opened or closed."""
        database, name = self.random.choice(self.world.databases), self.random.choice(NAMES)
        hashed = f"{self.random.getrandbits(256):064x}"
        orders: tuple[Command, ...] = (
            CreateDatabaseUser(actor="operator", database=database, name=name, hashed_password=hashed),
            AddUserPassword(actor="operator", database=database, name=name, hashed_password=hashed),
            DropUserPassword(actor="operator", database=database, name=name),
            DeleteDatabaseUser(actor="operator", database=database, name=name),
            SetDatabaseAccess(actor="operator", database=database, open=self.random.random() < 0.5),
        )
        await self._order("change users", self.random.choice(orders))

    async def rotate_secret(self) -> None:
        """The managers' own password is changed."""
        database, secret = self.random.choice(self.world.databases), f"{self.random.getrandbits(128):032x}"
        await self._order("rotate secret", RotateSecret(actor="operator", database=database, secret=secret))

    async def alter_users(self) -> None:
        """Somebody with the machine's root makes a user on an engine, or takes all away."""
        engines = [engine for engine in self.machine().hardware.all_engines() if not engine.loading]
        if not engines:
            return
        engine = self.random.choice(engines)
        eve = EngineUser("eve", (), altered="on nopass ~* &* +@all")
        engine.users = replace(engine.users, users=self.random.choice(((), (*engine.users.users, eve))))
        self.struck("alter users", f"the users of engine {engine.start_id} are altered")
