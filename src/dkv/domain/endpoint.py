"""Domain: where an engine without an archive is reached; an archive says so itself (model.Archive)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Endpoint:
    """Where one engine of a TE is reached: the engine's group, and its two ports on the process's server."""

    group: str
    cluster_port: int
    client_port: int
