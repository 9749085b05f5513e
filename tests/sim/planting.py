"""The planted bugs: each takes one clause of the rules away, as a careless change would. Never imported by the product.

As a pytest plugin (`-p tests.sim.planting`, with DKV_MUTANT naming one) it plants before the tests are imported; as a
program it plants and then plays seeds of the simulation until one fails, or lists all of them without arguments:

    python -m tests.sim.planting [NAME FIRST COUNT]
    python -m tests.sim.planting --hunt COUNT [NAME ...]

The last one plants each in turn, in a process of its own, and prints which seed of the first COUNT finds it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from dkv import confirm
from dkv.control.liveness import Liveness
from dkv.domain import blocked
from dkv.domain.draft import Draft
from dkv.domain.phases import Assigned, HandingOver
from dkv.domain.positions import PositionReport
from dkv.domain.rules import groups, leadership, process_lifecycle
from dkv.engine import aof, archive, config, local
from dkv.engine.contract import Position
from dkv.guard import judge
from dkv.machine import conditions, follower_steps, handover, leader_steps, next_look, perform, plan, progress, shutdown_steps
from dkv.machine.reconcile import Reconciler
from dkv.sim import clients, world
from dkv.sim.engines.engines import SimEngines
from dkv.sim.engines.replication import Replication
from tests.sim.planting_field import FIELD, NOT_YET_FOUND
from tests.sim.planting_tails import TAILS

PLANTS: dict[str, Callable[[], None]] = {}


def mutant(plant: Callable[[], None]) -> Callable[[], None]:
    """Register a planted bug under its name, with blanks."""
    PLANTS[plant.__name__.replace("_", " ")] = plant
    return plant


# -- the in-sync set -----------------------------------------------------------------------------------------------------


@mutant
def skip_the_catch_up_when_s_grows() -> None:
    """A joiner is believed to have the marker, and to have caught up."""

    async def believed(self: Any, step: Any) -> None:
        fact = perform.JoinDurable(
            start_id=step.start_id, term=step.term, sequence=step.sequence, nonce=step.nonce, **self._header
        )
        await self._submit(fact)

    perform.Performer._check_marker = believed  # type: ignore[method-assign]
    leader_steps._caught_up = lambda *_: True


@mutant
def let_anyone_shrink_s() -> None:
    """Whoever manages any process of the group, in whatever term, may take an archive out."""
    rule = groups.in_sync_shrunk

    def shrunk(draft: Draft, command: Any) -> Any:
        group = draft.groups[(command.database, command.group)]
        leader = draft.processes.get(group.leader_process) if group.leader_process is not None else None
        server_id = leader.server_id if leader else command.server_id
        return rule(draft, replace(command, server_id=server_id, term=group.term))

    _replace_rule("InSyncShrunk", shrunk)


@mutant
def put_an_archive_into_s_before_it_is_in_required() -> None:
    """Growing does not wait for the commit that makes confirmations wait for the joiner."""
    announced = groups.join_announced

    def joined(draft: Draft, command: Any) -> Any:
        refused = announced(draft, command)
        group = draft.groups[(command.database, command.group)]
        if refused is None:
            draft.put_group(
                group,
                phase=replace(group.phase, joining=tuple(j for j in group.phase.joining if j.archive_id != command.archive_id)),
                in_sync=(*group.in_sync, command.archive_id),
            )
        return refused

    _replace_rule("JoinAnnounced", joined)


@mutant
def required_grows_together_with_s() -> None:
    """M4: the number clients wait for is published with the commit that grows S, not a second before."""
    durable, completed = groups.join_durable, groups.join_completed

    def kept_back(draft: Draft, command: Any) -> Any:
        before = {key: group.required for key, group in draft.groups.items()}
        refused = durable(draft, command)
        for key, required in before.items():
            draft.put_group(draft.groups[key], required=required)
        return refused

    def both(draft: Draft, command: Any) -> Any:
        refused = completed(draft, command)
        group = draft.groups[(command.database, command.group)]
        if refused is None:
            draft.put_group(group, required=tuple(sorted({*group.required, command.archive_id})))
        return refused

    _replace_rule("JoinDurable", kept_back)
    _replace_rule("JoinCompleted", both)


@mutant
def keep_all_of_s_at_open() -> None:
    """A new term opens with every member of S, whatever its engine's history."""
    groups._sharing_history = lambda draft, group, leader: tuple(a for a in group.in_sync if a != leader.archive_id)


