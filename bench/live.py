"""Live: what the console's live view costs the manager that serves it, with no page open, with one and with ten.

Three managers with nine engines. Measured: processor time of the first manager over windows while so many readers follow
`GET /admin/v1/live`, as many bytes as they are sent; the other managers are asked for their numbers as always. The kinds of
windows take turns, so that what else the machine does meets all of them; medians are shown.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Sequence
from statistics import median

from idle import cpu_seconds
from kit.record import Raw, Recorder, Table, of, progress
from kit.stage import arguments, staged
from kit.stats import verdict

STORE = "bench"
MOST = 2.0  # percent of a core that ten pages may add
READERS = (0, 1, 10)


def main() -> None:
    """Measure, record, print."""
    wish = arguments(
        __doc__,
        instances=(3, 1, "engines of each of the three managers"),
        rounds=(6, 1, "windows of each kind"),
        seconds=(10, 3, "length of each window"),
    )
    recorder = Recorder("live", wish.quick, vars(wish))
    with staged(3, wish.instances, access_control="off") as stage:
        stage.make(STORE, "-InstanceCount", str(wish.instances), "-ReplicationFactor", "3")
        time.sleep(wish.seconds)
        (pid, _), *_ = stage.domain.record.processes
        address = stage.domain.managers[0]
        for number in range(wish.rounds):
            for readers in READERS:
                window = measured(pid, address, readers, wish.seconds)
                recorder.add("window", round=number, readers=readers, **window)
                progress(f"{readers} pages: {window['percent']:.2f} % of a core")
    recorder.finish(tables)


def measured(pid: int, address: str, readers: int, seconds: float) -> dict[str, float]:
    """One window with so many pages open."""
    pages = [Page(address) for _ in range(readers)]
    time.sleep(3)
    began, before, had = time.monotonic(), cpu_seconds(pid), sum(page.bytes for page in pages)
    time.sleep(seconds)
    percent = 100 * (cpu_seconds(pid) - before) / (time.monotonic() - began)
    sent = (sum(page.bytes for page in pages) - had) / seconds
    for page in pages:
        page.close()
    return {"percent": percent, "bytes_per_second": sent}


class Page:
    """One who follows the live view and draws nothing."""

    def __init__(self, address: str) -> None:
        self.bytes = 0
        self._connection = http.client.HTTPConnection(address, timeout=60)
        self._connection.request("GET", "/admin/v1/live")
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200, self._answer.status
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(http.client.HTTPException, OSError):  # the way it ends
            while piece := self._answer.read1(65_536):
                self.bytes += len(piece)

    def close(self) -> None:
        """Look no more."""
        if self._connection.sock:
            self._connection.sock.shutdown(2)
        self._thread.join()
        self._connection.close()


def tables(raw: Sequence[Raw]) -> list[Table]:
    """Cost by the number of open pages."""
    windows = [
        {name: median(window[name] for window in same) for name in ("readers", "percent", "bytes_per_second")}
        for readers in READERS
        if (same := [window for window in of(raw, "window") if window["readers"] == readers])
    ]
    idle = next((window["percent"] for window in windows if not window["readers"]), 0.0)
    rows = [
        (
            f"{window['readers']:.0f}",
            f"{window['percent']:.2f}",
            f"{window['bytes_per_second'] / 1000:.1f}",
            f"{window['percent'] - idle:.2f}; {MOST:g} {verdict(window['percent'] - idle, MOST)}" if window["readers"] else "",
        )
        for window in windows
    ]
    return [Table("The live view", ("pages", "% of a core", "KB a second", "more than idle; target"), rows)] if rows else []


if __name__ == "__main__":
    main()
