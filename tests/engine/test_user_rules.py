"""What database users can and cannot do at a real engine: what clients need to connect, and what an attacker would try."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from valkey.asyncio import Valkey
from valkey.exceptions import AuthenticationError, ResponseError
from valkey.exceptions import ConnectionError as Disconnected

from dkv.engine.config import replica_password
from dkv.engine.contract import EngineUser, EngineUsers
from dkv.engine.users import users_seen
from tests.contract.engine_harness import ValkeyMachine, leading

Do = Callable[..., Awaitable[Any]]


def hashed(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


LONG = "x" * 1_024  # the longest that a manager takes; Valkey itself would take 16 kB of a client that has not logged in
PASSWORDS = ("p", "with \"quotes\" and 'more'", "two\nlines", "ä € \x01", LONG)
DBA = EngineUser("dba", tuple(sorted(map(hashed, PASSWORDS))))
READER = EngineUser("reader", (hashed("p"),), read_only=True)
NO_SCRIPTS = EngineUser("plain", (hashed("p"),), scripting=False)
SOME_KEYS = EngineUser("part", (hashed("p"),), keys=("a:*",))
READS_SOME = EngineUser("part-reader", (hashed("p"),), read_only=True, keys=("a:*",), scripting=False)
USERS = (DBA, READER, NO_SCRIPTS, SOME_KEYS, READS_SOME)
MONITOR = EngineUser("watch", (hashed("p"),), monitor=True)

ON_CONNECT = """
HELLO 2|CLIENT SETINFO LIB-NAME x|CLIENT SETINFO LIB-VER 1|CLIENT SETNAME x|CLIENT GETNAME|CLIENT ID|CLIENT INFO|CLIENT LIST
CLIENT CAPA redirect|CLIENT NO-TOUCH OFF|COMMAND|COMMAND COUNT|COMMAND INFO get|COMMAND DOCS get|CLUSTER SLOTS|CLUSTER SHARDS
CLUSTER NODES|CLUSTER INFO|CLUSTER MYID|CLUSTER MYSHARDID|CLUSTER LINKS|CLUSTER KEYSLOT a|CLUSTER COUNTKEYSINSLOT 0|INFO
INFO replication|PING|ECHO x|ROLE|READONLY|READWRITE|ASKING|WAIT 0 0|SELECT 0|TIME|DBSIZE|ACL WHOAMI|LATENCY HISTOGRAM|GET a:1
TTL a:1|PUBSUB CHANNELS|MULTI|GET a:1|EXEC|HELLO 2|SSUBSCRIBE a:1
"""
"""What valkey-py, valkey-go, ioredis, Lettuce and GLIDE send when they connect to a cluster, and while they follow it."""

FORBIDDEN = """
ACL LIST|ACL GETUSER default|ACL SETUSER eve on nopass ~* +@all|ACL SETUSER dba +@all|ACL DELUSER reader|ACL LOAD|ACL SAVE|ACL LOG
ACL USERS|ACL DRYRUN dba get k|CONFIG GET masterauth|CONFIG SET dir /tmp|CONFIG REWRITE|CONFIG RESETSTAT|MODULE LIST
MODULE LOAD /x.so|MODULE LOADEX /x.so|MODULE UNLOAD x|DEBUG SLEEP 0|DEBUG JMAP|CLUSTER MEET 127.0.0.1 1 2|CLUSTER RESET HARD
CLUSTER FORGET 0000000000000000000000000000000000000001|CLUSTER FAILOVER TAKEOVER|CLUSTER ADDSLOTS 1|CLUSTER DELSLOTS 1
CLUSTER REPLICATE 0000000000000000000000000000000000000001|CLUSTER SETSLOT 1 STABLE|CLUSTER FLUSHSLOTS|CLUSTER FLUSHSLOT 1
CLUSTER BUMPEPOCH|CLUSTER SET-CONFIG-EPOCH 9|CLUSTER SAVECONFIG|CLUSTER ADDSLOTSRANGE 1 2|CLUSTER DELSLOTSRANGE 1 2
REPLICAOF NO ONE|SLAVEOF NO ONE|FAILOVER|SHUTDOWN NOSAVE|PSYNC ? -1|SYNC|REPLCONF listening-port 1|MONITOR|SAVE|BGSAVE
BGREWRITEAOF|LASTSAVE|CLIENT KILL TYPE normal|CLIENT PAUSE 1|CLIENT UNPAUSE|CLIENT NO-EVICT ON|CLIENT UNBLOCK 1|FUNCTION FLUSH
FUNCTION DELETE dkv|FUNCTION RESTORE x FLUSH|FUNCTION LOAD x|FUNCTION LOAD REPLACE x|SCRIPT DEBUG SYNC|RESTORE a:9 0 x|SWAPDB 0 1
MIGRATE 127.0.0.1 1 a:1 0 1|COMMANDLOG GET 1 slow|SLOWLOG GET|SLOWLOG RESET|LATENCY DOCTOR|LATENCY RESET|PFSELFTEST
PFDEBUG ENCODING a:1|RESTORE-ASKING a:9 0 x
"""
IN_A_SCRIPT = ("CONFIG,GET,masterauth", "FUNCTION,LOAD,REPLACE,x", "ACL,LIST", "SHUTDOWN,NOSAVE", "REPLICAOF,NO,ONE")
WRITES = """
SET a:1 x|DEL a:1|EXPIRE a:1 9|GETEX a:1 EX 9|LPUSH a:2 x|FLUSHALL|FLUSHDB|PUBLISH c x|SPUBLISH a:1 x|GETDEL a:1|RENAME a:1 a:2
"""
SCRIPTS = """
EVAL return(1) 0|EVAL_RO return(1) 0|EVALSHA x 0|FCALL x 0|FCALL_RO x 0|SCRIPT LOAD return(1)|SCRIPT FLUSH|FUNCTION LIST
"""
OTHER_KEYS = """
GET secret|SET secret x|MGET a:1 secret|DEL secret|COPY secret a:3|RENAME secret a:3|DUMP secret|OBJECT ENCODING secret
MEMORY USAGE secret|TYPE secret|EXISTS secret|KEYS *|SCAN 0|RANDOMKEY|FLUSHALL|FLUSHDB|CLUSTER GETKEYSINSLOT 0 9
SUNIONSTORE a:3 secret|SORT a:1 BY secret*|SORT_RO a:1 BY secret* GET secret*|XREAD STREAMS secret 0|CLIENT TRACKING ON BCAST
"""


BY_MONITORS = """
HELLO 2|CLIENT SETINFO LIB-NAME x|CLIENT SETNAME x|CLIENT ID|INFO|INFO everything|INFO commandstats|ROLE|DBSIZE|TIME|COMMAND
SLOWLOG GET 10|SLOWLOG LEN|COMMANDLOG GET 10 slow|COMMANDLOG LEN large-reply|LATENCY LATEST|LATENCY HISTORY command
LATENCY HISTOGRAM|LATENCY DOCTOR|MODULE LIST|MEMORY STATS|MEMORY DOCTOR|CLIENT LIST|CLUSTER INFO|CLUSTER NODES|CLUSTER SLOTS
CLUSTER SHARDS|CLUSTER SLOT-STATS ORDERBY key-count|CLUSTER LINKS|CLUSTER MYID|PUBSUB NUMPAT|FUNCTION STATS|ACL WHOAMI|PING
"""
"""What redis_exporter, Valkey Admin and Redis Insight ask for their numbers."""
OF_KEYS = """
GET a:1|SET a:1 x|DUMP a:1|TYPE a:1|SCAN 0|KEYS *|RANDOMKEY|MEMORY USAGE a:1|OBJECT ENCODING a:1|DEL a:1|EVAL return(1) 0
PUBLISH c x|SUBSCRIBE c|FLUSHALL|FUNCTION LIST|CLUSTER GETKEYSINSLOT 0 9|CLIENT TRACKING ON BCAST|SORT a:1|MULTI
"""

REFUSED = ("NoPermission", "MODULE command not allowed", "denied in Cluster mode", "don't hash to the same slot")
"""What says that nothing was done. Where the keys of a command are checked for their slot first, no permission is asked for."""


def commands(text: str) -> list[list[str]]:
    return [command.split() for line in text.strip().splitlines() for command in line.split("|")]


def played(tmp_path: Path, scenario: Callable[[ValkeyMachine, Callable[..., Valkey]], Awaitable[None]]) -> None:
    """A scenario on an engine that leads, lets these users in, and holds two keys."""

    async def whole(machine: ValkeyMachine) -> None:
        spec = replace(machine.spec(1, 1), users=EngineUsers(open=False, users=(*USERS, MONITOR)))
        await leading(machine, spec)
        await machine.engines.take_clients(1)
        await machine.engines._known(1).valkey.do(("SET", "a:1", "one"), ("SET", "secret", "s3cret"))
        clients: list[Valkey] = []

        def client(name: str | None, password: str | None = "p") -> Valkey:
            made = Valkey(
                host=spec.address,
                port=spec.client_port,
                username=name,
                password=password,
                single_connection_client=True,
                lib_name=None,
                lib_version=None,
            )
            made.response_callbacks.clear()
            clients.append(made)
            return made

        try:
            await scenario(machine, client)
        finally:
            await asyncio.gather(*(made.aclose() for made in clients))

    ValkeyMachine(tmp_path).play(whole)


async def answer(client: Valkey, *words: str) -> str:
    """What a command is answered, an error as its text."""
    try:
        return str(await client.execute_command(*words))
    except ResponseError as error:
        return f"{type(error).__name__} {error}"


async def leaks(client: Valkey, text: str) -> list[str]:
    """The commands that are not refused for want of a permission."""
    answers = [(words, await answer(client, *words)) for words in commands(text)]
    return [f"{' '.join(words)}: {said[:200]}" for words, said in answers if not any(no in said for no in REFUSED)]


def test_clients_connect_and_follow_the_cluster_whatever_their_user_may(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine, client: Callable[..., Valkey]) -> None:
        for user in USERS:
            made = client(user.name)
            refused = [words for words in commands(ON_CONNECT) if "NoPermission" in await answer(made, *words)]
            assert refused == [], user.name
        made = client("dba")
        assert "NoPermission" not in await answer(made, "CLIENT", "TRACKING", "ON", "OPTIN"), "valkey-go's cache"

    played(tmp_path, scenario)


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
def test_no_user_administrates_the_engine_or_replaces_the_marker_library(tmp_path: Path, user: EngineUser) -> None:
    async def scenario(machine: ValkeyMachine, client: Callable[..., Valkey]) -> None:
        manager = machine.engines._known(1).valkey
        before = await manager.do(("FUNCTION", "LIST", "WITHCODE"), ("ACL", "LIST"))
        assert await leaks(client(user.name), FORBIDDEN) == []
        for words in IN_A_SCRIPT if user.scripting else ():
            call = f"return redis.call({','.join(repr(word) for word in words.split(','))})"
            said = await answer(client(user.name), "EVAL", call, "0")
            assert "NoPermission" in said or "not allowed" in said or "can't run" in said, (words, said)
        assert await manager.do(("FUNCTION", "LIST", "WITHCODE"), ("ACL", "LIST")) == before
        assert (await machine.engines.survey()).engines[0].role == "leader"

    played(tmp_path, scenario)


def test_a_user_is_held_to_its_limits(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine, client: Callable[..., Valkey]) -> None:
        for user in USERS:
            made = client(user.name)
            assert await answer(made, "GET", "a:1") == "b'one'"
            if user.read_only:
                assert await leaks(made, WRITES) == []
            if not user.scripting:
                assert await leaks(made, SCRIPTS) == []
            if user.keys:
                assert await leaks(made, OTHER_KEYS) == []
            await machine.engines._known(1).valkey.do(("SET", "a:1", "one"), ("SET", "secret", "s3cret"))
        for name in ("reader", "part"):
            said = await answer(client(name), "EVAL", "return redis.call('set', 'secret', 'x')", "0")
            assert "permission" in said.lower() or "can't" in said, said
        said = await answer(client("part"), "EVAL", "return redis.call('get', 'secret')", "0")
        assert "s3cret" not in said and "permission" in said.lower(), said

    played(tmp_path, scenario)


def test_a_monitor_sees_numbers_and_logs_and_neither_keys_nor_secrets(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine, client: Callable[..., Valkey]) -> None:
        manager = machine.engines._known(1).valkey
        await manager.do(("CONFIG", "SET", "commandlog-execution-slower-than", "0"), ("SET", "a:1", "one"))
        secrets = machine.spec(1, 1).secrets
        await machine.engines.set_users(1, EngineUsers(open=False, users=(*USERS, MONITOR)), secrets)
        watch = client("watch")
        answers = [(words, await answer(watch, *words)) for words in commands(BY_MONITORS)]
        assert [(words, said) for words, said in answers if "NoPermission" in said or "ResponseError" in said] == []
        hidden = (secrets.used, replica_password(secrets.used), hashed(secrets.used), hashed("p"), "s3cret")
        assert [words for words, said in answers if any(secret in said for secret in hidden)] == []
        shown = {"MODULE LIST", "LASTSAVE", "COMMANDLOG GET 1 slow", "SLOWLOG GET", "LATENCY DOCTOR"}
        assert {leak.partition(":")[0] for leak in await leaks(watch, FORBIDDEN)} == shown
        assert await leaks(watch, OF_KEYS) == []
        (lines,) = await manager.do(("ACL", "LIST"))
        assert {*users_seen(lines).users} == {*USERS, MONITOR}

    played(tmp_path, scenario)


def test_any_password_is_taken_and_a_wrong_one_is_named_as_such(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine, client: Callable[..., Valkey]) -> None:
        for password in PASSWORDS:
            assert await answer(client("dba", password), "ACL", "WHOAMI") == "b'dba'"
        for name, password in (("dba", "wrong"), ("nobody", "p"), ("reader", LONG), ("default", ""), ("dba", hashed("p"))):
            with pytest.raises(AuthenticationError, match="invalid username-password pair or user is disabled"):
                await client(name, password).execute_command("PING")
        with pytest.raises(AuthenticationError, match="Authentication required"):
            await client(None, None).execute_command("GET", "a:1")

    played(tmp_path, scenario)


def test_a_new_password_is_taken_beside_the_old_one_and_ends_no_connection_and_a_deleted_user_loses_its(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine, client: Callable[..., Valkey]) -> None:
        reader = client("reader")
        assert await answer(reader, "GET", "a:1") == "b'one'"
        identity = await answer(reader, "CLIENT", "ID")

        async def reader_has(*passwords: str) -> None:
            changed = replace(READER, passwords=tuple(sorted(map(hashed, passwords))))
            await machine.engines.set_users(1, EngineUsers(open=False, users=(DBA, changed)), machine.spec(1, 1).secrets)

        await reader_has("p", "new")
        for password in ("p", "new"):
            assert await answer(client("reader", password), "PING") == "b'PONG'"
        await reader_has("new")
        with pytest.raises(AuthenticationError):
            await client("reader", "p").execute_command("PING")
        assert await answer(reader, "CLIENT", "ID") == identity, "the connection was never lost"
        await machine.engines.set_users(1, EngineUsers(open=False, users=(DBA,)), machine.spec(1, 1).secrets)
        with pytest.raises(Disconnected):
            await reader.execute_command("PING")

    played(tmp_path, scenario)


def test_a_leader_that_shuns_clients_ends_the_connections_of_every_user(tmp_path: Path) -> None:
    async def scenario(machine: ValkeyMachine, client: Callable[..., Valkey]) -> None:
        made = [client(user.name) for user in USERS]
        for each in made:
            await each.execute_command("PING")
        await machine.engines.shun_clients(1)
        (listed,) = await machine.engines._known(1).valkey.do(("CLIENT", "LIST"))
        assert {line.split(b"user=")[1].split()[0] for line in listed.splitlines()} == {b"dkv-manager"}

    played(tmp_path, scenario)
