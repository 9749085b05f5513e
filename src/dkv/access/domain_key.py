"""Access: the domain's key: 256 bits that seal the secrets in the state, and the files in which a manager has it.

The state alone opens nothing: who reads it, or a copy of it, has no private key and no password. Every manager has the key in
its data directory. Where the state is a file of this machine, the key is beside that file too, for the managers that join.
"""

from __future__ import annotations

import re
from pathlib import Path

from dkv import files
from dkv.access import crypto

DOMAIN_KEY = "domain.key"
BESIDE = "-key"  # what follows the name of the state's file


class DomainKey:
    """What seals a secret for the state, and opens it again. A label says what the secret is for, and has to be the same."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "DomainKey()"

    @property
    def text(self) -> str:
        """As its file has it, in hex."""
        return self._key.hex()

    def seal(self, label: str, secret: str) -> str:
        """A text for the state, different each time."""
        return crypto.seal(self._key, label, secret)

    def unseal(self, label: str, sealed: str) -> str:
        """The secret. Raises crypto.WrongKey: another key or label sealed it, or it was changed."""
        return crypto.unseal(self._key, label, sealed)


def authority_label(owner: str) -> str:
    """The label under which the key of an owner's authority is sealed."""
    return f"authority/{owner}"


def new_domain_key() -> DomainKey:
    """A new random key."""
    return DomainKey(crypto.new_sealing_key())


def read_key(text: str) -> DomainKey | None:
    """The key that a file or a joined manager's answer has; None for another text."""
    return DomainKey(bytes.fromhex(text.strip())) if re.fullmatch("[0-9a-f]{64}", text.strip()) else None


class KeyFiles:
    """The files of one manager that may have the key: `own` in its data directory, `shared` beside the state's file."""

    def __init__(self, own: Path, shared: Path | None) -> None:
        self.own = own
        self.shared = shared

    def present(self) -> list[DomainKey]:
        """The keys that are there: the own one, then the shared one. Raises OSError, also for a file of another user."""
        texts = [_text(path) for path in (self.own, self.shared) if path is not None]
        return [key for text in texts if (key := read_key(text))]

    def first(self) -> DomainKey:
        """The key of a state that has sealed nothing yet: the shared one, which is made from the own one or anew; of several
        managers that do this at the same time all get the same. Raises OSError.
        """
        key = next(iter(self.present()), None) or new_domain_key()
        if self.shared is not None:
            _write_once(self.shared, key.text)
            key = read_key(_text(self.shared)) or key
        self.keep(key)
        return key

    def keep(self, key: DomainKey) -> None:
        """Have the key in both files; a shared one that differs stays. Raises OSError."""
        if _text(self.own).strip() != key.text:
            with files.directory(self.own.parent, make=True) as folder:
                files.make_private(folder)
                files.write_new(self.own.name, f"{key.text}\n", at=folder)
        if self.shared is not None:
            _write_once(self.shared, key.text)


def key_in(path: Path) -> DomainKey | None:
    """The key that a file holds; None where it holds none, or is not there. Raises OSError, also for a file of another user."""
    return read_key(_text(path))


def beside(state: Path) -> Path:
    """The file with the key of the domain whose state is that file."""
    return state.with_name(state.name + BESIDE)


def put_beside(state: Path, key: DomainKey) -> None:
    """Have the key beside the file of a state; one that is there already stays. Raises OSError."""
    _write_once(beside(state), key.text)


def _text(path: Path) -> str:
    try:
        with files.proven(path) as file:
            return file.read(1_024).decode("ascii", "replace")
    except FileNotFoundError:
        return ""


def _write_once(path: Path, text: str) -> None:
    with files.directory(path.parent) as folder:
        if not files.there(path.name, at=folder):
            files.write_once(path.name, f"{text}\n", at=folder)
