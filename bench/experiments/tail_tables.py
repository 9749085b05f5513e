"""Experiment "the dead leader's tail": what people read of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from kit.record import Raw, Table, of

STREAM, COMMANDS = "stream", "commands"
CRASHES = (
    "before",
    "feeder in the middle",
    "follower in the middle",
    "feeder, then resumed",
    "between",
    "before the marker",
    "after the marker",
)


def tables(raw: Sequence[Raw]) -> list[Table]:
    """What people read."""
    main = []
    for way in (STREAM, COMMANDS):
        tried = of(raw, "main", way=way)
        good = [one for one in tried if "broke" not in one]
        worst = [max(one["behind"]) for one in good]
        opened = [one["times"]["first write"] for one in good]
        main.append(
            [
                way,
                str(len(tried)),
                str(len(tried) - len(good)),
                str(sum(one["prefix"] for one in good)),
                str(sum(one["early"] + one["foreign"] for one in good)),
                str(sum(sum(one["refused"].values()) for one in good)),
                str(sum(one["lost"] + one["doubled"] + one["differ"] for one in good)),
                str(sum(one["same_bytes"] and one["positions_equal"] for one in good)),
                str(sum(one["full"] for one in good)),
                f"{statistics.median(worst):.0f} / {max(worst)}" if worst else "",
                f"{statistics.median(opened):.0f} / {max(opened):.0f}" if opened else "",
            ]
        )
    header = (
        "way",
        "trials",
        "broke",
        "exact prefix",
        "early writes",
        "probes refused",
        "lost+doubled+differ",
        "same bytes after",
        "full resyncs",
        "bytes behind med/max",
        "first write ms med/max",
    )
    crash = [
        [
            way,
            where,
            str(len(tried)),
            str(sum("broke" in one for one in tried)),
            str(sum(one.get("lost", 0) + one.get("doubled", 0) + one.get("differ", 0) for one in tried)),
        ]
        for way in (STREAM, COMMANDS)
        for where in CRASHES
        if (tried := of(raw, "crash", way=way, where=where))
    ]
    size = [
        [str(keys), way, " ".join(f"{one['times']['open']:.0f}" if "times" in one else "broke" for one in tried)]
        for keys in sorted({one["keys"] for one in of(raw, "size")})
        for way in (STREAM, COMMANDS, "restart")
        if (tried := of(raw, "size", way=way, keys=keys))
    ]
    cut = [
        [
            way,
            str(len(tried)),
            str(sum(one.get("returned") != one.get("leader") for one in tried)),
            str(sum(one.get("leader") != one.get("expected") for one in tried)),
            str(sum(one.get("full", 0) for one in tried)),
            str(sum("broke" in one for one in tried)),
        ]
        for way in ("naive stream", STREAM, COMMANDS)
        if (tried := of(raw, "cut", way=way))
    ]
    return [
        Table("The main case", header, main),
        Table("Crashes", ("way", "where", "trials", "broke", "wrong"), crash),
        Table(
            "A follower that was ahead of the heir returns",
            ("way", "trials", "diverged", "leader wrong", "full resyncs", "broke"),
            cut,
        ),
        Table("Kill to first write, ms", ("keys", "way", "trials"), size),
    ]
