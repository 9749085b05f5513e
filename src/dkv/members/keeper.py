"""members: one manager's part in the etcd cluster of the domain state: its own member runs where the cluster lists it, its
handle calls the members that there are, and the manager that holds the leader lease asks for changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dkv.domain.facts import MemberTroubled, StateMemberSeen
from dkv.domain.model import Server, State
from dkv.domain.state_members import (
    AddMember,
    Lineage,
    Member,
    MemberChange,
    MemberHealth,
    MemberRules,
    OwnProcess,
    OwnStep,
    PromoteMember,
    lineage,
    next_change,
    own_step,
    roles,
    trouble_of,
)
from dkv.members.child import MemberProcess
from dkv.members.place import Members, peer_url
from dkv.store.contract import StoreError, Unusable
from dkv.store.etcd import EtcdStore
from dkv.store.etcd_members import ListedMember

EVERY = 3.0  # s between two looks
SOON = 0.5  # s, while something changes
RESTART = "etcd member restart"  # the lease of the manager whose member is being restarted: one at a time
RESTART_TAKES = 10.0  # s
ABSENT_LOOKS = 2  # looks in a row without a server's member, after which its data is of no use
ASK_EVERY = 5.0  # s between two questions to the managers that are away whether the domain was recovered without this one
REVIVALS_SAID = 5  # starts of a member that has ended, after which that is logged
WARN_AFTER = 20.0  # s a change may be refused before that is logged


@dataclass(frozen=True)
class KeeperHooks:
    """What a keeper reaches of its manager: `leads` whether it holds the leader lease; `wall` in ms, `monotonic` in s."""

    server_id: str
    known: Callable[[], State | None]
    leads: Callable[[], bool]
    submit: Callable[[StateMemberSeen | MemberTroubled], Awaitable[object]]
    wall: Callable[[], int]
    monotonic: Callable[[], float]
    warn: Callable[[str], None]
    trusted: Callable[[], None]  # this server's member trusts the authorities that the files have
    identity: Callable[[Server], Awaitable[Mapping[str, Any]]]  # what another manager says of itself; raises OSError
    rules: MemberRules = MemberRules()


class MemberKeeper:
    """Keeps this server's member, `process`, as the cluster lists it; a server that can run none has no process."""

    def __init__(
        self, store: EtcdStore, process: MemberProcess | None, data_dir: Path, members: Members, hooks: KeeperHooks
    ) -> None:
        self._store = store
        self._process = process
        self._data_dir = data_dir
        self._members = members
        self._hooks = hooks
        self._absent = 0
        self._because: dict[str, str] = {}  # server id -> why its member was changed last
        self._failing_since: float | None = None
        self._changing = False
        self._asked_at = -ASK_EVERY
        self._wake = asyncio.Event()
        self._revivals = 0
        self._restarting = False
        self._other_lineages: set[str] = set()  # servers of the domain as another recovery made it, which was said

    async def run(self) -> None:
        """Look again and again until cancelled. What fails is tried at the next look. Raises Unusable where the domain went on
        without this one's members.
        """
        while True:
            if state := self._hooks.known():
                await self._refuse_former(state)
            self._wake.clear()
            try:
                await self._look()
                self._failing_since = None
            except (StoreError, OSError) as error:
                self._failed(str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(SOON if self._changing else EVERY):
                    await self._wake.wait()

    def refuse_untrusted(self) -> None:
        """Raise OSError while this server's member does not trust the authorities that the files have: it is restarted soon, and
        until then nobody may show it a certificate of a new one.
        """
        if self._process is not None and self._process.is_out_of_date:
            self._wake.set()
            raise OSError("the etcd member of this server does not trust the new authorities yet")

    async def _refuse_former(self, state: State) -> None:
        """A majority that was given up, and is back, must not go on beside the domain that was recovered without it. The servers
        of that domain renew no lease here, so only servers that are away can be of it.
        """
        if self._hooks.monotonic() - self._asked_at < ASK_EVERY:
            return
        self._asked_at = self._hooks.monotonic()
        others = [server for server in state.servers.values() if not server.alive]
        for server, answer in zip(others, await asyncio.gather(*map(self._identity, others)), strict=True):
            recoveries = answer.get("recoveries")
            if answer.get("domainUid") == state.uid and isinstance(recoveries, list):
                self._compare(server, lineage(state.recovery_ids, recoveries))

    def _compare(self, server: Server, kinship: Lineage) -> None:
        """Raise Unusable where this server's state was given up; warn, once, where nothing says which of two goes on."""
        if kinship is Lineage.FORMER:
            raise Unusable(
                f"this domain was recovered on server {server.server_id}, and what this server knows is from before that",
                f"End the engines here, and let this server join again: dkv manager run --join {server.host}:{server.port}",
            )
        if kinship is Lineage.OTHER and server.server_id not in self._other_lineages:
            self._other_lineages.add(server.server_id)
            self._hooks.warn(
                f"this domain was recovered twice, here and on server {server.server_id} at {server.host}:{server.port}: both go "
                "on, with data of their own. Keep one: end the engines and managers of the other, and let its servers join again"
            )

    async def _identity(self, server: Server) -> Mapping[str, Any]:
        try:
            return await self._hooks.identity(server)
        except OSError:
            return {}

    def _failed(self, why: str) -> None:
        now = self._hooks.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > WARN_AFTER:
            self._failing_since = now
            self._hooks.warn(f"the members of the domain state could not be kept as they should be: {why}")

    async def _look(self) -> None:
        state = self._hooks.known()
        if state is None:
            return
        if self._process is not None:
            self._revive(self._process)
        listed = await self._store.members.list()
        self._changing = any(member.learner or not member.name for member in listed)
        self._follow(listed)
        if self._process is not None:
            await self._keep_own(self._process, listed)
        if self._hooks.leads():
            await self._order(state, listed)
        if self._process is not None and self._hooks.server_id in state.servers:
            await self._tell_trouble(self._process, state.servers[self._hooks.server_id].member_trouble)

    def _follow(self, listed: Sequence[ListedMember]) -> None:
        """Call the members that vote and run; keep where they are for the next start."""
        clients = tuple(sorted(url for member in listed if not member.learner for url in member.clients[:1]))
        cluster = self._store.members.cluster
        if clients and (clients, cluster) != (self._members.clients, self._members.cluster):
            self._store.members.follow(clients)
            self._members = replace(self._members, clients=clients, cluster=cluster)
            self._members.write(self._data_dir)

    # This server's member ---------------------------------------------------------------------------------------------

    def _revive(self, process: MemberProcess) -> None:
        """Start it again if it has ended, before anything is asked: without it there may be no majority."""
        process.cut_log()
        if process.has_data and process.running() is None:
            self._revivals += 1
            if self._revivals % REVIVALS_SAID == 0:
                self._hooks.warn(f"the etcd member of this server ends again and again: {process.why_it_ends()}")
            process.start({}, self._members.token, new=False)

    async def _keep_own(self, process: MemberProcess, listed: Sequence[ListedMember]) -> None:
        own = next((member for member in listed if process.spec.server_uid == member.name), None)
        own = own or next((member for member in listed if not member.name and member.peer == process.spec.peer), None)
        step = own_step(None if own is None else _as_member(own, process.spec.server_uid), self._seen(process))
        self._absent = self._absent + 1 if step is OwnStep.END_REMOVED else 0
        if step is OwnStep.END_REMOVED:
            await self._end_removed(process)
        elif step is OwnStep.LEAVE and own is not None:
            await self._store.members.remove(own.member_id)
        elif step is OwnStep.BEGIN and own is not None:
            await process.end()
            process.forget()
            peers = {member.name: member.peer for member in listed if member.name}
            process.start(peers, self._members.token, new=False, member_id=own.member_id)
        elif step is OwnStep.RESTART:
            await self._restart(process)
        elif step is OwnStep.END_RESTART:
            await self._end_restart(process)

    def _seen(self, process: MemberProcess) -> OwnProcess:
        return OwnProcess(
            has_data=process.has_data,
            runs=process.running() is not None,
            begun_for=process.member_id,
            is_out_of_date=process.is_out_of_date,
            restarting=self._restarting,
        )

    async def _end_removed(self, process: MemberProcess) -> None:
        """The cluster removed it: end it and forget its data, so that it can be added again. A member that is cut off may have an
        old list, so a majority has to answer too.
        """
        if self._absent >= ABSENT_LOOKS:
            await self._store.read()
            await process.end()
            process.forget()

    async def _restart(self, process: MemberProcess) -> None:
        """Start it anew with the authorities that it has to trust by now. One member of the domain at a time."""
        uid = process.spec.server_uid
        if not await self._store.acquire(RESTART, uid, RESTART_TAKES):
            self._changing = True
            return
        self._restarting = True
        await process.end()
        process.start({}, self._members.token, new=False)
        self._hooks.trusted()
        self._changing = True

    async def _end_restart(self, process: MemberProcess) -> None:
        """Let the next member be restarted once this one answers. Until then its lease is prolonged: one that does not come up
        again must not be followed by the others.
        """
        uid = process.spec.server_uid
        if await self._store.members.answers(process.spec.client):
            await self._store.release(RESTART, uid)
            self._restarting = False
        else:
            await self._store.acquire(RESTART, uid, RESTART_TAKES)
            self._changing = True

    async def _tell_trouble(self, process: MemberProcess, before: str) -> None:
        """Have the state say what is wrong with this server's member, while the others can still commit it."""
        size = await self._store.members.size(process.spec.client) if process.has_data else 0
        self._revivals = self._revivals if size < 0 else 0
        trouble = trouble_of(MemberHealth(process.free() if process.has_data else -1, size, self._revivals), before)
        if trouble != before:
            server_id = self._hooks.server_id
            await self._hooks.submit(MemberTroubled(server_id=server_id, actor=server_id, trouble=trouble))

    # The cluster ------------------------------------------------------------------------------------------------------

    async def _order(self, state: State, listed: Sequence[ListedMember]) -> None:
        """Have the state show the members, and ask the cluster for the next change. It refuses what it is not ready for."""
        uids = {peer_url(server.host, server.etcd_port): server.uid for server in state.servers.values() if server.etcd_port}
        members = [_as_member(member, uids.get(member.peer, "")) for member in listed]
        await self._report(state, members)
        change = next_change(state.servers, members, self._hooks.wall(), self._hooks.rules)
        if change is None:
            return
        self._changing = True
        self._because[change.server_id] = change.because
        await self._make(change, state)

    async def _make(self, change: MemberChange, state: State) -> None:
        cluster = self._store.members
        if isinstance(change, AddMember):
            server = state.servers[change.server_id]
            await cluster.add(peer_url(server.host, server.etcd_port))
        elif isinstance(change, PromoteMember):
            await cluster.promote(change.member_id)
        else:
            await cluster.remove(change.member_id)

    async def _report(self, state: State, members: Sequence[Member]) -> None:
        present = roles(members)
        for server in state.servers.values():
            role = present.get(server.uid, "")
            if server.state_member != role:
                because = self._because.pop(
                    server.server_id, "the cluster lists it so" if role else "the cluster lists it no more"
                )
                await self._hooks.submit(
                    StateMemberSeen(
                        server_id=self._hooks.server_id,
                        actor=self._hooks.server_id,
                        member=server.server_id,
                        role=role,
                        because=because,
                    )
                )


def _as_member(listed: ListedMember, server_uid: str) -> Member:
    """A member as the domain has it; `server_uid`: of the server at its address, which counts until it has told its name."""
    return Member(listed.member_id, listed.name or server_uid, listed.learner, bool(listed.name))
