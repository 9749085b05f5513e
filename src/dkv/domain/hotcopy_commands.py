"""Domain: the commands of hot copies. commands.py lists them with all others."""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain.command import Command, LeaderFact, ManagerFact


@dataclass(frozen=True, kw_only=True)
class CopyTarget:
    """One archive to copy, and the directory on its server that the copy goes to."""

    archive_id: int
    path: str


@dataclass(frozen=True, kw_only=True)
class RequestHotCopy(Command):
    """Copy archives of a database that serves, all at one moment.

    `targets` are copied in any case; with `default_path` so is every other archive that is in sync, each into that
    directory of its own server, or with `shared` into a directory of its own below it. `whole` refuses a copy that
    lacks a storage group. `max_rate` is in bytes per second and archive; 0 means no limit.
    """

    database: str
    targets: tuple[CopyTarget, ...] = ()
    default_path: str = ""
    shared: bool = False
    whole: bool = True
    max_rate: int = 0


@dataclass(frozen=True, kw_only=True)
class CancelHotCopy(Command):
    """End a hot copy; what was copied is removed again."""

    copy_id: int


@dataclass(frozen=True, kw_only=True)
class CopyPrepared(ManagerFact):
    """The directory that an archive's copy goes to is empty and has room."""

    copy_id: int
    archive_id: int


@dataclass(frozen=True, kw_only=True)
class WritesPaused(LeaderFact):
    """The group's leader makes its clients' writes wait. What was written by then: offset, and a file's length."""

    copy_id: int
    attempt: int
    start_id: int
    offset: int
    history: str
    file: str
    size: int


@dataclass(frozen=True, kw_only=True)
class CutNoted(ManagerFact):
    """An archive noted where its files end, and holds them by links. `file` and `length` are of the newest one."""

    copy_id: int
    attempt: int
    archive_id: int
    file: str
    length: int
    size: int


@dataclass(frozen=True, kw_only=True)
class WritesResumed(LeaderFact):
    """The group's leader looked again, then let its writes go on. `held`: nothing was written since the pause."""

    copy_id: int
    attempt: int
    start_id: int
    held: bool


@dataclass(frozen=True, kw_only=True)
class CopyProgressed(ManagerFact):
    """An archive's files are copied so far."""

    copy_id: int
    archive_id: int
    percent: int


@dataclass(frozen=True, kw_only=True)
class CopyWritten(ManagerFact):
    """An archive's copy is whole and on disk."""

    copy_id: int
    archive_id: int


@dataclass(frozen=True, kw_only=True)
class CopyBroke(ManagerFact):
    """An archive cannot be copied."""

    copy_id: int
    archive_id: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class CutDropped(ManagerFact):
    """The links that held an archive's files are gone."""

    copy_id: int
    archive_id: int
