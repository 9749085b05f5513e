"""Tests of the engine contract: somebody's own server, which belongs to no domain and claims every hash slot."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.contract.ports import free_port

STRANGER = "f" * 40
NOBODY = 65534


class Stranger:
    """A server of another user of the machine, where the test may become one."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port

    @classmethod
    async def start(
        cls, directory: Path, binary: str, epoch: int, address: str = "127.0.0.1", *, more: Sequence[str] = (), alien: bool = True
    ) -> Stranger:
        """`more` are further words of its command line; unless `alien` it is a server of our own user."""
        directory.mkdir(mode=0o700, exist_ok=True)
        port, cluster = free_port(), free_port()
        where = f"{address}:{port}@{cluster}"
        (directory / "nodes.conf").write_text(
            f"{STRANGER} {where} myself,master - 0 0 {epoch} connected 0-16383\nvars currentEpoch {epoch} lastVoteEpoch 0\n"
        )
        words = [
            "--bind",
            address,
            "--port",
            str(port),
            "--cluster-port",
            str(cluster),
            "--cluster-enabled",
            "yes",
            "--save",
            "",
            "--dir",
            ".",
            "--logfile",
            "log",
            *more,
        ]
        self = cls(_started(directory, [_reachable(binary, directory), *words], alien), port)
        for _ in range(500):
            if await self._answers(address):
                return self
            await asyncio.sleep(0.02)
        raise AssertionError("the stranger's server does not answer")

    async def _answers(self, address: str) -> bool:
        self._address = address
        try:
            return (await self.say("PING")).startswith("+PONG")
        except OSError:
            return False

    async def say(self, *words: str) -> str:
        """A command of its own, and the first line of the answer."""
        reader, writer = await asyncio.open_connection(self._address, self.port)
        try:
            writer.write((" ".join(words) + "\r\n").encode())
            return (await reader.readline()).decode().strip()
        finally:
            writer.close()

    async def meet(self, address: str, client_port: int, cluster_port: int) -> None:
        """Join the cluster of that engine, as anybody can who reaches its cluster port."""
        assert await self.say("CLUSTER", "MEET", address, str(client_port), str(cluster_port)) == "+OK"

    async def end(self) -> None:
        self._process.kill()
        await asyncio.to_thread(self._process.wait)


def _started(directory: Path, command: list[str], alien: bool) -> subprocess.Popen[bytes]:
    """As another user, where that is wanted and the test may become one."""
    who: dict[str, Any] = {}
    if alien and may_become_nobody():
        who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        for path in (directory, directory / "nodes.conf"):
            os.chown(path, NOBODY, NOBODY)
    return subprocess.Popen(command, cwd=directory, **who)


def _reachable(binary: str, directory: Path) -> str:
    """A copy of the program that anybody may run."""
    copy = directory / "server"
    if not copy.exists():
        shutil.copy(binary, copy)
        copy.chmod(0o755)
    return "./server"


def may_become_nobody() -> bool:
    """Whether this test may start programs as another user."""
    return os.geteuid() == 0