@mutant
def a_resync_acknowledges_before_its_disk_is_new() -> None:
    """The extra mutant of the model: `repl-diskless-load swapdb` on a member of S."""
    ended = Replication.resync_ended

    def without_disk(self: Replication, *arguments: Any) -> None:
        disk, self.engine.disk = self.engine.disk, None
        ended(self, *arguments)
        self.engine.disk = disk

    Replication.resync_ended = without_disk  # type: ignore[method-assign]


# -- who leads -----------------------------------------------------------------------------------------------------------


@mutant
def promote_without_asking_the_dead_leaders_archive() -> None:
    """A living follower leads at once."""
    rank = leadership._rank
    leadership._must_wait = lambda *_: False
    leadership._rank = lambda group, member: (False, *rank(group, member)[1:])


@mutant
def take_over_with_everybody_proven() -> None:
    """Nobody asks whether an old leader may still lead."""
    leadership._proven = lambda *_, **__: True


@mutant
def open_a_superseded_term() -> None:
    """An open is judged by the process it comes from, not by the term it quotes."""
    rule = groups.open_term

    def opened(draft: Draft, command: Any) -> Any:
        group = draft.groups[(command.database, command.group)]
        if not isinstance(group.phase, Assigned):
            return rule(draft, command)
        draft.put_phase(group, leader=draft.processes[command.start_id].archive_id, leader_process=command.start_id)
        return rule(draft, replace(command, term=group.term))

    _replace_rule("OpenTerm", opened)


@mutant
def restart_after_a_leader_assignment_timeout() -> None:
    """What ended because nobody could lead is requested again, and again."""
    wanted = process_lifecycle._wanted

    def again(draft: Draft, process: Any, archive: Any, ending: Any) -> bool:
        if ending.cause == "leader assignment timeout":
            ending = replace(ending, planned=False)
        return bool(wanted(draft, process, archive, ending))

    process_lifecycle._wanted = again


@mutant
def believe_takeover_without_another_read() -> None:
    """V9: replicas are admitted right after TAKEOVER."""

    async def believes(self: Any, step: Any) -> bool:
        return True

    perform.Performer._still_leads = believes  # type: ignore[method-assign]


@mutant
def only_a_percentage_is_progress() -> None:
    """The old rule: a leader that loads one large value says nothing, and is given up for it."""
    plan.progress_steps = lambda *_: iter(())  # type: ignore[attr-defined]


@mutant
def a_living_manager_is_progress() -> None:
    """A manager proves that its engine works by saying so, whatever it saw."""
    progress._works = lambda *_: True


@mutant
def silence_is_a_hang() -> None:
    """Whoever answers nothing for engineHangTimeout is killed, at work or not."""
    plan.hangs = lambda inputs, process, engine: (  # type: ignore[attr-defined]
        not engine.answering and engine.silent_ms >= inputs.server.hang_timeout
    )


# -- what counts as a copy -----------------------------------------------------------------------------------------------


@mutant
def count_tes_as_copies() -> None:
    """WAIT's number is taken for evidence: as many replicas as S needs, whoever they are."""
    judge = confirm.judge

    def counted(first: Any, second: Any, view: Any, age: float, written_to: Any) -> Any:
        enough = sum(offset >= first.offset for offset in second.replicas.values()) >= len(view.required)
        return judge(first, second, replace(view, required=()) if enough else view, age, written_to)

    confirm.judge = counted


@mutant
def judge_confirmation_by_count() -> None:
    """The simulated client counts acknowledgements of whoever is attached, in whatever view."""
    clients._all_have_it = lambda state, group, reply: (
        sum(offset >= reply.offset for offset in reply.replicas.values()) >= len(group.in_sync) - 1
    )


@mutant
def confirm_a_read_that_one_disk_has() -> None:
    """A read is called confirmed as soon as it is answered: what it showed may be lost with the leader."""
    judge = clients.RegisterClient._confirming

    async def believed(self: Any, reply: Any, engine: Any, term: int, view: Any, fetched: float) -> Any:
        return (view, fetched) if self._reads else await judge(self, reply, engine, term, view, fetched)

    clients.RegisterClient._confirming = believed  # type: ignore[method-assign]


# -- what people are told ------------------------------------------------------------------------------------------------


