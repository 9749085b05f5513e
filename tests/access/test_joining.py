"""A new server joins: it believes nothing but the pin of its token, sends the secret to nobody else, and keeps what it gets."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dkv.access import certificates, crypto, join_tokens
from dkv.access.certificate_files import CertificateFiles
from dkv.access.certificates import Owner
from dkv.access.contexts import Contexts
from dkv.access.join_tokens import JoinToken
from dkv.config import Settings
from dkv.data_dir import DataDir
from dkv.domain.access import MANAGERS
from dkv.domain.facts import LevelsRead, ServerJoined, ServerLost
from dkv.domain.levels import LEVEL
from dkv.joining import JOINED, Joining, Membership, join, membership_of
from dkv.listening import LOCAL, Secured, Server
from dkv.manager import ManagerError
from tests.api.world import World
from tests.tls import Place, now

UID = "9" * 32


@dataclass
class Domain:
    """A domain whose first manager listens on TLS, and the data directory of a server that is to join."""

    world: World
    root: Path
    port: int

    async def token(self, **body: int | str) -> JoinToken:
        async with self.world.at("s1") as client:
            made = await client.post("/admin/v1/join-tokens", json=body)
        assert made.status_code == 201, made.text
        token = join_tokens.parse(made.json()["secret"])
        assert isinstance(token, JoinToken)
        return token

    async def join(
        self, token: str, port: int = 0, *, clock: int = 0, here: str = "", name: str = "s9", uid: str = UID
    ) -> Membership:
        """What the new server does, in a thread of its own, as a program does it."""
        place = self.root / name
        place.mkdir(mode=0o700, exist_ok=True)
        settings = Settings(bind="127.0.0.19", data_dir=place, state=f"sqlite:{place}/domain.sqlite", access_control="on")
        joining = Joining(token, f"127.0.0.1:{port or self.port}")
        wall = clock or self.world.now
        return await asyncio.to_thread(join, settings, DataDir(place, name, uid), joining, here, lambda: wall, why_no_member="")

    async def refused(self, token: str, words: str, port: int = 0, **more: Any) -> ManagerError:
        """A join that is refused in one sentence, shows no secret, and leaves neither the domain nor the directory changed."""
        written = await self.world.store.read()
        with pytest.raises(ManagerError, match=re.escape(words)) as refused:
            await self.join(token, port, **more)
        assert refused.value.hint and not secret_in(token, refused.value.message + str(refused.value.hint))
        assert await self.world.store.read() == written
        assert not (self.root / more.get("name", "s9") / JOINED).exists()
        return refused.value


def secret_in(token: str, text: str) -> bool:
    """Whether a text has the secret of a token."""
    parts = token.split(".")
    return len(parts) > 3 and len(parts[3]) > 20 and parts[3] in text


@asynccontextmanager
async def domain_at(root: Path) -> AsyncIterator[Domain]:
    world = World()
    world.now = now()
    await world.begin()
    await world.certify(root)
    files = CertificateFiles(root / "listener")
    authority = (await world.state()).authorities[MANAGERS]
    signer = world.certificates["s1"]
    key = crypto.new_key()
    reachable = certificates.reachable("uid-of-s1", "127.0.0.1")
    files.write_pair(crypto.KeyPair(signer.leaf_for(authority, reachable, crypto.new_request(key)), key))
    files.write_bundle(authority.bundle)
    contexts = Contexts(files, lambda text: None)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Server(world.apps["s1"], LOCAL, secured=Secured(contexts.accepting))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            async with asyncio.timeout(90):
                while not server.started:
                    await asyncio.sleep(0.01)
                yield Domain(world, root, listening.getsockname()[1])
        finally:
            server.end()
            await task


def joins(check: Callable[[Domain], Awaitable[None]]) -> Callable[[Path], None]:
    """A test on such a domain."""

    def test(tmp_path: Path) -> None:
        async def run() -> None:
            async with domain_at(tmp_path) as domain:
                await check(domain)

        asyncio.run(run())

    test.__name__ = check.__name__
    return test


@joins
async def test_a_server_joins_and_keeps_what_it_needs_for_its_user_only(domain: Domain) -> None:
    token = await domain.token()
    membership = await domain.join(token.text)
    state = await domain.world.state()
    assert membership == Membership(state.uid, "sqlite:/state/domain.sqlite", token.token_id)
    place = domain.root / "s9"
    assert membership_of(place) == membership
    own = CertificateFiles(place / "certificates")
    pair, authority = own.pair(), state.authorities[MANAGERS]
    assert pair and certificates.judge_own(pair, authority.current, domain.world.now) is None
    assert crypto.read(pair.certificate).uris == (Owner(state.uid).uri_of(UID),)
    assert own.trusted() == authority.bundle
    assert (own.directory / "domain.key").read_text().strip() == domain.world.certificates["s1"].domain_key.text
    files = [path for path in place.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert not [path for path in files if token.secret in path.read_text()]
    key = (await domain.world.state()).join_tokens[token.token_id]
    assert [joined.server_uid for joined in key.used_by] == [UID]


@joins
async def test_the_same_token_is_asked_once_and_may_be_repeated_after_a_lost_answer(domain: Domain) -> None:
    token = await domain.token()
    first = await domain.join(token.text)
    (domain.root / "s9" / JOINED).unlink()  # the answer, or the machine, was lost before it was kept
    assert await domain.join(token.text) == first
    async with domain.world.at("s1") as client:
        await client.delete(f"/admin/v1/join-tokens/{token.token_id}")
    assert await domain.join(token.text) == first  # nothing is asked: it joined already


BAD_TOKENS: dict[str, tuple[Callable[[str], str], str]] = {
    "cut": (lambda text: text[:-9], "The join token is not whole: it is 9 characters short"),
    "one character changed": (lambda text: text[:80] + ("A" if text[80] != "A" else "B") + text[81:], "has a wrong character"),
    "no token": (lambda text: "dkvt_0123", "This is no join token"),
    "another authority": (lambda text: of_another_authority(), "The join token is for another authority than this server's"),
}


def of_another_authority() -> str:
    return join_tokens.new_join_token(certificates.new_authority(Owner("d9"), now()).certificate, b"r" * 36).text


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_a_bad_token_is_told_before_anything_is_sent(name: str, tmp_path: Path) -> None:
    change, words = BAD_TOKENS[name]

    async def main(domain: Domain) -> None:
        error = await domain.refused(change((await domain.token()).text), words)
        assert error.exit_code == 2
        if name != "another authority":  # that one has to be compared with what the peer shows; all others need no network
            await domain.refused(change((await domain.token()).text), words, port=1)

    joins(main)(tmp_path)


@joins
async def test_replayed_expired_and_deleted_tokens_have_their_own_sentences(domain: Domain) -> None:
    token = await domain.token()
    await domain.join(token.text)
    used = f"The join token {token.token_id} was used already, last by the server with uid {UID}"
    await domain.refused(token.text, used, name="s8")
    late = await domain.token(lasts=1_000)
    domain.world.now += 130_000
    await domain.refused(late.text, f"The join token {late.token_id} expired 2 minutes ago by this server's clock", name="s8")
    async with domain.world.at("s1") as client:
        await client.delete(f"/admin/v1/join-tokens/{late.token_id}")
    await domain.refused(late.text, f"There is no join token {late.token_id} with that secret", name="s8")


@joins
async def test_a_server_that_joined_another_domain_does_not_go_over(domain: Domain) -> None:
    token = await domain.token()
    place = domain.root / "s9"
    place.mkdir(mode=0o700)
    (place / JOINED).write_text(json.dumps(vars(Membership("d7", "sqlite:/elsewhere.sqlite", "00000007"))))
    (place / JOINED).chmod(0o600)
    with pytest.raises(ManagerError, match="This server joined the domain d7; the manager at"):
        await domain.join(token.text)
    assert membership_of(place) == Membership("d7", "sqlite:/elsewhere.sqlite", "00000007")
    assert not (await domain.world.state()).join_tokens[token.token_id].used_by


@joins
async def test_of_two_servers_with_one_use_exactly_one_joins(domain: Domain) -> None:
    token = await domain.token()
    both = [domain.join(token.text, name=f"s{number}", uid=str(number) * 32) for number in (7, 8)]
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["JoinError", "Membership"], outcomes


@joins
async def test_an_empty_disk_that_comes_back_under_its_name_is_refused_unless_an_order_says_so(domain: Domain) -> None:
    token = await domain.token()
    error = await domain.refused(token.text, "Server id s2 belongs to another data directory", name="s2")
    assert "replace server" in str(error.hint)


@joins
async def test_a_server_takes_the_place_of_one_that_is_away_by_an_order_only(domain: Domain) -> None:
    servers = (await domain.world.state()).servers
    await domain.world.submit(LevelsRead(server_id="s1", levels=(("s1", 1), ("s2", 1))))
    for known in servers.values():
        here: dict[str, Any] = {
            name: getattr(known, name) for name in ("server_id", "uid", "host", "port", "nuodb_port", "boot_id")
        }
        await domain.world.submit(ServerJoined(level=LEVEL, **here))
    server = servers["s2"]
    async with domain.world.at("s1") as client:
        refused = await client.post("/admin/v1/join-tokens", json={"replaces": "s2"})
    assert refused.status_code == 409 and refused.json()["code"] == "server_alive", refused.text
    await domain.world.submit(ServerLost(server_id="s2", uid=server.uid))
    token = await domain.token(replaces="s2")
    await domain.refused(token.text, f"The join token {token.token_id} is for server s2, and this one would be s9")
    assert (await domain.join(token.text, name="s2")).token == token.token_id
    state = await domain.world.state()
    assert (state.servers["s2"].uid, state.servers["s2"].host) == (UID, "127.0.0.19") and server.uid in state.departed
    again = f"Server s2 joined with the join token {token.token_id} before, from another data directory"
    (domain.root / "s2" / JOINED).unlink()
    await domain.refused(token.text, again, name="s2", uid="8" * 32)


@joins
async def test_a_clock_that_is_wrong_by_a_day_is_named_with_the_other_one(domain: Domain) -> None:
    token = await domain.token()
    for ahead in (86_400_000, -86_400_000):
        error = await domain.refused(token.text, "The clocks differ: this machine's says ", clock=domain.world.now + ahead)
        assert len(re.findall(r"\d{4}-\d\d-\d\dT", error.message)) == 2
    with capture_logs() as logs:
        assert (await domain.join(token.text, clock=domain.world.now + 60_000)).token == token.token_id
    assert [line["seconds"] for line in logs if line["event"].startswith("the clocks differ")] == [60]


@joins
async def test_a_directory_whose_state_is_of_another_domain_is_not_joined_to_this_one(domain: Domain) -> None:
    token = await domain.token()
    await domain.refused(token.text, "is the state of the domain d7; the manager at", here="d7")
    assert (await domain.join(token.text, here=(await domain.world.state()).uid)).token == token.token_id


@joins
async def test_a_token_of_the_former_authority_says_so_and_a_plain_port_too(domain: Domain) -> None:
    token = await domain.token(lasts=10_000_000)
    async with domain.world.at("s1") as client:
        assert (await client.post("/admin/v1/ca/rotation", json={})).status_code == 202
    for _ in range(3):
        for manager in domain.world.certificates.values():
            await manager.look(await domain.world.state())
    await domain.refused(token.text, "The join token is of the former authority of this domain; nothing was sent")
    with socket.create_server(("127.0.0.1", 0)) as plain:
        thread = threading.Thread(target=answer_plainly, args=(plain,), daemon=True)
        thread.start()
        await domain.refused(token.text, "what listens there does not speak TLS", port=plain.getsockname()[1])


def answer_plainly(listening: socket.socket) -> None:
    connection, _ = listening.accept()
    with connection, suppress(OSError):
        connection.recv(4_096)
        connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")


# In the middle --------------------------------------------------------------------------------------------------------


class InTheMiddle:
    """A relay that ends TLS with a leaf of its own, reads what it is sent, and asks the true manager itself."""

    def __init__(self, leaf: tuple[Path, Path], target: int, names: str = "") -> None:
        self.read = b""
        self._target, self._names = target, names
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*leaf)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:
                return
            plain.settimeout(5)
            with suppress(OSError):
                with self._context.wrap_socket(plain, server_side=True) as victim:
                    self._relay(victim)
            plain.close()

    def _relay(self, victim: ssl.SSLSocket) -> None:
        request = victim.recv(65_536)
        self.read += request
        if self._names:
            body = json.dumps({"bundle": [self._names], "domainUid": "d0"}).encode()
            victim.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            victim.unwrap()
            return
        unverified = ssl.create_default_context()
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        with unverified.wrap_socket(socket.create_connection(("127.0.0.1", self._target), 5)) as true:
            true.sendall(request)
            while piece := true.recv(65_536):
                victim.sendall(piece)
        victim.unwrap()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@pytest.mark.parametrize("shows", ["its own authority", "the true authority"])
def test_a_man_in_the_middle_never_gets_the_secret(shows: str, tmp_path: Path) -> None:
    async def main(domain: Domain) -> None:
        token = await domain.token()
        (tmp_path / "mallory").mkdir(mode=0o700)
        mallory = Place(tmp_path / "mallory", (await domain.world.state()).uid, "uid-of-s1")
        own = shows == "its own authority"
        middle = InTheMiddle(mallory.leaf("server"), domain.port, mallory.bundle if own else "")
        try:
            words = "for another authority than this server's" if own else "its certificate is not of the authority"
            await domain.refused(token.text, words, port=middle.port)
        finally:
            middle.close()
        assert b"GET /admin/v1/ca" in middle.read and b"POST" not in middle.read
        assert token.secret.encode() not in middle.read and token.token_id.encode() not in middle.read
        assert (await domain.join(token.text)).token == token.token_id  # it was not used up

    joins(main)(tmp_path)


@joins
async def test_a_deleted_server_that_still_has_its_certificate_is_not_believed_for_another_address(domain: Domain) -> None:
    """Its leaf is of the true authority: what it lacks is the address that the new server was told."""
    token, world = await domain.token(), domain.world
    authority, key = (await world.state()).authorities[MANAGERS], crypto.new_key()
    its = certificates.reachable("uid-of-s3", "127.0.0.13")
    leaf = world.certificates["s1"].leaf_for(authority, its, crypto.new_request(key))
    (domain.root / "old").mkdir(mode=0o700)
    pair = Place(domain.root / "old").write("server", crypto.KeyPair(leaf, key))
    middle = InTheMiddle(pair, domain.port)
    try:
        await domain.refused(token.text, "its certificate is for another address", port=middle.port)
    finally:
        middle.close()
    assert token.secret.encode() not in middle.read
