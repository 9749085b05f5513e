"""Store: where an etcd cluster is and how a manager shows itself to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dkv.store.contract import Unusable

DEFAULT_PREFIX = "/dkv/"


@dataclass(frozen=True)
class EtcdAddress:
    """A cluster: its members' client addresses, `host:port` each, and the prefix of every key of the domain.

    With `tls` the members' certificates are judged by `authorities` and this manager shows `certificate`, if there is one.
    """

    endpoints: tuple[str, ...]
    tls: bool = False
    prefix: str = DEFAULT_PREFIX
    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    user: str = ""
    password_file: Path | None = None
    cluster: int | None = None  # the only cluster to be called, by its id; 0: whichever answers first; None: any
    attempt: float = 1.0  # s one member has to answer before another is called

    @property
    def named(self) -> str:
        """The members, for a sentence."""
        return ", ".join(self.endpoints)

    def read_password(self) -> str:
        """The user's password. Raises Unusable."""
        return _read(self.password_file).decode().strip() if self.password_file else ""

    def read_files(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Authorities, key and certificate as PEM. Raises Unusable."""
        if (self.certificate is None) != (self.key is None):
            raise Unusable("a client certificate for etcd needs its key", "Set both etcd_certificate_file and etcd_key_file.")
        named = (self.authorities, self.key, self.certificate)
        authorities, key, certificate = (_read(path) if path else None for path in named)
        return authorities, key, certificate

    def files_written(self) -> tuple[float, ...]:
        """When each certificate file was last written. Raises Unusable."""
        paths = [path for path in (self.authorities, self.key, self.certificate) if path]
        try:
            return tuple(os.stat(path).st_mtime for path in paths)
        except OSError as error:
            raise _unreadable(Path(error.filename), error) from None


def parse(text: str) -> tuple[tuple[str, ...], bool]:
    """The endpoints `https://a:2379,https://b:2379` names, and whether they speak TLS. Raises Unusable."""
    schemes, endpoints = set(), []
    for part in text.split(","):
        scheme, separator, rest = part.strip().rstrip("/").partition("://")
        host, colon, port = rest.rpartition(":")
        plain = bool(host) and not any(mark in host for mark in "/@ ?#")
        if not separator or scheme not in ("http", "https") or not colon or not plain or not port.isdecimal():
            named = part.strip().rpartition("@")[2]  # what stands before an @ may be a password
            raise Unusable(f"{named!r} is no address of an etcd member", "Write --state etcd:https://HOST:2379,...")
        schemes.add(scheme)
        endpoints.append(rest)
    if len(schemes) > 1:
        raise Unusable("some members of etcd are named with http, others with https", "Give all of them TLS, or none.")
    return tuple(dict.fromkeys(endpoints)), schemes == {"https"}


def normal_prefix(text: str) -> str:
    """A prefix that ends with exactly one slash. Raises Unusable."""
    prefix = text.rstrip("/") + "/"
    if not text.strip("/") or not prefix.isprintable():
        raise Unusable(f"{text!r} is no prefix of keys in etcd", f"Write a word of your own, such as {DEFAULT_PREFIX}.")
    return prefix


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> Unusable:
    return Unusable(f"the file {path} for etcd cannot be read ({error.strerror})", "Make it readable, or correct the path.")
