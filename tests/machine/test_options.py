"""What managers do about options that were changed: engines that run get them, and their managers report which have them."""

from __future__ import annotations

from dataclasses import replace

from dkv.domain.facts import OptionsSeen, ProcessTracked
from dkv.domain.model import State
from dkv.domain.options import fsync_in_force, lags
from dkv.domain.orders import SetDatabaseOptions, ShutdownProcess
from dkv.engine.contract import EngineSeen, RunOptions
from dkv.machine.observation import share
from dkv.machine.options import WEAKEN_AFTER
from dkv.machine.spec import engine_spec
from dkv.machine.steps import SetOptions, SubmitFact
from tests.machine.stage import DATABASE, LONG, Stage, changed, facts, kinds, me

MB = 1 << 20


def running(stage: Stage, archive_id: int, memory: int = 64 * MB, fsync: str = "always") -> EngineSeen:
    return stage.engine(archive_id, max_memory=memory, append_fsync=fsync)


def wants(stage: Stage, only: bool = False, **options: str) -> Stage:
    pairs = tuple((name.replace("_", "-"), value) for name, value in options.items())
    return stage.submit(SetDatabaseOptions(name=DATABASE, options=pairs, replace_all=only))


def knows(stage: Stage, archive_id: int, memory: int = 0, fsync: str = "always") -> Stage:
    return stage.submit(OptionsSeen(append_fsync=fsync, max_memory=memory, **stage.of(archive_id)))


def lacking(state: State) -> list[int]:
    return [p.start_id for p in state.processes_of(DATABASE) if lags(state.databases[DATABASE], p)]


def test_every_engine_of_the_database_gets_a_new_limit_whoever_leads() -> None:
    stage = wants(Stage(2).settled(), max_memory="128MB")
    for archive_id, server in enumerate(("s1", "s2")):
        start_id = stage.process(archive_id).start_id
        (step,) = stage.steps(server, running(stage, archive_id))
        assert step == SetOptions(f"options {start_id}", start_id, RunOptions(128 * MB))


def test_an_engine_that_has_it_is_reported_to_the_domain_once() -> None:
    stage = wants(Stage(2).settled(), max_memory="128MB")
    has = running(stage, 0, 128 * MB)
    (step,) = stage.steps("s1", has)
    assert isinstance(step, SubmitFact)
    stage.submit(step.fact)
    assert lacking(stage.state) == [stage.process(1).start_id]
    assert stage.steps("s1", has, lasting=LONG) == []


def test_an_engine_that_is_started_later_is_started_with_it_and_its_start_reports_it() -> None:
    stage = wants(Stage(2).settled(), max_memory="128MB", append_fsync="everysec").ends(1).rise(1)
    process = stage.process(1)
    spec = engine_spec(stage.state, me("s2"), process, stage.state.archives[1])
    assert (spec.options.max_memory, spec.options.append_fsync) == (128 * MB, "everysec")
    stage = wants(Stage(2), max_memory="128MB").request(0)
    stage.rise(0, to=type(process.state).CONFIGURED)
    (step,) = stage.steps("s1", running(stage, 0, 128 * MB))
    assert isinstance(step, SubmitFact)
    assert isinstance(step.fact, ProcessTracked)
    assert (step.fact.max_memory, step.fact.append_fsync) == (128 * MB, "always")


def test_an_engine_that_is_away_leaving_or_loading_is_let_alone() -> None:
    stage = wants(Stage(2).settled(), max_memory="128MB")
    for engine in (replace(running(stage, 1), answering=False), replace(running(stage, 1), loading=True), stage.engine(1)):
        assert "SetOptions" not in kinds(stage.steps("s2", engine))
    stage.submit(ShutdownProcess(start_id=stage.process(1).start_id))
    assert "SetOptions" not in kinds(stage.steps("s2", running(stage, 1)))


def test_a_weaker_promise_is_given_before_it_is_kept() -> None:
    stage = wants(knows(knows(Stage(2).settled(), 0), 1), append_fsync="everysec")
    database = stage.state.databases[DATABASE]
    assert fsync_in_force(stage.state, database) == "everysec", "nobody relies on more from the order on"
    assert stage.steps("s1", running(stage, 0, stage_share(stage))) == []
    (step,) = stage.steps("s1", running(stage, 0, stage_share(stage)), lasting=WEAKEN_AFTER)
    assert isinstance(step, SetOptions)
    assert step.options.append_fsync == "everysec"


def test_a_stronger_promise_is_kept_before_it_is_given() -> None:
    stage = Stage(2, append_fsync="everysec").settled()
    knows(knows(stage, 0, fsync="everysec"), 1, fsync="everysec")
    wants(stage, append_fsync="always")
    (step,) = stage.steps("s1", running(stage, 0, stage_share(stage), "everysec"))
    assert isinstance(step, SetOptions)
    assert step.options.append_fsync == "always", "at once"
    knows(stage, 0)
    assert fsync_in_force(stage.state, stage.state.databases[DATABASE]) == "everysec", "the other one is not so far"
    knows(stage, 1)
    assert fsync_in_force(stage.state, stage.state.databases[DATABASE]) == "always"


def stage_share(stage: Stage) -> int:
    return share(stage.state, me("s1"))


