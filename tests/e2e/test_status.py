"""`dkv status`: the whole domain on one screen, and an exit code that a script or a person at night can go by."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.local_domain import local_domain, wait_for


def test_the_status_of_a_domain_is_one_screen_and_one_exit_code(tmp_path: Path) -> None:
    with local_domain(tmp_path, servers=2) as domain:
        empty = domain.do("status")
        assert empty.out.startswith("All is well. 2 servers, 0 stores.\n")
        domain.create("OrdersStore", "-InstanceCount", "1", "-ReplicationFactor", "2")
        domain.wait_in_sync("OrdersStore", "ordersstore-1", "ordersstore-2")
        well = wait_for("all is well", lambda: (output := domain.dkv("status")).code == 0 and output)
        assert well.out.startswith("All is well. 2 servers, 1 store.\n")
        assert "store OrdersStore  Running, 2 of 2 instances running, can lose 1 more server\n" in well.out
        assert all(len(line) <= 80 for line in well.out.splitlines())

        process = domain.instance("OrdersStore", "ordersstore-2")["process"]
        domain.do("shutdown", "process", "--start-id", str(process["startId"]))
        domain.wait_state("OrdersStore", "ordersstore-2", "Stopped")
        thin = wait_for("a copy is missing", lambda: not domain.client.waiting() and domain.dkv("status"))
        assert thin.code == 1 and thin.out.startswith("Copies of OrdersStore do not run or are not in sync. 2 servers"), thin
        domain.do("Start-DkvStore", "OrdersStore")
        wait_for("all is well again", lambda: domain.dkv("status").code == 0)

        domain.managers[1].kill()
        ill = wait_for("something waits", lambda: (output := domain.dkv("status")).code == 1 and output)
        assert "wait" in ill.out.splitlines()[0] and "Start the manager of server s2" in ill.out
        assert any(line.split()[:2] == ["server", "s2"] and line.endswith("away") for line in ill.out.splitlines())
        facts = json.loads(domain.dkv("status", "-o", "json").out)
        assert not facts["ok"] and facts["waiting"] and facts["answer"] == ill.out.splitlines()[0]

        domain.managers[0].kill()
        nobody = domain.dkv("status")
        assert nobody.code == 1 and "is not reachable" in nobody.err and "hint: " in nobody.err and not nobody.out
