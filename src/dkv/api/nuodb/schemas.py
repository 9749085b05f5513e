"""API: what the NuoDB dialect answers with, for its description (docs/reference/nuodb.md#objects). A field that need not be
there is left out and never null, since nuocmd tells the two apart; the fields that may be null say so."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from dkv.api.schemas import BlockedItem

T = TypeVar("T")
DatabaseStates = Literal[
    "NOT_RUNNING",
    "REQUESTED",
    "STARTED",
    "AWAITING_ARCHIVE_HISTORIES_MSG",
    "AWAITING_ARCHIVE_HISTORIES_INC",
    "RUNNING",
    "REQUESTED_TE_SHUTDOWN",
    "REQUESTED_SM_SHUTDOWN",
    "TOMBSTONE",
]
DurableStates = Literal["REQUESTED", "STARTED", "CONFIGURED", "TRACKED", "MONITORED", "REQUESTED_SHUTDOWN"]
EngineStates = Literal["UNKNOWN", "ACTIVE", "SYNCING", "RUNNING", "SHUTTING_DOWN", "QUIESCING", "QUIESCED", "UNQUIESCING"]
StartId = Annotated[str, Field(pattern="^[0-9]+$")]


def absent(kind: type = str) -> Any:
    """The default of a field that need not be there: it has none, it is only not required."""
    return Field(default_factory=kind)


class Answer(BaseModel):
    """What all answers have in common: no field is there that the description does not know."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=False)


class Error(BaseModel):
    """A refusal as nuocmd reads it: `code` is the HTTP status, `messages` are sentences. `reason` is our own code for it."""

    code: int
    messages: Annotated[list[str], Field(min_length=1)]
    reason: str = absent()
    detail: str = absent()
    hint: str = absent()


class Page(Answer, Generic[T]):
    """One page of a list. If `hasNext`, it holds exactly as many as were asked for."""

    data: list[T]
    has_next: bool
    max_limit: int


class Nothing(Answer):
    """It is done; there is nothing to say."""


class Drained(Answer):
    """The start ids of the processes that leave."""

    start_ids: list[str]


# Servers -------------------------------------------------------------------------------------------------------------


class Connected(Answer):
    """Whether a server is there; times in ms, -1 unknown."""

    state: Literal["Connected", "Disconnected"]
    latency: int
    last_ack_delta_millis: int


class TermIndex(Answer):
    """How far a server's state goes; the commit index is the domain's revision."""

    log_last_term: int
    commit_index: int
    log_last_index: int


class RoleInfo(Answer):
    """What a server is in the domain, as it sees itself."""

    role: Literal["LEADER", "FOLLOWER", "UNKNOWN"]
    life_cycle: Literal["ACTIVE", "UNKNOWN"]
    leader_server_id: str | None
    local_peer_term_index_info: TermIndex


class Server(Answer):
    """A server; exactly one is local, the one that answers."""

    id: str
    address: str
    is_local: bool
    is_evicted: bool
    is_passive: bool
    peer_state: str
    peer_member_state: str
    version: str
    full_version: str
    labels: dict[str, str]
    connected_state: Connected
    local_role_info: RoleInfo


class Member(Answer):
    """Where a manager is."""

    transport: str
    version: str


class Config(Answer):
    """How a manager is configured; `properties` are its settings."""

    properties: dict[str, str]
    initial_membership: dict[str, Member]
    other_services: list[str]
    stats_plugins: dict[str, JsonValue]
    load_balancers: dict[str, JsonValue]
    labels: dict[str, str]


class Logged(Answer):
    """The line is in the log; the manager's time and version."""

    server_time_millis: int
    server_version: str
    license_type: str


class Kubernetes(Answer):
    """Nothing of any kind."""

    statefulsets: dict[str, JsonValue]
    daemon_sets: dict[str, JsonValue]
    deployments: dict[str, JsonValue]
    pods: dict[str, JsonValue]
    volumes: dict[str, JsonValue]


class DomainState(Answer):
    """The state's records, without what is secret."""

    revision: int
    records: dict[str, JsonValue]


class Certificate(Answer):
    """A certificate that is trusted."""

    certificate_pem: str
    expires: str
    subject_name: str
    issuer_name: str


class Certificates(Answer):
    """Everything that is trusted."""

    trusted_certificates: dict[str, Certificate]
    server_certificates: dict[str, Certificate]
    process_certificates: dict[StartId, Certificate]
    server_trusted: list[str]
    process_trusted: list[str]


