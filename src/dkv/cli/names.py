"""Names that may be given and places nodes can be on: what every command shares. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from dkv.cli.errors import Usage

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")
NAME_RULE = "A name begins with a letter and has up to 63 letters, digits, and the signs _ . -"


class Place(NamedTuple):
    """A server that gets nodes: its id, its manager's `host:port`, the host its ports are on, the manager's port."""

    server: str
    manager: str
    host: str
    manager_port: int = 7801


def check_name(name: str, what: str) -> str:
    """The name, if it keeps the rule. Raises Usage."""
    if not NAME.fullmatch(name):
        raise Usage(f"'{name}' cannot be the name of {what}.", f"{NAME_RULE}.")
    return name
