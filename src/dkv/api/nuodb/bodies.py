"""API: the bodies the NuoDB dialect takes (docs/reference/nuodb.md#objects): unknown fields are refused, null means left out."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel


def _text(value: Any) -> Any:
    """Options arrive as texts, numbers and flags, and are kept as the text a person would write."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, BeforeValidator(_text)]
Texts = dict[str, Text]
Id = Annotated[int, Field(ge=0, le=2**53)]  # a number, or its text


class DialectBody(BaseModel):
    """What all bodies of the dialect have in common."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=False)


class IncarnationBody(DialectBody):
    """The incarnation a process is expected to run in; without `minor` any of that major."""

    major: int
    minor: int | None = None


class ProcessBody(DialectBody):
    """A process to request. Without `engineType` an SM if it names an archive, else a TE."""

    db_name: str
    host: str | None = None
    engine_type: str | None = None
    archive_id: Id | None = None
    labels: Texts | None = None
    override_options: Texts | None = None
    expected_incarnation: IncarnationBody | None = None


class DatabaseBody(DialectBody):
    """A database to create; processes are started by whoever carries out the plan that is answered."""

    database_dba_user: str | None = None
    database_dba_password: str | None = None
    te_hosts: list[str] | None = None
    sm_hosts: dict[str, Any] | None = None
    default_region_id: Id | None = None
    host_assignments: dict[str, Id] | None = None
    default_options: Texts | None = None
    open: bool = False  # dkv's own: although there is access control its engines let in every client


class PlanBody(DialectBody):
    """What kind of start plan is wanted, and on which servers TEs."""

    reusable: bool = True
    te_hosts: list[str] | None = None
    sm_hosts: dict[str, Any] | None = None


class ArchiveBody(DialectBody):
    """An archive to create or to bring back: of which database, on which server, in which directory."""

    db_name: str
    host: str | None = None
    path: str | None = None
    restored: bool = False
    journal_path: str | None = None
    snapshot_archive_path: str | None = None
    storage_group_observers: list[str] | None = None
    remote_start: bool = False


class ObserverBody(DialectBody):
    """Storage groups an archive is to serve passively, or no longer so."""

    promote_storage_groups: list[str] | None = None
    demote_storage_groups: list[str] | None = None


class PlacementBody(DialectBody):
    """An archive to put into a storage group, or to take out of it."""

    db_name: str
    sg_name: str
    archive_id: Id


class PlaceBody(DialectBody):
    """Where the copy of an archive goes to."""

    copy_archive_dir: str
    copy_journal_dir: str | None = None


class HotCopySimpleBody(DialectBody):
    """Archives to copy into directories; `maxRate` is in bytes per second and archive."""

    default_backup_location: PlaceBody | None = None
    backup_locations: dict[Id, PlaceBody] | None = None
    max_rate: Annotated[int, Field(ge=0, le=2**53)] | None = None
    test_mode: Any = None
    timeout_sec: int | None = None
    check_contains_all_sgs: bool | None = None


class HotCopySetBody(DialectBody):
    """Archives to copy into backup sets; with `shared` each has a directory of its own below the default one."""

    type: str
    shared: bool = False
    default_backup_set_dir: str | None = None
    backup_set_dirs: dict[Id, str] | None = None
    max_rate: Annotated[int, Field(ge=0, le=2**53)] | None = None
    test_mode: Any = None
    timeout_sec: int | None = None
    check_contains_all_sgs: bool | None = None


Options = Texts
"""Options of a database by name."""
