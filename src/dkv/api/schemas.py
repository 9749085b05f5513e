"""API: what the native API answers with, for its description. The views themselves are made in wire/; that both agree
is seen by the tests, which hold every answer they get against the description."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

Ms = Annotated[int, Field(description="Wall-clock milliseconds.")]


class Answer(BaseModel):
    """What all answers have in common: no field is there that the description does not know."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=False)


class Problem(BaseModel):
    """A refusal: a code to act on, one sentence, and what helps. `correlationId` only of a mistake of the manager's own."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str


# Stores --------------------------------------------------------------------------------------------------------------


class Incarnation(Answer):
    """How often the store was started whole, and how often its processes changed since."""

    major: int
    minor: int


class Run(Answer):
    """A process of an instance, live or as it was when it ended."""

    start_id: int
    node_id: int | None
    pid: int | None
    state: str
    engine_state: str
    loading_percent: int


class Instance(Answer):
    """One copy of a group: where it is, what it does, and why it does not run if it does not."""

    instance_name: str
    archive_id: int
    server: str
    manager: str | None
    host: str | None
    clustron_port: int
    client_port: int
    group: str
    path: str | None
    archive_state: str
    state: str
    role: str | None
    in_sync: bool
    reason: str | None
    process: Run | None


class Joining(Answer):
    """An instance on its way to a whole copy."""

    instance: str | None
    stage: str


class Enforcement(Answer):
    """A leader that was enforced, and what that could cost."""

    instance: str | None
    term: int
    bound: str
    reason: str
    actor: str
    at: Ms


class HandOver(Answer):
    """To which instance a group is being handed over."""

    to: str | None


class SwitchoverRequest(Answer):
    """A switchover that was asked for; `to` is null for whichever copy is furthest."""

    to: str | None
    since: Ms
    reason: str


class Waits(Answer):
    """Whom a group waits for."""

    whom: Annotated[list[str], Field(alias="for")]
    since: Ms | None
    reason: str
    help: str


class Group(Answer):
    """A storage group: who leads, who is in sync, and what it can lose without losing writes."""

    name: str
    slots: list[list[int]]
    term: int
    phase: str
    open: bool
    serving: bool
    leader: str | None
    leader_start_id: int | None
    leader_endpoint: str | None
    in_sync: list[str]
    required: list[str]
    required_endpoints: list[str]
    readers: list[str]
    joining: list[Joining]
    enforcements: list[Enforcement]
    handover: HandOver | None
    switchover: SwitchoverRequest | None
    waits_for: Waits | None
    can_lose_for_confirmed: int
    can_lose_for_writes: int


class BlockedItem(Answer):
    """Something that waits: for whom, since when (null if nobody knows), why, what helps, and whether clients' writes are
    refused or wait because of it."""

    kind: str
    subject: str
    store: str | None
    whom: Annotated[str, Field(alias="for")]
    since: Ms | None
    reason: str
    fix: str
    blocks_writes: bool


class Restart(Answer):
    """How far a restart is, and what it does or waits for."""

    rolling: bool
    force: bool
    since: Ms
    processes: int
    replaced: int
    waits_for: str
    reason: str
    help: str


class Store(Answer):
    """A store whole, at one revision of the domain."""

    name: str
    status: str
    state: str
    incarnation: Incarnation
    created_at: Ms
    min_in_sync: int
    replication_factor: int
    append_fsync: str
    options: Annotated[dict[str, JsonValue], Field(description="wanted and kept by name; lacking: who does not run with them")]
    tombstones_trimmed: int
    waiting: list[BlockedItem]
    restart: Restart | None
    groups: list[Group]
    instances: list[Instance]
    revision: int


class Stores(Answer):
    """All stores, by name."""

    stores: list[Store]


class StoreChecked(Answer):
    """The answer to `check=true`: the store could be created, or is there already."""

    ok: Literal[True]
    exists: bool


class StoreRemoved(Answer):
    """A store is gone."""

    name: str
    result: Literal["Removed"]


class InstanceRemoved(Answer):
    """An instance is gone."""

    instance_name: str
    result: Literal["Removed"]


class InstanceStarted(Answer):
    """What a start came to, and the store then."""

    instance_name: str
    result: Literal["Started", "Already running"]
    start_id: int | None
    store: Store


class InstanceStopped(Answer):
    """What a stop came to, and the store then."""

    instance_name: str
    result: Literal["Stopping", "Already stopped"]
    store: Store


class Asked(Answer):
    """The groups that were asked to be handed over."""

    result: Literal["Asked"]
    groups: list[str]
    store: Store


class Restarting(Answer):
    """How many processes a restart is about."""

    result: Literal["Restarting"]
    processes: int | None
    store: Store


class RestartStopped(Answer):
    """A restart has ended where it stood."""

    result: Literal["Stopped"]
    store: Store


class Effect(Answer):
    """An option that was changed, and what comes of it."""

    option: str
    effect: str


class OptionsSet(Answer):
    """Options were set."""

    result: Literal["Set"]
    effects: list[Effect]
    store: Store


# Hot copies and losses -----------------------------------------------------------------------------------------------


class CopyPart(Answer):
    """One instance of a hot copy; `size` in bytes."""

    archive_id: int
    instance_name: str | None
    server: str
    group: str
    path: str
    size: int
    percent: int


class HotCopy(Answer):
    """A hot copy and how far it is; `maxRate` in bytes per second and instance."""

    hot_copy_id: int
    store: str
    coordinator_start_id: int
    status: Literal["running", "completed", "failed", "cancelled"]
    stage: str
    attempt: int
    message: str
    max_rate: int
    begin_at: Ms
    cut_at: Ms
    end_at: Ms
    archives: list[CopyPart]


class HotCopies(Answer):
    """A store's hot copies, newest first."""

    hot_copies: list[HotCopy]


class Position(Answer):
    """How far a copy's data goes."""

    term: int
    marker: int
    bytes_after: int


class Behind(Answer):
    """How much less than the newest known; bytes are null where terms or markers differ, since nobody can count them then."""

    terms: int
    markers: int
    bytes: int | None


class Away(Answer):
    """A copy that is in sync and cannot be asked."""

    instance_name: str
    why: str
    since: Ms | None


class Bound(Answer):
    """What an enforced leader can cost at most."""

    instance_name: str
    in_sync: bool
    away: list[Away]
    position: Position | None
    newest_known: Position | None
    behind: Behind | None
    ended_at: Ms | None
    verdict: str


class LeaderBound(Answer):
    """The cost before anything is done."""

    bound: Bound


class Enforced(Answer):
    """The cost as it was before, and the store now."""

    result: Literal["Enforced"]
    bound: Bound
    store: Store


# Plans ---------------------------------------------------------------------------------------------------------------


class PlannedEvent(Answer):
    """Something that would happen."""

    kind: str
    subject: str
    change: str
    because: str
    database: str


class PlannedCommand(Answer):
    """A command, and what it would make true or why it would be refused. Secrets are written as ***."""

    command: str
    fields: dict[str, JsonValue]
    events: list[PlannedEvent]
    refused: Problem | None


class PlannedStep(Answer):
    """A request, what would be answered, and the commands it would lead to."""

    method: str
    path: str
    status: int
    answer: Any
    commands: list[PlannedCommand]


class Plan(Answer):
    """What requests would lead to, beginning at one revision."""

    revision: int
    steps: list[PlannedStep]