@mutant
def say_nothing_of_a_group_without_a_leader() -> None:
    """`dkv show waiting` names nothing that a group waits for."""
    blocked.waits_for = lambda *_: None  # type: ignore[attr-defined]


# -- machines ------------------------------------------------------------------------------------------------------------


@mutant
def no_fresh_read_before_guarded_steps() -> None:
    """What was planned is done, however old the view is."""

    async def certainly(self: Any, step: Any) -> bool:
        return True

    Reconciler._still = certainly  # type: ignore[method-assign]


@mutant
def kill_the_target_of_a_handover() -> None:
    """An engine that leads without being the leader is killed, handover or not."""
    steps = follower_steps.follower_steps

    def steps_of(inputs: Any, group: Any, process: Any, engine: Any) -> Iterator[Any]:
        if isinstance(group.phase, HandingOver) and engine.role == "leader":
            yield from follower_steps._stale_leader_steps(inputs, group, engine)
        else:
            yield from steps(inputs, group, process, engine)

    plan.follower_steps = steps_of  # type: ignore[attr-defined]


@mutant
def hand_over_without_looking_for_the_marker() -> None:
    """V7: FAILOVER is sent to an archive whose disk may be anything."""

    async def at_once(self: Any, step: Any) -> None:
        await self._engines.unfence(step.start_id)
        await self._engines.failover(step.start_id)

    perform.Performer._failover = at_once  # type: ignore[method-assign]


def _handing_over_inside_scripts() -> None:
    """A handover begins while the leader answers BUSY, and its target asks for no fresh marker."""
    careful = handover.successor

    def any_time(state: Any, group: Any, engine: Any, only: int | None = None) -> int | None:
        return careful(state, group, replace(engine, busy=False), only)

    handover.successor = shutdown_steps.successor = any_time
    handover._asks_in_time = lambda group, engine, standing, age: age < 6_000
    fail_over = perform.Performer._failover

    async def whatever_marker(self: Any, step: Any) -> None:
        await fail_over(self, replace(step, after=0))

    perform.Performer._failover = whatever_marker  # type: ignore[method-assign]


def _believing_offsets() -> None:
    """A leader that lost its role inside a script goes on with what only it has."""
    steps = plan._with_engine
    plan._with_engine = lambda inputs, process, engine: steps(
        inputs, process, replace(engine, replication=replace(engine.replication, torn=False))
    )


@mutant
def hand_over_inside_a_script() -> None:
    """What its demotion leaves half done is made whole by the resync afterwards."""
    _handing_over_inside_scripts()


@mutant
def believe_the_offset_of_a_leader_demoted_inside_a_script() -> None:
    """No handover makes one, but a takeover may."""
    _believing_offsets()


@mutant
def hand_over_inside_a_script_and_believe_the_offset() -> None:
    """Both: copies that differ are called in sync."""
    _handing_over_inside_scripts()
    _believing_offsets()


@mutant
def read_a_position_without_a_fence() -> None:
    """V8: an engine found leading goes on serving while its position is read."""
    report = perform.Performer._report_position

    async def unfenced(self: Any, step: Any) -> None:
        await report(self, replace(step, leads=False))

    perform.Performer._report_position = unfenced  # type: ignore[method-assign]


@mutant
def two_rewrites_at_once() -> None:
    """Nobody waits for the group's turn."""

    async def mine(self: Any, lease: str, start_id: int) -> bool:
        return True

    perform.Performer._turn = mine  # type: ignore[method-assign]


@mutant
def judge_a_lease_during_a_backend_outage() -> None:
    """Leases that could not be renewed are judged by whoever comes back first."""
    judge = Liveness.judge

    async def at_once(self: Any, known: Any = None) -> None:
        self.access_since = -1e9
        await judge(self, known)

    Liveness.judge = at_once  # type: ignore[method-assign]


# -- engines -------------------------------------------------------------------------------------------------------------


@mutant
def a_phantom_epoch_above_the_leaders() -> None:
    """The made-up owner of a group's slots outbids the living one."""
    config.PHANTOM_EPOCH = 10**6


@mutant
def start_without_the_lock() -> None:
    """Nobody looks who else has the archive."""

    def unlocked(directory: str) -> int:
        path = os.path.join(directory, archive.LOCK_FILE)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        archive.sign_lock(fd, os.getpid())
        return fd

    archive.take_lock = unlocked


