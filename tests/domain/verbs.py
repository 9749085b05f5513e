"""Tests of the domain: the words scenarios are told in, each one or a few commands.

An engine is named by its start id or by the instance it runs on. Options are `word=value` or bare words. Facts
come from the manager that may say them, and quote the newest term, unless `by=` and `term=` say otherwise.
"""

from __future__ import annotations

from dkv.domain import commands as c
from dkv.domain.model import DatabaseOptions, EngineState, Group, GroupPhase, PositionReport, Process, ProcessRole, ProcessState
from tests.domain import verbs_hotcopy, verbs_maintenance
from tests.domain.teller import Line, Teller, verb
from tests.domain.world import chain, show, tombstones

__all__ = ["Teller", "verbs_hotcopy", "verbs_maintenance"]


def report_of(line: Line) -> PositionReport:
    """`marker=1-2+300`: term 1, marker 2, 300 bytes after it; `offset=` and `history=` of a living engine; `digest=` of
    those bytes and `size=` of all files.
    """
    marker, _, after = line.options.get("marker", "").partition("+")
    term, _, sequence = marker.partition("-")
    return PositionReport(
        int(term or 0),
        int(sequence or 0),
        "n" if marker else "",
        int(after or 0),
        line.number("offset"),
        line.options.get("history", ""),
        line.options.get("digest", ""),
        line.number("size"),
    )


# Orders ------------------------------------------------------------------------------------------------------------


@verb("create")
def _create(t: Teller, line: Line) -> c.Command:
    name = line.words[0]
    count = line.number("groups", 1)
    size = 16384 // count
    ends = [16383 if n == count - 1 else (n + 1) * size - 1 for n in range(count)]
    groups = tuple(c.NewGroup(name=f"g{n + 1}", shard_id=f"{n:040d}", slots=((n * size, ends[n]),)) for n in range(count))
    archives = tuple(c.NewArchive(server_id=s) for s in line.options.get("on", "").split(",") if s)
    options = DatabaseOptions(
        replication_factor=line.number("copies", 2),
        min_in_sync=line.number("min", 1),
        append_fsync=line.options.get("fsync", "always"),
        failover_grace=line.number("grace", 2_000),
        failover_limit=line.number("limit", 0),
        tail_above=line.number("tail", 100_000_000),
    )
    return c.CreateDatabase(
        now=t.world.now,
        name=name,
        uid=line.options.get("uid", "u1"),
        secret="s",
        options=options,
        groups=groups if count > 1 else (),
        archives=archives,
    )


@verb("delete")
def _delete(t: Teller, line: Line) -> c.Command:
    return c.DeleteDatabase(now=t.world.now, name=line.words[0], purge=line.has("purge"))


@verb("shutdown")
def _shutdown(t: Teller, line: Line) -> c.Command:
    return c.ShutdownDatabase(now=t.world.now, name=line.words[0], force=line.has("force"))


@verb("archive")
def _archive(t: Teller, line: Line) -> c.Command:
    new = tuple(
        c.NewArchive(
            server_id=s, name=line.options.get("name", ""), path=line.options.get("path", ""), restored=line.has("restored")
        )
        for s in line.options["on"].split(",")
    )
    return c.CreateArchives(now=t.world.now, database=line.words[0], archives=new)


@verb("delete-archive")
def _delete_archive(t: Teller, line: Line) -> c.Command:
    return c.DeleteArchive(now=t.world.now, archive_id=t.archive(line.words[0]), purge=not line.has("keep"))


@verb("bring-back")
def _bring_back(t: Teller, line: Line) -> c.Command:
    return c.BringBackArchive(
        now=t.world.now,
        archive_id=t.archive(line.words[0]),
        database=line.options["of"],
        server_id=line.options.get("on", ""),
        path=line.options.get("path", ""),
        restored=line.has("restored"),
    )


@verb("options")
def _options(t: Teller, line: Line) -> c.Command:
    return c.SetDatabaseOptions(
        now=t.world.now, name=line.words[0], options=tuple(line.options.items()), replace_all=line.has("only")
    )


