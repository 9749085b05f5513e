"""Recovery: the domain's key, which opens what is sealed in a state. It is in no backup, so a restored state may lack it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dkv import files
from dkv.access.crypto import WrongKey
from dkv.access.domain_key import DomainKey, authority_label, beside, key_in, put_beside
from dkv.domain.model import State
from dkv.recovery.backup import RecoveryError

COPY = "Name a copy of certificates/domain.key of a manager's data directory, or of the file beside the state."


@dataclass(frozen=True)
class KeyOfState:
    """Whether a state's key is there, as lines for people; `key` is to be put beside the state, None where nothing is."""

    findings: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    key: DomainKey | None = None


def key_of(state: State, path: Path, given: Path | None) -> KeyOfState:
    """The key of a state that is to be written to `path`, out of the file that was `given`, else beside the path. Raises
    RecoveryError: the given one is none, or opens nothing of the state.
    """
    if not state.authorities:
        return KeyOfState()
    if given is not None:
        key = _given(state, path, given)
        return KeyOfState((f"the domain's key in {given}: it opens what is sealed, and is put beside the state",), key=key)
    there = _read(beside(path))
    if there and _opens(there, state):
        return KeyOfState((f"the domain's key in {beside(path)}: it opens what is sealed",))
    lacks = "does not open what is sealed" if there else "is not there or holds none"
    return KeyOfState(
        unknown=(
            f"the domain's key, without which no manager can sign: {beside(path)} {lacks}. A manager that has it in "
            "certificates/domain.key of its data directory starts all the same. Else give a copy of it (--domain-key FILE), or "
            "give up what is sealed (--new-authorities): clients then need the new authorities, and servers new join tokens",
        )
    )


def _given(state: State, path: Path, given: Path) -> DomainKey:
    key = _read(given)
    if key is None:
        raise RecoveryError(f"{given} holds no key of a domain.", COPY)
    if not _opens(key, state):
        raise RecoveryError(f"The key in {given} does not open what is sealed in the backup: it is another domain's.", COPY)
    there = _read(beside(path))
    if there and there.text != key.text:
        raise RecoveryError(f"{beside(path)} holds another key and is not overwritten.", "Move it away.")
    return key


def write_key(path: Path, key: DomainKey) -> None:
    """Put the key beside the state that is written to `path`. Raises RecoveryError."""
    try:
        with files.directory(files.without_links(path.parent), make=True):
            pass
        put_beside(path, key)
    except OSError as error:
        raise RecoveryError(f"{beside(path)} cannot be written: {error}.", "Make room and rights.") from error


def _read(path: Path) -> DomainKey | None:
    try:
        return key_in(path)
    except OSError as error:
        raise RecoveryError(f"{path} cannot be read: {error}.", "Run this as the managers' user.") from error


def _opens(key: DomainKey, state: State) -> bool:
    """Whether it opens the key of every authority: all of a domain are sealed with one key."""
    try:
        for authority in state.authorities.values():
            key.unseal(authority_label(authority.owner), authority.key)
    except WrongKey:
        return False
    return True
