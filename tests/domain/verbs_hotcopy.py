"""Tests of the domain: the words of hot copies. Each fact comes from the manager that may say it."""

from __future__ import annotations

from typing import Any

from dkv.domain import facts, orders
from dkv.domain.command import Command
from dkv.domain.hotcopy import HotCopy
from dkv.domain.positions import PositionReport
from tests.domain.runner import Line, ScenarioRunner, verb


def _copy(runner: ScenarioRunner, line: Line) -> HotCopy:
    """The copy `copy=` names, else the newest."""
    copies = runner.world.state.copies
    return copies[line.number("copy", max(copies))]


def _part(runner: ScenarioRunner, line: Line) -> dict[str, Any]:
    """What every fact about one archive of a copy says."""
    archive_id = runner.archive(line.words[0])
    archive = runner.world.state.archives.get(archive_id)
    server = line.options.get("by", archive.server_id if archive else "nobody")
    return {"now": runner.world.now, "server_id": server, "copy_id": _copy(runner, line).copy_id, "archive_id": archive_id}


def _cut(runner: ScenarioRunner, line: Line) -> dict[str, Any]:
    """What every fact of a leader's manager about the cut says."""
    copy = _copy(runner, line)
    more = {"copy_id": copy.copy_id, "attempt": line.number("attempt", copy.attempt), "start_id": runner.start_id(line.words[0])}
    return runner.leads(line, **more)


@verb("hotcopy")
def _hotcopy(runner: ScenarioRunner, line: Line) -> Command:
    """`hotcopy orders orders-1=/b/1 to=/b shared partial rate=5`."""
    own = {"to", "rate"}
    targets = tuple(orders.CopyTarget(archive_id=runner.archive(w), path=p) for w, p in line.options.items() if w not in own)
    return orders.RequestHotCopy(
        now=runner.world.now,
        database=line.words[0],
        targets=targets,
        default_path=line.options.get("to", ""),
        shared=line.has("shared"),
        whole=not line.has("partial"),
        max_rate=line.number("rate"),
    )


@verb("cancel-hotcopy")
def _cancel(runner: ScenarioRunner, line: Line) -> Command:
    return orders.CancelHotCopy(now=runner.world.now, copy_id=int(line.words[0]))


@verb("prepared")
def _prepared(runner: ScenarioRunner, line: Line) -> Command:
    return facts.CopyPrepared(**_part(runner, line))


@verb("paused")
def _paused(runner: ScenarioRunner, line: Line) -> Command:
    size = line.number("size", 500)
    return facts.WritesPaused(offset=size + 14, history="h", file="1.incr.aof", size=size, **_cut(runner, line))


@verb("noted")
def _noted(runner: ScenarioRunner, line: Line) -> Command:
    size = line.number("size", 500)
    attempt = line.number("attempt", _copy(runner, line).attempt)
    return facts.CutNoted(attempt=attempt, file="1.incr.aof", length=size, size=size + 88, **_part(runner, line))


@verb("resumed")
def _resumed(runner: ScenarioRunner, line: Line) -> Command:
    return facts.WritesResumed(held=not line.has("written"), **_cut(runner, line))


@verb("copied")
def _copied(runner: ScenarioRunner, line: Line) -> Command:
    if len(line.words) > 1:
        return facts.CopyProgressed(percent=int(line.words[1]), **_part(runner, line))
    return facts.CopyWritten(**_part(runner, line))


@verb("broke")
def _broke(runner: ScenarioRunner, line: Line) -> Command:
    return facts.CopyBroke(reason=line.options["because"], **_part(runner, line))


@verb("dropped")
def _dropped(runner: ScenarioRunner, line: Line) -> Command:
    return facts.CutDropped(**_part(runner, line))


@verb("started-with")
def _started_with(runner: ScenarioRunner, line: Line) -> Command:
    """A restored archive's process, which says what it holds."""
    return facts.ProcessStarted(report=PositionReport(7, 3, "n", 100), origin=line.options["copy"], **runner.of(line))


@verb("copies")
def _copies(runner: ScenarioRunner, line: Line) -> list[str]:
    """Every hot copy, a line each, and a line for each archive."""
    lines = []
    for copy in runner.world.state.copies.values():
        message = f": {copy.message}" if copy.message else ""
        lines.append(f"hot copy {copy.copy_id} of {copy.database} {copy.stage} attempt {copy.attempt}{message}")
        for part in copy.parts:
            marks = [w for w in ("prepared", "noted", "linked", "copied") if getattr(part, w)]
            lines.append(f"  archive {part.archive_id} to {part.path} {part.percent} % {' '.join(marks)}".rstrip())
    return lines or ["no hot copy"]


@verb("recognised")
def _recognised(runner: ScenarioRunner, line: Line) -> Command:
    """`recognised orders-1 copy=cut group=g1 slots=0-8191`; without slots there is no copy."""
    archive_id = runner.archive(line.words[0])
    slots = tuple((int(low), int(high)) for low, _, high in [line.options.get("slots", "").partition("-")] if high)
    server = line.options.get("by", runner.world.state.archives[archive_id].server_id)
    return facts.CopyRecognised(
        now=runner.world.now,
        server_id=server,
        archive_id=archive_id,
        cut=line.options.get("copy", ""),
        group=line.options.get("group", ""),
        slots=slots,
    )  # type: ignore[arg-type]
