"""Daemon: settings that are read again while the manager serves, when SIGHUP says that their file changed: labels, so far."""

from __future__ import annotations

import os
import signal
from asyncio import AbstractEventLoop
from collections.abc import Callable
from dataclasses import fields, replace

from dkv.config import ConfigError, Settings
from dkv.log import logger
from dkv.manager import Manager

log = logger("manager")

LIVE = ("labels",)
"""Settings that are taken over at once."""


class Reload:
    """The settings as they were read last. `read` reads them anew and may raise ConfigError; None: there is nothing to read."""

    def __init__(self, settings: Settings, read: Callable[[], Settings] | None) -> None:
        self._read = read
        self._settings = settings

    def applied(self, settings: Settings) -> Settings:
        """Those settings with what was taken over since they were made."""
        return replace(settings, **{name: getattr(self._settings, name) for name in LIVE})

    def on_signal(self, loop: AbstractEventLoop, manager: Manager) -> None:
        """Read them again at SIGHUP. A manager that a person started at a terminal ends with that, as programs do."""
        if self._read is not None and not is_at_a_terminal():
            loop.add_signal_handler(signal.SIGHUP, self.again, manager)

    def again(self, manager: Manager) -> None:
        """Read them, and take over what can be. What cannot be read changes nothing."""
        assert self._read is not None
        try:
            settings = self._read()
        except ConfigError as error:
            log.warning("the settings were not read again", error=error.message, hint=str(error.hint))
            return
        later = [name for name in changed(self._settings, settings) if name not in LIVE]
        self._settings = settings
        manager.liveness.relabel(tuple(sorted(settings.labels.items())))
        log.info("the settings were read again", labels=dict(settings.labels), wait_for_a_restart=later)


def changed(before: Settings, after: Settings) -> list[str]:
    """The names of the settings that differ."""
    return [field.name for field in fields(Settings) if getattr(before, field.name) != getattr(after, field.name)]


def is_at_a_terminal() -> bool:
    """Whether a terminal is what this process reads from."""
    try:
        return os.isatty(0)
    except OSError:
        return False
