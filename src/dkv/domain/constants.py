"""Domain: numbers that several packages go by, each written once. Those of the outside too are in dkv/constants.py."""

from __future__ import annotations

EPOCHS_OF_A_TERM = 100  # an engine starts with a current epoch of at least so many times its group's term
DAY = 86_400_000  # ms
CERTIFICATE_WARNING = 29 * DAY  # ms before its end a certificate that its manager should have renewed is listed as waiting
SERVER_TTL = 3.0  # s a server's lease lasts after a renewal was sent
