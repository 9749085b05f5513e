"""The key of a domain and a state that is put back: it is found, given and tried, or a person gives up what is sealed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from dkv.access import certificates
from dkv.access.domain_key import DomainKey, authority_label, beside, key_in, new_domain_key
from dkv.control.certificates import CertificateError
from dkv.control.submit import Submitter
from dkv.domain.access import MANAGERS, Authority
from dkv.domain.model import State
from dkv.recovery import Plan, RecoveryError, plan_restore, write_backup
from dkv.store import codec
from dkv.store.sqlite import SqliteStore
from tests.access.test_own_certificate import NOW, Domain


@dataclass
class Backup:
    """A backup of a state in which the managers' authority is sealed, and where it is to be restored."""

    file: Path
    state: Path
    key: DomainKey

    def plan(self, key_file: Path | None = None, *, new_authorities: bool = False) -> Plan:
        return plan_restore(self.file, f"sqlite:{self.state}", key_file=key_file, new_authorities=new_authorities)

    def copy(self, key: DomainKey, name: str = "copy") -> Path:
        path = self.file.parent / name
        path.write_text(f"{key.text}\n")
        path.chmod(0o600)
        return path


def sealed(key: DomainKey) -> Authority:
    made = certificates.new_authority(certificates.Owner("d0"), NOW)
    return Authority(MANAGERS, made.certificate, key.seal(authority_label(MANAGERS), made.key))


@pytest.fixture
def backup(tmp_path: Path) -> Backup:
    key = new_domain_key()
    state = State(uid="d0", authorities={MANAGERS: sealed(key)})
    write_backup(tmp_path / "b", {"uid": "d0", "revision": 9, "records": codec.encode(state)})
    return Backup(tmp_path / "b", tmp_path / "new" / "domain.sqlite", key)


def test_a_key_that_is_nowhere_is_named_first_with_both_ways_out(backup: Backup) -> None:
    plan = backup.plan()
    assert plan.key is None
    for words in (f"{beside(backup.state)} is not there", "certificates/domain.key", "--domain-key", "--new-authorities"):
        assert words in plan.unknown[0]
    plan.write()
    assert not beside(backup.state).exists()


def test_a_key_that_is_beside_the_state_already_is_tried(backup: Backup) -> None:
    backup.state.parent.mkdir()
    there = beside(backup.state)
    backup.copy(new_domain_key()).rename(there)
    assert f"{there} does not open what is sealed" in backup.plan().unknown[0]
    backup.copy(backup.key).rename(there)
    plan = backup.plan()
    assert f"the domain's key in {there}: it opens what is sealed" in plan.findings
    assert not any("domain's key" in line for line in plan.unknown)


def test_a_key_that_is_given_is_put_beside_the_state_for_its_owner_only(backup: Backup) -> None:
    plan = backup.plan(backup.copy(backup.key))
    assert any("is put beside the state" in line for line in plan.findings)
    assert not beside(backup.state).exists(), "a plan writes nothing"
    plan.write()
    written = key_in(beside(backup.state))
    assert written and written.text == backup.key.text
    assert beside(backup.state).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("none", "holds no key of a domain"),
        ("missing", "holds no key of a domain"),
        ("of another domain", "does not open what is sealed in the backup"),
        ("another one is there", "holds another key and is not overwritten"),
    ],
)
def test_a_key_that_is_of_no_use_is_refused_and_nothing_is_written(backup: Backup, case: str, words: str) -> None:
    given = backup.copy(new_domain_key() if case == "of another domain" else backup.key)
    if case == "none":
        given.write_text("no key")
    elif case == "missing":
        given.unlink()
    elif case == "another one is there":
        backup.state.parent.mkdir()
        backup.copy(new_domain_key(), "other").rename(beside(backup.state))
    with pytest.raises(RecoveryError) as refused:
        backup.plan(given)
    assert words in refused.value.message and str(refused.value.hint)
    assert not backup.state.exists()


def test_what_is_sealed_can_be_given_up_and_is_made_anew(backup: Backup) -> None:
    plan = backup.plan(new_authorities=True)
    assert not plan.state.authorities and plan.state.uid == "d0"
    assert any("authorities are given up" in line for line in plan.findings)
    assert not any("domain's key" in line for line in plan.unknown)


def test_a_state_in_which_nothing_is_sealed_needs_no_key(tmp_path: Path) -> None:
    write_backup(tmp_path / "b", {"uid": "d0", "revision": 9, "records": codec.encode(State(uid="d0"))})
    plan = plan_restore(tmp_path / "b", f"sqlite:{tmp_path / 'state'}")
    assert not any("key" in line for line in (*plan.findings, *plan.unknown))


def test_a_domain_whose_key_is_lost_says_so_and_lives_on_with_new_authorities(tmp_path: Path) -> None:
    domain, state = Domain(tmp_path), tmp_path / "new" / "domain.sqlite"

    async def lost() -> Authority:
        await domain.begun("s1")
        snapshot = await domain.submitter.snapshot()
        write_backup(tmp_path / "b", {"uid": "d0", "revision": snapshot.revision, "records": dict(snapshot.records)})
        for file in (tmp_path / "domain.sqlite-key", tmp_path / "s1" / "certificates" / "domain.key"):
            file.unlink()
        with pytest.raises(CertificateError, match="The domain's key is missing") as missing:
            await domain.begun("s1")
        assert "put the backup back with new authorities" in str(missing.value.hint)
        return await domain.authority()

    async def lives_on(former: Authority) -> None:
        store = await SqliteStore.open(state)
        try:
            domain.submitter = Submitter(store, lambda: domain.now, lambda: "token")
            assert await domain.believed(await domain.begun("s1")) == "uid-s1"
            assert (await domain.authority()).current != former.current
        finally:
            await store.close()

    former = asyncio.run(lost())
    plan_restore(tmp_path / "b", f"sqlite:{state}", new_authorities=True).write()
    asyncio.run(lives_on(former))
