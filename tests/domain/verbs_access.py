"""Tests of the domain: the words of scenarios about who may come in; see verbs.py."""

from __future__ import annotations

from dkv.domain import facts, orders
from dkv.domain.command import Command
from dkv.domain.database_users import users_digest
from tests.domain.runner import Line, ScenarioRunner, verb


@verb("token")
def _create_token(runner: ScenarioRunner, line: Line) -> Command:
    """`token 1 viewer` makes the token 000000000001 with that role; `lasts=` ms, `name=`, `user=`, `secret=` a hash."""
    return orders.CreateToken(
        now=runner.world.now,
        actor="user ada",
        token_id=f"{line.words[0]:0>12}",
        hashed_secret=line.options.get("secret", "a" * 64),
        role=line.words[1],
        name=line.options.get("name", ""),
        user=line.options.get("user", ""),
        lasts=line.number("lasts", 3_600_000),
    )


@verb("delete-token")
def _delete_token(runner: ScenarioRunner, line: Line) -> Command:
    return orders.DeleteToken(now=runner.world.now, token_id=f"{line.words[0]:0>12}")


@verb("found-authority")
def _authority_founded(runner: ScenarioRunner, line: Line) -> Command:
    """`found-authority managers first`: a manager made the authority `first`; its key is sealed."""
    owner, certificate = line.words
    return facts.AuthorityFounded(now=runner.world.now, owner=owner, certificate=certificate, key=f"sealed key of {certificate}")


def _hashed(line: Line) -> str:
    """`password=b`: a hash of that letter; any other text is taken as it is."""
    word = line.options.get("password", "a")
    return word * 64 if len(word) == 1 else word


@verb("user")
def _create_user(runner: ScenarioRunner, line: Line) -> Command:
    """`user orders ada` with `password=`, `keys=a*,b*`, `read-only`, `no-scripting`, `monitor`. `_` in a name is a blank."""
    return orders.CreateDatabaseUser(
        now=runner.world.now,
        actor="user ops",
        database=line.words[0],
        name=line.words[1].replace("_", " "),
        hashed_password=_hashed(line),
        read_only=line.has("read-only"),
        keys=tuple(pattern.replace("_", " ") for pattern in line.options.get("keys", "").split(",") if pattern),
        scripting=not line.has("no-scripting"),
        monitor=line.has("monitor"),
    )


@verb("password")
def _add_password(runner: ScenarioRunner, line: Line) -> Command:
    return orders.AddUserPassword(now=runner.world.now, database=line.words[0], name=line.words[1], hashed_password=_hashed(line))


@verb("drop-password")
def _drop_password(runner: ScenarioRunner, line: Line) -> Command:
    return orders.DropUserPassword(now=runner.world.now, database=line.words[0], name=line.words[1])


@verb("delete-user")
def _delete_user(runner: ScenarioRunner, line: Line) -> Command:
    return orders.DeleteDatabaseUser(now=runner.world.now, database=line.words[0], name=line.words[1])


@verb("access")
def _set_access(runner: ScenarioRunner, line: Line) -> Command:
    """`access orders open`, or without the word: its users only."""
    return orders.SetDatabaseAccess(now=runner.world.now, database=line.words[0], open=line.has("open"))


@verb("users")
def _users_seen(runner: ScenarioRunner, line: Line) -> Command:
    """`users 0`: the engines of process 0 let in whom they should; `altered=ada,eve` names those that do not any more."""
    process = runner.world.state.processes[int(line.words[0])]
    altered = tuple(name for name in line.options.get("altered", "").split(",") if name)
    digest = users_digest(runner.world.state, process.database)
    return facts.UsersSeen(
        now=runner.world.now, server_id=process.server_id, start_id=process.start_id, users=digest, altered=altered
    )


@verb("certificate")
def _certificate_kept(runner: ScenarioRunner, line: Line) -> Command:
    """`certificate A 0`: A's manager uses a certificate and does what phase 0 asks for; `until=` its end, `uid=`."""
    server, number = line.words
    known = runner.world.state.servers.get(server)
    uid = line.options.get("uid", known.uid if known else "")
    until = line.number("until", 90)
    return facts.CertificateKept(now=runner.world.now, server_id=server, uid=uid, until=until, number=int(number))


@verb("rotate")
def _rotate_authority(runner: ScenarioRunner, line: Line) -> Command:
    """`rotate managers second`: change the authority for `second`; `without=` servers; `hold`: once all trust both."""
    owner, certificate = line.words[:2]
    without = tuple(line.options["without"].split(",")) if "without" in line.options else ()
    return orders.RotateAuthority(
        now=runner.world.now,
        owner=owner,
        certificate=certificate,
        key=f"sealed key of {certificate}",
        without=without,
        hold=line.has("hold"),
    )


@verb("join-token")
def _create_join_token(runner: ScenarioRunner, line: Line) -> Command:
    """`join-token 1`: the join token 00000001 with the secret a; `lasts=` ms, `uses=`, `pin=` a digit, `replaces=` a server."""
    return orders.CreateJoinToken(
        now=runner.world.now,
        token_id=f"{line.words[0]:0>8}",
        hashed_secret="a" * 64,
        pin=line.options.get("pin", "1") * 64,
        uses=line.number("uses", 1),
        lasts=line.number("lasts", 3_600_000),
        replaces=line.options.get("replaces", ""),
    )


@verb("delete-join-token")
def _delete_join_token(runner: ScenarioRunner, line: Line) -> Command:
    return orders.DeleteJoinToken(now=runner.world.now, token_id=f"{line.words[0]:0>8}")


@verb("admit")
def _admit_server(runner: ScenarioRunner, line: Line) -> Command:
    """`admit 1 D`: server D shows join token 1; `secret=` a digit, `uid=`, `key=`, `pin=` a digit."""
    token, server = line.words
    return orders.AdmitServer(
        now=runner.world.now,
        token_id=f"{token:0>8}",
        hashed_secret=line.options.get("secret", "a") * 64,
        pin=line.options.get("pin", "1") * 64,
        server_id=server,
        uid=line.options.get("uid", f"u{server}"),
        public_key=line.options.get("key", f"key of {server}"),
        host=line.options.get("host", f"127.0.1.{ord(server[0])}"),
    )


@verb("refused")
def _requests_refused(runner: ScenarioRunner, line: Line) -> Command:
    """`refused A 3 10.0.0.9` is what the manager of A refused of a peer."""
    server, count, peer = line.words
    last = "GET /admin/v1/stores: The request shows no credentials."
    return facts.RequestsRefused(server_id=server, now=runner.world.now, peer=peer, count=int(count), last=last)


@verb("trouble")
def _member_troubled(runner: ScenarioRunner, line: Line) -> Command:
    """`trouble B disk`: the manager of B sees that; `none`: that nothing is wrong with its etcd member any more."""
    server, trouble = line.words
    return facts.MemberTroubled(server_id=server, now=runner.world.now, trouble="" if trouble == "none" else trouble)


@verb("member")
def _state_member_seen(runner: ScenarioRunner, line: Line) -> Command:
    """`member A B voter`: the manager of A saw the member of B vote; `none`: that B has none."""
    server, member, role = line.words
    because = line.options.get("because", "the cluster lists it so")
    return facts.StateMemberSeen(
        server_id=server, now=runner.world.now, member=member, role="" if role == "none" else role, because=because
    )


@verb("rotate-secret")
def _rotate_secret(runner: ScenarioRunner, line: Line) -> Command:
    """`rotate-secret orders n`: to 32 times that letter."""
    return orders.RotateSecret(now=runner.world.now, database=line.words[0], secret=line.words[1] * 32)
