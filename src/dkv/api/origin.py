"""API: whose request it is: every order that a request leads to carries its principal, its entry point, and what that may give.

It is put on in one place, on the way to the submitter, so that no route can forget it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from starlette.types import Scope

from dkv.access.principals import Caller
from dkv.control.submit import RequestKey, View
from dkv.domain.access import Grants
from dkv.domain.command import Command
from dkv.domain.decision import Accepted, Refused
from dkv.peer import PEER, Peer
from dkv.store.contract import Snapshot

CALLER = "dkv.caller"
"""Where the scope of a request carries the Caller who was found to send it; nothing without access control."""


class Commands(Protocol):
    """Reads and changes of the domain (control/submit.py, Submitter)."""

    async def submit(
        self, command: Command, key: RequestKey | None = None, *, at_revision: int | None = None
    ) -> Accepted | Refused:
        """Decide and commit, with `at_revision` only if the domain is at that revision still; the same `key` gets the same answer
        through any manager, another request under it a refusal. Raises StoreError."""
        ...

    async def answered(self, key: RequestKey | None) -> Accepted | Refused | None:
        """What submit would answer to a key it has answered already; None for another one. Raises StoreError."""
        ...

    async def check(self, command: Command) -> Accepted | Refused:
        """What submit would answer now; writes nothing. Raises StoreError."""
        ...

    async def view(self) -> View:
        """A linearizable read. Raises StoreError."""
        ...

    async def snapshot(self) -> Snapshot:
        """The same as records, for a backup. Raises StoreError."""
        ...


@dataclass(frozen=True)
class Origin:
    """Who sent a request, for the log of events, and by which entry point of which manager. `grants`: see Command."""

    actor: str
    entry: str
    grants: Grants | None


def origin_of(scope: Scope, server_id: str) -> Origin:
    """The origin of the request with that scope, at the manager of that server."""
    caller: Caller | None = scope.get(CALLER)
    peer: Peer = scope.get(PEER) or Peer()
    _, port = scope.get("server") or ("", None)
    kind = "socket" if peer.uid is not None else f"{'TLS ' if scope.get('scheme') == 'https' else ''}port {port}"
    client = scope.get("client")
    actor = str(caller.principal) if caller else f"operator at {client[0]}" if client else "operator"
    return Origin(actor, f"{kind} of {server_id}", caller.grants if caller else None)


class Attributed:
    """The commands of one request: whatever it submits has its origin. `at_revision`, to which the request is bound, holds for
    the first command that is accepted: what the request submits after that follows from it.
    """

    def __init__(self, commands: Commands, origin: Origin, at_revision: int | None = None) -> None:
        self._commands = commands
        self._origin = origin
        self._at_revision = at_revision
        self.answered = commands.answered
        self.view = commands.view
        self.snapshot = commands.snapshot

    async def submit(
        self, command: Command, key: RequestKey | None = None, *, at_revision: int | None = None
    ) -> Accepted | Refused:
        """As Commands.submit."""
        bound = self._at_revision if at_revision is None else at_revision
        if bound is None:
            return await self._commands.submit(self._with_origin(command), key)
        done = await self._commands.submit(self._with_origin(command), key, at_revision=bound)
        if isinstance(done, Accepted):
            self._at_revision = None
        return done

    async def check(self, command: Command) -> Accepted | Refused:
        """As Commands.check."""
        return await self._commands.check(self._with_origin(command))

    def _with_origin(self, command: Command) -> Command:
        return replace(command, actor=self._origin.actor, entry=self._origin.entry, grants=self._origin.grants)
