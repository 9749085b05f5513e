"""Certificates: who is believed, when a leaf is renewed, and what a request cannot ask for. The clock is simulated."""

from __future__ import annotations

import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dkv.access import certificates, crypto
from dkv.access.certificates import BACKDATED, DAY, Owner, Reachable
from dkv.access.crypto import KeyPair, Malformed, Names
from dkv.domain.decision import Refused

NOW = 1_800_000_000_000
DOMAIN = Owner("d0")
S1 = Reachable("u1", ("10.0.0.11", "fd00::11"), ("db1.example",))
LIVING = {"u1", "u2"}


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    return certificates.new_authority(DOMAIN, NOW)


@pytest.fixture(scope="module")
def leaf(authority: KeyPair) -> KeyPair:
    return certificates.new_leaf(authority, DOMAIN, S1, NOW)


def judged(leaf: str | bytes, authority: KeyPair, now: int = NOW, owner: Owner = DOMAIN) -> str | Refused:
    return certificates.judge_peer(leaf, [authority.certificate], owner, LIVING, now)


def refused(verdict: str | Refused, words: str) -> None:
    assert isinstance(verdict, Refused), verdict
    assert verdict.code == "bad_certificate" and words in verdict.message and verdict.hint


def test_an_authority_lasts_ten_years_and_signs_leaves_only(authority: KeyPair) -> None:
    read = crypto.read(authority.certificate)
    assert read.is_authority and read.not_before == NOW - BACKDATED
    assert read.not_after == NOW + 3_650 * DAY
    parsed = x509.load_pem_x509_certificate(authority.certificate.encode())
    assert parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_a_leaf_names_its_server_its_addresses_and_names_for_both_sides_of_a_connection(leaf: KeyPair) -> None:
    read = crypto.read(leaf.certificate)
    assert read.uris == ("dkv://d0/server/u1",)
    assert read.addresses == ("10.0.0.11", "fd00::11") and read.names == ("db1.example",)
    assert read.usages == {crypto.SERVER_AUTH, crypto.CLIENT_AUTH} and not read.is_authority
    assert (read.not_before, read.not_after) == (NOW - BACKDATED, NOW + 90 * DAY)


def test_a_living_servers_leaf_is_believed_as_pem_and_as_der(authority: KeyPair, leaf: KeyPair) -> None:
    assert judged(leaf.certificate, authority) == "u1"
    assert judged(crypto.in_der(leaf.certificate), authority) == "u1"


def test_what_a_request_asks_for_does_not_count(authority: KeyPair) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("dkv://d0/server/u2"), x509.DNSName("bank.example")]),
            False,
        )
        .sign(key, hashes.SHA256())
    )
    signed = certificates.sign_leaf(authority, DOMAIN, S1, greedy.public_bytes(serialization.Encoding.PEM).decode(), NOW)
    read = crypto.read(signed)
    assert (read.uris, read.names, read.is_authority) == (("dkv://d0/server/u1",), ("db1.example",), False)
    assert judged(signed, authority) == "u1"


