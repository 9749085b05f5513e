"""The driver of one engine over its unix socket: commands sent, answers carried. The only door to the `valkey` library.

One connection per engine, used by one exchange at a time, and held for as long as its manager lives: where clients took all
the room there is, another one would not be let in. After an exchange that was given up a new one takes its place, so that
no late answer is taken for another command's; if there is no room for a new one, the late answers are read first.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from valkey.asyncio.connection import UnixDomainSocketConnection
from valkey.exceptions import BusyLoadingError, ResponseError, ValkeyError
from valkey.exceptions import ConnectionError as Disconnected

from dkv import files
from dkv.engine import aof, early_rounds, replies
from dkv.engine.config import (
    FENCE,
    FENCED,
    HOLD,
    MANAGER,
    NODE_TIMEOUT,
    REPLICA,
    SOCKET_NAME,
    certificate_settings,
    port_setting,
    replica_password,
)
from dkv.engine.contract import EPOCHS, EngineFull, EngineRefused, EngineUnreachable, EngineUsers, PeerNode, Secrets, TlsFiles
from dkv.engine.users import orders, own_orders, secrets_seen, users_seen

Command = tuple[str | int, ...]
_NO = (ResponseError, BusyLoadingError)  # error answers: the engine lives and said no
_TIMEOUT = 2.0  # seconds for one exchange
_LOOK: tuple[Command, ...] = (
    ("INFO", "persistence", "replication", "clients"),
    ("CLUSTER", "INFO"),
    ("CLUSTER", "NODES"),
    ("CONFIG", "GET", FENCE, *replies.OPTIONS, "hz", "port", "tls-port", "tls-cluster", "tls-cert-file"),
    ("ACL", "LIST"),
    ("INFO", "memory", "errorstats", "tls"),
)
_LOOK_AGAIN = _LOOK[:1]
_STATISTICS: tuple[Command, ...] = (
    (
        "INFO",
        *("server", "clients", "memory", "persistence", "stats", "replication", "cpu", "cluster", "cluster_info", "keyspace"),
        *("commandstats", "errorstats", "latencystats"),
    ),
)
_OFTEN = (_LOOK, _LOOK_AGAIN, _STATISTICS)
"""What is asked again and again, for ever: its bytes are made once."""
_WHOLE_EVERY = 5.0  # seconds what only orders and gossip change may be old, where nothing goes on
_USERS_EVERY = 3.0  # the same where not everybody is let in: a change of users by hand is undone within 5 s
_MOVES_FOR = 2.0  # seconds after a node joined in which slots may move without a sign in INFO
_WRITTEN_WITHIN = 0.5  # seconds for what was written to reach the file; a pause must not be waited out
_ALL = 1_000_000  # followers: more than any leader has
_ASKED_WITHIN = 0.004  # seconds after which a question to followers has been passed on
_LEADS_WITHIN = 0.25  # seconds in which a failover usually is over
_REPLICATE_WITHIN = 1.0  # seconds for gossip to bring the leader's role
_HOLD: Command = ("CLIENT", "PAUSE", HOLD, "WRITE")
_MEET, _NO_PACKET, _ANY_PACKET = 2, -1, -2  # what an engine drops of the cluster bus
_BUMPS = 1_000  # orders in one exchange


class Valkey:
    """One engine's administration."""

    def __init__(self, start_id: int, directory: str, secret: str, *, tls: bool = False) -> None:
        self.start_id = start_id
        self._directory = directory
        self._secret = secret
        self._port = port_setting(tls)
        self._connection: Any = None  # a UnixDomainSocketConnection, whose methods have no types
        self._lock = asyncio.Lock()
        self._owed = 0  # answers of exchanges that were given up
        self._folder: int | None = None
        self.was_connected = False
        self._looked: replies.Answers | None = None  # at the last look, unless an order was given since
        self._statistics = replies.StatisticsReader()
        self._looked_at = 0.0  # when everything was asked
        self._moved_at, self._links = 0.0, ""  # when the number of its connections with other nodes changed
        self._may_hold = False  # since `take_over`, until writes are taken or refused
        self.lets_in = True  # nodes that introduce themselves; no command says whether an engine does
        self.takes_packets: bool | None = None  # what other nodes send; an engine that was adopted may have been told not to

    # -- exchanges -------------------------------------------------------------------------------------------------

    async def exchange(self, *commands: Command, timeout: float = _TIMEOUT) -> list[Any]:
        """Send all in one write and read all answers; an error answer is one of `_NO` in the list.

        Raises EngineUnreachable.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(commands)
        except TimeoutError as error:
            raise self._unreachable(commands, error) from error
        finally:
            self._looked = None

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        """However long it takes. The connection does not outlive an exchange that went wrong."""
        try:
            async with self._lock:
                connection = await self._connected()
                try:
                    return await self._talk(connection, commands)
                except asyncio.CancelledError:
                    if not self._owed:
                        self.close()
                    raise
                except BaseException:
                    self.close()
                    raise
        except (OSError, ValkeyError) as error:
            raise self._unreachable(commands, error) from error

    async def _talk(self, connection: Any, commands: Sequence[Command]) -> list[Any]:
        while self._owed:
            await _answer(connection)
            self._owed -= 1
        await connection.send_packed_command(_packed(connection, commands), check_health=False)
        self._owed = len(commands)
        answers = []
        for _ in commands:
            answers.append(await _answer(connection))
            self._owed -= 1
        return answers

    async def _connected(self) -> Any:
        """The connection there is; a new one where answers are owed, unless there is no room for it."""
        if self._connection is not None and not self._owed:
            return self._connection
        try:
            fresh, folder = await self._connect()
        except EngineFull:
            if self._connection is None:
                raise
            return self._connection
        self._drop()
        self._connection, self._folder = fresh, folder
        return fresh

    def _unreachable(self, commands: Sequence[Command], error: Exception) -> EngineUnreachable:
        return EngineUnreachable(f"engine {self.start_id} did not answer {commands[0][0]}: {error}")

    async def do(self, *commands: Command, timeout: float = _TIMEOUT) -> list[Any]:
        """As `exchange`, and the first error answer raises EngineRefused."""
        answers = await self.exchange(*commands, timeout=timeout)
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, _NO):
                raise EngineRefused(f"engine {self.start_id} refused {' '.join(map(str, command[:3]))}: {answer}")
        return answers

    async def _connect(self) -> tuple[Any, int]:
        """A new connection, which is never dropped to make room for others. Raises EngineFull."""
        connection, folder = self._fresh()
        try:
            await connection.connect()
            await connection.send_packed_command(connection.pack_command("CLIENT", "NO-EVICT", "ON"), check_health=False)
            await _answer(connection)
        except BaseException as error:
            connection._close()
            os.close(folder)
            if isinstance(error, ValkeyError) and _is_full(error):
                raise EngineFull(f"engine {self.start_id} takes no more connections: {error}") from error
            raise
        self.was_connected = True
        return connection, folder

    def _fresh(self) -> tuple[Any, int]:
        """A connection by way of the directory's descriptor, because a socket's path is limited to 107 bytes."""
        folder = files.hold(self._directory)
        connection = UnixDomainSocketConnection(
            path=f"/proc/self/fd/{folder}/{SOCKET_NAME}",
            username=MANAGER,
            password=self._secret,
            socket_timeout=None,
            socket_connect_timeout=_TIMEOUT,
            lib_name=None,
            lib_version=None,
        )
        return connection, folder

    def close(self) -> None:
        """Drop the connection; the next exchange makes a new one."""
        self._looked = None
        self._drop()

    def _drop(self) -> None:
        self._owed = 0
        connection, self._connection = self._connection, None
        if connection is not None:
            connection._close()
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder)

    # -- looking ---------------------------------------------------------------------------------------------------

    async def look(self, thorough: bool = True) -> replies.Answers | None:
        """Everything at one glance, in one round trip; None when it is too busy to say (BUSY is an answer too).

        An engine that loads its files answers INFO only. One that need not be looked at thoroughly is asked for no more,
        for as long as it stays where it was and no order was given. Waits as long as it takes. Raises EngineUnreachable.
        """
        before, now = self._looked, asyncio.get_running_loop().time()
        still = now - self._moved_at > _MOVES_FOR
        fresh = before is not None and now - self._looked_at < _may_be_old(before) and not replies.nearly_full(before)
        if not thorough and still and fresh and before is not None:
            (info,) = await self._exchange(_LOOK_AGAIN)
            seen = replies.later(before, info) if isinstance(info, bytes) and self._looked is before else None
            if seen is not None:
                self._looked = seen
                return seen
        self._looked, self._looked_at = None, now
        answers = await self._whole_look()
        if answers is not None and not answers.partly:
            links = answers.info.get("cluster_connections", "")
            self._moved_at, self._links = (now if links != self._links else self._moved_at), links
        self._looked = answers if answers is not None and not answers.partly else None
        return answers

    async def _whole_look(self) -> replies.Answers | None:
        info, cluster, nodes, config, users, memory = await self._exchange(_LOOK)
        if isinstance(info, _NO):
            return None
        partly = any(isinstance(answer, _NO) for answer in (cluster, nodes, config, users, memory))
        fields = replies.parse_info(info)
        if partly:
            return replies.Answers(fields, {}, (), "", None, fenced=True, admits=False, settings={}, partly=True)
        seen, me, follows = replies.parse_nodes(nodes)
        settings = replies.parse_config(config)
        return replies.Answers(
            fields,
            replies.parse_info(cluster),
            seen,
            me,
            follows,
            replies.is_fenced(settings),
            replies.is_on(users, REPLICA),
            settings,
            replies.leads(seen, me),
            bytes(info),
            replies.parse_memory(memory),
            users=users_seen(users),
            tls=replies.parse_tls(memory),
            secrets=secrets_seen(users, self._secret),
        )

    async def counts(self) -> dict[str, str]:
        """The sections of INFO that hold counts. Raises EngineUnreachable, EngineRefused."""
        (info,) = await self.do(("INFO", "commandstats", "keyspace", "memory", "clients"))
        return replies.parse_info(info)

    async def statistics(self) -> dict[str, str]:
        """INFO with all that an engine counts, CLUSTER INFO within it. Raises EngineUnreachable, EngineRefused.

        What the last look saw still counts: this orders nothing.
        """
        try:
            async with asyncio.timeout(_TIMEOUT):
                (info,) = await self._exchange(_STATISTICS)
        except TimeoutError as error:
            raise self._unreachable(_STATISTICS, error) from error
        if isinstance(info, _NO):
            raise EngineRefused(f"engine {self.start_id} refused INFO: {info}")
        return self._statistics.read(info)

    async def latencies(self) -> dict[str, dict[int, int]]:
        """LATENCY HISTOGRAM. Raises EngineUnreachable, EngineRefused."""
        (histograms,) = await self.do(("LATENCY", "HISTOGRAM"))
        return replies.parse_latencies(histograms)

    async def follows(self) -> tuple[str, str | None]:
        """Own role ("leader" or "follower") and the node it follows."""
        (text,) = await self.do(("CLUSTER", "NODES"))
        nodes, me, leader = replies.parse_nodes(text)
        return ("leader" if replies.leads(nodes, me) else "follower"), leader

    async def last_script(self) -> int:
        """Which command was the last that ran until others were answered BUSY, by its number in the log of slow ones; -1 none.

        Clients can neither read nor empty that log, which keeps 128. Raises EngineUnreachable, EngineRefused.
        """
        threshold, entries = await self.do(("CONFIG", "GET", "busy-reply-threshold"), ("COMMANDLOG", "GET", -1, "slow"))
        longest = int(replies.parse_config(threshold)["busy-reply-threshold"]) * 1000
        return max((entry[0] for entry in entries if entry[2] >= longest), default=-1)

    async def refused_commands(self) -> list[dict[str, str]]:
        """The newest entries of ACL LOG, by name of the field. Raises EngineUnreachable, EngineRefused."""
        (entries,) = await self.do(("ACL", "LOG", 32))
        return [replies.parse_entry(entry) for entry in entries]

    # -- orders ----------------------------------------------------------------------------------------------------

    async def take_over(self, phantoms: Sequence[str], slot: int) -> None:
        """Become the leader of that hash slot's group, fenced and admitting no replica. Raises EngineUnreachable, EngineRefused.

        TAKEOVER is refused to a replica of no node, so that one is made the replica of the slots' owner here, for the
        time between two commands of one send. One that has clients is held in that send too: before it they are answered
        MOVED, after it their writes wait, and are never answered NOREPLICAS, which no client library repeats.
        """
        quiet: Command = ("CONFIG", "SET", "import-mode", "yes")  # expires nothing before its first marker
        _, _, reply, text = await self.do(
            ("ACL", "SETUSER", REPLICA, "off"), quiet, ("CONFIG", "GET", self._port), ("CLUSTER", "NODES")
        )
        clients = replies.parse_config(reply)[self._port] != "0"
        closed: list[Command] = [_HOLD, ("CONFIG", "SET", FENCE, 0)] if clients else [("CONFIG", "SET", FENCE, FENCED)]
        nodes, me, leader = replies.parse_nodes(text)
        orders: list[Command] = []
        if not replies.leads(nodes, me):
            leader, waits = leader or replies.owner_of(text, slot), leader is None
            orders = [("CLUSTER", "REPLICATE", str(leader))] if waits else []
            orders += [("CLUSTER", "FAILOVER", "TAKEOVER")]
        self._may_hold = clients
        try:
            await self.do(*closed, *orders)
        except EngineRefused:
            await self.fence(True)
            raise
        if leader in phantoms:
            await self.forget(str(leader))

    async def take_clients(self, port: int, phantoms: Sequence[str]) -> None:
        """Let clients connect, once no made-up node is known here any more. Raises EngineRefused while one is followed."""
        role, follows = await self.follows()
        if role != "leader" and follows in (None, *phantoms):
            raise EngineRefused(f"engine {self.start_id} has no leader; it has nothing to tell clients")
        for phantom in phantoms:
            await self.forget(phantom)
        await self.do(("CONFIG", "SET", "cluster-node-timeout", NODE_TIMEOUT))
        await self.do(("CONFIG", "SET", self._port, port))

    async def shun_clients(self) -> None:
        """Closing the port alone ends no connection."""
        kills: list[Command] = [("CLIENT", "KILL", "TYPE", kind, "NOT-USER", MANAGER) for kind in ("normal", "pubsub")]
        await self.do(("CONFIG", "SET", self._port, 0), *kills)

    async def admit(self) -> None:
        """Let replicas log in."""
        await self.do(("ACL", "SETUSER", REPLICA, "on"))

    async def fence(self, closed: bool) -> None:
        """Refuse or accept writes; those that a hold lets wait too, and then it is over."""
        wanted: Command = ("CONFIG", "SET", FENCE, FENCED) if closed else ("CONFIG", "SET", FENCE, 0, "import-mode", "no")
        _, text = await self.do(wanted, ("INFO", "clients"))
        if replies.is_held(replies.parse_info(text)):
            await self.do(("CLIENT", "UNPAUSE"))
        self._may_hold = False

    async def end_script(self) -> None:
        """SCRIPT KILL and FUNCTION KILL; one of them is not for what runs. Raises EngineRefused if it wrote."""
        for answer in await self.exchange(("SCRIPT", "KILL"), ("FUNCTION", "KILL")):
            if isinstance(answer, _NO) and "UNKILLABLE" in str(answer):
                raise EngineRefused(f"engine {self.start_id} cannot end its script: {answer}")

    async def set_options(self, options: dict[str, str]) -> None:
        """Run with these from now on, by their names in the engine's configuration."""
        words = [word for pair in options.items() if pair[0] != "maxclients" for word in pair]
        await self.do(("CONFIG", "SET", *words))
        if clients := options.get("maxclients"):
            await self._set_clients(clients)

    async def _set_clients(self, most: str) -> None:
        """Take so many connections, or as many as this machine's descriptors allow."""
        (answer,) = await self.exchange(("CONFIG", "SET", "maxclients", most))
        if isinstance(answer, _NO):
            allowed = re.search(r"try with (\d+)", str(answer))
            await self.do(("CONFIG", "SET", "maxclients", allowed[1] if allowed else most))

    async def set_users(self, wanted: EngineUsers) -> None:
        """Bring the clients' users to what is wanted, each in one command. Raises EngineUnreachable, EngineRefused."""
        (lines,) = await self.do(("ACL", "LIST"))
        changes = orders(wanted, lines)
        if changes:
            await self.do(*changes)

    async def save_users(self) -> None:
        """Have its file say whom it lets in, as far as its disk allows: that is read when the domain's state is lost."""
        await self.exchange(("ACL", "SAVE"))

    async def take_secrets(self, secrets: Secrets) -> None:
        """Take these passwords of managers and followers too, and follow with the one in use if the engine follows at all."""
        _, _, reply = await self.do(*own_orders(secrets, drop=False), ("CONFIG", "GET", "masterauth"))
        if replies.parse_config(reply)["masterauth"] in [replica_password(secret) for secret in (self._secret, *secrets.taken)]:
            await self.do(("CONFIG", "SET", "masterauth", replica_password(secrets.used)))

    async def use_secret(self, secret: str) -> None:
        """Log in with that password from now on, which is proven here. Raises EngineUnreachable."""
        if secret != self._secret:
            self._secret = secret
            self.close()
        await self.do(("PING",))

    async def drop_secrets(self, secrets: Secrets) -> None:
        """Take no other passwords of managers and followers any more. Connections that they opened stay."""
        (lines,) = await self.do(("ACL", "LIST"))
        dropped = own_orders(secrets, drop=True, lines=lines)
        if dropped:
            await self.do(*dropped)

    async def set_certificate(self, certificate: TlsFiles) -> None:
        """Load the files of a generation, which are in its directory. Raises EngineRefused if it does not show that leaf then."""
        words = [word for pair in certificate_settings(certificate.name).items() for word in pair]
        _, text = await self.do(("CONFIG", "SET", *words), ("INFO", "tls"))
        shown, _ = replies.parse_tls(text)
        if shown != certificate.serial:
            raise EngineRefused(f"engine {self.start_id} shows the certificate {shown}, not {certificate.serial}")

    async def make_room(self, idle: int) -> int:
        """Close connections of clients that did nothing for `idle` seconds and do not wait for an answer; how many."""
        (closed,) = await self.do(("CLIENT", "KILL", "TYPE", "normal", "IDLE", idle, "NOT-FLAGS", "b", "SKIPME", "yes"))
        return int(closed)

    async def replicate(self, leader: PeerNode, phantoms: Sequence[str], durable: bool) -> None:
        """Follow that leader; retried while gossip has not yet brought its role."""
        _, text = await self.do(self._credentials(), ("INFO", "clients"))
        if replies.is_held(replies.parse_info(text)):
            await self.fence(True)  # a follower that is held takes nothing from its leader
        await self.meet(leader)  # always: knowing the leader is not being known by it
        _, follows = await self.follows()
        if follows != leader.node_id:
            await self._replicate_until_ok(leader)
        else:
            await self._connect_at_once(leader, phantoms)
        if follows in phantoms:
            await self.forget(str(follows))
        if durable:
            await early_rounds.hasten_download(self.do)

    async def _replicate_until_ok(self, leader: PeerNode) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _REPLICATE_WITHIN
        while True:
            try:
                await self.do(("CLUSTER", "REPLICATE", leader.node_id))
                return
            except EngineRefused:
                if loop.time() > deadline:
                    raise
            await asyncio.sleep(0.01)

    async def _connect_at_once(self, leader: PeerNode, phantoms: Sequence[str]) -> None:
        """Gossip had it follow that leader before it had credentials; its next try by itself is up to a second away.

        One that never was linked, so that there is no history to keep, is turned to a phantom and back in one send.
        """
        text, table = await self.do(("INFO", "replication"), ("CLUSTER", "NODES"))
        fields = replies.parse_info(text)
        never = fields.get("master_link_down_since_seconds") == "-1" and fields.get("master_sync_in_progress") == "0"
        known = {node.node_id for node in replies.parse_nodes(table)[0]}
        phantom = next((node_id for node_id in phantoms if node_id in known), None)
        if never and phantom:
            await self.exchange(("CLUSTER", "REPLICATE", phantom), ("CLUSTER", "REPLICATE", leader.node_id))
        elif never:
            await early_rounds.hasten(self.do)  # its next round is one in which it tries again

    async def failover(self) -> None:
        """The coordinated switch, asked of the follower that shall lead. The old leader attaches before a manager looks again."""
        await self.do(("ACL", "SETUSER", REPLICA, "on"), ("CLUSTER", "FAILOVER"))
        await self._keep_awake_until_it_leads()

    async def _keep_awake_until_it_leads(self) -> None:
        """Ask it again and again until it leads, for as long as a failover usually takes; after that it may lead all the same.

        Measured on 9.1.2: an engine that has won saves its node table and informs the others only when something wakes it the
        next time. Its next round of housekeeping is up to 0.1 s away, and the clients of the old leader wait meanwhile.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LEADS_WITHIN
        while loop.time() < deadline:
            try:
                (role,) = await self.exchange(("ROLE",))
            except EngineUnreachable:
                return  # it was asked all the same; the next look says what became of it
            if isinstance(role, list) and role[0] == b"master":
                return
            await asyncio.sleep(0.002)

    async def hand_over(self, term: int, sequence: int, nonce: str) -> None:
        """Be ready to follow a successor, and write a marker. Raises EngineRefused inside a script that answers BUSY."""
        await self.mark(term, sequence, nonce)
        await self.do(self._credentials())

    def _credentials(self) -> Command:
        return ("CONFIG", "SET", "masteruser", REPLICA, "masterauth", replica_password(self._secret))

    async def mark(self, term: int, sequence: int, nonce: str) -> None:
        """Write a marker. A standing fence is lifted for that one command only, which no other command can come between."""
        await self._as_leader([("FUNCTION", "LOAD", "REPLACE", aof.marker_code(term, sequence, nonce))])

    async def rewrite(self, marker: tuple[int, int, str] | None) -> None:
        """Start a rewrite; with a marker, its new incremental file begins with it."""
        (text,) = await self.do(("INFO", "persistence"))
        info = replies.parse_info(text)
        busy = ("aof_rewrite_in_progress", "aof_rewrite_scheduled", "rdb_bgsave_in_progress", "loading")
        running = [name for name in busy if info.get(name, "0") != "0"]
        if running:
            raise EngineRefused(f"engine {self.start_id} does not rewrite now: {running[0]}")
        if marker is None:
            answers = await self.do(("BGREWRITEAOF",))
        else:
            load: Command = ("FUNCTION", "LOAD", "REPLACE", aof.marker_code(*marker))
            answers = await self._as_leader([("BGREWRITEAOF",), load])
        if b"scheduled" in bytes(answers[0]):
            raise EngineRefused(f"engine {self.start_id} put its rewrite off: another child runs")

    async def _as_leader(self, commands: list[Command]) -> list[Any]:
        """Writes that pass the fence: the engine runs one write's worth of pipelined commands without a break.

        Clients whose writes wait go on only after all of them, and find the engine fenced or held again (measured on 9.1.2
        with 50 of them).
        """
        fence, text = await self.do(("CONFIG", "GET", FENCE), ("INFO", "clients"))
        held = replies.is_held(replies.parse_info(text))
        if not held and not replies.is_fenced(replies.parse_config(fence)):
            return await self.do(*commands)
        lifted: Command = ("CONFIG", "SET", FENCE, 0)
        closed: Command = _HOLD if held else ("CONFIG", "SET", FENCE, FENCED)
        unpaused: Command = ("CLIENT", "UNPAUSE")  # or the write would wait with the fence open; waiting clients come after
        return (await self.do(unpaused, lifted, *commands, closed))[2:-1]

    async def pause(self, ms: int) -> dict[str, str]:
        """Make clients' writes wait; INFO once all that was written before is in the file.

        Measured on 9.1.2: SET, MULTI, EVAL without no-writes, FUNCTION LOAD and PUBLISH wait, GET and EVAL_RO do not,
        and 200 keys that were due did not expire before the pause ended.
        """
        fence, text = await self.do(("CONFIG", "GET", FENCE), ("INFO", "clients"))
        role, _ = await self.follows()
        fenced = replies.is_fenced(replies.parse_config(fence)) or replies.is_held(replies.parse_info(text))
        if fenced or role != "leader":
            raise EngineRefused(f"engine {self.start_id} is fenced or no leader; its writes are not paused")
        await self.do(("CLIENT", "PAUSE", ms, "WRITE"))
        return await self.written(lambda info: True)

    async def written(self, holds: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """INFO as soon as that holds and nothing waits to be written to the file. Raises EngineRefused after 0.5 s."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _WRITTEN_WITHIN
        while True:
            (text,) = await self.do(("INFO", "persistence", "replication", "clients"))
            info = replies.parse_info(text)
            if holds(info) and info.get("aof_buffer_length", "0") == "0":
                return info
            if loop.time() > deadline:
                raise EngineRefused(f"engine {self.start_id} has not written all of it to its file")
            await asyncio.sleep(0.003)

    async def unpause(self) -> None:
        """Let clients' writes go on; not those that a hold lets wait."""
        (text,) = await self.do(("INFO", "clients"))
        if not self._may_hold and not replies.is_held(replies.parse_info(text)):
            await self.do(("CLIENT", "UNPAUSE"))

    async def ask_followers(self) -> None:
        """Have the followers acknowledge now: a WAIT for more of them than there are asks each, whatever comes of it.

        On a connection of its own, because an engine with nothing else to do ends a WAIT up to 0.1 s late.
        Raises EngineUnreachable when it could not be sent.
        """
        asking = Valkey(self.start_id, self._directory, self._secret)
        try:
            await asking.exchange(("PING",), timeout=0.5)
            with suppress(EngineUnreachable):
                await asking.exchange(("WAIT", _ALL, 1), timeout=_ASKED_WITHIN)
        except EngineFull:
            await self.exchange(("WAIT", _ALL, 1), timeout=0.5)
        finally:
            asking.close()

    async def meet(self, peer: PeerNode) -> None:
        """Make a node known, and let it introduce itself."""
        await self.take_packets()
        await self.do(("CLUSTER", "MEET", peer.address, peer.client_port, peer.cluster_port))

    async def let_nobody_in(self) -> None:
        """Have it drop the packet by which a stranger joins (decision 0026).

        Measured on 9.1.2: one `CLUSTER MEET` from a node that claims the slots in a higher epoch emptied a store and its
        copies within 1.3 s; with this nothing of it was taken.
        """
        await self.do(_drops(_MEET))
        self.lets_in, self.takes_packets = False, True

    async def take_packets(self) -> None:
        """Drop no packet, also none by which a node joins."""
        self.lets_in = self.takes_packets = True
        with suppress(EngineRefused):  # one that an older dkv started has no such command
            await self.do(_drops(_NO_PACKET))

    async def restart_epochs(self, epoch: int) -> None:
        """The current epoch overflows to 0 and is raised one by one: no order sets it while other nodes are known."""
        self.takes_packets = False
        await self.do(_drops(_ANY_PACKET))
        (text,) = await self.do(("CLUSTER", "INFO"))
        missing = (epoch - int(replies.parse_info(text)["cluster_current_epoch"])) % EPOCHS
        while missing > 0:
            answers = await self.do(*[("CLUSTER", "BUMPEPOCH")] * min(missing, _BUMPS))
            missing = 0 if answers[-1].startswith(b"STILL") else missing - len(answers)

    async def reclaim_slots(self, slots: Sequence[tuple[int, int]]) -> None:
        """Own these slots, whichever node owns them now, in the highest epoch."""
        (table,) = await self.do(("CLUSTER", "NODES"))
        nodes, me, _ = replies.parse_nodes(table)
        owners = {slot: node.node_id for node in nodes for first, last in node.slots for slot in range(first, last + 1)}
        wanted = [slot for first, last in slots for slot in range(first, last + 1) if owners.get(slot) != me]
        taken = [slot for slot in wanted if slot in owners]
        orders: list[Command] = [("CLUSTER", "DELSLOTS", *taken)] if taken else []
        orders += [("CLUSTER", "ADDSLOTS", *wanted)] if wanted else []
        await self.do(*orders, ("CLUSTER", "BUMPEPOCH"))

    async def forget(self, node_id: str) -> None:
        """Forget a node; one that is not known is forgotten already."""
        (answer,) = await self.exchange(("CLUSTER", "FORGET", node_id))
        if isinstance(answer, _NO) and "nknown node" not in str(answer):
            raise EngineRefused(f"engine {self.start_id} refused CLUSTER FORGET: {answer}")

    async def shut_down(self) -> None:
        """Ask for the end on a connection of its own, because the answer may take as long as a replica is behind.

        Returns when it was sent. Raises EngineUnreachable when it could not be, EngineRefused on a clear no.
        """
        asking = Valkey(self.start_id, self._directory, self._secret)
        try:
            await asking.exchange(("PING",), timeout=0.5)
            (answer,) = await asking.exchange(("SHUTDOWN", "NOSAVE"), timeout=0.3)
        except EngineUnreachable:
            if not asking.was_connected:
                raise
            return  # closing the connection is how it says yes
        finally:
            asking.close()
        raise EngineRefused(f"engine {self.start_id} refused SHUTDOWN: {answer}")


_packed_looks: dict[Sequence[Command], list[bytes]] = {}


def _may_be_old(seen: replies.Answers) -> float:
    """Seconds what a calm look does not ask for may be old."""
    return _WHOLE_EVERY if seen.users == EngineUsers() else _USERS_EVERY


def _drops(packet: int) -> Command:
    return ("DEBUG", "DROP-CLUSTER-PACKET-FILTER", packet)


def _packed(connection: Any, commands: Sequence[Command]) -> list[bytes]:
    """The bytes to send."""
    if not any(commands is known for known in _OFTEN):
        return list(connection.pack_commands(commands))
    if commands not in _packed_looks:
        _packed_looks[commands] = [b"".join(connection.pack_commands(commands))]
    return _packed_looks[commands]


def _is_full(error: ValkeyError) -> bool:
    """Whether a connection was taken and closed at once; its reason may be lost with it."""
    text = str(error)
    return "max number of clients" in text or (isinstance(error, Disconnected) and " connecting to " not in text)


async def _answer(connection: Any) -> Any:
    """One answer; an error answer as a value. Raises ConnectionError."""
    try:
        return await connection.read_response(disconnect_on_error=False)
    except _NO as error:
        return error
