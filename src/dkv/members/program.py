"""members: etcd's program on this machine, and why this server can run no member."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess

from dkv.store.contract import Unusable
from dkv.store.etcd_version import refuse_version

ETCD = "etcd"
ASKED_WITHIN = 10.0  # s that the program has to say its version


def program() -> str:
    """The path of etcd's program; "" where PATH has none."""
    return shutil.which(ETCD) or ""


_fit: set[str] = set()  # programs whose version was found good


def unfit() -> str:
    """Why this machine can run no member of the domain state, as a sentence with what helps; "" when it can."""
    path = program()
    if not path:
        return "there is no etcd on PATH: install it (Debian: apt install etcd-server), or put its program there"
    if importlib.util.find_spec("grpc") is None or importlib.util.find_spec("google.protobuf") is None:
        return "the package grpcio is missing: pip install 'dkv[etcd]'"
    if path in _fit:
        return ""
    try:
        output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=ASKED_WITHIN, check=False).stdout
        refuse_version(output.partition("etcd Version:")[2].partition("\n")[0].strip(), path)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{path} does not tell its version: {error}"
    except Unusable as error:
        return f"{error.detail}: {error.hint}"
    _fit.add(path)
    return ""
