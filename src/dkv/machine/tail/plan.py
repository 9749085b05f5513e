"""The dead leader's tail, planned at both ends: the holder of its archive sends it, followers prove that they have it. Pure.

The rules are in domain/rules/tail.py, the way it is done in docs/decisions/0011.
"""

from __future__ import annotations

from collections.abc import Iterator

from dkv.domain.facts import OpenTerm
from dkv.domain.model import Archive, Group, Process, State, TailTransfer
from dkv.engine.contract import ByteRangeDigest, EngineSeen, TailFollower, TailPlan
from dkv.machine.observation import PlanInput, directory_of, node_id
from dkv.machine.spec import identity_of, secrets_of
from dkv.machine.steps import Fence, Step, SubmitFact
from dkv.machine.tail.conditions import tail_complete_key
from dkv.machine.tail.steps import CheckTail, MeasureTail, ServeTail, StopTail

FALL_PATIENCE = 250  # ms a follower's report waits for its link to the dead leader to fall
OTHERS_PATIENCE = 1_300  # ms the new leader waits for the others: they come back once a second by themselves


def sends(group: Group, process: Process) -> bool:
    """Whether this process holds the dead leader's archive, whose bytes are sent; its engine is not launched meanwhile."""
    return group.tail is not None and group.tail.source_process == process.start_id


def source_steps(inputs: PlanInput, group: Group, process: Process, archive: Archive) -> Iterator[Step]:
    """The dead leader's manager: measure the tail, report it, and send it for as long as the domain's state names it."""
    tail = group.tail
    assert tail is not None
    identity = identity_of(inputs.state, archive)
    directory = directory_of(inputs.server.data_dir, archive)
    if tail.history:
        yield ServeTail(directory, process.start_id, group.term, _plan(inputs.state, tail, archive, directory), identity)
        return
    report = process.report
    marker = (tail.term, tail.sequence, tail.nonce)
    same = report is not None and (report.term, report.sequence, report.nonce) == marker
    yield MeasureTail(
        directory,
        process.start_id,
        group.term,
        directory,
        identity,
        marker,
        report.bytes_after if same and report else None,
        tuple((recipient.start_id, recipient.place, recipient.digest) for recipient in tail.fed),
    )


def _plan(state: State, tail: TailTransfer, archive: Archive, directory: str) -> TailPlan:
    return TailPlan(
        tls=state.databases[archive.database].transport.tls,
        directory=directory,
        node_id=node_id(state.uid, archive.archive_id),
        address=state.servers[archive.server_id].host,
        port=archive.client_port,
        secrets=secrets_of(state.databases[archive.database]),
        marker=(tail.term, tail.sequence, tail.nonce),
        stretch=ByteRangeDigest(tail.size, tail.digest),
        former=tail.former,
        history=tail.history,
        shift=tail.shift,
        followers=tuple(TailFollower(node_id(state.uid, r.archive_id), r.offset, r.place) for r in tail.fed),
    )


def unwanted_steps(inputs: PlanInput) -> Iterator[Step]:
    """Stop sending every tail that the domain's state does not name any more."""
    if not inputs.seen.tails:
        return
    wanted = set()
    for process in inputs.state.processes_on(inputs.server.server_id):
        group = inputs.state.groups.get((process.database, process.group))
        if group and process.archive_id is not None and sends(group, process):
            wanted.add(directory_of(inputs.server.data_dir, inputs.state.archives[process.archive_id]))
    for directory in sorted(inputs.seen.tails - wanted):
        yield StopTail(f"tail {directory}", directory)


def receives(group: Group, process: Process) -> bool:
    """Whether this process is to receive the dead leader's tail before a term opens."""
    return group.tail is not None and group.tail.of(process.start_id) is not None


def recipient_steps(inputs: PlanInput, group: Group, process: Process, engine: EngineSeen) -> Iterator[Step]:
    """A follower that receives the tail: fenced, compared once it has all of it; then the assigned leader opens its term."""
    tail = group.tail
    assert tail is not None
    recipient = tail.of(process.start_id)
    if not engine.writes.fenced:
        yield Fence(engine.directory, engine.start_id)
    elif recipient is None or not tail.history or engine.role != "follower" or engine.busy:
        return
    elif not recipient.whole:
        if (engine.replication.history, engine.replication.offset) == (tail.history, tail.end):
            yield CheckTail(
                engine.directory,
                process.start_id,
                group.term,
                engine.directory,
                (tail.term, tail.sequence, tail.nonce),
                ByteRangeDigest(tail.size, tail.digest),
            )
    elif group.leader_process == process.start_id and _others_done(inputs, group, tail):
        yield SubmitFact(engine.directory, OpenTerm(start_id=engine.start_id, **inputs.group_header(group)))


def _others_done(inputs: PlanInput, group: Group, tail: TailTransfer) -> bool:
    """Whether every recipient has the whole tail, or has had time to get it: one that opens too late leaves S."""
    missing = [recipient for recipient in tail.fed if not recipient.whole and recipient.start_id in inputs.state.processes]
    return not missing or inputs.lasted(tail_complete_key(group)) > OTHERS_PATIENCE


def report_digest(inputs: PlanInput, group: Group, engine: EngineSeen) -> bool | None:
    """Whether a follower's position report has to hold a digest of its bytes after the marker, so that it can receive a tail.

    None: it reports later. Its stream may still bring bytes, and until its link is down its position is not final.
    """
    above = inputs.state.databases[group.database].options.tail_above
    large = 0 <= above <= engine.files.base_bytes + engine.files.incremental_bytes and engine.role == "follower"
    if large and engine.replication.link_up and inputs.lasted(("vacant", group.key)) < FALL_PATIENCE:
        return None
    return large and not engine.replication.link_up
