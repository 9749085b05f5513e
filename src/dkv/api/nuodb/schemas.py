"""API: what the NuoDB dialect answers with, for its description (docs/reference/nuodb.md#objects). A field that need not be
there is left out and never null, since nuocmd distinguishes the two; the fields that may be null say so."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, NotRequired, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

from dkv.wire.schemas import BlockedItem, Effect, EngineProgram, HintPart, Transport

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


class Error(TypedDict):
    """A refusal as nuocmd reads it: `code` is the HTTP status, `messages` are sentences. `reason` is our own code for it."""

    code: int
    messages: Annotated[list[str], Field(min_length=1)]
    reason: NotRequired[str]
    detail: NotRequired[str]
    hint: NotRequired[str]
    hintParts: NotRequired[list[HintPart]]


class Page(TypedDict, Generic[T]):
    """One page of a list. If `hasNext`, it holds exactly as many as were asked for."""

    data: list[T]
    hasNext: bool
    maxLimit: int


class Nothing(TypedDict):
    """It is done; there is nothing to say."""


class Drained(TypedDict):
    """The start ids of the processes that leave."""

    startIds: list[str]


# Servers -------------------------------------------------------------------------------------------------------------


class Connected(TypedDict):
    """Whether a server is there; times in ms, -1 unknown."""

    state: Literal["Connected", "Disconnected"]
    latency: int
    lastAckDeltaMillis: int


class TermIndex(TypedDict):
    """How far a server's state goes; the commit index is the domain's revision."""

    logLastTerm: int
    commitIndex: int
    logLastIndex: int


class RoleInfo(TypedDict):
    """What a server is in the domain, as it sees itself."""

    role: Literal["LEADER", "FOLLOWER", "UNKNOWN"]
    lifeCycle: Literal["ACTIVE", "UNKNOWN"]
    leaderServerId: str | None
    localPeerTermIndexInfo: TermIndex


class OwnOfServer(TypedDict, total=False):
    """What dkv says of a server beside the dialect; what it does not have is missing."""

    certificateUntil: int
    certificateDaysLeft: int
    stateMember: Literal["voter", "learner"]


class Server(OwnOfServer):
    """A server; exactly one is local, the one that answers."""

    id: str
    address: str
    isLocal: bool
    isEvicted: bool
    isPassive: bool
    peerState: str
    peerMemberState: str
    version: str
    fullVersion: str
    labels: dict[str, str]
    connectedState: Connected
    localRoleInfo: RoleInfo
    engine: EngineProgram


class Member(TypedDict):
    """Where a manager is."""

    transport: str
    version: str


class Config(TypedDict):
    """How a manager is configured; `properties` are its settings."""

    properties: dict[str, str]
    initialMembership: dict[str, Member]
    otherServices: list[str]
    statsPlugins: dict[str, Any]
    loadBalancers: dict[str, Any]
    labels: dict[str, str]


class Logged(TypedDict):
    """The line is in the log; the manager's time and version."""

    serverTimeMillis: int
    serverVersion: str
    licenseType: str


class Kubernetes(TypedDict):
    """Nothing of any kind."""

    statefulsets: dict[str, Any]
    daemonSets: dict[str, Any]
    deployments: dict[str, Any]
    pods: dict[str, Any]
    volumes: dict[str, Any]


class DomainState(TypedDict):
    """The state's records, without what is secret."""

    revision: int
    records: dict[str, Any]


class Certificate(TypedDict):
    """A certificate that is trusted."""

    certificatePem: str
    expires: str
    subjectName: str
    issuerName: str


class Certificates(TypedDict):
    """Everything that is trusted."""

    trustedCertificates: dict[str, Certificate]
    serverCertificates: dict[str, Certificate]
    processCertificates: dict[StartId, Certificate]
    serverTrusted: list[str]
    processTrusted: list[str]


# Databases -----------------------------------------------------------------------------------------------------------


class Incarnation(TypedDict):
    """Which incarnation of a database."""

    major: int
    minor: int


class Database(TypedDict):
    """A database; its user and password only with `maskPassword=False`; `waiting` only while it waits for something, `open`
    only where every client is let in although the domain has access control."""

    name: str
    state: DatabaseStates
    incarnation: Incarnation
    defaultRegionId: int
    hostAssignments: dict[str, int]
    databaseOptions: dict[str, str]
    transport: Transport
    waiting: NotRequired[list[BlockedItem]]
    dbUser: NotRequired[str]
    dbPassword: NotRequired[str | None]
    open: NotRequired[bool]


