"""Daemon: the move of the domain state from a file to the managers' own etcd members, between two times of serving."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dkv.backend import move_to_members
from dkv.config import Settings
from dkv.data_dir import DataDir
from dkv.errors import HintedError
from dkv.kernel import boottime
from dkv.log import logger
from dkv.manager import ManagerError
from dkv.store.contract import StoreError

log = logger("manager")


def moved_settings(settings: Settings, data_dir: DataDir, domain: str, move: StateMove, *, required: bool) -> Settings:
    """The settings with which the manager goes on after a move of the state: the same if it failed, and is not `required`. Raises
    ManagerError, StoreError.
    """
    move.wanted = False
    try:
        settings = asyncio.run(move_to_members(settings, data_dir.uid, domain))
        log.info("the domain state moved to etcd members of the managers", domain=domain)
    except (StoreError, ManagerError) as error:
        if required:
            raise
        move.failed(error)
    return settings


class StateMove:
    """That the domain state is to move to an etcd member of this server: `want` ends what serves, so that it can."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.trouble = ""  # why the last attempt failed, as a sentence
        self.failed_at = 0.0  # and when, s
        self.end: Callable[[], None] = lambda: None

    def want(self) -> None:
        """Begin the move."""
        self.wanted, self.trouble = True, ""
        self.end()

    def stop(self) -> None:
        """End what serves, for good."""
        self.wanted = False
        self.end()

    def failed(self, error: HintedError | StoreError) -> None:
        """The state stayed where it is."""
        self.trouble, self.failed_at = str(error), boottime()
        log.warning("the domain state could not be moved to etcd", error=str(error))
