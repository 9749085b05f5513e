"""Between objects and texts: nothing is lost, nothing unknown is passed over, nothing unchanged is done twice."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import get_args

import pytest

from dkv.domain import model
from dkv.domain.access import Token
from dkv.domain.model import (
    Archive,
    Database,
    DatabaseOptions,
    Group,
    JoinStage,
    PositionReport,
    Process,
    ProcessRequest,
    ProcessRole,
    ProcessState,
    Record,
    Server,
    State,
    Tombstone,
    Verdict,
)
from dkv.domain.phases import Assigned, HandingOver, Joining, Moment, Open, Phase, SwitchoverRequest, Vacant
from dkv.store import codec
from dkv.store.codec import Misfit
from dkv.store.contract import Unusable

PROCESS = Process(
    7,
    "Orders",
    ProcessRole.SM,
    "s1",
    archive_id=3,
    state=ProcessState.MONITORED,
    verdict=Verdict("stop", 2),
    report=PositionReport(term=2, sequence=5, nonce="n"),
    request=ProcessRequest(labels=(("rack", "r1"), ("zone", "z"))),
)
STATE = State(
    uid="u",
    clock=12,
    next_archive_id=4,
    next_start_id=8,
    servers={"a/b": Server("a/b", "x", "10.0.0.1", 7801, 8888, "boot")},
    databases={"Orders": Database("Orders", "u1", "secret", DatabaseOptions(min_in_sync=2))},
    groups={
        ("Orders", "g1"): Group(
            "Orders",
            "g1",
            "0" * 40,
            ((0, 5460), (10923, 16383)),
            HandingOver(
                leader=3, leader_process=7, joining=(Joining(5, 9, JoinStage.MARKED, 4, "n"),), to_archive=4, to_process=8
            ),
            term=2,
            in_sync=(3, 4),
        )
    },
    archives={3: Archive(3, "Orders", "u1", "g1", "a/b", "orders-1", "", 7811, 7861)},
    processes={7: PROCESS},
    tombstones={6: Tombstone(replace(PROCESS, start_id=6), 1, 2, "killed", "signal 9", 137, 9, 5, ("last", "words"))},
    records={("kvstore", "a/b"): Record("kvstore", "a/b", '"c"')},
    tokens={"0123456789ab": Token("0123456789ab", "f" * 64, "viewer", "deploy", "ada", "local uid 0", 5, 6)},
)


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Leaf:
    colour: Colour
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tree:
    name: str
    leaf: Leaf | None = None
    leaves: tuple[Leaf, ...] = ()
    height: float = 1.5


TREE = Tree("oak", Leaf(Colour.RED, (1, 2)), (Leaf(Colour.RED),))


def test_an_object_survives_the_way_there_and_back() -> None:
    assert codec.from_plain(Tree, codec.to_plain(TREE)) == TREE
    assert codec.from_text(Tree, codec.to_text(TREE)) == TREE
    assert codec.from_plain(Tree, {"name": "oak"}) == Tree("oak")


@pytest.mark.parametrize(
    ("plain", "word"),
    [
        ({}, "name"),
        ({"name": 1}, "name"),
        ({"name": "oak", "leaf": {"colour": "blue"}}, "blue"),
        ({"name": "oak", "nmae": "x"}, "nmae"),
        ({"name": "oak", "leaves": [{"colour": "red"}, {"colour": "red", "shape": 1}]}, "leaves.1.shape"),
        ([], "object"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(plain: object, word: str) -> None:
    with pytest.raises(Misfit) as refusal:
        codec.from_plain(Tree, plain)
    assert word in str(refusal.value)
    with pytest.raises(Misfit) as refusal:
        codec.from_text(Tree, json.dumps(plain))
    assert word in str(refusal.value)


def test_half_a_text_is_refused() -> None:
    with pytest.raises(Misfit):
        codec.from_text(Tree, '{"name": "oa')


def test_a_whole_state_survives() -> None:
    records = codec.encode(STATE)
    assert sorted(records) == [
        "archive/3",
        "database/Orders",
        "domain",
        "group/Orders/g1",
        "process/7",
        "record/kvstore/a%2Fb",
        "server/a%2Fb",
        "token/0123456789ab",
        "tombstone/Orders/6",
    ]
    assert codec.decode(records) == STATE
    assert codec.decode({}) == State()
    assert codec.decode({**records, "answer/k": "{}"}) == STATE, "what stands beside is passed over"


def test_every_mapping_of_the_state_has_its_table() -> None:
    mappings = {field.name for field in fields(model.State) if "Mapping" in str(field.type)}
    assert mappings == {table.field for table in codec.TABLES}


def test_an_unchanged_text_gives_the_same_object() -> None:
    records = codec.encode(STATE)
    first = codec.decode(records)
    changed = codec.decode({**records, "process/7": codec.to_text(replace(PROCESS, pid=5))})
    assert changed.processes[7] == replace(PROCESS, pid=5)
    assert changed.groups[("Orders", "g1")] is first.groups[("Orders", "g1")]
    assert changed.tombstones[6] is first.tombstones[6]


def test_a_difference_is_what_must_be_written() -> None:
    assert codec.diff(State(), State()) == {}
    assert codec.diff(STATE, STATE) == {}
    assert codec.diff(STATE, codec.decode(codec.encode(STATE))) == {}
    after = replace(STATE, clock=13, processes={}, archives={**STATE.archives, 4: replace(STATE.archives[3], archive_id=4)})
    writes = codec.diff(STATE, after)
    assert sorted(writes) == ["archive/4", "domain", "process/7"]
    assert writes["process/7"] is None
    records = {k: v for k, v in {**codec.encode(STATE), **writes}.items() if v is not None}
    assert records == codec.encode(after)
    everything = codec.diff(State(), STATE)
    assert everything == codec.encode(STATE)
    assert set(codec.diff(STATE, State()).values()) == {None, codec.encode(State())["domain"]}


def test_a_text_of_an_older_version_gets_the_defaults() -> None:
    records = codec.encode(STATE)
    plain = json.loads(records["process/7"])
    del plain["request"]["labels"], plain["kill"]
    assert codec.decode({**records, "process/7": json.dumps(plain)}).processes[7] == replace(PROCESS, request=ProcessRequest())
    assert codec.decode({"domain": '{"uid":"u"}'}) == State(uid="u")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("process/7", codec.to_text(PROCESS).replace('"pid"', '"new":1,"pid"')),
        ("process/7", codec.to_text(PROCESS).replace('"exit_code"', '"new":1,"exit_code"')),
        ("process/7", codec.to_text(PROCESS)[:-5]),
        ("process/7", codec.to_text(PROCESS).replace("MONITORED", "DREAMING")),
        ("process/8", codec.to_text(PROCESS)),
        ("server/a%2Fb", "{}"),
        ("planet/1", "{}"),
        ("domain", '{"uid":"u","new":1}'),
        ("domain", '{"uid":5}'),
        ("domain", "[]"),
    ],
)
def test_a_newer_or_damaged_record_is_refused(key: str, text: str) -> None:
    for _ in range(2):
        with pytest.raises(Unusable) as refusal:
            codec.decode({**codec.encode(STATE), key: text})
        assert f"record {key} cannot be used" in str(refusal.value)
        assert "hint:" in str(refusal.value)


def test_decoding_many_is_cheap_the_second_time() -> None:
    many = replace(STATE, processes={n: replace(PROCESS, start_id=n) for n in range(3000)})
    records, times = codec.encode(many), []
    for _ in range(3):
        began = time.perf_counter()
        decoded = codec.decode(records)
        times.append(time.perf_counter() - began)
        assert decoded == many
    began = time.perf_counter()
    assert len(codec.diff(many, replace(many, processes={**many.processes, 7: replace(PROCESS, pid=1)}))) == 1
    print(f"3000 objects: {[round(t * 1000, 2) for t in times]} ms, diff {(time.perf_counter() - began) * 1000:.2f} ms")


PHASES: tuple[Phase, ...] = (
    Vacant(since=Moment(4, 1_700), contested=(3, 4), enforced=4, tail_abandoned=True),
    Assigned(leader=3, leader_process=7, since=Moment(4, 1_700), stalled_since=5),
    Open(leader=3, leader_process=7, serving=True, switchover=SwitchoverRequest(8, "asked", at=9)),
    HandingOver(leader=3, leader_process=7, to_archive=4, to_process=8, immediate=True),
)
GROUP = STATE.groups[("Orders", "g1")]


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: str(phase.name))
def test_a_group_survives_in_each_phase_and_its_text_names_the_phase(phase: Phase) -> None:
    group = replace(GROUP, phase=phase)
    text = codec.to_text(group)
    assert f'"phase":{{"name":"{phase.name}"' in text
    assert codec.from_text(Group, text) == group
    assert codec.from_plain(Group, codec.to_plain(group)) == group


def test_every_phase_is_among_those() -> None:
    assert {type(phase) for phase in PHASES} == set(get_args(Phase))


@pytest.mark.parametrize(
    ("phase", "word"),
    [
        (None, "no phase `None`"),
        ({"name": "LEADING", "leader": 3}, "no phase `LEADING`"),
        ({"name": "OPEN", "leader": 3}, "leader_process"),
        ({"name": "VACANT", "leader": 3}, "phase.leader"),
    ],
)
def test_a_phase_that_cannot_be_is_refused_with_where(phase: object, word: str) -> None:
    with pytest.raises(Misfit, match=word):
        codec.from_plain(Group, {**codec.to_plain(GROUP), "phase": phase})