class DatabaseSet(Database):
    """A database whose options were set: each that was changed, and what comes of it."""

    effects: list[Effect]


class Process(TypedDict):
    """A live process; `lastHeardFrom` in ms, left out if its server is away."""

    startId: StartId
    dbName: str
    host: str
    type: Literal["TE", "SM"]
    durableState: DurableStates
    state: EngineStates
    archiveId: NotRequired[int]
    nodeId: NotRequired[int]
    pid: NotRequired[int]
    port: NotRequired[int]
    hostname: NotRequired[str]
    regionName: str
    options: dict[str, str]
    labels: dict[str, str]
    isExternalStartup: bool
    lastHeardFrom: NotRequired[Annotated[int, Field(ge=0)]]
    journalRecoveryProgress: NotRequired[Annotated[float, Field(ge=0, le=1)]]


class Tombstone(TypedDict):
    """A process as it was when it ended, and why."""

    process: Process
    databaseIncarnation: Incarnation
    reason: str
    exitCode: int
    hasDisconnected: bool


class Spec(TypedDict):
    """A process to request. A TE has no archive at all."""

    archiveId: NotRequired[int]
    dbName: str
    engineType: Literal["TE", "SM"]
    expectedIncarnation: NotRequired[Incarnation]
    host: str
    labels: dict[str, str]
    overrideOptions: dict[str, str]


class StartPlan(TypedDict):
    """What has to be requested for a database to run whole."""

    incremental: bool
    processes: list[Spec]


class Archive(TypedDict):
    """An archive."""

    id: int
    dbName: str
    host: str
    path: str
    state: Literal["PROVISIONED", "RUNNING", "NOT_RUNNING"]
    observerStorageGroups: list[str]


class StorageGroup(TypedDict):
    """A storage group, and the processes that may lead it."""

    dbName: str
    sgName: str
    sgId: int
    state: Literal["Available", "Unavailable"]
    archiveStates: dict[str, str]
    processStates: dict[StartId, str]
    leaderCandidates: list[StartId]


class ProcessOptions(TypedDict):
    """Options a process can be given; there is none that an engine obeys."""

    options: dict[str, str]


class Versions(TypedDict):
    """The release of a database's engines."""

    dbName: str
    effectiveVersion: int
    maxVersion: int
    version: str
    allVersions: dict[str, Any]
    availableVersions: list[Any]
    processVersions: dict[str, list[StartId]]


class HotCopy(TypedDict):
    """A hot copy; times are UTC."""

    hotCopyId: str
    coordinatorStartId: StartId
    beginTimestamp: str
    endTimestamp: str | None
    status: Literal["running", "completed", "failed", "cancelled"]
    message: str
    stage: str
    destinationDirectory: str | None


class HotCopies(TypedDict):
    """Hot copies by the process that coordinated them."""

    hotCopyStatuses: dict[StartId, list[HotCopy]]
    errors: dict[str, str]


# What is stored and given back ---------------------------------------------------------------------------------------


class Value(TypedDict):
    """A key and its value, null if there is none."""

    key: str
    value: str | None


class Region(TypedDict):
    """A region."""

    id: int
    name: str


class User(TypedDict):
    """A user; never a password."""

    name: str
    roles: list[str]
    certificatePem: NotRequired[str]


class Request(TypedDict):
    """Requests a role may make."""

    method: str
    url: str
    queryParamConstraints: dict[str, str]
    pathParamConstraints: dict[str, str]
    payloadParamConstraints: dict[str, str]


class Role(TypedDict):
    """A role, the requests it allows and the roles it contains."""

    name: str
    subRoles: list[str]
    authorizedRequests: list[Request]


class Policy(TypedDict):
    """How clients choose among processes."""

    policyName: str
    lbQuery: str


class Balancing(TypedDict):
    """What a database, or the whole domain, chooses by."""

    isGlobal: bool
    dbName: NotRequired[str]
    defaultLbQuery: NotRequired[str]
    prefilter: NotRequired[str]


class NoLicense(TypedDict):
    """dkv has no licences, in the shape nuocmd prints."""

    decodedLicense: dict[str, str]
    effectiveForDomain: bool
