"""What the writers' logs say: what was promised, and how long a kill was felt."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dkv.playground.verify import Line, Writer, outage


def answers(*moments: float) -> list[Line]:
    return [Line("acknowledged", f"k{at}", at, "") for at in moments]


def test_the_outage_of_a_kill_is_the_longest_silence_that_ended_after_it() -> None:
    lines = answers(1.0, 1.01, 1.3, 1.31, 2.0, 2.5)
    assert round(outage(lines, killed_at=1.02, until=1.5)) == 290
    assert round(outage(lines, killed_at=1.9, until=3.0)) == 690, "a silence that the next kill ended is the next one's"
    assert outage(lines, killed_at=2.6, until=3.0) == 0


def test_a_line_that_is_being_written_is_not_read_yet(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("sent\tplain:1\t1.0\t\nacknowledged\tplain:1\t1.5\t\nsent\tplain:2\t2.0\t\nacknowl")
    child = subprocess.Popen(["true"])
    child.wait()
    writer = Writer("plain", log, child)
    assert [line.key for line in writer.promised()] == ["plain:1"]
    assert len(writer.lines()) == 3
    log.write_text("error\tplain:1\t1.0\tno\nerror\tplain:2\t2.0\tno\n")
    assert [line.key for line in writer.errors(1.5, 2.5)] == ["plain:2"]
