"""Hot copies: one cut through all groups of a copy at one moment, proven before anything is copied.

Why the cut is one moment: each leader says "writes wait" before the first archive notes where its files end, and shows
after the last one did that nothing was written since it said so. So there is a moment, between the two, at which every
group was as it was noted; no clock is needed to know it. An attempt that cannot be proven is void and made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dkv.domain.decision import Refused
from dkv.domain.draft import Draft
from dkv.domain.facts import (
    CopyBroke,
    CopyPrepared,
    CopyProgressed,
    CopyWritten,
    CutDropped,
    CutNoted,
    ManagerFact,
    WritesPaused,
    WritesResumed,
)
from dkv.domain.hotcopy import AT_THE_CUT, CopyPart, CopyStage, GroupCut, HotCopy
from dkv.domain.lifecycle import NEW, row
from dkv.domain.model import Archive, Database, DatabaseState, Group, Server
from dkv.domain.orders import CancelHotCopy, CopyTarget, RequestHotCopy
from dkv.domain.phases import Open
from dkv.domain.refusals import living_database, no, stale_fact, unknown_archive
from dkv.domain.rules.archives import bad_path

ATTEMPTS = 5  # to cut; each that is void cost the clients one pause
CUT_WITHIN = 3_000  # ms of the domain clock for one stage of an attempt
PREPARED_WITHIN = 30_000  # ms of the domain clock
KEPT = 20  # finished hot copies, per database


# Orders --------------------------------------------------------------------------------------------------------


def request_hot_copy(draft: Draft, command: RequestHotCopy) -> Refused | None:
    """Begin a hot copy of archives that are in sync; one at a time per database."""
    database = living_database(draft.databases, command.database)
    if isinstance(database, Refused):
        return database
    running = next((c for c in draft.copies.values() if c.database == database.name and not c.over), None)
    if running:
        return no(
            "copy_running",
            f"Hot copy {running.copy_id} of {database.name} is being made.",
            "Wait for its end, or cancel it; one is made at a time.",
        )
    chosen = _chosen(draft, database, command)
    refused = chosen if isinstance(chosen, Refused) else _bad_request(draft, database, command, chosen)
    if isinstance(chosen, Refused) or refused:
        return refused
    _begin(draft, database, command, chosen)
    return None


def _chosen(draft: Draft, database: Database, command: RequestHotCopy) -> list[tuple[Archive, str]] | Refused:
    """The archives to copy and where to; those that were named, and with a default place every other in sync."""
    named: dict[int, CopyTarget] = {}
    for target in command.targets:
        archive = draft.archives.get(target.archive_id)
        if archive is None or archive.removed or archive.database != database.name or target.archive_id in named:
            return unknown_archive(target.archive_id)
        named[target.archive_id] = target
    rest = _in_sync(draft, database.name) - named.keys() if command.default_path else set()
    below = _need_a_place_below(draft, rest, command.shared)
    chosen = [(draft.archives[i], t.path) for i, t in named.items()]
    for archive_id in sorted(rest):
        archive = draft.archives[archive_id]
        name = f"/{archive.name}" if archive_id in below else ""
        chosen.append((archive, command.default_path.rstrip("/") + name))
    return sorted(chosen, key=lambda pair: pair[0].archive_id)


def _in_sync(draft: Draft, database: str) -> set[int]:
    return {a for g in draft.groups_of(database) for a in g.in_sync if a in draft.archives}


def _need_a_place_below(draft: Draft, archive_ids: set[int], shared: bool) -> set[int]:
    """Archives that would share one directory of one machine with another, or are asked to."""
    servers = {i: draft.servers[draft.archives[i].server_id] for i in archive_ids}
    return {i for i in servers if shared or any(i != j and _one_machine(servers[i], servers[j]) for j in servers)}


def _one_machine(server: Server, other: Server) -> bool:
    """Whether two servers may share their files: managers of one machine may have addresses of their own."""
    return server.host == other.host or "" != server.boot_id == other.boot_id


def _bad_request(draft: Draft, database: Database, command: RequestHotCopy, chosen: list[tuple[Archive, str]]) -> Refused | None:
    if not chosen and command.default_path:
        return no("cannot_copy", f"No archive of {database.name} is in sync.", "Start it, or wait until it serves.")
    if not chosen:
        return no("bad_value", "The request names no archive to copy.", "Name archives and directories, or a default directory.")
    if command.max_rate < 0:
        return no("bad_value", f"The rate {command.max_rate} is below zero.", "Give bytes per second; 0 means no limit.")
    for archive, path in chosen:
        refused = _cannot_copy(draft, archive) or _bad_place(draft, archive, path)
        if refused:
            return refused
    places = [(draft.servers[a.server_id].host, path.rstrip("/")) for a, path in chosen]
    if len(set(places)) < len(places):
        return no("path_conflict", "Two archives would be copied into one directory.", "Give each a directory of its own.")
    covered = {a.group for a, _ in chosen}
    missing = [g.name for g in draft.groups_of(database.name) if g.name not in covered]
    if missing and command.whole:
        return no(
            "cannot_copy",
            f"The request names no archive of storage group {missing[0]}.",
            "Add one, or allow a copy that lacks storage groups.",
        )
    return None


def _cannot_copy(draft: Draft, archive: Archive) -> Refused | None:
    group = draft.groups[(archive.database, archive.group)]
    if not group.serving:
        return no(
            "cannot_copy",
            f"Group {group.name} of {archive.database} has no serving leader.",
            "Start it, or wait until it serves.",
        )
    if archive.archive_id not in group.in_sync or draft.process_on(archive.archive_id) is None:
        return no(
            "cannot_copy",
            f"Archive {archive.archive_id} ({archive.name}) is not in sync.",
            f"Copy one of {', '.join(map(str, group.in_sync))}, or wait until it is in sync.",
        )
    return None


def _bad_place(draft: Draft, archive: Archive, path: str) -> Refused | None:
    if refused := bad_path("A hot copy", path):
        return refused
    host = draft.servers[archive.server_id].host
    for other in draft.archives.values():
        known = other.path and other.server_id in draft.servers and draft.servers[other.server_id].host == host
        if known and f"{path}/".startswith(f"{other.path}/"):
            return no(
                "path_conflict",
                f"{path} is the archive of {other.name} of {other.database}, or inside it.",
                "Choose a directory of its own.",
            )
    return None


def _begin(draft: Draft, database: Database, command: RequestHotCopy, chosen: list[tuple[Archive, str]]) -> None:
    groups = sorted({a.group for a, _ in chosen})
    first = draft.groups[(database.name, groups[0])]
    assert first.leader_process is not None
    copy = HotCopy(
        draft.next_copy_id,
        database.name,
        database.uid,
        first.leader_process,
        tuple(CopyPart(a.archive_id, a.server_id, a.group, path) for a, path in chosen),
        tuple(GroupCut(g) for g in groups),
        max_rate=command.max_rate,
        begun_at=command.now,
    )
    draft.next_copy_id += 1
    draft.put(copy)
    move = row("copy", NEW, "requested")
    draft.note(
        "copy.requested", f"hot copy {copy.copy_id}", move.because, database=database.name, change=f"{NEW} -> {move.target}"
    )
    draft.answer.update(copyId=copy.copy_id, coordinatorStartId=copy.coordinator)
    _trim(draft, database.name)


def _trim(draft: Draft, database: str) -> None:
    over = [c for _, c in sorted(draft.copies.items()) if c.database == database and c.over]
    for copy in [c for c in over if not any(p.linked for p in c.parts)][: max(0, len(over) - KEPT)]:
        draft.drop(copy)


def cancel_hot_copy(draft: Draft, command: CancelHotCopy) -> Refused | None:
    """End a hot copy; its managers remove what was copied."""
    copy = draft.copies.get(command.copy_id)
    if copy is None:
        return no("unknown_copy", f"There is no hot copy {command.copy_id}.", "Finished hot copies are kept for a while only.")
    if copy.over:
        return no("copy_ended", f"Hot copy {copy.copy_id} is {copy.stage.lower()} already.", "Nothing to do.")
    draft.move_copy(copy, "cancelled", message="cancelled by an operator")
    return None


# Facts ---------------------------------------------------------------------------------------------------------


def _mine(
    draft: Draft, fact: ManagerFact, copy_id: int, archive_id: int, *stages: CopyStage
) -> tuple[HotCopy, CopyPart] | Refused:
    """The copy at one of these stages and its part on that manager's server, or why not."""
    copy = draft.copies.get(copy_id)
    part = copy.part(archive_id) if copy else None
    if copy is None or part is None or part.server_id != fact.server_id:
        return stale_fact(f"hot copy {copy_id} has no archive {archive_id} on {fact.server_id}")
    if copy.stage not in stages:
        return stale_fact(f"hot copy {copy_id} is {copy.stage.lower()}")
    return copy, part


