"""TLS contexts on real connections: who gets through, and that leaf and authority change under an open listener."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dkv.access import certificates, crypto
from dkv.access.certificate_files import CertificateFiles
from dkv.access.contexts import Contexts
from dkv.access.crypto import Malformed
from dkv.access.moments import moment
from tests.tls import Place, client, now


class Listener:
    """A listener that answers each connection with the subject's URI of the certificate it was shown, over TLS."""

    def __init__(self, contexts: Contexts) -> None:
        self.contexts = contexts
        self.registered: list[bytes] = []
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
                context = self.contexts.accepting(self.registered)
                with context.wrap_socket(plain, server_side=True) as connection:
                    shown = connection.getpeercert(binary_form=True)
                    read = crypto.read(shown) if shown else None
                    uris = (read.uris or (read.subject,)) if read else ("nobody",)
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


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.install("first")
    return place


@pytest.fixture
def warned() -> list[str]:
    return []


@pytest.fixture
def listener(place: Place, warned: list[str]) -> Iterator[Listener]:
    listener = Listener(Contexts(place.files, warned.append))
    yield listener
    listener.close()


def test_a_caller_with_a_leaf_is_known_and_one_without_is_nobody(place: Place, listener: Listener) -> None:
    assert listener.ask(client(place.bundle))[0] == "nobody"
    assert listener.ask(client(place.bundle, place.leaf("caller")))[0] == "dkv://d0/server/u1"


def test_a_leaf_that_is_foreign_or_expired_ends_the_connection(place: Place, listener: Listener) -> None:
    other = certificates.new_authority(place.owner, now())
    foreign = place.leaf("foreign", other)
    expired = place.leaf("expired", at=now() - 200 * certificates.DAY)
    future = place.leaf("future", at=now() + certificates.DAY)
    for pair in (foreign, expired, future):
        with pytest.raises(OSError):
            listener.ask(client(place.bundle, pair))


def test_a_registered_certificate_gets_through_whoever_signed_it_and_no_other_of_that_signer(
    place: Place, listener: Listener, warned: list[str]
) -> None:
    other = certificates.new_authority(place.owner, now())
    ann, bob = place.leaf("ann", other), place.leaf("bob", other)
    listener.registered = [b"no certificate", crypto.in_der(ann[0].read_text())]
    assert listener.ask(client(place.bundle, ann))[0] == "dkv://d0/server/u1"
    with pytest.raises(OSError):
        listener.ask(client(place.bundle, bob))
    listener.registered = []
    with pytest.raises(OSError):
        listener.ask(client(place.bundle, ann))
    assert not warned


def test_a_caller_believes_only_its_own_authority_and_the_right_address(place: Place, listener: Listener) -> None:
    other = certificates.new_authority(place.owner, now())
    with pytest.raises(ssl.SSLCertVerificationError):
        listener.ask(client(other.certificate))
    with pytest.raises(ssl.SSLCertVerificationError):
        listener.ask(client(place.bundle), name="127.0.0.2")


def test_old_tls_and_plain_http_are_turned_away(place: Place, listener: Listener) -> None:
    old = client(place.bundle)
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
    assert listener.ask(client(place.bundle))[0] == "nobody"


def _all(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1_000)
    except OSError:
        return b""


def test_a_renewed_leaf_is_shown_from_the_next_handshake_on(place: Place, listener: Listener) -> None:
    caller = client(place.bundle)
    assert listener.ask(caller)[1] == place.serial("first")
    place.install("second")
    assert listener.ask(caller)[1] == place.serial("second") != place.serial("first")


def test_files_that_cannot_be_used_are_named_once_and_the_old_leaf_stays(
    place: Place, listener: Listener, warned: list[str]
) -> None:
    assert listener.ask(client(place.bundle))[1] == place.serial("first")
    certificate, _ = place.leaf("second")
    place.replace(place.files.leaf, certificate.read_text())  # a crash came before its key
    for _ in range(3):
        assert listener.ask(client(place.bundle))[1] == place.serial("first")
    place.replace(place.files.bundle, "")
    place.files.key.unlink()
    assert listener.ask(client(place.bundle))[1] == place.serial("first")
    assert len(warned) == 2 and "server.pem" in warned[0] and "server.key" in warned[1]
    place.install("third")
    assert listener.ask(client(place.bundle))[1] == place.serial("third")
    assert len(warned) == 2


