"""Orders: what people and programs ask of a domain, by noun. The rule of each is found in decide.py."""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain.command import Command
from dkv.domain.model import DatabaseOptions, ProcessRole

# Databases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class NewGroup:
    """One storage group of a new database."""

    name: str
    shard_id: str
    slots: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class CreateDatabase(Command):
    """Create a database with its groups and, for a store, all its archives at once."""

    name: str
    uid: str
    secret: str
    options: DatabaseOptions = DatabaseOptions()
    groups: tuple[NewGroup, ...] = ()
    archives: tuple[NewArchive, ...] = ()
    open: bool = True  # every client is let in
    dba_user: str = ""
    dba_password: str = ""  # kept as it is, where the domain has no access control ...
    hashed_dba_password: str = ""  # ... else its SHA-256 in hex: the first user of the database
    default_options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class DeleteDatabase(Command):
    """Delete a database that does not run; with `purge` its archives too (directories are renamed, not removed). With
    `forget` its name and history as well, also of one that was deleted before."""

    name: str
    purge: bool = False
    forget: bool = False


@dataclass(frozen=True, kw_only=True)
class ShutdownDatabase(Command):
    """Stop a whole database: writes are fenced, all of S catches up, then everything stops without handover."""

    name: str
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class SetDatabaseOptions(Command):
    """Set options of a database by their names in the dialect; with `replace_all` the others are unset.

    The options of database_options.py change what the domain does; NuoDB's own are kept and ignored, others are refused.
    """

    name: str
    options: tuple[tuple[str, str], ...]
    replace_all: bool = False


@dataclass(frozen=True, kw_only=True)
class RestartDatabase(Command):
    """Replace every process of a database: one after the other while it serves (`rolling`), or by a whole stop and
    start. `force` accepts that writes stop where a group has no copy to spare, and stops processes at once."""

    name: str
    rolling: bool = False
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class StopRestart(Command):
    """Give a running restart up: what was replaced stays replaced, what is stopping comes back, the rest is left."""

    name: str


# Archives ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class NewArchive:
    """One archive to create. An empty name, path or zero port is chosen by the domain.

    `restored`: its directory holds a copy of a database's data already, from which this database is to begin.
    """

    server_id: str
    name: str = ""
    group: str = ""
    path: str = ""
    cluster_port: int = 0
    client_port: int = 0
    restored: bool = False


@dataclass(frozen=True, kw_only=True)
class CreateArchives(Command):
    """Add archives to a database; all or none."""

    database: str
    archives: tuple[NewArchive, ...]


@dataclass(frozen=True, kw_only=True)
class DeleteArchive(Command):
    """Take an archive out of its database: with `purge` its directory is renamed by its manager and the archive is
    forgotten, else it stays on the list of removed ones and can be brought back."""

    archive_id: int
    purge: bool = True


@dataclass(frozen=True, kw_only=True)
class BringBackArchive(Command):
    """Take a removed archive back under its id; `restored`: into another database of its name. Empty fields ask for nothing."""

    archive_id: int
    database: str
    server_id: str = ""
    path: str = ""
    restored: bool = False


# Processes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StartProcess(Command):
    """Request a process. `expected` is the incarnation (major, minor) it is to run in, minor None for any; or None.

    On a database that does not run that is the one this start opens: (major + 1, 0) (docs/reference/nuodb.md#life-cycles).
    """

    database: str
    role: ProcessRole
    server_id: str = ""
    archive_id: int | None = None
    expected: tuple[int, int | None] | None = None
    labels: tuple[tuple[str, str], ...] = ()
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ShutdownProcess(Command):
    """End one process gracefully, or at once with `kill`. `force` accepts falling below minInSync. `evict` forgets it
    although it is not proven to have stopped: for a process whose server does not come back."""

    start_id: int
    kill: bool = False
    force: bool = False
    evict: bool = False


# Storage groups: who leads -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EnforceLeader(Command):
    """Make an archive lead although it may lack confirmed writes; recorded for ever."""

    database: str
    group: str
    archive_id: int
    allow_data_loss: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Switchover(Command):
    """Hand a group over to another member of its in-sync set. Without `group` every group of the database; without
    `to`, a start id, to the member that is furthest."""

    database: str
    group: str = ""
    to: int | None = None


@dataclass(frozen=True, kw_only=True)
class RebalanceLeaders(Command):
    """Hand groups of a database over so that its leaders are spread evenly over the servers that could lead."""

    database: str


# Hot copies ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CopyTarget:
    """One archive to copy, and the directory on its server that the copy goes to."""

    archive_id: int
    path: str


@dataclass(frozen=True, kw_only=True)
class RequestHotCopy(Command):
    """Copy archives of a database that serves, all at one moment.

    `targets` are copied in any case; with `default_path` so is every other archive that is in sync, each into that
    directory of its own server, or with `shared` into a directory of its own below it. `whole` refuses a copy that
    lacks a storage group. `max_rate` is in bytes per second and archive; 0 means no limit.
    """

    database: str
    targets: tuple[CopyTarget, ...] = ()
    default_path: str = ""
    shared: bool = False
    whole: bool = True
    max_rate: int = 0


