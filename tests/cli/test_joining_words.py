"""The words that have a new server join: `dkv manager run --join HOST:PORT`, and where its token comes from."""

from __future__ import annotations

import io

import pytest

from dkv.cli import nouns, programs
from dkv.cli.binding import bind, from_argv
from dkv.cli.errors import Usage
from dkv.cli.output import Screen
from dkv.cli.session import Session
from dkv.joining import Joining

JOIN = ("--join", "10.0.0.11:7801")


def joining(*words: str, **environ: str) -> Joining | None:
    verb = nouns.find("manager run")
    assert verb is not None
    session = Session(screen=Screen(io.StringIO(), io.StringIO()), environ=environ)
    return programs._joining(session, bind(verb, from_argv(words), {}))  # type: ignore[no-any-return]


def test_a_server_joins_by_the_address_and_the_token(tmp_path) -> None:  # type: ignore[no-untyped-def]
    wanted = Joining("dkv1.a", "10.0.0.11:7801")
    file = tmp_path / "token"
    file.write_text("dkv1.a\n")
    assert joining(*JOIN, "--token", "dkv1.a") == wanted
    assert joining(*JOIN, "--token-file", str(file)) == wanted
    assert joining(*JOIN, DKV_JOIN_TOKEN="dkv1.a") == wanted
    assert joining() is None and joining(DKV_JOIN_TOKEN="dkv1.a") is None


def test_a_token_comes_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("dkv1.a\n"))
    assert joining(*JOIN, "--token", "-") == Joining("dkv1.a", "10.0.0.11:7801")


def test_the_former_words_go_on(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "token"
    file.write_text("dkv1.a\n")
    wanted = Joining("dkv1.a", "10.0.0.11")
    assert joining("--peer", "10.0.0.11", "--join", "dkv1.a") == wanted
    assert joining("--peer", "10.0.0.11", "--join-file", str(file)) == wanted
    assert joining("--peer", "10.0.0.11", DKV_JOIN_TOKEN="dkv1.a") == wanted


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (JOIN, "--join needs a join token."),
        (("--token", "dkv1.a"), "A join token needs a manager to show it to."),
        ((*JOIN, "--token", "dkv1.a", "--token-file", "x"), "--token and --token-file exclude each other."),
        ((*JOIN, "--peer", "10.0.0.11", "--token", "dkv1.a"), "--peer and --join say both where to join."),
    ],
)
def test_what_is_missing_or_given_twice_is_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(Usage) as refused:
        joining(*words)
    assert refused.value.message == sentence and refused.value.hint
