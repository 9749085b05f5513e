"""Simulation: what people order, at moments they would not choose. Counted is what the domain accepted."""

from __future__ import annotations

from collections.abc import Callable

from dkv.domain.command import Command
from dkv.domain.decision import Accepted
from dkv.domain.hotcopy import ENDS
from dkv.domain.model import Group, Process, ProcessRole
from dkv.domain.orders import (
    CancelHotCopy,
    CreateArchives,
    DeleteArchive,
    EnforceLeader,
    NewArchive,
    RequestHotCopy,
    RestartDatabase,
    SetDatabaseOptions,
    ShutdownDatabase,
    ShutdownProcess,
    StartProcess,
    Switchover,
)
from dkv.sim.faults.kinds import Fault, Source

MOST_TES = 2
PATIENCE = 6.0  # s an order waits until it makes sense
OPTIONS = (
    ("append-fsync", "everysec"),
    ("append-fsync", "always"),
    ("min-in-sync", "1"),
    ("min-in-sync", "2"),
    ("max-memory", "64mb"),
    ("max-memory", "0"),
    ("tail-above", "0"),
    ("tail-above", "-1"),
)
"""What people set while engines run; a database that has no two copies refuses some of it."""


class Operators(Source):
    """Orders that end, move or change things."""

    def kinds(self) -> dict[str, Fault]:
        """By name."""
        return {
            "stop instance": self.stop_instance,
            "kill instance": self.kill_instance,
            "stop leader": self.stop_leader,
            "switchover": self.switchover,
            "restart store": self.restart_store,
            "change options": self.change_options,
            "start te": self.start_te,
            "stop te": self.stop_te,
            "stop store": self.stop_store,
            "force stop": self.force_stop,
            "hot copy": self.hot_copy,
            "enforce leader": self.enforce_leader,
            "create archive": self.create_archive,
            "delete archive": self.delete_archive,
            "evict leader": self.evict_leader,
        }

    async def _order(self, kind: str, command: Command) -> bool:
        accepted = isinstance(await self.world.order(command), Accepted)
        if accepted:
            self.probes.order(kind)
        return accepted

    async def _start(self, archive_id: int | None) -> None:
        archive = self.world.state.archives.get(archive_id) if archive_id is not None else None
        if archive is None or archive.removed or self.world.state.process_on(archive.archive_id):
            return
        await self._order(
            "start instance",
            StartProcess(actor="operator", database=archive.database, role=ProcessRole.SM, archive_id=archive_id),
        )

    def _process(self, fits: Callable[[Process], bool] = lambda process: True) -> Process | None:
        processes = [p for _, p in sorted(self.world.state.processes.items()) if fits(p)]
        return self.random.choice(processes) if processes else None

    def _group(self) -> Group:
        return self.random.choice([group for _, group in sorted(self.world.state.groups.items())])

    def _database(self) -> str:
        return self.random.choice(self.world.databases)

    @staticmethod
    def _has_heir(group: Group) -> bool:
        return group.serving and len(group.in_sync) > 1

    # -- one instance ------------------------------------------------------------------------------------------------

    async def _end_one(self, kind: str, process: Process | None, *, kill: bool = False) -> None:
        if process is None:
            return
        force = self.random.random() < 0.3
        await self._order(kind, ShutdownProcess(actor="operator", start_id=process.start_id, kill=kill, force=force))
        await self.wait(0.2, 6.0)
        await self._start(process.archive_id)

    async def stop_instance(self) -> None:
        """Stop one process gracefully, start it again later."""
        await self._end_one("stop instance", self._process(lambda p: p.role is ProcessRole.SM))

    async def kill_instance(self) -> None:
        """The same without waiting for a graceful end."""
        await self._end_one("kill instance", self._process(lambda p: p.role is ProcessRole.SM), kill=True)

    async def stop_leader(self) -> None:
        """A stop that begins with a handover, if there is a copy to hand over to."""
        await self.world.until(lambda: any(self._has_heir(g) for g in self.world.state.groups.values()), PATIENCE)
        leaders = {g.leader_process for g in self.world.state.groups.values() if self._has_heir(g)}
        await self._end_one("stop leader", self._process(lambda p: p.start_id in leaders), kill=self.random.random() < 0.3)

    async def start_te(self) -> None:
        """A memory-only process: it serves readers, never leads, and never counts as a copy. Of two there one leaves."""
        if sum(p.role is ProcessRole.TE for p in self.world.state.processes.values()) >= MOST_TES:
            await self.stop_te()
            return
        await self._order(
            "start te",
            StartProcess(actor="operator", database=self._database(), role=ProcessRole.TE, server_id=self.machine().name),
        )

    async def stop_te(self) -> None:
        """Its end; it is not started again."""
        process = self._process(lambda p: p.role is ProcessRole.TE)
        if process is None:
            await self.start_te()
        else:
            await self._order(
                "stop te", ShutdownProcess(actor="operator", start_id=process.start_id, kill=self.random.random() < 0.5)
            )

    # -- a whole store -----------------------------------------------------------------------------------------------

    async def _stop_all(self, kind: str, force: bool) -> None:
        name = self._database()
        await self._order(kind, ShutdownDatabase(actor="operator", name=name, force=force))
        if self.random.random() < 0.7:
            await self.world.until(lambda: not self.world.state.processes_of(name), 15.0)
        await self.wait(0.0, 3.0)
        await self.world.start_all()

    async def stop_store(self) -> None:
        """Stop everything; start it again when it has stopped, or much too early."""
        await self._stop_all("stop store", force=False)

    async def force_stop(self) -> None:
        """The same, without waiting."""
        await self._stop_all("force stop", force=True)

    async def restart_store(self) -> None:
        """Every process is replaced, one after the other or all at once."""
        await self._order(
            "restart store",
            RestartDatabase(actor="operator", name=self._database(), force=True, rolling=self.random.random() < 0.6),
        )

    async def change_options(self) -> None:
        """What writes may rely on, where they are served, and what engines may hold changes while all goes on."""
        name = self._database()
        database = self.world.state.databases.get(name)
        option = self.random.choice(
            [candidate for candidate in OPTIONS if database is None or candidate not in database.default_options]
        )
        await self._order("change options", SetDatabaseOptions(actor="operator", name=name, options=(option,)))

    async def switchover(self) -> None:
        """Another member of S is to lead."""
        group = self._group()
        await self.world.until(lambda: self._has_heir(self._now(group)), PATIENCE)
        await self._order("switchover", Switchover(actor="operator", database=group.database, group=group.name))

    async def hot_copy(self) -> None:
        """All archives in sync, at one moment; some copies are slow, and some are not wanted any more."""
        order = RequestHotCopy(
            actor="operator",
            database=self._database(),
            shared=True,
            whole=False,
            default_path=f"/copies/{self.random.getrandbits(32)}",
            max_rate=self.random.choice((0, 0, 5000)),
        )
        if await self._order("hot copy", order) and self.random.random() < 0.2:
            await self.wait(0.0, 1.0)
            for copy_id, copy in sorted(self.world.state.copies.items()):
                if copy.stage not in ENDS:
                    await self._order("cancel hot copy", CancelHotCopy(actor="operator", copy_id=copy_id))

    # -- what costs data ---------------------------------------------------------------------------------------------

    async def enforce_leader(self) -> None:
        """The machine of a leader dies, and an operator does not want to wait for it."""
        group = self._group()
        leader = self.world.state.archives.get(group.leader) if group.leader is not None else None
        home = self.world.machines[leader.server_id] if leader else None
        if home is not None and not home.down:
            self.world.trace("fault", f"machine {home.name} is switched off, and not waited for")
            self.world.switch_off(home.name)
        await self.world.until(lambda: not self._now(group).serving, 6.0)
        await self.wait(0.0, 2.0)
        others = [a for a in self.world.archives_of(group) if leader is None or a.archive_id != leader.archive_id]
        if others:
            chosen = self.random.choice(others)
            await self._start(chosen.archive_id)
            await self._order(
                "enforce leader",
                EnforceLeader(
                    actor="operator",
                    database=group.database,
                    group=group.name,
                    archive_id=chosen.archive_id,
                    allow_data_loss=True,
                    reason="we cannot wait",
                ),
            )
        await self.wait(0.5, 6.0)
        if home is not None:
            self.world.switch_on(home.name)

    async def evict_leader(self) -> None:
        """The manager of a leader's machine is away and its engine is not; an operator gives the process up."""
        await self.world.until(lambda: any(self._has_heir(g) for g in self.world.state.groups.values()), PATIENCE)
        groups = [g for g in self.world.state.groups.values() if self._has_heir(g)]
        process = self.world.state.processes.get(self.random.choice(groups).leader_process or -1) if groups else None
        if process is None:
            return
        self.world.kill_manager(process.server_id)
        lost = await self.world.until(lambda: not self.world.state.server_alive(process.server_id), PATIENCE)
        if lost or self.random.random() < 0.5:
            await self._order("evict process", ShutdownProcess(actor="operator", start_id=process.start_id, evict=True))
        await self.wait(0.5, 6.0)
        self.world.start_manager(process.server_id)

    def _now(self, group: Group) -> Group:
        return self.world.state.groups.get(group.key, group)

    # -- archives that come and go -----------------------------------------------------------------------------------

    async def create_archive(self) -> None:
        """One copy more, where the group has none yet; without a free server, one is made free first."""
        group = self._group()
        homes = [a.server_id for a in self.world.archives_of(group)]
        free = [name for name in self.world.machines if name not in homes]
        if not free:
            await self._delete(group)
            return
        new = NewArchive(server_id=self.random.choice(free), group=group.name)
        if not await self._order("create archive", CreateArchives(actor="operator", database=group.database, archives=(new,))):
            return
        await self.wait(0.0, 1.0)
        for archive in self.world.archives_of(group):
            await self._start(archive.archive_id)

    async def delete_archive(self) -> None:
        """Stop one copy, delete it, and make another one later."""
        group = self._group()
        await self._delete(group)
        await self.wait(0.2, 4.0)
        await self.create_archive()

    async def _delete(self, group: Group) -> None:
        archives = self.world.archives_of(group)
        if len(archives) < 2:
            return
        archive = self.random.choice(archives)
        process = self.world.state.process_on(archive.archive_id)
        if process is not None:
            await self._order(
                "stop instance",
                ShutdownProcess(actor="operator", start_id=process.start_id, force=True, kill=self.random.random() < 0.3),
            )
            await self.world.until(lambda: self.world.state.process_on(archive.archive_id) is None, 12.0)
        if not await self._order("delete archive", DeleteArchive(actor="operator", archive_id=archive.archive_id)):
            await self._start(archive.archive_id)