def _put_part(draft: Draft, copy: HotCopy, part: CopyPart) -> None:
    parts = tuple(part if p.archive_id == part.archive_id else p for p in copy.parts)
    draft.put(replace(copy, parts=parts))


def copy_prepared(draft: Draft, command: CopyPrepared) -> Refused | None:
    """The place of one archive's copy is ready."""
    copy_and_part = _mine(draft, command, command.copy_id, command.archive_id, CopyStage.PREPARING)
    if isinstance(copy_and_part, Refused):
        return copy_and_part
    _put_part(draft, copy_and_part[0], replace(copy_and_part[1], prepared=True))
    return None


def _cutting(draft: Draft, fact: WritesPaused | WritesResumed, stage: CopyStage) -> tuple[HotCopy, GroupCut] | Refused:
    """The copy at the fact's attempt and this stage, and its cut through a group that is led steadily."""
    copy = draft.copies.get(fact.copy_id)
    cut = copy.cut(fact.group) if copy and copy.database == fact.database else None
    group = draft.groups.get((fact.database, fact.group))
    if copy is None or cut is None or group is None or (copy.stage, copy.attempt) != (stage, fact.attempt):
        return stale_fact(f"hot copy {fact.copy_id} does not await that in attempt {fact.attempt}")
    leader = draft.processes.get(fact.start_id)
    if leader is None or leader.server_id != fact.server_id or not _steady(group, fact.term, fact.start_id):
        return stale_fact(f"process {fact.start_id} does not lead {group.name} steadily in term {fact.term}")
    return copy, cut


