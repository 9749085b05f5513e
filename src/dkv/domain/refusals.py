"""Every way dkv says no: code, HTTP status, exit code, meaning; and the sentences. One catalogue for all doors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dkv import hints, spelling
from dkv.domain.decision import Refused
from dkv.domain.model import Database, DatabaseState
from dkv.hints import Hint, Part, action


@dataclass(frozen=True)
class Entry:
    """How a refusal code looks outside."""

    status: int
    exit_code: int
    meaning: str


CATALOGUE: dict[str, Entry] = {
    "unknown_database": Entry(404, 1, "no database of that name exists"),
    "unknown_archive": Entry(404, 1, "no such archive or instance exists"),
    "unknown_process": Entry(404, 1, "no live process has that start id"),
    "unknown_server": Entry(404, 1, "no such server is in the domain"),
    "unknown_group": Entry(404, 1, "the database has no such storage group"),
    "bad_name": Entry(400, 2, "a name breaks the rule [A-Za-z][A-Za-z0-9_.-]{0,62}"),
    "bad_value": Entry(400, 2, "a value is out of its range"),
    "unknown_option": Entry(400, 2, "a database, or one process of it, has no such option"),
    "bad_slots": Entry(400, 2, "the groups do not cover every hash slot exactly once"),
    "port_conflict": Entry(409, 1, "a port is used twice"),
    "unfit_directory": Entry(409, 1, "a directory belongs to another user, can be changed by one, or holds other files"),
    "path_conflict": Entry(409, 1, "an archive directory is used twice on one server"),
    "database_exists": Entry(409, 1, "the name is taken by a different database"),
    "archives_hold_data": Entry(409, 1, "archives of a deleted database of that name still hold its data"),
    "database_running": Entry(409, 1, "the database has live processes"),
    "database_not_running": Entry(409, 1, "not all of the database runs"),
    "database_stopping": Entry(409, 1, "the database is being shut down"),
    "archive_exists": Entry(409, 1, "the database has an archive of that name"),
    "archive_in_use": Entry(409, 1, "the archive has a live process"),
    "last_archive": Entry(409, 1, "the last archive of a group cannot be deleted before its database"),
    "holds_only_copy": Entry(409, 1, "the archive is the only in-sync copy of its group"),
    "already_running": Entry(409, 0, "the archive has a live process already"),
    "already_stopping": Entry(409, 0, "the process is stopping already"),
    "wrong_server": Entry(409, 1, "the archive is on another server"),
    "last_copy_on_server": Entry(409, 1, "the server holds the last copy in sync of a group"),
    "below_min_in_sync": Entry(409, 1, "stopping it would leave fewer in-sync copies than minInSync"),
    "archive_needed": Entry(409, 1, "an archive of a server that is away may be needed to lead, until its group does without it"),
    "copy_joining": Entry(409, 1, "the copy that could lead is on its way into the in-sync set, and can some seconds later"),
    "cannot_switch_over": Entry(409, 1, "the group's leadership cannot be handed over as asked"),
    "restart_running": Entry(409, 1, "the database is being restarted already"),
    "not_restarting": Entry(409, 1, "the database is not being restarted"),
    "would_stop_writes": Entry(409, 1, "restarting one process after the other would stop writes"),
    "incarnation_changed": Entry(409, 1, "processes of the database started or ended since the requester read it"),
    "data_loss_not_allowed": Entry(409, 1, "an enforced leader may lose writes, and the request does not allow that"),
    "cannot_rebuild": Entry(409, 1, "the archives on disk do not make up one complete domain"),
    "unknown_copy": Entry(404, 1, "no such hot copy is known"),
    "copy_running": Entry(409, 1, "a hot copy of the database is being made"),
    "copy_ended": Entry(409, 0, "the hot copy ended already"),
    "cannot_copy": Entry(409, 1, "an archive cannot be copied now"),
    "server_conflict": Entry(409, 1, "the server id belongs to another machine's data directory"),
    "server_alive": Entry(409, 1, "the server's lease holds, so it is not away"),
    "server_in_use": Entry(409, 1, "archives or processes are still on the server, or a group waits for it"),
    "unknown_record": Entry(404, 1, "no record of that name exists: a user, role, region, policy, certificate"),
    "unknown_token": Entry(404, 1, "no token has that id"),
    "record_exists": Entry(409, 1, "a record of that name exists already"),
    "record_in_use": Entry(409, 1, "other records name it"),
    "record_changed": Entry(409, 1, "a record does not have the value that the requester expected"),
    "records_full": Entry(409, 1, "the domain holds as many records of that kind, or bytes of records, as it may"),
    "unauthenticated": Entry(401, 1, "the request shows nothing that proves who asks"),
    "not_allowed": Entry(403, 1, "no role of the principal allows that"),
    "bad_certificate": Entry(400, 1, "a certificate is not one that is believed"),
    "bad_join_token": Entry(400, 2, "a join token cannot be used, or not any more"),
    "state_moving": Entry(503, 1, "the domain state is being moved to etcd members of the managers"),
    "state_cannot_move": Entry(409, 1, "the domain state is a file of one machine, and no etcd member can be run"),
    "last_voter": Entry(409, 1, "the server has the only voter of the domain state's etcd"),
    "no_voter": Entry(409, 1, "the server has no vote in the domain state's etcd"),
    "no_spare_voter": Entry(409, 1, "no other server can run the member that would vote"),
    "no_authority": Entry(409, 1, "the domain has no certificate authority: access control is off"),
    "server_departed": Entry(409, 1, "the server was deleted, and joins again with a join token only"),
    "rotation_running": Entry(409, 1, "the authority is being changed already"),
    "engine_without_tls": Entry(409, 1, "a server's engine program has no TLS, and the database's engines would speak it"),
    "insecure_traffic": Entry(409, 1, "engines without TLS would be reached from other machines"),
    "older_managers": Entry(409, 1, "a manager of an older dkv could not read what would be written"),
    "domain_changed": Entry(412, 1, "the domain has changed since the plan that the request is bound to"),
    "key_reused": Entry(409, 1, "the Idempotency-Key was used for another request"),
    "stale_term": Entry(409, 1, "the group has moved to a newer term"),
    "stale_fact": Entry(409, 1, "the fact is about something the domain no longer expects"),
    "not_the_leader": Entry(409, 1, "only the manager of the group's leader may report this"),
}


def no(code: str, message: str, *hint: Part | Hint) -> Refused:
    """Refuse with a catalogued code. `hint` are the parts of what helps."""
    assert code in CATALOGUE, code
    return Refused(code, message, hints.hint(*hint))


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint naming the word that was probably meant, or else what is known."""
    names = list(known)
    return spelling.nearest(word, names, f"Known: {spelling.listed(names)}." if names else "There is none yet.")


