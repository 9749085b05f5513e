"""Archives to be restored: what their hot copies say decides which group they are of, and which groups a database has."""

from __future__ import annotations

from dkv.constants import SLOTS
from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.facts import CopyRecognised
from dkv.domain.model import Archive, BackupManifest
from dkv.domain.orders import CreateDatabase, NewGroup
from dkv.domain.refusals import no, stale_fact
from dkv.domain.rules.archives import group_of_copy


def copy_recognised(draft: Draft, command: CopyRecognised) -> Refused | None:
    """Its manager read what is in its directory. Of a database of several groups it joins the one that the copy is of."""
    archive = draft.archives.get(command.archive_id)
    if archive is None or archive.server_id != command.server_id or not archive.unread:
        return stale_fact(f"archive {command.archive_id} does not wait to be read")
    archive = draft.put_archive(archive, copy=BackupManifest(command.cut, command.group, command.slots))
    if not command.slots:
        draft.note(
            "archive.recognised",
            _subject(archive),
            "no whole hot copy is in its directory yet",
            database=archive.database,
            archive_id=archive.archive_id,
        )
        return None
    group = group_of_copy(draft, archive, archive.database)
    if group and not draft.process_on(archive.archive_id):
        archive = draft.put_archive(archive, group=group)
    draft.note(
        "archive.recognised",
        _subject(archive),
        f"it holds a hot copy of group {command.group}, cut {command.cut}",
        database=archive.database,
        archive_id=archive.archive_id,
    )
    return None


def _subject(archive: Archive) -> str:
    return f"archive {archive.archive_id}"


def groups_of_copies(draft: Draft, command: CreateDatabase) -> tuple[NewGroup, ...] | Refused:
    """The groups of a database that is created for archives with hot copies: those that were copied. None without any.

    Refused when they do not cover all hash slots: a database without some of its groups would lack their data.
    """
    early = [a for a in draft.archives_of(command.name) if not a.database_uid]
    copies = {a.copy.slots: a.copy for a in early if not a.removed and a.copy and a.copy.slots}
    if command.groups or command.archives or not copies or ((0, SLOTS - 1),) in copies:
        return ()
    manifests = sorted(copies.values(), key=lambda manifest: manifest.slots)
    names = ", ".join(manifest.group for manifest in manifests)
    missing = _missing([pair for manifest in manifests for pair in manifest.slots])
    if missing:
        return no(
            "bad_slots",
            f"{command.name} is to be restored from copies of {names}; hash slots {missing} are not among them exactly once.",
            "Create an archive from the copy of each group first.",
        )
    return tuple(
        NewGroup(name=manifest.group, shard_id=(f"{n:02x}" + command.uid * 40)[:40], slots=manifest.slots)
        for n, manifest in enumerate(manifests)
    )


def _missing(ranges: list[tuple[int, int]]) -> str:
    """The first slots that no range has, or that two have; empty when all are there once."""
    expected = 0
    for low, high in sorted(ranges):
        if low != expected:
            return f"{min(low, expected)}-{max(low, expected) - 1}"
        expected = high + 1
    return "" if expected == SLOTS else f"{expected}-{SLOTS - 1}"
