"""Store: which versions of etcd a domain may be kept on. Facts: docs/reference/state-backends.md#etcd."""

from __future__ import annotations

import re

from dkv.store.contract import Unusable

OLDEST = (3, 4, 23)
CORRUPTING = ((3, 5, 0), (3, 5, 1), (3, 5, 2))  # may lose committed data when killed


def version_of(text: str) -> tuple[int, ...]:
    """A version's numbers, whatever follows them."""
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def refuse_version(text: str, where: str) -> None:
    """Raises Unusable for a version of etcd that the domain must not be kept on."""
    version = version_of(text)
    if version in CORRUPTING:
        raise Unusable(f"etcd {text} ({where}) may lose data that it confirmed", "Update it to 3.5.3 or newer.")
    if version < OLDEST:
        oldest = ".".join(str(number) for number in OLDEST)
        raise Unusable(
            f"etcd {text} ({where}) is older than {oldest}", f"Install etcd {oldest} or newer, but not 3.5.0 to 3.5.2."
        )