@verb("start")
def _start(t: Teller, line: Line) -> c.Command | list[str]:
    asked = line.options.get("expected")
    expected = tuple(int(n) if n else None for n in asked.split(",")) if asked else None
    told: list[str] = []
    for word in line.words:
        archive = t.world.state.archives[t.archive(word)]
        told += t.world.do(
            c.StartProcess(
                now=t.world.now,
                database=archive.database,
                role=ProcessRole.SM,
                archive_id=archive.archive_id,
                server_id=line.options.get("on", ""),
                expected=expected,
            )
        )  # type: ignore[arg-type]
    return told


@verb("start-te")
def _start_te(t: Teller, line: Line) -> c.Command:
    return c.StartProcess(now=t.world.now, database=line.words[0], role=ProcessRole.TE, server_id=line.options["on"])


@verb("stop")
def _stop(t: Teller, line: Line) -> c.Command:
    return c.ShutdownProcess(
        now=t.world.now,
        start_id=t.start_id(line.words[0]),
        kill=line.has("kill"),
        force=line.has("force"),
        evict=line.has("evict"),
    )


@verb("enforce")
def _enforce(t: Teller, line: Line) -> c.Command:
    group = t.group(line)
    return c.EnforceLeader(
        now=t.world.now,
        database=group.database,
        group=group.name,
        archive_id=t.archive(line.words[0]),
        allow_data_loss=line.has("allow-data-loss"),
        reason=line.options.get("reason", ""),
    )


@verb("record")
def _record(t: Teller, line: Line) -> c.Command:
    """`record kvstore/colour value` sets it, without a value deletes it; `if=VALUE`, `if=` for: not there."""
    kind, _, key = line.words[0].partition("/")
    words = [None if word == "" else f'"{word}"' for word in line.options.get("if", "-").split(",")]
    return c.PutRecord(
        now=t.world.now,
        kind=kind,
        key=key,
        expects=() if "if" not in line.options else tuple(words),
        value=f'"{line.words[1]}"' if len(line.words) > 1 else None,
    )


@verb("remove-server")
def _remove_server(t: Teller, line: Line) -> c.Command:
    return c.RemoveServer(now=t.world.now, server_id=line.words[0])


@verb("remove-server-state")
def _remove_server_state(t: Teller, line: Line) -> c.Command:
    return c.RemoveServerState(now=t.world.now, server_id=line.words[0])


# Servers and time ------------------------------------------------------------------------------------------------------


@verb("servers")
def _servers(t: Teller, line: Line) -> list[str]:
    """Here, here again, or with `rebooted` here again after a restart of the machine."""
    told: list[str] = []
    for name in (w for w in line.words if w != "rebooted"):
        port = 7801 + 100 * (ord(name[-1]) - ord("A"))
        boot = self_boot = t.boots.setdefault(name, 1)
        if line.has("rebooted"):
            boot = t.boots[name] = self_boot + 1
        told += t.world.do(
            c.ServerJoined(
                now=t.world.now,
                server_id=name,
                uid=line.options.get("uid", f"u{name}"),
                host=f"host-{name}",
                port=port,
                nuodb_port=port + 50,
                boot_id=f"boot {boot} of {line.options.get('machine', name)}",
            )
        )
    return told


@verb("lost")
def _lost(t: Teller, line: Line) -> c.Command:
    return c.ServerLost(now=t.world.now, server_id=line.words[0], uid=f"u{line.words[0]}")


@verb("tick")
def _tick(t: Teller, line: Line) -> list[str]:
    return t.world.pass_time(int(line.words[0]))


# Facts about processes ---------------------------------------------------------------------------------------------------


@verb("started")
def _started(t: Teller, line: Line) -> c.Command:
    process = t.process(line.words[0])
    report = report_of(line) if process and process.archive_id is not None else None
    return c.ProcessStarted(report=report, **t.of(line))


@verb("configured")
def _configured(t: Teller, line: Line) -> c.Command:
    return c.ProcessConfigured(pid=100 + t.start_id(line.words[0]), **t.of(line))


@verb("loading")
def _loading(t: Teller, line: Line) -> c.Command:
    return c.LoadingProgressed(percent=int(line.words[1]), **t.of(line))


@verb("works")
def _works(t: Teller, line: Line) -> c.Command:
    """`works orders-1 N`: its manager proves for the Nth time that it works."""
    return c.LeaderProgressed(count=int(line.words[1]), term=line.number("term", t.group(line).term), **t.of(line))


