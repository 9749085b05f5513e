"""What an engine refused of clients: read from its log and from ACL LOG, each refusal once."""

from __future__ import annotations

from pathlib import Path

from dkv.engine.logs import LOG_READ, Log
from dkv.engine.refused import RefusedLogIn, RefusedLogIns, refused_handshakes

LINE = (
    b"812:M 30 Nov 2026 14:22:01.101 # Error accepting a client connection: "
    b"error:0A000412:SSL routines::ssl/tls alert bad certificate (addr=10.0.0.9:4711 laddr=10.0.0.11:7861)\n"
)


def entry(number: int, count: int, **more: str) -> dict[str, str]:
    client = {"client-info": "id=7 addr=10.0.0.9:4711 laddr=10.0.0.11:7861 fd=9 name= user=default"}
    return {"entry-id": str(number), "count": str(count), "reason": "auth", "username": "app"} | client | more


def test_a_handshake_that_failed_names_the_peer_and_the_reason() -> None:
    lines = b"812:M 30 Nov 2026 14:22:01.100 * Ready to accept connections tls\n" + LINE
    assert list(refused_handshakes(lines)) == [("10.0.0.9", "ssl/tls alert bad certificate")]
    (other,) = refused_handshakes(
        LINE.replace(b"error:0A000412:SSL routines::ssl/tls alert bad certificate", b"Connection reset by peer")
    )
    assert other == ("10.0.0.9", "Connection reset by peer")


def test_a_log_gives_each_line_once_and_of_a_flood_the_end(tmp_path: Path) -> None:
    path = tmp_path / "engine.log"
    path.write_bytes(LINE)
    read: list[bytes] = []
    log = Log(path, read.append)
    log.tend()
    assert read == [], "what was logged before has been read by the manager before"
    with path.open("ab") as file:
        file.write(LINE)
    log.tend()
    log.tend()
    assert read == [LINE]
    with path.open("ab") as file:
        file.write(b"x" * (8 << 20) + b"\n" + LINE)
    log.tend()
    log.tend()
    log.close()
    assert [len(lines) for lines in read] == [len(LINE), LOG_READ] and read[1].endswith(LINE)


def test_a_log_in_is_counted_once_although_its_entry_counts_on() -> None:
    log_ins = RefusedLogIns()
    assert not log_ins.moved(3), "what was refused before the first look was reported then"
    assert log_ins.moved(5) and not log_ins.moved(5)
    assert log_ins.new([entry(1, 2)]) == [RefusedLogIn("10.0.0.9", "app", 2)]
    assert log_ins.new([entry(2, 1, username="root"), entry(1, 5)]) == [
        RefusedLogIn("10.0.0.9", "root", 1),
        RefusedLogIn("10.0.0.9", "app", 3),
    ]
    assert log_ins.new([entry(2, 1, username="root"), entry(1, 5)]) == []


def test_a_manager_that_tries_two_passwords_and_a_command_that_a_user_may_not_use_are_no_refused_log_ins() -> None:
    manager = entry(1, 1, **{"client-info": "id=3 addr=/data/orders-1/admin.sock:0 laddr=/data/orders-1/admin.sock:0"})
    assert RefusedLogIns().new([manager, entry(2, 1, reason="command")]) == []
