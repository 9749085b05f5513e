"""Wire: how a misspelt word is answered, for those who may not ask the domain."""

from dkv.domain.similar import listed, meant, nearest

__all__ = ["listed", "meant", "nearest"]
