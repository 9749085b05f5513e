"""Wire: the facts about options that a client shows without a request to a manager."""

from __future__ import annotations

from collections.abc import Iterable

from dkv.domain.options import OF_NUODB


def ignored(names: Iterable[str]) -> list[str]:
    """A sentence for each option of NuoDB's own among these."""
    return [f"{name} is an option of NuoDB: it is kept and ignored; {OF_NUODB[name]}" for name in names if name in OF_NUODB]
