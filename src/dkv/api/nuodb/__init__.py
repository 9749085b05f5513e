"""API: the NuoDB dialect under /api/1, spoken by the unmodified nuocmd. Its words are translated here and no further in."""
