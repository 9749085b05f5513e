"""Machine: the steps of a hot copy, as values (see steps.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dkv.engine.contract import CopyLabel, QuiescePoint
from dkv.machine.step import Step


@dataclass(frozen=True)
class ClaimTarget(Step):
    """Make and sign the directory that an archive's copy goes to, or say why that is impossible."""

    rest_ms: ClassVar[int] = 500
    copy_id: int
    archive_id: int
    directory: str
    target: str
    label: CopyLabel


@dataclass(frozen=True)
class PauseWrites(Step):
    """Make the writes of a leader's clients wait for a hot copy, and say what it holds."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 100
    start_id: int
    copy_id: int
    attempt: int
    database: str
    group: str
    term: int
    ms: int


@dataclass(frozen=True)
class NoteCut(Step):
    """Note where an archive's files end while its leader's clients wait."""

    guarded: ClassVar[bool] = True
    rest_ms: ClassVar[int] = 20
    start_id: int
    copy_id: int
    attempt: int
    archive_id: int
    name: str
    reached: QuiescePoint


@dataclass(frozen=True)
class ResumeWrites(Step):
    """Look whether anything was written since the pause, let writes go on, and say so."""

    rest_ms: ClassVar[int] = 20
    start_id: int
    copy_id: int
    attempt: int
    database: str
    group: str
    term: int
    noted: QuiescePoint


@dataclass(frozen=True)
class LiftPause(Step):
    """Let writes go on that no hot copy keeps waiting any more."""

    rest_ms: ClassVar[int] = 100
    start_id: int


@dataclass(frozen=True)
class WriteCopy(Step):
    """Copy the files of a cut to their place; takes as long as it takes."""

    rest_ms: ClassVar[int] = 500
    copy_id: int
    archive_id: int
    directory: str
    name: str
    target: str
    label: CopyLabel
    rate: int


@dataclass(frozen=True)
class DropCut(Step):
    """Remove links that are needed no more, and what an unfinished copy left."""

    rest_ms: ClassVar[int] = 500
    copy_id: int
    archive_id: int
    directory: str
    target: str
    label: CopyLabel
