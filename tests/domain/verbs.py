"""Tests of the domain: the words of scenarios, each one or a few commands.

An engine is named by its start id or by the instance it runs on. Options are `word=value` or bare words. Facts
come from the manager that may say them, and quote the newest term, unless `by=` and `term=` say otherwise.
"""

from __future__ import annotations

from dkv.domain import facts, orders
from dkv.domain.command import Command
from dkv.domain.model import DatabaseOptions, EngineState, Group, PositionReport, Process, ProcessRole, ProcessState
from dkv.domain.phases import Assigned
from tests.domain import verbs_access, verbs_hotcopy, verbs_maintenance
from tests.domain.runner import Line, ScenarioRunner, verb
from tests.domain.world import chain, show, tombstones

__all__ = ["ScenarioRunner", "verbs_access", "verbs_hotcopy", "verbs_maintenance"]


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
def _create(runner: ScenarioRunner, line: Line) -> Command:
    name = line.words[0]
    count = line.number("groups", 1)
    size = 16384 // count
    ends = [16383 if n == count - 1 else (n + 1) * size - 1 for n in range(count)]
    groups = tuple(orders.NewGroup(name=f"g{n + 1}", shard_id=f"{n:040d}", slots=((n * size, ends[n]),)) for n in range(count))
    archives = tuple(orders.NewArchive(server_id=s) for s in line.options.get("on", "").split(",") if s)
    options = DatabaseOptions(
        replication_factor=line.number("copies", 2),
        min_in_sync=line.number("min", 1),
        append_fsync=line.options.get("fsync", "always"),
        failover_grace=line.number("grace", 2_000),
        failover_limit=line.number("limit", 0),
        tail_above=line.number("tail", 100_000_000),
        engine_tls=line.options.get("tls", "auto"),
        insecure_engine_traffic=line.options.get("insecure", "no"),
        leaders=line.options.get("leaders", "home"),
    )
    return orders.CreateDatabase(
        now=runner.world.now,
        name=name,
        uid=line.options.get("uid", "u1"),
        secret="s",
        options=options,
        groups=groups if count > 1 else (),
        archives=archives,
    )


@verb("delete")
def _delete(runner: ScenarioRunner, line: Line) -> Command:
    return orders.DeleteDatabase(now=runner.world.now, name=line.words[0], purge=line.has("purge"))


@verb("shutdown")
def _shutdown(runner: ScenarioRunner, line: Line) -> Command:
    return orders.ShutdownDatabase(now=runner.world.now, name=line.words[0], force=line.has("force"))


@verb("archive")
def _archive(runner: ScenarioRunner, line: Line) -> Command:
    new = tuple(
        orders.NewArchive(
            server_id=s, name=line.options.get("name", ""), path=line.options.get("path", ""), restored=line.has("restored")
        )
        for s in line.options["on"].split(",")
    )
    return orders.CreateArchives(now=runner.world.now, database=line.words[0], archives=new)


@verb("delete-archive")
def _delete_archive(runner: ScenarioRunner, line: Line) -> Command:
    return orders.DeleteArchive(now=runner.world.now, archive_id=runner.archive(line.words[0]), purge=not line.has("keep"))


@verb("bring-back")
def _bring_back(runner: ScenarioRunner, line: Line) -> Command:
    return orders.BringBackArchive(
        now=runner.world.now,
        archive_id=runner.archive(line.words[0]),
        database=line.options["of"],
        server_id=line.options.get("on", ""),
        path=line.options.get("path", ""),
        restored=line.has("restored"),
    )


@verb("options")
def _options(runner: ScenarioRunner, line: Line) -> Command:
    return orders.SetDatabaseOptions(
        now=runner.world.now, name=line.words[0], options=tuple(line.options.items()), replace_all=line.has("only")
    )


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """`a:1,b:2`."""
    return tuple((name, value) for name, _, value in (pair.partition(":") for pair in text.split(",") if pair))


@verb("start")
def _start(runner: ScenarioRunner, line: Line) -> Command | list[str]:
    quoted = line.options.get("expected")
    expected = tuple(int(n) if n else None for n in quoted.split(",")) if quoted else None
    lines: list[str] = []
    for word in line.words:
        archive = runner.world.state.archives[runner.archive(word)]
        lines += runner.world.do(
            orders.StartProcess(
                now=runner.world.now,
                database=archive.database,
                role=ProcessRole.SM,
                archive_id=archive.archive_id,
                server_id=line.options.get("on", ""),
                expected=expected,
                labels=_pairs(line.options.get("labels", "")),
                options=_pairs(line.options.get("options", "")),
            )
        )  # type: ignore[arg-type]
    return lines


