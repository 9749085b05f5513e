"""A domain goes from one release of dkv to the next, manager by manager, while a client writes; and back, before the last one."""

from __future__ import annotations

import compileall
import json
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from dkv.client import Json, ManagerRefused
from tests.e2e.local_domain import LocalDomain, Manager, local_domain, wait_for
from tests.e2e.writers import at_work, clients_of

STORE = "Upgraded"
TREE = Path(__file__).parents[2] / "src" / "dkv"
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
