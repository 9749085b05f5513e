"""Wire: what a manager answers, each thing in one shape: made by the views, promised by the OpenAPI document, read by clients.

Field names are camelCase. Times called `at`, `since` or ending in `At` are wall-clock milliseconds.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict  # pydantic, which describes these, takes no other before Python 3.12

Ms = int
"""Wall-clock milliseconds."""

CopyStatus = Literal["running", "completed", "failed", "cancelled"]


class HintPart(TypedDict):
    """A part of a hint: a text, or the text of an action, which a client may render in its own words."""

    text: str
    action: str | None
    arguments: dict[str, str | int]


class Problem(TypedDict):
    """A refusal: a code to act on, one sentence, and what helps. `correlationId` only of a mistake of the manager's own."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str
    hintParts: list[HintPart]


# Stores --------------------------------------------------------------------------------------------------------------


class Incarnation(TypedDict):
    """How often the store was started whole, and how often its processes changed since."""

    major: int
    minor: int


class Run(TypedDict):
    """A process of an instance, live or as it was when it ended."""

    startId: int
    nodeId: int | None
    pid: int | None
    state: str
    engineState: str
    loadingPercent: int


class Instance(TypedDict):
    """One copy of a group: where it is, what it does, and why it does not run if it does not. `zone` is the label of its server,
    empty without one."""

    instanceName: str
    archiveId: int
    server: str
    zone: str
    manager: str | None
    host: str | None
    clustronPort: int
    clientPort: int
    group: str
    path: str | None
    archiveState: str
    state: str
    role: str | None
    inSync: bool
    reason: str | None
    hint: str
    hintParts: list[HintPart]
    process: Run | None


class Joining(TypedDict):
    """An instance on its way to a whole copy."""

    instance: str | None
    stage: str


class Enforcement(TypedDict):
    """A leader that was enforced, and what that could cost."""

    instance: str | None
    term: int
    bound: str
    reason: str
    actor: str
    at: Ms


class HandOver(TypedDict):
    """To which instance a group is being handed over."""

    to: str | None


class SwitchoverRequest(TypedDict):
    """A switchover that was asked for; `to` is null for whichever copy is furthest."""

    to: str | None
    since: Ms
    reason: str


Waits = TypedDict("Waits", {"for": list[str], "since": Ms | None, "reason": str, "hint": str, "hintParts": list[HintPart]})
Waits.__doc__ = "What a group waits for: the instances, since when, why, and what helps."


class Group(TypedDict):
    """A storage group: who leads, who is in sync, and what it can lose without losing writes. `placement` says what the places of
    its copies lack although servers or zones would allow it, empty if nothing."""

    name: str
    slots: list[list[int]]
    term: int
    phase: str
    open: bool
    serving: bool
    leader: str | None
    leaderStartId: int | None
    leaderEndpoint: str | None
    inSync: list[str]
    required: list[str]
    requiredEndpoints: list[str]
    readers: list[str]
    joining: list[Joining]
    enforcements: list[Enforcement]
    handover: HandOver | None
    switchover: SwitchoverRequest | None
    waitsFor: Waits | None
    canLoseForConfirmed: int
    canLoseForWrites: int
    placement: str


BlockedItem = TypedDict(
    "BlockedItem",
    {
        "kind": str,
        "subject": str,
        "store": str | None,
        "for": str,
        "since": Ms | None,
        "reason": str,
        "hint": str,
        "hintParts": list[HintPart],
        "blocksWrites": bool,
    },
)
BlockedItem.__doc__ = (
    "Something that waits: for what, since when (null if it is not known), why, what helps, and whether it keeps the writes "
    "of clients from being taken."
)


class Restart(TypedDict):
    """How far a restart is, and what it does or waits for."""

    rolling: bool
    force: bool
    since: Ms
    processes: int
    replaced: int
    waitsFor: str
    reason: str
    hint: str
    hintParts: list[HintPart]


class Operation(TypedDict):
    """A long operation that is under way: a hot copy, a restart or a switchover. `done` of `total` parts; a `total` of 0: it has
    none. `cancel` is the order that ends it, null where it is over within seconds."""

    kind: str
    subject: str
    stage: str
    stages: list[str]
    done: int
    total: int
    since: Ms | None
    waitsFor: str
    reason: str
    hint: str
    hintParts: list[HintPart]
    cancel: str | None


