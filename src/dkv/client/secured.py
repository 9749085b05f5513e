"""Client: TLS with a manager: which authority is believed, and what a failed handshake means.

Only for https is this imported: the standard library's module takes a tenth of a cold start.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Sequence
from typing import Any

from dkv.client.credentials import BadCredentials
from dkv.client.exchange import Exchange, NotHttp

BEGIN = "-----BEGIN CERTIFICATE-----"
_EXPIRED, _NOT_YET = 10, 9  # X509_V_ERR_* of OpenSSL
_OTHER_NAME = (62, 64)
_NO_ISSUER = (2, 18, 19, 20, 21)


def secure(plain: socket.socket, host: str, authorities: str) -> ssl.SSLSocket:
    """TLS with a manager whose certificate one of the authorities, in PEM, signed for it. Raises OSError, BadCredentials."""
    context = _context()
    try:
        context.load_verify_locations(cadata=authorities)
    except (ssl.SSLError, ValueError) as error:
        raise BadCredentials(
            f"The authorities that are known here cannot be used: {error}.", "Name another DKV_CA_FILE, or run dkv login again."
        ) from error
    return context.wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=False)


def _context() -> ssl.SSLContext:
    """A client's. An end that TLS did not announce is an error; Python before 3.11.4 has to be told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


def shown_authorities(host: str, port: int, timeout: float) -> list[str]:
    """The authorities, in PEM, that whatever listens there says are its own. Raises OSError, NotHttp."""
    try:
        bundle = shown_authority(host, port, timeout)["bundle"]
        return [certificate for text in bundle for certificate in certificates_in(text)]
    except (TypeError, KeyError, AttributeError) as error:
        raise NotHttp from error


def shown_authority(host: str, port: int, timeout: float) -> dict[str, Any]:
    """What whatever listens there answers about its authority. Nothing is proven by that, and nothing is sent but the question.
    Raises OSError, NotHttp."""
    context = _context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout) as plain,
        context.wrap_socket(plain, suppress_ragged_eofs=False) as connection,
    ):
        exchange = Exchange(connection, lambda: timeout)
        exchange.ask("GET", "/admin/v1/ca", {"Host": f"[{host}]" if ":" in host else host}, b"")
        try:
            answer = json.loads(b"".join(exchange.body()))
        except ValueError as error:
            raise NotHttp from error
    if exchange.status != 200 or not isinstance(answer, dict):
        raise NotHttp
    return answer


def fingerprints(host: str, port: int, timeout: float) -> list[str]:
    """The SHA-256 of each of them, to be compared by a person; none where nothing usable came."""
    try:
        return [sha256_of(certificate) for certificate in shown_authorities(host, port, timeout)]
    except (OSError, NotHttp, ValueError):
        return []


def failure(error: Exception) -> tuple[str, str]:
    """Why a handshake failed, as a clause, and what helps; two empty texts for what is no matter of TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _unverified(error)
    if isinstance(error, ssl.SSLError) and error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"):
        return (
            "what listens there does not speak TLS",
            "A manager on a loopback address speaks http:// unless it was told otherwise.",
        )
    if isinstance(error, ssl.SSLEOFError):
        return "the connection ended before the answer was whole", ""
    if isinstance(error, ssl.SSLError):
        return f"its TLS cannot be used: {(error.reason or str(error)).replace('_', ' ').lower()}", ""
    return "", ""


def _unverified(error: ssl.SSLCertVerificationError) -> tuple[str, str]:
    if error.verify_code in _NO_ISSUER:
        return (
            "its certificate is not of the authority that is known here",
            "Nothing was sent. If the authority of the domain was changed, compare its SHA-256 and run dkv login again.",
        )
    if error.verify_code == _EXPIRED:
        return "its certificate has expired", "Compare the clocks; the manager renews its certificate by itself: see its log."
    if error.verify_code == _NOT_YET:
        return "its certificate is not valid yet", "Compare the clocks of the two machines."
    if error.verify_code in _OTHER_NAME:
        return "its certificate is for another address", "Use the address that the manager is bound to."
    return f"its certificate cannot be verified: {error.verify_message}", "Nothing was sent."


def certificates_in(text: str) -> list[str]:
    """The certificates of a PEM text, each as a text of its own."""
    return [BEGIN + part.partition("-----END")[0] + "-----END CERTIFICATE-----\n" for part in text.split(BEGIN)[1:]]


def sha256_of(certificate: str) -> str:
    """The SHA-256 of a certificate's DER in hex. Raises ValueError."""
    import hashlib  # only a comparison by a person pays for it

    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()


def pinned(certificates: Sequence[str], sha256: str) -> str:
    """The one of these certificates that has that SHA-256; empty for none. Raises ValueError."""
    return next((certificate for certificate in certificates if sha256_of(certificate) == sha256), "")
