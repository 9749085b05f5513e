"""Client: a synchronous HTTP client of the managers, used by every program outside of them.

`ManagerClient` is one manager and its native vocabulary, `ManagerPool` several of one domain of which any may answer,
`dialect.DialectClient` the NuoDB vocabulary over a pool.
"""

from __future__ import annotations

from dkv.client.credentials import BadCredentials, Credentials
from dkv.client.errors import ClientError
from dkv.client.manager import ManagerClient, new_key, read_events
from dkv.client.pool import ManagerPool
from dkv.client.transport import (
    BadEndpoint,
    Endpoint,
    HttpTransport,
    Json,
    ManagerRefused,
    ManagerUnreachable,
    NoManagerAnswered,
    Reply,
    Request,
    Transport,
    parse_endpoint,
)

__all__ = [
    "BadCredentials",
    "BadEndpoint",
    "ClientError",
    "Credentials",
    "Endpoint",
    "HttpTransport",
    "Json",
    "ManagerClient",
    "ManagerPool",
    "ManagerRefused",
    "ManagerUnreachable",
    "NoManagerAnswered",
    "Reply",
    "Request",
    "Transport",
    "new_key",
    "parse_endpoint",
    "read_events",
]
