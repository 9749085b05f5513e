"""Tests of the domain: the words of scenarios about maintenance; see verbs.py."""

from __future__ import annotations

from dkv.domain import commands as c
from dkv.domain.commands import EngineSilent, WritesRefused
from tests.domain.teller import Line, Teller, verb


@verb("switchover")
def _switchover(t: Teller, line: Line) -> c.Command:
    to = t.start_id(line.options["to"]) if "to" in line.options else None
    return c.Switchover(now=t.world.now, database=line.words[0], group=line.options.get("group", ""), to=to)


@verb("engine-silent")
def _engine_silent(t: Teller, line: Line) -> c.Command:
    return EngineSilent(silent=not line.has("no-more"), **t.of(line))


@verb("lack-ended")
def _lack_ended(t: Teller, line: Line) -> c.Command:
    return c.LackEnded(**t.of(line))


@verb("refuses")
def _writes_refused(t: Teller, line: Line) -> c.Command:
    return WritesRefused(why=line.options.get("why", ""), **t.of(line))


@verb("robbed")
def _robbed(t: Teller, line: Line) -> c.Command:
    """`robbed LEADER [partly]`: its engine lost all its hash slots, or some."""
    by = "node ffffffff at 10.6.6.6:7003, which the domain does not know,"
    return c.SlotsLost(**t.leads(line, start_id=t.start_id(line.words[0]), by=by, all=not line.has("partly")))


@verb("kept")
def _kept(t: Teller, line: Line) -> c.Command:
    """`kept LEADER path=/p keys=300`, or without a path."""
    return c.DeletionsKept(
        **t.leads(
            line,
            start_id=t.start_id(line.words[0]),
            path=line.options.get("path", ""),
            keys=line.number("keys"),
            trouble=line.options.get("trouble", ""),
        )
    )


@verb("owned")
def _owned(t: Teller, line: Line) -> c.Command:
    return c.SlotsOwned(**t.leads(line, start_id=t.start_id(line.words[0]), epoch=line.number("epoch", 9001)))


@verb("restart")
def _restart(t: Teller, line: Line) -> c.Command:
    return c.RestartDatabase(now=t.world.now, name=line.words[0], rolling=line.has("rolling"), force=line.has("force"))


@verb("stop-restart")
def _stop_restart(t: Teller, line: Line) -> c.Command:
    return c.StopRestart(now=t.world.now, name=line.words[0])


@verb("options-seen")
def _options_seen(t: Teller, line: Line) -> c.Command:
    return c.OptionsSeen(append_fsync=line.options.get("fsync", "always"), max_memory=line.number("memory"), **t.of(line))


@verb("drain")
def _drain(t: Teller, line: Line) -> c.Command:
    return c.DrainServer(
        now=t.world.now,
        server_id=line.words[0],
        database=line.options.get("db", ""),
        kill=line.has("kill"),
        force=line.has("force"),
        evict=line.has("evict"),
    )
