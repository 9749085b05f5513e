"""The playground as a program: the whole scenario holds, a planted loss is found, and a killed one leaves nothing for ever."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.etcd_cluster import needs_etcd
from tests.e2e.hosts import needs_hosts
from tests.e2e.local_domain import DKV, MARK, marked, wait_for
from tests.tls_program import tls_program_or_none

SCENARIO = 240.0  # s a scenario may take on a busy machine


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables of playgrounds of this test's own. At the end nothing of them may live."""
    place = tmp_path / "tmp"
    place.mkdir()
    variables = {k: v for k, v in os.environ.items() if not k.startswith("DKV_")}
    yield variables | {MARK: str(tmp_path), "TMPDIR": str(place), "XDG_CONFIG_HOME": str(tmp_path), "COLUMNS": "200"}
    left = marked(tmp_path)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, "a playground left processes behind"


@pytest.mark.full
@needs_hosts
@needs_etcd
def test_three_hosts_lose_one_and_one_is_cut_off_and_no_confirmed_write_is_lost(environment: dict[str, str]) -> None:
    command = [str(DKV), "playground", "--hosts", "3", "--once"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SCENARIO, check=False)
    assert done.returncode == 0, done.stderr
    assert "all of it held" in done.stderr and "server-1, server-2, server-3 vote" in done.stderr
    assert re.search(r"confirmed +dkv.confirm +(\d+) +\1 +0$", done.stdout, re.M), done.stdout


@pytest.fixture
def play(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a playground that stays; what it says goes to a file."""
    children: list[subprocess.Popen[str]] = []

    def start(*words: str, **extra: str) -> subprocess.Popen[str]:
        with (tmp_path / f"said-{len(children)}").open("w") as out:
            child = subprocess.Popen(
                [str(DKV), "playground", "--servers", "1", *words],
                env=environment | extra,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                text=True,
            )
        children.append(child)
        file = tmp_path / f"said-{len(children) - 1}"
        wait_for("a playground", lambda: "Ctrl-C stops" in file.read_text() or child.poll() is not None)
        return child

    yield start
    for child in children:
        if child.poll() is None:
            child.kill()
        child.wait()


def once(environment: dict[str, str], *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(DKV), "playground", "--once", *words],
        env=environment | extra,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=SCENARIO,
        check=False,
    )


def test_the_whole_scenario_holds(environment: dict[str, str], tmp_path: Path) -> None:
    output = once(environment, DKV_TEST_KILLS="3")
    assert output.returncode == 0, output.stdout + output.stderr
    assert "all of it held" in output.stderr
    assert "3 kills" in output.stdout
    assert "0 errors" in output.stdout
    assert "killed by signal 9, sender unknown" in output.stdout
    counts = re.findall(r"^ (acknowledged|confirmed) .*?(\d+) +(\d+) +(\d+) *$", output.stdout, re.MULTILINE)
    assert {promise for promise, *_ in counts} == {"acknowledged", "confirmed"}
    for _, keys, back, lost in counts:
        assert keys == back and lost == "0"
    assert max(int(keys) for promise, keys, *_ in counts if promise == "confirmed") > 20
    assert not list((tmp_path / "tmp").glob("dkv-playground-*")), "a scenario that held leaves no directory behind"


def test_a_planted_loss_is_found(environment: dict[str, str], tmp_path: Path) -> None:
    """With one server and one instance, on ports instead of addresses: the shortest way through everything. Over TLS, where there
    is a program that has it: the scenario above speaks plain.
    """
    program = tls_program_or_none()
    over_tls = {"DKV_VALKEY_SERVER": program} if program else {}
    words = ("--servers", "1", *(("--tls",) if program else ()))
    output = once(environment, *words, DKV_TEST_KILLS="1", DKV_TEST_DROP_KEY="1", DKV_TEST_NO_ADDRESSES="1", **over_tls)
    assert output.returncode == 1, output.stdout + output.stderr
    assert "1 promised keys are lost" in output.stderr and "plain:0" in output.stderr
    assert "127.0.0.1:" in output.stdout
    assert list((tmp_path / "tmp").glob("dkv-playground-*")), "what is left of a failed scenario is kept"


def test_two_at_once_and_what_a_killed_one_leaves(play: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    first, second = play(), play()
    outputs = [(tmp_path / f"said-{n}").read_text() for n in (0, 1)]
    endpoints = [re.findall(r"^Endpoints: +(\S+:\d+)", text, re.MULTILINE) for text in outputs]
    assert endpoints[0] and endpoints[1] and endpoints[0] != endpoints[1], outputs

    first.kill()
    first.wait()
    second.send_signal(signal.SIGINT)
    assert second.wait(60) == 0
    assert len(marked(tmp_path)) >= 2, "manager and engine of the killed one live on"

    third = play()
    output = (tmp_path / "said-2").read_text()
    assert re.search(r"was killed; [2-9] processes that it left were stopped", output), output
    third.send_signal(signal.SIGTERM)
    assert third.wait(60) == 0
    wait_for("nothing is left", lambda: not marked(tmp_path))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--servers", "0"), "--servers cannot be '0'"),
        (("--server", "2", "--onse"), "Did you mean --once?"),
        (("--replication-factor", "3", "--once"), "-ReplicationFactor 3 needs 3 nodes"),
    ],
)
def test_what_cannot_be_played_is_refused(environment: dict[str, str], words: tuple[str, ...], says: str) -> None:
    output = subprocess.run(
        [str(DKV), "playground", *words],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    assert output.returncode in (1, 2)
    assert says in output.stderr, output
    assert "Traceback" not in output.stderr
