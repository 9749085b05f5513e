"""Access: certificate authorities, the leaves they sign, when a leaf is renewed, and whether a leaf is believed.

An authority belongs to one domain, or to one database, whose engines believe every leaf of it; so each signs for its own
machines only, and for no person. Judgement is pure: the clock, the jitter and the living servers are arguments. Times are
wall-clock milliseconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dkv.access import crypto
from dkv.access.crypto import KeyPair, Malformed, Names
from dkv.access.moments import moment
from dkv.address import is_address
from dkv.domain.constants import DAY
from dkv.domain.decision import Refused
from dkv.domain.refusals import no

BACKDATED = 300_000  # ms: clocks of two machines differ
AUTHORITY_DAYS = 3_650
LEAF_DAYS = 90
RENEW_AFTER_DAYS = 60
JITTER = 3 * DAY  # ms a renewal may be later, so that not all servers renew at once
AGAIN = "The manager of a living server renews its certificate by itself: look at its log and at its clock."


@dataclass(frozen=True)
class Owner:
    """Whose certificates these are: a domain's managers, or the engines of one database of it."""

    domain: str  # uid
    database: str = ""  # uid; empty: the managers

    @property
    def common_name(self) -> str:
        """What its authority is called, for people who look into a certificate."""
        return f"dkv database {self.database[:24]}" if self.database else f"dkv domain {self.domain[:24]}"

    def uri_of(self, server_uid: str) -> str:
        """How a leaf of one server names it: nothing else in a leaf says who it is."""
        middle = f"/database/{self.database}" if self.database else ""
        return f"dkv://{self.domain}{middle}/server/{server_uid}"

    def server_in(self, uri: str) -> str:
        """The server's uid that such a URI names; empty for any other URI."""
        start = self.uri_of("")
        rest = uri.removeprefix(start)
        return rest if uri.startswith(start) and rest and "/" not in rest else ""


@dataclass(frozen=True)
class Reachable:
    """Under which names and addresses one server is reached, as its leaf says to clients."""

    server_uid: str
    addresses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def reachable(server_uid: str, *hosts: str) -> Reachable:
    """A server that is reached at these addresses and names."""
    addresses = tuple(host for host in hosts if is_address(host))
    return Reachable(server_uid, addresses, tuple(host for host in hosts if host not in addresses))


# Signing -------------------------------------------------------------------------------------------------------------


def new_authority(owner: Owner, now: int) -> KeyPair:
    """A new authority of ten years."""
    key = crypto.new_key()
    end = now + AUTHORITY_DAYS * DAY
    return KeyPair(crypto.sign_authority(key, owner.common_name, now - BACKDATED, end), key)


def sign_leaf(authority: KeyPair, owner: Owner, server: Reachable, request: str, now: int) -> str:
    """A leaf of 90 days for the key of a request. All names come from here; what the request asks for does not count.

    Raises Malformed for a request that is none, or whose key is not of our kind.
    """
    names = Names(f"dkv server {server.server_uid[:24]}", owner.uri_of(server.server_uid), server.names, server.addresses)
    public = crypto.requested_key(request)
    return crypto.sign_leaf(authority, public, names, now - BACKDATED, now + LEAF_DAYS * DAY)


def new_leaf(authority: KeyPair, owner: Owner, server: Reachable, now: int) -> KeyPair:
    """A leaf with a new key, for a server that keeps the authority's key itself."""
    key = crypto.new_key()
    return KeyPair(sign_leaf(authority, owner, server, crypto.new_request(key), now), key)


# Renewal -------------------------------------------------------------------------------------------------------------


