"""Tests of the domain: the words of scenarios about maintenance; see verbs.py."""

from __future__ import annotations

from dkv.domain import facts, orders
from dkv.domain.access import Authority
from dkv.domain.authority import trust_of
from dkv.domain.command import Command
from dkv.domain.facts import EngineSilent, WritesRefused
from tests.domain.runner import Line, ScenarioRunner, verb


@verb("switchover")
def _switchover(runner: ScenarioRunner, line: Line) -> Command:
    to = runner.start_id(line.options["to"]) if "to" in line.options else None
    return orders.Switchover(now=runner.world.now, database=line.words[0], group=line.options.get("group", ""), to=to)


@verb("rebalance")
def _rebalance(runner: ScenarioRunner, line: Line) -> Command:
    return orders.RebalanceLeaders(now=runner.world.now, database=line.words[0])


@verb("engine-silent")
def _engine_silent(runner: ScenarioRunner, line: Line) -> Command:
    return EngineSilent(silent=not line.has("no-more"), **runner.of(line))


@verb("lack-ended")
def _lack_ended(runner: ScenarioRunner, line: Line) -> Command:
    return facts.LackEnded(**runner.of(line))


@verb("refuses")
def _writes_refused(runner: ScenarioRunner, line: Line) -> Command:
    return WritesRefused(why=line.options.get("why", ""), **runner.of(line))


@verb("robbed")
def _robbed(runner: ScenarioRunner, line: Line) -> Command:
    """`robbed LEADER [partly]`: its engine lost all its hash slots, or some."""
    by = "node ffffffff at 10.6.6.6:7003, which the domain does not know,"
    return facts.SlotsLost(**runner.leads(line, start_id=runner.start_id(line.words[0]), by=by, all=not line.has("partly")))


@verb("kept")
def _deletions_kept(runner: ScenarioRunner, line: Line) -> Command:
    """`kept LEADER path=/p keys=300`, or without a path."""
    return facts.DeletionsKept(
        **runner.leads(
            line,
            start_id=runner.start_id(line.words[0]),
            path=line.options.get("path", ""),
            keys=line.number("keys"),
            trouble=line.options.get("trouble", ""),
        )
    )


@verb("owned")
def _owned(runner: ScenarioRunner, line: Line) -> Command:
    return facts.SlotsOwned(**runner.leads(line, start_id=runner.start_id(line.words[0]), epoch=line.number("epoch", 9001)))


@verb("restart")
def _restart(runner: ScenarioRunner, line: Line) -> Command:
    return orders.RestartDatabase(now=runner.world.now, name=line.words[0], rolling=line.has("rolling"), force=line.has("force"))


@verb("stop-restart")
def _stop_restart(runner: ScenarioRunner, line: Line) -> Command:
    return orders.StopRestart(now=runner.world.now, name=line.words[0])


@verb("options-seen")
def _options_seen(runner: ScenarioRunner, line: Line) -> Command:
    return facts.OptionsSeen(
        append_fsync=line.options.get("fsync", "always"), max_memory=line.number("memory"), **runner.of(line)
    )


@verb("certificate-seen")
def _certificate_seen(runner: ScenarioRunner, line: Line) -> Command:
    """`certificate-seen orders-1 0A`: its engine shows the leaf 0A, believes the authorities of `of=`, for `days=` more."""
    bundle, days = line.options.get("of", "first").replace(",", ""), line.number("days", 90)
    trust = trust_of(Authority("", bundle, ""))
    return facts.CertificateSeen(trust=trust, serial=line.words[1], days_left=days, **runner.of(line))


@verb("drain")
def _drain(runner: ScenarioRunner, line: Line) -> Command:
    return orders.DrainServer(
        now=runner.world.now,
        server_id=line.words[0],
        database=line.options.get("db", ""),
        kill=line.has("kill"),
        force=line.has("force"),
        evict=line.has("evict"),
    )
