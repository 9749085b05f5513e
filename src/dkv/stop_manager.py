"""`dkv manager stop`: end the manager that runs on a data directory, with its engines or without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from dkv.backend import member_process
from dkv.client import Credentials, Endpoint, HttpTransport, ManagerClient, ManagerRefused
from dkv.config import Settings
from dkv.data_dir import end_running_manager, running_manager, with_real_data_dir
from dkv.hints import hint
from dkv.manager import ManagerError
from dkv.store.contract import StoreError

DRAIN_WITHIN = 90.0  # s all engines of this server have to leave
REFUSED_WITHIN = 5.0  # s a refusal may last before it is reported: another copy may just be joining
END_WITHIN = 15.0  # s the manager has to end


def stop(settings: Settings, *, with_engines: bool, with_member: bool) -> int:
    """Stop the manager that runs on the data directory; with `with_engines` its engines hand over and leave first, with
    `with_member` its etcd member ends after it.
    """
    running = running_manager(settings.data_dir.absolute())
    if running is None:
        raise ManagerError(f"No manager runs on {settings.data_dir}.", "Nothing to stop; see --data-dir.")
    try:
        pid, host, port = int(str(running["pid"])), str(running["bind"]), int(str(running["port"]))
    except (KeyError, ValueError):
        raise ManagerError(
            f"A process holds {settings.data_dir}, and the lock file does not name it.",
            "If it just started, repeat the command; else find the process with fuser or lsof.",
        ) from None
    if with_engines:
        own = HttpTransport(Credentials({}))  # over its own socket: who may end it may use that
        drain(ManagerClient(Endpoint(host, port), own), str(running["serverId"]))
    end_running_manager(settings.data_dir.absolute(), pid)
    deadline = time.monotonic() + END_WITHIN
    while running_manager(settings.data_dir.absolute()) is not None:
        if time.monotonic() > deadline:
            raise ManagerError(
                f"Manager {running['serverId']} (pid {pid}) did not end within {END_WITHIN:.0f} s.",
                "See its log. Its engines keep running.",
            )
        time.sleep(0.05)
    if with_member:
        _end_member(settings)
    return 0


def _end_member(settings: Settings) -> None:
    """End the etcd member of this server. Raises ManagerError."""
    process = member_process(with_real_data_dir(settings), "")
    try:
        asyncio.run(process.end())
        left = process.running()
    except StoreError as error:
        raise ManagerError(f"The etcd member of this server was not ended: {error.detail}.", error.hint) from error
    if left is not None:
        raise ManagerError(f"The etcd member of this server, process {left.pid}, does not end.", f"See {process.spec.log}.")


def drain(client: ManagerClient, server_id: str) -> None:
    """Ask every process of one server to leave, TEs first, leaders handing over, and wait until none is left."""
    deadline = time.monotonic() + DRAIN_WITHIN
    patience = time.monotonic() + REFUSED_WITHIN
    requested: set[int] = set()
    while left := [p for p in client.processes() if p["server"] == server_id]:
        left.sort(key=lambda p: (p["type"] != "TE", p["startId"]))
        for process in (p for p in left if p["startId"] not in requested):
            try:
                client.request("DELETE", f"/api/1/processes/{process['startId']}")
                requested.add(process["startId"])
                patience = time.monotonic() + REFUSED_WITHIN
            except ManagerRefused as refused:
                if time.monotonic() > patience and refused.status != 404:  # 404: it ended by itself meanwhile
                    raise ManagerError(
                        f"{_called(process)} cannot be stopped. {refused.message}",
                        hint(refused.hint, " The manager keeps running."),
                    ) from refused
        if time.monotonic() > deadline:
            raise ManagerError(
                f"{', '.join(map(_called, left))} did not end within {DRAIN_WITHIN:.0f} s.",
                "See dkv show waiting; dkv shutdown process --kill ends a process at once.",
            )
        time.sleep(0.1)


def _called(process: Mapping[str, Any]) -> str:
    return f"{process['instanceName'] or 'TE ' + str(process['startId'])} of {process['store']}"
