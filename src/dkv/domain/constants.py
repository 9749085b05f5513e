"""Domain: numbers that several packages go by, each written once (docs/reference/valkey.md)."""

from __future__ import annotations

SLOTS = 16384  # hash slots of a database, as Valkey counts them
FIRST_CLUSTER_PORT = 7811  # where the search for an archive's free ports begins
FIRST_CLIENT_PORT = 7861
EPOCHS_OF_A_TERM = 100  # an engine starts with a current epoch of at least so many times its group's term
SERVER_TTL = 3.0  # s a server's lease lasts after a renewal was sent