def test_a_share_is_raised_while_an_engine_runs_and_never_lowered() -> None:
    stage = knows(Stage(2).settled(), 0)
    mine = stage_share(stage)
    (step,) = stage.steps("s1", running(stage, 0, mine - 1))
    assert isinstance(step, SetOptions)
    assert step.options.max_memory == mine
    assert stage.steps("s1", running(stage, 0, mine + 1), lasting=LONG) == []


def test_who_had_more_than_its_share_by_an_option_keeps_it_and_waits_for_its_restart() -> None:
    stage = Stage(2).settled()
    much = 2 * stage_share(stage)
    knows(wants(stage, max_memory=str(much)), 0, much)
    wants(stage, only=True)
    assert stage.steps("s1", running(stage, 0, much), lasting=LONG) == []
    (lag,) = lags(stage.state.databases[DATABASE], stage.process(0))
    assert lag.renews
    stage.ends(0).rise(0)
    assert lags(stage.state.databases[DATABASE], stage.process(0)) == []


def test_who_had_less_than_its_share_by_an_option_gets_its_share_at_once() -> None:
    stage = knows(wants(Stage(2).settled(), max_memory="64MB"), 0, 64 * MB)
    wants(stage, only=True)
    assert kinds(stage.steps("s1", running(stage, 0, 64 * MB))) == ["SetOptions"]
    assert facts(stage.steps("s1", running(stage, 0, stage_share(stage)))) == ["OptionsSeen"]


def test_a_te_gets_the_limit_in_each_of_its_engines() -> None:
    stage = Stage(2).settled()
    te = stage.start_te("s2", to=type(stage.process(0).state).TRACKED)
    wants(stage, max_memory="128MB", append_fsync="everysec")
    seen = stage.memory(te)
    engines = tuple(changed(e, max_memory=64 * MB) for e in seen.engines)
    steps = [s for s in stage.steps("s2", replace(seen, engines=engines)) if isinstance(s, SetOptions)]
    assert steps == [SetOptions(f"options {te}", te, RunOptions(128 * MB, ""))]
    engines = tuple(changed(e, max_memory=128 * MB) for e in seen.engines)
    assert "OptionsSeen" in facts(stage.steps("s2", replace(seen, engines=engines)))


def passed_on(stage: Stage, **options: str | int) -> EngineSeen:
    """The engine of the first archive as it runs with these."""
    return stage.engine(0, max_memory=stage_share(stage), append_fsync="always", **options)


def test_what_is_passed_on_to_engines_is_set_reported_and_set_again_where_somebody_changed_it() -> None:
    stage = wants(knows(Stage(2).settled(), 0), maxmemory_policy="allkeys-lru", notify_keyspace_events="KEAn", max_clients="500")
    wanted = RunOptions(stage_share(stage), "always", "allkeys-lru", "AnKE", 500)
    start_id = stage.process(0).start_id
    assert engine_spec(stage.state, me("s1"), stage.process(0), stage.state.archives[0]).options == wanted
    assert stage.steps("s1", passed_on(stage)) == [SetOptions(f"options {start_id}", start_id, wanted)]
    names = [lag.option for lag in lags(stage.state.databases[DATABASE], stage.process(0))]
    assert names == ["maxmemory-policy", "notify-keyspace-events", "max-clients"]
    has = {"maxmemory_policy": "allkeys-lru", "notify_keyspace_events": "AKE", "max_clients": 500}
    (step,) = stage.steps("s1", passed_on(stage, **has))
    assert isinstance(step, SubmitFact)
    stage.submit(step.fact)
    assert lags(stage.state.databases[DATABASE], stage.process(0)) == []
    assert stage.steps("s1", passed_on(stage, **has), lasting=LONG) == []
    for name, value in (("maxmemory_policy", "noeviction"), ("notify_keyspace_events", ""), ("max_clients", 400)):
        assert kinds(stage.steps("s1", passed_on(stage, **has | {name: value}))) == ["SetOptions"], name


def test_without_an_option_an_engine_takes_as_many_connections_as_its_memory_or_its_machine_allows() -> None:
    stage = knows(Stage(2).settled(), 0)
    for clients in (800, 700):  # 700: the descriptors of its machine allow no more
        assert stage.steps("s1", passed_on(stage, max_clients=clients, clients_by_memory=800), lasting=LONG) == []
    wants(stage, max_clients="500")
    (step,) = stage.steps("s1", passed_on(stage, max_clients=500, clients_by_memory=800))
    assert isinstance(step, SubmitFact)
    wants(stage.submit(step.fact), only=True)
    assert kinds(stage.steps("s1", passed_on(stage, max_clients=500, clients_by_memory=800))) == ["SetOptions"]
    for clients in (800, 700):
        (step,) = stage.steps("s1", passed_on(stage, max_clients=clients, clients_by_memory=800))
        assert isinstance(step, SubmitFact)
    stage.submit(step.fact)
    assert lags(stage.state.databases[DATABASE], stage.process(0)) == []


def test_a_number_of_connections_that_is_what_memory_allows_needs_no_change() -> None:
    stage = wants(knows(Stage(2).settled(), 0), max_clients="800")
    (step,) = stage.steps("s1", passed_on(stage, max_clients=800, clients_by_memory=800))
    assert isinstance(step, SubmitFact)
    wants(stage.submit(step.fact), only=True)
    assert facts(stage.steps("s1", passed_on(stage, max_clients=800, clients_by_memory=800))) == ["OptionsSeen"]
