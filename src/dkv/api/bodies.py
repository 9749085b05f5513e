"""API: the bodies the native API takes, strict: an unknown field or a wrong type is refused, never ignored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from dkv.database_options import DEFAULTS, OPTIONS

Port = Annotated[int, Field(ge=1, le=65535)]
Slots = Annotated[list[int], Field(min_length=2, max_length=2)]


def of_option(name: str) -> Any:
    """A field that is an option of a database: described and bounded as database_options.py has it."""
    option = OPTIONS[name]
    if option.choices:
        return Field(description=option.summary(), json_schema_extra={"enum": list(option.choices)})
    if option.kind == "events":
        return Field(description=option.summary())
    least = option.least if option.special is None else min(option.least, option.special)
    return Field(description=option.summary(), ge=least, le=option.most)


class Body(BaseModel):
    """What all bodies have in common."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel, validate_by_name=False)


class InstanceBody(Body):
    """One instance: a name, its ports, and its server by id or by `host:port` of its manager."""

    instance_name: Annotated[str, Field(min_length=1)]  # the domain would make one up
    clustron_port: Port
    client_port: Port
    manager: str = ""
    server: str = ""
    group: str = ""
    path: str = ""  # of its directory on its server; empty: below the manager's data directory
    restored: bool = False  # the directory holds a hot copy, with which its group begins


class GroupBody(Body):
    """One storage group and its hash slots as inclusive ranges `[low, high]`."""

    name: str
    slots: list[Slots]


class StoreBody(Body):
    """A store with all its instances. Without groups it gets one that holds every slot; what is left out of the rest
    is as this manager's settings say."""

    name: str
    instances: list[InstanceBody] = []
    groups: list[GroupBody] = []
    replication_factor: Annotated[int, of_option("replication-factor")] = DEFAULTS["replication_factor"]
    min_in_sync: Annotated[int | None, of_option("min-in-sync")] = None
    append_fsync: Annotated[str | None, of_option("append-fsync")] = None
    max_memory: Annotated[int, of_option("max-memory")] = DEFAULTS["max_memory"]
    maxmemory_policy: Annotated[str, of_option("maxmemory-policy")] = DEFAULTS["maxmemory_policy"]
    notify_keyspace_events: Annotated[str, of_option("notify-keyspace-events")] = DEFAULTS["notify_keyspace_events"]
    max_clients: Annotated[int, of_option("max-clients")] = DEFAULTS["max_clients"]
    open: bool = False  # although there is access control its engines let in every client
    engine_tls: Annotated[str, of_option("engine-tls")] = DEFAULTS["engine_tls"]
    insecure_engine_traffic: Annotated[str, of_option("insecure-engine-traffic")] = DEFAULTS["insecure_engine_traffic"]
    leaders: Annotated[str, of_option("leaders")] = DEFAULTS["leaders"]


class InstancesBody(Body):
    """Instances to add to a store; all or none."""

    instances: Annotated[list[InstanceBody], Field(min_length=1)]


class LeaderBody(Body):
    """An archive to make lead although it may lack writes, and why."""

    archive_id: Annotated[int, Field(ge=0)]
    allow_data_loss: bool = False
    reason: str = ""


class StepBody(Body):
    """One request of a plan. `path` is the address with its query, `key` its Idempotency-Key."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: Annotated[str, Field(pattern=r"^/(admin/v1|api/1)/[!-~]*$", max_length=2000)]
    body: dict[str, JsonValue] | None = None
    key: Annotated[str, Field(pattern=r"^[!-~]*$", max_length=200)] = ""


class PlanBody(Body):
    """Requests to plan, in their order."""

    steps: Annotated[list[StepBody], Field(min_length=1, max_length=200)]


class SwitchoverBody(Body):
    """Which group is to be handed over to which process; without a group every one, without a process the furthest."""

    group: str = ""
    to_start_id: Annotated[int, Field(ge=0)] | None = None


class RestartBody(Body):
    """How a store is restarted: one process after the other or all at once, and whether its writes may stop for it."""

    rolling: bool = False
    force: bool = False


class OptionsBody(Body):
    """Options by the names people write, such as `max-memory`; with `replaceAll` those that are not named are unset."""

    options: dict[str, str]
    replace_all: bool = False


class CopyTargetBody(Body):
    """One instance to copy, and the directory on its server that the copy goes to."""

    instance_name: str
    path: str


class HotCopyBody(Body):
    """What to copy: `targets`, and with `defaultPath` every other instance that is in sync. `partial` allows to leave
    storage groups out; `maxRate` is in bytes per second and instance."""

    targets: list[CopyTargetBody] = []
    default_path: str = ""
    shared: bool = False
    partial: bool = False
    max_rate: Annotated[int, Field(ge=0, le=2**53)] = 0


def fields_at(location: Sequence[int | str]) -> list[str]:
    """The field names known where a validation error was found, as they are written in JSON."""
    containers = [part for part in location[:-1] if isinstance(part, str)]
    inner: dict[str, type[Body]] = {"instances": InstanceBody, "groups": GroupBody, "steps": StepBody, "targets": CopyTargetBody}
    whole = [body for body in Body.__subclasses__() if body not in inner.values()]
    part = inner.get(containers[-1]) if containers else None
    models = [part] if part else whole
    return [field.alias or name for model in models for name, field in model.model_fields.items()]
