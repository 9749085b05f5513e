"""Join tokens: what is wrong with a pasted one, whom it pins, and that a use is a use."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dkv.access import certificates, join_tokens
from dkv.access.certificates import Owner
from dkv.access.join_tokens import JoinToken
from dkv.domain.access import Joined
from dkv.domain.access import JoinToken as KeptJoinToken
from dkv.domain.admission import MOVE_AGAIN_AFTER, StateHome, judge_join, judge_state_home, unfit_uses
from dkv.domain.decision import Refused

NOW = 1_800_000_000_000
AUTHORITY = certificates.new_authority(Owner("d0"), NOW)
RANDOM = bytes(range(36))
TOKEN = join_tokens.new_join_token(AUTHORITY.certificate, RANDOM)


def wrong(text: str) -> Refused:
    refused = join_tokens.parse(text)
    assert isinstance(refused, Refused), refused
    assert refused.code == "bad_join_token" and refused.hint
    assert TOKEN.secret not in f"{refused.message}{refused.hint}"
    return refused


def test_a_token_is_131_characters_and_comes_back_whole() -> None:
    assert len(TOKEN.text) == 131
    assert join_tokens.parse(TOKEN.text) == TOKEN
    assert join_tokens.parse(f"  {TOKEN.text}\n") == TOKEN
    assert join_tokens.pins(TOKEN, AUTHORITY.certificate) is None
    assert TOKEN.secret not in repr(TOKEN)
    with pytest.raises(ValueError):
        join_tokens.new_join_token(AUTHORITY.certificate, b"short")


def test_a_cut_token_says_how_much_is_missing() -> None:
    assert "7 characters short" in wrong(TOKEN.text[:-7]).message
    for size in range(5, len(TOKEN.text)):
        assert "not whole" in wrong(TOKEN.text[:size]).message
    assert "not whole" in wrong(TOKEN.text + "0").message and "not whole" in wrong(TOKEN.text.replace(".", "")).message


def test_one_changed_character_anywhere_is_noticed() -> None:
    for place, char in enumerate(TOKEN.text):
        for other in ("x", "0", "A", "é", "\n", "."):
            if other != char:
                wrong(TOKEN.text[:place] + other + TOKEN.text[place + 1 :])
    changed = TOKEN.text[:90] + ("A" if TOKEN.text[90] != "A" else "B") + TOKEN.text[91:]
    assert "checksum" in wrong(changed).message


def test_what_is_no_join_token_is_refused_as_such() -> None:
    for text in ("", "dkvt_0123456789ab_x", "hello", "\x00", "\ud800", "x" * 100_000, "dkv1", "dkv1.", "dkv1...."):
        assert "join token" in wrong(text).message


def test_another_authority_is_refused_before_anything_is_sent() -> None:
    other = certificates.new_authority(Owner("d0"), NOW)
    refused = join_tokens.pins(TOKEN, other.certificate)
    assert refused and refused.code == "bad_join_token" and TOKEN.pin[:16] in refused.message
    unreadable = join_tokens.pins(TOKEN, "<html>")
    assert unreadable and unreadable.code == "bad_certificate"


# What the domain says ------------------------------------------------------------------------------------------------

KEPT = KeptJoinToken(TOKEN.token_id, join_tokens.hashed(TOKEN.secret), expires_at=NOW + 3_600_000)
FIRST, SECOND = Joined("u5", "k5"), Joined("u6", "k6")


def admitted(known: KeptJoinToken | None, joining: Joined, now: int = NOW, token: JoinToken = TOKEN) -> str:
    refused = judge_join(known, token.token_id, join_tokens.hashed(token.secret), joining, now)
    assert refused is None or (refused.code == "bad_join_token" and refused.hint)
    return refused.message if refused else ""


def test_a_good_token_admits_once_and_a_repeat_by_the_same_key_is_the_same_use() -> None:
    assert admitted(KEPT, FIRST) == ""
    used = KeptJoinToken(**{**vars(KEPT), "used_by": (FIRST,)})
    assert admitted(used, FIRST) == ""
    assert admitted(used, FIRST, NOW + 99_999_999) == ""  # it was admitted; its answer may have been lost
    assert "used already, last by the server with uid u5" in admitted(used, SECOND)
    assert "used already" in admitted(used, Joined("u5", "another key"))


def test_an_expired_token_says_so_and_an_unknown_one_is_as_a_wrong_secret() -> None:
    assert admitted(KEPT, FIRST, NOW + 3_599_999) == ""
    assert "expired 2 minutes ago" in admitted(KEPT, FIRST, NOW + 3_720_000)
    guessed = join_tokens.new_join_token(AUTHORITY.certificate, RANDOM[:4] + bytes(32))
    assert admitted(KEPT, FIRST, token=guessed) == admitted(None, FIRST) != ""


def test_uses_have_bounds() -> None:
    assert unfit_uses(1) is None and unfit_uses(1_000) is None
    for uses in (0, -1, 1_001):
        refused = unfit_uses(uses)
        assert refused and refused.code == "bad_value" and str(uses) in refused.message


# Where a new server finds the state -----------------------------------------------------------------------------------

FILE = StateHome(shared=False, on_this_machine=False, joiner="the server at 10.0.0.12")


@pytest.mark.parametrize(
    ("home", "code", "words"),
    [
        (replace(FILE, shared=True, joiner_cannot="no etcd"), "", ""),
        (replace(FILE, on_this_machine=True, joiner_cannot="no etcd"), "", ""),
        (FILE, "state_moving", "the join token was not used"),
        (replace(FILE, joiner_cannot="no etcd"), "state_cannot_move", "because the server at 10.0.0.12 cannot run it: no etcd"),
        (replace(FILE, this_cannot="no etcd"), "state_cannot_move", "because this manager cannot run it: no etcd"),
        (replace(FILE, joiner_cannot="a", this_cannot="b"), "state_cannot_move", "cannot run it: a"),
        (replace(FILE, trouble="disk full", failed_ago=1.0), "state_cannot_move", "cannot run it: disk full"),
        (replace(FILE, trouble="disk full", failed_ago=MOVE_AGAIN_AFTER), "state_moving", "the join token was not used"),
    ],
)
def test_where_a_new_server_finds_the_state(home: StateHome, code: str, words: str) -> None:
    refused = judge_state_home(home)
    assert (refused.code if refused else "") == code
    assert words in (f"{refused.message} {refused.hint}" if refused else "")
