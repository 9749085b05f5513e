"""A domain of hosts that join with tokens; its state is where the managers themselves keep it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dkv.kernel import command_line
from dkv.members.child import DIRECTORY, RECORD
from tests.e2e.hosts import Domain, Host
from tests.e2e.local_domain import DKV, Said, wait_for


class JoinedDomain(Domain):
    """Managers on hosts, each with its own data directory. The first founds the domain, the others join it by a token."""

    def found(self, host: Host, *words: str) -> None:
        self._run(host, *words)

    def join(self, host: Host, by: Host, **environ: str) -> Said:
        """Have a host join; what its manager printed, if it ended."""
        return self.join_with(self.do(by, "create", "join-token", "--managers", by.address).strip(), host, by, **environ)

    def join_with(self, token: str, host: Host, by: Host, **environ: str) -> Said:
        return self._run(host, "--join", by.address, DKV_JOIN_TOKEN=token, **environ)

    def restart(self, host: Host, **environ: str) -> Said:
        return self._run(host, **environ)

    def _run(self, host: Host, *words: str, **environ: str) -> Said:
        command = [str(DKV), "manager", "run", "--server-id", f"s{self.members.index(host) + 1}", "--bind", host.address]
        command += ["--data-dir", str(self.data_dir(host)), *words]
        begins = self.log(host).stat().st_size if self.log(host).exists() else 0
        with self.log(host).open("ab") as log:
            process = subprocess.Popen(
                [*host.inside, *command], env=self.environ | environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self.processes[host.address] = process

        def printed() -> str:
            return self.log(host).read_bytes()[begins:].decode()

        wait_for("it serves", lambda: "manager runs" in printed() or process.poll() is not None, 60)
        return Said(process.poll() or 0, printed(), "")

    def member(self, host: Host) -> int:
        """The pid of a host's etcd member."""
        return int(json.loads((self.data_dir(host) / DIRECTORY / RECORD).read_text())["pid"])

    def kill_manager(self, host: Host) -> None:
        process = self.processes[host.address]
        process.kill()
        process.wait(30)

    def kill_all(self, host: Host) -> None:
        """Everything on that host ends, as when its power goes."""
        host.kill_all()
        self.processes[host.address].wait(30)

    def engines(self, host: Host) -> list[int]:
        """The pids of the engines that run on a host."""
        return sorted(pid for pid in host.processes() if "valkey" in command_line(pid).partition(" ")[0])

    def end_engines(self, host: Host) -> None:
        for pid in self.engines(host):
            os.kill(pid, signal.SIGKILL)

    @contextmanager
    def unchanged(self, by: Host) -> Iterator[None]:
        """What is done inside leaves the domain as it was, as that host sees it."""

        def seen() -> list[dict[str, Any]]:
            keys = ("serverId", "manager", "alive", "bootId", "stateMember", "certificateUntil")
            return [{key: server[key] for key in keys} for server in self.servers(by)]

        before = seen()
        yield
        assert seen() == before

    def voters(self, host: Host) -> list[str]:
        return sorted(server["serverId"] for server in self.servers(host) if server["stateMember"] == "voter")

    def servers(self, host: Host) -> list[dict[str, Any]]:
        output = self.dkv(host, "status", "--managers", host.address, "--output-format", "json")
        return list(json.loads(output.out)["domain"]["servers"]) if output.out else []
