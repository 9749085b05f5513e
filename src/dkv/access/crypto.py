"""Access: the only module that uses the library `cryptography`: keys, certificates, sealed secrets, password hashes.

Keys and certificates are PEM texts, times are wall-clock milliseconds. Nothing here decides whether a certificate is
trusted: certificates.py does.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

from cryptography import x509
from cryptography.exceptions import InvalidKey, InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER_AUTH, CLIENT_AUTH = "serverAuth", "clientAuth"
_USAGES = {ExtendedKeyUsageOID.SERVER_AUTH: SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH: CLIENT_AUTH}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NONCE = 12  # bytes, as AES-GCM takes them
_LONGEST_NAME = 64  # characters of a common name (RFC 5280, upper bounds)

# OWASP's second choice of Argon2id: 19 MiB, two passes. About 40 ms of one core.
_MEMORY_KIB, _PASSES, _LANES, _SALT, _DIGEST = 19_456, 2, 1, 16, 32

_UNREADABLE = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)  # what the library raises for a text or bytes that are not what they should be


class Malformed(ValueError):
    """A text is no certificate, key or request that can be used; the message is a clause that says why."""


class WrongKey(ValueError):
    """A sealed text was not sealed with that key and label, or was changed."""


@dataclass(frozen=True)
class Certificate:
    """What a certificate says. `fingerprint` is the SHA-256 of its DER, `public_key` that of its key's, both in hex."""

    subject: str
    issuer: str
    serial: int
    not_before: int
    not_after: int
    is_authority: bool
    uris: tuple[str, ...]
    names: tuple[str, ...]
    addresses: tuple[str, ...]
    usages: frozenset[str]
    fingerprint: str
    public_key: str


@dataclass(frozen=True)
class Names:
    """What a leaf is for: the common name, and its subject alternative names."""

    common: str
    uri: str
    names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key."""

    certificate: str
    key: str


# Keys and requests ---------------------------------------------------------------------------------------------------


def new_key() -> str:
    """A new private key on the curve P-256."""
    return _key_text(ec.generate_private_key(ec.SECP256R1()))


def new_request(key: str) -> str:
    """A request to sign that key. It names nothing: the signer writes the names. Raises Malformed."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return _text(builder.sign(_key(key), hashes.SHA256()))


def requested_key(request: str) -> str:
    """The public key that a request asks to be signed; whatever else it asks for is not looked at. Raises Malformed."""
    try:
        parsed = x509.load_pem_x509_csr(request.encode())
        key = parsed.public_key()
        signed = parsed.is_signature_valid
    except _UNREADABLE as error:
        raise Malformed("it is no certificate request in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Malformed("its key is not on the curve P-256")
    if not signed:
        raise Malformed("it is not signed by the key that it asks for")
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def public_key_of(key: str) -> str:
    """The public half of a private key. Raises Malformed."""
    public = _key(key).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def _key(text: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except _UNREADABLE as error:
        raise Malformed("it is no private key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Malformed("it is no private key on an elliptic curve")
    return key


def _key_text(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def _text(signed: x509.Certificate | x509.CertificateSigningRequest) -> str:
    return signed.public_bytes(serialization.Encoding.PEM).decode()


# Signing -------------------------------------------------------------------------------------------------------------


def sign_authority(key: str, name: str, not_before: int, not_after: int) -> str:
    """A certificate authority of that key, signed by itself, which may sign leaves only. Raises Malformed."""
    private = _key(key)
    public = private.public_key()
    subject = _name(name)
    builder = _begun(subject, subject, public, not_before, not_after)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    return _text(builder.sign(private, hashes.SHA256()))


def sign_leaf(authority: KeyPair, public_key: str, names: Names, not_before: int, not_after: int) -> str:
    """A certificate of that public key for a server that both accepts and opens connections. Raises Malformed."""
    issuer = _certificate(authority.certificate)
    public = _public(public_key)
    builder = _begun(_name(names.common), issuer.subject, public, not_before, not_after)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs=False), critical=True)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(cast("ec.EllipticCurvePublicKey", issuer.public_key()))
    builder = builder.add_extension(above, critical=False)
    return _text(builder.sign(_key(authority.key), hashes.SHA256()))


def _begun(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, not_before: int, not_after: int
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(_time(not_before)).not_valid_after(_time(not_after))


def _public(text: str) -> ec.EllipticCurvePublicKey:
    try:
        key = serialization.load_pem_public_key(text.encode())
    except _UNREADABLE as error:
        raise Malformed("it is no public key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Malformed("it is no public key on an elliptic curve")
    return key


def _name(common: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:_LONGEST_NAME])])
    except ValueError as error:
        raise Malformed("its name is empty") from error


def _general_names(names: Names) -> list[x509.GeneralName]:
    try:
        general_names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(names.uri)]
        general_names += [x509.IPAddress(ipaddress.ip_address(address)) for address in names.addresses]
        return general_names + [x509.DNSName(name) for name in names.names]
    except (ValueError, TypeError) as error:
        raise Malformed(f"one of its names cannot stand in a certificate: {error}") from error


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _time(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


def _milliseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(milliseconds=1)


# Reading -------------------------------------------------------------------------------------------------------------


def read(certificate: str | bytes) -> Certificate:
    """What a certificate in PEM, or in DER as a connection has it, says. Raises Malformed."""
    parsed = _certificate(certificate)
    try:
        return _read(parsed)
    except _UNREADABLE as error:
        raise Malformed(f"it has a part that cannot be read: {str(error)[:80]}") from error


def _certificate(certificate: str | bytes) -> x509.Certificate:
    try:
        if isinstance(certificate, bytes):
            return x509.load_der_x509_certificate(certificate)
        return x509.load_pem_x509_certificate(certificate.encode())
    except _UNREADABLE as error:
        raise Malformed("it is no certificate") from error


def _read(parsed: x509.Certificate) -> Certificate:
    extensions = {type(extension.value): extension.value for extension in parsed.extensions}
    names = cast("x509.SubjectAlternativeName | None", extensions.get(x509.SubjectAlternativeName))
    basic = cast("x509.BasicConstraints | None", extensions.get(x509.BasicConstraints))
    usages = cast("x509.ExtendedKeyUsage | None", extensions.get(x509.ExtendedKeyUsage))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = parsed.public_key().public_bytes(serialization.Encoding.DER, form)
    return Certificate(
        subject=parsed.subject.rfc4514_string(),
        issuer=parsed.issuer.rfc4514_string(),
        serial=parsed.serial_number,
        not_before=_milliseconds(parsed.not_valid_before_utc),
        not_after=_milliseconds(parsed.not_valid_after_utc),
        is_authority=basic is not None and basic.ca,
        uris=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)) if names else (),
        names=tuple(names.get_values_for_type(x509.DNSName)) if names else (),
        addresses=tuple(str(address) for address in names.get_values_for_type(x509.IPAddress)) if names else (),
        usages=frozenset(_USAGES[usage] for usage in usages or () if usage in _USAGES),
        fingerprint=parsed.fingerprint(hashes.SHA256()).hex(),
        public_key=hashlib.sha256(public).hexdigest(),
    )


