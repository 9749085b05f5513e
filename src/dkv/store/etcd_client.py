"""Store: how an etcd cluster is called: one long-lived channel to each member, the next member when one does not answer.

The only door to grpc. A call that may be repeated is repeated, at another member, until its patience ends; what it asks for must
therefore be the same when it is done twice. Facts: docs/reference/state-backends.md#etcd.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import grpc
import grpc.aio

from dkv.store.contract import Unavailable, Unusable
from dkv.store.etcd_address import EtcdAddress
from dkv.store.etcd_messages import METHODS, message, messages

ATTEMPT = 1.0  # s in which a call that is not repeated is answered, and a client logged in
PATIENCE = 3.0  # s a call takes at most: an election of a default etcd lasts up to 2 s
PAUSE = (0.02, 0.08)  # s between two attempts, at random
HEARTBEAT = 1.5  # s between two questions whether a watch lives
SILENCE = 4.0  # s without an answer after which it does not
LOOK_AT_FILES = 30.0  # s between two looks whether the certificate was renewed
CHANNEL = (
    ("grpc.keepalive_time_ms", 10_000),  # etcd allows one ping in 5 s, and none where no call runs
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # also how long connecting may take
    ("grpc.max_reconnect_backoff_ms", 400),
    ("grpc.enable_http_proxy", 0),
)
REPEATED = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNKNOWN,  # etcd 3.4 says so when it has no quorum
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.CANCELLED,
}
REVISED = "revision of auth store is old"  # users or roles were changed since a token was given out
NOT_CONNECTED = "failed to connect to all addresses"
HAS_LEADER = ("hasleader", "true")  # a member without a leader says so instead of keeping silent

RefusedCall = grpc.aio.AioRpcError


@dataclass(frozen=True)
class _Connections:
    """The channels of one set of certificate files, in the order of the endpoints."""

    channels: tuple[grpc.aio.Channel, ...]
    files: tuple[float, ...]  # when each file was written


class WatchBroken(Exception):
    """A watch ended: its member is gone, silent or without a leader. As text, why."""


class OtherCluster(Exception):
    """A member of another cluster answered, which has the same address."""


class Compacted(Exception):
    """What was asked for is older than etcd keeps."""


class EtcdClient:
    """Calls to one cluster. Belongs to the loop that made it. Raises Unusable for files that cannot be used."""

    def __init__(self, address: EtcdAddress, patience: float = PATIENCE) -> None:
        self.address = address
        self._patience = patience
        self._at = random.randrange(len(address.endpoints))  # the member that is called first
        self._connections = self._connected()
        self._looked = time.monotonic()
        self._running = 0
        self._failed_at: dict[str, float] = {}  # by endpoint, monotonic, s
        self._token = ""
        self._login: asyncio.Task[None] | None = None  # that is under way
        self._known = False  # its user was let in once
        self._closed = False

    # -- one answer -----------------------------------------------------------------------------------------------

    async def call(self, name: str, request: Any, patience: float | None = None) -> Any:
        """The answer of whichever member gives one. Raises Unavailable, Unusable, Compacted."""
        give_up = time.monotonic() + (self._patience if patience is None else patience)
        reached = False  # whether a member may have begun to do it
        stranger: tuple[str, str] | None = None  # that one answered says more than that a later attempt had no time left
        while True:
            at = self._at % len(self.address.endpoints)
            try:
                return await self._attempt(name, request, at, min(self.address.attempt, give_up - time.monotonic()))
            except RefusedCall as refused:
                if refused.code() not in REPEATED:
                    raise self._said(refused) from None
                reached = reached or NOT_CONNECTED not in str(refused.details())
                why = no_answer(self.address, refused)
            except OtherCluster:
                why = stranger = other_cluster(self.address)
            self._pass_over(at)
            pause = random.uniform(*PAUSE)
            if time.monotonic() + pause >= give_up:
                raise Unavailable(*(stranger or why), written=None if reached else False)
            await asyncio.sleep(pause)

    def _pass_over(self, at: int) -> None:
        """Call another member next: the one that has not failed for the longest time. A proposal that a member sends on to a
        leader that died is lost, and nothing says so, so the member that was called may be as good as another.
        """
        self._failed_at[self.address.endpoints[at % len(self.address.endpoints)]] = time.monotonic()
        if at == self._at % len(self.address.endpoints):
            order = sorted(enumerate(self.address.endpoints), key=lambda each: self._failed_at.get(each[1], 0.0))
            self._at = order[0][0]

    def follow(self, endpoints: tuple[str, ...]) -> None:
        """Call these members from now on. Calls that run end on the channels that they began on. Raises Unusable."""
        if endpoints and endpoints != self.address.endpoints:
            self.address = replace(self.address, endpoints=endpoints)
            self._at = random.randrange(len(endpoints))
            self._connect_anew()

    async def at_member(self, name: str, request: Any, endpoint: int) -> Any:
        """The answer of one member, asked once. Raises Unavailable, Unusable."""
        try:
            return await self._attempt(name, request, endpoint, ATTEMPT)
        except RefusedCall as refused:
            raise self._said(refused) from None
        except OtherCluster:
            raise Unavailable(*other_cluster(self.address), written=False) from None

    async def _attempt(self, name: str, request: Any, at: int, within: float) -> Any:
        if self._closed:
            raise Unavailable("this handle on the state is closed", written=False)
        self._renew_files()
        channel = self._connections.channels[at % len(self._connections.channels)]
        self._running += 1
        try:
            token = await self._logged_in(channel, within)
            try:
                return self._of_our_cluster(await _send(name, request, channel, within, token))
            except RefusedCall as refused:
                if not self._forgets(token, refused):
                    raise
            return self._of_our_cluster(await _send(name, request, channel, within, await self._logged_in(channel, within)))
        finally:
            self._running -= 1

    def _of_our_cluster(self, answer: Any) -> Any:
        """The same answer. Raises OtherCluster for that of a cluster that is not the one of this client."""
        cluster = int(answer.header.cluster_id)
        if self.address.cluster == 0 and cluster:
            self.address = replace(self.address, cluster=cluster)
        if self.address.cluster not in (None, cluster):
            raise OtherCluster
        return answer

    async def _logged_in(self, channel: grpc.aio.Channel, within: float) -> str:
        """The token of our user, empty without one. Calls that need one at the same time share a log-in: etcd spends some 70 ms
        of processor time on each password.
        """
        if self.address.user and not self._token:
            if self._login is None:
                self._login = asyncio.ensure_future(self._log_in(channel, within))
                self._login.add_done_callback(self._login_ended)
            await asyncio.shield(self._login)
        return self._token if self.address.user else ""

    async def _log_in(self, channel: grpc.aio.Channel, within: float) -> None:
        login = channel.unary_unary("/etcdserverpb.Auth/Authenticate", _to_bytes, messages["LoginResponse"].FromString)
        request = message("LoginRequest", name=self.address.user, password=self._password())
        self._token = (await login(request, timeout=within)).token
        self._known = True

    def _login_ended(self, login: asyncio.Task[None]) -> None:
        self._login = None
        if not login.cancelled():
            login.exception()  # its callers have it, unless all of them were cancelled

    def _password(self) -> str:
        """Raises Unusable for a file that cannot be read; Unavailable where it could be before, since it may come back."""
        try:
            return self.address.read_password()
        except Unusable as trouble:
            if self._known:
                raise Unavailable(trouble.detail, trouble.hint, written=False) from None
            raise

    def _forgets(self, token: str, refused: Any) -> bool:
        """Whether a call was refused for the token that it showed. That one is not shown again; a call beside this one may have
        got another meanwhile.
        """
        ended = refused.code() is grpc.StatusCode.UNAUTHENTICATED or REVISED in str(refused.details())
        if token and ended and self._token == token:
            self._token = ""
        return bool(token) and ended

    def _said(self, refused: Any) -> Exception:
        """What the contract calls that refusal."""
        details = one_line(refused.details())
        for words, make in _REFUSALS:
            if words in details:
                return make(self.address, details)
        if refused.code() in REPEATED:
            return Unavailable(*no_answer(self.address, refused))
        return Unavailable(f"etcd at {self.address.named} refused a call ({details})", "Look at the log of its members.")

    # -- a watch --------------------------------------------------------------------------------------------------

    async def watch(self, key: bytes, end: bytes, start: int) -> AsyncGenerator[tuple[list[Any], int], None]:
        """Events from an etcd revision on, whole revisions at a time, and the newest revision among them; an empty list says
        that the watch stands. Raises WatchBroken and, when etcd no longer has that revision, Compacted.
        """
        at, token = self._at % len(self.address.endpoints), ""
        endpoint, channel = self.address.endpoints[at], self._connections.channels[at]
        self._running += 1
        try:
            token = await self._logged_in(channel, ATTEMPT)
            call = channel.stream_stream("/etcdserverpb.Watch/Watch", _to_bytes, messages["WatchResponse"].FromString)
            stream = call(metadata=_metadata(token))
            try:
                async for events in self._events(stream, message("WatchCreate", key=key, range_end=end, start_revision=start)):
                    yield events
            finally:
                stream.cancel()
        except RefusedCall as refused:
            self._forgets(token, refused)
            raise WatchBroken(f"{endpoint}: {one_line(refused.details())}") from None
        except TimeoutError:
            raise WatchBroken(f"{endpoint} was silent for {SILENCE} s") from None
        finally:
            if at == self._at:
                self._at = (at + 1) % len(self.address.endpoints)
            self._running -= 1

    async def _events(self, stream: Any, create: Any) -> AsyncIterator[tuple[list[Any], int]]:
        create.fragment = True
        wanted = create.start_revision
        beating = asyncio.ensure_future(_beat(stream, create))
        held: list[Any] = []
        try:
            while True:
                async with asyncio.timeout(SILENCE):
                    answer = await stream.read()
                if answer is grpc.aio.EOF:
                    raise WatchBroken("the member ended the watch")
                try:
                    self._of_our_cluster(answer)
                except OtherCluster:
                    raise WatchBroken("a member of another cluster answered") from None
                if answer.compact_revision:
                    raise Compacted
                if answer.canceled:
                    raise WatchBroken(f"the member ended the watch ({one_line(answer.cancel_reason)})")
                held += [event for event in answer.events if event.kv.mod_revision >= wanted]  # a lagging member repeats old ones
                if answer.fragment or not (held or answer.created):
                    continue
                events, held = held, []
                wanted = max([wanted, *(event.kv.mod_revision + 1 for event in events)])
                yield events, wanted - 1
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError, RefusedCall, asyncio.InvalidStateError):
                await beating

    # -- channels ---------------------------------------------------------------------------------------------------

    def _connected(self) -> _Connections:
        address = self.address
        written = address.files_written()
        if not address.tls:
            channels = [grpc.aio.insecure_channel(endpoint, options=CHANNEL) for endpoint in address.endpoints]
        else:
            authorities, key, certificate = address.read_files()
            credentials = grpc.ssl_channel_credentials(authorities, key, certificate)
            channels = [grpc.aio.secure_channel(endpoint, credentials, options=CHANNEL) for endpoint in address.endpoints]
        return _Connections(tuple(channels), written)

    def _renew_files(self) -> None:
        """Connect anew when a certificate file was replaced. Calls that run end on the channels that they began on."""
        if not self.address.tls or time.monotonic() - self._looked < LOOK_AT_FILES:
            return
        self._looked = time.monotonic()
        with suppress(Unusable, OSError):  # a file is being replaced: the next look finds it whole
            if self.address.files_written() != self._connections.files:
                self._connect_anew()

    def _connect_anew(self) -> None:
        old, self._connections = self._connections, self._connected()
        asyncio.get_running_loop().call_later(60, lambda: asyncio.ensure_future(_close(old)))

    async def close(self) -> None:
        """Let go of the channels, once no call runs: one that ran would be cancelled, and its caller with it."""
        self._closed = True
        give_up = time.monotonic() + ATTEMPT + 0.5
        while self._running and time.monotonic() < give_up:
            await asyncio.sleep(0.005)
        await _close(self._connections)


async def _close(connections: _Connections) -> None:
    for channel in connections.channels:
        await channel.close()


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (HAS_LEADER, ("token", token)) if token else (HAS_LEADER,)


async def _send(name: str, request: Any, channel: grpc.aio.Channel, within: float, token: str) -> Any:
    path, _, answer = METHODS[name]
    if name != "keep_alive":
        call = channel.unary_unary(f"/etcdserverpb.{path}", _to_bytes, messages[answer].FromString)
        return await call(request, timeout=within, metadata=_metadata(token))
    stream = channel.stream_unary(f"/etcdserverpb.{path}", _to_bytes, messages[answer].FromString)
    return await stream(iter((request,)), timeout=within, metadata=_metadata(token))


def _to_bytes(request: Any) -> bytes:
    written: bytes = request.SerializeToString()
    return written


async def _beat(stream: Any, create: Any) -> None:
    """Ask for a watch, then again and again whether it stands."""
    await stream.write(message("WatchRequest", create_request=create))
    while True:
        await asyncio.sleep(HEARTBEAT)
        await stream.write(message("WatchRequest", progress_request=message("WatchProgress")))


def one_line(details: str | None) -> str:
    """What grpc or etcd says, on one line of bounded length."""
    text = " ".join((details or "").split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def no_answer(address: EtcdAddress, refused: Any) -> tuple[str, str]:
    """That no member answered, with what the last one said, and a hint."""
    details = one_line(refused.details())
    if NOT_CONNECTED in details:
        details = "no connection: " + details.rpartition(": ")[2] if ": " in details else "no connection"
    return (
        f"no majority of etcd at {address.named} answered ({details})",
        "Start its members again: a majority of them has to run and to reach each other. Engines serve on meanwhile.",
    )


def other_cluster(address: EtcdAddress) -> tuple[str, str]:
    """That what answers is of another cluster, and a hint."""
    return (
        f"at {address.named} a member of another etcd cluster answered",
        "The domain may have been recovered, or its members made anew: let this server join again.",
    )


def _compacted(address: EtcdAddress, details: str) -> Exception:
    return Compacted(details)


def _full(address: EtcdAddress, details: str) -> Exception:
    hint = "Compact and defragment it, or raise its quota-backend-bytes; then: etcdctl alarm disarm"
    return Unavailable(f"etcd at {address.named} is full ({details})", hint, written=False)


def _too_large(address: EtcdAddress, details: str) -> Exception:
    hint = "Give its members the default max-request-bytes (1.5 MB) and max-txn-ops (128) or more."
    return Unavailable(f"etcd at {address.named} takes no transaction of this size ({details})", hint, written=False)


def _unknown_user(address: EtcdAddress, details: str) -> Exception:
    hint = "Set etcd_user and etcd_password_file to a user that may read and write there, or give a certificate of one."
    return Unusable(f"etcd at {address.named} does not take this manager for a user of it ({details})", hint)


def _forbidden(address: EtcdAddress, details: str) -> Exception:
    hint = f"Grant its user the right to read and write all keys from {address.prefix} on."
    return Unusable(f"etcd at {address.named} refuses this manager its keys ({details})", hint)


_REFUSALS: tuple[tuple[str, Callable[[EtcdAddress, str], Exception]], ...] = (
    ("required revision has been compacted", _compacted),
    ("database space exceeded", _full),
    ("too many operations", _too_large),
    ("request is too large", _too_large),
    ("user name is empty", _unknown_user),
    ("user name not found", _unknown_user),
    ("authentication failed", _unknown_user),
    ("authentication is not enabled", _unknown_user),
    ("invalid auth token", _unknown_user),
    ("permission denied", _forbidden),
)

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines would stand between those of the manager's log
