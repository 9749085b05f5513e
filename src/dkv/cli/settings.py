"""CLI: Set-DkvStore: options of a store, changed while it runs."""

from __future__ import annotations

from dkv.cli.binding import Bound
from dkv.cli.create import finish
from dkv.cli.errors import Usage
from dkv.cli.manager_pool import ManagerPool, to_rows
from dkv.cli.session import Outcome, Session
from dkv.client import Json, new_key

OPTIONS = {"MaxMemory": "max-memory", "AppendFsync": "append-fsync", "MinInSync": "min-in-sync"}
"""Parameter -> option of the store."""


def set_store(session: Session, bound: Bound) -> int:
    """Send the options to every manager under one key, so that they are set once."""
    options = {option: str(bound[name]) for name, option in OPTIONS.items() if bound[name] is not None}
    if not options:
        raise Usage("Nothing is to be changed.", f"Give one of {', '.join(f'-{name}' for name in OPTIONS)}.")
    fleet = ManagerPool(session, bound, session.targets(bound))
    fleet.survey("SetStore")
    store, key = fleet.first(lambda client: client.store(bound["Name"])), new_key()
    outcomes = fleet.everywhere("SetStore", lambda client: client.set_options(store["name"], options, key))
    code = finish(session, to_rows(outcomes, lambda _: "Set"))
    for line in () if session.screen.as_json else _effects(outcomes):
        session.screen.line(line)
    return code


def _effects(outcomes: list[Outcome]) -> list[str]:
    """What comes of it, as the first manager that did it says."""
    effects: list[Json] = next((o.value["effects"] for o in outcomes if isinstance(o.value, dict) and o.value["effects"]), [])
    return [f"{one['option']}: {one['effect']}" for one in effects]
