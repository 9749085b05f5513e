"""Bugs to plant in every manager of a chaos run (`./dev chaos --plant NAME`), so that the run is seen to find them.

Each takes something away that the product promises, as a careless change would. Nothing of the product knows of them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import replace

PLANTS: dict[str, Callable[[], None]] = {}


def plant(bug: Callable[[], None]) -> Callable[[], None]:
    """Register a bug under its name."""
    PLANTS[bug.__name__] = bug
    return bug


@plant
def unasked() -> None:
    """A follower leads at once, and the dead leader's archive is not asked what it has."""
    from dkv.domain.rules import leadership

    rank = leadership._rank
    leadership._must_wait = lambda *_: False
    leadership._rank = lambda group, member: (False, *rank(group, member)[1:])


@plant
def required_unsaid() -> None:
    """The view of a store does not name the copies that a confirmed write has to be on."""
    from dkv.wire import views

    group = views._group_view
    views._group_view = lambda *words: {**group(*words), "requiredEndpoints": []}  # type: ignore[assignment,typeddict-item]


@plant
def unfenced() -> None:
    """A leader that is cut off from the domain serves on."""
    from dkv.machine import leader_steps

    leader_steps._cut_off = lambda *_: False


@plant
def wrong_cause() -> None:
    """An engine that SIGKILL ended is reported as one that ended for want of memory."""
    from dkv.engine import causes
    from dkv.engine.contract import Cause

    judge = causes.judge

    def guess(evidence: causes.Evidence) -> causes.Verdict:
        verdict = judge(evidence)
        return replace(verdict, cause=Cause.OUT_OF_MEMORY) if verdict.cause is Cause.KILLED_BY_SIGNAL else verdict

    causes.judge = guess


@plant
def lock_kept() -> None:
    """A manager that cannot sign an archive's lock, on a full disk, keeps it: what a chaos run found once."""
    from dkv import files
    from dkv.engine import archive

    def take(directory: str) -> int | None:
        with files.directory(directory) as folder:
            fd = files.open_file(archive.LOCK_FILE, os.O_RDWR | os.O_CREAT, at=folder)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd

    archive.take_lock = take


@plant
def silent() -> None:
    """Nothing is ever shown as waiting."""
    from dkv.wire import maintenance

    maintenance.waiting_view = lambda *_, **__: []
