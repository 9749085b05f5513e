"""Recovery: what `dkv restore state` and `dkv rebuild state` would write, shown before it is written."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dkv.access.domain_key import DomainKey
from dkv.domain import rebuild, restore
from dkv.domain.decision import Event, Refused
from dkv.domain.model import State
from dkv.recovery.backup import RecoveryError, path_of, read_backup, refuse_existing, write_state
from dkv.recovery.find import find
from dkv.recovery.keys import key_of, write_key


@dataclass(frozen=True)
class Plan:
    """A state to be written to `path`, what it is made of and what is unknown; `key` is the domain's, to be put beside it."""

    path: Path
    state: State
    findings: tuple[str, ...]
    unknown: tuple[str, ...]
    because: str
    key: DomainKey | None = None

    def write(self) -> None:
        """Write the state, with one event that has its origin. Raises RecoveryError."""
        event = Event(
            "domain.recovered", f"domain {self.state.uid}", self.because, actor="operator", at=time.time_ns() // 1_000_000
        )
        if self.key is not None:
            write_key(self.path, self.key)
        write_state(self.path, replace(self.state, events=self.state.events + 1), event, uuid.uuid4().hex)


NEW_AUTHORITIES = "all authorities are given up: managers and engines get new ones, and whoever trusts the old ones needs those"


def plan_restore(file: Path, state: str, *, key_file: Path | None = None, new_authorities: bool = False) -> Plan:
    """The plan of restoring a backup, whose sealed keys a key in `key_file` opens, or which are given up for `new_authorities`.
    Raises RecoveryError, also if there is a state already.
    """
    path = path_of(state)
    refuse_existing(path)
    old = read_backup(file)
    lines = [f"domain {old.uid}, servers {', '.join(sorted(old.servers)) or 'none'}"]
    for database in sorted(old.databases):
        names = [a.name for a in old.archives_of(database) if not a.removed]
        lines.append(f"store {database}: {', '.join(names) or 'no instances'}")
    lines += [NEW_AUTHORITIES] if new_authorities and old.authorities else []
    because = f"it was put back from the backup {file.name}; every store starts cold"
    restored = restore.restored(replace(old, authorities={}) if new_authorities else old)
    of_key = key_of(restored, path, key_file)
    unknown = (*of_key.unknown, *restore.unknown(old))
    return Plan(path, restored, (*lines, *of_key.findings), unknown, because, of_key.key)


def plan_rebuild(data_dirs: Sequence[Path], state: str) -> Plan:
    """The plan of rebuilding a state from these data directories. Raises RecoveryError, also if there is a state already."""
    path = path_of(state)
    refuse_existing(path)
    made = rebuild.rebuild(find(data_dirs), uuid.uuid4().hex)
    if isinstance(made, Refused):
        raise RecoveryError(made.message, made.hint)
    because = f"it was rebuilt from {len(made.state.archives)} archives; what was not found there is lost"
    return Plan(path, made.state, made.findings, made.unknown, because)
