"""The client: addresses, problems, retries with the same key, deadlines on a real socket, event streams."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dkv.client import (
    BadEndpoint,
    Endpoint,
    HttpTransport,
    ManagerClient,
    ManagerRefused,
    ManagerUnreachable,
    parse_endpoint,
)
from tests.cli.fake import FakeDomain

FIRST = Endpoint("127.0.0.11", 7801)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("10.0.0.11", "10.0.0.11:7801"),
        ("db-1:7900", "db-1:7900"),
        ("http://db-1:7900/", "db-1:7900"),
        ("HTTP://db-1", "db-1:7801"),
        ("[::1]:7900", "[::1]:7900"),
        ("::1", "[::1]:7801"),
    ],
)
def test_addresses_in_the_forms_of_the_seeds(text: str, endpoint: str) -> None:
    assert str(parse_endpoint(text)) == endpoint


@pytest.mark.parametrize("text", ["", "a b", "a:x", "a:0", "a:65536", "a/b", "0.0.0.0", "::", "[::0]:1", "https://a", "a@b"])
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
    assert client.events() == [{"sequence": 1}]
    assert [event["sequence"] for event in client.follow_events(after=7)] == [8, 9]
    assert client.healthy()
    assert not client.ready()
    assert not ManagerClient(Endpoint("127.0.0.99", 1), FakeDomain()).healthy()


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


@pytest.mark.parametrize(("raw", "word"), [(b"-ERR unknown command\r\n", "does not speak HTTP"), (b"", "without an answer")])
def test_what_does_not_speak_http_is_unreachable(raw: bytes, word: str) -> None:
    with listener(raw) as endpoint, pytest.raises(ManagerUnreachable, match=word):
        ManagerClient(endpoint).domain()