@verb("loaded")
def _loaded(t: Teller, line: Line) -> c.Command:
    return c.ProcessTracked(
        pid=100 + t.start_id(line.words[0]),
        append_fsync=line.options.get("fsync", ""),
        max_memory=line.number("memory"),
        **t.of(line),
    )


@verb("synced")
def _synced(t: Teller, line: Line) -> c.Command:
    return c.MemorySynced(synced=not line.has("not"), **t.of(line))


@verb("position")
def _position(t: Teller, line: Line) -> c.Command:
    return c.PositionReported(term=line.number("term", t.group(line).term), report=report_of(line), **t.of(line))


@verb("exit")
def _exit(t: Teller, line: Line) -> c.Command:
    detail = line.options.get("because", "it was killed by signal 9")
    return c.ProcessExited(
        cause=line.options.get("cause", "signal"),
        detail=detail,
        exit_code=line.number("code", 137),
        planned=line.has("planned"),
        reaped=not line.has("unreaped"),
        **t.of(line),
    )


@verb("left")
def _left(t: Teller, line: Line) -> c.Command:
    return c.ProcessExited(cause="graceful stop", detail="Gracefully shutdown engine", exit_code=0, planned=True, **t.of(line))


@verb("silent")
def _silent(t: Teller, line: Line) -> c.Command:
    return c.LeaderSilence(
        term=line.number("term", t.group(line).term),
        silent=True,
        machine_answers=line.options.get("machine") != "dead",
        **t.of(line),
    )


@verb("hears")
def _hears(t: Teller, line: Line) -> c.Command:
    return c.LeaderSilence(term=t.group(line).term, silent=False, **t.of(line))


@verb("follows")
def _follows(t: Teller, line: Line) -> c.Command:
    return c.LeaderSteppedDown(**t.of(line))


@verb("aside")
def _aside(t: Teller, line: Line) -> c.Command:
    return c.TailSetAside(path="/set-aside/tail.aof", **t.of(line))


@verb("measured")
def _measured(t: Teller, line: Line) -> c.Command:
    """`measured HOLDER size=900 digest=all OTHERS...`: those whose bytes are the beginning of it."""
    prefixes = tuple(t.start_id(word) for word in line.words[1:])
    return c.TailMeasured(
        term=t.group(line).term,
        size=line.number("size"),
        digest=line.options["digest"],
        history=line.options.get("history", "fresh"),
        prefixes=prefixes,
        **t.of(line),
    )


@verb("fed")
def _fed(t: Teller, line: Line) -> c.Command:
    return c.TailFed(term=t.group(line).term, size=line.number("size"), digest=line.options["digest"], **t.of(line))


@verb("broken")
def _broken(t: Teller, line: Line) -> c.Command:
    return c.TailBroken(term=t.group(line).term, reason=line.options["because"], **t.of(line))


@verb("retired")
def _retired(t: Teller, line: Line) -> c.Command:
    archive_id = t.archive(line.words[0])
    archive = t.world.state.archives.get(archive_id)
    server = line.options.get("by", archive.server_id if archive else "nobody")
    return c.ArchiveRetired(now=t.world.now, server_id=server, archive_id=archive_id, path="/retired")


# Facts about groups --------------------------------------------------------------------------------------------------------


@verb("open")
def _open(t: Teller, line: Line) -> c.Command:
    return c.OpenTerm(**t.leads(line, start_id=t.start_id(line.words[0])))


@verb("serving")
def _serving(t: Teller, line: Line) -> c.Command:
    term = t.group(line).term
    history = line.options.get("history", f"h{term}")
    return c.LeaderServing(**t.leads(line, start_id=t.start_id(line.words[0]), epoch=term, history=history))


def _about(t: Teller, line: Line) -> int:
    """The archive of a word that may be a start id."""
    process = t.process(line.words[0])
    if process and process.archive_id is not None:
        return process.archive_id
    return t.archive(line.words[0])


@verb("join")
def _join(t: Teller, line: Line) -> c.Command:
    return c.JoinAnnounced(**t.leads(line, archive_id=_about(t, line)))


@verb("marked")
def _marked(t: Teller, line: Line) -> c.Command:
    return c.JoinMarked(**t.leads(line, archive_id=_about(t, line), sequence=line.number("n", 2), nonce="n"))


@verb("durable")
def _durable(t: Teller, line: Line) -> c.Command:
    return c.JoinDurable(term=t.group(line).term, sequence=line.number("n", 2), nonce="n", **t.of(line))