def unknown_database(name: str, known: Iterable[str]) -> Refused:
    """No such database."""
    return no("unknown_database", f"There is no store or database named {name}.", nearest(name, known))


def living_database(databases: Mapping[str, Database], name: str) -> Database | Refused:
    """The database of that name. One that was deleted is none, and is not offered as the nearest name either."""
    living = {known: database for known, database in databases.items() if database.state is not DatabaseState.TOMBSTONE}
    return living[name] if name in living else unknown_database(name, living)


def unknown_process(start_id: int) -> Refused:
    """No such live process."""
    return no(
        "unknown_process", f"There is no live process with start id {start_id}.", "It may have ended: ", action("listExited"), "."
    )


def unknown_archive(archive: object) -> Refused:
    """No such archive."""
    return no("unknown_archive", f"There is no archive {archive}.", action("listInstances"), ".")


def unknown_server(server_id: str, known: Iterable[str]) -> Refused:
    """No such server."""
    return no("unknown_server", f"There is no server {server_id} in this domain.", nearest(server_id, known))


def key_reused() -> Refused:
    """An Idempotency-Key that another request was answered under."""
    return no(
        "key_reused",
        "The Idempotency-Key of this request was used for another request already.",
        "Give each change a key of its own; repeat one only with the same method, address and body.",
    )


def domain_changed(planned: int, now: int) -> Refused:
    """A request that is bound to a revision which is not the domain's any more."""
    return no(
        "domain_changed",
        f"The domain has changed since the plan: that is of revision {planned}, and the domain is at revision {now}.",
        "Nothing was done. Plan again, see what is different, and send the request with the revision of the new plan.",
    )


def stale_fact(what: str) -> Refused:
    """A manager's fact came too late; the manager drops it."""
    return no("stale_fact", f"Out of date: {what}.", "The manager reads the domain again.")


def no_engine_authority() -> Refused:
    """The engines of a database keep no certificates."""
    return no(
        "no_authority",
        "The engines of that store have no certificate authority: they speak without TLS, or were never started.",
        "See the options engine-tls and insecure-engine-traffic.",
    )


def no_authority() -> Refused:
    """The domain keeps no certificates."""
    return no(
        "no_authority",
        "This domain has no certificate authority.",
        "Start its managers with access_control = on (DKV_ACCESS_CONTROL=on).",
    )
