"""Access: TLS contexts that live as long as a manager: leaves and authorities are changed under open listeners.

A listener keeps the context that it was opened with. A new leaf is loaded into the newest context. A new bundle of
authorities needs a new context, which every later handshake gets by the callback that sees the client's server name, or its
absence.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from dkv.access.crypto import Malformed


class Listening:
    """What a TLS door offers and whom it believes. Client certificates are taken when shown and not asked for else.

    Connections that stand keep what they were opened with. Raises Malformed for files or texts that are no certificates;
    what was offered before is offered on then.
    """

    def __init__(self, certificate: Path, key: Path, bundle: str) -> None:
        self._files = (certificate, key)
        self._newest = self._made(bundle)
        self.context = self._newest
        """For the listener; later handshakes go on with the newest one."""
        self.context.sni_callback = self._choose

    def renew(self, certificate: Path, key: Path) -> None:
        """Offer another leaf from the next handshake on."""
        _load(_server_context(), certificate, key)  # a mismatched pair would leave the living context half loaded
        _load(self._newest, certificate, key)
        self._files = (certificate, key)

    def trust(self, bundle: str) -> None:
        """Believe the authorities of a bundle, and no others, from the next handshake on."""
        self._newest = self._made(bundle)

    def _made(self, bundle: str) -> ssl.SSLContext:
        context = _server_context()
        _load(context, *self._files)
        _believe(context, bundle)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        if self._newest is not first:
            connection.context = self._newest


def calling(bundle: str, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """How a manager calls another one: it believes the bundle only, checks the name, and shows its leaf if it has one.

    Raises Malformed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _believe(context, bundle)
    if certificate and key:
        _load(context, certificate, key)
    return context


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise Malformed(f"{certificate} and {key} are no certificate with its key: {error}") from error


def _believe(context: ssl.SSLContext, bundle: str) -> None:
    try:
        context.load_verify_locations(cadata=bundle)
    except (ssl.SSLError, ValueError) as error:
        raise Malformed(f"the bundle of authorities cannot be used: {error}") from error
