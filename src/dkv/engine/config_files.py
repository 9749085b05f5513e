"""Putting an engine's three files in place before it starts; each start has phantoms of its own (config.py)."""

from __future__ import annotations

import errno
import secrets
from pathlib import Path

from dkv import files, kernel
from dkv.engine import config, tls
from dkv.engine.archive import unusable
from dkv.engine.contract import ArchiveRefused, Cause, EngineSpec, RunOptions
from dkv.engine.users import users_acl


def write_files(spec: EngineSpec) -> tuple[str, ...]:
    """Write valkey.conf, users.acl and nodes.conf; the ids of the phantoms made up. Raises ArchiveRefused."""
    if spec.tls and spec.certificate is None:
        raise ArchiveRefused(Cause.BAD_OPTION, "it is to speak TLS and has no certificate")
    if not 0 < (port := config.announced_port(spec)) < 65536:
        offset = spec.announced.port_offset
        raise ArchiveRefused(Cause.BAD_OPTION, f"clients would be told port {port}: {spec.client_port} and an offset of {offset}")
    phantoms = {group: secrets.token_hex(20) for group in config.phantoms_needed(spec)}
    texts = {
        "valkey.conf": config.valkey_conf(spec),
        "users.acl": users_acl(spec),
        "nodes.conf": config.nodes_conf(spec, phantoms),
    }
    try:
        if spec.certificate:
            tls.write_generation(spec.directory, spec.certificate)
            tls.drop_others(spec.directory, spec.certificate.name)
        with files.directory(spec.directory) as folder:
            for name, text in texts.items():
                files.write_new(name, text, at=folder, lasting=False)  # read by an engine of this boot, or never
    except OSError as error:
        raise unusable(spec.directory, error) from error
    return tuple(phantoms.values())


def keep_options(directory: str, options: RunOptions) -> None:
    """Have the archive's valkey.conf say the options that its engine is given while it runs: the file is written anew at the next
    start, and until then a state that has to be rebuilt finds them there. Raises OSError.
    """
    with files.directory(directory) as folder:
        conf = files.read_text(Path(directory) / "valkey.conf")
        lines = [*config.option_lines(options), f"appendfsync {options.append_fsync}"]
        files.write_new("valkey.conf", config.with_lines(conf, lines), at=folder)


def refuse_taken(spec: EngineSpec) -> None:
    """Raises ArchiveRefused when another process has the client port, which the engine opens only later."""
    if taken(spec.address, spec.client_port):
        where = f"{spec.address}:{spec.client_port}"
        raise ArchiveRefused(Cause.PORT_TAKEN, f"a port it needs is taken: {where} for its clients: Address already in use")


def taken(address: str, port: int) -> bool:
    """Whether a server listens there. An address that this machine does not have is not taken."""
    return kernel.bind_error(address, port) == errno.EADDRINUSE
