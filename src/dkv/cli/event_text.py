"""CLI: events as people read them: one as a line of the log, several as the chain that answers "why"."""

from __future__ import annotations

from collections.abc import Sequence

from dkv.cli.output import moment
from dkv.client import Json


def logged(event: Json) -> str:
    """`#41 TIME group orders/g1 OPEN -> VACANT because process 1, its leader, ended (ProcessExited by server0; from #40)`."""
    moved = event["change"] and not event["change"].startswith("(new)")
    what = f"{event['subject']} {event['change']}" if moved else _words(event)
    because = _because(event, what)
    return f"#{event['sequence']} {moment(event['at'])} {what}{because and f' because {because}'} ({_who(event)})"


def chain(events: Sequence[Json], trimmed: bool) -> list[str]:
    """The newest event first, then what it happened because of, and where that began."""
    lines = [f"{'  because ' if n else ''}{_sentence(event)}" for n, event in enumerate(events)]
    last = events[-1]
    if trimmed:
        return [*lines, f"What #{last['sequence']} followed from is not in the log any more."]
    by = last["actor"] or "nobody known"
    began = f"somebody ordered it: {last['command']}, by {by}" if last["ordered"] else f"{by} reported it: {last['command']}"
    return [*lines, f"There it began: {began}."]


def _sentence(event: Json) -> str:
    words = _words(event)
    because = _because(event, words).removeprefix("it ended: ")
    return f"#{event['sequence']} {moment(event['at'])} {words}{because and f': {because}'}"


def _because(event: Json, words: str) -> str:
    """Why, unless that says no more than what happened."""
    because = str(event["because"])
    return "" if words.endswith(because.removeprefix("it ")) else because


def _words(event: Json) -> str:
    """What happened, without why: the manager's sentence. One of a version that sends none is told by its change or its name."""
    return str(event.get("text") or f"{event['subject']} {event['change'] or event['kind']}")


def _who(event: Json) -> str:
    by = f"{event['command']} by {event['actor']}" if event["actor"] else str(event["command"])
    if event["cause"] is None:
        return by
    return f"{by}; from #{event['cause']}" if event["cause"] > 0 else f"{by}; from before this log"