class Transport(TypedDict):
    """How the engines of a store speak with clients and with each other. `insecure`: without TLS, where other machines can reach
    them, which an operator accepted. `authorities` is the CA file (PEM) of clients; empty without TLS and before the first start.
    """

    tls: bool
    insecure: bool
    authorities: str


class Store(TypedDict):
    """A store whole, at one revision of the domain. `open`: every client is let in although the domain has access control."""

    name: str
    status: str
    state: str
    incarnation: Incarnation
    createdAt: Ms
    minInSync: int
    replicationFactor: int
    appendFsync: str
    options: dict[str, Any]
    open: bool
    transport: Transport
    tombstonesTrimmed: int
    waiting: list[BlockedItem]
    operations: list[Operation]
    restart: Restart | None
    groups: list[Group]
    instances: list[Instance]
    revision: int


class Stores(TypedDict):
    """All stores, by name."""

    stores: list[Store]


class StoreChecked(TypedDict):
    """The answer to `check=true`: the store could be created, or is there already."""

    ok: Literal[True]
    exists: bool


class StoreStopping(TypedDict):
    """A store is being stopped."""

    name: str
    result: Literal["Stopping"]


class StoreRemoved(TypedDict):
    """A store is gone."""

    name: str
    result: Literal["Removed"]


class InstanceRemoved(TypedDict):
    """An instance is gone."""

    instanceName: str
    result: Literal["Removed"]


class InstanceStarted(TypedDict):
    """What a start came to."""

    instanceName: str
    result: Literal["Started", "Already running"]
    startId: int | None


class InstanceStopped(TypedDict):
    """What a stop came to."""

    instanceName: str
    result: Literal["Stopping", "Already stopped"]


class Asked(TypedDict):
    """The groups that were asked to be handed over."""

    result: Literal["Asked"]
    groups: list[str]


class VoterReplaced(TypedDict):
    """Which server is to vote in place of the one that is away."""

    result: Literal["Asked"]
    by: str


class Restarting(TypedDict):
    """How many processes a restart is about."""

    result: Literal["Restarting"]
    processes: int | None


class RestartStopped(TypedDict):
    """A restart has ended where it stood."""

    result: Literal["Stopped"]


class Effect(TypedDict):
    """An option that was changed, and what comes of it."""

    option: str
    effect: str
    hint: str
    hintParts: list[HintPart]


class OptionsSet(TypedDict):
    """Options were set."""

    result: Literal["Set"]
    effects: list[Effect]


# Hot copies and losses -----------------------------------------------------------------------------------------------


class CopyPart(TypedDict):
    """One instance of a hot copy; `size` in bytes."""

    archiveId: int
    instanceName: str | None
    server: str
    group: str
    path: str
    size: int
    percent: int


class HotCopy(TypedDict):
    """A hot copy and how far it is; `maxRate` in bytes per second and instance."""

    hotCopyId: int
    store: str
    coordinatorStartId: int
    status: CopyStatus
    stage: str
    attempt: int
    message: str
    maxRate: int
    beginAt: Ms
    cutAt: Ms
    endAt: Ms
    archives: list[CopyPart]


class HotCopies(TypedDict):
    """A store's hot copies, newest first."""

    hotCopies: list[HotCopy]


class Position(TypedDict):
    """How far a copy's data goes."""

    term: int
    marker: int
    bytesAfter: int


class Behind(TypedDict):
    """How much less than the newest known; bytes are null where terms or markers differ, since nobody can count them then."""

    terms: int
    markers: int
    bytes: int | None


class Away(TypedDict):
    """A copy that is in sync and cannot be asked."""

    instanceName: str
    why: str
    since: Ms | None


class Bound(TypedDict):
    """What an enforced leader can cost at most."""

    instanceName: str
    inSync: bool
    away: list[Away]
    position: Position | None
    newestKnown: Position | None
    behind: Behind | None
    endedAt: Ms | None
    verdict: str


class LeaderBound(TypedDict):
    """The cost before anything is done."""

    bound: Bound


