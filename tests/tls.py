"""Certificates for tests: an authority, leaves in files, and the contexts of clients that believe it."""

from __future__ import annotations

import os
import ssl
import time
from pathlib import Path

from dkv.access import certificates, crypto
from dkv.access.certificate_files import CertificateFiles
from dkv.access.certificates import Owner, Reachable
from dkv.access.crypto import KeyPair

Pair = tuple[Path, Path]


def now() -> int:
    return time.time_ns() // 1_000_000


def client(bundle: str, pair: Pair | None = None) -> ssl.SSLContext:
    """The context of a client that believes a bundle, and shows a certificate if it has one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=bundle)
    if pair:
        context.load_cert_chain(*pair)
    return context


class Place:
    """The certificate files of one server, and an authority that signs for it."""

    def __init__(self, directory: Path, domain: str = "d0", server: str = "u1", address: str = "127.0.0.1") -> None:
        self.directory = directory
        self.owner, self.server = Owner(domain), Reachable(server, (address,))
        self.authority = certificates.new_authority(self.owner, now())
        self.files = CertificateFiles(directory)

    @property
    def bundle(self) -> str:
        return self.authority.certificate

    def write(self, name: str, pair: KeyPair) -> Pair:
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        certificate.write_text(pair.certificate)
        key.write_text(pair.key)
        return certificate, key

    def leaf(self, name: str, authority: KeyPair | None = None, at: int = 0, uid: str = "") -> Pair:
        """A leaf of this server, or of the one with that uid, in files of its own."""
        server = Reachable(uid, ("127.0.0.1",)) if uid else self.server
        return self.write(name, certificates.new_leaf(authority or self.authority, self.owner, server, at or now()))

    def install(self, name: str, bundle: str = "", authority: KeyPair | None = None) -> None:
        """Have the server's own files hold a new leaf, and a bundle; each is replaced whole."""
        certificate, key = self.leaf(name, authority)
        self.replace(self.files.key, key.read_text())
        self.replace(self.files.leaf, certificate.read_text())
        self.replace(self.files.bundle, bundle or self.bundle)

    def replace(self, path: Path, text: str) -> None:
        path.with_suffix(".new").write_text(text)
        os.replace(path.with_suffix(".new"), path)

    def serial(self, name: str) -> int:
        return crypto.read((self.directory / f"{name}.pem").read_text()).serial
