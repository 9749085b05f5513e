"""Domain: what a name that people gave means: the living database of that name, or a refusal with the nearest one. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from dkv.domain.decision import Refused
from dkv.domain.model import Database, DatabaseState
from dkv.domain.refusals import unknown_database


def living_database(databases: Mapping[str, Database], name: str) -> Database | Refused:
    """The database of that name. One that was deleted is none, and is not offered as the nearest name either."""
    living = {known: database for known, database in databases.items() if database.state is not DatabaseState.TOMBSTONE}
    return living[name] if name in living else unknown_database(name, living)
