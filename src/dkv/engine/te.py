"""Engine: a memory-only process, which is a launcher and one engine per storage group below it.

The launcher (launcher.sh) stands where the one engine of an archive stands: it is started by the same waiting parent,
its pid and exit code are written down in the same run directory, and its process group is the engines'. So adoption,
killing and the judging of an end are the same for both.
"""

from __future__ import annotations

import os
from pathlib import Path

from dkv.engine import archive
from dkv.engine.config_files import write_files
from dkv.engine.contract import TeSpec
from dkv.engine.supervisor import Part

_LAUNCHER = str(Path(__file__).with_name("launcher.sh"))


def write_parts(spec: TeSpec) -> tuple[Part, ...]:
    """Make each engine's directory and files. Raises ArchiveRefused."""
    parts = []
    for engine in spec.engines:
        archive.make_directory(engine.directory)
        phantoms = write_files(engine)
        parts.append(Part(engine.group, engine.directory, engine.node_id, engine.client_port, phantoms))
    return tuple(parts)


def command(binary: str, spec: TeSpec) -> list[str]:
    """What the waiting parent starts."""
    names = [os.path.relpath(engine.directory, spec.directory) for engine in spec.engines]
    return ["/bin/sh", _LAUNCHER, spec.directory, binary, *names]
