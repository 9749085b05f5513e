"""What managers do about users of a database: engines get them, drift is reported and undone, and it is known who has them."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from dkv.domain import facts, orders
from dkv.domain.access import hash_seed
from dkv.domain.blocked import blocked
from dkv.domain.database_users import users_digest
from dkv.domain.decision import Refused
from dkv.domain.model import ProcessRole
from dkv.engine.config import replica_password
from dkv.engine.contract import EngineSeen, EngineUser, EngineUsers, Secrets
from dkv.machine.spec import engine_spec, te_spec, users_of
from dkv.machine.steps import SetUsers, Step, SubmitFact
from tests.machine.stage import DATABASE, LONG, Stage, me

ADA = "a" * 64


def with_user(stage: Stage, name: str = "ada", is_open: bool = False) -> Stage:
    stage.submit(orders.CreateDatabaseUser(database=DATABASE, name=name, hashed_password=ADA))
    return stage.submit(orders.SetDatabaseAccess(database=DATABASE, open=is_open))


def running(stage: Stage, archive_id: int, users: EngineUsers | None) -> EngineSeen:
    return stage.engine(archive_id, users=users)


def wanted(stage: Stage) -> EngineUsers:
    return users_of(stage.state, DATABASE)


def knows(stage: Stage, *archive_ids: int) -> Stage:
    digest = users_digest(stage.state, DATABASE)
    return stage.submit(*(facts.UsersSeen(users=digest, **stage.of(archive_id)) for archive_id in archive_ids))


def waiting(stage: Stage) -> list[str]:
    return [item.subject for item in blocked(stage.state) if item.kind == "users"]


def steps(stage: Stage, users: EngineUsers | None) -> list[Step]:
    return stage.steps("s1", running(stage, 0, users), lasting=LONG)


def test_every_engine_gets_the_users_whoever_leads() -> None:
    stage = with_user(Stage(2).settled())
    for archive_id, server in enumerate(("s1", "s2")):
        start_id = stage.process(archive_id).start_id
        (step,) = stage.steps(server, running(stage, archive_id, EngineUsers()))
        assert step == SetUsers(f"users {start_id}", start_id, EngineUsers(False, (EngineUser("ada", (ADA,)),)), Secrets("x"))
    assert len(waiting(stage)) == 2


def test_an_engine_that_has_them_is_reported_once_and_waits_no_more() -> None:
    stage = with_user(Stage(2).settled())
    (step,) = steps(stage, wanted(stage))
    assert isinstance(step, SubmitFact)
    stage.submit(step.fact)
    assert waiting(stage) == ["process 1 (orders-2)"]
    assert steps(stage, wanted(stage)) == []


def test_what_is_altered_on_an_engine_is_an_event_then_undone_then_reported() -> None:
    stage = knows(with_user(Stage(2).settled()), 0, 1)
    assert waiting(stage) == []
    mallory = EngineUser("mallory", (), altered="on nopass ~* &* +@all")
    altered = replace(wanted(stage), users=(*wanted(stage).users, mallory))
    for seen, name in ((altered, "mallory"), (EngineUsers(False, ()), "ada"), (replace(wanted(stage), open=True), "default")):
        (step,) = steps(stage, seen)
        assert isinstance(step, SubmitFact) and isinstance(step.fact, facts.UsersSeen)
        assert step.fact.altered == (name,)
        stage.submit(step.fact)
        assert waiting(stage) == ["process 0 (orders-1)"]
        assert steps(stage, seen) == [SetUsers("users 0", 0, wanted(stage), Secrets("x"))]
        (step,) = steps(stage, wanted(stage))
        assert isinstance(step, SubmitFact)
        stage.submit(step.fact)
        assert waiting(stage) == []


def test_a_change_that_has_not_arrived_is_no_alteration() -> None:
    stage = knows(with_user(Stage(2).settled()), 0, 1)
    before = wanted(stage)
    stage.submit(orders.AddUserPassword(database=DATABASE, name="ada", hashed_password="b" * 64))
    assert steps(stage, before) == [SetUsers("users 0", 0, wanted(stage), Secrets("x"))]
    assert wanted(stage).users[0].passwords == (ADA, "b" * 64)


def test_nothing_is_done_about_users_of_an_engine_that_leaves_or_was_not_seen() -> None:
    stage = with_user(Stage(2).settled())
    assert steps(stage, None) == []
    stage.submit(orders.ShutdownProcess(start_id=0, force=True))
    assert not any(isinstance(step, SetUsers) for step in steps(stage, EngineUsers()))


def test_engines_that_start_later_start_with_them_tes_too_and_their_start_reports_it() -> None:
    stage = with_user(Stage(2).settled())
    process = stage.process(1)
    assert engine_spec(stage.state, me("s2"), process, stage.state.archives[1]).users == wanted(stage)
    stage.submit(orders.StartProcess(database=DATABASE, role=ProcessRole.TE, server_id="s2"))
    te = max(stage.state.processes.values(), key=lambda process: process.start_id)
    stage.submit(facts.ProcessStarted(server_id="s2", start_id=te.start_id))
    assert {engine.users for engine in te_spec(stage.state, me("s2"), stage.state.processes[te.start_id]).engines} == {
        wanted(stage)
    }


def test_all_engines_of_a_database_hash_alike_and_nobody_can_guess_how() -> None:
    stage = Stage(2).settled()
    first = [engine_spec(stage.state, me(f"s{n + 1}"), stage.process(n), stage.state.archives[n]).secrets for n in (0, 1)]
    seed, used = first[0].hash_seed, first[0].used
    assert first[1].hash_seed == seed != hash_seed("another") and len(seed) == 64
    assert not any(word in seed for word in (used, hashlib.sha256(used.encode()).hexdigest(), replica_password(used)))


def test_a_database_that_is_open_and_has_no_users_has_nothing_to_report() -> None:
    stage = Stage(2).settled()
    assert users_digest(stage.state, DATABASE) == ""
    assert steps(stage, EngineUsers()) == [] and waiting(stage) == []


def test_the_managers_password_goes_on_when_every_engine_reported_the_step() -> None:
    stage = Stage(2).settled()
    old, new = "x", "n" * 32
    stage.submit(orders.RotateSecret(database=DATABASE, secret=new))
    for secrets in (Secrets(old, new), Secrets(new, old), Secrets(new)):
        for archive_id, server in enumerate(("s1", "s2")):
            start_id, process = stage.process(archive_id).start_id, stage.process(archive_id)
            before = stage.engine(archive_id, users=EngineUsers(), secrets="another digest")
            assert stage.steps(server, before) == [SetUsers(f"users {start_id}", start_id, EngineUsers(), secrets)]
            spec = engine_spec(stage.state, me(server), process, stage.state.archives[archive_id])
            assert (
                spec.secrets == secrets
                and spec.secrets.hash_seed == stage.state.databases[DATABASE].secret_change.hash_seed != ""
            )
        for archive_id, server in enumerate(("s1", "s2")):
            has = stage.engine(archive_id, users=EngineUsers(), secrets=secrets.digest)
            (step,) = stage.steps(server, has)
            assert isinstance(step, SubmitFact)
            stage.submit(step.fact)
    assert stage.state.databases[DATABASE].secret == new and waiting(stage) == []
    refused = stage.offer(orders.RotateSecret(database=DATABASE, secret="short"))
    assert isinstance(refused, Refused)


def test_an_engine_that_did_not_report_keeps_the_old_password_alive_and_is_named() -> None:
    stage = Stage(2).settled()
    stage.submit(orders.RotateSecret(database=DATABASE, secret="n" * 32))
    knows(stage, 0)
    assert stage.state.databases[DATABASE].secret == "x" and waiting(stage) == ["process 1 (orders-2)"]
    refused = stage.offer(orders.RotateSecret(database=DATABASE, secret="m" * 32))
    assert isinstance(refused, Refused) and refused.code == "rotation_running"