def validity(certificate: str | bytes) -> tuple[int, int]:
    """From when until when a certificate counts. Raises Malformed."""
    parsed = _certificate(certificate)
    return _milliseconds(parsed.not_valid_before_utc), _milliseconds(parsed.not_valid_after_utc)


def in_der(certificate: str) -> bytes:
    """A certificate in DER, the bytes that a fingerprint is made of. Raises Malformed."""
    return _certificate(certificate).public_bytes(serialization.Encoding.DER)


def is_issued_by(certificate: str | bytes, authority: str) -> bool:
    """Whether that authority itself signed the certificate, with nothing between them. Raises Malformed."""
    issuer = _certificate(authority)
    try:
        _certificate(certificate).verify_directly_issued_by(issuer)
    except (InvalidSignature, *_UNREADABLE):
        return False
    return True


def belongs_to(certificate: str, key: str) -> bool:
    """Whether a certificate is of that private key. Raises Malformed."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    encoding = serialization.Encoding.DER
    public = _certificate(certificate).public_key()
    return public.public_bytes(encoding, form) == _key(key).public_key().public_bytes(encoding, form)


# Sealing -------------------------------------------------------------------------------------------------------------


def new_sealing_key() -> bytes:
    """256 random bits that seal and open."""
    return AESGCM.generate_key(256)


def seal(key: bytes, label: str, secret: str) -> str:
    """A secret that only the key opens, and only under the same label. Hex."""
    nonce = os.urandom(_NONCE)
    return (nonce + AESGCM(key).encrypt(nonce, secret.encode(), label.encode())).hex()


def unseal(key: bytes, label: str, sealed: str) -> str:
    """What was sealed. Raises WrongKey, also for a text that is no sealed one."""
    try:
        data = bytes.fromhex(sealed)
        return AESGCM(key).decrypt(data[:_NONCE], data[_NONCE:], label.encode()).decode()
    except (ValueError, InvalidTag) as error:
        raise WrongKey("it was sealed with another key, or was changed") from error


# Passwords -----------------------------------------------------------------------------------------------------------


def hash_password(password: bytes) -> str:
    """An Argon2id hash in the PHC format, different each time. Takes some 40 ms and 19 MiB: not for an event loop."""
    salt = os.urandom(_SALT)
    kdf = Argon2id(salt=salt, length=_DIGEST, iterations=_PASSES, lanes=_LANES, memory_cost=_MEMORY_KIB)
    return kdf.derive_phc_encoded(password)


def fits_password(password: bytes, hashed: str) -> bool:
    """Whether a password was hashed so; in constant time. A text that is no such hash fits nothing. As slow as hashing."""
    try:
        Argon2id.verify_phc_encoded(password, hashed)
    except (InvalidKey, ValueError, UnsupportedAlgorithm):
        return False
    return True
