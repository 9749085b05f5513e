"""Labels of a server are read again while its manager serves."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.e2e.local_domain import LocalDomain, wait_for


def test_a_zone_is_changed_without_a_restart_and_what_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    domain = LocalDomain(tmp_path, 1)
    manager, file = domain.managers[0], tmp_path / "dkv.toml"
    file.write_text('labels = { zone = "a" }\n')
    manager.words = ("--config", str(file))

    def labels() -> object:
        return domain.client.domain()["servers"][0]["labels"]

    def told(text: str) -> None:
        file.write_text(text)
        assert manager.process is not None
        manager.process.send_signal(signal.SIGHUP)

    try:
        domain.start()
        assert labels() == {"zone": "a"}
        told('labels = { zone = "b", rack = "7" }\nlog_level = "debug"\n')
        wait_for("the domain has them", lambda: labels() == {"zone": "b", "rack": "7"})
        wait_for("the log says what waits", lambda: "log_level" in manager.log.read_text())
        told('labels = { zone = "\n')
        wait_for("it says so", lambda: "the settings were not read again" in manager.log.read_text())
        assert labels() == {"zone": "b", "rack": "7"}
        assert '"zone": "b"' in domain.do("get", "server-config", "--server-id", "s1").out
    finally:
        domain.close()
