"""TLS contexts on real connections: who gets through, and that leaf and authority change under an open listener."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dkv.access import certificates, contexts, crypto
from dkv.access.certificates import Owner, Reachable
from dkv.access.crypto import KeyPair, Malformed
from dkv.access.moments import moment

OWNER = Owner("d0")
HERE = Reachable("u1", ("127.0.0.1",))


def now() -> int:
    import time

    return time.time_ns() // 1_000_000


class Listener:
    """A listener that answers each connection with the subject's URI of the certificate it was shown, over TLS."""

    def __init__(self, listening: contexts.Listening) -> None:
        self.listening = listening
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self.socket.accept()
            except OSError:
                return
            plain.settimeout(5)
            try:
                with self.listening.context.wrap_socket(plain, server_side=True) as connection:
                    shown = connection.getpeercert(binary_form=True)
                    uris = crypto.read(shown).uris if shown else ("nobody",)
                    connection.sendall(uris[0].encode())
            except OSError:  # a handshake that failed
                plain.close()

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(5)

    def ask(self, context: ssl.SSLContext, name: str | None = "127.0.0.1") -> tuple[str, int]:
        """What the listener answers, and the serial number of its leaf. Raises OSError."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain:
            with context.wrap_socket(plain, server_hostname=name) as connection:
                answer = connection.recv(100).decode()
                if not answer:
                    raise ConnectionResetError("closed without an answer")
                leaf = connection.getpeercert(binary_form=True)
                assert leaf
                return answer, crypto.read(leaf).serial


class Place:
    """An authority, and leaves of it in files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = certificates.new_authority(OWNER, now())

    def files(self, name: str, pair: KeyPair) -> tuple[Path, Path]:
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        certificate.write_text(pair.certificate)
        key.write_text(pair.key)
        return certificate, key

    def leaf(self, name: str, authority: KeyPair | None = None, at: int = 0) -> tuple[Path, Path]:
        return self.files(name, certificates.new_leaf(authority or self.authority, OWNER, HERE, at or now()))

    def serial(self, name: str) -> int:
        return crypto.read((self.directory / f"{name}.pem").read_text()).serial


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def listener(place: Place) -> Iterator[Listener]:
    listener = Listener(contexts.Listening(*place.leaf("first"), place.authority.certificate))
    yield listener
    listener.close()


def test_a_caller_with_a_leaf_is_known_and_one_without_is_nobody(place: Place, listener: Listener) -> None:
    bundle = place.authority.certificate
    assert listener.ask(contexts.calling(bundle))[0] == "nobody"
    assert listener.ask(contexts.calling(bundle, *place.leaf("caller")))[0] == "dkv://d0/server/u1"


def test_a_leaf_that_is_foreign_or_expired_ends_the_connection(place: Place, listener: Listener) -> None:
    other = certificates.new_authority(OWNER, now())
    foreign = place.leaf("foreign", other)
    expired = place.leaf("expired", at=now() - 200 * certificates.DAY)
    future = place.leaf("future", at=now() + certificates.DAY)
    for pair in (foreign, expired, future):
        with pytest.raises(OSError):
            listener.ask(contexts.calling(place.authority.certificate, *pair))


def test_a_caller_believes_only_its_own_authority_and_the_right_address(place: Place, listener: Listener) -> None:
    other = certificates.new_authority(OWNER, now())
    with pytest.raises(ssl.SSLCertVerificationError):
        listener.ask(contexts.calling(other.certificate))
    with pytest.raises(ssl.SSLCertVerificationError):
        listener.ask(contexts.calling(place.authority.certificate), name="127.0.0.2")


def test_old_tls_and_plain_http_are_turned_away(place: Place, listener: Listener) -> None:
    old = contexts.calling(place.authority.certificate)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError):
        listener.ask(old)
    with socket.create_connection(("127.0.0.1", listener.port), timeout=5) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in _all(plain)
    assert listener.ask(contexts.calling(place.authority.certificate))[0] == "nobody"


def _all(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1_000)
    except OSError:
        return b""


def test_a_renewed_leaf_is_shown_from_the_next_handshake_on(place: Place, listener: Listener) -> None:
    caller = contexts.calling(place.authority.certificate)
    assert listener.ask(caller)[1] == place.serial("first")
    listener.listening.renew(*place.leaf("second"))
    assert listener.ask(caller)[1] == place.serial("second") != place.serial("first")


def test_a_pair_that_does_not_match_is_refused_and_the_old_leaf_stays(place: Place, listener: Listener) -> None:
    certificate, _ = place.leaf("second")
    _, key = place.leaf("third")
    missing = place.directory / "missing.pem"
    for pair in ((certificate, key), (missing, key), (certificate, missing)):
        with pytest.raises(Malformed):
            listener.listening.renew(*pair)
    assert listener.ask(contexts.calling(place.authority.certificate))[1] == place.serial("first")


def test_an_authority_is_changed_without_closing_the_listener(place: Place, listener: Listener) -> None:
    old, new = place.authority, certificates.new_authority(OWNER, now())
    by_old, by_new = place.leaf("by-old"), place.leaf("by-new", new)
    both = new.certificate + old.certificate
    with pytest.raises(OSError):
        listener.ask(contexts.calling(both, *by_new))
    listener.listening.trust(both)  # PREPARED
    for pair in (by_old, by_new):
        assert listener.ask(contexts.calling(both, *pair))[0] == "dkv://d0/server/u1"
    listener.listening.renew(*by_new)  # SWITCHED
    assert listener.ask(contexts.calling(both, *by_old))[1] == place.serial("by-new")
    listener.listening.trust(new.certificate)  # DONE
    assert listener.ask(contexts.calling(new.certificate, *by_new))[0] == "dkv://d0/server/u1"
    with pytest.raises(OSError):
        listener.ask(contexts.calling(both, *by_old))


def test_a_callers_missing_server_name_changes_nothing(place: Place, listener: Listener) -> None:
    new = certificates.new_authority(OWNER, now())
    listener.listening.trust(new.certificate)
    caller = contexts.calling(place.authority.certificate, *place.leaf("by-new", new))
    caller.check_hostname = False
    assert listener.ask(caller, name=None)[0] == "dkv://d0/server/u1"


def test_a_bundle_that_is_none_is_refused(place: Place, listener: Listener) -> None:
    for bundle in ("", "no certificate"):
        with pytest.raises(Malformed):
            listener.listening.trust(bundle)
        with pytest.raises(Malformed):
            contexts.calling(bundle)
    assert listener.ask(contexts.calling(place.authority.certificate))[0] == "nobody"


def test_moments_are_read_by_people() -> None:
    assert moment(0) == "1970-01-01T00:00:00Z" and moment(10**20) == f"{10**20} ms"