def _steady(group: Group, term: int, start_id: int | None) -> bool:
    leads = isinstance(group.phase, Open) and group.phase.serving
    return leads and (group.term, group.leader_process) == (term, start_id)


def _put_cut(draft: Draft, copy: HotCopy, cut: GroupCut) -> None:
    cuts = tuple(cut if c.group == cut.group else c for c in copy.cuts)
    draft.put(replace(copy, cuts=cuts))


def writes_paused(draft: Draft, command: WritesPaused) -> Refused | None:
    """A group's writes wait, and this is what was written."""
    copy_and_cut = _cutting(draft, command, CopyStage.PAUSING)
    if isinstance(copy_and_cut, Refused):
        return copy_and_cut
    cut = GroupCut(command.group, command.term, command.start_id, command.offset, command.history, command.file, command.size)
    _put_cut(draft, copy_and_cut[0], cut)
    return None


def cut_noted(draft: Draft, command: CutNoted) -> Refused | None:
    """An archive's manager reports where its files end. The leader's own has to end where it said."""
    copy_and_part = _mine(draft, command, command.copy_id, command.archive_id, CopyStage.CUTTING)
    if isinstance(copy_and_part, Refused):
        return copy_and_part
    copy, part = copy_and_part
    cut, process = copy.cut(part.group), draft.process_on(command.archive_id)
    if copy.attempt != command.attempt or cut is None or part.noted:
        return stale_fact(f"hot copy {copy.copy_id} is at attempt {copy.attempt}, or knows it")
    _put_part(draft, copy, replace(part, noted=True, linked=True, size=command.size))
    leads = process is not None and process.start_id == cut.start_id
    if leads and (command.file, command.length) != (cut.file, cut.size):
        _void(draft, draft.copies[copy.copy_id], f"the leader of {cut.group} wrote before the cut was complete")
    return None


