"""Engines over TLS: whether a server program has it, and the files of an engine's certificate in its directory.

A generation of the files is a directory `tls/<name>` below the engine's own, and its name says what is in it: which authorities
the engine believes, and the serial number of its leaf. So an engine's answer to CONFIG GET says what it runs with.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from dkv import files
from dkv.engine.config import AUTHORITIES_FILE, KEY_FILE, LEAF_FILE, TLS_FOLDER
from dkv.engine.contract import TlsFiles
from dkv.engine.supervisor import environment

_PROBED_WITHIN = 5.0  # s a program has to open its socket or to end; measured: 0.1 s

# The files of one engine ----------------------------------------------------------------------------------------------


def write_generation(directory: str, certificate: TlsFiles) -> None:
    """Put the files of a certificate in the engine's directory, for our user only. Raises OSError."""
    with files.directory(os.path.join(directory, TLS_FOLDER, certificate.name), make=True) as folder:
        files.make_private(folder)
        files.write_new(AUTHORITIES_FILE, certificate.authorities, at=folder, lasting=False)
        files.write_new(KEY_FILE, certificate.key, at=folder, lasting=False)
        files.write_new(LEAF_FILE, certificate.certificate, at=folder, lasting=False)


def drop(directory: str, name: str) -> None:
    """Take a generation away. Raises OSError."""
    with files.directory(os.path.join(directory, TLS_FOLDER)) as folder:
        files.remove_tree(name, at=folder)


def drop_others(directory: str, name: str) -> None:
    """Take every generation but one away. Raises OSError."""
    place = os.path.join(directory, TLS_FOLDER)
    with files.directory(place) as folder:
        for other in files.names_in(place):
            if other != name:
                files.remove_tree(other, at=folder)


def context_of(directory: str) -> ssl.SSLContext:
    """How to listen in the place of the engine of that directory: with the leaf that it had, and only for engines of its store,
    which show theirs. Raises OSError.
    """
    place = Path(directory, TLS_FOLDER)
    generations = sorted((place / name for name in files.names_in(place)), key=lambda path: path.stat().st_mtime_ns)
    if not generations:
        raise FileNotFoundError(f"{place} holds no certificate")
    with files.directory(generations[-1]):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(generations[-1] / AUTHORITIES_FILE)  # an SSLError is an OSError
        context.load_cert_chain(generations[-1] / LEAF_FILE, generations[-1] / KEY_FILE)
    return context


# The program ------------------------------------------------------------------------------------------------------------


def speaks_tls(program: str, certificate: str, key: str) -> bool:
    """Whether a Valkey server has TLS: it is started with a certificate and its key (PEM), and opens its socket or ends.

    `--version` does not say it. Asked once for each program, as long as its file stays the same. False where it does not run.
    """
    try:
        status = os.stat(program)
    except OSError:
        return False
    known = (program, status.st_size, status.st_mtime_ns)
    if known not in _probed:
        _probed[known] = _starts(program, certificate, key)
    return _probed[known]


_probed: dict[tuple[str, int, int], bool] = {}


def _starts(program: str, certificate: str, key: str) -> bool:
    paths = [word for name in ("cert", "key", "ca-cert") for word in (f"--tls-{name}-file", LEAF_FILE)]
    words = ["--port", "0", "--unixsocket", "socket", "--save", "", "--tls-replication", "yes", *paths]
    with suppress(OSError), tempfile.TemporaryDirectory(prefix="dkv-probe-") as folder:
        files.write_whole(Path(folder, LEAF_FILE), certificate + key)
        started = subprocess.Popen(
            [program, *words],
            cwd=folder,
            env=environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return _opens(started, Path(folder, "socket"))
        finally:
            started.kill()
            started.wait()
    return False


def _opens(started: subprocess.Popen[bytes], socket: Path) -> bool:
    ends = time.monotonic() + _PROBED_WITHIN
    while started.poll() is None and time.monotonic() < ends:
        if socket.exists():
            return True
        time.sleep(0.005)
    return False
