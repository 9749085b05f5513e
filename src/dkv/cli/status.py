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
    from dkv.wire import schemas


def status(session: Session, bound: Bound) -> int:
    """The answer, servers, stores with their groups, operations under way, and what waits."""
    client, screen = native(session, bound), session.screen
    domain, stores, waiting = client.domain(), client.stores(), client.waiting()
    sentence = answer(domain, stores, waiting)
    if screen.as_json:
        screen.data({"ok": not waiting, "answer": sentence, "domain": domain, "stores": stores, "waiting": waiting})
    else:
        for line in _lines(screen, sentence, domain, stores, waiting):
            screen.line(line)
    return FAILED if waiting else DONE


def answer(domain: schemas.Domain, stores: Sequence[schemas.Store], waiting: Sequence[schemas.BlockedItem]) -> str:
    """One sentence: whether all is well, and if not, the worst first: writes that are not taken, then how much waits."""
    extent = f"{_count(len(domain['servers']), 'server')}, {_count(len(stores), 'store')}"
    if not waiting:
        return f"All is well: {extent}."
    refusing = sorted({item["store"] for item in waiting if item["blocksWrites"] and item["store"]})
    verb = "waits" if len(waiting) == 1 else "wait"
    sentence = f"{_count(len(waiting), 'thing')} {verb}: {extent}."
    return f"Some writes of {', '.join(refusing)} are not taken. {sentence}" if refusing else sentence


def _lines(
    screen: Screen, sentence: str, domain: schemas.Domain, stores: Sequence[schemas.Store], waiting: Sequence[schemas.BlockedItem]
) -> Iterator[str]:
    yield sentence
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
    return f"server {server['serverId']}", server["manager"], "alive" if server["alive"] else "away"


def _store(store: schemas.Store) -> str:
    instances, running, _ = counts(store)
    text = f"store {store['name']}  {store['status']}, {running} of {_count(instances, 'instance')} running"
    losable = [group["canLoseForConfirmed"] for group in store["groups"] if group["open"]]
    return f"{text}, can lose {_count(min(losable) or 'no', 'more server')}" if losable else text


def _group(group: schemas.Group) -> tuple[str, ...]:
    leader = f"{group['leader']} leads" if group["leader"] else "no leader"
    return f"  {group['name']}", leader, f"in sync: {', '.join(group['inSync']) or '-'}"


def _operation(operation: schemas.Operation) -> str:
    progress = f" {operation['done']} of {operation['total']}" if operation["total"] else ""
    waits = f", waits for {operation['waitsFor']}" if operation["waitsFor"] else ""
    return f"  {operation['subject']}: {operation['stage']}{progress}{waits}"


def _count(number: int | Literal["no"], noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
