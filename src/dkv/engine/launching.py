"""Putting an engine's three files in place before it starts; each start has phantoms of its own (config.py)."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from dkv.engine import config
from dkv.engine.archive import unusable
from dkv.engine.contract import EngineSpec


def write_files(spec: EngineSpec) -> tuple[str, ...]:
    """Write valkey.conf, users.acl and nodes.conf; the ids of the phantoms made up. Raises ArchiveRefused."""
    phantoms = {group: secrets.token_hex(20) for group in config.phantoms_needed(spec)}
    texts = {
        "valkey.conf": config.valkey_conf(spec),
        "users.acl": config.users_acl(spec),
        "nodes.conf": config.nodes_conf(spec, phantoms),
    }
    try:
        for name, text in texts.items():
            _write(Path(spec.directory, name), text)
    except OSError as error:
        raise unusable(spec.directory, error) from error
    return tuple(phantoms.values())


def _write(path: Path, text: str) -> None:
    """No fsync: the engine that reads these files is started by the same boot of the machine, or never."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
