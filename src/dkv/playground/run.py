"""Playground: from its options to a running domain and its end. No process is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dkv.cli.errors import DONE, CliError
from dkv.cli.output import Screen
from dkv.constants import FIRST_CLIENT_PORT, FIRST_CLUSTER_PORT
from dkv.playground import render
from dkv.playground.addresses import Record, choose, discard, owner_of, registry, stop_leftovers
from dkv.playground.demo import Demo
from dkv.playground.domain import STORE, USER, Domain, lacks
from dkv.playground.hosts import Host, enter, hosts, why_none
from dkv.playground.hosts_demo import HostsDemo
from dkv.playground.hosts_domain import DESK, HostsDomain, addresses, site_of


@dataclass(frozen=True)
class Options:
    """The options of a playground; without a `directory` it has a temporary one, `once` runs the demo and ends."""

    servers: int = 2
    instances: int = 1
    replication_factor: int | None = None
    directory: Path | None = None
    once: bool = False
    tls: bool = False  # between engines, and with their clients
    hosts: int = 0  # network namespaces with one server each, instead of `servers` on loopback addresses


def run(screen: Screen, options: Options) -> int:
    """Run a playground to its exit code: 0 only if every promise held. Raises CliError."""
    began = time.monotonic()
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with _network(options) as hosts, _playground(options, screen, hosts) as domain:
            create = _creation(options, domain)
            if options.once:
                _refuse_used(domain)
                _demo(domain, screen, create, began).run()
            else:
                _play(domain, screen, create)
    except KeyboardInterrupt:
        if options.once:
            raise
    finally:
        signal.signal(signal.SIGTERM, previous)
    return DONE


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


@contextlib.contextmanager
def _network(options: Options) -> Iterator[list[Host]]:
    """The hosts of the servers; this process is on a host of its own from then on. None without --hosts. Raises CliError."""
    if not options.hosts:
        yield []
        return
    if why := why_none():
        raise CliError(
            f"Hosts of their own cannot be had: {why}.", "Leave --hosts out: the servers are on loopback addresses then."
        )
    with hosts(DESK, *addresses(options.hosts)) as (desk, *made):
        enter(desk)
        yield made


def _demo(domain: Domain, screen: Screen, create: list[str], began: float) -> Demo:
    return HostsDemo(domain, screen, create, began) if isinstance(domain, HostsDomain) else Demo(domain, screen, create, began)


@contextlib.contextmanager
def _playground(options: Options, screen: Screen, hosts: list[Host]) -> Iterator[Domain]:
    """Managers that are ready; at the end nothing of them runs any more."""
    with contextlib.ExitStack() as at_the_end:
        with registry() as place:
            for left, stopped in stop_leftovers(place):
                screen.note(f"An earlier playground in {left} was killed; {stopped} processes that it left were stopped.")
            domain = _prepare(options, screen, place, hosts)
            at_the_end.push(lambda kind, *_: _end(domain, failed=kind is not None and kind is not KeyboardInterrupt))
            domain.start_managers()
        yield domain


def _prepare(options: Options, screen: Screen, place: Path, hosts: list[Host]) -> Domain:
    """Directory, addresses and record of a new playground; nothing runs yet."""
    directory = _directory(options)
    owner = owner_of(place, directory)
    if owner is not None:
        raise CliError(f"A playground (pid {owner}) uses {directory} already.", "Choose another --dir.")
    record = Record(place / f"{os.getpid()}.json", directory, temporary=options.directory is None)
    record.write()
    if hosts:
        return HostsDomain(site_of(directory, hosts), record, screen, hosts)
    return Domain(choose(directory, options.servers, options.instances), record, screen)


def _directory(options: Options) -> Path:
    if options.directory is None:
        return Path(tempfile.mkdtemp(prefix="dkv-playground-"))
    directory = Path(options.directory).expanduser().absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"The directory {directory} cannot be used: {error.strerror}.", "Choose another --dir.") from error
    return directory


def _end(domain: Domain, failed: bool) -> None:
    """Stop everything; no second Ctrl-C may interrupt that. The data of a failed demo is kept."""
    record = domain.record
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        domain.stop_managers()
        record.kill_everything()
        record.remove()
        if failed:
            domain.screen.note(f"The data and logs are kept in {record.directory}.")
        elif record.temporary:
            discard(record.directory)
    finally:
        signal.signal(signal.SIGINT, before)


def _creation(options: Options, domain: Domain) -> list[str]:
    words = ["-Name", STORE, "-InstancePrefix", STORE]
    if options.instances > 1:
        words += ["-InstanceCount", str(options.instances)]
    if options.hosts and not options.tls:
        words += ["-InsecureEngineTraffic", "yes"]  # nobody else is in that network
    if options.replication_factor:
        words += ["-ReplicationFactor", str(options.replication_factor)]
    if options.tls:
        words += ["-EngineTls", "on"]
    if (domain.site.cluster_port, domain.site.client_port) != (FIRST_CLUSTER_PORT, FIRST_CLIENT_PORT):
        words += ["-ClustronPort", str(domain.site.cluster_port), "-ClientPort", str(domain.site.client_port)]
    return words


def _refuse_used(domain: Domain) -> None:
    if domain.has_store():
        raise CliError(
            f"{domain.record.directory} holds a store already; --once needs a new one.", "Choose another --dir, or leave it out."
        )


def _play(domain: Domain, screen: Screen, create: list[str]) -> None:
    """Create, start, print how to connect, show the live table until Ctrl-C, then stop gracefully."""
    if not domain.has_store() and domain.cmdlet("New-DkvStore", *create) != 0:
        raise CliError("The store could not be created.")
    domain.make_user()
    if domain.cmdlet("Start-DkvStore", "-Name", STORE) != 0:
        screen.note(f"warning: {'; '.join(lacks(domain.store()))}")
    _print_how_to_connect(domain, screen)
    try:
        render.watch(domain.store)
    except KeyboardInterrupt:
        screen.note("Stopping everything.")
        domain.cmdlet("Stop-DkvStore", "-Name", STORE, quiet=True)
        raise


def _print_how_to_connect(domain: Domain, screen: Screen) -> None:
    points, authorities = domain.target()
    host, _, port = points[0].rpartition(":")
    scheme, cli, library = ("valkeys", f" --tls --cacert {authorities}", f', ssl=True, ssl_ca_certs="{authorities}"')
    if not authorities:
        scheme, cli, library = "valkey", "", ""
    screen.line()
    screen.line(f"Managers:   {', '.join(domain.managers)}")
    screen.line(f"Endpoints:  {', '.join(points)}   any of them")
    password = os.environ["DKV_DATABASE_PASSWORD"]
    screen.line(f"as user:    {scheme}://{USER}:{password}@{host}:{port}")
    screen.line(f"redis-cli:  REDISCLI_AUTH={password} redis-cli -c --user {USER} -h {host} -p {port}{cli}")
    login = f'username="{USER}", password="{password}"'
    screen.line(f'valkey-py:  valkey.ValkeyCluster(host="{host}", port={port}, {login}{library})')
    screen.line(f"cmdlets:    DKV_MANAGERS={','.join(domain.managers)} dkv Get-DkvStore -Name {STORE}")
    screen.line(f"directory:  {domain.record.directory}")
    screen.line()
    screen.note("Ctrl-C stops everything.")