class Enforced(TypedDict):
    """The cost as it was before."""

    result: Literal["Enforced"]
    bound: Bound


# Plans ---------------------------------------------------------------------------------------------------------------


class PlannedEvent(TypedDict):
    """Something that would happen."""

    kind: str
    subject: str
    change: str
    because: str
    database: str


class PlannedCommand(TypedDict):
    """A command, and what it would make true or why it would be refused. Secrets are written as ***."""

    command: str
    fields: dict[str, Any]
    events: list[PlannedEvent]
    refused: Problem | None


class PlannedStep(TypedDict):
    """A request, what would be answered, and the commands it would lead to."""

    method: str
    path: str
    status: int
    answer: Any
    commands: list[PlannedCommand]


class Plan(TypedDict):
    """What requests would lead to, beginning at one revision."""

    revision: int
    steps: list[PlannedStep]


# Status ---


class EngineProgram(TypedDict):
    """The program of a server's engines: its release, "" if it is not known, and whether it has TLS; and for how many days the
    certificate of a running one is valid yet that ends first, null where none has one.
    """

    release: str
    tls: bool
    certificateDaysLeft: int | None


class Server(TypedDict):
    """A server of the domain."""

    serverId: str
    manager: str
    host: str
    port: int
    alive: bool
    bootId: str
    labels: dict[str, str]
    isLocal: bool
    certificateUntil: Ms | None
    certificateDaysLeft: int | None
    engine: EngineProgram
    stateMember: Literal["voter", "learner"] | None
    release: str | None
    level: int | None


class Domain(TypedDict):
    """The domain and its servers. `level` is what its state may contain: the lowest that the managers of its servers know;
    `release` of a server is that of its manager's dkv, null while it is not known. `accessControl` is whether the manager that
    answers asks who sends a request.
    """

    uid: str
    revision: int
    leaderServer: str | None
    level: int
    servers: list[Server]
    accessControl: Literal["on", "off"]


class Address(TypedDict):
    """Where a process serves a group."""

    group: str
    address: str


class Process(Run):
    """A live process."""

    store: str
    instanceName: str | None
    server: str
    type: str
    group: str | None
    endpoints: list[Address]
    labels: dict[str, str]
    requester: str
    restartOf: int | None
    requestedAt: Ms


class Processes(TypedDict):
    """Live processes, by start id."""

    processes: list[Process]


class Tombstone(Run):
    """A process that ended, and why. Without evidence the reason says so."""

    store: str
    instanceName: str | None
    server: str
    cause: str
    reason: str
    exitCode: int | None
    waitStatus: int | None
    lastWords: list[str]
    incarnation: Incarnation
    at: Ms


class Tombstones(TypedDict):
    """Ended processes, newest first."""

    tombstones: list[Tombstone]


class Waiting(TypedDict):
    """Everything that waits."""

    waiting: list[BlockedItem]


class Identity(TypedDict):
    """Who a manager is; `domainUid` is null while it waits for the domain, `authority` (the SHA-256 of the certificate of the
    domain's authority, in hex) while it has none; `recoveries`: the ids of the times that the domain was recovered without a
    majority, oldest first. Strangers get only these. `refusedRequests`: how many this manager refused since it was started, by
    the code of the refusal.
    """

    product: Literal["dkv"]
    domainUid: str | None
    authority: str | None
    recoveries: list[str]
    serverId: NotRequired[str]
    uid: NotRequired[str]
    accessControl: NotRequired[Literal["on", "off"]]
    refusedRequests: NotRequired[dict[str, int]]


class Status(TypedDict):
    """The manager works."""

    status: Literal["ok"]


class Ready(TypedDict):
    """The manager can read and change the domain; and what keeps clients' writes from being taken in it."""

    status: Literal["ready"]
    waiting: list[BlockedItem]


class Metric(TypedDict):
    """One metric of one node; `rate` a second."""

    store: str
    instanceName: str | None
    node: str
    category: str
    metric: str
    rate: float | None
    total: int


class Metrics(TypedDict):
    """Rates and totals, and the servers that did not answer. `refusedRequests`: see Identity."""

    metrics: list[Metric]
    updated: Ms
    silentServers: list[str]
    refusedRequests: dict[str, int]


