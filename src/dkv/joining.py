"""How a new server joins a domain with a join token, before its manager opens any state.

Whom the peer trusts is asked blindly, and only compared with the pin of the token. The secret is sent over a connection whose
other end proved the pinned authority. What the server gets is kept in its data directory; `joined.json` is written last.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dkv import files
from dkv.access import certificates, crypto, join_tokens
from dkv.access.certificate_files import DIRECTORY, CertificateFiles
from dkv.access.certificates import BACKDATED, Owner
from dkv.access.crypto import KeyPair, Malformed
from dkv.access.domain_key import DOMAIN_KEY, KeyFiles, read_key
from dkv.access.join_tokens import JoinToken
from dkv.access.moments import moment
from dkv.client import ClientError, Credentials, Endpoint, HttpTransport, Request, secured
from dkv.client.exchange import NotHttp
from dkv.client.transport import ManagerRefused, judge, parse_endpoint
from dkv.config import Settings
from dkv.data_dir import DataDir
from dkv.domain.decision import Refused
from dkv.domain.refusals import CATALOGUE, no
from dkv.log import logger
from dkv.manager import ManagerError
from dkv.members.place import members_in

log = logger("joining")

JOINED = "joined.json"
SAID_ABOVE = 10_000  # ms that two clocks differ: the answer is on its way for some time too
NO_PLACE = "The peer's answer does not say where the domain state is."
WITHIN = 30.0  # s the peer has to answer
MOVING, MOVES_WITHIN, PAUSE = "state_moving", 60.0, 0.5  # s that the domain's state may move, and between two questions
ANOTHER = "Make a new one on a server of the domain: dkv create join-token."


@dataclass(frozen=True)
class Joining:
    """What a server joins with: the text of a join token, and the address of a manager of the domain."""

    token: str
    peer: str


@dataclass(frozen=True)
class Membership:
    """The domain that a data directory joined, where its state is, and the id of the token that it was joined with."""

    domain: str
    state: str
    token: str


class JoinError(ManagerError):
    """This server cannot join."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message, refused.hint)
        self.code = refused.code
        self.exit_code = CATALOGUE[refused.code].exit_code


