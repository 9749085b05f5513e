"""API: pages in Prometheus' text format, version 0.0.4: samples in families, each with its help and its type. Pure.

Written by hand: a library's collectors take two to four times the processor time for the same page
(docs/decisions/0075-numbers-for-machines.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

HEAD = 2  # lines in front of a family's samples
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Metric:
    """A family: its name with its unit at the end, what kind it is, and what it says in one sentence."""

    name: str
    kind: Literal["gauge", "counter", "summary", "histogram"]
    help: str

    @property
    def head(self) -> list[str]:
        """The two lines in front of its samples."""
        text = self.help.replace("\\", r"\\").replace("\n", r"\n")
        return [f"# HELP {self.name} {text}", f"# TYPE {self.name} {self.kind}"]


def labels(pairs: Mapping[str, str]) -> str:
    """Labels as they stand between the braces of a sample; an empty value says nothing and is left out."""
    return ",".join(f'{name}="{_escaped(text)}"' for name, text in pairs.items() if text)


def joined(*texts: str) -> str:
    """Labels of several texts that `labels` made."""
    return ",".join(text for text in texts if text)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


class Page:
    """A page that is being written. The samples of a family stand together, in whatever order they are added."""

    def __init__(self) -> None:
        self._families: dict[str, list[str]] = {}
        self._columns: tuple[tuple[Metric, ...], list[list[str]]] = ((), [])

    def lines(self, metric: Metric) -> list[str]:
        """The lines of a family, to which samples are appended."""
        lines = self._families.get(metric.name)
        if lines is None:
            lines = self._families[metric.name] = metric.head
        return lines

    def add(self, metric: Metric, value: float | str, labels: str = "", suffix: str = "") -> None:
        """One sample; a text is a number as somebody else wrote it. `suffix` is that of a part, such as _sum."""
        sample = f"{metric.name}{suffix}{{{labels}}} {value}" if labels else f"{metric.name}{suffix} {value}"
        self.lines(metric).append(sample)

    def add_lines(self, metrics: tuple[Metric, ...], lines: Sequence[str]) -> None:
        """Samples of many families at once, each as a line or several; "" for a family that has none. Fast where the same tuple
        is given again and again.
        """
        if self._columns[0] is not metrics:
            self._columns = metrics, [self.lines(metric) for metric in metrics]
        for column, line in zip(self._columns[1], lines, strict=True):
            if line:
                column.append(line)

    def text(self) -> str:
        """The page. A family without samples is not on it."""
        return "\n".join(chain.from_iterable(lines for lines in self._families.values() if len(lines) > HEAD)) + "\n"
