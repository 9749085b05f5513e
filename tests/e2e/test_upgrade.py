"""A domain goes from one release of dkv to the next, manager by manager, while a client writes; and back, before the last one.

The release before is a wheel of the newest landed commit whose product differs from this tree; the next one is made of this tree.
"""

from __future__ import annotations

import compileall
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dkv.client import Json, ManagerRefused
from dkv.domain.levels import LEVEL
from tests.e2e.local_domain import LocalDomain, Manager, local_domain, wait_for
from tests.e2e.traffic import traffic_to
from tests.e2e.writers import at_work, clients_of

STORE = "Upgraded"
ROOT = Path(__file__).parents[2]
TREE = ROOT / "src" / "dkv"
RELEASE = "99.0.0"
FIELD = "\n    @property\n    def stopping(self)"  # of a database; the new field comes before it
EDITS = (
    ("domain/model.py", FIELD, f'    colour: str = ""\n{FIELD}'),
    ("domain/rules/options.py", "options_at=now)", 'options_at=now, colour="red")'),
)
LEVELS = """
from dkv.domain.model import Database
LEVEL += 1
FIELDS = MappingProxyType({**FIELDS, Database: {**FIELDS.get(Database, {}), "colour": LEVEL}})
"""  # stands at the end of domain/levels.py
"""What the next release has more: a field of databases, which is written whenever options of one are set."""


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """A dkv whose state has a field more than that of this tree, and whose level is one higher."""
    place = tmp_path / "next"
    shutil.copytree(TREE, place / "dkv", ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in EDITS:
        text = (place / "dkv" / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, (name, old)
        (place / "dkv" / name).write_text(text.replace(old, new), encoding="utf-8")
    with (place / "dkv" / "domain" / "levels.py").open("a", encoding="utf-8") as levels:
        levels.write(LEVELS)
    metadata = place / f"dkv-{RELEASE}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    compileall.compile_dir(place, quiet=1)  # else its first manager takes seconds to start
    metadata.write_text(f"Metadata-Version: 2.1\nName: dkv\nVersion: {RELEASE}\n", encoding="utf-8")
    return place


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[LocalDomain]:
    with local_domain(tmp_path / "domain", servers=2) as running_domain:
        running_domain.create(STORE, "-InstanceCount", "1", "-ReplicationFactor", "2")
        yield running_domain


def exchanged(manager: Manager, program: Path | None) -> None:
    """The manager ends, and one of another release goes on with its data directory and its engines."""
    assert manager.kill(signal.SIGTERM) == 0
    manager.program = program
    manager.restart()


def set_option(manager: Manager, value: int) -> None:
    manager.client.request("POST", f"/api/1/databases/{STORE}/options", {"max-clients": str(value)})


def releases(domain: LocalDomain) -> list[tuple[str | None, int | None]]:
    return [(server["release"], server["level"]) for server in domain.client.domain()["servers"]]


def record(domain: LocalDomain) -> Json:
    """The store as the state file has it."""
    with sqlite3.connect(domain.root / "domain.sqlite") as state:
        texts = [text for (text,) in state.execute("SELECT text FROM record WHERE key = ?", (f"database/{STORE}",))]
    return dict(json.loads(texts[0]))


@pytest.mark.full
def test_managers_are_upgraded_one_by_one_under_a_writer_and_back_before_the_last(
    domain: LocalDomain, next_release: Path
) -> None:
    first, second = domain.managers
    ((release, level), _) = releases(domain)
    assert level == domain.client.domain()["level"]
    writers = clients_of(domain.client.store(STORE), "upgrade", leaders_only=True)
    with at_work(writers):
        exchanged(first, next_release)
        assert releases(domain) == [(RELEASE, level + 1), (release, level)]
        (waits,) = domain.client.waiting()
        assert waits["for"] == f"the manager of {second.server_id} (dkv {release})"
        status = domain.dkv("status")
        assert f"dkv {RELEASE}" in status.out and f"dkv {release}" in status.out and "Upgrade dkv on each" in status.out
        with pytest.raises(ManagerRefused, match=f"a manager of {second.server_id} knows level {level} only"):
            set_option(first, 500)
        set_option(second, 600)
        assert "colour" not in record(domain)

        exchanged(first, None)
        set_option(first, 700)
        wait_for("nothing waits", lambda: not domain.client.waiting())
        assert "colour" not in record(domain)

        exchanged(first, next_release)
        exchanged(second, next_release)
        wait_for("the level has risen", lambda: domain.client.domain()["level"] == level + 1)
        set_option(second, 800)
        assert record(domain)["colour"] == "red"
        wait_for("nothing waits", lambda: not domain.client.waiting())
    for writer in writers:
        assert writer.acknowledged > 0 and not writer.refused and not writer.broken

    first.kill(signal.SIGTERM)
    first.program = None
    first.start()
    assert first.process is not None and first.process.wait(30) != 0
    first.process = None
    *_, said = [line for line in first.log.read_text().splitlines() if line]
    assert f"the domain state is at level {level + 1}, and this dkv knows levels up to {level}" in first.log.read_text(), said
    first.program = next_release
    first.restart()


# From the release before ---------------------------------------------------------------------------------------------


def git(*words: str) -> bytes:
    """What git says of this repository; skips the test where there is none."""
    try:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=True, timeout=60).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no history of this tree: {error}")


def landed() -> str:
    """The newest commit whose product is not that of this tree."""
    changed = bool(git("status", "--porcelain", "--", "src").strip())
    newest, *before = git("rev-list", "-2", "HEAD", "--", "src").decode().split()
    return newest if changed or not before else before[0]


@pytest.fixture
def former_release(tmp_path: Path) -> Path:
    """The dkv of the landed commit, as its wheel has it."""
    pytest.importorskip("hatchling.build", reason="no hatchling: './dev setup' installs it")
    tree, place = tmp_path / "tree", tmp_path / "former"
    archive = tmp_path / "landed.tar"
    archive.write_bytes(git("archive", landed(), "--", "src", "pyproject.toml", "README.md"))
    with tarfile.open(archive) as packed:
        packed.extractall(tree, filter="data")
    alone = ("--no-deps", "--no-build-isolation", "--no-index")
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", *alone, "--wheel-dir", str(tmp_path), str(tree)]
    subprocess.run(words, check=True, timeout=120)
    (wheel,) = tmp_path.glob("dkv-*.whl")
    with zipfile.ZipFile(wheel) as packed_wheel:
        packed_wheel.extractall(place)
    compileall.compile_dir(place, quiet=1)
    return place


@pytest.fixture
def former_domain(tmp_path: Path, former_release: Path) -> Iterator[LocalDomain]:
    """Three managers of that release, and a store of three groups of two copies."""
    domain = LocalDomain(tmp_path / "domain", 3)
    domain.root.mkdir()
    for manager in domain.managers:
        manager.program = former_release
    try:
        domain.start()
        domain.create(STORE, "-InstanceCount", "2", "-ReplicationFactor", "2")
        yield domain
    finally:
        print(domain.account())
        domain.close()


def understood(domain: LocalDomain) -> None:
    """Every manager answers whoever asks, and is answered by the others, whatever release each is of."""
    for manager in domain.managers:
        asked = manager.client
        assert asked.read("/metrics")["silentServers"] == []
        heard = asked.read("/live")["numbers"]["managers"]
        assert [item["answeredIn"] is None for item in heard] == [False, False]
        assert [machine["answers"] for machine in asked.read("/machines")["machines"]] == [True, True, True]


@pytest.mark.full
def test_managers_and_then_engines_of_the_release_before_are_upgraded_and_no_client_sees_an_error(
    former_domain: LocalDomain,
) -> None:
    domain = former_domain
    understood(domain)
    names = [str(instance["instanceName"]) for instance in domain.client.store(STORE)["instances"]]
    engines = {name: domain.pid(STORE, name) for name in names}
    with traffic_to(domain, STORE) as seen:
        for manager in domain.managers:
            exchanged(manager, None)
            understood(domain)
            assert {name: domain.pid(STORE, name) for name in engines} == engines, "an upgrade of managers ends no engine"
        wait_for("the level has risen", lambda: domain.client.domain()["level"] == LEVEL)
        wait_for("nothing waits", lambda: not domain.client.waiting())
        output = domain.do("restart", "database", "--db-name", STORE, "--rolling")
    assert f"{len(names)} processes were replaced one after the other" in output.out
    assert not {domain.pid(STORE, name) for name in engines} & set(engines.values())
    assert seen.errors == [] and min(seen.acknowledged.values()) > 10
    seen.all_there()
