"""The one command for set-up: what a newcomer meets on a machine that has little."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.lint.repository import ROOT

TOOLS = ["bash", "env", "dirname", "cat", "mkdir", "rm", "mv", "sed", "tail", "sha256sum", "tr", "sh"]


def run(checkout: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """./dev from another folder, with an empty HOME."""
    home = checkout.parent / "home"
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [checkout / "dev", *words],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **settings},
    )


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout that holds nothing but what the set-up reads."""
    checkout = tmp_path / "dkv"
    checkout.mkdir()
    for name in ("dev", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout / name)
    return checkout


@pytest.fixture
def poor_path(tmp_path: Path) -> Path:
    """A PATH with the tools of every system, no uv, no apt-get, and a Python that is too old."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        path = shutil.which(tool)
        assert path, tool
        (folder / tool).symlink_to(path)
    old = folder / "python3"
    old.write_text('#!/bin/sh\ncase "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac\n')
    old.chmod(0o755)
    return folder


def test_an_option_that_the_set_up_does_not_have_is_refused_and_changes_nothing(bare: Path) -> None:
    answer = run(bare, "setup", "--browsers")
    assert answer.returncode == 1
    assert answer.stderr == "dev: ./dev setup has no option '--browsers': it has --fresh and --browser.\n"
    assert not (bare / ".venv").exists()


def test_a_python_too_old_is_refused_in_one_sentence(bare: Path, poor_path: Path) -> None:
    answer = run(bare, "setup", PATH=str(poor_path))
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert "3.11 or newer, and Python 3.9.2 was found" in answer.stderr
    assert not (bare / ".venv").exists()


def test_a_second_run_costs_nearly_nothing(bare: Path) -> None:
    """The check of a finished .venv is what each word of ./dev pays; here it is asked for alone."""
    venv = bare / ".venv" / "bin"
    venv.mkdir(parents=True)
    for name in ("python", "dkv"):
        (venv / name).write_text("#!/bin/sh\necho 3.11.0\n")
        (venv / name).chmod(0o755)
    (bare / ".venv" / "dkv-stamp").write_text(stamp(bare))
    before = time.monotonic()
    answer = run(bare, "playground", "--once")
    assert answer.stdout == "3.11.0\n", answer.stderr
    assert time.monotonic() - before < 2


def test_of_each_program_of_tests_that_is_not_there_one_sentence_says_what_is_skipped_and_how_to_get_it(
    bare: Path, poor_path: Path
) -> None:
    venv = bare / ".venv" / "bin"
    venv.mkdir(parents=True)
    for name in ("python", "dkv"):
        (venv / name).write_text("#!/bin/sh\necho 3.11.0\n")
        (venv / name).chmod(0o755)
    (bare / ".venv" / "dkv-stamp").write_text(stamp(bare))
    answer = run(bare, "setup", PATH=str(poor_path))
    assert answer.returncode == 0, answer.stderr
    for program, wanted in (("etcd", "etcd 3.4.23 or newer"), ("promtool", "promtool, which comes with Prometheus,")):
        lines = [line for line in answer.stderr.splitlines() if program in line]
        assert len(lines) == 1
        assert f"tests are skipped; install {wanted}" in lines[0]


def stamp(checkout: Path) -> str:
    """What a finished .venv says of itself."""
    digest = subprocess.run(["sha256sum"], input=(checkout / "pyproject.toml").read_bytes(), capture_output=True, check=True)
    return f"{checkout.resolve()}\npython 3.11.0\n{digest.stdout.decode()}"


@pytest.mark.full
def test_a_half_made_venv_is_made_again(tmp_path: Path) -> None:
    checkout = tmp_path / "dkv"
    subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "dkv-building").touch()
    answer = run(checkout, "setup")
    assert answer.returncode == 0, answer.stderr
    assert (checkout / ".venv" / "bin" / "dkv").exists()
    assert "nothing to do" in run(checkout, "setup").stderr
