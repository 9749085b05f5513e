"""CLI room: events in plain words: one as a line of the log, several as the chain that answers "why"."""

from __future__ import annotations

from collections.abc import Sequence

from dkv.cli.output import moment
from dkv.client import Json

WORDS = {
    "process.requested": "{subject} was requested",
    "process.begun": "{subject} is held back no longer",
    "process.started": "{subject} was begun",
    "process.configured": "the engine of {subject} was launched",
    "process.tracked": "{subject} has loaded its data",
    "process.monitored": "{subject} takes part",
    "process.running": "{subject} runs",
    "process.syncing": "{subject} catches up",
    "process.answers": "{subject} answers again",
    "process.requested_shutdown": "{subject} was asked to stop",
    "process.kill": "{subject} is to be killed",
    "process.silent": "{subject} went silent",
    "process.exited": "{subject} ended",
    "archive.exited": "{subject} does not run any more",
    "archive.launched": "{subject} runs",
    "archive.parked": "{subject} is not restarted any more",
    "group.vacated": "{subject} has no leader any more",
    "group.superseded": "the chosen leader of {subject} was given up",
    "group.assigned": "{subject} has a new leader (start id {startId})",
    "group.opened": "{subject} opened with its leader (start id {startId})",
    "group.serving": "{subject} serves",
    "group.switchover": "{subject} is to be handed over",
    "group.handover": "{subject} hands its leadership over",
    "group.handed_over": "{subject} has a new leader (start id {startId})",
    "group.handover_failed": "{subject} was not handed over",
    "group.switchover_failed": "{subject} was not handed over",
    "group.clean_stop": "{subject} may stop",
    "group.enforced": "the leader of {subject} was enforced",
    "in_sync.joining": "archive {archiveId} joins {subject}",
    "in_sync.required": "confirmations wait for archive {archiveId} in {subject}",
    "in_sync.grown": "archive {archiveId} is in sync in {subject}",
    "in_sync.shrunk": "archive {archiveId} is not in sync any more in {subject}",
    "in_sync.join_aborted": "archive {archiveId} does not join {subject} for now",
    "database.forced_stop": "the stop of {subject} was forced",
    "database.restarting": "{subject} is being restarted",
    "database.restarted": "{subject} was restarted",
    "database.restart_stopped": "the restart of {subject} ended",
    "database.incarnation": "{subject} has a new incarnation",
    "database.options": "the options of {subject} changed",
    "server.lost": "the manager of {subject} is away",
    "server.joined": "the manager of {subject} is here",
}
"""What an event says happened, by its kind. A kind that is not here is told by its change, or by its name."""


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
    """What happened, without why."""
    words = WORDS.get(event["kind"])
    if words:
        return words.format(**event)
    return f"{event['subject']} {event['change'] or str(event['kind']).partition('.')[2].replace('_', ' ')}"


def _who(event: Json) -> str:
    by = f"{event['command']} by {event['actor']}" if event["actor"] else str(event["command"])
    if event["cause"] is None:
        return by
    return f"{by}; from #{event['cause']}" if event["cause"] > 0 else f"{by}; from before this log"
