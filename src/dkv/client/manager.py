"""Client: one manager: its native vocabulary (`/admin/v1`) as calls, and any other request to it.

What a call gives has the type that the route it calls answers with; only a type checker imports these types.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from dkv.client.transport import Endpoint, HttpTransport, Json, ManagerUnreachable, Reply, Request, Transport, judge, loads

if TYPE_CHECKING:
    from dkv.wire import schemas

LEAST = 0.05
"""Seconds that have to be left of a deadline for a second try."""


class ManagerClient:
    """All calls to one manager. Each takes at most `timeout` seconds and raises ManagerUnreachable or ManagerRefused.

    Every change carries an Idempotency-Key. When the connection breaks after a change was sent, it is sent once more with
    the same key: the manager answers the same to both, so that a change is never made twice.
    """

    def __init__(self, endpoint: Endpoint, transport: Transport | None = None, timeout: float = 30.0) -> None:
        self.endpoint = endpoint
        self._transport = transport or HttpTransport()
        self._timeout = timeout

    # -- reading ------------------------------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether the manager can read and change the domain state (`/readyz`)."""
        try:
            return self._transport.send(self.endpoint, Request("GET", "/readyz", {}), self._timeout).status == 200
        except ManagerUnreachable:
            return False

    def domain(self) -> schemas.Domain:
        """The domain: uid, revision and servers; the answering one has `isLocal`."""
        return cast("schemas.Domain", self.read("/domain"))

    def stores(self) -> list[schemas.Store]:
        """All stores, with their instances."""
        return cast("schemas.Stores", self.read("/stores"))["stores"]

    def store(self, name: str) -> schemas.Store:
        """One store; refused with `unknown_store` when there is none of that name."""
        return cast("schemas.Store", self.read(_store(name)))

    def machines(self) -> list[schemas.Machine]:
        """Every machine of the domain and what is wrong there."""
        return cast("schemas.Machines", self.read("/machines"))["machines"]

    def live(self) -> schemas.Live:
        """The live view as it is now, whole."""
        return cast("schemas.Live", self.read("/live"))

    def follow_live(self, silence: float = 15.0) -> Iterator[schemas.Live]:
        """The live view, whole, and then what changes of it, without end. `silence`: see follow_events."""
        request = Request("GET", NATIVE + "/live", {"Accept": "text/event-stream"})
        yield from cast("Iterator[schemas.Live]", read_events(self._transport.stream(self.endpoint, request, silence)))

    def metrics(self, window_sec: int = 5) -> schemas.Metrics:
        """Rates over the last `window_sec` seconds and totals of all stores (docs/reference/cmdlets.md#metrics)."""
        return cast("schemas.Metrics", self.read("/metrics", windowSec=window_sec))

    def processes(self) -> list[schemas.Process]:
        """Every process of the domain."""
        return cast("schemas.Processes", self.read("/processes"))["processes"]

    def tombstones(self, store: str | None = None) -> list[schemas.Tombstone]:
        """The tombstones of processes that ended, with their causes."""
        return cast("schemas.Tombstones", self.read("/tombstones", store=store))["tombstones"]

    def waiting(self, store: str | None = None) -> list[schemas.BlockedItem]:
        """Everything that waits: for what, since when, why, and a hint."""
        return cast("schemas.Waiting", self.read("/waiting", store=store))["waiting"]

    def events(self, after: int = 0, store: str | None = None, by: str | None = None) -> list[schemas.Event]:
        """The events with a sequence above `after`, oldest first; those of a store, of a principal, or all."""
        events: list[schemas.Event] = []
        while True:
            page = cast("schemas.Events", self.read("/events", after=after, limit=EVENTS_OF_A_PAGE, store=store, by=by))["events"]
            events += page
            if len(page) < EVENTS_OF_A_PAGE:
                return events
            after = page[-1]["sequence"]

    def newest_events(self, count: int, store: str | None = None, by: str | None = None) -> schemas.Events:
        """The newest `count` events as `events`, oldest first, and the sequence of the `oldest` one kept."""
        return cast("schemas.Events", self.read("/events", newest=count, limit=count, store=store, by=by))

    def event_chain(self, sequence: int) -> schemas.Chain:
        """One event as the first of `events`, followed by what it follows from; `trimmed` when older ones are not kept."""
        return cast("schemas.Chain", self.read(f"/events/{sequence}"))

    def follow_events(
        self, after: int = 0, store: str | None = None, by: str | None = None, silence: float = 60.0
    ) -> Iterator[schemas.Event]:
        """Events as they happen, without end. After a broken connection call again with the last `sequence` seen.
        `silence` is how many seconds may pass without a byte."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        request = Request("GET", NATIVE + "/events" + query_of({"after": after, "store": store, "by": by}), headers)
        yield from read_events(self._transport.stream(self.endpoint, request, silence))

    def leader_bound(self, name: str, group: str, archive_id: int) -> schemas.Bound:
        """The writes that `enforce_leader` could lose at most; changes nothing."""
        return cast("schemas.LeaderBound", self.read(_leader(name, group), archiveId=archive_id))["bound"]

    def log_part(self, start_id: int | None = None, lines: int = 200, after: str = "") -> schemas.LogPart:
        """The newest lines of the log of the manager, or of a process of it; with `after`, the `next` of a part, later ones."""
        return cast("schemas.LogPart", self.read("/logs", startId=start_id, lines=lines, after=after or None))

    def state(self) -> schemas.Records:
        """The whole domain state as records, secrets included: for a backup."""
        return cast("schemas.Records", self.read("/state"))

    # -- changing -----------------------------------------------------------------------------------------------

    def check_store(self, body: Json) -> None:
        """Check whether `create_store` would be accepted; writes nothing. Raises ManagerRefused when not."""
        self.request("POST", f"{NATIVE}/stores?check=true", body, question=True).object()

    def create_store(self, body: Json, key: str | None = None) -> tuple[bool, schemas.Store]:
        """Create a store. True with it when it is new, False when an identical one was there."""
        reply = self.request("POST", f"{NATIVE}/stores", body, key=key)
        return reply.status == 201, cast("schemas.Store", reply.object())

    def delete_store(self, name: str, key: str | None = None) -> None:
        """Delete a stopped store with its archives."""
        self.request("DELETE", NATIVE + _store(name), key=key)

    def stop_store(self, name: str, force: bool = False, key: str | None = None) -> None:
        """Announce the stop of a whole store to the domain."""
        self.change("POST", f"{_store(name)}/stop" + query_of({"force": force or None}), key=key)

    def set_options(self, name: str, options: Mapping[str, str], key: str | None = None) -> schemas.OptionsSet:
        """Change options of a store while it runs; `effects` has what follows from each."""
        return cast("schemas.OptionsSet", self.change("POST", f"{_store(name)}/options", {"options": dict(options)}, key))

    def add_instances(self, name: str, instances: Sequence[Json], key: str | None = None) -> schemas.Store:
        """Add instances; gives the store as it is then."""
        return cast("schemas.Store", self.change("POST", f"{_store(name)}/instances", {"instances": list(instances)}, key))

    def remove_instance(self, name: str, instance: str, key: str | None = None) -> None:
        """Remove one stopped instance with its archive."""
        self.request("DELETE", NATIVE + _instance(name, instance), key=key)

    def start_instance(self, name: str, instance: str, key: str | None = None) -> schemas.InstanceStarted:
        """Request the start of one instance; returns at once, `result` is what was done."""
        return cast("schemas.InstanceStarted", self.change("POST", f"{_instance(name, instance)}/start", key=key))

    def stop_instance(self, name: str, instance: str, force: bool = False, key: str | None = None) -> schemas.InstanceStopped:
        """Request the stop of one instance; `force` skips the graceful checks."""
        return cast(
            "schemas.InstanceStopped",
            self.change("POST", f"{_instance(name, instance)}/stop" + query_of({"force": force or None}), key=key),
        )

    def switch_over(self, name: str, group: str = "", start_id: int | None = None) -> list[str]:
        """Request a handover of leadership in one group or all, to one process or the most advanced. Gives the groups."""
        body = {"group": group} | ({} if start_id is None else {"toStartId": start_id})
        return cast("schemas.Asked", self.change("POST", f"{_store(name)}/switchover", body))["groups"]

    def rebalance_leaders(self, name: str) -> list[str]:
        """Request the handovers that spread the leaders of a store over its servers. Gives the groups."""
        return cast("schemas.Asked", self.change("POST", f"{_store(name)}/rebalance"))["groups"]

    def replace_voter(self, server_id: str) -> schemas.VoterReplaced:
        """Request that another server votes in the domain state's etcd in place of one that is away; `by` is which."""
        return cast("schemas.VoterReplaced", self.change("POST", f"/servers/{quoted(server_id)}/replace-voter"))

    def begin_restart(self, name: str, *, rolling: bool, force: bool) -> schemas.Restarting:
        """Begin a restart of a whole store; `processes` is how many it replaces."""
        body = {"rolling": rolling, "force": force}
        return cast("schemas.Restarting", self.change("POST", f"{_store(name)}/restart", body))

    def end_restart(self, name: str) -> None:
        """End a restart where it stands."""
        self.change("DELETE", f"{_store(name)}/restart")

    def enforce_leader(self, name: str, group: str, archive_id: int, allowed: bool, reason: str) -> schemas.Enforced:
        """Make an archive lead although it may lack writes; refused unless `allowed` with a reason."""
        body = {"archiveId": archive_id, "allowDataLoss": allowed, "reason": reason}
        return cast("schemas.Enforced", self.change("POST", _leader(name, group), body))

    def tokens(self) -> list[schemas.Token]:
        """Every token, by id; those that expired too."""
        return cast("schemas.Tokens", self.read("/tokens"))["tokens"]

    def create_token(self, body: Json) -> schemas.TokenMade:
        """Make a token; its `secret` is in this answer and nowhere else."""
        return cast("schemas.TokenMade", self.change("POST", "/tokens", body))

    def delete_token(self, token_id: str) -> None:
        """Have no manager take a token any more."""
        self.change("DELETE", f"/tokens/{quoted(token_id)}")

    def authority(self, store: str = "") -> schemas.Authority:
        """The authority of the domain's managers, or of a store's engines."""
        return cast("schemas.Authority", self.read(f"{self._of(store)}/ca"))

    def rotate_authority(self, without: Sequence[str], store: str = "", *, hold: bool = False) -> schemas.Authority:
        """Begin to change it, with `hold` only until all servers trust both; let it go on; or leave servers that are away out."""
        body = {"without": list(without), "hold": hold}
        return cast("schemas.Authority", self.change("POST", f"{self._of(store)}/ca/rotation", body))

    @staticmethod
    def _of(store: str) -> str:
        return f"/stores/{quoted(store)}" if store else ""

    def join_tokens(self) -> list[schemas.JoinToken]:
        """Every join token; those that were used or expired too."""
        return cast("schemas.JoinTokens", self.read("/join-tokens"))["joinTokens"]

    def create_join_token(self, body: Json) -> schemas.JoinTokenMade:
        """Make a join token; its `secret` is in this answer and nowhere else."""
        return cast("schemas.JoinTokenMade", self.change("POST", "/join-tokens", body))

    def delete_join_token(self, token_id: str) -> None:
        """Have no manager take a join token any more."""
        self.change("DELETE", f"/join-tokens/{quoted(token_id)}")

    # -- carrying -----------------------------------------------------------------------------------------------

    def read(self, path: str, **query: object) -> Json:
        """The JSON object at a path below /admin/v1."""
        return self.request("GET", NATIVE + path + query_of(query)).object()

    def change(self, method: str, path: str, body: Json | None = None, key: str | None = None) -> Json:
        """Send a change to a path below /admin/v1; the JSON object that answers it."""
        return self.request(method, NATIVE + path, body, key=key).object()

    def request(
        self, method: str, target: str, body: Json | None = None, *, key: str | None = None, question: bool = False
    ) -> Reply:
        """One request to any address of the manager. A `question` has a body and changes nothing."""
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if method != "GET" and not question:
            headers["Idempotency-Key"] = key or new_key()
        request = Request(method, target, headers, None if body is None else json.dumps(body).encode(), question)
        try:
            reply = self._send(request)
        except ManagerUnreachable as error:
            if error.maybe_done and question:
                raise ManagerUnreachable(error.endpoint, error.why) from error  # there is no change to be unsure of
            raise
        reply = reply._replace(endpoint=self.endpoint)
        judge(reply)
        return reply

    def _send(self, request: Request) -> Reply:
        """The answer to a request; after a broken connection it is sent once more within the same deadline."""
        deadline = time.monotonic() + self._timeout
        try:
            return self._transport.send(self.endpoint, request, self._timeout)
        except ManagerUnreachable as error:
            remaining = deadline - time.monotonic()
            if not error.maybe_done or remaining < LEAST:
                raise
        return self._transport.send(self.endpoint, request, remaining)


