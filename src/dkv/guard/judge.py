"""When a machine counts as cut off. Pure: times are arguments, in seconds of a monotonic clock that counts suspension too."""

from __future__ import annotations

import errno
from typing import NamedTuple

SILENT = 1.5  # s without an answer of any other machine after which leaders are fenced; the others wait 3 s for silence
TRIED = 1.0  # s of that in which this very process tried: whoever stood still has heard nothing, whoever answers
EVERY = 0.5  # s from an answer to the next attempts
HURRY = 0.25  # s between attempts that nobody answers


class Contact(NamedTuple):
    """What is known of the other machines: when one of them answered last, and since when attempts have been without any
    answer; None where one was answered and nothing was tried since.
    """

    heard_at: float = float("-inf")
    tried_since: float | None = None


def tried(contact: Contact, now: float) -> Contact:
    """Attempts at all other machines are begun."""
    return contact if contact.tried_since is not None else contact._replace(tried_since=now)


def heard(now: float) -> Contact:
    """Another machine answers."""
    return Contact(now)


def is_cut_off(contact: Contact, now: float) -> bool:
    """Whether leaders of this machine have to be fenced: the others may soon choose new ones."""
    return contact.tried_since is not None and now - contact.heard_at >= SILENT and now - contact.tried_since >= TRIED


def is_answer(error: int) -> bool:
    """Whether the outcome of a connection's attempt came from the other machine. A refusal did: its kernel says that no manager
    listens there, so the network is whole; where all managers are dead nobody can choose a leader. Everything else may be said
    by this machine or a router, or by nobody.
    """
    return error in (0, errno.ECONNREFUSED)
