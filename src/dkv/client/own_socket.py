"""Client: the own socket of a manager on this machine: over it the kernel says who asks, and no secret is sent (decision 0050).

The manager is found by what the kernel says: which process listens at the address, and the lock of which data directory it has
open. A user's look reaches its own processes, root's reaches all.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from typing import NamedTuple

from dkv.constants import MANAGER_LOCK, MANAGER_SOCKET

_BOUND = re.compile(rf" /proc/(\d+)/fd/\d+/{re.escape(MANAGER_SOCKET)}$")
_LISTENS = "0A"  # a socket's state in /proc/net/tcp, whose listening sockets come first
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid, as SO_PEERCRED gives them


class OwnSocket(NamedTuple):
    """The data directory of a manager, and the process that has locked it, of which user."""

    directory: str
    pid: int
    uid: int


def find(host: str, port: int) -> OwnSocket | None:
    """The manager that listens there, if this user may use its socket; None for any other, and where none listens."""
    try:
        listening = {f"socket:[{inode}]" for inode, _ in _listening(host, port)}
        for pid in _managers() if listening else ():
            opened = _opened(pid)
            directory = next((os.path.dirname(path) for path in opened if os.path.basename(path) == MANAGER_LOCK), "")
            if directory and listening & opened and os.access(os.path.join(directory, MANAGER_SOCKET), os.W_OK):
                return OwnSocket(directory, pid, os.stat(f"/proc/{pid}").st_uid)
    except OSError:
        pass  # a system without these files
    return None


def only_one() -> str:
    """Where the manager of this very user listens on this machine, as `host:port`; "" where none is known, or several are.

    Not that of another user, whom root could ask too: anybody can start a manager.
    """
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as table:
            pids = {int(pid) for line in table for pid in _BOUND.findall(line)}
        addresses = [address for pid in pids if os.stat(f"/proc/{pid}").st_uid == os.geteuid() and (address := _address(pid))]
    except OSError:
        return ""  # a system without these files, or one that has just ended
    return addresses[0] if len(addresses) == 1 else ""


def _address(pid: int) -> str:
    """Where a manager listens, as it wrote into the lock that it has open; "" unless it does. Raises OSError."""
    lock = next((path for path in _opened(pid) if os.path.basename(path) == MANAGER_LOCK), "")
    if not lock:
        return ""
    with suppress(ValueError, KeyError, TypeError), open(lock, encoding="utf-8") as file:
        written = json.load(file)
        host, port = str(written["bind"]), int(written["port"])
        listens = find(host, port)
        if listens and listens.pid == pid:
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return ""


def listeners(host: str, port: int) -> set[int]:
    """The uids of those whose processes a connection to there may reach, on this machine; none where the kernel does not say."""
    try:
        return {uid for address in _addresses(host) for uid in _reached(address, port)}
    except OSError:
        return set()  # a system without these files


def _reached(address: str, port: int) -> set[int]:
    """Who listens at that very address; where nobody does, who listens at all of them."""
    version4 = ":" not in address
    exact, all_addresses = ((address, f"::ffff:{address}"), ("0.0.0.0", "::")) if version4 else ((address,), ("::",))
    return _uids(exact, port) or _uids(all_addresses, port)


def _uids(addresses: Iterable[str], port: int) -> set[int]:
    return {uid for address in addresses for _, uid in _listening(address, port)}


def connect(own_socket: OwnSocket, timeout: float) -> socket.socket:
    """A connection to that very process. Raises OSError."""
    folder = os.open(own_socket.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(f"/proc/self/fd/{folder}/{MANAGER_SOCKET}")  # the whole path may be longer than an address may be
        pid, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if (pid, uid) != (own_socket.pid, own_socket.uid):
            raise ConnectionRefusedError
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(folder)
    return connection


def _listening(host: str, port: int) -> Iterator[tuple[str, int]]:
    """The sockets that listen at an address: inode, and the uid of whoever made it. Raises OSError."""
    for address in _addresses(host):
        version6 = ":" in address
        try:
            packed = socket.inet_pton(socket.AF_INET6 if version6 else socket.AF_INET, address)
        except OSError:
            return  # a name: of another machine
        wanted = f"{_in_hex(packed)}:{port:04X}"
        with suppress(FileNotFoundError), open(f"/proc/net/tcp{'6' if version6 else ''}", encoding="ascii") as table:
            next(table)
            for line in table:
                fields = line.split()
                if fields[3] != _LISTENS:
                    break
                if fields[1] == wanted:
                    yield fields[9], int(fields[7])


def _addresses(host: str) -> tuple[str, ...]:
    return ("127.0.0.1", "::1") if host == "localhost" else (host,)


def _in_hex(packed: bytes) -> str:
    """An address as the kernel writes it: each four bytes as a number of this machine."""
    words = (packed[at : at + 4] for at in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)


def _managers() -> Iterator[int]:
    """The processes that say they are managers: each bound its own socket by a name with its pid, which the kernel shows.

    Read within 0.1 ms. The table of file locks makes its reader wait up to 20 ms for the kernel, so it comes last: a manager that
    was started before its dkv was upgraded named its socket without a pid.
    """
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as table:
        yield from {int(pid): None for line in table for pid in _BOUND.findall(line)}
    with open("/proc/locks", encoding="ascii") as table:
        yield from {int(fields[4]): None for fields in map(str.split, table) if fields[1] == "FLOCK"}


def _opened(pid: int) -> set[str]:
    """What a process has open; nothing for a process that this user may not look at."""
    opened = set()
    with suppress(OSError), closing(os.scandir(f"/proc/{pid}/fd")) as descriptors:
        for descriptor in descriptors:
            with suppress(FileNotFoundError):
                opened.add(os.readlink(descriptor.path))
    return opened
