"""Judging ends from evidence alone: each cause beside its nearest look-alike."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dkv.engine.causes import Evidence, judge
from dkv.engine.contract import Cause

BYE = "12:M 21 Nov 2026 09:00:00.000 # Valkey is now ready to exit, bye bye..."
TERM = "12:signal-handler (1795253843) Received SIGTERM scheduling shutdown..."
ASKED = "12:M 21 Nov 2026 09:00:00.000 * User requested shutdown... (user request from 'id=3')"


def log(*lines: str) -> tuple[str, ...]:
    return tuple(f"12:M 21 Nov 2026 09:00:00.000 # {line}" for line in lines)


@pytest.mark.parametrize(
    ("evidence", "cause", "detail"),
    [
        (Evidence(0, (Cause.GRACEFUL_STOP,), (BYE,)), Cause.GRACEFUL_STOP, "asked to stop"),
        (Evidence(0, (), (TERM, ASKED, BYE)), Cause.TERMINATED_FROM_OUTSIDE, "SIGTERM"),
        (Evidence(0, (), (ASKED, BYE)), Cause.TERMINATED_FROM_OUTSIDE, "SHUTDOWN"),
        (Evidence(0, (), ()), Cause.EXITED, "code 0"),
        (Evidence(137, (Cause.OPERATOR_KILL,)), Cause.OPERATOR_KILL, "operator"),
        (Evidence(137, (Cause.GRACEFUL_STOP,)), Cause.KILLED_BY_SIGNAL, "killed by signal 9, sender unknown"),
        (Evidence(137, (Cause.GRACEFUL_STOP, Cause.NEVER_ANSWERED)), Cause.NEVER_ANSWERED, "did not answer"),
        (Evidence(137, ()), Cause.KILLED_BY_SIGNAL, "killed by signal 9, sender unknown"),
        (Evidence(134, ()), Cause.KILLED_BY_SIGNAL, "signal 6, sender unknown"),
        (Evidence(1, (), log("Short write while writing to the AOF file: x")), Cause.DISK_FULL, "Short write"),
        (Evidence(1, (), log("Error writing to the AOF file: Input/output error")), Cause.DISK_ERROR, "Input/output"),
        (Evidence(1, (), log("could not: No space left on device")), Cause.DISK_FULL, "No space left"),
        (Evidence(1, (), log("something new")), Cause.EXITED, "something new"),
        (Evidence(None, same_boot=False), Cause.MACHINE_RESTARTED, "restarted"),
        (Evidence(None, launched=False), Cause.EXITED, "before the engine was started"),
        (Evidence(None, (), (TERM, BYE)), Cause.TERMINATED_FROM_OUTSIDE, "SIGTERM"),
        (Evidence(None, (), ()), Cause.KILLED_BY_SIGNAL, "unknown"),
        (Evidence(None, (Cause.FENCED_BY_MANAGER,)), Cause.FENCED_BY_MANAGER, "fenced"),
    ],
)
def test_a_cause(evidence: Evidence, cause: Cause, detail: str) -> None:
    verdict = judge(evidence)
    assert verdict.cause is cause
    assert detail in verdict.detail


def test_out_of_memory_is_said_with_evidence_only() -> None:
    killed = Evidence(137, pid=42)
    assert judge(replace(killed, kernel=None, oom_kills=None)).cause is Cause.KILLED_BY_SIGNAL
    assert judge(replace(killed, kernel=None, oom_kills=0)).cause is Cause.KILLED_BY_SIGNAL
    assert judge(replace(killed, kernel=None, oom_kills=1)).cause is Cause.OUT_OF_MEMORY
    # A readable kernel log knows better than a counter that others may have raised.
    assert judge(replace(killed, kernel=(), oom_kills=1)).cause is Cause.KILLED_BY_SIGNAL
    line = "Memory cgroup out of memory: Killed process 42 (valkey-server)"
    assert judge(replace(killed, kernel=(line,))).cause is Cause.OUT_OF_MEMORY
    assert judge(replace(killed, kernel=(line.replace("42", "421"),))).cause is Cause.KILLED_BY_SIGNAL
    # Our own kill explains itself, whatever else happened.
    ordered = replace(killed, kernel=(line,), intents=(Cause.OPERATOR_KILL,))
    assert judge(ordered).cause is Cause.OPERATOR_KILL


def test_an_assertion_brings_the_first_lines_of_its_report() -> None:
    report = log("=== VALKEY BUG REPORT START", "=== ASSERTION FAILED ===", "==> t_zset.c:1 'x' is not true")
    verdict = judge(Evidence(134, (), (*log("before"), *report)))
    assert verdict.cause is Cause.ENGINE_CRASHED
    assert verdict.last_words == report


def test_a_signal_whose_sender_the_engine_saw() -> None:
    words = log("=== VALKEY BUG REPORT START", "valkey 9.1.2 crashed by signal: 11", "Killed by PID: 7, UID: 0")
    verdict = judge(Evidence(139, (), words))
    assert (verdict.cause, verdict.signal) == (Cause.KILLED_BY_SIGNAL, 11)
    assert "sent by pid 7" in verdict.detail
