"""The timeline of a chaos run: what is drawn is what happened."""

from __future__ import annotations

from tests.chaos.checks import Operation
from tests.chaos.picture import page, rows

GROUP = {"store": "One", "name": "g<1>", "serving": True, "term": 3, "leader": "one-1"}
STROKE = {"kind": "lose host", "target": "s1", "servers": ["s1"], "note": "", "began": 101.0, "ended": 104.0}
TASK = {"kind": "hot copy", "target": "One", "servers": [], "note": "hotcopy: 0", "began": 102.0, "ended": 103.0}


def test_outages_leaders_faults_and_tasks_have_rows() -> None:
    history = [Operation("One", "confirmed", "k", "1", at, at, "confirmed") for at in (100.0, 101.0, 104.0, 104.5)]
    samples = [{"at": 100 + n / 2, "groups": [GROUP], "waiting": []} for n in range(4)] + [{"at": 103.0, "trouble": "no answer"}]
    lines = rows(history, samples, [STROKE, TASK], (100.0, 105.0))
    assert [line.name for line in lines] == ["One: no answers", "One/g<1>", "lose host", "operators"]
    spans = [[(bar.begin, bar.end) for bar in line.bars] for line in lines]
    assert spans[1:] == [[(0, 1.5)], [(1, 4)], [(2, 3)]]
    assert "confirmed: no answer for 3.0 s" in [bar.text for bar in lines[0].bars]
    text = page("seed 1", "./dev chaos", ["none <lost>"], lines, 5.0)
    assert "one-1, term 3" in text and "g&lt;1&gt;" in text and "none &lt;lost&gt;" in text and "./dev chaos" in text
