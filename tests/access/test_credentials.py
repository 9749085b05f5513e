"""What the client shows: the environment's credentials, else nothing over the manager's own socket, else what login kept."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dkv.client import (
    BadCredentials,
    Credentials,
    Endpoint,
    HttpTransport,
    ManagerClient,
    ManagerRefused,
    ManagerUnreachable,
    Request,
    own_socket,
)
from dkv.client.credentials import FILE
from dkv.config import load_settings
from dkv.data_dir import local_socket, lock_data_dir
from tests.strangers import NOBODY, doing, needs_root

CANARY = "dkvt_0123456789ab_" + "canary" * 7 + "x"
WELCOME = b"HTTP/1.0 200 OK\r\n\r\n{}"
STRANGER = b'HTTP/1.0 401 No\r\n\r\n{"code": "unauthenticated", "detail": "The request shows no credentials.", "hint": "Log in."}'
GET = Request("GET", "/", {})


class Listener:
    """A listening socket that answers each request alike and keeps what it was sent."""

    def __init__(self, listening: socket.socket, answer: bytes) -> None:
        self.requests: list[str] = []
        self._listening, self.answer = listening, answer
        listening.settimeout(0.05)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                line, _ = self._listening.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            with line, suppress(OSError):
                self.requests.append(line.recv(65536).decode())
                line.sendall(self.answer)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5)


class Place:
    """A port, and a data directory with its socket, as a manager of this process has them."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self._stack, self.directory = stack, directory
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.endpoint = Endpoint(*listening.getsockname())
        self.port = self._listener(listening, STRANGER)

    def _listener(self, listening: socket.socket, answer: bytes) -> Listener:
        listener = Listener(listening, answer)
        self._stack.callback(listener.close)
        return listener

    def open_socket(self) -> Listener:
        settings = load_settings(environ={"HOME": str(self.directory)})
        settings = replace(settings, data_dir=self.directory / ("d" * 120), port=self.endpoint.port)
        data_dir = self._stack.enter_context(lock_data_dir(settings))
        return self._listener(self._stack.enter_context(local_socket(data_dir.path)), WELCOME)


