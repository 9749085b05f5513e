"""The timeline of a chaos run as one HTML page: outages of the stores, who led each group, what struck and was done. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from tests.chaos.checks import CONFIRMED, PLAIN, Operation, outages

WIDTH, LEFT, ROW = 1500, 190, 17  # pixels
NOTICED = 0.7  # s: the shortest span without an answer that is drawn
COLOURS = ("#4477aa", "#228833", "#ccbb44", "#aa3377", "#66ccee")
OUTAGE, FAULT, TASK = "#cc3311", "#777777", "#99bbdd"


@dataclass(frozen=True)
class Bar:
    """One bar of a row, in seconds since the schedule began."""

    begin: float
    end: float
    colour: str
    text: str


@dataclass(frozen=True)
class Row:
    """One line of the picture."""

    name: str
    bars: Sequence[Bar]


def rows(
    history: Sequence[Operation],
    samples: Sequence[Mapping[str, Any]],
    journal: Sequence[Mapping[str, Any]],
    span: tuple[float, float],
) -> list[Row]:
    """All rows; `span` is when the schedule began and when the clients ended, in monotonic seconds."""
    stores = sorted({operation.store for operation in history})
    return [
        *(_outages(history, store, span) for store in stores),
        *_leaders(samples, span),
        *_strokes([line for line in journal if line["servers"]], span),
        Row("operators", [_stroke(line, span, TASK) for line in journal if not line["servers"]]),
    ]


def _outages(history: Sequence[Operation], store: str, span: tuple[float, float]) -> Row:
    bars = []
    for kind in (CONFIRMED, *PLAIN):
        answers = [o for o in history if o.store == store and o.kind == kind]
        for begin, end in outages(answers, *span, NOTICED):
            bars.append(Bar(begin - span[0], end - span[0], OUTAGE, f"{kind}: no answer for {end - begin:.1f} s"))
    return Row(f"{store}: no answers", bars)


def _leaders(samples: Iterable[Mapping[str, Any]], span: tuple[float, float]) -> list[Row]:
    """Whole bars: the view says that the leader serves."""
    bars: dict[str, list[Bar]] = {}
    colours: dict[str, str] = {}
    for sample in samples:
        for group in sample.get("groups", ()):
            row = bars.setdefault(f"{group['store']}/{group['name']}", [])
            if not group["serving"] or sample["at"] < span[0]:
                continue
            leader, at = str(group["leader"]), float(sample["at"]) - span[0]
            colour = colours.setdefault(leader, COLOURS[len(colours) % len(COLOURS)])
            text = f"{leader}, term {group['term']}"
            if row and row[-1].text == text and at - row[-1].end < 3:
                row[-1] = Bar(row[-1].begin, at, colour, text)
            else:
                row.append(Bar(at, at + 0.3, colour, text))
    return [Row(name, line) for name, line in sorted(bars.items())]


def _strokes(journal: Sequence[Mapping[str, Any]], span: tuple[float, float]) -> list[Row]:
    kinds = sorted({str(line["kind"]) for line in journal})
    return [Row(kind, [_stroke(line, span, FAULT) for line in journal if line["kind"] == kind]) for kind in kinds]


def _stroke(line: Mapping[str, Any], span: tuple[float, float], colour: str) -> Bar:
    begin = float(line["began"]) - span[0]
    text = f"{begin:.1f} s: {line['kind']} {line['target']} {', '.join(line['servers'])} {line['note']}"
    return Bar(begin, max(float(line["ended"]) - span[0], begin + 0.2), colour, text)


def page(title: str, again: str, notes: Sequence[str], lines: Sequence[Row], length: float) -> str:
    """The page: one picture, what was found, and the command that plays the schedule again. `length` is in seconds."""
    scale = (WIDTH - LEFT) / max(length, 1.0)
    height = ROW * (len(lines) + 2)
    drawn = "".join(_drawn(number, row, scale) for number, row in enumerate(lines, 1))
    step = max(5, round(length / 24 / 5) * 5)
    marks = "".join(
        f'<line x1="{LEFT + at * scale:.1f}" x2="{LEFT + at * scale:.1f}" y1="{ROW}" y2="{height}" stroke="#dddddd"/>'
        f'<text x="{LEFT + at * scale + 2:.1f}" y="12">{at} s</text>'
        for at in range(0, int(length) + 1, step)
    )
    style = "body{font:14px sans-serif;margin:20px} svg text{font:11px sans-serif} pre{background:#eeeeee;padding:8px}"
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title><style>{style}</style></head>'
        f"<body><h1>{escape(title)}</h1><pre>{escape(again)}</pre><ul>{items}</ul>"
        f'<svg width="{WIDTH}" height="{height}" role="img">{marks}{drawn}</svg></body></html>\n'
    )


def _drawn(number: int, row: Row, scale: float) -> str:
    top = number * ROW + 2
    parts = [f'<text x="2" y="{top + 11}">{escape(row.name)}</text>']
    for bar in row.bars:
        width = max((bar.end - bar.begin) * scale, 2.0)
        place = f'x="{LEFT + bar.begin * scale:.1f}" y="{top}" width="{width:.1f}" height="{ROW - 4}"'
        parts.append(f'<rect {place} fill="{bar.colour}" fill-opacity="0.8"><title>{escape(bar.text)}</title></rect>')
    return "".join(parts)
