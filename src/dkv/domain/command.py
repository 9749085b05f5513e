"""What all commands have. A command is one thing that happens to a domain; decide() says what it makes true.

*Orders* (orders.py) come from people and programs; *facts* (facts.py) come from managers and are proposals: a fact about
something the domain no longer knows is refused. Time, ids and randomness arrive in here, never by a call.
"""

from __future__ import annotations

from dataclasses import dataclass

from dkv.domain.access import Grants


@dataclass(frozen=True, kw_only=True)
class Command:
    """One thing that happens. `now` is the wall clock in ms (shown, never judged by); `actor` is the principal that asked,
    `entry` the entry point that it came by, `grants` what that principal was granted; None: there is no access control, or a
    manager saw it itself.
    """

    now: int = 0
    actor: str = ""
    entry: str = ""
    grants: Grants | None = None
