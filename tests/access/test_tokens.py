"""Tokens and passwords: what is taken, what is said of the rest, and that a stranger costs the same work as a friend."""

from __future__ import annotations

import base64

import pytest

from dkv.access import crypto, passwords, tokens
from dkv.access.passwords import Credentials, Verifier
from dkv.domain.access import Token, User
from dkv.domain.admission import DAY, unfit_label, unfit_lifetime, unfit_user_name, unknown_role
from dkv.domain.decision import Refused

NOW = 1_800_000_000_000
SECRET = tokens.new_secret(bytes(range(38)))
KEPT = {SECRET.token_id: Token(SECRET.token_id, SECRET.hashed, "viewer", expires_at=NOW + DAY)}


def said(text: str, now: int = NOW) -> str:
    verdict = tokens.judge_token(text, KEPT, now)
    if isinstance(verdict, Token):
        return ""
    assert verdict.code == "unauthenticated" and verdict.hint
    assert SECRET.secret not in f"{verdict.message}{verdict.hint}"
    return verdict.message


def test_a_token_is_taken_until_it_expires() -> None:
    assert SECRET.text == f"dkvt_000102030405_{SECRET.secret}" and len(SECRET.secret) == 43
    assert said(SECRET.text) == said(SECRET.text, NOW + DAY - 1) == ""
    assert "expired at 2027-01-16T08:00:00Z" in said(SECRET.text, NOW + DAY)
    assert SECRET.secret not in repr(SECRET)
    with pytest.raises(ValueError):
        tokens.new_secret(b"")


def test_an_unknown_id_is_answered_as_a_wrong_secret() -> None:
    wrong = tokens.new_secret(bytes(range(6)) + bytes(32))
    unknown = tokens.new_secret(bytes(38))
    assert wrong.token_id == SECRET.token_id and said(wrong.text) == said(unknown.text) != ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dkvt_",
        SECRET.text[:-1],
        SECRET.text + "x",
        SECRET.text.upper(),
        " " + SECRET.text,
        SECRET.text + "\n",
        "\ud800",
        "x" * 99_999,
    ],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    assert "not whole" in said(text)


# Passwords -----------------------------------------------------------------------------------------------------------


def basic(pair: bytes) -> Credentials | None:
    return passwords.basic_credentials(base64.b64encode(pair).decode())


def test_basic_credentials_are_read_as_utf_8_or_else_as_latin_1() -> None:
    assert basic("ada:pässw:rd".encode()) == basic("ada:pässw:rd".encode("latin-1")) == Credentials("ada", "pässw:rd".encode())
    assert basic(b"ada:") == Credentials("ada", b"")
    assert "hush" not in repr(basic(b"ada:hush"))


@pytest.mark.parametrize("header", ["", "!", "YQ", "YWRh", "Og==", "OnB3", "é", "YWRh\n", "A" * 5_000, "\ud800"])
def test_what_is_no_basic_credentials_is_none(header: str) -> None:
    assert passwords.basic_credentials(header) is None


def test_a_password_is_kept_as_argon2id_and_never_twice_the_same() -> None:
    first, second = passwords.hash_password("pässw"), passwords.hash_password("pässw")
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$") and first != second
    assert passwords.fits("pässw".encode(), first) and not passwords.fits(b"passw", first)
    assert not passwords.is_old(first)
    for stored in ("", "x", first[:-3], "$argon2id$", "scrypt$", "scrypt$a$8$1$00$00"):
        assert not passwords.fits(b"", stored)


def test_a_hash_of_an_earlier_version_still_fits() -> None:
    old = "scrypt$16384$8$1$000102030405060708090a0b0c0d0e0f$"
    import hashlib

    old += hashlib.scrypt(b"pw", salt=bytes(range(16)), n=16_384, r=8, p=1, maxmem=64_000_000).hex()
    assert passwords.is_old(old) and passwords.fits(b"pw", old) and not passwords.fits(b"pW", old)


