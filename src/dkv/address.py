"""Addresses as texts."""

from __future__ import annotations


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
    from ipaddress import ip_address  # a command line without a survey does not pay for it

    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
