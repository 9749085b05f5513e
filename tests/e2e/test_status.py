"""What a domain shows: `dkv status` with its exit code, pages of metrics, logs, and what a service manager is told."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import termios
from collections import Counter
from pathlib import Path

from tests.e2e.local_domain import DKV, PATIENCE, LocalDomain, local_domain, wait_for
from tests.promtool import PROGRAM, promtool


def test_the_status_of_a_domain_is_one_screen_and_one_exit_code(tmp_path: Path) -> None:
    service = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "4000000"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(service["NOTIFY_SOCKET"])
        with local_domain(tmp_path, 2, service) as domain:
            see_and_break(domain)
        assert_told(told)


def assert_told(told: socket.socket) -> None:
    """Both managers were ready and gave signs of life; none ended because it was asked to."""
    told.setblocking(False)
    said: Counter[str] = Counter()
    while True:
        try:
            said[told.recv(500).decode().partition("\n")[0]] += 1
        except BlockingIOError:
            break
    assert said["READY=1"] == 2 and said["WATCHDOG=1"] >= 2 and not said["STOPPING=1"], said


def see_and_break(domain: LocalDomain) -> None:
    empty = domain.do("status")
    assert empty.out.startswith("All is well. 2 servers, 0 stores.\n")
    domain.create("OrdersStore", "-InstanceCount", "1", "-ReplicationFactor", "2")
    domain.wait_in_sync("OrdersStore", "ordersstore-1", "ordersstore-2")
    well = wait_for("all is well", lambda: (output := domain.dkv("status")).code == 0 and output)
    assert well.out.startswith("All is well. 2 servers, 1 store.\n")
    assert "store OrdersStore  Running, 2 of 2 instances running, can lose 1 more server\n" in well.out
    assert all(len(line) <= 80 for line in well.out.splitlines())

    watched(domain)
    read_metrics(domain)
    process = domain.instance("OrdersStore", "ordersstore-2")["process"]
    assert "Server initialized" in domain.do("logs", "--start-id", str(process["startId"])).out
    assert re.search(r"Z info +manager runs .*server=s2", domain.do("logs", "--server-id", "s2").out)
    domain.do("shutdown", "process", "--start-id", str(process["startId"]))
    domain.wait_state("OrdersStore", "ordersstore-2", "Stopped")
    thin = wait_for("a copy is missing", lambda: not domain.client.waiting() and domain.dkv("status"))
    assert thin.code == 1 and thin.out.startswith("Copies of OrdersStore do not run or are not in sync. 2 servers"), thin
    domain.do("Start-DkvStore", "OrdersStore")
    wait_for("all is well again", lambda: domain.dkv("status").code == 0)

    domain.managers[1].kill()
    ill = wait_for("something waits", lambda: (output := domain.dkv("status")).code == 1 and output)
    assert "wait" in ill.out.splitlines()[0] and "Start the manager of server s2" in ill.out
    assert any(line.split()[:2] == ["server", "s2"] and "away" in line.split() for line in ill.out.splitlines())
    facts = json.loads(domain.dkv("status", "-o", "json").out)
    assert not facts["ok"] and facts["waiting"] and facts["answer"] == ill.out.splitlines()[0]

    domain.managers[0].kill()
    nobody = domain.dkv("status")
    assert nobody.code == 1 and "is not reachable" in nobody.err and "hint: " in nobody.err and not nobody.out


def read_metrics(domain: LocalDomain) -> None:
    """The pages of both managers, of a real store with a leader and a follower."""
    pages = [page(domain, number, address) for number in (0, 1) for address in ("/metrics", "/scrape")]
    for text in (pages[0], pages[2]):
        assert re.search(r'^dkv_group_takes_writes{store="OrdersStore",group="\w+"} 1$', text, re.M)
        assert re.search(r'^dkv_group_can_lose{store="OrdersStore",group="\w+",promise="confirmed"} 1$', text, re.M)
        assert re.search(r"^dkv_archive_free_bytes{[^}]*} [1-9]\d+$", text, re.M)
        assert re.search(r'^dkv_commands_total{command="ProcessConfigured",result="accepted"} \d+$', text, re.M)
    engines = pages[1] + pages[3]
    roles = re.findall(r'^redis_instance_info{.*role="(\w+)".*valkey_version="9', engines, re.M)
    assert sorted(roles) == ["master", "slave"]
    assert len(re.findall(r"^redis_up{[^}]*} 1$", engines, re.M)) == 2
    assert re.search(r'^redis_connected_slave_offset_bytes{[^}]*slave_state="online"} \d+$', engines, re.M)
    assert re.search(r"^redis_cluster_slots_ok{[^}]*} 16384$", engines, re.M)
    (target, *_), *_ = [found["targets"] for found in json.loads(page(domain, 0, "/discover-cluster-nodes"))]
    assert re.search(r"^redis_uptime_in_seconds \d+$", page(domain, 0, f"/scrape?target={target}"), re.M)
    for text in pages if PROGRAM else ():
        code, said = promtool("check", "metrics", text=text)
        assert code == (3 if "redis_up" in text else 0), said  # redis_exporter's names break conventions


def page(domain: LocalDomain, number: int, address: str) -> str:
    return domain.managers[number].client.request("GET", address).body.decode()


def watched(domain: LocalDomain) -> None:
    """`dkv watch` once, and on a terminal of 80 columns until Ctrl-C."""
    once = domain.do("watch", "--once").out
    assert "All is well. 2 servers, 1 store." in once and "ordersstore-2" in once
    assert all(len(line) <= 80 for line in once.splitlines())
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (40, 80))
    words, env = [str(DKV), "watch"], domain.env | {"DKV_MANAGERS": domain.addresses, "TERM": "xterm"}
    with subprocess.Popen(words, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        screen = b""
        while b"ordersstore-2" not in screen:
            assert select.select([ours], [], [], PATIENCE)[0], screen
            screen += os.read(ours, 65_536)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the other end has gone
            while os.read(ours, 65_536):
                pass
        assert process.wait(PATIENCE) == 0
    os.close(ours)