def membership_of(data_dir: Path) -> Membership | None:
    """What the data directory joined; None for one that did not. Raises ManagerError."""
    try:
        with files.proven(data_dir / JOINED) as file:
            membership = json.loads(file.read())
        return Membership(str(membership["domain"]), str(membership["state"]), str(membership["token"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManagerError(
            f"{data_dir / JOINED} is damaged: it does not name the domain that this server joined.",
            "Put a good copy of it back, or join again with a new join token.",
        ) from error


def join(
    settings: Settings, data_dir: DataDir, joining: Joining, here: str, clock: Callable[[], int], *, why_no_member: str
) -> Membership:
    """Join, unless the data directory did with this very token. `here` is the uid of the domain whose state is here already, ""
    for none; `why_no_member` why this server can run no etcd member; `clock` is wall clock, ms. Raises ManagerError.
    """
    token = join_tokens.parse(joining.token)
    if isinstance(token, Refused):
        raise JoinError(token)
    known = membership_of(data_dir.path)
    if known and known.token == token.token_id:
        return known
    peer = _endpoint(joining.peer)
    shown = _shown(peer)
    authority = _pinned(token, shown)
    _compare_clocks(peer, shown, clock())
    domain = str(shown.get("domainUid"))
    _refuse_another_domain(f"{settings.state} is the state of", here, peer, domain)
    _refuse_another_domain("The setting domain names", settings.domain or "", peer, domain)
    _refuse_another_domain("This server joined", known.domain if known else "", peer, domain)
    own = CertificateFiles(data_dir.path / DIRECTORY)
    key = _own_key(own)
    body = _body(settings, data_dir, token, key, why_no_member)
    answer = _patiently(lambda: _admitted(peer, authority, domain, body, clock))
    pair = _judged(KeyPair(str(answer.get("certificate")), key), authority, domain, data_dir.uid, clock())
    return _keep(own, data_dir, token, pair, answer)


def _endpoint(peer: str) -> Endpoint:
    try:
        return parse_endpoint(peer)._replace(scheme="https")
    except ClientError as error:
        raise ManagerError(error.message, error.hint) from error


def _shown(peer: Endpoint) -> Mapping[str, Any]:
    """What the peer says of itself to everybody; nothing is proven by it."""
    try:
        return secured.shown_authority(peer.host, peer.port, WITHIN)
    except NotHttp as error:
        raise ManagerError(f"What listens at {peer} is no manager under access control.", "Check --join.") from error
    except OSError as error:
        why, hint = secured.failure(error)
        why = why or error.strerror or "it does not answer"
        hint = hint or "Give --join the address of a manager of the domain, and see that it runs."
        raise ManagerError(f"The manager at {peer} cannot be asked: {why}.", hint) from error


def _pinned(token: JoinToken, shown: Mapping[str, Any]) -> str:
    """The authority of the pin. Raises JoinError: the peer names another one."""
    bundle = shown.get("bundle")
    texts = [text for text in bundle if isinstance(text, str)] if isinstance(bundle, list) else []
    try:
        pinned = secured.pinned([certificate for text in texts for certificate in secured.certificates_in(text)], token.pin)
    except ValueError:
        pinned = ""
    if pinned:
        return pinned
    if shown.get("former") == token.pin:
        message = "The join token is of the former authority of this domain; nothing was sent."
        raise JoinError(no("bad_join_token", message, ANOTHER))
    raise JoinError(join_tokens.pins(token, texts[0] if texts else "") or no("bad_join_token", "It names no authority.", ANOTHER))


def _compare_clocks(peer: Endpoint, shown: Mapping[str, Any], now: int) -> None:
    theirs = shown.get("clock")
    if not isinstance(theirs, int) or abs(theirs - now) <= SAID_ABOVE:
        return
    if abs(theirs - now) <= BACKDATED:
        log.warning(
            "the clocks differ; set them, best by NTP: above 5 min certificates are refused",
            here=moment(now),
            peer=str(peer),
            there=moment(theirs),
            seconds=round((now - theirs) / 1000),
        )
        return
    raise ManagerError(
        f"The clocks differ: this machine's says {moment(now)}, that of the manager at {peer} says {moment(theirs)}.",
        "Set the clocks, best by NTP, and repeat this: the join token was not used.",
    )


def _refuse_another_domain(clause: str, here: str, peer: Endpoint, domain: str) -> None:
    """What is here already of another domain, its state or this server's archives, would be left behind or be gone on with."""
    if here and here != domain:
        raise ManagerError(
            f"{clause} the domain {here}; the manager at {peer} is of the domain {domain}.",
            "A server is in one domain: choose another --data-dir, or another --state.",
        )


def _own_key(own: CertificateFiles) -> str:
    """The key that the certificate is asked for. It is kept before it is sent: the same server may repeat its request with it."""
    try:
        key = own.read_key()
        try:
            crypto.public_key_of(key)
        except Malformed:
            key = crypto.new_key()
            own.write_key(key)
        return key
    except OSError as error:
        raise ManagerError(f"{own.key} cannot be kept: {error.strerror}.", "Make room and rights.") from error


def _patiently(ask: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """The peer's answer, once the domain's state has moved to where this machine reaches it."""
    give_up, moving = time.monotonic() + MOVES_WITHIN, False
    while True:
        try:
            return ask()
        except ManagerError as error:
            moving = error.code == MOVING if isinstance(error, JoinError) else moving  # its manager begins anew meanwhile
            if not moving or time.monotonic() > give_up:
                raise
        time.sleep(PAUSE)


def _body(settings: Settings, data_dir: DataDir, token: JoinToken, key: str, why_no_member: str) -> bytes:
    body = {
        "token": token.token_id,
        "secret": token.secret,
        "serverId": data_dir.server_id,
        "uid": data_dir.uid,
        "host": settings.bind,
        "request": crypto.new_request(key),
        "whyNoMember": why_no_member,
    }
    return json.dumps(body).encode()


def _admitted(peer: Endpoint, authority: str, domain: str, body: bytes, clock: Callable[[], int]) -> Mapping[str, Any]:
    """The answer of a peer that proved the authority."""

    def secure(plain: socket.socket, endpoint: Endpoint) -> ssl.SSLSocket:
        connection = secured.secure(plain, endpoint.host, authority)
        leaf, owner = connection.getpeercert(binary_form=True) or b"", Owner(domain)
        servers = [owner.server_in(uri) for uri in crypto.read(leaf).uris]
        judged = certificates.judge_peer(leaf, [authority], owner, servers, clock())
        if isinstance(judged, Refused):
            connection.close()
            raise JoinError(judged)
        return connection

    try:
        request = Request("POST", "/admin/v1/join", {"Content-Type": "application/json"}, body)
        reply = HttpTransport(Credentials({}), secure).send(peer, request, WITHIN)
        judge(reply._replace(endpoint=peer))
        return reply.object()
    except ManagerRefused as refused:
        code = refused.code if refused.code in CATALOGUE else "bad_join_token"
        raise JoinError(Refused(code, refused.message, refused.hint)) from refused
    except ClientError as error:
        raise ManagerError(error.message, error.hint) from error


def _judged(pair: KeyPair, authority: str, domain: str, server_uid: str, now: int) -> KeyPair:
    """The certificate that the peer gave. Raises ManagerError unless it is what was asked for."""
    if refused := certificates.judge_own(pair, authority, now):
        raise JoinError(refused)
    if Owner(domain).uri_of(server_uid) not in crypto.read(pair.certificate).uris:
        raise ManagerError("The peer gave a certificate of another server.", "Look at its version and at its log.")
    return pair


def _keep(own: CertificateFiles, data_dir: DataDir, token: JoinToken, pair: KeyPair, answer: Mapping[str, Any]) -> Membership:
    """Keep what the peer gave."""
    key = read_key(str(answer.get("domainKey")))
    if key is None:
        raise ManagerError("The peer's answer has no domain key.", "Look at its version and at its log.")
    membership = Membership(str(answer.get("domainUid")), str(answer.get("state")), token.token_id)
    try:
        members = members_in(str(answer["members"])) if answer.get("members") else None
    except ValueError as error:
        raise ManagerError(NO_PLACE, "Look at its version and at its log.") from error
    try:
        if members:
            members.write(data_dir.path)
        KeyFiles(own.directory / DOMAIN_KEY, None).keep(key)
        own.write_pair(pair)
        own.write_bundle(str(answer.get("bundle")))
        with files.directory(data_dir.path) as folder:
            files.write_new(JOINED, json.dumps(vars(membership)), at=folder)
    except OSError as error:
        hint = "Make room and rights, and repeat this: the same server may use its join token again."
        raise ManagerError(f"What the peer gave cannot be kept: {error.strerror}.", hint) from error
    return membership
