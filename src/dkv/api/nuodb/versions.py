"""API: the release of the engines, and what NuoDB's engines can and Valkey's cannot: encryption, handoff of centres."""

from __future__ import annotations

from fastapi.responses import Response

from dkv.api.context import Context, Manager, ManagerContext
from dkv.api.nuodb import schemas
from dkv.api.nuodb.dependencies import database_of, not_supported
from dkv.api.problems import Refusal, refuse
from dkv.api.routing import Router

router = Router(prefix="/databases")

ROLLING = "Install it on one server after the other and restart its processes; one release at a time is run."


def version_id(release: str) -> int:
    """A release as one number that orders like it: 9.1.2 is 0x090102, as Valkey counts; 0 for none."""
    numbers = [int(part) for part in release.split(".") if part.isdigit()]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major << 16 | minor << 8 | patch


@router.get("/{name}/versions")
async def versions(name: str, context: Context) -> schemas.Versions:
    """The release of the database's engines: one, that of this server's engine program. Their data has one format."""
    state = context.state
    database_of(state, name)
    release = context.manager.machine.engine_version()
    number = version_id(release)
    return {
        "dbName": name,
        "effectiveVersion": number,
        "maxVersion": number,
        "version": release,
        "allVersions": {release: {"version": release, "versionId": number}},
        "availableVersions": [],
        "processVersions": {release: [str(process.start_id) for process in state.processes_of(name)]},
    }


@router.post("/{name}/upgrade")
async def upgrade(name: str, context: Context, version: str | None = None, maxVersion: bool = False) -> schemas.Nothing:
    """Nothing to do for the release that runs, or its number; any other is refused."""
    database_of(context.state, name)
    release = context.manager.machine.engine_version()
    if version is None and not maxVersion:
        raise refuse("bad_value", "A version is required.", "Send version, or maxVersion=True.")
    if version not in (None, release, str(version_id(release))):
        raise refuse("bad_value", f"The engines are Valkey {release}, not {version}; there is nothing to switch on.", ROLLING)
    return {}


@router.post("/dataEncryption", status_code=400, response_model=schemas.Error)
async def data_encryption(manager: Manager, configUpdateTimeoutSec: int = 0) -> Response:
    """Refused."""
    raise not_supported(
        "Storage passwords are not supported, because Valkey does not encrypt the files it writes.",
        "Keep the data directory on an encrypted file system.",
    )


@router.get("/{name}/reportTimestamp", status_code=400, response_model=schemas.Error)
async def report_timestamp(name: str, manager: Manager) -> Response:
    """Refused."""
    raise await _no_handoff(manager, name)


@router.post("/{name}/resetState", status_code=400, response_model=schemas.Error)
async def reset_state(name: str, manager: Manager) -> Response:
    """Refused."""
    raise await _no_handoff(manager, name)


async def _no_handoff(manager: ManagerContext, name: str) -> Refusal:
    database_of((await manager.submitter.view()).state, name)
    message = "A handoff between centres is not supported, because no archive is a passive observer: each is a whole copy."
    return not_supported(message, "The in-sync archives take over by themselves; see dkv enforce leader for what they cannot.")