class LogPart(TypedDict):
    """Lines of one log of a server, `name` as in its support bundle, oldest first; `next` asks for what comes after them."""

    server: str
    name: str
    lines: list[str]
    next: str


class ScrapeTargets(TypedDict):
    """One engine that Prometheus may scrape: its address as `targets`, and the labels of its samples."""

    targets: list[str]
    labels: dict[str, str]


class MachineFinding(TypedDict):
    """One thing that is not as it should be on a machine, and what mends it; a `problem` stops something, else it is advice."""

    problem: bool
    text: str
    fix: str


class Machine(TypedDict):
    """A machine: its clock and how far that is ahead, in ms; the time of a small synced write, in ms (-1: none could be
    made); how many files a process may open; vm.overcommit_memory (-1: unknown); who gets transparent huge pages; how many
    ports of engines and etcd members on other machines it reaches."""

    serverId: str
    host: str
    answers: bool
    clock: Ms
    clockOffset: int
    fsync: float
    openFiles: int
    overcommitMemory: int
    hugePages: str
    reached: int
    findings: list[MachineFinding]


class Machines(TypedDict):
    """Every machine of the domain, by server id."""

    machines: list[Machine]


class Event(TypedDict):
    """Something that happened, why, by which command, and who asked."""

    sequence: int
    revision: int
    at: Ms
    database: str
    subject: str
    kind: str
    because: str
    change: str
    command: str
    actor: str
    entry: str  # the entry point that who asked came by; "": a manager saw it itself
    startId: int | None
    archiveId: int | None
    cause: int | None  # sequence of the event it follows from; zero or less: reported before this log began
    ordered: bool
    text: str  # what happened, in words, without why


class Events(TypedDict):
    """A page of the event log, oldest first, and the sequence of the oldest event that is kept."""

    events: list[Event]
    oldest: int


class Chain(TypedDict):
    """An event, the one it follows from, and so on; `trimmed`: it goes on with one that is not kept any more."""

    events: list[Event]
    trimmed: bool


class Records(TypedDict):
    """The domain's state as it is kept."""

    uid: str
    revision: int
    records: dict[str, str]


class Follower(TypedDict):
    """A follower as its leader's engine sees it: what of the stream it has not acknowledged, and for how many seconds."""

    address: str
    state: str
    lagBytes: int
    silentSeconds: int


class EngineNumbers(TypedDict):
    """One engine process at one moment. `gets`, `puts` and `removes` are counted since it started. `memory` and `maxMemory` (0:
    no limit) in bytes; `command` is the data command that it ran most within the last ten seconds, `p50` and `p99` are
    microseconds of it (interpolated between bounds that double), null without any call. `leaderHeard`: seconds since a follower
    heard its leader, null for others and while the link is down (`linkUp` false).
    """

    startId: int
    gets: int
    puts: int
    removes: int
    keys: int
    clients: int
    memory: int
    maxMemory: int
    command: str
    p50: float | None
    p99: float | None
    linkUp: bool | None
    leaderHeard: int | None
    followers: list[Follower]


class Numbers(TypedDict):
    """The engines of one server at one moment."""

    server: str
    at: Ms
    engines: list[EngineNumbers]


class ManagerHeard(TypedDict):
    """A manager as the one that answers hears it: milliseconds it took to answer, null if it did not; how long ago it renewed its
    lease, null if that is not known."""

    server: str
    answeredIn: float | None
    leaseAge: int | None


class Sample(TypedDict):
    """The numbers of every server at one moment, and how its managers hear each other."""

    at: Ms
    engines: list[EngineNumbers]
    managers: list[ManagerHeard]


class Reader(TypedDict):
    """Who reads the live view: the principal, null without access control, and the rights that its built-in roles give it.
    `otherRoles`: it has roles that somebody made, which may allow more."""

    principal: str | None
    rights: list[str]
    otherRoles: bool


class AsOf(TypedDict):
    """Since when this manager cannot change, or not even read, the domain's state, and why."""

    since: Ms
    why: str
    hint: str


