"""API: hot copies in the NuoDB dialect. A backup set of NuoDB holds one full copy here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from dkv.api.context import Context, Manager, ManagerContext
from dkv.api.dependencies import Key, accepted
from dkv.api.hotcopies import prepared
from dkv.api.nuodb import schemas
from dkv.api.nuodb.bodies import HotCopySetBody, HotCopySimpleBody
from dkv.api.nuodb.dependencies import database_of, not_supported
from dkv.api.problems import refuse
from dkv.api.routing import Router
from dkv.api.waiting import until
from dkv.control.submit import RequestKey
from dkv.domain.decision import Accepted
from dkv.domain.hotcopy import HotCopy
from dkv.domain.model import State
from dkv.domain.orders import CancelHotCopy, CopyTarget, RequestHotCopy
from dkv.wire.hotcopy import STATUS

router = Router(prefix="/databases")

LONGEST_WAIT = 25  # s an answer is held back at most: the client gives up after 30


@router.get("/hotCopyStatus")
async def hot_copy_status(
    context: Context, coordinatorStartId: int, hotCopyId: int | None = None, timeoutSec: int = 0
) -> schemas.HotCopy | schemas.HotCopies:
    """One hot copy, or all that one process coordinated."""
    state = context.state
    if hotCopyId is None:
        return _statuses(c for c in state.copies.values() if c.coordinator == coordinatorStartId)
    return shape(_copy(state, hotCopyId, coordinatorStartId))


@router.post("/cancelHotCopy")
async def cancel_hot_copy(
    context: Context, key: Key, coordinatorStartId: int, hotCopyId: int, timeoutSec: int = 0
) -> schemas.HotCopy:
    """End a hot copy; one that ended already is answered as it is."""
    _copy(context.state, hotCopyId, coordinatorStartId)
    done = await context.manager.submitter.submit(CancelHotCopy(copy_id=hotCopyId), key)
    if isinstance(done, Accepted) or done.code != "copy_ended":
        accepted(done)
    return shape(_copy((await context.manager.submitter.view()).state, hotCopyId, coordinatorStartId))


@router.get("/{name}/hotCopyStatus")
async def hot_copies_of(
    name: str, context: Context, timeoutSec: int = 0, minSecondsRunning: int | None = None
) -> schemas.HotCopies:
    """A database's hot copies by the process that coordinated each; with `minSecondsRunning` only those that run so long."""
    state = context.state
    database_of(state, name)
    copies = [c for _, c in sorted(state.copies.items()) if c.database == name]
    if minSecondsRunning is not None:
        before = context.manager.clock() - 1_000 * minSecondsRunning
        copies = [c for c in copies if not c.over and c.begun_at <= before]
    return _statuses(copies)


@router.post("/{name}/hotCopySimple")
async def hot_copy_simple(name: str, body: HotCopySimpleBody, manager: Manager, key: Key) -> schemas.HotCopy:
    """Copy archives of a running database at one moment; each copy is a directory that an archive can be restored from."""
    default, places = body.default_backup_location, body.backup_locations or {}
    if any(place.copy_journal_dir for place in (*places.values(), *([default] if default else []))):
        raise not_supported(
            "A journal directory is not supported: an archive's journal lies in its own directory.",
            "Leave the journal directory out.",
        )
    command = RequestHotCopy(
        database=name,
        default_path=default.copy_archive_dir if default else "",
        targets=tuple(CopyTarget(archive_id=a, path=place.copy_archive_dir) for a, place in sorted(places.items())),
        max_rate=body.max_rate or 0,
        whole=body.check_contains_all_sgs is not False,
    )
    return await _begin(manager, body, command, key)


@router.post("/{name}/hotCopy")
async def hot_copy(name: str, body: HotCopySetBody, manager: Manager, key: Key) -> schemas.HotCopy:
    """As the simple one, for backup sets. Only full ones are made."""
    if body.type != "full":
        raise not_supported(
            f"A hot copy of type {body.type} is not supported: each hot copy is full.", "Use --type full or simple."
        )
    places = body.backup_set_dirs or {}
    command = RequestHotCopy(
        database=name,
        default_path=body.default_backup_set_dir or "",
        shared=body.shared,
        targets=tuple(CopyTarget(archive_id=a, path=path) for a, path in sorted(places.items())),
        max_rate=body.max_rate or 0,
        whole=body.check_contains_all_sgs is not False,
    )
    return await _begin(manager, body, command, key)


async def _begin(
    manager: ManagerContext, body: HotCopySimpleBody | HotCopySetBody, command: RequestHotCopy, key: RequestKey | None
) -> schemas.HotCopy:
    """Answer once its directories were looked at, or when the copy has ended if the asker waits for that."""
    if body.test_mode:
        raise not_supported("A test mode of hot copies is not supported.", "Leave it out.")
    done = accepted(await manager.submitter.submit(command, key))
    copy_id = await prepared(manager, done)

    def over(state: State) -> bool:
        return copy_id not in state.copies or state.copies[copy_id].over

    state = await until(manager, over, min(body.timeout_sec or 0, LONGEST_WAIT))
    return shape(_copy(state, copy_id))


def _copy(state: State, copy_id: int, coordinator: int | None = None) -> HotCopy:
    copy = state.copies.get(copy_id)
    if copy is None or coordinator not in (None, copy.coordinator):
        by = "" if coordinator is None else f" coordinated by process {coordinator}"
        raise refuse("unknown_copy", f"There is no hot copy {copy_id}{by}.", "show hotcopy-info lists them.")
    return copy


def _statuses(copies: Iterable[HotCopy]) -> schemas.HotCopies:
    statuses: dict[str, list[schemas.HotCopy]] = {}
    for copy in copies:
        statuses.setdefault(str(copy.coordinator), []).append(shape(copy))
    return {"hotCopyStatuses": statuses, "errors": {}}


def shape(copy: HotCopy) -> schemas.HotCopy:
    """A HotCopyResponse. Its destination is shown when it is one directory."""
    return {
        "hotCopyId": str(copy.copy_id),
        "coordinatorStartId": str(copy.coordinator),
        "beginTimestamp": _stamp(copy.begun_at),
        "endTimestamp": _stamp(copy.ended_at) if copy.over else None,
        "status": STATUS.get(copy.stage, "running"),
        "message": copy.doing,
        "stage": copy.stage.value.lower(),
        "destinationDirectory": copy.parts[0].path if len(copy.parts) == 1 else None,
    }


def _stamp(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
