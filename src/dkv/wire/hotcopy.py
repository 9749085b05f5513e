"""Wire: what hot copies look like as JSON. Times are wall-clock milliseconds, sizes bytes."""

from __future__ import annotations

from collections.abc import Mapping

from dkv.domain.hotcopy import CopyStage, HotCopy
from dkv.domain.model import State
from dkv.wire import schemas

STATUS: Mapping[CopyStage, schemas.CopyStatus] = {
    CopyStage.COMPLETED: "completed",
    CopyStage.FAILED: "failed",
    CopyStage.CANCELLED: "cancelled",
}


def hot_copy_view(state: State, copy: HotCopy) -> schemas.HotCopy:
    """One hot copy with its archives and how far each is."""
    return {
        "hotCopyId": copy.copy_id,
        "store": copy.database,
        "coordinatorStartId": copy.coordinator,
        "status": STATUS.get(copy.stage, "running"),
        "stage": copy.stage.value,
        "attempt": copy.attempt,
        "message": copy.doing,
        "maxRate": copy.max_rate,
        "beginAt": copy.begun_at,
        "cutAt": copy.cut_at,
        "endAt": copy.ended_at,
        "archives": [
            {
                "archiveId": part.archive_id,
                "instanceName": state.archives[part.archive_id].name if part.archive_id in state.archives else None,
                "server": part.server_id,
                "group": part.group,
                "path": part.path,
                "size": part.size,
                "percent": part.percent,
            }
            for part in copy.parts
        ],
    }
