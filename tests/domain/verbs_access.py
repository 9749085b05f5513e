"""Tests of the domain: the words of scenarios about who may come in; see verbs.py."""

from __future__ import annotations

from dkv.domain import commands as c
from tests.domain.runner import Line, ScenarioRunner, verb


@verb("token")
def _create_token(runner: ScenarioRunner, line: Line) -> c.Command:
    """`token 1 viewer` makes the token 000000000001 with that role; `lasts=` ms, `name=`, `user=`, `secret=` a hash."""
    return c.CreateToken(
        now=runner.world.now,
        actor="user ada",
        token_id=f"{line.words[0]:0>12}",
        hashed_secret=line.options.get("secret", "a" * 64),
        role=line.words[1],
        name=line.options.get("name", ""),
        user=line.options.get("user", ""),
        lasts=line.number("lasts", 3_600_000),
    )


@verb("delete-token")
def _delete_token(runner: ScenarioRunner, line: Line) -> c.Command:
    return c.DeleteToken(now=runner.world.now, token_id=f"{line.words[0]:0>12}")


@verb("found-authority")
def _authority_founded(runner: ScenarioRunner, line: Line) -> c.Command:
    """`found-authority managers first`: a manager made the authority `first`; its key is sealed."""
    owner, certificate = line.words
    return c.AuthorityFounded(now=runner.world.now, owner=owner, certificate=certificate, key=f"sealed key of {certificate}")
