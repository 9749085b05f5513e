"""A manager's own certificate: made with the domain's authority at the first start, kept, and judged before it is used."""

from __future__ import annotations

import asyncio
import itertools
import stat
from pathlib import Path

import pytest

from dkv.access import certificates, crypto
from dkv.access.certificate_files import CertificateFiles
from dkv.access.certificates import Owner
from dkv.access.crypto import KeyPair
from dkv.access.domain_key import KeyFiles, authority_label
from dkv.control.certificates import CertificateError, CertificatePlaces, Certificates
from dkv.control.submit import Submitter
from dkv.domain.access import MANAGERS, Authority
from dkv.store.memory import MemoryDomain, MemoryStore

NOW = 1_800_000_000_000
DAY = certificates.DAY


class Domain:
    """A domain in memory, whose managers keep their files below one directory; its clock stands still unless it is moved."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = NOW
        self.tokens = (f"t{n}" for n in itertools.count())
        self.store = MemoryStore(MemoryDomain(clock=lambda: self.now / 1000))
        self.submitter = Submitter(self.store, lambda: self.now, lambda: next(self.tokens))
        self.errors: list[str] = []

    def manager(self, name: str, host: str = "127.0.0.1") -> Certificates:
        """A manager that begins, or begins again."""
        files = CertificateFiles(self.root / name / "certificates")
        keys = KeyFiles(files.directory / "domain.key", self.root / "domain.sqlite-key")
        places = CertificatePlaces(files, keys, certificates.reachable(f"uid-{name}", host))
        return Certificates(self.submitter, places, lambda: self.now, self.errors.append)

    async def begun(self, name: str, host: str = "127.0.0.1") -> Certificates:
        """A manager that has its certificate."""
        manager = self.manager(name, host)
        await manager.begin(await self.submitter.create_domain("d0"))
        return manager

    async def authority(self) -> Authority:
        return (await self.submitter.view()).state.authorities[MANAGERS]

    async def believed(self, manager: Certificates) -> str:
        """The uid by which a manager is believed. Fails if it is not."""
        uid = certificates.judge_peer(pair_of(manager).certificate, (await self.authority()).trusted, Owner("d0"), UIDS, self.now)
        assert isinstance(uid, str), uid
        return uid


UIDS = [f"uid-{name}" for name in ("s1", "s2", "s3")]


def pair_of(manager: Certificates) -> KeyPair:
    pair = manager.files.pair()
    assert pair is not None
    return pair


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return Domain(tmp_path)


def test_managers_that_begin_at_the_same_time_have_one_authority_and_each_its_own_leaf(domain: Domain) -> None:
    async def main() -> None:
        managers = await asyncio.gather(*(domain.begun(name) for name in ("s1", "s2", "s3")))
        authority = await domain.authority()
        assert [await domain.believed(manager) for manager in managers] == UIDS
        assert {manager.files.trusted() for manager in managers} == {authority.bundle} == {authority.current}
        assert len({pair_of(manager).key for manager in managers}) == 3
        assert len({manager.domain_key.text for manager in managers}) == 1
        assert crypto.belongs_to(
            authority.current, managers[2].domain_key.unseal(authority_label(MANAGERS), authority.key)
        )  # each of them can sign

    asyncio.run(main())


def test_files_are_for_the_managers_user_only_and_hold_no_open_key_of_the_authority(domain: Domain) -> None:
    async def main() -> None:
        manager = await domain.begun("s1")
        authority = await domain.authority()
        key = manager.domain_key.unseal(authority_label(MANAGERS), authority.key)
        written = sorted(path for path in domain.root.rglob("*") if path.is_file())
        assert [path.name for path in written] == [
            "domain.sqlite-key",
            "authorities.pem",
            "domain.key",
            "server.key",
            "server.pem",
        ]
        assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
        assert stat.S_IMODE(manager.files.directory.stat().st_mode) == 0o700
        records = await domain.submitter.snapshot()
        events = await domain.store.events(0, 100)
        texts = [*(path.read_text() for path in written), *records.records.values(), *(event.text for event in events)]
        assert not [text for text in texts if key.splitlines()[1] in text]
        everywhere = [text for text in texts if manager.domain_key.text in text]
        assert len(everywhere) == 2  # its two files

    asyncio.run(main())


def test_a_manager_that_begins_again_keeps_its_leaf_unless_something_is_wrong_with_it(domain: Domain) -> None:
    async def main() -> None:
        first = pair_of(await domain.begun("s1"))
        other = pair_of(await domain.begun("s2"))
        assert pair_of(await domain.begun("s1")) == first
        files = CertificateFiles(domain.root / "s1" / "certificates")
        for damage in (first.key, "nonsense"):
            files.key.write_text(other.key if damage is first.key else damage)
            renewed = pair_of(await domain.begun("s1"))
            assert crypto.belongs_to(renewed.certificate, renewed.key) and renewed != first
            first = renewed
        moved = await domain.begun("s1", "10.0.0.7")
        assert crypto.read(pair_of(moved).certificate).addresses == ("10.0.0.7",)

    asyncio.run(main())


def test_the_domains_key_is_put_back_from_either_file_and_a_wrong_one_is_named(domain: Domain) -> None:
    async def main() -> None:
        key = (await domain.begun("s1")).domain_key.text
        shared, own = domain.root / "domain.sqlite-key", domain.root / "s1" / "certificates" / "domain.key"
        for lost in (shared, own):
            lost.unlink()
            assert (await domain.begun("s1")).domain_key.text == key
            assert lost.read_text().strip() == key
        own.unlink()
        shared.write_text("0" * 64)
        with pytest.raises(CertificateError, match=r"The domain's key is missing: neither of .*domain\.key and .*-key opens"):
            await domain.begun("s1")
        assert shared.read_text() == "0" * 64 and not own.exists()

    asyncio.run(main())


def test_a_link_in_the_place_of_a_key_is_refused(domain: Domain, tmp_path: Path) -> None:
    async def main() -> None:
        await domain.begun("s1")
        own = domain.root / "s1" / "certificates" / "domain.key"
        elsewhere = tmp_path / "elsewhere"
        own.rename(elsewhere)
        own.symlink_to(elsewhere)
        with pytest.raises(CertificateError, match="cannot be kept"):
            await domain.begun("s1")

    asyncio.run(main())


def test_a_leaf_is_renewed_after_sixty_days_and_one_that_expired_at_the_next_start(domain: Domain) -> None:
    async def main() -> None:
        manager = await domain.begun("s1")
        first, changes = pair_of(manager), []
        manager.follow(lambda: changes.append(pair_of(manager)))
        state = (await domain.submitter.view()).state
        domain.now = NOW + 59 * DAY
        await manager.look(state)
        assert pair_of(manager) == first and not changes
        domain.now = NOW + 63 * DAY
        await manager.look(state)
        second = pair_of(manager)
        assert second != first and changes == [second] and certificates.days_left(second.certificate, domain.now) == 90
        domain.now += 800 * DAY
        again = pair_of(await domain.begun("s1"))
        assert certificates.days_left(again.certificate, domain.now) == 90

    asyncio.run(main())


def test_what_cannot_be_renewed_is_said_once_and_tried_again(domain: Domain) -> None:
    async def main() -> None:
        manager = await domain.begun("s1")
        state = (await domain.submitter.view()).state
        first = pair_of(manager)
        domain.now = NOW + 63 * DAY
        manager.files.directory.rename(domain.root / "s1" / "away")
        (domain.root / "s1" / "certificates").write_text("a file in its place")
        await manager.look(state)
        await manager.look(state)
        assert len(domain.errors) == 1 and manager.failing
        (domain.root / "s1" / "certificates").unlink()
        (domain.root / "s1" / "away").rename(domain.root / "s1" / "certificates")
        await manager.look(state)
        assert not manager.failing and pair_of(manager) != first

    asyncio.run(main())


def test_a_listener_that_cannot_take_the_new_leaf_gets_it_again(domain: Domain) -> None:
    async def main() -> None:
        manager = await domain.begun("s1")
        state = (await domain.submitter.view()).state
        loaded: list[str] = []

        def load() -> None:
            loaded.append(pair_of(manager).certificate)
            if len(loaded) == 1:
                raise crypto.Malformed("not now")

        manager.follow(load)
        domain.now = NOW + 63 * DAY
        await manager.look(state)
        assert manager.failing == "not now"
        await manager.look(state)
        assert loaded == [pair_of(manager).certificate] * 2 and not manager.failing

    asyncio.run(main())