def jitter_of(server_uid: str) -> float:
    """From 0 to 1, for ever the same for one server: how much later than others it renews."""
    return int(hashlib.sha256(server_uid.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


def renewal_at(leaf: str, jitter: float) -> int:
    """When a leaf is renewed: 60 days after it was signed and up to three days more, by a `jitter` from 0 to 1.

    Raises Malformed.
    """
    read = crypto.read(leaf)
    return read.not_before + BACKDATED + RENEW_AFTER_DAYS * DAY + int(JITTER * min(max(jitter, 0.0), 1.0))


def must_renew(leaf: str, authority: str, server: Reachable, now: int, jitter: float) -> str:
    """Why a server's own leaf has to be signed anew now, as a clause; empty while it need not be.

    A leaf that cannot be read, is of another authority, or names other addresses is renewed at once.
    """
    try:
        read = crypto.read(leaf)
        if not crypto.is_issued_by(leaf, authority):
            return "it is of another authority"
        if now >= read.not_after:
            return "it has expired"
        if now < read.not_before:
            return "it is not valid yet"
        if set(read.addresses) != set(server.addresses) or set(read.names) != set(server.names):
            return "the server is reached under other addresses or names"
        return "it is more than 60 days old" if now >= renewal_at(leaf, jitter) else ""
    except Malformed as error:
        return f"it cannot be used: {error}"


def days_left(certificate: str, now: int) -> int:
    """Whole days until a certificate ends; negative once it has. Raises Malformed."""
    return (crypto.read(certificate).not_after - now) // DAY


# Judging -------------------------------------------------------------------------------------------------------------


def judge_peer(leaf: str | bytes, authorities: Sequence[str], owner: Owner, living: Collection[str], now: int) -> str | Refused:
    """The uid of the server that shows this leaf, or why it is not believed.

    The chain of a connection may hold more than the leaf; what counts is that one of the authorities issued the leaf itself,
    for a server that is in the domain now.
    """
    try:
        read = crypto.read(leaf)
        issued = any(crypto.is_issued_by(leaf, authority) for authority in authorities)
    except Malformed as error:
        return no("bad_certificate", f"The certificate cannot be used: {error}.", "Send one in PEM, or in DER by the connection.")
    if not issued:
        return no(
            "bad_certificate",
            f"The certificate of {read.subject or 'an unnamed subject'} was not issued by this domain's authority itself.",
            "Only a server that joined the domain has such a certificate; make it join again with a new join token.",
        )
    if read.is_authority:
        return no("bad_certificate", "The certificate is an authority's, not a server's.", AGAIN)
    if dated := _out_of_date(read.not_before, read.not_after, now):
        return dated
    if not {crypto.SERVER_AUTH, crypto.CLIENT_AUTH} <= read.usages:
        return no("bad_certificate", "The certificate is not for a server and a client at once.", AGAIN)
    return _server_of(read, owner, living)


def out_of_date(certificate: str | bytes, now: int) -> Refused | None:
    """Why a certificate that somebody registered does not count now, whoever signed it."""
    try:
        begins, ends = crypto.validity(certificate)
    except Malformed as error:
        return no("bad_certificate", f"The certificate cannot be used: {error}.", "Register another one.")
    return _out_of_date(begins, ends, now, "Register another one.")


def _out_of_date(begins: int, ends: int, now: int, then: str = AGAIN) -> Refused | None:
    if now >= ends:
        return no("bad_certificate", f"The certificate expired at {moment(ends)}; this machine's clock says {moment(now)}.", then)
    if now < begins:
        return no(
            "bad_certificate",
            f"The certificate is valid from {moment(begins)} on; this machine's clock says {moment(now)}.",
            "Compare the clocks of the two machines.",
        )
    return None


def _server_of(read: crypto.Certificate, owner: Owner, living: Collection[str]) -> str | Refused:
    named = [owner.server_in(uri) for uri in read.uris]
    if len(named) != 1 or not named[0]:
        return no(
            "bad_certificate",
            f"The certificate names {', '.join(read.uris) or 'no server'}, which is no server of this domain.",
            "Use the certificate that the server was given when it joined.",
        )
    if named[0] not in living:
        return no(
            "bad_certificate",
            f"The certificate is of the server with uid {named[0]}, which is not in the domain.",
            "If it was deleted by mistake, make it join again with a new join token.",
        )
    return named[0]


def judge_own(pair: KeyPair, authority: str, now: int) -> Refused | None:
    """Why a leaf with its key must not be given to a listener or an engine, which would take it without looking."""
    try:
        read = crypto.read(pair.certificate)
        keyed = crypto.belongs_to(pair.certificate, pair.key)
        issued = crypto.is_issued_by(pair.certificate, authority)
    except Malformed as error:
        return no("bad_certificate", f"The certificate or its key cannot be used: {error}.", AGAIN)
    if not keyed:
        return no("bad_certificate", "The private key is not the certificate's.", "Have both made anew.")
    if not issued or read.is_authority:
        return no("bad_certificate", "The certificate was not issued by the authority itself.", "Have it signed anew.")
    return _out_of_date(read.not_before, read.not_after, now)