def writes_resumed(draft: Draft, command: WritesResumed) -> Refused | None:
    """A leader looked again before it let writes go on: unchanged, or the attempt is void."""
    copy_and_cut = _cutting(draft, command, CopyStage.HOLDING)
    if isinstance(copy_and_cut, Refused):
        return copy_and_cut
    copy, cut = copy_and_cut
    if cut.held:  # its pause was lifted then, so that what is found now says nothing
        return stale_fact(f"the pause of {cut.group} held until its leader looked")
    if command.held:
        _put_cut(draft, copy, replace(cut, held=True))
    else:
        _void(draft, copy, f"the pause of {cut.group} ended before the cut was complete")
    return None


def copy_progressed(draft: Draft, command: CopyProgressed) -> Refused | None:
    """A part is copied so far."""
    copy_and_part = _mine(draft, command, command.copy_id, command.archive_id, CopyStage.COPYING)
    if isinstance(copy_and_part, Refused):
        return copy_and_part
    copy, part = copy_and_part
    if part.copied or command.percent <= part.percent or command.percent > 100:
        return stale_fact(f"archive {part.archive_id} is past {command.percent} %")
    _put_part(draft, copy, replace(part, percent=command.percent))
    return None


def copy_written(draft: Draft, command: CopyWritten) -> Refused | None:
    """A part is whole."""
    copy_and_part = _mine(draft, command, command.copy_id, command.archive_id, CopyStage.COPYING)
    if isinstance(copy_and_part, Refused):
        return copy_and_part
    _put_part(draft, copy_and_part[0], replace(copy_and_part[1], copied=True, percent=100))
    return None


def copy_broke(draft: Draft, command: CopyBroke) -> Refused | None:
    """A part cannot be copied: a copy that lacks it would be none."""
    copy_and_part = _mine(draft, command, command.copy_id, command.archive_id, CopyStage.PREPARING, CopyStage.COPYING)
    if isinstance(copy_and_part, Refused):
        return copy_and_part
    _fail(draft, copy_and_part[0], f"archive {command.archive_id}: {command.reason}")
    return None


def cut_dropped(draft: Draft, command: CutDropped) -> Refused | None:
    """The links of a part that needs them no more are gone."""
    stages = (CopyStage.COPYING, CopyStage.COMPLETED, CopyStage.FAILED, CopyStage.CANCELLED)
    copy_and_part = _mine(draft, command, command.copy_id, command.archive_id, *stages)
    if isinstance(copy_and_part, Refused):
        return copy_and_part
    copy, part = copy_and_part
    if not part.left_over(copy.over):
        return stale_fact(f"the links of archive {part.archive_id} are needed, or gone already")
    _put_part(draft, copy, replace(part, linked=False, prepared=part.copied))
    return None


# What follows ----------------------------------------------------------------------------------------------------


def settle_copy(draft: Draft, copy: HotCopy) -> None:
    """Bring a hot copy on, by level: the next stage, another attempt, or its end."""
    copy = _without_lost(draft, copy)
    if copy.over:
        return
    lost = _lost(draft, copy)
    if lost:
        _fail(draft, copy, lost)
    elif unsteady := next(_unsteady(draft, copy), None):
        _void(draft, copy, f"the leader of {unsteady} changed before the cut was complete")
    elif copy.stage is CopyStage.PREPARING and all(p.prepared for p in copy.parts):
        draft.move_copy(copy, "prepared")
    elif copy.stage is CopyStage.PAUSING and all(c.paused for c in copy.cuts):
        draft.move_copy(copy, "paused")
    elif copy.stage is CopyStage.CUTTING and all(p.noted for p in copy.parts):
        draft.move_copy(copy, "noted")
    elif copy.stage is CopyStage.HOLDING and all(c.held for c in copy.cuts):
        draft.move_copy(copy, "held", cut_at=draft.command.now)
    elif copy.stage is CopyStage.COPYING and all(p.copied for p in copy.parts):
        draft.move_copy(copy, "copied", message="Hot copy successfully completed")