def test_a_request_that_is_broken_or_of_another_kind_of_key_is_not_signed(authority: KeyPair) -> None:
    other = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    weak = other.sign(rsa.generate_private_key(65537, 2048), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    good = crypto.new_request(crypto.new_key())
    lines = good.splitlines()
    flipped = "\n".join([*lines[:-2], lines[-2].translate(str.maketrans("abAB12", "baBA21")), lines[-1]])
    for request in ("", "no request", weak, good[: len(good) // 2], flipped, good.replace("REQUEST", "")):
        with pytest.raises(Malformed):
            certificates.sign_leaf(authority, DOMAIN, S1, request, NOW)


def test_time_decides(authority: KeyPair, leaf: KeyPair) -> None:
    assert judged(leaf.certificate, authority, NOW + 90 * DAY - 1) == "u1"
    refused(judged(leaf.certificate, authority, NOW + 90 * DAY), "expired at 2027-04-15")
    assert judged(leaf.certificate, authority, NOW - BACKDATED) == "u1"
    refused(judged(leaf.certificate, authority, NOW - BACKDATED - 1), "this machine's clock says")


def test_strangers_are_not_believed(authority: KeyPair, leaf: KeyPair) -> None:
    other = certificates.new_authority(DOMAIN, NOW)
    foreign = certificates.new_leaf(other, DOMAIN, S1, NOW)
    refused(judged(foreign.certificate, authority), "not issued by this domain's authority itself")
    elsewhere = certificates.new_leaf(authority, Owner("d1"), S1, NOW)
    refused(judged(elsewhere.certificate, authority), "no server of this domain")
    dead = certificates.new_leaf(authority, DOMAIN, Reachable("u9"), NOW)
    refused(judged(dead.certificate, authority), "uid u9")
    refused(judged(authority.certificate, authority), "an authority's")


def test_an_engines_leaf_is_no_managers_and_the_other_way_round(authority: KeyPair, leaf: KeyPair) -> None:
    engines = Owner("d0", "b7")
    pair = certificates.new_authority(engines, NOW)
    engine = certificates.new_leaf(pair, engines, S1, NOW)
    assert judged(engine.certificate, pair, owner=engines) == "u1"
    refused(judged(engine.certificate, authority), "not issued")
    refused(judged(engine.certificate, pair), "no server of this domain")  # even where its authority is trusted by mistake
    refused(judged(leaf.certificate, authority, owner=engines), "no server of this domain")


def signed_by(issuer: KeyPair, *extensions: x509.ExtensionType, days: int = 90) -> KeyPair:
    """A certificate as a careless or hostile holder of a key would make it."""
    key = ec.generate_private_key(ec.SECP256R1())
    above = x509.load_pem_x509_certificate(issuer.certificate.encode())
    start = dt.datetime.fromtimestamp(NOW / 1000, dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mallory")]))
        .issuer_name(above.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=days))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signer = serialization.load_pem_private_key(issuer.key.encode(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    text = builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    form = serialization.PrivateFormat.PKCS8
    return KeyPair(text, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode())


BOTH = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
AUTHORITY = x509.BasicConstraints(ca=True, path_length=None)


def uris(*texts: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(text) for text in texts])


def test_a_leaf_that_another_leaf_signed_is_not_believed(authority: KeyPair, leaf: KeyPair) -> None:
    below = signed_by(leaf, uris("dkv://d0/server/u2"), BOTH)
    refused(judged(below.certificate, authority), "not issued")
    middle = signed_by(authority, uris("dkv://d0/server/u2"), BOTH, AUTHORITY)
    refused(judged(middle.certificate, authority), "an authority's")
    refused(judged(signed_by(middle, uris("dkv://d0/server/u2"), BOTH).certificate, authority), "not issued")


@pytest.mark.parametrize(
    "extensions",
    [
        (BOTH,),
        (uris("dkv://d0/server/u1", "dkv://d0/server/u2"), BOTH),
        (uris("dkv://d0/server/"), BOTH),
        (uris("dkv://d0/server/u1/x"), BOTH),
        (uris("dkv://d0/server/u1?x"), BOTH),
        (uris("dkv://d00/server/u1"), BOTH),
        (uris("https://d0/server/u1"), BOTH),
        (x509.SubjectAlternativeName([x509.DNSName("dkv.d0.server.u1")]), BOTH),
        (uris("dkv://d0/server/u1"),),
        (uris("dkv://d0/server/u1"), x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])),
    ],
)
def test_a_leaf_of_ours_that_does_not_name_one_server_for_both_sides_is_not_believed(
    authority: KeyPair, extensions: tuple[x509.ExtensionType, ...]
) -> None:
    assert isinstance(judged(signed_by(authority, *extensions).certificate, authority), Refused)


def test_what_is_no_certificate_is_refused_with_a_sentence(authority: KeyPair, leaf: KeyPair) -> None:
    der = crypto.in_der(leaf.certificate)
    pieces: list[str | bytes] = [
        b"",
        b"\x30",
        b"\x00" * 5_000,
        "",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        "\ud800",
    ]
    pieces += [der[:size] for size in range(1, len(der), 37)]
    for piece in pieces:
        refused(judged(piece, authority), "cannot be used")


def test_no_changed_byte_of_a_leaf_is_believed_or_crashes(authority: KeyPair, leaf: KeyPair) -> None:
    der = bytearray(crypto.in_der(leaf.certificate))
    for place in range(0, len(der), 3):
        changed = bytes(der[:place]) + bytes([der[place] ^ 0x41]) + bytes(der[place + 1 :])
        assert isinstance(judged(changed, authority), Refused), place


def test_a_leaf_is_renewed_at_sixty_days_with_jitter(authority: KeyPair, leaf: KeyPair) -> None:
    def due(now: int, jitter: float = 0.0, server: Reachable = S1) -> str:
        return certificates.must_renew(leaf.certificate, authority.certificate, server, now, jitter)

    assert certificates.renewal_at(leaf.certificate, 0.0) == NOW + 60 * DAY
    assert certificates.renewal_at(leaf.certificate, 1.0) == NOW + 63 * DAY
    assert due(NOW) == "" and due(NOW + 60 * DAY - 1) == ""
    assert "60 days" in due(NOW + 60 * DAY)
    assert due(NOW + 62 * DAY, jitter=0.9) == "" and "60 days" in due(NOW + 63 * DAY, jitter=1.0)
    assert "expired" in due(NOW + 800 * DAY)
    assert "not valid yet" in due(NOW - DAY)
    assert "other addresses" in due(NOW, server=Reachable("u1", ("10.0.0.12",), S1.names))
    other = certificates.new_authority(DOMAIN, NOW)
    assert "another authority" in certificates.must_renew(leaf.certificate, other.certificate, S1, NOW, 0.0)
    assert "cannot be used" in certificates.must_renew("", authority.certificate, S1, NOW, 0.0)
    assert certificates.days_left(leaf.certificate, NOW) == 90
    assert certificates.days_left(leaf.certificate, NOW + 91 * DAY) == -1


def test_a_machine_that_was_off_for_two_years_renews_by_itself(authority: KeyPair, leaf: KeyPair) -> None:
    back = NOW + 730 * DAY
    assert certificates.must_renew(leaf.certificate, authority.certificate, S1, back, 0.5)
    again = certificates.new_leaf(authority, DOMAIN, S1, back)
    assert judged(again.certificate, authority, back) == "u1"
    assert certificates.must_renew(again.certificate, authority.certificate, S1, back, 0.5) == ""


def test_a_pair_is_judged_before_an_engine_gets_it(authority: KeyPair, leaf: KeyPair) -> None:
    def unfit(pair: KeyPair, now: int = NOW) -> str:
        verdict = certificates.judge_own(pair, authority.certificate, now)
        return verdict.message if verdict else ""

    assert unfit(leaf) == ""
    assert "expired" in unfit(leaf, NOW + 90 * DAY) and "valid from" in unfit(leaf, NOW - DAY)
    assert "private key" in unfit(KeyPair(leaf.certificate, crypto.new_key()))
    assert "cannot be used" in unfit(KeyPair(leaf.certificate, "")) and "cannot be used" in unfit(KeyPair("", leaf.key))
    assert "authority itself" in unfit(authority)
    foreign = certificates.new_leaf(certificates.new_authority(DOMAIN, NOW), DOMAIN, S1, NOW)
    assert "authority itself" in unfit(foreign)


def test_names_that_cannot_stand_in_a_certificate_are_refused(authority: KeyPair) -> None:
    public = crypto.public_key_of(crypto.new_key())
    for names in (
        Names("x", "dkv://d0", addresses=("300.1.1.1",)),
        Names("x", "dkv://d0", names=("ä.example",)),
        Names("", "dkv://d0"),
    ):
        with pytest.raises(Malformed):
            crypto.sign_leaf(authority, public, names, NOW, NOW + DAY)
    with pytest.raises(Malformed):
        crypto.sign_leaf(authority, "no key", Names("x", "dkv://d0"), NOW, NOW + DAY)


def test_a_sealed_key_opens_with_its_key_and_label_only() -> None:
    key = crypto.new_sealing_key()
    sealed = crypto.seal(key, "domain d0", "the secret")
    assert crypto.unseal(key, "domain d0", sealed) == "the secret"
    assert sealed != crypto.seal(key, "domain d0", "the secret") and b"secret".hex() not in sealed
    for wrong in ((key, "database b7", sealed), (crypto.new_sealing_key(), "domain d0", sealed), (key, "domain d0", sealed[:-2])):
        with pytest.raises(crypto.WrongKey):
            crypto.unseal(*wrong)
    for text in ("", "zz", sealed[:10], sealed[:-2] + ("00" if sealed[-2:] != "00" else "11")):
        with pytest.raises(crypto.WrongKey):
            crypto.unseal(key, "domain d0", text)