# Databases -----------------------------------------------------------------------------------------------------------


class Incarnation(Answer):
    """Which incarnation of a database."""

    major: int
    minor: int


class Database(Answer):
    """A database; its user and password only with `maskPassword=False`; `waiting` only while it waits for something."""

    name: str
    state: DatabaseStates
    incarnation: Incarnation
    default_region_id: int
    host_assignments: dict[str, int]
    database_options: dict[str, str]
    waiting: list[BlockedItem] = absent(list)
    db_user: str = absent()
    db_password: str = absent()


class DatabaseSet(Database):
    """A database whose options were set: each that was changed, and what comes of it."""

    effects: list[dict[str, str]]


class Process(Answer):
    """A live process; `lastHeardFrom` in ms, left out if its server is away."""

    start_id: StartId
    db_name: str
    host: str
    type: Literal["TE", "SM"]
    durable_state: DurableStates
    state: EngineStates
    archive_id: int = absent(int)
    node_id: int = absent(int)
    pid: int = absent(int)
    port: int = absent(int)
    hostname: str = absent()
    region_name: str
    options: dict[str, str]
    labels: dict[str, str]
    is_external_startup: bool
    last_heard_from: Annotated[int, Field(ge=0)] = absent(int)
    journal_recovery_progress: Annotated[float, Field(ge=0, le=1)] = absent(float)


class Tombstone(Answer):
    """A process as it was when it ended, and why."""

    process: Process
    database_incarnation: Incarnation
    reason: str
    exit_code: int
    has_disconnected: bool


class Spec(Answer):
    """A process to request. A TE has no archive at all."""

    archive_id: int = absent(int)
    db_name: str
    engine_type: Literal["TE", "SM"]
    expected_incarnation: Incarnation = absent(dict)
    host: str
    labels: dict[str, str]
    override_options: dict[str, str]


class StartPlan(Answer):
    """What has to be requested for a database to run whole."""

    incremental: bool
    processes: list[Spec]


class Archive(Answer):
    """An archive."""

    id: int
    db_name: str
    host: str
    path: str
    state: Literal["PROVISIONED", "RUNNING", "NOT_RUNNING"]
    observer_storage_groups: list[str]


class StorageGroup(Answer):
    """A storage group, and the processes that may lead it."""

    db_name: str
    sg_name: str
    sg_id: int
    state: Literal["Available", "Unavailable"]
    archive_states: dict[str, str]
    process_states: dict[StartId, str]
    leader_candidates: list[StartId]


class ProcessOptions(Answer):
    """Options a process can be given; there is none that an engine obeys."""

    options: dict[str, str]


class Versions(Answer):
    """The release of a database's engines."""

    db_name: str
    effective_version: int
    max_version: int
    version: str
    all_versions: dict[str, JsonValue]
    available_versions: list[JsonValue]
    process_versions: dict[str, list[StartId]]


class HotCopy(Answer):
    """A hot copy; times are UTC."""

    hot_copy_id: str
    coordinator_start_id: StartId
    begin_timestamp: str
    end_timestamp: str | None
    status: Literal["running", "completed", "failed", "cancelled"]
    message: str
    stage: str
    destination_directory: str | None


class HotCopies(Answer):
    """Hot copies by the process that coordinated them."""

    hot_copy_statuses: dict[StartId, list[HotCopy]]
    errors: dict[str, str]


# What is stored and given back ---------------------------------------------------------------------------------------


class Value(Answer):
    """A key and its value, null if there is none."""

    key: str
    value: str | None


class Region(Answer):
    """A region."""

    id: int
    name: str


class User(Answer):
    """A user; never a password."""

    name: str
    roles: list[str]
    certificate_pem: str = absent()


class Request(Answer):
    """Requests a role may make."""

    method: str
    url: str
    query_param_constraints: dict[str, str]
    path_param_constraints: dict[str, str]
    payload_param_constraints: dict[str, str]


class Role(Answer):
    """A role, the requests it allows and the roles it contains."""

    name: str
    sub_roles: list[str]
    authorized_requests: list[Request]


class Policy(Answer):
    """How clients choose among processes."""

    policy_name: str
    lb_query: str


class Balancing(Answer):
    """What a database, or the whole domain, chooses by."""

    is_global: bool
    db_name: str = absent()
    default_lb_query: str = absent()
    prefilter: str = absent()


class NoLicense(Answer):
    """dkv has no licences, in the shape nuocmd prints."""

    decoded_license: dict[str, str]
    effective_for_domain: bool