@verb("start-te")
def _start_te(runner: ScenarioRunner, line: Line) -> Command:
    return orders.StartProcess(now=runner.world.now, database=line.words[0], role=ProcessRole.TE, server_id=line.options["on"])


@verb("stop")
def _stop(runner: ScenarioRunner, line: Line) -> Command:
    return orders.ShutdownProcess(
        now=runner.world.now,
        start_id=runner.start_id(line.words[0]),
        kill=line.has("kill"),
        force=line.has("force"),
        evict=line.has("evict"),
    )


@verb("enforce")
def _enforce(runner: ScenarioRunner, line: Line) -> Command:
    group = runner.group(line)
    return orders.EnforceLeader(
        now=runner.world.now,
        database=group.database,
        group=group.name,
        archive_id=runner.archive(line.words[0]),
        allow_data_loss=line.has("allow-data-loss"),
        reason=line.options.get("reason", ""),
    )


@verb("record")
def _record(runner: ScenarioRunner, line: Line) -> Command:
    """`record kvstore/colour value` sets it, without a value deletes it; `if=VALUE`, `if=` for: not there."""
    kind, _, key = line.words[0].partition("/")
    words = [None if word == "" else f'"{word}"' for word in line.options.get("if", "-").split(",")]
    return orders.PutRecord(
        now=runner.world.now,
        kind=kind,
        key=key,
        expects=() if "if" not in line.options else tuple(words),
        value=f'"{line.words[1]}"' if len(line.words) > 1 else None,
    )


@verb("remove-server")
def _remove_server(runner: ScenarioRunner, line: Line) -> Command:
    return orders.RemoveServer(now=runner.world.now, server_id=line.words[0])


@verb("remove-server-state")
def _remove_server_state(runner: ScenarioRunner, line: Line) -> Command:
    return orders.RemoveServerState(now=runner.world.now, server_id=line.words[0])


@verb("replace-voter")
def _replace_voter(runner: ScenarioRunner, line: Line) -> Command:
    return orders.ReplaceVoter(now=runner.world.now, server_id=line.words[0])


# Servers and time ------------------------------------------------------------------------------------------------------


@verb("servers")
def _servers(runner: ScenarioRunner, line: Line) -> list[str]:
    """Here, here again, or with `rebooted` here again after a restart of the machine; with `zone=a` in that zone."""
    lines: list[str] = []
    labels = tuple((key, text) for key, text in line.options.items() if key == "zone")
    for name in (w for w in line.words if w not in ("rebooted", "tls")):
        port = 7801 + 100 * (ord(name[-1]) - ord("A"))
        boot = self_boot = runner.boots.setdefault(name, 1)
        if line.has("rebooted"):
            boot = runner.boots[name] = self_boot + 1
        lines += runner.world.do(
            facts.ServerJoined(
                now=runner.world.now,
                server_id=name,
                uid=line.options.get("uid", f"u{name}"),
                host=line.options.get("host", f"127.0.1.{ord(name[-1])}"),
                port=port,
                nuodb_port=port + 50,
                boot_id=f"boot {boot} of {line.options.get('machine', name)}",
                engine_release="9.1.2",
                engine_tls=line.has("tls"),
                etcd_port=port + 100,
                labels=labels,
                dkv_release=line.options.get("release", ""),
                level=line.number("level"),
            )
        )
    return lines


@verb("levels-read")
def _levels_read(runner: ScenarioRunner, line: Line) -> Command:
    levels = tuple((name, int(level)) for name, level in line.options.items())
    return facts.LevelsRead(now=runner.world.now, server_id=line.words[0], levels=levels)


@verb("levels")
def _levels(runner: ScenarioRunner, line: Line) -> list[str]:
    """The level of the domain state, and of each server that says one."""
    state = runner.world.state
    servers = [f"{s.server_id} {s.level} ({s.dkv_release or '-'})" for _, s in sorted(state.servers.items()) if s.level]
    return [f"level {state.level}", *(f"  server {server}" for server in servers)]


@verb("lost")
def _lost(runner: ScenarioRunner, line: Line) -> Command:
    return facts.ServerLost(now=runner.world.now, server_id=line.words[0], uid=f"u{line.words[0]}")


@verb("tick")
def _tick(runner: ScenarioRunner, line: Line) -> list[str]:
    return runner.world.pass_time(int(line.words[0]))


# Facts about processes ---------------------------------------------------------------------------------------------------


@verb("started")
def _started(runner: ScenarioRunner, line: Line) -> Command:
    process = runner.process(line.words[0])
    report = report_of(line) if process and process.archive_id is not None else None
    return facts.ProcessStarted(report=report, **runner.of(line))


