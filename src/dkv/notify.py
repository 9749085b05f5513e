"""What a service manager such as systemd is told of this process: that it is ready, works, or ends, by a datagram."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress

LONGEST_PAUSE_US = 600_000_000


class ServiceManager:
    """The service manager that started this process; without one nothing is said. Its variables are taken out of the environment:
    they are not for the processes that this one starts.

    `sign_every` is how many seconds may lie between two signs of life, None where none is wanted.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        usec, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        wanted = bool(address) and usec.isdecimal() and int(usec) > 0 and pid in ("", str(os.getpid()))
        self._within_us = int(usec) if wanted else 0
        self.sign_every = self._within_us / 2_000_000 if wanted else None

    def ready(self, status: str) -> None:
        """What was started serves now; `status` is shown beside it."""
        self._tell("READY=1", f"STATUS={status}", *self._signs_within(self._within_us))

    def works(self) -> None:
        """A sign of life."""
        self._tell("WATCHDOG=1")

    def pauses(self) -> None:
        """Nothing serves until it is ready again: the state is being moved, and no sign of life comes meanwhile."""
        self._tell("STATUS=the domain state is being moved", *self._signs_within(LONGEST_PAUSE_US))

    def _signs_within(self, microseconds: int) -> list[str]:
        return [f"WATCHDOG_USEC={microseconds}"] if self.sign_every is not None else []

    def ends(self) -> None:
        """It ends because it was asked to."""
        self._tell("STOPPING=1")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto("\n".join(lines).encode(), self._address)
