"""CLI: `dkv status`: the whole domain on one screen, beginning with the answer; exit code 0 only if nothing is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from dkv.cli.binding import Bound
from dkv.cli.errors import DONE, FAILED
from dkv.cli.get_store import counts
from dkv.cli.nouns.common import native
from dkv.cli.output import Screen, table, waiting_lines
from dkv.cli.session import Session

if TYPE_CHECKING:
    from dkv.client import ManagerClient
    from dkv.wire import schemas

READS = 3  # at most, until the domain was the same before and after


def status(session: Session, bound: Bound) -> int:
    """The answer, servers, stores with their groups, operations under way, and what waits."""
    client, screen = native(session, bound), session.screen
    domain, stores, waiting = at_one_moment(client)
    wrong = troubles(stores, waiting)
    extent = f"{_count(len(domain['servers']), 'server')}, {_count(len(stores), 'store')}"
    answer = f"{' '.join(wrong) or 'All is well.'} {extent}."
    if screen.as_json:
        screen.data({"ok": not wrong, "answer": answer, "domain": domain, "stores": stores, "waiting": waiting})
    else:
        screen.lines(_lines(screen, answer, domain, stores, waiting))
    return FAILED if wrong else DONE


def at_one_moment(client: ManagerClient) -> tuple[schemas.Domain, list[schemas.Store], list[schemas.BlockedItem]]:
    """The three views of one revision; of a domain that changes all the time the newest, which may differ by a moment."""
    domain = client.domain()
    for _ in range(READS):
        before = domain["revision"]
        stores, waiting, domain = client.stores(), client.waiting(), client.domain()
        if domain["revision"] == before:
            break
    return domain, stores, waiting


def troubles(stores: Sequence[schemas.Store], waiting: Sequence[schemas.BlockedItem]) -> list[str]:
    """Sentences that say what is wrong, the worst first; none when all is well."""
    return [*_refusing(waiting), *_incomplete(stores), *_waits(waiting)]


def _refusing(waiting: Sequence[schemas.BlockedItem]) -> list[str]:
    names = sorted({item["store"] for item in waiting if item["blocksWrites"] and item["store"]})
    return [f"Some writes of {', '.join(names)} are not taken."] if names else []


def _incomplete(stores: Sequence[schemas.Store]) -> list[str]:
    """A copy that an operator stopped, or that is not in sync yet, waits for nothing; but the next failure may cost more."""
    names = [store["name"] for store in stores if store["status"] == "Partial" or _is_copying(store)]
    return [f"Copies of {', '.join(names)} do not run or are not in sync."] if names else []


def _is_copying(store: schemas.Store) -> bool:
    return any(instance["state"] == "Running" and not instance["inSync"] for instance in store["instances"])


def _waits(waiting: Sequence[schemas.BlockedItem]) -> list[str]:
    return [f"{_count(len(waiting), 'thing')} {'waits' if len(waiting) == 1 else 'wait'}."] if waiting else []


def _lines(
    screen: Screen, answer: str, domain: schemas.Domain, stores: Sequence[schemas.Store], waiting: Sequence[schemas.BlockedItem]
) -> Iterator[str]:
    yield answer
    yield ""
    yield from table([_server(server) for server in domain["servers"]])
    for store in stores:
        yield ""
        yield _store(store)
        if any(instance["process"] for instance in store["instances"]):
            yield from table([_group(group) for group in store["groups"]])
        yield from (_operation(operation) for operation in store["operations"])
    if waiting:
        yield ""
        yield from waiting_lines(screen, waiting)


def _server(server: schemas.Server) -> tuple[str, ...]:
    member = server.get("stateMember")  # missing from an older manager
    role = f"{member} of the domain state" if member else ""
    release = f"dkv {server['release']}" if server.get("release") else ""
    return f"server {server['serverId']}", server["manager"], "alive" if server["alive"] else "away", release, role


def _store(store: schemas.Store) -> str:
    instances, running, _ = counts(store)
    text = f"store {store['name']}  {store['status']}, {running} of {_count(instances, 'instance')} running"
    if not store["groups"] or not all(group["open"] for group in store["groups"]):
        return text
    losable = min(group["canLoseForConfirmed"] for group in store["groups"])
    return f"{text}, can lose {_count(losable or 'no', 'more server')}"


def _group(group: schemas.Group) -> tuple[str, ...]:
    leader = f"{group['leader']} leads" if group["leader"] else "no leader"
    return f"  {group['name']}", leader, f"in sync: {', '.join(group['inSync']) or '-'}"


def _operation(operation: schemas.Operation) -> str:
    progress = f" {operation['done']} of {operation['total']}" if operation["total"] else ""
    waits = f", waits for {operation['waitsFor']}" if operation["waitsFor"] else ""
    return f"  {operation['subject']}: {operation['stage']}{progress}{waits}"


def _count(number: int | Literal["no"], noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
