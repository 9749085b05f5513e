"""API: who a certificate is for, who signed it and until when: as much of its DER as that takes (RFC 5280, section 4)."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass

NAMES = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "1.2.840.113549.1.9.1": "emailAddress",
    "0.9.2342.19200300.100.1.25": "DC",
}
SEQUENCE, SET, OID, UTC_TIME, TIME, VERSION = 0x30, 0x31, 0x06, 0x17, 0x18, 0xA0


class NoCertificate(ValueError):
    """The text is not a certificate in PEM."""


@dataclass(frozen=True)
class Certificate:
    """What people ask of a certificate. `expires` is a UTC time like 2030-01-31T12:00:00Z."""

    subject: str
    issuer: str
    expires: str


def read(pem: str) -> Certificate:
    """The first certificate of a PEM text. Raises NoCertificate."""
    try:
        outer = _children(_content(ssl.PEM_cert_to_DER_cert(pem.strip()), SEQUENCE))
        fields = list(_children(_of(next(outer), SEQUENCE)))
        if fields[0][0] == VERSION:
            fields = fields[1:]
        _, _, issuer, validity, subject, *_ = fields
        _, until = _children(_of(validity, SEQUENCE))
        return Certificate(_name(_of(subject, SEQUENCE)), _name(_of(issuer, SEQUENCE)), _time(until))
    except (ValueError, IndexError, StopIteration) as error:
        raise NoCertificate(str(error) or "it ends too early") from error


Part = tuple[int, bytes]  # tag and contents


def _children(data: bytes) -> Iterator[Part]:
    """The parts that stand one after the other in a part's contents."""
    at = 0
    while at < len(data):
        tag, size = data[at], data[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(data[at : at + count], "big")
            at += count
        if at + size > len(data):
            raise ValueError("it ends too early")
        yield tag, data[at : at + size]
        at += size


def _content(data: bytes, tag: int) -> bytes:
    return _of(next(_children(data)), tag)


def _of(part: Part, tag: int) -> bytes:
    if part[0] != tag:
        raise ValueError(f"it has a part {part[0]:#x} where {tag:#x} belongs")
    return part[1]


def _name(data: bytes) -> str:
    words = []
    for part in _children(data):
        for pair in _children(_of(part, SET)):
            key, value = _children(_of(pair, SEQUENCE))
            oid = _oid(_of(key, OID))
            words.append(f"{NAMES.get(oid, oid)}={value[1].decode('utf-8', 'replace')}")
    return ", ".join(words)


def _oid(data: bytes) -> str:
    numbers, value = [data[0] // 40, data[0] % 40], 0
    for byte in data[1:]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    return ".".join(str(number) for number in numbers)


def _time(part: Part) -> str:
    """UTCTime has two digits of the year, 50 to 99 of the last century."""
    tag, text = part[0], part[1].decode("ascii")
    if tag == UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != TIME:
        raise ValueError(f"it has a part {tag:#x} where a time belongs")
    if len(text) != 15 or not text[:14].isdigit():
        raise ValueError(f"'{text}' is no time")
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:12]}:{text[12:14]}Z"
