"""Clients over https: no credential is sent before the manager is verified, and whatever is wrong is one sentence."""

from __future__ import annotations

import io
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dkv.access import certificates
from dkv.access.certificates import Owner, Reachable
from dkv.access.crypto import read
from dkv.cli.main import main
from dkv.client import BadCredentials, Credentials, Endpoint, HttpTransport, ManagerUnreachable, Request
from dkv.client.credentials import FILE
from dkv.client.transport import UnknownAuthority
from tests.tls import Pair, Place, now

CANARY = "dkvt_0123456789ab_" + "canary" * 7 + "x"
GET = Request("GET", "/admin/v1/domain", {})


class Manager:
    """A listener that shows a leaf, names an authority at /admin/v1/ca, and keeps what it was sent."""

    def __init__(self, place: Place, leaf: Pair | None, answer: bytes = b"") -> None:
        self.place = place
        self.requests: list[str] = []
        self._answer = answer or b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        self._context: ssl.SSLContext | None = None
        if leaf:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*leaf)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint("127.0.0.1", self._socket.getsockname()[1], "https")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:
                return
            plain.settimeout(5)
            with suppress(OSError):
                if self._context is None:
                    self._exchange(plain)
                    plain.close()
                    continue
                with self._context.wrap_socket(plain, server_side=True) as connection:
                    self._exchange(connection)
            plain.close()

    def _exchange(self, connection: socket.socket) -> None:
        request = connection.recv(65_536).decode("latin-1")
        self.requests.append(request)
        answer = self._answer
        if request.startswith("GET /admin/v1/ca "):
            body = json.dumps({"bundle": [self.place.bundle]}).encode()
            answer = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        connection.sendall(answer)
        if self._answer.endswith(b"cut"):
            connection.shutdown(socket.SHUT_RDWR)  # without the end that TLS has

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


@contextmanager
def manager(place: Place, leaf: Pair | None, answer: bytes = b"") -> Iterator[Manager]:
    listener = Manager(place, leaf, answer)
    try:
        yield listener
    finally:
        listener.close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def believing(place: Place, bundle: str = "") -> HttpTransport:
    """The client of a person who has a token and a file of authorities."""
    (place.directory / "ca.pem").write_text(bundle or place.bundle)
    return HttpTransport(Credentials({"DKV_TOKEN": CANARY, "DKV_CA_FILE": str(place.directory / "ca.pem")}))


def test_a_verified_manager_is_sent_the_credential(place: Place) -> None:
    with manager(place, place.leaf("server")) as listener:
        transport = believing(place)
        assert transport.send(listener.endpoint, GET, 5).status == 200
        assert list(transport.stream(listener.endpoint, GET, 5)) == ["{}"]
    assert len(listener.requests) == 2 and all(f"Authorization: Bearer {CANARY}" in request for request in listener.requests)


def test_a_login_keeps_the_authority_with_the_credential(place: Place, tmp_path: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    Credentials(environ).keep(f"Bearer {CANARY}", place.bundle)
    assert (tmp_path / "dkv" / FILE).stat().st_mode & 0o777 == 0o600
    with manager(place, place.leaf("server")) as listener:
        assert HttpTransport(Credentials(environ)).send(listener.endpoint, GET, 5).status == 200
    assert CANARY in listener.requests[0]


def test_a_login_asks_for_no_secret_before_a_manager_has_proven_itself(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = io.StringIO(f"{CANARY}\n")
    monkeypatch.setattr("sys.stdin", typed)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with manager(place, place.leaf("server")) as listener:
        assert main(["login", "--managers", f"https://127.0.0.1:{listener.endpoint.port}"]) == 1
    assert typed.tell() == 0, "it was asked for"
    assert "nothing was sent" in capsys.readouterr().err and not (tmp_path / "dkv").exists()


def test_an_authority_that_is_not_known_here_is_named_to_be_compared(place: Place) -> None:
    with manager(place, place.leaf("server")) as listener:
        with pytest.raises(UnknownAuthority) as unknown:
            HttpTransport(Credentials({"DKV_TOKEN": CANARY})).send(listener.endpoint, GET, 5)
    sha256 = read(place.bundle).fingerprint
    assert sha256 in str(unknown.value) and "nothing was sent" in str(unknown.value)
    assert f"dkv login https://127.0.0.1:{listener.endpoint.port} --ca-sha256 {sha256}" in str(unknown.value.hint)
    assert [request.split(" ")[1] for request in listener.requests] == ["/admin/v1/ca"] and CANARY not in listener.requests[0]


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("another authority", "not of the authority that is known here"),
        ("the true authority in the middle", "not of the authority that is known here"),
        ("expired", "has expired"),
        ("not yet", "not valid yet"),
        ("another address", "for another address"),
        ("no TLS", "does not speak TLS"),
    ],
)
def test_no_credential_reaches_who_is_not_verified(place: Place, tmp_path: Path, case: str, sentence: str) -> None:
    (tmp_path / "middle").mkdir()
    other = Place(tmp_path / "middle")
    leaves = {
        "another authority": lambda: other.leaf("server"),
        "the true authority in the middle": lambda: other.leaf("server"),  # it names the true one at /admin/v1/ca
        "expired": lambda: place.leaf("server", at=now() - 200 * certificates.DAY),
        "not yet": lambda: place.leaf("server", at=now() + certificates.DAY),
        "another address": lambda: place.write(
            "server", certificates.new_leaf(place.authority, Owner("d0"), Reachable("u1", ("10.0.0.1",)), now())
        ),
        "no TLS": lambda: None,
    }
    with manager(place, leaves[case]()) as listener:
        with pytest.raises(ManagerUnreachable, match=sentence) as refused:
            believing(place).send(listener.endpoint, GET, 5)
        assert refused.value.hint and not refused.value.maybe_done
    assert not any(CANARY in request for request in listener.requests)


def test_a_answer_that_was_cut_is_no_answer(place: Place) -> None:
    for answer in (b"HTTP/1.0 200 OK\r\n\r\n[cut", b"HTTP/1.0 200 OK\r\nContent-Length: 90\r\n\r\n[cut"):
        with manager(place, place.leaf("server"), answer) as listener:
            with pytest.raises(ManagerUnreachable):
                believing(place).send(listener.endpoint, GET, 5)


@pytest.mark.parametrize("text", ["", "no certificate", None])
def test_a_file_of_authorities_that_cannot_be_used_is_refused(place: Place, text: str | None) -> None:
    path = place.directory / "ca.pem"
    if text is not None:
        path.write_text(text)
    with manager(place, place.leaf("server")) as listener:
        with pytest.raises(BadCredentials, match=r"ca\.pem") as refused:
            HttpTransport(Credentials({"DKV_TOKEN": CANARY, "DKV_CA_FILE": str(path)})).send(listener.endpoint, GET, 5)
    assert refused.value.hint and not listener.requests


def test_a_damaged_certificate_in_the_file_is_refused(place: Place) -> None:
    path = place.directory / "ca.pem"
    path.write_text(place.bundle.replace("MII", "!!!", 1))
    with manager(place, place.leaf("server")) as listener, pytest.raises(BadCredentials, match="authorities"):
        HttpTransport(Credentials({"DKV_TOKEN": CANARY, "DKV_CA_FILE": str(path)})).send(listener.endpoint, GET, 5)
    assert not listener.requests