@verb("grown")
def _grown(t: Teller, line: Line) -> c.Command:
    return c.JoinCompleted(**t.leads(line, archive_id=_about(t, line)))


@verb("aborted")
def _aborted(t: Teller, line: Line) -> c.Command:
    return c.JoinAborted(**t.leads(line, archive_id=_about(t, line)))


@verb("shrink")
def _shrink(t: Teller, line: Line) -> c.Command:
    reason = line.options.get("because", "the leader heard nothing from it for 3 s")
    return c.InSyncShrunk(**t.leads(line, archive_id=_about(t, line), reason=reason))


@verb("handover")
def _handover(t: Teller, line: Line) -> c.Command:
    return c.HandoverBegun(**t.leads(line, to_archive=_about(t, line), immediate=line.has("hasty")))


@verb("handed")
def _handed(t: Teller, line: Line) -> c.Command:
    group = t.group(line)
    fact = t.of(line, database=group.database, group=group.name, term=line.number("term", group.term))
    return c.HandoverDone(epoch=group.term + 1, history=f"h{group.term + 1}", **fact)


@verb("handover-failed")
def _handover_failed(t: Teller, line: Line) -> c.Command:
    return c.HandoverFailed(**t.leads(line))


@verb("handover-declined")
def _handover_declined(t: Teller, line: Line) -> c.Command:
    return c.HandoverDeclined(**t.leads(line, reason="its leader is inside a script"))


@verb("handover-withdrawn")
def _handover_withdrawn(t: Teller, line: Line) -> c.Command:
    group = t.group(line)
    fact = t.of(line, database=group.database, group=group.name, term=line.number("term", group.term))
    return c.HandoverWithdrawn(reason="the engine that was to lead does not answer", **fact)


@verb("clean")
def _clean(t: Teller, line: Line) -> c.Command:
    return c.CleanStopReached(**t.leads(line, reached=tuple(t.archive(w) for w in line.words[1:])))


# Looking, and many steps at once ---------------------------------------------------------------------------------------------


@verb("why")
def _why(t: Teller, line: Line) -> list[str]:
    """`why group.serving group`: the newest such event, and all it follows from."""
    return chain(t.world.log, line.words[0], " ".join(line.words[1:]))


@verb("show")
def _show(t: Teller, line: Line) -> list[str]:
    return show(t.world.state, line.words[0])


@verb("tombstones")
def _tombstones(t: Teller, line: Line) -> list[str]:
    return tombstones(t.world.state, line.words[0])


@verb("up")
def _up(t: Teller, line: Line) -> list[str]:
    """Every requested process of a database gets as far as it can, with nothing told but the result."""
    database = line.words[0]
    for _ in range(40):
        step = _next_step(t, database)
        if step is None:
            return show(t.world.state, database)
        last = t.tell(step)
        assert "refused" not in last[0], (step, last)
    raise AssertionError("it never comes to rest")


def _next_step(t: Teller, database: str) -> str | None:
    state = t.world.state
    for process in state.processes_of(database):
        n = process.start_id
        if process.state is ProcessState.REQUESTED:
            return f"started {n}"
        group = state.groups.get((database, process.group))
        if process.state is ProcessState.STARTED and (group is None or group.leader is not None):
            return f"configured {n}"
        if process.state is ProcessState.CONFIGURED:
            return f"loaded {n}"
        if process.archive_id is None and (process.state, process.engine_state) == (ProcessState.MONITORED, EngineState.SYNCING):
            return f"synced {n}"
        step = _group_step(group, process) if group and process.state is not ProcessState.STARTED else None
        if step:
            return step
    return None


def _group_step(group: Group, process: Process) -> str | None:
    n, archive_id = process.start_id, process.archive_id
    if group.phase is GroupPhase.ASSIGNED and group.leader_process == n:
        return f"open {n}"
    if group.open and group.leader_process == n and not group.serving:
        return f"serving {n}"
    if not group.serving or archive_id in group.in_sync:
        return None
    joining = next((j for j in group.joining if j.archive_id == archive_id), None)
    if joining is None:
        return f"join {n}"
    return f"{ {'ANNOUNCED': 'marked', 'MARKED': 'durable', 'REQUIRED': 'grown'}[joining.stage] } {n}"
