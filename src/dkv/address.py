"""Addresses as texts."""

from __future__ import annotations

import socket  # the module ipaddress would cost each cold start of the command line 3 ms

_LOOPBACK6 = bytes(15) + b"\x01"


def endpoint_text(host: str, port: object) -> str:
    """`host:port` as people write it, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_address(host: str) -> bool:
    """Whether a host is written as an IP address, not as a name."""
    from ipaddress import ip_address  # a command line without a survey does not pay for it

    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether a host is reached from its own machine only: a loopback address, or localhost."""
    packed = packed_address(host)
    return host == "localhost" or packed[:1] == b"\x7f" or packed == _LOOPBACK6


def is_same_machine(host: str, other: str) -> bool:
    """Whether two addresses of managers are of one machine for sure: the same, or both loopback."""
    return host == other or (is_loopback(host) and is_loopback(other))


def packed_address(host: str) -> bytes:
    """The 4 or 16 bytes of an address; none for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
    return b""