class Live(TypedDict):
    """The live view, or what of it changed: each field that is there is whole, but `events` has only those that came since.
    `revision`: of the domain; `at`: this manager's clock; `asOf`: null while the state can be read and changed; `history`: the
    numbers of the last minutes, oldest first, as far as they were taken; `tombstones`: the newest.
    """

    at: Ms
    revision: NotRequired[int]
    asOf: NotRequired[AsOf | None]
    reader: NotRequired[Reader]
    domain: NotRequired[Domain]
    stores: NotRequired[list[Store]]
    waiting: NotRequired[list[BlockedItem]]
    tombstones: NotRequired[list[Tombstone]]
    hotCopies: NotRequired[list[HotCopy]]
    events: NotRequired[list[Event]]
    numbers: NotRequired[Sample]
    history: NotRequired[list[Sample]]


# Access --------------------------------------------------------------------------------------------------------------


class Token(TypedDict):
    """A token of a program or a person, without its secret. `user`: whose it is; empty for one that stands for itself."""

    id: str
    name: str
    role: str
    user: str
    madeBy: str
    madeAt: Ms
    expiresAt: Ms
    expired: bool
    lastUsed: Ms | None  # as far as managers know that answer now; what was before they were started is forgotten


class TokensUsed(TypedDict):
    """When this manager took each token last, by its id."""

    used: dict[str, Ms]


class Tokens(TypedDict):
    """Every token, by id; those that expired too, until they are deleted."""

    tokens: list[Token]


class TokenMade(TypedDict):
    """A new token. `secret` is shown this once: it is what is sent as `Authorization: Bearer`."""

    result: Literal["Created"]
    token: Token
    secret: str


class TokenDeleted(TypedDict):
    """A token that is not taken any more."""

    result: Literal["Deleted"]
    id: str


class DatabaseUser(TypedDict):
    """A user of a store. `passwords`: how many are taken, two during a change. `keys`: patterns of those it may use."""

    name: str
    readOnly: bool
    keys: list[str]
    scripting: bool
    monitor: bool
    importing: bool
    passwords: int
    madeBy: str
    madeAt: Ms
    changedAt: Ms


class DatabaseUsers(TypedDict):
    """The users of a store, by name."""

    users: list[DatabaseUser]


class DatabaseUserChanged(TypedDict):
    """A user as it is now; engines get it a moment later, and until then the store's view shows what waits."""

    result: Literal["Set"]
    user: DatabaseUser


class DatabaseUserDeleted(TypedDict):
    """A user that is let in no more."""

    result: Literal["Deleted"]
    name: str


class SecretRotating(TypedDict):
    """The managers' password of a store is being changed; DONE where no engine of it runs."""

    result: Literal["Rotating"]
    phase: str


class AccessSet(TypedDict):
    """Whom a store's engines let in from now on."""

    result: Literal["Set"]
    open: bool


class JoinToken(TypedDict):
    """A token with which new servers may join, without its secret. `usedBy` has the uids of those that did. `replaces`: the id of
    the server whose place the one that joins takes, "" for none."""

    id: str
    uses: int
    usedBy: list[str]
    madeBy: str
    madeAt: Ms
    expiresAt: Ms
    expired: bool
    ofFormerAuthority: bool
    replaces: str


class JoinTokens(TypedDict):
    """Every join token, by id; those that were used or expired too, until they are deleted."""

    joinTokens: list[JoinToken]


class JoinTokenMade(TypedDict):
    """A new join token. `secret` is shown this once, and is empty in a plan: it is what a new server is started with."""

    result: Literal["Created"]
    joinToken: JoinToken
    secret: str


class Authority(TypedDict):
    """The authority of the domain's managers. `bundle` has the certificates that are trusted, the one that signs first;
    `fingerprints` and `former` are SHA-256 in hex. `waitsFor`: the servers that a change waits for. `held`: it goes on from
    PREPARED only when it is asked for again. `clock`: the manager's.
    """

    domainUid: str
    bundle: list[str]
    fingerprints: list[str]
    former: str | None
    phase: Literal["PREPARED", "SWITCHED", "DONE"]
    phaseAt: Ms
    held: bool
    waitsFor: list[str]
    clock: Ms


class Admitted(TypedDict):
    """What a server gets that joins: its certificate, whom to trust, the key of the domain's secrets, and where the state is."""

    certificate: str
    bundle: str
    domainKey: str
    domainUid: str
    state: str
    members: str