def _without_lost(draft: Draft, copy: HotCopy) -> HotCopy:
    """The links of an archive that is gone went with its directory."""
    if any(p.linked and p.archive_id not in draft.archives for p in copy.parts):
        parts = tuple(replace(p, linked=p.linked and p.archive_id in draft.archives) for p in copy.parts)
        copy = draft.put(replace(copy, parts=parts))
    return copy


def _lost(draft: Draft, copy: HotCopy) -> str:
    database = draft.databases.get(copy.database)
    if database is None or database.uid != copy.database_uid or database.state is DatabaseState.TOMBSTONE:
        return f"{copy.database} was deleted"
    for part in copy.parts:
        archive = draft.archives.get(part.archive_id)
        if archive is None or archive.removed:
            return f"archive {part.archive_id} was deleted"
    return ""


def _unsteady(draft: Draft, copy: HotCopy) -> Iterator[str]:
    """Groups whose writes were paused and that are not led as they were then, their stillness not yet shown."""
    for cut in copy.cuts if copy.stage in AT_THE_CUT else ():
        group = draft.groups[(copy.database, cut.group)]
        if cut.paused and not cut.held and not _steady(group, cut.term, cut.start_id):
            yield cut.group


def _void(draft: Draft, copy: HotCopy, why: str) -> None:
    """This attempt proves nothing: the next one, or the end."""
    if copy.attempt >= ATTEMPTS:
        _fail(draft, copy, f"no cut in {ATTEMPTS} attempts; at the last {why}")
        return
    draft.move_copy(
        copy,
        "void",
        f"attempt {copy.attempt} to cut is void: {why}",
        attempt=copy.attempt + 1,
        cuts=tuple(GroupCut(c.group) for c in copy.cuts),
        parts=tuple(replace(p, noted=False) for p in copy.parts),
    )


def _fail(draft: Draft, copy: HotCopy, why: str) -> None:
    draft.move_copy(copy, "failed", why, message=why)


def tick_copy(draft: Draft, copy: HotCopy) -> None:
    """An answer that does not come: another attempt, or the end. Copying takes as long as it takes."""
    if copy.stage not in (CopyStage.PREPARING, *AT_THE_CUT):
        return
    if copy.since is None:
        draft.put(replace(copy, since=draft.clock))
        return
    waited = draft.clock - copy.since
    if copy.stage in AT_THE_CUT and waited >= CUT_WITHIN:
        _void(draft, copy, _awaited(copy))
    elif copy.stage is CopyStage.PREPARING and waited >= PREPARED_WITHIN:
        _fail(draft, copy, _awaited(copy))


def _awaited(copy: HotCopy) -> str:
    """The archives or groups for which a stage waits."""
    if copy.stage is CopyStage.PREPARING:
        return f"no answer from {', '.join(sorted({p.server_id for p in copy.parts if not p.prepared}))}"
    if copy.stage is CopyStage.CUTTING:
        late = ", ".join(str(p.archive_id) for p in copy.parts if not p.noted)
        return f"archive {late} did not reach its leader's position within {CUT_WITHIN // 1000} s"
    groups = [c.group for c in copy.cuts if not (c.paused if copy.stage is CopyStage.PAUSING else c.held)]
    word = "paused its writes" if copy.stage is CopyStage.PAUSING else "confirmed its pause"
    return f"no leader of {', '.join(groups)} {word} in {CUT_WITHIN // 1000} s"
