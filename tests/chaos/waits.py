"""Whether the sentences of `show waiting` were true in a chaos run, by what clients met and the harness did. Pure.

A sample is what the domain showed at a moment (`at`, monotonic seconds): `groups` and `waiting`; without `groups` no manager
answered. `accepted` are the moments at which an engine of a group accepted a write, rising, by the group's subject.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.chaos.checks import CUTS, LOST, NO_MANAGER, Blow

Sample = Mapping[str, Any]
Accepted = Mapping[str, Sequence[float]]

SHOWN_WITHIN = 6.0  # s in which an outage has to be shown: a lease of 3 s, and what is looked at then
LAGS = 1.0  # s by which what is shown may be older, or clients later
WORKS_AGAIN = 2.0  # s before clients find that a group takes writes again, in which it may be shown already as one that does
STATE_BACK = (
    10.0  # s after a fault within which a server may still be shown as away: its manager starts and says that it is there
)
AWAY = re.compile(r"\bserver (server-\d+)\b")
TAKES_AWAY = ("freeze host", "fill disk", "slow disk", "jump clock", *CUTS, *LOST, *NO_MANAGER)
BLOCKS = "blocksWrites"


def untrue_refusals(samples: Sequence[Sample], accepted: Accepted) -> list[str]:
    """Sentences that say that a group takes no writes, while its engines accepted some."""
    faults = []
    for subject, reason, began, ended in _refusals(samples):
        moments = accepted.get(subject, ())
        first = bisect_left(moments, began + LAGS)
        if first < bisect_right(moments, ended - LAGS):
            faults.append(f"{subject} accepted a write at {moments[first]:.1f}, and was shown to wait: {reason}")
    return faults


def _refusals(samples: Sequence[Sample]) -> Iterator[tuple[str, str, float, float]]:
    """Each sentence that blocks writes of a group, with the first and the last of the samples in a row that show it. What is
    shown while the domain itself waits is as old as it says there.
    """
    open_since: dict[tuple[str, str], tuple[float, float]] = {}
    for sample in [*samples, {"at": 0.0}]:
        items = sample.get("waiting", []) if "groups" in sample else []
        shown = {(str(i["subject"]), str(i["reason"])) for i in items if i[BLOCKS]} if not _domain_waits(items) else set()
        for key in open_since.keys() - shown:
            yield *key, *open_since.pop(key)
        open_since |= {key: (open_since.get(key, (sample["at"], 0))[0], sample["at"]) for key in shown}


def _domain_waits(items: Sequence[Mapping[str, Any]]) -> bool:
    return any(item["subject"] == "the domain" for item in items)


def unnamed_outages(samples: Sequence[Sample], accepted: Accepted, server_of: Mapping[str, str]) -> list[str]:
    """Groups none of whose engines accepted a write for a while, although managers answered and none of them named the group, its
    leader or the leader's server as what waits; while the domain itself waits that is why. Each outage is told once. `server_of`
    has the servers of instances.
    """
    faults, answers_since, told = [], math.inf, set[tuple[str, float]]()
    for sample in samples:
        if "groups" not in sample or _domain_waits(sample["waiting"]):
            answers_since = math.inf  # leases begin anew once the state is back
            continue
        answers_since = min(answers_since, sample["at"])
        for group in sample["groups"]:
            subject = f"group {group['store']}/{group['name']}"
            moments = accepted.get(subject, ())
            place = bisect_right(moments, sample["at"])
            if not 0 < place < len(moments) or moments[place] - sample["at"] < WORKS_AGAIN:
                continue
            since = moments[place - 1]
            if sample["at"] - max(since, answers_since) < SHOWN_WITHIN or (subject, since) in told:
                continue
            if not _named(sample["waiting"], subject, str(group["leader"]), server_of):
                told.add((subject, since))
                faults.append(
                    f"{subject} accepted no write from {since:.1f} to {moments[place]:.1f}, and was not shown to wait "
                    f"at {sample['at']:.1f}"
                )
    return faults


def _named(items: Sequence[Mapping[str, Any]], subject: str, leader: str, server_of: Mapping[str, str]) -> bool:
    subjects = {str(item["subject"]) for item in items}
    return bool(
        subjects & {subject, f"server {server_of.get(leader, '')}"} or any(name.endswith(f"({leader})") for name in subjects)
    )


def servers_not_away(samples: Sequence[Sample], blows: Sequence[Blow]) -> list[str]:
    """Servers that were shown as away, although nothing had struck them or what leads to them; each told once."""
    faults = dict[tuple[str, str], str]()
    for sample in samples:
        for item in sample.get("waiting", []):
            for server in _away(item):
                struck = any(
                    server in b.servers and b.kind in TAKES_AWAY and b.began <= sample["at"] <= b.ended + STATE_BACK
                    for b in blows
                )
                if not struck:
                    sentence = f"{sample['at']:.1f}: {item['subject']} waits: {item['reason']}, and nothing had struck {server}"
                    faults.setdefault((server, str(item["subject"])), sentence)
    return list(faults.values())


def _away(item: Mapping[str, Any]) -> set[str]:
    reason = str(item["reason"])
    if "away" in reason or "its lease ended" in reason:
        return set(AWAY.findall(f"{item['subject']} {reason} {item['hint']}"))
    return set()