@dataclass(frozen=True, kw_only=True)
class CancelHotCopy(Command):
    """End a hot copy; what was copied is removed again."""

    copy_id: int


# Servers -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DrainServer(Command):
    """End every process of a server, or those of one database. Refused where that would end the serving of a group or its
    writes, unless `force`, `kill` or `evict` (as of one process, ShutdownProcess) says that this is meant."""

    server_id: str
    database: str = ""
    kill: bool = False
    force: bool = False
    evict: bool = False


@dataclass(frozen=True, kw_only=True)
class RemoveServer(Command):
    """Take a server that is away, and has nothing left, out of the domain."""

    server_id: str


@dataclass(frozen=True, kw_only=True)
class RemoveServerState(Command):
    """Give up what ran on a server that is away: its processes end unproven, its archives go where that is safe."""

    server_id: str


@dataclass(frozen=True, kw_only=True)
class ReplaceVoter(Command):
    """Have another server vote in the etcd cluster of the domain state in place of a server that is away, at once."""

    server_id: str


# Records -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PutRecord(Command):
    """Set a record, or with no value delete it. With `expects` only if its value is one of those; None is: not there."""

    kind: str
    key: str
    value: str | None = None  # JSON
    expects: tuple[str | None, ...] = ()


# Tokens --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CreateToken(Command):
    """A token for a program or a person, which lives `lasts` ms. With a user it allows what both role and user may."""

    token_id: str
    hashed_secret: str  # SHA-256 of its 256 random bits, in hex
    role: str
    name: str = ""
    user: str = ""
    lasts: int


@dataclass(frozen=True, kw_only=True)
class DeleteToken(Command):
    """A token is not taken any more, by any manager."""

    token_id: str


# Authorities, and servers that join ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RotateAuthority(Command):
    """Change an owner's authority for this one, whose key is sealed. `without`: ids of servers that are away, for which it
    does not wait; while one is under way already, that is all that is asked for. `hold`: stop once every server trusts both,
    until the change is asked for again without it.
    """

    owner: str
    certificate: str
    key: str
    without: tuple[str, ...] = ()
    hold: bool = False


@dataclass(frozen=True, kw_only=True)
class CreateJoinToken(Command):
    """A token with which new servers may join, for `lasts` ms. `pin` is the SHA-256 of the authority that it pins. With
    `replaces` one server may, in place of the one with that id, which is away and whose data are lost.
    """

    token_id: str
    hashed_secret: str
    pin: str
    uses: int = 1
    lasts: int
    replaces: str = ""


@dataclass(frozen=True, kw_only=True)
class DeleteJoinToken(Command):
    """A join token is not taken any more."""

    token_id: str


@dataclass(frozen=True, kw_only=True)
class AdmitServer(Command):
    """A new server at the address `host` showed a join token, which is used by that. `pin` is of the authority that answers
    now."""

    token_id: str
    hashed_secret: str
    pin: str
    server_id: str
    uid: str
    public_key: str  # SHA-256, hex
    host: str


# Users of databases --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CreateDatabaseUser(Command):
    """A user whom the engines of a database let in. The same one again is answered, not refused."""

    database: str
    name: str
    hashed_password: str  # SHA-256 in hex
    read_only: bool = False
    keys: tuple[str, ...] = ()
    scripting: bool = True
    monitor: bool = False
    importing: bool = False


@dataclass(frozen=True, kw_only=True)
class AddUserPassword(Command):
    """A database user gets a new password; the one it had is taken beside it until it is dropped."""

    database: str
    name: str
    hashed_password: str


@dataclass(frozen=True, kw_only=True)
class DropUserPassword(Command):
    """Only the newest password of a database user is taken from now on."""

    database: str
    name: str


@dataclass(frozen=True, kw_only=True)
class DeleteDatabaseUser(Command):
    """A database user is let in no more, and its connections end."""

    database: str
    name: str


@dataclass(frozen=True, kw_only=True)
class SetDatabaseAccess(Command):
    """The engines of a database let in every client without a password, or its users only."""

    database: str
    open: bool


@dataclass(frozen=True, kw_only=True)
class RotateSecret(Command):
    """The managers' own password on the engines of a database is changed to a new one, while everything runs."""

    database: str
    secret: str


# All of them ---------------------------------------------------------------------------------------------------------


ORDERS: tuple[type[Command], ...] = (
    CreateDatabase,
    DeleteDatabase,
    ShutdownDatabase,
    SetDatabaseOptions,
    RestartDatabase,
    StopRestart,
    CreateArchives,
    DeleteArchive,
    BringBackArchive,
    StartProcess,
    ShutdownProcess,
    EnforceLeader,
    Switchover,
    RebalanceLeaders,
    RequestHotCopy,
    CancelHotCopy,
    DrainServer,
    RemoveServer,
    RemoveServerState,
    ReplaceVoter,
    PutRecord,
    CreateToken,
    DeleteToken,
    RotateAuthority,
    CreateJoinToken,
    DeleteJoinToken,
    AdmitServer,
    CreateDatabaseUser,
    AddUserPassword,
    DropUserPassword,
    DeleteDatabaseUser,
    SetDatabaseAccess,
    RotateSecret,
)
