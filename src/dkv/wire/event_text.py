"""Wire: what an event says happened, in plain words: `text` of an event in JSON, shown by command line and consoles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dkv.wire import schemas

WORDS = {
    "process.requested": "{subject} was requested",
    "process.begun": "{subject} is no longer held back",
    "process.started": "{subject} was started",
    "process.configured": "the engine of {subject} was launched",
    "process.tracked": "{subject} has loaded its data",
    "process.monitored": "{subject} entered the database",
    "process.running": "{subject} runs",
    "process.syncing": "{subject} is catching up",
    "process.answers": "the engine of {subject} answers again",
    "process.requested_shutdown": "{subject} was asked to stop",
    "process.kill": "{subject} is to be killed",
    "process.silent": "the engine of {subject} does not answer",
    "process.exited": "{subject} ended",
    "archive.exited": "{subject} no longer runs",
    "archive.launched": "{subject} runs",
    "database.insecure_traffic": "the engines of {subject} speak without TLS where other machines reach them",
    "process.certificate": "the engines of {subject} show another certificate",
    "group.vacated": "{subject} lost its leader",
    "group.superseded": "the assigned leader of {subject} was given up",
    "group.assigned": "process {startId} was assigned to lead {subject}",
    "group.opened": "process {startId} opened a new term of {subject}",
    "group.serving": "{subject} serves",
    "group.switchover": "a switchover of {subject} was requested",
    "group.handover": "a handover of {subject} began",
    "group.handed_over": "process {startId} leads {subject} after the handover",
    "group.handover_failed": "the handover of {subject} failed",
    "group.switchover_failed": "the switchover of {subject} failed",
    "group.clean_stop": "{subject} is ready to stop",
    "group.enforced": "an operator enforced the leader of {subject}",
    "in_sync.joining": "archive {archiveId} joins {subject}",
    "in_sync.required": "confirmed writes of {subject} wait for archive {archiveId}",
    "in_sync.grown": "archive {archiveId} entered the in-sync set of {subject}",
    "in_sync.shrunk": "archive {archiveId} left the in-sync set of {subject}",
    "in_sync.join_aborted": "archive {archiveId} stopped joining {subject}",
    "database.forced_stop": "the shutdown of {subject} was forced",
    "database.rebalance": "the leaders of {subject} are to be spread over its servers",
    "database.restarting": "{subject} is being restarted",
    "database.restarted": "{subject} was restarted",
    "database.restart_stopped": "the restart of {subject} ended",
    "database.incarnation": "{subject} has a new incarnation",
    "database.options": "the options of {subject} changed",
    "database.secret": "the managers' secret of {subject} is being changed",
    "database.access": "whom {subject} lets in changed",
    "user.created": "{subject} was created",
    "user.password_added": "{subject} got a new password",
    "user.password_dropped": "the old password of {subject} was dropped",
    "user.deleted": "{subject} was deleted",
    "process.users_altered": "the users of {subject} were altered",
    "server.relabelled": "{subject} has other labels",
    "server.replaced": "{subject} was replaced",
    "archive.not_replaced": "{subject} was not replaced",
    "server.lost": "the manager of {subject} is away",
    "server.member_added": "{subject} has a member of the domain state's etcd, which does not vote yet",
    "server.member_troubled": "the etcd member of {subject} is in trouble, or soon will be",
    "server.member_well": "the etcd member of {subject} is well again",
    "server.member_votes": "the member of {subject} votes in the domain state's etcd",
    "server.member_removed": "{subject} has no member of the domain state's etcd any more",
    "server.vote_given_up": "another server is to vote in the domain state's etcd in place of {subject}",
    "server.refused": "the manager of {subject} refused requests",
    "server.joined": "the manager of {subject} joined",
    "domain.level": "the level of the domain state rose",
    "server.admitted": "{subject} was admitted",
    "server.certificate": "the manager of {subject} has a new certificate",
    "authority.founded": "the {subject} was made",
    "authority.prepared": "a change of the {subject} began",
    "authority.released": "the change of the {subject} goes on",
    "authority.without": "a change of the {subject} leaves servers out",
    "authority.switched": "the new {subject} signs",
    "authority.done": "the {subject} was changed",
}
"""What an event says happened, by its kind. A kind that is not here is described by its change, or by its name."""


def sentence(event: Mapping[str, Any] | schemas.Event) -> str:
    """What happened, without why: "archive 2 entered the in-sync set of group orders/g3". Takes a view of an event."""
    words = WORDS.get(event["kind"])
    if words:
        return words.format(**event)
    return f"{event['subject']} {event['change'] or str(event['kind']).partition('.')[2].replace('_', ' ')}"
