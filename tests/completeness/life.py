"""One store's whole life, so that every command happens at least once through the API that people use.

Orders go through the HTTP application of a manager, facts through the submitter that a manager's loop uses. What each
command made true is read back from the event log and from the revision of the state.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from dkv.access import crypto
from dkv.domain.command import Command
from dkv.domain.database_users import users_digest
from dkv.domain.facts import (
    ArchiveRetired,
    AuthorityFounded,
    CertificateKept,
    CertificateSeen,
    CleanStopReached,
    CopyBroke,
    CopyPrepared,
    CopyProgressed,
    CopyRecognised,
    CopyWritten,
    CutDropped,
    CutNoted,
    DeletionsKept,
    EngineSilent,
    HandoverBegun,
    HandoverDeclined,
    HandoverDone,
    HandoverFailed,
    HandoverWithdrawn,
    InSyncShrunk,
    JoinAborted,
    JoinAnnounced,
    JoinCompleted,
    JoinDurable,
    JoinMarked,
    LackEnded,
    LeaderProgressed,
    LeaderServing,
    LeaderSilence,
    LeaderSteppedDown,
    LevelsRead,
    LoadingProgressed,
    MemberTroubled,
    MemorySynced,
    OpenTerm,
    OptionsSeen,
    PositionReported,
    ProcessConfigured,
    ProcessExited,
    ProcessStarted,
    ProcessTracked,
    RequestsRefused,
    ServerJoined,
    ServerLost,
    SlotsLost,
    SlotsOwned,
    StateMemberSeen,
    TailBroken,
    TailFed,
    TailMeasured,
    TailSetAside,
    Tick,
    UsersSeen,
    WritesPaused,
    WritesRefused,
    WritesResumed,
)
from dkv.domain.levels import LEVEL
from dkv.domain.model import Group, PositionReport, Process, ProcessRole, State
from dkv.domain.orders import StartProcess
from dkv.domain.state_members import DISK
from tests.api.world import HOSTS, PORT, World, orders

STORE = "OrdersStore"
GROUP = "UNPARTITIONED"
HISTORY = "a" * 40
NINETY_DAYS = 90 * 86_400_000


class Life:
    """The store, who manages it, and what was seen to happen."""

    def __init__(self) -> None:
        self.world = World()
        self.events: dict[str, set[str]] = defaultdict(set)  # command -> kinds of the events it made
        self.changed: set[str] = set()  # commands after which the revision moved
        self.submitted: set[type[Command]] = set()
        self.states: list[State] = []  # after each step

    async def submit(self, *facts: Command) -> None:
        """Facts that the domain has to accept, each followed by a look at what it changed."""
        for fact in facts:
            before = self.world.domain.snapshot.revision
            await self.world.submit(fact)
            self.submitted.add(type(fact))
            self.states.append(await self.world.state())
            if self.world.domain.snapshot.revision > before:
                self.changed.add(type(fact).__name__)

    async def ask(self, method: str, path: str, status: int, **more: Any) -> Any:
        """An order through the HTTP application."""
        async with self.world.at("s1") as client:
            answer: httpx.Response = await client.request(method, f"/admin/v1/stores{path}", **more)
        assert answer.status_code == status, answer.text
        self.states.append(await self.world.state())
        return answer.json()

    async def ask_as_nuocmd(self, method: str, path: str, **more: Any) -> Any:
        """An order in the NuoDB dialect, which has to succeed."""
        async with self.world.at("s1") as client:
            answer: httpx.Response = await client.request(method, f"/api/1{path}", **more)
        assert answer.status_code == 200, answer.text
        self.states.append(await self.world.state())
        return answer.json()

    async def read_events(self) -> None:
        """The events, as a client reads them from the log."""
        for stored in self.world.domain.log:
            event = json.loads(stored.text)
            assert event["because"], event
            self.events[event["command"]].add(event["kind"])

    async def group(self) -> Group:
        """The store's only group, as it is now."""
        return (await self.world.state()).groups[(STORE, GROUP)]

    async def process(self, archive_id: int) -> Process:
        """The living process of an archive."""
        process = (await self.world.state()).process_on(archive_id)
        assert process is not None
        return process

    async def quoting(self) -> dict[str, Any]:
        """What a fact of the leader's manager quotes."""
        group = await self.group()
        assert group.leader_process is not None
        server = (await self.world.state()).processes[group.leader_process].server_id
        return {"server_id": server, "database": STORE, "group": GROUP, "term": group.term}

    # --- chapters ---------------------------------------------------------------------------------------------------

    async def servers_come(self) -> None:
        """Two managers join the domain."""
        at: dict[str, Any] = {"port": PORT, "nuodb_port": 8888, "boot_id": "boot-1", "etcd_port": 7901}
        for name, host in HOSTS.items():
            await self.submit(ServerJoined(server_id=name, uid=f"uid-of-{name}", host=host, **at))
        if not (await self.world.state()).level:
            await self.submit(LevelsRead(server_id="s1", levels=tuple((name, 1) for name in HOSTS)))
            for name, host in HOSTS.items():
                await self.submit(ServerJoined(server_id=name, uid=f"uid-of-{name}", host=host, level=LEVEL, **at))
            await self.submit(MemberTroubled(server_id="s1", trouble=DISK))
        await self.submit(StateMemberSeen(server_id="s1", member="s1", role="voter", because="the cluster lists it so"))
        await self.submit(RequestsRefused(server_id="s1", peer="127.0.0.9", count=1, last="GET /: no credentials"))

    async def created_and_started(self) -> None:
        """A store of two copies: the first archive leads, the second joins, not without a broken link."""
        await self.ask("POST", "", 201, json=orders())
        await self.ask("POST", f"/{STORE}/instances/orders-1/start", 202)
        await self.ask("POST", f"/{STORE}/instances/orders-2/start", 202)
        await self.comes_up(0, LoadingProgressed(server_id="s1", start_id=0, percent=50))
        await self.held_back()
        await self.comes_up(1)
        await self.leads(0)
        await self.submit(JoinAnnounced(archive_id=1, **await self.quoting()))
        await self.submit(JoinAborted(archive_id=1, **await self.quoting()))
        await self.joins(1)

    async def comes_up(self, archive_id: int, *while_loading: Command) -> None:
        """A requested process is taken, launched, and has loaded."""
        process = await self.process(archive_id)
        who: dict[str, Any] = {"server_id": process.server_id, "start_id": process.start_id}
        await self.submit(
            ProcessStarted(report=PositionReport(), **who),
            ProcessConfigured(pid=4711, **who),
            *while_loading,
            ProcessTracked(pid=4711, **who),
        )

    async def leads(self, archive_id: int) -> None:
        """The assigned leader opens its term and serves."""
        start_id = (await self.process(archive_id)).start_id
        await self.submit(OpenTerm(start_id=start_id, **await self.quoting()))
        await self.submit(LeaderServing(start_id=start_id, epoch=1, history=HISTORY, **await self.quoting()))

    async def joins(self, archive_id: int) -> None:
        """A loaded archive enters the in-sync set, stage by stage."""
        quote = await self.quoting()
        process = await self.process(archive_id)
        await self.submit(
            JoinAnnounced(archive_id=archive_id, **quote),
            JoinMarked(archive_id=archive_id, sequence=2, nonce="n", **quote),
            JoinDurable(server_id=process.server_id, start_id=process.start_id, term=quote["term"], sequence=2, nonce="n"),
            JoinCompleted(archive_id=archive_id, **quote),
        )
        assert archive_id in (await self.group()).in_sync

    async def memory_only_comes_and_goes(self) -> None:
        """A TE joins, holds everything, loses touch, and is killed; nobody starts it again."""
        await self.world.submit(StartProcess(database=STORE, role=ProcessRole.TE, server_id="s2"))
        (process,) = [p for p in (await self.world.state()).processes.values() if p.role is ProcessRole.TE]
        who: dict[str, Any] = {"server_id": "s2", "start_id": process.start_id}
        await self.submit(ProcessStarted(**who), ProcessConfigured(pid=4712, **who), ProcessTracked(pid=4712, **who))
        await self.submit(MemorySynced(synced=True, **who), MemorySynced(synced=False, **who))
        await self.submit(ProcessExited(cause="killed by signal", detail="killed", exit_code=137, **who))
        assert not [p for p in (await self.world.state()).processes.values() if p.role is ProcessRole.TE]

    async def link_breaks_and_heals(self) -> None:
        """The follower hears nothing, leaves the in-sync set, comes back."""
        quote = await self.quoting()
        follower = await self.process(1)
        where: dict[str, Any] = {"server_id": "s1", "start_id": (await self.process(0)).start_id}
        await self.submit(OptionsSeen(append_fsync="everysec", max_memory=1 << 30, **where))
        await self.submit(CertificateSeen(trust="0" * 16, serial="0A", days_left=90, **where))
        hung = EngineSilent(server_id="s1", start_id=(await self.process(0)).start_id, silent=True)
        await self.submit(hung, replace(hung, silent=False))
        full = WritesRefused(server_id="s1", start_id=hung.start_id, why="OOM")
        await self.submit(full, replace(full, why=""))
        silence = LeaderSilence(server_id="s2", start_id=follower.start_id, term=quote["term"], silent=True)
        await self.submit(silence, InSyncShrunk(archive_id=1, reason="it was silent for 3 s", **quote))
        await self.joins(1)

    async def held_back(self) -> None:
        """A follower's disk is full, twice in a row, and has room again."""
        full: dict[str, Any] = {"cause": "disk full", "detail": "No space left on device", "exit_code": 1}
        for _ in range(2):
            await self.submit(ProcessExited(server_id="s2", start_id=(await self.process(1)).start_id, **full))
        await self.submit(LackEnded(server_id="s2", start_id=(await self.process(1)).start_id))

    async def robbed(self) -> None:
        """A stranger takes the leader's hash slots; it has them back, and the follower joins again."""
        start_id = (await self.process(0)).start_id
        quote = await self.quoting()
        await self.submit(
            SlotsLost(start_id=start_id, by="a stranger", all=False, **quote),
            DeletionsKept(start_id=start_id, path="/kept", keys=3, **quote),
            SlotsOwned(start_id=start_id, epoch=9, **quote),
        )
        await self.joins(1)

    async def hot_copied(self) -> None:
        """A hot copy whose first attempt is void, one that cannot be written, one that is cancelled."""
        body = {"targets": [{"instanceName": "orders-1", "path": "/backup/1"}]}
        copy_id = (await self.ask("POST", f"/{STORE}/hot-copies", 202, json=body))["hotCopyId"]
        who: dict[str, Any] = {"server_id": "s1", "copy_id": copy_id, "archive_id": 0}
        await self.submit(CopyPrepared(**who))
        for attempt, held in ((1, False), (2, True)):
            quote = await self.quoting() | {"copy_id": copy_id, "attempt": attempt, "start_id": 0}
            await self.submit(
                WritesPaused(offset=9, history=HISTORY, file="f", size=7, **quote),
                CutNoted(attempt=attempt, file="f", length=7, size=70, **who),
                WritesResumed(held=held, **quote),
            )
        await self.submit(CopyProgressed(percent=50, **who), CopyWritten(**who), CutDropped(**who))
        copy_id = (await self.ask("POST", f"/{STORE}/hot-copies", 202, json=body))["hotCopyId"]
        await self.submit(CopyBroke(server_id="s1", copy_id=copy_id, archive_id=0, reason="/backup/1 is not empty"))
        copy_id = (await self.ask("POST", f"/{STORE}/hot-copies", 202, json=body))["hotCopyId"]
        assert (await self.ask("DELETE", f"/{STORE}/hot-copies/{copy_id}", 202))["status"] == "cancelled"

    async def handed_over(self) -> None:
        """A first handover fails at its deadline, the second is done; the old leader's tail is set aside."""
        quote = await self.quoting()
        old, new = await self.process(0), await self.process(1)
        begun, at_target = HandoverBegun(to_archive=1, **quote), quote | {"server_id": "s2", "start_id": new.start_id}
        await self.submit(begun, HandoverFailed(**quote), begun)
        await self.submit(HandoverWithdrawn(reason="the engine that was to lead does not answer", **at_target), begun)
        quote["server_id"] = "s2"
        await self.submit(
            HandoverDone(start_id=new.start_id, epoch=2, history="b" * 40, **quote),
            LeaderSteppedDown(server_id="s1", start_id=old.start_id),
            TailSetAside(server_id="s1", start_id=old.start_id, path="/data/tail"),
        )

    async def maintained(self) -> None:
        """A switchover that nobody carries out in time, and a rolling restart that is ended at once."""
        follower = await self.process(0)
        await self.ask("POST", f"/{STORE}/switchover", 202, json={"toStartId": follower.start_id})
        for clock in (100, 20_000):
            await self.submit(Tick(clock=clock))
        await self.ask("POST", f"/{STORE}/switchover", 202, json={})
        await self.submit(HandoverDeclined(reason="its leader is inside a script", **await self.quoting()))
        await self.ask("POST", f"/{STORE}/rebalance", 202)
        await self.ask("POST", f"/{STORE}/restart", 202, json={"rolling": True})
        await self.ask("DELETE", f"/{STORE}/restart", 200)
        await self.submit(InSyncShrunk(archive_id=0, reason="it is about to be stopped", **await self.quoting()))
        end: dict[str, Any] = {"cause": "graceful stop", "detail": "stopped", "exit_code": 0, "planned": True}
        await self.submit(ProcessExited(server_id="s1", start_id=follower.start_id, **end))
        await self.comes_up(0)
        await self.joins(0)

    async def server_lost_and_back(self) -> None:
        """The follower's manager loses its lease and comes back."""
        await self.submit(ServerLost(server_id="s1", uid="uid-of-s1"))
        await self.servers_come()

    async def large_leader_dies(self, archive_id: int, heir: int) -> dict[str, Any]:
        """The leader's engine dies; its files are large, so the other copy is to be given its tail. Who holds that."""
        dead = await self.process(archive_id)
        await self.submit(
            ProcessExited(server_id=dead.server_id, start_id=dead.start_id, cause="signal", detail="killed", exit_code=137)
        )
        held, follower, term = await self.process(archive_id), await self.process(heir), (await self.group()).term
        holder: dict[str, Any] = {"server_id": held.server_id, "start_id": held.start_id}
        place = PositionReport(term=term, sequence=1, nonce="n", bytes_after=50, offset=60, history="h", digest="half")
        await self.submit(
            ProcessStarted(report=PositionReport(term=term, sequence=1, nonce="n", bytes_after=90, size=200_000_000), **holder),
            PositionReported(server_id=follower.server_id, start_id=follower.start_id, term=term, report=place),
            TailMeasured(term=term + 1, size=90, digest="all", history="new", prefixes=(follower.start_id,), **holder),
        )
        return {"server_id": follower.server_id, "start_id": follower.start_id, "term": term + 1}

    async def tail_given(self) -> None:
        """A feed that breaks brings the dead leader back; the next two end with the other copy leading."""
        heir = await self.large_leader_dies(1, heir=0)
        await self.submit(TailBroken(reason="it asks for something else", **heir))
        process = await self.process(1)
        who: dict[str, Any] = {"server_id": process.server_id, "start_id": process.start_id}
        await self.submit(ProcessConfigured(pid=4711, **who), ProcessTracked(pid=4711, **who))
        await self.leads(1)
        await self.joins(0)
        for dead, follower in ((1, 0), (0, 1)):
            heir = await self.large_leader_dies(dead, follower)
            count = (await self.process(follower)).progress + 1
            await self.submit(LeaderProgressed(count=count, **heir))
            await self.submit(TailFed(size=90, digest="all", **heir))
            await self.leads(follower)
            process = await self.process(dead)
            who = {"server_id": process.server_id, "start_id": process.start_id}
            await self.submit(ProcessConfigured(pid=4711, **who), ProcessTracked(pid=4711, **who))
            await self.joins(dead)

    async def leader_killed(self) -> None:
        """An operator kills the leader; the follower reports its position and leads when time has shown who answers."""
        leader, follower = await self.process(1), await self.process(0)
        await self.ask("POST", f"/{STORE}/instances/orders-2/stop?force=true", 202)
        end = ProcessExited(server_id="s2", start_id=leader.start_id, cause="operator kill", detail="killed", exit_code=137)
        await self.submit(end)
        term = (await self.group()).term
        report = PositionReport(term=term, sequence=1, nonce="n", offset=10, history="b" * 40)
        await self.submit(PositionReported(server_id="s1", start_id=follower.start_id, term=term, report=report))
        for clock in (21_000, 40_000, 60_000):
            await self.submit(Tick(clock=clock))
        await self.leads(0)

    async def enforced(self) -> None:
        """The leader's server is lost with the newest data; an operator makes the other archive lead."""
        await self.ask("POST", f"/{STORE}/instances/orders-2/start", 202)
        await self.comes_up(1)
        await self.submit(ServerLost(server_id="s1", uid="uid-of-s1"))
        path = f"/{STORE}/groups/{GROUP}/leader"
        assert not (await self.ask("GET", f"{path}?archiveId=1", 200))["bound"]["inSync"]
        await self.ask("POST", path, 409, json={"archiveId": 1})
        body = {"archiveId": 1, "allowDataLoss": True, "reason": "the disk of s1 is broken"}
        assert (await self.ask("POST", path, 202, json=body))["bound"]["verdict"]
        term = (await self.group()).term
        start_id = (await self.process(1)).start_id
        await self.submit(
            PositionReported(server_id="s2", start_id=start_id, term=term, report=PositionReport(term=1, nonce="n"))
        )
        await self.leads(1)
        await self.servers_come()

    async def archives_come_and_go(self) -> None:
        """A copy is added and taken out again; its directory is renamed."""
        added = {"instances": [{"instanceName": "orders-3", "server": "s2", "clustronPort": 7815, "clientPort": 7865}]}
        await self.ask("POST", f"/{STORE}/instances", 201, json=added)
        await self.ask_as_nuocmd("DELETE", "/archives/2")
        await self.ask_as_nuocmd("PUT", "/archives/2", json={"dbName": STORE, "host": "s2"})
        await self.ask("DELETE", f"/{STORE}/instances/orders-3", 200)
        await self.submit(ArchiveRetired(server_id="s2", archive_id=2, path="/data/orders-3.deleted-1"))

    async def stopped_and_deleted(self) -> None:
        """One server is cleared, the rest is stopped as a whole; then the store is deleted."""
        assert (await self.ask_as_nuocmd("DELETE", "/peers/s1/processes?kill=true"))["startIds"]
        await self.ask("POST", f"/{STORE}/stop", 202)
        await self.submit(CleanStopReached(reached=(1,), **await self.quoting()))
        end: dict[str, Any] = {"cause": "graceful stop", "detail": "stopped", "exit_code": 0, "planned": True}
        for process in (await self.world.state()).processes_of(STORE):
            await self.submit(ProcessExited(server_id=process.server_id, start_id=process.start_id, **end))
        await self.ask("DELETE", f"/{STORE}", 200)

    async def restored(self) -> None:
        """An archive to be restored is made; its manager says what it holds while whoever made it waits for that."""
        new = {"dbName": "bank", "host": "s2", "path": "/backup/1", "restored": True}
        request = asyncio.create_task(self.ask_as_nuocmd("POST", "/archives", json=new))
        while not (unread := [a for a in (await self.world.state()).archives.values() if a.unread]):
            await asyncio.sleep(0)
        await self.submit(
            CopyRecognised(server_id="s2", archive_id=unread[0].archive_id, cut="d1/3", group="left", slots=((0, 8191),))
        )
        await request

    async def another_is_described(self) -> None:
        """A database made by the NuoDB dialect: where its servers are, and options that are kept."""
        await self.ask_as_nuocmd("PUT", "/databases/stock", json={"hostAssignments": {"s2": 0}})
        await self.ask_as_nuocmd("POST", "/databases/stock/options", json={"verbose": "all"})

    async def server_given_up(self) -> None:
        """A value is kept for somebody; a third server that had an archive and a vote goes for good."""
        await self.ask_as_nuocmd("PUT", "/kvstore/colour", json={"newValue": "red"})
        who: dict[str, Any] = {"server_id": "s3", "uid": "uid-of-s3"}
        await self.submit(ServerJoined(host="127.0.0.13", port=PORT, nuodb_port=8888, boot_id="boot-1", **who))
        added = {"instances": [{"instanceName": "orders-4", "server": "s3", "clustronPort": 7815, "clientPort": 7865}]}
        await self.ask("POST", f"/{STORE}/instances", 201, json=added)
        await self.submit(StateMemberSeen(server_id="s1", member="s3", role="voter", because="the cluster lists it so"))
        await self.submit(ServerLost(**who))
        async with self.world.at("s1") as client:
            replaced = await client.post("/admin/v1/servers/s3/replace-voter")
        assert (replaced.status_code, replaced.json()) == (202, {"result": "Asked", "by": "s2"})
        await self.ask_as_nuocmd("POST", "/peers/s3/removeDomainState")
        await self.ask_as_nuocmd("DELETE", "/peers/s3")

    async def a_program_gets_in(self) -> None:
        """A token is made for a program, and deleted."""
        async with self.world.at("s1") as client:
            made = await client.post("/admin/v1/tokens", json={"role": "viewer", "name": "dashboard"})
            assert made.status_code == 201, made.text
            gone = await client.delete(f"/admin/v1/tokens/{made.json()['token']['id']}")
            assert gone.status_code == 200, gone.text
        self.states.append(await self.world.state())

    async def users_are_let_in(self) -> None:
        """A user of the store is made, gets another password, and goes; meanwhile its engines let in users only."""
        await self.ask("POST", f"/{STORE}/users", 201, json={"name": "ada", "password": "first"})
        await self.ask("POST", f"/{STORE}/access", 200, json={"open": False})
        process = await self.process((await self.group()).leader or 0)
        digest = users_digest(await self.world.state(), STORE)
        who: dict[str, Any] = {"server_id": process.server_id, "start_id": process.start_id}
        await self.submit(UsersSeen(users=digest, **who), UsersSeen(users="", altered=("ada",), **who))
        await self.ask("POST", f"/{STORE}/users/ada/passwords", 200, json={"password": "second"})
        await self.ask("DELETE", f"/{STORE}/users/ada/passwords", 200)
        await self.ask("DELETE", f"/{STORE}/users/ada", 200)
        await self.ask("POST", f"/{STORE}/access", 200, json={"open": True})
        await self.ask("POST", f"/{STORE}/secret", 200)

    async def certified(self) -> None:
        """The managers have certificates; the authority is changed, and a server is admitted with a join token."""
        with tempfile.TemporaryDirectory() as root:
            await self.world.certify(Path(root))
            await self.submit(AuthorityFounded(owner="u1", certificate="of a database", key="sealed"))
            async with self.world.at("s1") as client:
                await self._rotated(client)
                made = await client.post("/admin/v1/join-tokens", json={})
                assert made.status_code == 201, made.text
                _, _, token, secret, _ = made.json()["secret"].split(".")
                joining = {"token": token, "secret": secret, "serverId": "s9", "uid": "9" * 32, "host": "127.0.0.19"}
                admitted = await client.post("/admin/v1/join", json=joining | {"request": crypto.new_request(crypto.new_key())})
                assert admitted.status_code == 200, admitted.text
                gone = await client.delete(f"/admin/v1/join-tokens/{token}")
                assert gone.status_code == 200, gone.text
        self.states.append(await self.world.state())

    async def _rotated(self, client: httpx.AsyncClient) -> None:
        changed = await client.post("/admin/v1/ca/rotation", json={})
        assert changed.status_code == 202 and changed.json()["waitsFor"] == ["s1", "s2"], changed.text
        for number in (1, 2):
            for server in ("s1", "s2"):
                kept = CertificateKept(server_id=server, uid=f"uid-of-{server}", until=NINETY_DAYS, number=number)
                await self.submit(kept)

    async def lived(self) -> None:
        """All chapters in their order."""
        await self.servers_come()
        await self.created_and_started()
        await self.users_are_let_in()
        await self.memory_only_comes_and_goes()
        await self.link_breaks_and_heals()
        await self.robbed()
        await self.hot_copied()
        await self.handed_over()
        await self.maintained()
        await self.server_lost_and_back()
        await self.tail_given()
        await self.leader_killed()
        await self.archives_come_and_go()
        await self.another_is_described()
        await self.server_given_up()
        await self.a_program_gets_in()
        await self.certified()
        await self.enforced()
        await self.stopped_and_deleted()
        await self.restored()
        await self.read_events()
