"""The client: addresses, problems, retries with the same key, deadlines on a real socket, event streams."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain

import pytest

from dkv.client import (
    BadEndpoint,
    Endpoint,
    HttpTransport,
    ManagerClient,
    ManagerRefused,
    ManagerUnreachable,
    Request,
    parse_endpoint,
)
from tests.cli.fake import FakeDomain

FIRST = Endpoint("127.0.0.11", 7801)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("10.0.0.11", "10.0.0.11:7801"),
        ("db-1:7900", "db-1:7900"),
        ("http://db-1:7900/", "http://db-1:7900"),
        ("HTTP://db-1", "http://db-1:7801"),
        ("https://db-1:7900/", "db-1:7900"),
        ("http://127.0.0.1", "127.0.0.1:7801"),
        ("https://localhost:7900", "https://localhost:7900"),
        ("[::1]:7900", "[::1]:7900"),
        ("::1", "[::1]:7801"),
    ],
)
def test_addresses_in_the_forms_of_the_seeds(text: str, endpoint: str) -> None:
    assert str(parse_endpoint(text)) == endpoint


@pytest.mark.parametrize(
    "text", ["", "a b", "a:x", "a:0", "a:65536", "a/b", "0.0.0.0", "::", "[::0]:1", "ftp://a", "https://", "a@b"]
)
def test_bad_addresses_have_a_hint(text: str) -> None:
    with pytest.raises(BadEndpoint) as caught:
        parse_endpoint(text)
    assert caught.value.hint


def test_a_broken_line_is_asked_again_with_the_same_key() -> None:
    domain = FakeDomain()
    body = {"name": "A", "instances": [], "groups": [], "replicationFactor": 1, "minInSync": 1}
    domain.drop_answers = 1
    created, _ = ManagerClient(FIRST, domain).create_store(body)
    assert created
    assert len(domain.keys) == 2
    assert len(set(domain.keys)) == 1


def test_a_problem_document_becomes_a_refusal() -> None:
    with pytest.raises(ManagerRefused) as caught:
        ManagerClient(FIRST, FakeDomain()).store("Nothing")
    assert (caught.value.code, caught.value.status) == ("unknown_store", 404)
    assert caught.value.message == "There is no store 'Nothing'."


def test_events_are_read_from_json_and_from_the_stream() -> None:
    client = ManagerClient(FIRST, FakeDomain())
    assert [event["sequence"] for event in client.events()] == [1]
    assert [event["sequence"] for event in client.follow_events(after=7)] == [8, 9]
    assert not client.ready()


@contextmanager
def listener(answer: bytes | None) -> Iterator[Endpoint]:
    """A socket that reads one request a connection and answers the given bytes, or nothing at all when None."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                held.append(line)
                line.recv(65536)
                if answer is not None:
                    line.sendall(answer)
                    line.close()

        held: list[socket.socket] = []
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield Endpoint(*server.getsockname())
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for line in held:
                line.close()


@contextmanager
def speaking(pieces: Iterable[bytes], head: bytes = b"", pause: float = 0.01) -> Iterator[Endpoint]:
    """A socket that answers its one request in pieces, for as long as anybody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            line, _ = server.accept()
            with line, suppress(OSError):
                line.recv(65536)
                for piece in chain([head], pieces):
                    line.sendall(piece)
                    time.sleep(pause)  # so that they arrive apart

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Endpoint(*server.getsockname())
        thread.join(5)
        assert not thread.is_alive()


def answer(status: str, body: bytes, kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_a_real_answer_over_a_real_socket() -> None:
    with listener(answer("200 OK", json.dumps({"uid": "u"}).encode())) as endpoint:
        assert ManagerClient(endpoint).domain() == {"uid": "u"}


def test_a_stream_over_a_real_socket() -> None:
    with listener(answer("200 OK", b'id: 4\ndata: {"sequence": 4}\n\n: keep\n\n', "text/event-stream")) as endpoint:
        assert list(ManagerClient(endpoint).follow_events(3)) == [{"sequence": 4}]


def test_silence_ends_at_the_deadline_and_a_closed_port_at_once() -> None:
    with listener(None) as endpoint:
        begun = time.monotonic()
        with pytest.raises(ManagerUnreachable, match=r"no answer within 0.3 s"):
            ManagerClient(endpoint, timeout=0.3).domain()
        assert time.monotonic() - begun < 5
        with pytest.raises(ManagerUnreachable, match="Whether the change was made is not known"):
            ManagerClient(endpoint, timeout=0.2).start_instance("A", "a-1")
    with pytest.raises(ManagerUnreachable, match="connection refused"):
        ManagerClient(endpoint, HttpTransport()).domain()


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (answer("404 Not Found", b"<html>", "text/html"), "not the way a dkv manager does"),
        (answer("200 OK", b"[]"), "not the way a dkv manager does"),
        (answer("500 Oops", b"{}"), "not the way a dkv manager does"),
    ],
)
def test_something_else_on_the_port_is_told_apart(raw: bytes, word: str) -> None:
    with listener(raw) as endpoint, pytest.raises(ManagerRefused, match=word):
        ManagerClient(endpoint).domain()


def test_an_answer_without_a_length_goes_on_until_the_line_ends() -> None:
    with listener(b'HTTP/1.0 200 OK\r\n\r\n{"uid": "u"}') as endpoint:
        assert ManagerClient(endpoint).domain() == {"uid": "u"}


def test_a_stream_comes_line_by_line_whatever_pieces_it_was_sent_in() -> None:
    pieces = [b"HTTP/1.0 200 O", b"K\r\n\r", b"\n", b"id: 4\nda", b'ta: {"sequence": 4}\r\n', b"\nda", b'ta: {"sequence": 5}\n\n']
    with speaking(pieces) as endpoint:
        assert [event["sequence"] for event in ManagerClient(endpoint).follow_events(3)] == [4, 5]


def test_an_answer_that_comes_drop_by_drop_does_not_outlast_the_deadline() -> None:
    drops = (b"x" for _ in iter(int, 1))
    with speaking(drops, head=b"HTTP/1.0 200 OK\r\nX-Long: ", pause=0.02) as endpoint:
        begun = time.monotonic()
        with pytest.raises(ManagerUnreachable, match=r"no answer within 0.3 s"):
            ManagerClient(endpoint, timeout=0.3).domain()
        assert time.monotonic() - begun < 5


def test_the_request_line_cannot_be_broken_by_what_is_asked() -> None:
    with listener(answer("200 OK", b"{}")) as endpoint:
        for target, name in (("/a b", "x"), ("/a\r\nX: y", "x"), ("/a", "x\r\ny"), ("/\u00e4", "x")):
            with pytest.raises(ValueError):
                HttpTransport().send(endpoint, Request("GET", target, {"Name": name}), 5)


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b"-ERR unknown command\r\n", "does not speak HTTP"),
        (b"", "without an answer"),
        (b"HTTP/1.0 200 OK\r\n", "without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "without an answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 OK\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 17), "does not speak HTTP"),
    ],
)
def test_what_does_not_speak_http_is_unreachable(raw: bytes, word: str) -> None:
    with listener(raw) as endpoint, pytest.raises(ManagerUnreachable, match=word):
        ManagerClient(endpoint).domain()
