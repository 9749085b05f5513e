"""CLI: `dkv import`: a source is copied into a database by the user whom its managers make for it, and who goes at the end."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from dkv.cli.binding import Bound
from dkv.cli.errors import DONE, CliError, Usage
from dkv.cli.nouns.common import native
from dkv.cli.session import Session
from dkv.client import ManagerClient, ManagerUnreachable
from dkv.client.manager import quoted
from dkv.constants import NUMBERED_DATABASES

if TYPE_CHECKING:
    from dkv.importing.connection import ServerAddress
    from dkv.importing.run import Import, Progress
    from dkv.importing.source import Node
    from dkv.importing.target import Leaders, Target
    from dkv.wire import schemas

SCHEMES = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
FORM = "Write redis://HOST:PORT, or rediss://HOST:PORT for TLS; a user as redis://USER@HOST:PORT."
LETS_IN_WITHIN = 60.0  # s for every engine to take a new user
PREFIX = "import-"  # of the name of the user whom an unfinished import leaves


def run(session: Session, bound: Bound) -> int:
    """Source and store are looked at before anything is changed. What ends early is begun again by the same command."""
    from dkv.importing.connection import ImportFailed

    try:
        return _run(session, bound)
    except ImportFailed as error:
        raise CliError(error.message, error.hint) from error


def _run(session: Session, bound: Bound) -> int:
    from dkv.importing.run import Import
    from dkv.importing.source import nodes_of
    from dkv.importing.target import Target

    address = source_of(bound["--from"], _password(bound), bound["--from-ca"] or "")
    nodes = nodes_of(address)
    client = native(session, bound)
    store = _serving(client.store(bound["--db-name"]))
    _refuse_databases(nodes)
    user = f"{PREFIX}{hashlib.sha256(str(address).encode()).hexdigest()[:8]}"
    path, password = f"/stores/{quoted(store['name'])}/users", os.urandom(24).hex()
    unfinished = any(present["name"] == user for present in client.read(path)["users"])
    if unfinished:
        client.change("DELETE", f"{path}/{user}")
        session.screen.note("An import from this source did not end: it is begun again, and goes over what is there.")
    client.change("POST", path, {"name": user, "password": password, "importing": True})
    try:
        _wait_for_user(session, client, store["name"])
        target = Target(lambda: leaders_of(client, store["name"], user, password))
        if not unfinished:
            _refuse_keys(target, store["name"])
            unfinished = True
        _copy(
            session,
            bound,
            Import(nodes, target, lambda progress: _show_progress(session, progress), follow=not bound["--no-follow"]),
        )
        unfinished = False
    finally:
        for node in nodes:
            node.close()
        if not unfinished:
            client.change("DELETE", f"{path}/{user}")
    return DONE


def _refuse_databases(nodes: list[Node]) -> None:
    number = max((number for node in nodes for number in node.sizes()), default=0)
    if number >= NUMBERED_DATABASES:
        raise CliError(
            f"The source has a database {number}; engines have 0 to {NUMBERED_DATABASES - 1}.",
            "Move its keys to another one there first.",
        )


def _refuse_keys(target: Target, name: str) -> None:
    for number in range(NUMBERED_DATABASES):
        if size := target.size(number):
            raise CliError(
                f"{name} is not empty: its database {number} has {size} keys.", "Import into a new store, or empty it."
            )


def _copy(session: Session, bound: Bound, job: Import) -> None:
    _follow(session, bound, job)
    compared = job.finish(bound["--sample"])
    job.target.close()
    session.screen.note(
        f"{compared.keys} keys are in {bound['--db-name']}, as many as at the source; {compared.sampled} of them were compared "
        "and are equal. Clients may write here now."
    )


def _follow(session: Session, bound: Bound, job: Import) -> None:
    """Copy all, then what changes, until the writers have stopped."""
    job.copy_all()
    if bound["--no-follow"]:
        return
    job.catch_up()
    session.screen.clear_progress()
    session.screen.note(
        f"{job.progress.copied} keys are copied, and what changes is copied too. "
        "Stop all writers of the source, then press Enter."
    )
    stopped = _input_line()
    while not stopped():
        job.catch_up()
        session.sleep(0.1)


def _input_line() -> Callable[[], bool]:
    """Whether a line, or the end, of standard input has come."""
    import threading

    came = threading.Event()

    def read() -> None:
        if sys.stdin:
            sys.stdin.readline()
        came.set()

    threading.Thread(target=read, daemon=True).start()
    return came.is_set


def _show_progress(session: Session, progress: Progress) -> None:
    waiting = f", {progress.waiting} changed since" if progress.waiting else ""
    session.screen.progress(f"{progress.copied} of some {progress.total} keys, {progress.changed} copied again{waiting}")


def source_of(url: str, password: str, ca_file: str) -> ServerAddress:
    """The source that a URL names. A password in it is refused, and shown nowhere. Raises Usage."""
    from dkv.importing.connection import ServerAddress

    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError:
        raise Usage("The address of the source is not valid.", FORM) from None
    if parts.password is not None:
        hint = "Leave it out: give it with --from-password-file or in DKV_SOURCE_PASSWORD."
        raise Usage("A password in the address of the source can be read by other users of this machine.", hint)
    if parts.scheme not in SCHEMES or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise Usage("The address of the source is not valid.", FORM)
    return ServerAddress(parts.hostname, port, unquote(parts.username or ""), password, SCHEMES[parts.scheme], ca_file)


def _password(bound: Bound) -> str:
    from dkv.cli.nouns.database_users import checked, content

    file = bound["--from-password-file"]
    return checked(content(file), file) if file else os.environ.get("DKV_SOURCE_PASSWORD", "")


def _serving(store: schemas.Store) -> schemas.Store:
    waits = [group["name"] for group in store["groups"] if not group["serving"]]
    if waits or not store["groups"]:
        raise CliError(
            f"{store['name']} does not serve: group {', '.join(waits)} has no leader.",
            f"Start it: dkv Start-DkvStore {store['name']}.",
        )
    return store


def _wait_for_user(session: Session, client: ManagerClient, name: str) -> None:
    """Wait until every engine takes the new user. Raises CliError."""

    def lacking() -> list[str]:
        return [item["subject"] for item in client.store(name)["waiting"] if item["kind"] == "users"]

    left = session.until(lacking, lambda left: not left, LETS_IN_WITHIN, progress=lambda left: f"waiting for {', '.join(left)}")
    if left:
        raise CliError(f"{', '.join(left)} does not let in the user of the import.", f"See dkv show waiting --db-name {name}.")


def leaders_of(client: ManagerClient, name: str, user: str, password: str) -> Leaders:
    """The leaders of a store's groups with their slots; none while no manager answers."""
    from dkv.importing.connection import ServerAddress

    try:
        store = client.store(name)
    except ManagerUnreachable:
        return {}
    instances = {instance["instanceName"]: instance for instance in store["instances"]}
    transport = store["transport"]
    leaders: dict[ServerAddress, list[tuple[int, int]]] = {}
    for group in store["groups"]:
        if group["leader"] and group["serving"]:
            leader = instances[group["leader"]]
            address = ServerAddress(
                str(leader["host"]),
                leader["clientPort"],
                user,
                password,
                transport["tls"],
                ca_data=transport["authorities"] or "",
            )
            leaders[address] = [(low, high) for low, high in group["slots"]]
    return leaders
