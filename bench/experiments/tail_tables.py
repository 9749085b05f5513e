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
        good = [trial for trial in tried if "broke" not in trial]
        worst = [max(trial["behind"]) for trial in good]
        opened = [trial["times"]["first write"] for trial in good]
        main.append(
            [
                way,
                str(len(tried)),
                str(len(tried) - len(good)),
                str(sum(trial["prefix"] for trial in good)),
                str(sum(trial["early"] + trial["foreign"] for trial in good)),
                str(sum(sum(trial["refused"].values()) for trial in good)),
                str(sum(trial["lost"] + trial["doubled"] + trial["differ"] for trial in good)),
                str(sum(trial["same_bytes"] and trial["positions_equal"] for trial in good)),
                str(sum(trial["full"] for trial in good)),
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
            str(sum("broke" in trial for trial in tried)),
            str(sum(trial.get("lost", 0) + trial.get("doubled", 0) + trial.get("differ", 0) for trial in tried)),
        ]
        for way in (STREAM, COMMANDS)
        for where in CRASHES
        if (tried := of(raw, "crash", way=way, where=where))
    ]
    size = [
        [str(keys), way, " ".join(f"{trial['times']['open']:.0f}" if "times" in trial else "broke" for trial in tried)]
        for keys in sorted({trial["keys"] for trial in of(raw, "size")})
        for way in (STREAM, COMMANDS, "restart")
        if (tried := of(raw, "size", way=way, keys=keys))
    ]
    cut = [
        [
            way,
            str(len(tried)),
            str(sum(trial.get("returned") != trial.get("leader") for trial in tried)),
            str(sum(trial.get("leader") != trial.get("expected") for trial in tried)),
            str(sum(trial.get("full", 0) for trial in tried)),
            str(sum("broke" in trial for trial in tried)),
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
