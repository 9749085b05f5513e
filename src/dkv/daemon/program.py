"""The manager as a program: one per data directory and per port, REST beside the loop, engines left running.

It only composes: settings, lock, state backend, engines, Manager, API. `run` is `dkv manager run`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace

from dkv.api.nuodb.bundle import without_credentials
from dkv.backend import OWN, follow_moved, founding_state, has_state, members_of, open_state, state_at_members, why_no_member
from dkv.config import Settings, default_state
from dkv.control.submit import view_of
from dkv.daemon.parts import is_controlled, refuse_no_engine, wall_clock
from dkv.daemon.ports import ProcessResources, listening_sockets, local_sockets, raise_descriptor_limit
from dkv.daemon.reload import Reload
from dkv.daemon.serving import serve
from dkv.daemon.state_move import StateMove, moved_settings
from dkv.data_dir import DataDir, lock_data_dir, refuse_open_bind, with_real_data_dir
from dkv.engine.config import FENCE, FENCED
from dkv.guarding import GuardKeeper
from dkv.joining import Joining, Membership, join, membership_of
from dkv.log import keep_in, set_up
from dkv.manager import ManagerError
from dkv.notify import ServiceManager
from dkv.store.contract import Moved, StoreError


def run(settings: Settings, joining: Joining | None = None, read: Callable[[], Settings] | None = None) -> int:
    """Run the manager in the foreground until SIGTERM or SIGINT; the exit code. With `joining` it joins that domain first. `read`
    reads the settings again, at SIGHUP.
    """
    reload = Reload(settings, read)
    service = ServiceManager(os.environ)  # before anything is started that would inherit its variables
    os.umask(0o077)  # files of this manager and of its engines are for its user only
    set_up(settings.log_level)
    is_state_chosen = settings.state != default_state(settings.data_dir)
    settings = with_real_data_dir(settings)
    refuse_open_bind(settings)
    refuse_no_engine(settings)
    raise_descriptor_limit()
    with lock_data_dir(settings) as data_dir:
        keep_in(data_dir.path)
        membership = membership_in(settings, data_dir, joining)
        if membership and not is_state_chosen:
            settings = replace(settings, state=membership.state)
        with listening_sockets(settings) as listening, local_sockets(settings) as local:
            domain = domain_of(settings, data_dir, membership)
            guard = GuardKeeper(data_dir.path, ("CONFIG", "SET", FENCE, str(FENCED)))
            return serve_domain(settings, data_dir, ProcessResources(listening, local, service, guard, reload), domain)


def serve_domain(settings: Settings, data_dir: DataDir, resources: ProcessResources, domain: str) -> int:
    """Serve until a signal comes: first where the state is, then, whenever it moved, where it is by then. Engines and sockets
    stay. Raises ManagerError.
    """
    try:
        settings = state_at_members(settings)
        founding = settings.state == OWN and not has_state(settings)
        move = StateMove(wanted=founding)
        settings = founding_state(settings) if founding else settings
        while True:
            if settings.state == OWN and (members := members_of(settings)):
                domain = members.domain  # no second one is founded where its state is not whole yet
            try:
                domain = asyncio.run(serve(settings, data_dir, resources, domain, move)) or domain
            except Moved as moved:
                move.wanted = False
                settings = asyncio.run(follow_moved(settings, data_dir.uid, moved))
                continue
            if not move.wanted:
                return 0
            settings = moved_settings(settings, data_dir, domain, move, required=founding)
    except StoreError as error:
        hint = error.hint or f"Look at {without_credentials(settings.state)}."
        raise ManagerError(f"The domain state cannot be used: {error.detail}.", hint) from error


def membership_in(settings: Settings, data_dir: DataDir, joining: Joining | None) -> Membership | None:
    """The domain that this server joined, or joins now; None where it founds one. Raises ManagerError."""
    if joining is None:
        return membership_of(data_dir.path)
    if not is_controlled(settings):
        hint = 'Set access_control = "on" (DKV_ACCESS_CONTROL=on), as the other managers of the domain have it.'
        raise ManagerError("A server joins with a join token only where access control is on.", hint)
    try:
        here = asyncio.run(domain_at(settings)) if has_state(settings) else ""
    except StoreError as error:
        raise ManagerError(f"The domain state cannot be used: {error.detail}.", error.hint) from error
    return join(settings, data_dir, joining, here, wall_clock, why_no_member=why_no_member(settings))


def domain_of(settings: Settings, data_dir: DataDir, membership: Membership | None) -> str:
    """The uid of the domain that this server is in, "" where it may found one. Raises ManagerError: the setting `domain` names
    another one, or what the server had of it is not there.
    """
    known = membership.domain if membership else data_dir.domain
    if not settings.domain or settings.domain == known:
        return known
    if known:
        raise ManagerError(
            f"The setting domain names the domain {settings.domain}, and {data_dir.path} is of the domain {known}.",
            "Start the manager without that setting, or with the data directory of that domain.",
        )
    if not has_state(settings):
        raise ManagerError(
            f"By the setting domain this server is in the domain {settings.domain}, and {data_dir.path} has nothing of it.",
            "If it is on a disk that is not mounted, mount it. If it is lost: dkv replace server on another server of the domain "
            "prints a token; start this manager with --join HOST:PORT and that token. If no server is left: dkv rebuild state.",
        )
    return settings.domain


async def domain_at(settings: Settings) -> str:
    """The uid of the domain whose state is kept there; "" for one that is empty. Raises ManagerError, StoreError."""
    if members := members_of(settings):
        return members.domain
    store = await open_state(settings)
    try:
        return view_of(await store.read()).state.uid
    finally:
        await store.close()