@mutant
def adopt_an_engine_of_another_boot() -> None:
    """What a run directory says is believed, whichever boot of the machine wrote it."""
    local.Engine = _OfThisBoot  # type: ignore[attr-defined, misc]


class _OfThisBoot(local.Engine):  # type: ignore[misc]
    def __init__(self, run: Any, this_boot: bool) -> None:
        super().__init__(run, True)


@mutant
def forget_the_open_multi() -> None:
    """A cut counts to its last whole command, inside a transaction too."""
    aof.Tail.valid = property(lambda self: self.end)  # type: ignore[assignment, method-assign]


@mutant
def the_position_counts_pfcount() -> None:
    """What a follower writes for itself makes it look newer than it is."""
    for position in (Position, PositionReport):
        position.data_bytes = property(lambda self: self.bytes_after)  # type: ignore[assignment, method-assign]


@mutant
def a_phantom_that_attaches_by_itself() -> None:
    """V10: an engine is started with the credentials that only REPLICATE should bring."""
    launch = SimEngines.launch

    async def trusting(self: Any, spec: Any) -> int:
        pid = await launch(self, spec)
        self.machine.engines[spec.start_id].credentials = True
        return pid

    SimEngines.launch = trusting  # type: ignore[method-assign]


@mutant
def grow_as_soon_as_a_joiner_is_required() -> None:
    """Clients that hold an older view do not wait for the joiner yet."""
    conditions.REQUIRED_BEFORE_GROWING = next_look.REQUIRED_BEFORE_GROWING = 0


@mutant
def guard_nothing() -> None:
    """A guard that never takes its machine for cut off."""
    judge.is_cut_off = lambda *_: False


@mutant
def take_a_refusal_for_silence() -> None:
    """A guard that fences when all managers are dead on machines that answer."""
    judge.is_answer = lambda error: error == 0


@mutant
def relieve_a_guard_by_whoever_starts() -> None:
    """A guard that ends with the start of a manager which has read nothing yet."""
    world._acts = lambda _: True


for _plant in (*TAILS, *FIELD):
    mutant(_plant)

HUNTED = PLANTS | {plant.__name__.replace("_", " "): plant for plant in NOT_YET_FOUND}
"""What may be hunted: also those that nothing is known to catch."""


def _replace_rule(command: str, rule: Any) -> None:
    from dkv.domain import decide

    [kind] = [kind for kind in decide.RULES if kind.__name__ == command]
    decide.RULES[kind] = rule


def listed() -> str:
    """Every planted bug: its name, what it breaks, and what catches it."""
    from tests.sim.test_mutants import CAUGHT_BY

    rows = []
    for name, plant in PLANTS.items():
        rows.append(f"{name}\n    breaks: {' '.join((plant.__doc__ or '').split())}")
        rows += [f"    caught by: {catcher}" for catcher in CAUGHT_BY[name]]
    return "\n".join(rows)


def pytest_configure() -> None:
    """Plant the mutant that the environment names."""
    PLANTS[os.environ["DKV_MUTANT"]]()


def hunt(count: int, names: Sequence[str]) -> int:
    """Print which of the first seeds finds each planted bug, and by what; how many were not found."""
    survived = 0
    if unknown := set(names) - HUNTED.keys():
        raise SystemExit(f"no planted bug is called {', '.join(sorted(unknown))}")
    for name in names:
        words = [sys.executable, "-m", "tests.sim.planting", name, "1", str(count)]
        done = subprocess.run(words, capture_output=True, text=True)
        survived += done.returncode == 0
        verdict = " ".join(done.stdout.split()) if done.returncode == 1 and done.stdout else f"not found {done.stderr[-300:]}"
        sys.stdout.write(f"{name}\t{verdict}\n")
        sys.stdout.flush()
    return survived


def main() -> int:
    """Plant, then play seeds; exit 1 and the seed's last words if one fails, 0 if the mutant survived."""
    from dkv.sim.scenario import play

    if len(sys.argv) == 1:
        sys.stdout.write(f"{listed()}\n")
        return 0
    if sys.argv[1] == "--hunt":
        return hunt(int(sys.argv[2]), sys.argv[3:] or list(PLANTS))
    name, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    HUNTED[name]()
    for seed in range(first, first + count):
        outcome = play(seed)
        if outcome.failures:
            sys.stdout.write(f"{outcome.summary()}\n{outcome.failures[0]}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
