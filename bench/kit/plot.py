"""Bench kit: pictures, made by matplotlib when it is there (`pip install -e '.[bench]'`); a sentence when it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kit.record import ROOT, say


def _canvas() -> Any:
    """matplotlib's figure module, or None."""
    try:
        import matplotlib
    except ImportError:
        say("no picture: matplotlib is not installed (./dev bench installs it when it can)")
        return None
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "dkv", "svg.fonttype": "none", "font.size": 9})
    matplotlib.rcParams.update({"axes.grid": True, "grid.alpha": 0.3})
    from matplotlib import pyplot

    return pyplot


def _save(pyplot: Any, figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    say(f"picture: {path.relative_to(ROOT)}")


def distributions(path: Path, title: str, series: Mapping[str, Sequence[float]], target: float | None = None) -> None:
    """Cumulative distributions of durations in ms, on a logarithmic axis; targets as a line."""
    pyplot = _canvas()
    if pyplot is None:
        return
    figure, axes = pyplot.subplots(figsize=(7, 3.6))
    for name, values in series.items():
        ordered = sorted(values)
        axes.step(ordered, [(i + 1) / len(ordered) for i in range(len(ordered))], where="post", label=f"{name} ({len(values)})")
    if target is not None:
        axes.axvline(target, linestyle=":", color="black", label=f"target {target:g} ms")
    axes.set(xscale="log", xlabel="ms", ylabel="share of rounds", title=title, ylim=(0, 1.02))
    axes.legend(loc="lower right")
    _save(pyplot, figure, path)


def ratios(path: Path, title: str, series: Mapping[str, Sequence[float]], target: float) -> None:
    """Box plots of ratios, one box a measurement; the target as a line."""
    pyplot = _canvas()
    if pyplot is None:
        return
    figure, axes = pyplot.subplots(figsize=(7, 0.45 * len(series) + 1.4))
    names = list(series)[::-1]
    axes.boxplot([series[name] for name in names], orientation="horizontal")
    axes.set_yticks(range(1, len(names) + 1), names)
    axes.axvline(1.0, color="grey", linewidth=0.8)
    axes.axvline(target, linestyle=":", color="black")
    axes.set(xlabel=f"ratio to the peer; dotted: target {target:g}", title=title)
    _save(pyplot, figure, path)


def bars(path: Path, title: str, values: Mapping[str, float], unit: str) -> None:
    """One bar a value."""
    pyplot = _canvas()
    if pyplot is None:
        return
    figure, axes = pyplot.subplots(figsize=(7, 0.4 * len(values) + 1.2))
    names = list(values)[::-1]
    drawn = axes.barh(names, [values[name] for name in names], height=0.6)
    axes.bar_label(drawn, fmt="%.3g", padding=3)
    axes.set(xlabel=unit, title=title)
    _save(pyplot, figure, path)