@contextmanager
def manager(directory: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(stack, directory)


def shown(listener: Listener) -> list[str]:
    """The Authorization headers of what came in there, "" for a request without one."""
    lines = [head.split("\r\n") for head in listener.requests]
    return [next((line.partition(": ")[2] for line in head if line.startswith("Authorization")), "") for head in lines]


def test_a_manager_of_ours_is_asked_over_its_own_socket_with_no_secret(tmp_path: Path) -> None:
    with manager(tmp_path) as place:
        own = place.open_socket()
        Credentials(environ := {"XDG_CONFIG_HOME": str(tmp_path)}).keep("Bearer " + CANARY)
        transport = HttpTransport(Credentials(environ))
        assert [transport.send(place.endpoint, GET, 5).status for _ in range(2)] == [200, 200]
        assert list(transport.stream(place.endpoint, GET, 5)) == ["{}"]
        assert shown(own) == ["", "", ""] and not place.port.requests
        assert own_socket.find("localhost", place.endpoint.port) == own_socket.find(*place.endpoint[:2]) is not None


def test_a_manager_that_began_to_ask_later_is_found_when_it_refuses(tmp_path: Path) -> None:
    with manager(tmp_path) as place:
        transport = HttpTransport(Credentials({}))
        assert transport.send(place.endpoint, GET, 5).status == 401
        own = place.open_socket()
        assert transport.send(place.endpoint, GET, 5).status == 200
        assert transport.send(place.endpoint, GET, 5).status == 200
        assert len(place.port.requests) == 2 and len(own.requests) == 2


def test_a_manager_that_runs_since_before_its_sockets_name_had_a_pid_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with manager(tmp_path) as place:
        with monkeypatch.context() as before_the_upgrade:
            before_the_upgrade.setattr("os.getpid", lambda: "self")
            place.open_socket()
        assert own_socket.find(*place.endpoint[:2]) is not None


def test_a_port_that_another_process_listens_at_has_no_socket_of_ours(tmp_path: Path) -> None:
    with manager(tmp_path) as place:
        own = place.open_socket()
        with socket.create_server(("127.0.0.1", 0)) as other:
            discovered = own_socket.find("127.0.0.1", other.getsockname()[1])
            assert discovered == own_socket.find(*place.endpoint[:2])  # of this very process
            script = (
                "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
            )
            with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stranger:
                assert stranger.stdout is not None
                port = int(stranger.stdout.readline())
                assert own_socket.find("127.0.0.1", port) is None
                stranger.communicate(b"\n")
        assert own_socket.find("127.0.0.1", place.endpoint.port + 1 if place.endpoint.port < 65535 else 1) is None
        assert own_socket.find("an.example", place.endpoint.port) is None
        assert not own.requests


def test_a_socket_whose_server_is_another_process_is_not_used(tmp_path: Path) -> None:
    with manager(tmp_path) as place:
        place.open_socket()
        own = own_socket.find(*place.endpoint[:2])
        assert own is not None
        own_socket.connect(own, 5).close()
        for other in (own._replace(pid=1), own._replace(uid=own.uid + 1)):
            with pytest.raises(ConnectionRefusedError):
                own_socket.connect(other, 5)


def test_a_socket_of_another_user_is_sent_no_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root finds it: whoever listens there without being the manager would get a token that was meant for that."""
    with manager(tmp_path) as place:
        own = place.open_socket()
        discovered = own_socket.find(*place.endpoint[:2])
        assert discovered is not None
        monkeypatch.setattr(own_socket, "find", lambda host, port: discovered._replace(uid=discovered.uid + 1))
        with socket.create_server(("127.0.0.1", 0)) as unused:
            endpoint = Endpoint("127.0.0.1", unused.getsockname()[1], "https")
        with pytest.raises(ManagerUnreachable):
            HttpTransport(Credentials({"DKV_TOKEN": CANARY})).send(endpoint, GET, 5)
        assert not own.requests


@pytest.mark.parametrize(
    ("environ", "header"),
    [
        ({"DKV_TOKEN": CANARY}, "Bearer " + CANARY),
        ({"DKV_TOKEN": f" {CANARY}\n", "DKV_USER": "ann", "DKV_PASSWORD": "x"}, "Bearer " + CANARY),
        ({"DKV_TOKEN_FILE": "token"}, "Bearer " + CANARY),
        ({"DKV_USER": "ann", "DKV_PASSWORD": "p\u00e4ss:word"}, "Basic YW5uOnDDpHNzOndvcmQ="),
        ({"DKV_USER": "ann", "DKV_PASSWORD": ""}, "Basic YW5uOg=="),
    ],
)
def test_the_environment_wins_over_the_socket_and_the_file(tmp_path: Path, environ: dict[str, str], header: str) -> None:
    (tmp_path / "token").write_text(CANARY + "\n")
    environ = environ | {"XDG_CONFIG_HOME": str(tmp_path)}
    if "DKV_TOKEN_FILE" in environ:
        environ["DKV_TOKEN_FILE"] = str(tmp_path / "token")
    Credentials(environ).keep("Bearer another")
    with manager(tmp_path) as place:
        own = place.open_socket()
        with pytest.raises(ManagerRefused, match="shows no credentials"):
            ManagerClient(place.endpoint, HttpTransport(Credentials(environ))).domain()
        assert shown(place.port) == [header] and not own.requests


def test_what_login_kept_is_shown_where_there_is_no_socket(tmp_path: Path) -> None:
    credentials = Credentials({"XDG_CONFIG_HOME": str(tmp_path)})
    credentials.keep("Bearer " + CANARY)
    assert (tmp_path / "dkv" / FILE).stat().st_mode & 0o777 == 0o600
    with manager(tmp_path) as place:
        HttpTransport(credentials).send(place.endpoint, GET, 5)
        assert credentials.forget() and not credentials.forget()
        HttpTransport(credentials).send(place.endpoint, GET, 5)
        assert shown(place.port) == ["Bearer " + CANARY, ""]


@needs_root
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::"])
def test_what_login_kept_is_not_sent_to_who_took_the_port_of_a_manager_that_is_down(tmp_path: Path, address: str) -> None:
    credentials = Credentials({"XDG_CONFIG_HOME": str(tmp_path)})
    credentials.keep("Bearer " + CANARY, listeners={os.geteuid()})
    impostor = """
import socket
six = ":" in sys.argv[1]
port = socket.create_server((sys.argv[1], 0), family=socket.AF_INET6 if six else socket.AF_INET, dualstack_ipv6=six)
print(port.getsockname()[1], flush=True)
while True:
    line, _ = port.accept()
    print(repr(line.recv(65536)), flush=True)
    line.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n{}")
    line.close()
"""
    with doing(impostor, address) as process:
        assert process.stdout
        endpoint = Endpoint("127.0.0.1", int(process.stdout.readline()))
        assert own_socket.listeners(endpoint.host, endpoint.port) == {NOBODY}
        with pytest.raises(BadCredentials, match=f"uid {NOBODY} listens, who did not when you logged in; nothing was sent"):
            HttpTransport(credentials).send(endpoint, GET, 5)
        HttpTransport(Credentials({})).send(endpoint, GET, 5)
        assert "GET" in (first := process.stdout.readline()) and "canary" not in first
        credentials.keep("Bearer " + CANARY, listeners={NOBODY})  # whoever logged in to a manager of that user
        HttpTransport(credentials).send(endpoint, GET, 5)
        assert CANARY in process.stdout.readline()


@pytest.mark.parametrize("harm", ["mode", "link", "text", "header"])
def test_a_file_that_others_could_use_or_that_is_damaged_is_not_used(tmp_path: Path, harm: str) -> None:
    credentials = Credentials({"XDG_CONFIG_HOME": str(tmp_path)})
    credentials.keep("Bearer " + CANARY)
    path = tmp_path / "dkv" / FILE
    if harm == "mode":
        path.chmod(0o640)
    elif harm == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_text("{" if harm == "text" else '{"authorization": "a\\r\\nb"}')
    with manager(tmp_path) as place, pytest.raises(BadCredentials) as refused:
        HttpTransport(credentials).send(place.endpoint, GET, 5)
    assert not place.port.requests and "canary" not in str(refused.value) and refused.value.hint


@pytest.mark.parametrize(
    "environ",
    [
        {"DKV_TOKEN": "canary canary"},
        {"DKV_TOKEN": "canary\r\nX: y"},
        {"DKV_TOKEN": "canary\u00e4"},
        {"DKV_TOKEN": "canary" * 1_000},
        {"DKV_TOKEN_FILE": "/nowhere/token"},
        {"DKV_TOKEN_FILE": os.devnull},
        {"DKV_USER": "ann"},
        {"DKV_USER": "a:canary", "DKV_PASSWORD": "canary"},
        {"DKV_USER": "ann", "DKV_PASSWORD": "canary" * 1_000},
    ],
)
def test_a_credential_that_cannot_be_one_is_not_sent_and_not_shown(tmp_path: Path, environ: dict[str, str]) -> None:
    with manager(tmp_path) as place, pytest.raises(BadCredentials) as refused:
        HttpTransport(Credentials(environ)).send(place.endpoint, GET, 5)
    assert not place.port.requests and "canary" not in f"{refused.value}{refused.value.hint}"
    assert refused.value.exit_code == 2 and refused.value.hint


def test_no_credential_leaves_this_machine_without_tls() -> None:
    transport = HttpTransport(Credentials({"DKV_TOKEN": CANARY}))
    for host in ("192.0.2.1", "manager.example", "0.0.0.0"):
        with pytest.raises(BadCredentials, match="No credentials are sent"):
            transport.send(Endpoint(host, 7801, "http"), GET, 0.2)
    with pytest.raises(ManagerUnreachable):
        HttpTransport(Credentials({})).send(Endpoint("192.0.2.1", 7801, "http"), GET, 0.2)


def test_a_manager_whose_port_closed_at_once_is_looked_for_again(tmp_path: Path) -> None:
    with manager(tmp_path) as place:
        place.port.answer = b""  # as a port of TLS does
        transport = HttpTransport(Credentials({}))
        with pytest.raises(ManagerUnreachable, match="closed the connection"):
            transport.send(place.endpoint, GET, 5)
        place.open_socket()
        assert transport.send(place.endpoint, GET, 5).status == 200
