"""Access: the files of a manager's certificate: its leaf, the leaf's key, and the authorities that it believes.

They are in a directory that only the manager's user can enter, and each is replaced whole. A crash between two of them leaves a
leaf beside another key; `judge_own` sees that, and both are made anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dkv import files
from dkv.access.crypto import KeyPair

DIRECTORY = "certificates"  # below the data directory
BUNDLE, LEAF, KEY = "authorities.pem", "server.pem", "server.key"


@dataclass(frozen=True)
class CertificateFiles:
    """Where they are."""

    directory: Path

    @property
    def bundle(self) -> Path:
        """The authorities that this manager believes, the one that signs first."""
        return self.directory / BUNDLE

    @property
    def leaf(self) -> Path:
        """This manager's own certificate."""
        return self.directory / LEAF

    @property
    def key(self) -> Path:
        """The private key of that."""
        return self.directory / KEY

    def pair(self) -> KeyPair | None:
        """Leaf and key; None before both were written. Raises OSError."""
        leaf, key = _text(self.leaf), _text(self.key)
        return KeyPair(leaf, key) if leaf and key else None

    def read_key(self) -> str:
        """The key alone; empty before it was written. Raises OSError."""
        return _text(self.key)

    def write_key(self, key: str) -> None:
        """Replace the key before there is a leaf of it. Raises OSError."""
        self._write({KEY: key})

    def trusted(self) -> str:
        """The bundle; empty before it was written. Raises OSError."""
        return _text(self.bundle)

    def write_pair(self, pair: KeyPair) -> None:
        """Replace the key, then the leaf. Raises OSError."""
        self._write({KEY: pair.key, LEAF: pair.certificate})

    def write_bundle(self, bundle: str) -> None:
        """Replace the bundle. Raises OSError."""
        self._write({BUNDLE: bundle})

    def _write(self, texts: dict[str, str]) -> None:
        with files.directory(self.directory, make=True) as folder:
            files.make_private(folder)
            files.sweep(folder)
            for name, text in texts.items():
                files.write_new(name, text, at=folder)


def _text(path: Path) -> str:
    try:
        with files.proven(path) as file:
            return file.read().decode("ascii", "replace")
    except FileNotFoundError:
        return ""
