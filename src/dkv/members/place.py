"""members: where the members of the domain state are, as a manager keeps that in its data directory for its next start."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dkv import files
from dkv.constants import PEERS_ABOVE
from dkv.store.contract import Unusable

MEMBERS = "members.json"


@dataclass(frozen=True)
class Members:
    """The cluster that a domain's state is on: the domain's uid, the cluster's random token, which keeps members of different
    clusters apart, the client URLs of its members as last seen, and the cluster's id, 0 before it was seen: a member of another
    one at the same address is none.
    """

    domain: str
    token: str
    clients: tuple[str, ...]
    cluster: int = 0

    @property
    def text(self) -> str:
        """As it is kept."""
        return json.dumps({"domain": self.domain, "token": self.token, "clients": self.clients, "cluster": self.cluster})

    def write(self, data_dir: Path) -> None:
        """Keep it. Raises OSError."""
        with files.directory(data_dir) as folder:
            files.write_new(MEMBERS, self.text, at=folder)


def new_members(domain: str, client: str) -> Members:
    """A new cluster for a domain, of one member so far."""
    return Members(domain, secrets.token_hex(16), (client,))


def members_in(text: str) -> Members:
    """What `Members.text` wrote. Raises ValueError for another text."""
    try:
        kept = json.loads(text)
        clients = tuple(str(url) for url in kept["clients"])
        members = Members(str(kept["domain"]), str(kept["token"]), clients, int(kept.get("cluster", 0)))
    except (KeyError, TypeError) as error:
        raise ValueError("it names no members") from error
    if not (members.domain and members.token and members.clients):
        raise ValueError("it names no members")
    return members


def read_members(data_dir: Path) -> Members | None:
    """What a data directory knows of the members; None if it never had any. Raises Unusable."""
    path = data_dir / MEMBERS
    try:
        with files.proven(path) as file:
            return members_in(file.read().decode())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Unusable(f"{path} does not name the members of the domain state", "Put a good copy of it back.") from error


def forget_members(data_dir: Path) -> None:
    """Forget what a data directory knows of members of a state that is in a file again. Raises OSError."""
    with files.directory(data_dir) as folder, suppress(FileNotFoundError):
        os.unlink(MEMBERS, dir_fd=folder)


def client_url(host: str, etcd_port: int) -> str:
    """The URL at which clients reach the member of a server."""
    return f"https://{_bracketed(host)}:{etcd_port}"


def peer_url(host: str, etcd_port: int) -> str:
    """The URL at which the other members reach it."""
    return f"https://{_bracketed(host)}:{etcd_port + PEERS_ABOVE}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
