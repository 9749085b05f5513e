"""Simulation: what must hold of engines that speak TLS, once nothing goes wrong any more."""

from __future__ import annotations

from dkv.domain.access import RotationPhase
from dkv.domain.authority import trust_of
from dkv.domain.model import Database, State


def uncertified(state: State, lost: str) -> list[str]:
    """What keeps changes of authorities from being done; `lost`: a machine that never comes back, for which one waits."""
    return [reason for database in state.databases.values() if not lost for reason in _behind(state, database)]


def _behind(state: State, database: Database) -> list[str]:
    authority = state.authorities.get(database.uid)
    if authority is None or authority.held:
        return []
    if authority.phase is not RotationPhase.DONE:
        return [f"the authority of {database.name} is {authority.phase}"]
    trust = trust_of(authority)
    shown = [(p.start_id, p.runs.certificate) for p in state.processes_of(database.name)]
    return [f"process {start_id} shows an old certificate" for start_id, leaf in shown if leaf is None or leaf.trust != trust]
