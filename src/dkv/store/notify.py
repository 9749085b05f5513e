"""Store: how processes that share a state file notify each other of a change.

Each process binds a unix datagram socket in a small directory; who committed sends one byte to every socket there.
A notification may get lost (full buffer, frozen reader, no directory): a process that listens polls slowly as well.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dkv import files


class Notifier:
    """One end of the wire. `on_notice` is called on the loop that opened it."""

    def __init__(self, directory: Path, on_notice: Callable[[], None]) -> None:
        """Never fails: where no socket can be made, notifications are neither sent nor received."""
        self._on_notice = on_notice
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._directory = -1
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._loop = asyncio.get_running_loop()
        try:
            with files.parent_of(files.without_links(directory)) as above, suppress(FileExistsError):
                os.mkdir(directory.name, files.PRIVATE, dir_fd=above)
            self._directory = files.hold(directory)
            self._socket.bind(self._address(self._name))
        except OSError:
            return
        self._loop.add_reader(self._socket.fileno(), self._heard)

    def send(self) -> None:
        """Notify all other handles; sweep the sockets that processes left behind. May be called on any thread."""
        try:
            names = os.listdir(self._address(""))
        except OSError:
            return
        for name in names:
            if name != self._name:
                self._send_to(name)

    def close(self) -> None:
        """Stop listening and take the socket away."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        if self._directory >= 0:
            self._unlink(self._name)
            os.close(self._directory)
            self._directory = -1

    def _address(self, name: str) -> str:
        # Through the directory's handle: a unix address holds 107 bytes, which a data directory's path may exceed.
        return f"/proc/self/fd/{self._directory}/{name}"

    def _send_to(self, name: str) -> None:
        try:
            self._socket.sendto(b"!", self._address(name))
        except ConnectionRefusedError:
            self._unlink(name)  # no process will ever listen there again: names are never used twice
        except OSError:
            pass

    def _unlink(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._directory)
        except OSError:
            pass

    def _heard(self) -> None:
        try:
            while self._socket.recv(16):
                pass
        except OSError:
            pass
        self._on_notice()
