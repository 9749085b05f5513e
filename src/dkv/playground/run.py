"""Playground: arguments in, a running domain, its end. Whatever happens, no process is left behind."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dkv.cli.errors import BAD_USAGE, DONE, CliError, Usage
from dkv.cli.output import Screen
from dkv.playground import render
from dkv.playground.addresses import Record, choose, discard, owner_of, registry, stop_leftovers
from dkv.playground.demo import Story
from dkv.playground.domain import STORE, Domain, endpoints, lacks


class _Parser(argparse.ArgumentParser):
    """Words about bad usage go where all words go."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise Usage(f"{message[:1].upper()}{message[1:]}.", "Run dkv playground --help.")


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(prog="dkv playground", description="A whole domain on this machine, to look at and to break.")
    parser.add_argument("--servers", type=_count, default=2, help="how many servers [2]")
    parser.add_argument("--instances", type=_count, default=1, help="how many instances of the store on each [1]")
    parser.add_argument("--replication-factor", type=_count, help="copies of each key [2 where there are two servers]")
    parser.add_argument("--dir", type=Path, help="keep the data there [a temporary directory, removed at the end]")
    parser.add_argument("--once", action="store_true", help="play the whole story: kill everything, prove every key")
    return parser.parse_args(list(words))


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 50:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1 to 50")
    return int(text)


def run(words: Sequence[str]) -> int:
    """Play to the exit code: 0 only if everything held. Raises CliError."""
    began = time.monotonic()
    try:
        wish = _arguments(words)
    except SystemExit as asked:  # --help
        return DONE if not asked.code else BAD_USAGE
    screen = Screen()
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _playground(wish, screen) as domain:
            create = _creation(wish, domain)
            if wish.once:
                _refuse_used(domain)
                Story(domain, screen, create, began).tell()
            else:
                _play(domain, screen, create)
    except KeyboardInterrupt:
        if wish.once:
            raise
    finally:
        signal.signal(signal.SIGTERM, previous)
    return DONE


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _playground(wish: argparse.Namespace, screen: Screen) -> Iterator[Domain]:
    """Managers that are ready; at the end nothing of them runs any more."""
    with contextlib.ExitStack() as at_the_end:
        with registry() as place:
            for left, stopped in stop_leftovers(place):
                screen.note(f"An earlier playground in {left} had been killed; {stopped} of its processes were stopped.")
            domain = _settle(wish, screen, place)
            at_the_end.push(lambda kind, *_: _end(domain, failed=kind is not None and kind is not KeyboardInterrupt))
            domain.start_managers()
        yield domain


def _settle(wish: argparse.Namespace, screen: Screen, place: Path) -> Domain:
    """Directory, addresses and record of a new playground; nothing runs yet."""
    directory = _directory(wish)
    owner = owner_of(place, directory)
    if owner is not None:
        raise CliError(f"A playground (pid {owner}) plays in {directory} already.", "Choose another --dir.")
    record = Record(place / f"{os.getpid()}.json", directory, temporary=wish.dir is None)
    domain = Domain(choose(directory, wish.servers, wish.instances), record, screen)
    record.write()
    return domain


def _directory(wish: argparse.Namespace) -> Path:
    if wish.dir is None:
        return Path(tempfile.mkdtemp(prefix="dkv-playground-"))
    directory = Path(wish.dir).expanduser().absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"The directory {directory} cannot be used: {error.strerror}.", "Choose another --dir.") from error
    return directory


def _end(domain: Domain, failed: bool) -> None:
    """Stop everything; no second Ctrl-C may interrupt that. What a failed story left is kept to be looked at."""
    record = domain.record
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        domain.stop_managers()
        record.stop_everything()
        record.remove()
        if failed:
            domain.screen.note(f"What is left to look at is in {record.directory}.")
        elif record.temporary:
            discard(record.directory)
    finally:
        signal.signal(signal.SIGINT, before)


def _creation(wish: argparse.Namespace, domain: Domain) -> list[str]:
    words = ["-Name", STORE, "-InstancePrefix", STORE]
    if wish.instances > 1:
        words += ["-InstanceCount", str(wish.instances)]
    if wish.replication_factor:
        words += ["-ReplicationFactor", str(wish.replication_factor)]
    if (domain.site.cluster_port, domain.site.client_port) != (7811, 7861):
        words += ["-ClustronPort", str(domain.site.cluster_port), "-ClientPort", str(domain.site.client_port)]
    return words


def _refuse_used(domain: Domain) -> None:
    if domain.has_store():
        raise CliError(
            f"{domain.record.directory} holds a store already; --once plays with a new one.",
            "Choose another --dir, or leave it out.",
        )


def _play(domain: Domain, screen: Screen, create: list[str]) -> None:
    """Create, start, tell how to connect, show the live table until Ctrl-C, then stop gracefully."""
    if not domain.has_store() and domain.cmdlet("New-DkvStore", *create) != 0:
        raise CliError("The store could not be created.")
    if domain.cmdlet("Start-DkvStore", "-Name", STORE) != 0:
        screen.note(f"warning: {'; '.join(lacks(domain.store()))}")
    _tell_how_to_connect(domain, screen)
    try:
        render.watch(domain.store)
    except KeyboardInterrupt:
        screen.note("Stopping everything.")
        domain.cmdlet("Stop-DkvStore", "-Name", STORE, quiet=True)
        raise


def _tell_how_to_connect(domain: Domain, screen: Screen) -> None:
    points = endpoints(domain.store())
    host, _, port = points[0].rpartition(":")
    screen.line()
    screen.line(f"Managers:   {', '.join(domain.managers)}")
    screen.line(f"Endpoints:  {', '.join(points)}   any of them will do")
    screen.line(f"redis-cli:  redis-cli -c -h {host} -p {port}")
    screen.line(f'valkey-py:  valkey.ValkeyCluster(host="{host}", port={port})')
    screen.line(f"cmdlets:    DKV_MANAGERS={','.join(domain.managers)} dkv Get-DkvStore -Name {STORE}")
    screen.line(f"directory:  {domain.record.directory}")
    screen.line()
    screen.note("Ctrl-C stops everything.")