@verb("configured")
def _configured(runner: ScenarioRunner, line: Line) -> Command:
    return facts.ProcessConfigured(pid=100 + runner.start_id(line.words[0]), **runner.of(line))


@verb("loading")
def _loading(runner: ScenarioRunner, line: Line) -> Command:
    return facts.LoadingProgressed(percent=int(line.words[1]), **runner.of(line))


@verb("works")
def _works(runner: ScenarioRunner, line: Line) -> Command:
    """`works orders-1 N`: its manager proves for the Nth time that it works."""
    return facts.LeaderProgressed(count=int(line.words[1]), term=line.number("term", runner.group(line).term), **runner.of(line))


@verb("loaded")
def _loaded(runner: ScenarioRunner, line: Line) -> Command:
    return facts.ProcessTracked(
        pid=100 + runner.start_id(line.words[0]),
        append_fsync=line.options.get("fsync", ""),
        max_memory=line.number("memory"),
        **runner.of(line),
    )


@verb("synced")
def _synced(runner: ScenarioRunner, line: Line) -> Command:
    return facts.MemorySynced(synced=not line.has("not"), **runner.of(line))


@verb("position")
def _position(runner: ScenarioRunner, line: Line) -> Command:
    return facts.PositionReported(term=line.number("term", runner.group(line).term), report=report_of(line), **runner.of(line))


@verb("exit")
def _exit(runner: ScenarioRunner, line: Line) -> Command:
    detail = line.options.get("because", "it was killed by signal 9")
    return facts.ProcessExited(
        cause=line.options.get("cause", "signal"),
        detail=detail,
        exit_code=line.number("code", 137),
        planned=line.has("planned"),
        reaped=not line.has("unreaped"),
        **runner.of(line),
    )


@verb("left")
def _left(runner: ScenarioRunner, line: Line) -> Command:
    return facts.ProcessExited(
        cause="graceful stop", detail="Gracefully shutdown engine", exit_code=0, planned=True, **runner.of(line)
    )


@verb("silent")
def _silent(runner: ScenarioRunner, line: Line) -> Command:
    return facts.LeaderSilence(
        term=line.number("term", runner.group(line).term),
        silent=True,
        machine_answers=line.options.get("machine") != "dead",
        **runner.of(line),
    )


@verb("hears")
def _hears(runner: ScenarioRunner, line: Line) -> Command:
    return facts.LeaderSilence(term=runner.group(line).term, silent=False, **runner.of(line))


@verb("follows")
def _follows(runner: ScenarioRunner, line: Line) -> Command:
    return facts.LeaderSteppedDown(**runner.of(line))


@verb("aside")
def _aside(runner: ScenarioRunner, line: Line) -> Command:
    return facts.TailSetAside(path="/set-aside/tail.aof", **runner.of(line))


@verb("measured")
def _measured(runner: ScenarioRunner, line: Line) -> Command:
    """`measured HOLDER size=900 digest=all OTHERS...`: those whose bytes are the beginning of it."""
    prefixes = tuple(runner.start_id(word) for word in line.words[1:])
    return facts.TailMeasured(
        term=runner.group(line).term,
        size=line.number("size"),
        digest=line.options["digest"],
        history=line.options.get("history", "fresh"),
        prefixes=prefixes,
        **runner.of(line),
    )


@verb("fed")
def _fed(runner: ScenarioRunner, line: Line) -> Command:
    return facts.TailFed(term=runner.group(line).term, size=line.number("size"), digest=line.options["digest"], **runner.of(line))


@verb("broken")
def _broken(runner: ScenarioRunner, line: Line) -> Command:
    return facts.TailBroken(term=runner.group(line).term, reason=line.options["because"], **runner.of(line))


@verb("retired")
def _retired(runner: ScenarioRunner, line: Line) -> Command:
    archive_id = runner.archive(line.words[0])
    archive = runner.world.state.archives.get(archive_id)
    server = line.options.get("by", archive.server_id if archive else "nobody")
    return facts.ArchiveRetired(now=runner.world.now, server_id=server, archive_id=archive_id, path="/retired")


# Facts about groups --------------------------------------------------------------------------------------------------------


@verb("open")
def _open(runner: ScenarioRunner, line: Line) -> Command:
    return facts.OpenTerm(**runner.leads(line, start_id=runner.start_id(line.words[0])))


@verb("serving")
def _serving(runner: ScenarioRunner, line: Line) -> Command:
    term = runner.group(line).term
    history = line.options.get("history", f"h{term}")
    return facts.LeaderServing(**runner.leads(line, start_id=runner.start_id(line.words[0]), epoch=term, history=history))


