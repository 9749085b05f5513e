"""Leaves for engines: signed by the authority of their database, and judged before an engine gets them, which would take any."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.access import certificates, crypto
from dkv.access.certificates import DAY, Owner, Reachable
from dkv.access.crypto import KeyPair
from dkv.access.domain_key import KeyFiles
from dkv.control.certificates import CertificateError
from dkv.control.engine_certificates import EngineCertificates, Sign
from dkv.control.submit import Submitter
from dkv.domain.decision import Accepted
from dkv.domain.facts import ServerJoined
from dkv.domain.model import DatabaseOptions
from dkv.domain.orders import CreateDatabase, NewArchive
from dkv.store.memory import MemoryDomain, MemoryStore

NOW = 1_800_000_000_000
HERE = ServerJoined(server_id="s1", uid="us1", host="127.0.0.1", port=7801, nuodb_port=8888, boot_id="b", engine_tls=True)


class Domain:
    """A domain in memory with two databases whose engines speak TLS. `signer` is another manager each time."""

    def __init__(self, root: Path) -> None:
        self.root, self.now = root, NOW
        tokens = (f"t{n}" for n in itertools.count())
        self.store = MemoryStore(MemoryDomain(clock=lambda: self.now / 1000))
        self.submitter = Submitter(self.store, lambda: self.now, lambda: next(tokens))

    async def begun(self) -> Domain:
        await self.submitter.create_domain("d0")
        options = DatabaseOptions(engine_tls="on")
        archives = (NewArchive(server_id="s1"),)
        databases = [
            CreateDatabase(name=name, uid=f"uid-{name}", secret="x", options=options, archives=archives) for name in "ab"
        ]
        for command in (HERE, *databases):
            assert isinstance(await self.submitter.submit(command), Accepted)
        return self

    def signer(self, name: str = "s1", sign: Sign = certificates.new_leaf) -> EngineCertificates:
        keys = KeyFiles(self.root / name / "domain.key", self.root / "domain.sqlite-key")
        return EngineCertificates(self.submitter, keys, Reachable(f"uid-{name}", ("127.0.0.1",)), lambda: self.now, sign)


def test_each_database_has_an_authority_of_its_own_which_every_manager_can_sign_with(tmp_path: Path) -> None:
    async def main() -> None:
        domain = await Domain(tmp_path).begun()
        first, second, other = await asyncio.gather(
            domain.signer("s1").leaf("a"), domain.signer("s2").leaf("a"), domain.signer("s1").leaf("b")
        )
        assert first.authority == second.authority
        assert first.authority.current != other.authority.current
        assert first.serial != second.serial
        leaf = crypto.read(first.pair.certificate)
        assert leaf.uris == ("dkv://d0/database/uid-a/server/uid-s1",)
        assert leaf.addresses == ("127.0.0.1",)
        assert not crypto.is_issued_by(first.pair.certificate, other.authority.current)
        judged = certificates.judge_peer(
            first.pair.certificate, other.authority.trusted, Owner("d0", "uid-b"), ["uid-s1"], domain.now
        )
        assert not isinstance(judged, str), "a leaf of one database's engines is none of another's"

    asyncio.run(main())


def test_a_machine_that_was_off_for_years_signs_anew(tmp_path: Path) -> None:
    async def main() -> None:
        domain = await Domain(tmp_path).begun()
        before = await domain.signer().leaf("a")
        domain.now += 2 * 365 * DAY
        after = await domain.signer().leaf("a")
        assert certificates.days_left(before.pair.certificate, domain.now) < 0
        assert certificates.days_left(after.pair.certificate, domain.now) == certificates.LEAF_DAYS

    asyncio.run(main())


def _dated(shift: int) -> Sign:
    return lambda authority, owner, server, now: certificates.new_leaf(authority, owner, server, now + shift)


def _foreign(authority: KeyPair, owner: Owner, server: Reachable, now: int) -> KeyPair:
    return certificates.new_leaf(certificates.new_authority(owner, now), owner, server, now)


def _keyless(authority: KeyPair, owner: Owner, server: Reachable, now: int) -> KeyPair:
    return replace(certificates.new_leaf(authority, owner, server, now), key=crypto.new_key())


@pytest.mark.parametrize(
    ("sign", "why"),
    [
        (_dated(-91 * DAY), "expired"),
        (_dated(DAY), "valid from"),
        (_foreign, "not issued by the authority itself"),
        (_keyless, "key is not the certificate's"),
        (lambda authority, *_: authority, "not issued by the authority itself"),
        (lambda *_: KeyPair("no certificate", "no key"), "cannot be used"),
    ],
    ids=["expired", "future", "foreign", "keyless", "an authority", "garbage"],
)
def test_what_no_engine_may_get_is_refused_before_it_gets_it(tmp_path: Path, sign: Callable[..., KeyPair], why: str) -> None:
    async def main() -> None:
        domain = await Domain(tmp_path).begun()
        with pytest.raises(CertificateError, match=why):
            await domain.signer(sign=sign).leaf("a")

    asyncio.run(main())


def test_an_authority_that_has_expired_signs_for_no_engine(tmp_path: Path) -> None:
    async def main() -> None:
        domain = await Domain(tmp_path).begun()
        await domain.signer().leaf("a")
        domain.now += (certificates.AUTHORITY_DAYS + 1) * DAY
        with pytest.raises(CertificateError, match="authority of these engines has expired"):
            await domain.signer().leaf("a")

    asyncio.run(main())


def test_a_manager_without_the_domains_key_says_which_file_is_missing(tmp_path: Path) -> None:
    async def main() -> None:
        domain = await Domain(tmp_path).begun()
        await domain.signer().leaf("a")
        for file in tmp_path.rglob("*key"):
            file.unlink()
        with pytest.raises(CertificateError, match="key is missing") as refused:
            await domain.signer().leaf("a")
        assert "s1/domain.key" in str(refused.value.hint)

    asyncio.run(main())


def test_a_database_that_is_gone_has_no_certificate(tmp_path: Path) -> None:
    async def main() -> None:
        domain = await Domain(tmp_path).begun()
        with pytest.raises(CertificateError, match="no database c"):
            await domain.signer().leaf("c")

    asyncio.run(main())
