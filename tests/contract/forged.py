"""Packets of Valkey's cluster bus that no engine sent: what anybody can write who reaches a plain bus and knows a node's id."""

from __future__ import annotations

import socket
import ssl
import struct

SLOTS = 16_384
PRIMARY = 1  # a flag of the sender
SIZE = 2_256  # bytes of a PING without gossip


def ping(sender: str, host: str, port: int, bus: int, *, epoch: int, config_epoch: int | None = None) -> bytes:
    """A PING in the name of a known node, in which it leads every slot, with a higher epoch than anybody's; `config_epoch`: the
    epoch in which it leads them, if it is another.
    """
    led_in = epoch if config_epoch is None else config_epoch
    head = struct.pack(">4sIHHHHQQQ40s", b"RCmb", SIZE, 1, port, 0, 0, epoch, led_in, 0, sender.encode())
    tail = struct.pack(">40s46sH30sHHHB3s", bytes(40), host.encode(), 0, bytes(30), 0, bus, PRIMARY, 0, bytes(3))
    packet = head + b"\xff" * (SLOTS // 8) + tail
    assert len(packet) == SIZE
    return packet


def heard(host: str, port: int, packet: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """What the bus answers to a packet; nothing where it closes. A client of TLS 1.3 learns only then that its certificate was
    refused. Raises TimeoutError where it neither answers nor closes.
    """
    try:
        with socket.create_connection((host, port), timeout=5) as line:
            if context is None:
                line.sendall(packet)
                return line.recv(100)
            with context.wrap_socket(line, server_hostname=host) as packets:
                packets.sendall(packet)
                return packets.recv(100)
    except TimeoutError:
        raise
    except OSError:
        return b""