def _about(runner: ScenarioRunner, line: Line) -> int:
    """The archive of a word that may be a start id."""
    process = runner.process(line.words[0])
    if process and process.archive_id is not None:
        return process.archive_id
    return runner.archive(line.words[0])


@verb("join")
def _join(runner: ScenarioRunner, line: Line) -> Command:
    return facts.JoinAnnounced(**runner.leads(line, archive_id=_about(runner, line)))


@verb("marked")
def _marked(runner: ScenarioRunner, line: Line) -> Command:
    return facts.JoinMarked(**runner.leads(line, archive_id=_about(runner, line), sequence=line.number("n", 2), nonce="n"))


@verb("durable")
def _durable(runner: ScenarioRunner, line: Line) -> Command:
    return facts.JoinDurable(term=runner.group(line).term, sequence=line.number("n", 2), nonce="n", **runner.of(line))


@verb("grown")
def _grown(runner: ScenarioRunner, line: Line) -> Command:
    return facts.JoinCompleted(**runner.leads(line, archive_id=_about(runner, line)))


@verb("aborted")
def _aborted(runner: ScenarioRunner, line: Line) -> Command:
    return facts.JoinAborted(**runner.leads(line, archive_id=_about(runner, line)))


@verb("shrink")
def _shrink(runner: ScenarioRunner, line: Line) -> Command:
    reason = line.options.get("because", "the leader received nothing from it for 3 s")
    return facts.InSyncShrunk(**runner.leads(line, archive_id=_about(runner, line), reason=reason))


@verb("handover")
def _handover(runner: ScenarioRunner, line: Line) -> Command:
    return facts.HandoverBegun(**runner.leads(line, to_archive=_about(runner, line), immediate=line.has("hasty")))


@verb("handed")
def _handed(runner: ScenarioRunner, line: Line) -> Command:
    group = runner.group(line)
    fact = runner.of(line, database=group.database, group=group.name, term=line.number("term", group.term))
    return facts.HandoverDone(epoch=group.term + 1, history=f"h{group.term + 1}", **fact)


@verb("handover-failed")
def _handover_failed(runner: ScenarioRunner, line: Line) -> Command:
    return facts.HandoverFailed(**runner.leads(line))


@verb("handover-declined")
def _handover_declined(runner: ScenarioRunner, line: Line) -> Command:
    return facts.HandoverDeclined(**runner.leads(line, reason="its leader is inside a script"))


@verb("handover-withdrawn")
def _handover_withdrawn(runner: ScenarioRunner, line: Line) -> Command:
    group = runner.group(line)
    fact = runner.of(line, database=group.database, group=group.name, term=line.number("term", group.term))
    return facts.HandoverWithdrawn(reason="the engine that was to lead does not answer", **fact)


@verb("clean")
def _clean(runner: ScenarioRunner, line: Line) -> Command:
    return facts.CleanStopReached(**runner.leads(line, reached=tuple(runner.archive(w) for w in line.words[1:])))


# Looking, and many steps at once ---------------------------------------------------------------------------------------------


@verb("why")
def _why(runner: ScenarioRunner, line: Line) -> list[str]:
    """`why group.serving group`: the newest such event, and all it follows from."""
    return chain(runner.world.log, line.words[0], " ".join(line.words[1:]))


@verb("show")
def _show(runner: ScenarioRunner, line: Line) -> list[str]:
    return show(runner.world.state, line.words[0])


@verb("tombstones")
def _tombstones(runner: ScenarioRunner, line: Line) -> list[str]:
    return tombstones(runner.world.state, line.words[0])


@verb("up")
def _up(runner: ScenarioRunner, line: Line) -> list[str]:
    """Every requested process of a database gets as far as it can, showing only the result."""
    database = line.words[0]
    for _ in range(40):
        step = _next_step(runner, database)
        if step is None:
            return show(runner.world.state, database)
        last = runner.run(step)
        assert "refused" not in last[0], (step, last)
    raise AssertionError("it never comes to rest")


def _next_step(runner: ScenarioRunner, database: str) -> str | None:
    state = runner.world.state
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
    if isinstance(group.phase, Assigned) and group.leader_process == n:
        return f"open {n}"
    if group.open and group.leader_process == n and not group.serving:
        return f"serving {n}"
    if not group.serving or archive_id in group.in_sync:
        return None
    joining = next((j for j in group.joining if j.archive_id == archive_id), None)
    if joining is None:
        return f"join {n}"
    return f"{ {'ANNOUNCED': 'marked', 'MARKED': 'durable', 'REQUIRED': 'grown'}[joining.stage] } {n}"