def test_a_bundle_that_is_none_is_refused(place: Place, listener: Listener, warned: list[str]) -> None:
    assert listener.ask(client(place.bundle))[0] == "nobody"
    for text in ("", "no certificate", "caf\u00e9"):
        place.replace(place.files.bundle, text)
        assert listener.ask(client(place.bundle))[0] == "nobody" and "bundle" in warned[-1]
        with pytest.raises(Malformed, match="bundle of authorities"):
            Contexts(place.files, warned.append).accepting()


def test_an_authority_is_changed_without_closing_the_listener(place: Place, listener: Listener) -> None:
    old, new = place.authority, certificates.new_authority(place.owner, now())
    by_old, by_new = place.leaf("by-old"), place.leaf("by-new", new)
    both = new.certificate + old.certificate
    with pytest.raises(OSError):
        listener.ask(client(both, by_new))
    place.replace(place.files.bundle, both)  # PREPARED
    for pair in (by_old, by_new):
        assert listener.ask(client(both, pair))[0] == "dkv://d0/server/u1"
    place.install("switched", both, new)  # SWITCHED
    assert listener.ask(client(both, by_old))[1] == place.serial("switched")
    place.replace(place.files.bundle, new.certificate)  # DONE
    assert listener.ask(client(new.certificate, by_new))[0] == "dkv://d0/server/u1"
    with pytest.raises(OSError):
        listener.ask(client(both, by_old))


def test_a_callers_missing_server_name_changes_nothing(place: Place, listener: Listener) -> None:
    caller = client(place.bundle, place.leaf("caller"))
    caller.check_hostname = False
    assert listener.ask(caller, name=None)[0] == "dkv://d0/server/u1"
    assert listener.ask(caller, name="another.example")[0] == "dkv://d0/server/u1"


def test_a_manager_calls_with_the_leaf_that_it_has_now(place: Place, listener: Listener) -> None:
    calling = Contexts(place.files, lambda text: None)
    assert listener.ask(calling.calling(), name=None)[0] == "dkv://d0/server/u1"
    other = certificates.new_authority(place.owner, now())
    context = calling.calling()
    assert calling.calling() is context
    place.install("foreign", authority=other)
    assert calling.calling() is not context
    place.replace(place.files.bundle, other.certificate)
    with pytest.raises(OSError):
        Listener.ask(listener, client(place.bundle), name="127.0.0.1")


@dataclass(frozen=True)
class Watched(CertificateFiles):
    """Files in whose reading the first thread waits a moment for another one to come, and says whether one did."""

    entered: list[int] = field(default_factory=list)
    met: threading.Event = field(default_factory=threading.Event)

    def trusted(self) -> str:
        self.entered.append(threading.get_ident())
        if len(self.entered) > 1:
            self.met.set()
        self.met.wait(0.3)
        self.entered.remove(threading.get_ident())
        return super().trusted()


def test_one_thread_loads_the_files_while_others_wait_for_what_it_loads(place: Place) -> None:
    """Other managers are called from threads, and listeners live in the event loop."""
    files = Watched(place.files.directory)
    contexts = Contexts(files, lambda text: None)
    contexts.load()
    place.install("second", place.bundle + certificates.new_authority(place.owner, now()).certificate, place.authority)
    with ThreadPoolExecutor(3) as threads:
        calling, accepting, known = (
            threads.submit(contexts.calling),
            threads.submit(contexts.accepting),
            threads.submit(contexts.authorities),
        )
        shown = [len(future.result(30).get_ca_certs()) for future in (calling, accepting)]
    assert not files.met.is_set(), "two threads loaded at once"
    assert shown == [2, 2] and len(known.result()) == 2, "what is used is of one moment"


def test_moments_are_read_by_people() -> None:
    assert moment(0) == "1970-01-01T00:00:00Z" and moment(10**20) == f"{10**20} ms"
