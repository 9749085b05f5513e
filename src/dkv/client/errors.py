"""Client: the root of what this package raises."""

from __future__ import annotations

from dkv.errors import HintedError


class ClientError(HintedError):
    """Root of everything this package raises."""
