"""Tests of the domain: the domain of a scenario: its state, its clocks, and how both are printed."""

from __future__ import annotations

from dkv.domain.command import Command
from dkv.domain.decide import decide, decide_looking_at_all
from dkv.domain.decision import Accepted, Decision, Event, Refused
from dkv.domain.facts import Tick
from dkv.domain.model import Archive, Group, Process, State, Tombstone
from dkv.domain.phases import HandingOver

STEP = 250  # ms between two ticks
HOUR = 3_600_000


class World:
    """A domain and the time that passes in it."""

    def __init__(self) -> None:
        self.state = State(uid="d0")
        self.now = HOUR
        self.rows: set[tuple[str, str, str]] = set()  # (table, from, to) of every life-cycle move seen
        self.accepted: set[str] = set()  # names of the commands that were accepted
        self.log: list[Event] = []

    def do(self, command: Command) -> list[str]:
        """Decide, keep what became true, and say what happened."""
        decision = decide(self.state, command)
        assert decision == decide_looking_at_all(self.state, command)
        name = type(command).__name__
        if isinstance(decision, Refused):
            return [f"{name} refused {decision.code}: {decision.message} {decision.hint}".rstrip()]
        self.keep(decision)
        self.accepted.add(name)
        return [name, *(f"  {event_line(e)}" for e in decision.events)]

    def keep(self, decision: Decision) -> None:
        """Make an accepted decision true and note which rows it used."""
        assert isinstance(decision, Accepted)
        self.state = decision.state
        self.log += decision.events
        self.rows |= moves_of(decision)

    def pass_time(self, ms: int) -> list[str]:
        """Tick as a manager would, and say only what happened. Both clocks move together."""
        lines: list[str] = []
        end = self.now + ms
        while self.now < end:
            self.now += min(STEP, end - self.now)
            happened = self.do(Tick(now=self.now, clock=self.now - HOUR))
            if len(happened) > 1:
                lines += [f"Tick at {self.now - HOUR} ms", *happened[1:]]
        return lines or [f"Tick to {self.now - HOUR} ms"]


def chain(log: list[Event], kind: str, subject: str) -> list[str]:
    """The newest event of a kind about a subject, then what it follows from, and so on to where that began."""
    place = max(n for n, e in enumerate(log) if e.kind == kind and e.subject.startswith(subject))
    lines = [event_line(log[place])]
    while log[place].back:
        place -= log[place].back
        lines.append(f"  from {event_line(log[place])}")
    return lines


def moves_of(decision: Accepted) -> set[tuple[str, str, str]]:
    """The life-cycle moves of a decision: table, from, to."""
    changes = [(e.kind.split(".")[0], *e.change.split(" -> ")) for e in decision.events if " -> " in e.change]
    return {(table, source, target) for table, source, target in changes}


def event_line(event: Event) -> str:
    """kind, subject, change: because."""
    change = f" {event.change}" if event.change else ""
    about = f" (archive {event.archive_id})" if event.kind.startswith("in_sync.") else ""
    return f"{event.kind} {event.subject}{about}{change}: {event.because}"


# The compact view ------------------------------------------------------------------------------------------------


def show(state: State, database: str) -> list[str]:
    """A database with its groups, archives and processes, a line each."""
    known = state.databases.get(database)
    lines = [f"database {known.name} {known.state} ({known.major},{known.minor})"] if known else []
    lines += [f"  {_group(state, g)}" for g in state.groups_of(database)]
    lines += [f"  {_archive(a)}" for a in state.archives_of(database)]
    return lines + [f"  {_process(state, p)}" for p in state.processes_of(database)]


def tombstones(state: State, database: str) -> list[str]:
    """The database's ended processes, newest exit first."""
    mine = [t for t in state.tombstones.values() if t.process.database == database]
    return [_tombstone(state, t) for t in sorted(mine, key=lambda t: (t.major, t.minor), reverse=True)]


def _name(state: State, archive_id: int) -> str:
    return state.archives[archive_id].name if archive_id in state.archives else f"archive {archive_id}"


def _names(state: State, archive_ids: tuple[int, ...]) -> str:
    return " ".join(_name(state, a) for a in archive_ids)


def _group(state: State, group: Group) -> str:
    line = f"group {group.name} {group.phase.name} term {group.term}"
    if group.leader is not None:
        line += f", leader {_name(state, group.leader)} as process {group.leader_process}"
        line += ", serving" if group.serving else ""
    line += f", S {{{_names(state, group.in_sync)}}} required {{{_names(state, group.required)}}}"
    if group.joining:
        line += " joining " + ", ".join(f"{_name(state, j.archive_id)} {j.stage}" for j in group.joining)
    if isinstance(group.phase, HandingOver):
        line += f" handover to {_name(state, group.phase.to_archive)}"
    if group.suspects:
        line += f" suspects {list(group.suspects)}"
    return line + (" clean stop" if group.clean_stop else "")


def _archive(archive: Archive) -> str:
    extra = " stopped by operator" if archive.stopped_by_operator else ""
    extra += " deleted" if archive.removed else ""
    extra += f" of group {archive.group}" if archive.copy else ""
    return f"archive {archive.name} [{archive.archive_id}] on {archive.server_id} {archive.state}{extra}"


def _process(state: State, process: Process) -> str:
    place = _name(state, process.archive_id) if process.archive_id is not None else "memory"
    line = f"process {process.start_id} {process.role} {place} on {process.server_id}"
    line += f" {process.state}:{process.engine_state} node {process.node_id or '-'}"
    line += " asked by the domain" if process.request.requester == "domain" else ""
    return line + (" to be killed" if process.kill else "")


def _tombstone(state: State, tombstone: Tombstone) -> str:
    process = tombstone.process
    place = _name(state, process.archive_id) if process.archive_id is not None else "memory"
    line = f"({tombstone.major},{tombstone.minor}) process {process.start_id} {process.role} {place}"
    line += f" node {process.node_id or '-'} EXITED({process.state}:{process.engine_state})"
    return line + f": {tombstone.reason} ({tombstone.exit_code})"