class Counting:
    """A hash that is quick, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.now = 0.0

    def fits(self, password: bytes, stored: str) -> bool:
        self.asked.append(stored)
        return stored == "hash of " + password.decode()


ADA = User("ada", ("viewer",), password="hash of pw")


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def verifier(counting: Counting) -> Verifier:
    return Verifier(b"key", lambda: counting.now, counting.fits)


def test_every_refusal_costs_one_verification_whoever_is_named(verifier: Verifier, counting: Counting) -> None:
    certified = User("bob", fingerprint="f" * 64, certificate="pem")
    long = Credentials("ada", b"x" * 100_000)
    for number, (shown, known) in enumerate(
        [
            (Credentials("ada", b"no"), ADA),
            (Credentials("eve", b"pw"), None),
            (Credentials("bob", b"pw"), certified),
            (long, ADA),
        ],
        1,
    ):
        assert not verifier.verify(shown, known)
        assert len(counting.asked) == number
    strangers = counting.asked[1]
    assert strangers.split("$")[:4] == crypto.hash_password(b"").split("$")[:4]  # of the same effort as a real one


def test_a_stranger_is_not_let_in_by_the_hash_that_stands_for_nobody() -> None:
    verifier = Verifier(b"key", lambda: 0.0)
    assert not verifier.verify(Credentials("eve", b"key"), None)


def test_what_fitted_is_remembered_for_a_minute_and_what_did_not_is_not(verifier: Verifier, counting: Counting) -> None:
    shown = Credentials("ada", b"pw")
    assert not verifier.remembers(shown, ADA)
    assert verifier.verify(shown, ADA) and verifier.remembers(shown, ADA)
    assert not verifier.remembers(shown, None)
    assert not verifier.remembers(Credentials("ada", b"pW"), ADA)
    assert not verifier.remembers(shown, User("ada", ("admin",), password="hash of other"))  # changed meanwhile
    assert not verifier.verify(Credentials("ada", b"no"), ADA) and not verifier.remembers(Credentials("ada", b"no"), ADA)
    counting.now = 59.9
    assert verifier.remembers(shown, ADA)
    counting.now = 60.1
    assert not verifier.remembers(shown, ADA)


def test_the_memory_of_passwords_has_a_bound(verifier: Verifier, counting: Counting) -> None:
    for number in range(1_100):
        name = f"u{number}"
        assert verifier.verify(Credentials(name, b"pw"), User(name, password="hash of pw"))
    assert not verifier.remembers(Credentials("u0", b"pw"), User("u0", password="hash of pw"))
    assert verifier.remembers(Credentials("u1099", b"pw"), User("u1099", password="hash of pw"))


# Bad input -----------------------------------------------------------------------------------------------------------


def hinted(refused: Refused | None, *words: str) -> None:
    assert refused and refused.hint and all(word in f"{refused.message}{refused.hint}" for word in words), refused


def test_lifetimes_names_and_roles_are_bounded() -> None:
    assert unfit_lifetime(1_000) is None and unfit_lifetime(100 * 365 * DAY) is None
    for lasts in (0, -1, 999, 101 * 366 * DAY):
        hinted(unfit_lifetime(lasts), str(lasts))
    assert unfit_label("Token", "") is None and unfit_label("Token", "n" * 200) is None
    for name in ("n" * 201, "a\x1bb", "a\nb", " a", "a\u202eb"):
        hinted(unfit_label("Token", name), "200 printable")
    assert unfit_user_name("ada@example") is None
    for name in ("", "a:b", "a/b", "n" * 201, "\x07"):
        hinted(unfit_user_name(name), "colon")
    hinted(unknown_role({}, ["viewer", "vewer"]), "vewer", "viewer")
    hinted(unknown_role({}, ["server"]), "no role named server")
    assert unknown_role({}, ["admin", "metrics"]) is None
