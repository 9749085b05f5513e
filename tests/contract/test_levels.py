"""Levels of the domain state: an older manager finds nothing that it does not know, and one that is too old says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from dkv.domain import levels
from dkv.domain.blocked import blocked
from dkv.domain.decide import decide
from dkv.domain.decision import Accepted, Refused
from dkv.domain.facts import ServerJoined
from dkv.domain.levels import FIELDS, LEVEL, VALUES
from dkv.domain.model import Server, State, evolve
from dkv.store import codec
from dkv.store.contract import Unusable

LEVEL_0 = Path(__file__).parent / "level_0.txt"
"""All that the domain state could have before there were levels: fields of its types, members of its enumerations."""

SERVER = Server("s1", "u1", "10.0.0.1", 7801, 8888, "boot")
OF_LEVEL_0 = (
    '{"server_id":"s1","uid":"u1","host":"10.0.0.1","port":7801,"nuodb_port":8888,"boot_id":"boot","alive":true,"data_dir":"",'
    '"lost_at":0,"last_event":0,"certificate_until":0,"engine_release":"","engine_tls":false,"etcd_port":0,"state_member":"",'
    '"state_member_at":0,"member_failed_at":0}'
)
"""The record of that server as dkv wrote it before there were levels."""
JOINS = ServerJoined(
    server_id="s1", uid="u1", host="10.0.0.1", port=7801, nuodb_port=8888, boot_id="boot", dkv_release="0.1.0", level=1
)


def contents() -> dict[str, int]:
    """What the domain state of this dkv can have, each with the level it came with."""
    return dict(_contents(State, set()))


def _contents(kind: Any, seen: set[Any]) -> Iterator[tuple[str, int]]:
    if kind in seen:
        return
    seen.add(kind)
    for part in get_args(kind):
        yield from _contents(part, seen)
    if isinstance(kind, type) and issubclass(kind, Enum):
        yield from ((f"{kind.__name__} = {member.name}", VALUES.get(member, 0)) for member in kind)
    if is_dataclass(kind):
        yield f"{kind.__name__}", VALUES.get(kind, 0)
        hints = get_type_hints(kind)
        for f in fields(kind):
            yield f"{kind.__name__}.{f.name}", FIELDS.get(kind, {}).get(f.name, 0)
            yield from _contents(hints[f.name], seen)


def test_whatever_came_after_level_0_has_a_level() -> None:
    """Who adds a field, a record or a value raises LEVEL and names it in FIELDS or VALUES of domain/levels.py."""
    of_level_0 = LEVEL_0.read_text(encoding="utf-8").split("\n")[:-1]
    assert sorted(name for name, level in contents().items() if level == 0) == of_level_0
    assert max(contents().values()) == LEVEL


def test_a_later_field_is_not_written_while_it_is_at_its_default() -> None:
    assert codec.to_text(SERVER) == OF_LEVEL_0
    assert codec.from_text(Server, OF_LEVEL_0) == SERVER
    newer = replace(SERVER, level=1, dkv_release="0.1.0")
    assert json.loads(codec.to_text(newer)) == json.loads(OF_LEVEL_0) | {"dkv_release": "0.1.0", "level": 1}
    assert codec.from_text(Server, codec.to_text(newer)) == newer


def test_a_domain_of_before_there_were_levels_says_whose_manager_it_waits_for() -> None:
    state = State(uid="d", servers={name: replace(SERVER, server_id=name, uid=name) for name in ("s1", "s2", "s3")})
    assert levels.with_leases(state, {}) is state
    shown = levels.with_leases(state, {"s1": 1, "s3": 0})
    (item,) = [item for item in blocked(shown) if item.subject == "the domain"]
    assert item.waits_for == "the manager of s2 (dkv unknown), the manager of s3 (dkv unknown)"
    assert "stays at level 0, while other managers know level 1" in item.reason
    assert not blocked(levels.with_leases(state, dict.fromkeys(state.servers, 0)))
    risen = replace(state, level=1)
    assert levels.with_leases(risen, {"s1": 2}) is risen, "from level 1 on the state says it"


def test_what_an_older_dkv_wrote_can_be_changed() -> None:
    known = codec.from_text(Server, OF_LEVEL_0)
    assert evolve(known, level=1) == replace(SERVER, level=1)
    with pytest.raises(TypeError, match="Server has no field colour"):
        evolve(known, colour="red")


def test_the_domain_itself_is_written_as_before_until_its_level_rises() -> None:
    assert "level" not in json.loads(codec.encode(State(uid="u"))[codec.DOMAIN])
    assert json.loads(codec.encode(State(uid="u", level=1))[codec.DOMAIN])["level"] == 1
    assert codec.decode(codec.encode(State(uid="u", level=1))).level == 1


def test_a_state_of_a_higher_level_is_refused_with_one_sentence_whatever_its_records_hold() -> None:
    domain = json.loads(codec.encode(State(uid="u"))[codec.DOMAIN]) | {"level": LEVEL + 1, "colour": "red"}
    records = {"colour/1": "{}", codec.DOMAIN: json.dumps(domain)}
    sentence = f"the domain state is at level {LEVEL + 1}, and this dkv knows levels up to {LEVEL}: it is older than the others"
    with pytest.raises(Unusable) as refusal:
        codec.decode(records)
    assert refusal.value.detail == sentence and "Install the release of dkv" in str(refusal.value.hint)
    with pytest.raises(Unusable, match="knows levels up to"):
        codec.decode_changed(State(), {}, records, list(records))


def test_what_some_manager_cannot_read_is_refused_and_what_all_can_read_is_not() -> None:
    old = State(servers={"s1": SERVER})
    newer = State(servers={"s1": replace(SERVER, dkv_release="0.2.0")})
    refused = levels.refusal(old, newer)
    assert isinstance(refused, Refused) and refused.code == "older_managers" and "level 1" in refused.message
    assert levels.refusal(old, replace(newer, level=1)) is None
    assert levels.refusal(old, State(servers={"s1": replace(SERVER, alive=False)})) is None


def test_what_waits_names_the_servers_whose_managers_are_older() -> None:
    newer = replace(JOINS, server_id="s2", uid="u2", port=7802, dkv_release="0.2.0", level=2)
    state = State()
    for joins in (JOINS, newer):
        decision = decide(state, joins)
        assert isinstance(decision, Accepted)
        state = decision.state
    (item,) = blocked(state)
    assert item.waits_for == "the manager of s1 (dkv 0.1.0)" and "level 1" in item.reason and "level 2" in item.reason
    decision = decide(state, replace(JOINS, dkv_release="0.2.0", level=2))
    assert isinstance(decision, Accepted) and decision.state.level == 2 and not blocked(decision.state)
