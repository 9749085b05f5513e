"""Wire: what an event says happened, in plain words: `text` of an event in JSON, shown by command line and consoles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dkv.wire import schemas

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


def sentence(event: Mapping[str, Any] | schemas.Event) -> str:
    """What happened, without why, of an event as views.event_view shows it: "archive 2 is in sync in group orders/g3"."""
    words = WORDS.get(event["kind"])
    if words:
        return words.format(**event)
    return f"{event['subject']} {event['change'] or str(event['kind']).partition('.')[2].replace('_', ' ')}"