NATIVE = "/admin/v1"
EVENTS_OF_A_PAGE = 1_000


def new_key() -> str:
    """A fresh Idempotency-Key."""
    return os.urandom(16).hex()  # uuid would cost each change 8 ms of imports


def read_events(lines: Iterator[str]) -> Iterator[schemas.Event]:
    """The JSON bodies of a server-sent event stream; comments and keep-alives are skipped."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[len("data:") :].removeprefix(" "))
        elif not line and data:
            event = loads("\n".join(data).encode())
            data = []
            if event is not None:
                yield cast("schemas.Event", event)


def _store(name: str) -> str:
    return f"/stores/{quoted(name)}"


def _leader(name: str, group: str) -> str:
    return f"{_store(name)}/groups/{quoted(group)}/leader"


def _instance(name: str, instance: str) -> str:
    return f"{_store(name)}/instances/{quoted(instance)}"


def quoted(part: object) -> str:
    """One part of an address."""
    from urllib.parse import quote  # a request without a name does not pay for it

    return quote(str(part), safe="")


def query_of(values: Mapping[str, object]) -> str:
    """`?name=value&...`, or nothing; None is left out, a list gives its name once for each item."""
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        for item in value if isinstance(value, Sequence) and not isinstance(value, str) else [value]:
            if item is not None:
                pairs.append((name, str(item).lower() if isinstance(item, bool) else str(item)))
    if not pairs:
        return ""
    from urllib.parse import urlencode

    return f"?{urlencode(pairs)}"
