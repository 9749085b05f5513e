"""Access: TLS contexts that follow a manager's certificate files: a renewed leaf, or another bundle of authorities, counts from
the next handshake on, and listeners stay open.

Python cannot take trust back from a context, so what changed gives a new one. The files are looked at before each handshake:
that takes a few microseconds, and no timer has to wake an idle manager.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from dkv.access.certificate_files import CertificateFiles
from dkv.access.crypto import Malformed

_BEGIN = "-----BEGIN CERTIFICATE-----"


class Contexts:
    """The contexts of one manager's handshakes. `warn` is called once for each state of the files that cannot be used; what they
    held before is then used on.

    Methods raise Malformed as long as the files could never be used.
    """

    def __init__(self, files: CertificateFiles, warn: Callable[[str], None]) -> None:
        self._files = files
        self._warn = warn
        self._used: tuple[tuple[int, int, int], ...] = ()
        self._failing = ""
        self._bundle = ""
        self._registered: tuple[bytes, ...] = ()
        self._accepting: ssl.SSLContext | None = None
        self._calling: ssl.SSLContext | None = None
        self._lock = threading.RLock()  # other managers are called from threads, listeners live in the event loop

    def authorities(self) -> tuple[str, ...]:
        """The authorities of the bundle, in PEM."""
        with self._lock:
            self._follow()
            return tuple(_BEGIN + part for part in self._bundle.split(_BEGIN)[1:])

    def accepting(self, registered: Sequence[bytes] = ()) -> ssl.SSLContext:
        """For the next connection that a client opens. Its certificate is taken if it shows one: a leaf of the authorities, or
        one of the `registered` certificates (in DER). Whom it stands for is not decided here.
        """
        with self._lock:
            self._follow()
            if self._accepting is None or self._registered != tuple(registered):
                self._registered = tuple(registered)
                self._accepting = self._made(self._registered)
            return self._accepting

    def calling(self) -> ssl.SSLContext:
        """For the next connection to another manager. It believes leaves of the authorities only; whose leaf it is has to be
        judged after the handshake, because an address is no identity.
        """
        with self._lock:
            self._follow()
            if self._calling is None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # else Python before 3.11.4 takes a cut answer for a whole one
                self._calling = self._loaded(context)
            return self._calling

    def load(self) -> None:
        """Load the files if they are others than before. Raises Malformed."""
        with self._lock:
            self._load()

    def _load(self) -> None:
        try:
            stamp = tuple(map(_stamp, (self._files.bundle, self._files.leaf, self._files.key)))
            bundle = self._files.trusted() if stamp != self._used else self._bundle
        except OSError as error:
            raise Malformed(f"the certificate of this manager cannot be used: {error}") from error
        if stamp != self._used:
            before, self._bundle = self._bundle, bundle
            try:
                self._accepting, self._calling = self._made(self._registered), None
            except Malformed:
                self._bundle = before
                raise
            self._used, self._failing = stamp, ""

    def _follow(self) -> None:
        try:
            self.load()
        except Malformed as error:
            if self._accepting is None:
                raise
            if self._failing != str(error):
                self._failing = str(error)
                self._warn(f"The new certificate of this manager is not used: {error}.")

    def _made(self, registered: Sequence[bytes]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
        context.num_tickets = 0  # trust is judged at each handshake, never resumed
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a registered certificate stands for itself, whoever signed it
        for certificate in registered:
            with suppress(ssl.SSLError, ValueError):  # one that cannot be used keeps no other user out
                context.load_verify_locations(cadata=certificate)
        context.verify_mode = ssl.CERT_OPTIONAL
        return self._loaded(context)

    def _loaded(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """A context with the authorities, the leaf and its key. Raises Malformed."""
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(cadata=self._bundle)
        except (ssl.SSLError, ValueError, TypeError) as error:
            raise Malformed(f"the bundle of authorities cannot be used: {error}") from error
        try:
            context.load_cert_chain(self._files.leaf, self._files.key)
        except (ssl.SSLError, OSError) as error:
            raise Malformed(f"{self._files.leaf} and {self._files.key} are no certificate with its key: {error}") from error
        return context


def _stamp(path: Path) -> tuple[int, int, int]:
    """What is another one once a file was replaced. Raises OSError."""
    status = os.stat(path, follow_symlinks=False)
    return status.st_ino, status.st_mtime_ns, status.st_size


def why_handshake_failed(error: Exception) -> str:
    """Why the handshake with a client failed, as a clause; empty where it only went away, as those do who probe a port."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not taken: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason in ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST"):
        return "it spoke HTTP without TLS, which others could read on the way"
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return f"its TLS cannot be used: {(error.reason or str(error)).replace('_', ' ').lower()}"
    if isinstance(error, ConnectionAbortedError | ValueError):
        return str(error)  # it took too long; or the manager has no certificate that can be used
    return ""
